"""Average ranks of methods over the same episodes or settings, and how far apart they must be to differ."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, studentized_range


def average_ranks(scores: ArrayLike) -> np.ndarray:
    """Mean rank of each method, 1 = best; equal scores share the mean of their ranks.

    Args:
        scores: (n, k), k methods on n blocks (episodes, settings, data sets); higher is better.

    Returns:
        float64 (k,).

    Example:
        >>> average_ranks([[0.9, 0.8, 0.7], [0.9, 0.9, 0.5]])
        array([1.25, 1.75, 3.  ])
    """
    return rankdata(-np.asarray(scores, np.float64), axis=1).mean(0)


def critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    """Average ranks of k methods over n blocks differ by Nemenyi's test if they are at least this far apart.

    :math:`q_\\alpha \\sqrt{k (k + 1) / (6 n)}`, with the studentised range's quantile over :math:`\\sqrt 2`
    (J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006, section 3.2.2).

    Raises:
        ValueError: for fewer than two methods or no block.

    Example:
        >>> round(critical_difference(4, 14), 2)  # the paper's example: 4 classifiers on 14 data sets
        1.25
    """
    if k < 2 or n < 1:
        raise ValueError(f"{k} methods on {n} blocks cannot be ranked: give at least two methods and one block")
    return float(studentized_range.ppf(1 - alpha, k, inf) / sqrt(2) * sqrt(k * (k + 1) / (6 * n)))
