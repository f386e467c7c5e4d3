"""LaplacianShot: nearest prototype, smoothed over neighbouring queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.bd_cspn import rectified_prototypes, shift_queries_
from fewshot_prod.methods.episode_blocks import solve_in_blocks, support_means
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class LaplacianShot:
    r"""I. M. Ziko, J. Dolz, E. Granger, I. Ben Ayed, "Laplacian Regularized Few-Shot Learning", 2020, arXiv:2006.15486.

    Soft assignments y of the queries trade their squared distance a to the prototypes against agreement with their
    nearest neighbours among the queries (equations 1 to 3). Algorithm 1 minimises a bound of that again and again:
    :math:`y_q \leftarrow \mathrm{softmax}(-a_q + \lambda \sum_p w_{qp} y_p)`. Before that, queries are shifted and
    prototypes rectified as in BD-CSPN (section 3.3). Transductive.

    Args:
        laplacian_weight: the paper's lambda, chosen on validation classes there: 0.7 for one shot, 0.3 for five.
        n_neighbours: of each query, itself not counted; the paper's k = 3 counts it.
        n_iterations: of Algorithm 1.
        rectify: take BD-CSPN's prototypes instead of the class means, and its shifted queries.
        cosine_scale, n_confident: of BD-CSPN.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if n_neighbours is below 1, the transform is unknown, or CL2N has no center.

    Differs from the paper: always ``n_iterations`` instead of stopping when the bound moves by less than 1e-6 of
    itself. Prototypes are weighted as in BD-CSPN's paper, where the authors' code averages the products times their
    softmax over classes. As in that code, neighbourhood need not be mutual: w is not symmetric.
    """

    laplacian_weight: float = 0.7
    n_neighbours: int = 2
    n_iterations: int = 20
    rectify: bool = True
    cosine_scale: float = 10.0
    n_confident: int | None = None
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n_neighbours < 1:
            raise ValueError(f"n_neighbours is {self.n_neighbours}: give at least 1, or use nearest centroid")
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return solve_in_blocks(transform_features(pool, self.transform, self.center), episodes, self._solve)

    def _solve(self, rows: Tensor, targets: Tensor, share: Tensor) -> Tensor:
        if self.rectify:
            shift_queries_(rows, targets, share)
            options = {"cosine_scale": self.cosine_scale, "n_confident": self.n_confident}
            prototypes = rectified_prototypes(rows, targets, share, **options)
        else:
            prototypes = support_means(rows, targets)
        query = rows[:, targets.shape[2] :]
        # -a_q without the query's own square, which no softmax over classes sees
        unary = torch.baddbmm(-prototypes.square().sum(2, keepdim=True), prototypes, query.mT, alpha=2)
        neighbours, weights = self._neighbours(query, share)
        logits = unary
        for _ in range(self.n_iterations):
            agreement = logits.softmax(1).gather(2, neighbours.expand(-1, targets.shape[1], -1)).mul_(weights)
            logits = unary + agreement.unflatten(2, (-1, query.shape[1])).sum(2)
        return logits

    def _neighbours(self, query: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Of the first neighbour of every query, then of the second, and so on: positions among the queries, int64
        (B, 1, k Q), and lambda, or 0 where there is no such neighbour."""
        squares = torch.linalg.vector_norm(query, dim=2).square()[:, None]  # (B, 1, Q)
        nearness = torch.baddbmm(-squares, query, query.mT, alpha=2)  # -|q - p|^2 at (q, p), but for q's own square
        nearness.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        nearness.masked_fill_(share == 0, -torch.inf)
        positions, weights = [], []
        for _ in range(min(self.n_neighbours, query.shape[1])):  # few: quicker than to sort
            best = nearness.max(2)
            positions.append(best.indices)
            weights.append(self.laplacian_weight * (best.values > -torch.inf))
            nearness.scatter_(2, best.indices[..., None], -torch.inf)
        return torch.cat(positions, 1)[:, None], torch.cat(weights, 1)[:, None]
