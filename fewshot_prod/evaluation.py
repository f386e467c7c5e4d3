"""Accuracy of a method over many episodes, with intervals, and macro precision, recall and F1."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.inputs import ProductInputs

LOGITS_AT_ONCE = 2**22  # 16 MB
Z95 = 1.96  # two-sided 95 % quantile of the normal distribution


class Method(Protocol):
    """What every entry of METHODS builds."""

    needs: str
    transductive: bool

    def __call__(self, pool: Tensor | ProductInputs, episodes: EpisodeBatch) -> Tensor: ...


class Sampler(Protocol):
    """An EpisodeSampler, or episodes that were drawn before."""

    def sample(self, start: int, stop: int) -> EpisodeBatch: ...


@dataclass(frozen=True)
class EpisodeScores:
    """What ``evaluate`` measured over n episodes.

    Args:
        accuracy: float64 (n,), share of an episode's queries that are right, 0 to 1; where base classes take part the
            harmonic mean of ``sides``.
        categories: int64 (C,), the category ids that stood behind a label, sorted.
        confusion: int64 (C, C), queries of all episodes together: row = true category, column = predicted.
        seconds: wall-clock time, drawing included.
        sides: float64 (n, 2), share of the base classes' queries that are right and of the others'; None without.
    """

    accuracy: np.ndarray
    categories: np.ndarray
    confusion: np.ndarray
    seconds: float
    sides: np.ndarray | None = None

    @property
    def precision(self) -> np.ndarray:
        """float64 (C,), right among the queries predicted as the category; 0 where there are none."""
        return _ratio(self.confusion.diagonal(), self.confusion.sum(0))

    @property
    def recall(self) -> np.ndarray:
        """float64 (C,), right among the queries of the category; 0 where there are none."""
        return _ratio(self.confusion.diagonal(), self.confusion.sum(1))

    @property
    def f1(self) -> np.ndarray:
        """float64 (C,), harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.confusion.diagonal(), self.confusion.sum(0) + self.confusion.sum(1))

    @property
    def macro_precision(self) -> float:
        """Plain mean over categories, so that each counts the same however often it was drawn."""
        return float(self.precision.mean())

    @property
    def macro_recall(self) -> float:
        return float(self.recall.mean())

    @property
    def macro_f1(self) -> float:
        """Mean over categories of their F1 (not the F1 of the means)."""
        return float(self.f1.mean())


def evaluate(
    method: Method,
    pool: Tensor | ProductInputs,
    sampler: Sampler,
    n_episodes: int,
    *,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeScores:
    """Score ``method`` on the sampler's first ``n_episodes`` episodes.

    Args:
        pool: what the method needs, features float32 (N, D) or inputs, of the rows that the sampler speaks of.
        chunk: episodes at a time; None keeps a chunk's logits below 16 MB (8 at a time for adapting methods).
        progress: called with (episodes done, n_episodes) after each chunk.

    Raises:
        ValueError: if ``n_episodes`` is not positive, or a logit is not finite.
        TypeError: for features where the method needs inputs, or the other way round.
    """
    if n_episodes < 1:
        raise ValueError(f"n_episodes is {n_episodes}: give at least 1")
    if isinstance(pool, Tensor) != (method.needs == "features"):
        raise TypeError(f"{type(method).__name__} needs {method.needs}, not {type(pool).__name__}: see Pools.of")
    started = time.perf_counter()
    if chunk is None:
        first = sampler.sample(0, 1)
        chunk = max(1, LOGITS_AT_ONCE // (first.query.numel() * first.n_way)) if method.needs == "features" else 8
    accuracy, sides, counts = [], [], _Counts()
    # An adapting method needs gradients to adapt.
    with torch.no_grad() if method.needs == "features" else nullcontext():
        for start in range(0, n_episodes, chunk):
            episodes = sampler.sample(start, min(start + chunk, n_episodes))
            if isinstance(pool, Tensor):
                episodes = episodes.to(pool.device)
            logits = method(pool, episodes).detach()
            if not bool(torch.isfinite(logits.sum())):  # a sum is as finite as its parts, and quicker to look at
                why = "features are not" if isinstance(pool, Tensor) and not pool.isfinite().all() else "lower its rate"
                raise ValueError(f"{type(method).__name__} gave logits that are not finite: {why}")
            guess, mask = logits.argmax(2), episodes.query_mask
            right = guess == episodes.query_labels
            shares = right.double().mean(1) if mask is None else (right & mask).sum(1).double() / mask.sum(1)
            if episodes.n_base:
                sides.append(_sides(right, episodes).cpu())
                shares = harmonic_mean(*sides[-1].unbind(1))
            accuracy.append(shares.cpu())
            counts.add(episodes, guess)
            if progress is not None:
                progress(start + len(episodes), n_episodes)
    categories, confusion = counts.result()
    seconds = time.perf_counter() - started
    both = torch.cat(sides).numpy() if sides else None
    return EpisodeScores(torch.cat(accuracy).numpy(), categories, confusion, seconds, both)


def mean_ci95(values: ArrayLike) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over episodes, 1.96 s / sqrt(n) with the sample deviation s.

    Raises:
        ValueError: if there are fewer than two values, which say nothing about spread.

    Example:
        >>> mean_ci95([0.5, 0.7, 0.6, 0.6])
        (0.6, 0.08001...)
    """
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(f"{values.size} value has no interval: give at least two episodes")
    return float(values.mean()), float(Z95 * values.std(ddof=1) / np.sqrt(values.size))


def harmonic_mean(a: Tensor, b: Tensor) -> Tensor:
    """2 a b / (a + b), 0 where both are.

    Example:
        >>> harmonic_mean(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0]))
        tensor([0.6667, 0.0000])
    """
    return 2 * a * b / (a + b).clamp_min(torch.finfo(a.dtype).tiny)


def paired_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Mean and 95 % half-width of ``a - b`` over the same episodes; an interval without zero means a real difference.

    Raises:
        ValueError: if the two are not of equal length, hence not of the same episodes.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} and {b.size} episodes cannot be paired: evaluate both on the same ones")
    return mean_ci95(a - b)


class _Counts:
    """Queries by (true, predicted) category, added up over chunks of episodes."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, episodes: EpisodeBatch, guess: Tensor) -> None:
        classes = episodes.classes
        if classes is None:
            classes = torch.arange(episodes.n_way, device=guess.device).expand(len(episodes), -1)
        categories, position = torch.unique(classes, return_inverse=True)
        n = len(categories)
        cell = position.gather(1, episodes.query_labels.to(guess.device)) * n + position.gather(1, guess)
        cell = cell.flatten() if episodes.query_mask is None else cell[episodes.query_mask]
        self.parts.append((categories.cpu().numpy(), cell.bincount(minlength=n * n).view(n, n).cpu().numpy()))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids (C,) of the categories with a query or a prediction, and the counts (C, C)."""
        categories = np.unique(np.concatenate([c for c, _ in self.parts]))
        confusion = np.zeros((len(categories), len(categories)), np.int64)
        for part, counts in self.parts:
            at = np.searchsorted(categories, part)
            confusion[np.ix_(at, at)] += counts
        seen = (confusion.sum(0) + confusion.sum(1)) > 0
        return categories[seen], confusion[np.ix_(seen, seen)]


def _sides(right: Tensor, episodes: EpisodeBatch) -> Tensor:
    """Accuracy of an episode's base queries and of its others, float64 (E, 2), from bool (E, Q)."""
    base = episodes.query_labels < episodes.n_base
    known = torch.ones_like(base) if episodes.query_mask is None else episodes.query_mask
    sides = torch.stack([base & known, ~base & known], 2)  # (E, Q, 2)
    return (right[..., None] & sides).sum(1).double() / sides.sum(1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
