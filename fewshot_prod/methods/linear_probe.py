"""Linear probe: logistic regression on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.support_span import head_logits, residual
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class LinearProbe:
    r"""Y. Tian, Y. Wang, D. Krishnan, J. B. Tenenbaum, P. Isola, "Rethinking Few-Shot Image Classification: a Good
    Embedding Is All You Need?", 2020, arXiv:2003.11539.

    Each episode's head minimises :math:`\sum_s -\log p(y_s | x_s) + \frac{l2}{2} \|W\|^2` over the weights and a bias
    free of the penalty (equation 4): scikit-learn's ``LogisticRegression(C=1/l2)``, to 1e-3 in probability for
    features of norm 1. All episodes are solved at once by Nesterov's method for strongly convex functions (Nesterov
    2004, "Introductory lectures on convex optimization", scheme 2.2.11), whose error falls by the same factor every
    sqrt(L / l2) iterations; L, the largest eigenvalue of the features' Gram matrix, grows with the support. Inductive.

    Args:
        l2: weight of the penalty; above 0.
        n_iterations: of the solver, for 25 labelled products and l2 = 0.1; the square root as many times as many for
            more products, or a smaller l2.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if l2 is not positive, the transform is unknown, or CL2N has no center.

    Differs from the paper: features are centred before their norm is divided out (transform "L2N" is the paper's),
    and the solver is not L-BFGS, which cannot run over episodes at once.
    """

    l2: float = 0.1
    n_iterations: int = 100
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_iterations < 1:
            raise ValueError(f"n_iterations is {self.n_iterations}: it must be at least 1")
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return head_logits(transform_features(pool, self.transform, self.center), episodes, self._solve)

    def _solve(self, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # The Hessian of cross-entropy is at most 1/2 in the logits (Boehning 1992). The bias is a feature whose size
        # is free, since nothing penalises it: as large as the others, it slows them least.
        largest = gram.abs().sum(2).amax(1)[:, None, None]  # (E, 1, 1), bounds the eigenvalues
        bias_size = largest / targets.sum((1, 2))[:, None, None]  # squared
        smoothness = largest + self.l2
        n_iterations = ceil(self.n_iterations * max(1.0, sqrt(targets.shape[1] / 25 * 0.1 / self.l2)))
        ratio = (self.l2 / smoothness).sqrt()
        momentum = (1 - ratio) / (1 + ratio)
        a = ahead_a = torch.zeros_like(targets)
        b = ahead_b = targets.new_zeros(len(targets), 1, targets.shape[2])
        for _ in range(n_iterations):
            error = residual(gram @ ahead_a + ahead_b, targets)
            next_a = ahead_a - (error + self.l2 * ahead_a) / smoothness
            next_b = ahead_b - error.sum(1, keepdim=True) * bias_size / smoothness
            ahead_a, ahead_b = next_a + momentum * (next_a - a), next_b + momentum * (next_b - b)
            a, b = next_a, next_b
        return a, b
