"""BD-CSPN: prototypes rectified by confident queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import solve_in_blocks, support_means
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class BDCSPN:
    r"""J. Liu, L. Song, Y. Qin, "Prototype Rectification for Few-Shot Learning", 2020, arXiv:1911.10713.

    Queries are shifted onto the support's mean (cross-class bias). Those that are nearest to a class join its support
    (intra-class bias), and the class's prototype becomes their average, weighted by a softmax over their cosines to
    the first prototype (section 3.2). With :math:`c_k` the mean of class k's support features,

    .. math::
        x'_q = x_q + \bar x_{support} - \bar x_{query}, \qquad
        w_{ik} = \frac{\exp(\epsilon \cos(x'_i, c_k))}{\sum_{j \in S'_k} \exp(\epsilon \cos(x'_j, c_k))}, \qquad
        p_k = \sum_{i \in S'_k} w_{ik} x'_i,

    where :math:`S'_k` is the class's support, which is not shifted, with the queries that join it. A query's logits
    are the cosines :math:`\epsilon \cos(x'_q, p_k)` of the shifted query to these prototypes. Transductive.

    Args:
        cosine_scale: the paper's epsilon, multiplies the cosines inside the weights, and the logits.
        n_confident: the paper's Z, how many queries join a class at most, the surest ones; None for all.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if n_confident is below 1, the transform is unknown, or CL2N has no center.

    Differs from the paper: features are centred before their norm is divided out.
    """

    cosine_scale: float = 10.0
    n_confident: int | None = 8
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n_confident is not None and self.n_confident < 1:
            raise ValueError(f"n_confident is {self.n_confident}: give at least 1, or None for all queries")
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return solve_in_blocks(transform_features(pool, self.transform, self.center), episodes, self._solve)

    def _solve(self, rows: Tensor, targets: Tensor, share: Tensor) -> Tensor:
        shift_queries_(rows, targets, share)
        options = {"cosine_scale": self.cosine_scale, "n_confident": self.n_confident}
        prototypes = rectified_prototypes(rows, targets, share, **options)
        return self.cosine_scale * cosines(prototypes, rows[:, targets.shape[2] :])


def shift_queries_(rows: Tensor, targets: Tensor, share: Tensor) -> None:
    """Move the queries, in place, by what brings their mean onto the support's; all three as a solver is given."""
    support, query = rows.tensor_split([targets.shape[2]], 1)
    in_support = targets.sum(1, keepdim=True)
    query += (in_support / in_support.sum(2, keepdim=True)) @ support - share @ query


def rectified_prototypes(
    rows: Tensor, targets: Tensor, share: Tensor, *, cosine_scale: float, n_confident: int | None
) -> Tensor:
    """Prototypes, float32 (B, n_way, D), of the support and the shifted queries that join it, as a solver is given."""
    n_support = targets.shape[2]
    cosine = cosines(support_means(rows, targets), rows)  # (B, n_way, S + Q)
    confidence = (cosine_scale * cosine[..., n_support:]).softmax(1)
    joins = (confidence == confidence.amax(1, keepdim=True)) & (share > 0)
    if n_confident is not None and n_confident < share.shape[2]:
        least = torch.where(joins, confidence, -1.0).topk(n_confident, dim=2).values[..., -1:]
        joins &= confidence >= least
    members = torch.cat([targets > 0, joins], 2)
    return (cosine_scale * cosine).masked_fill(~members, -torch.inf).softmax(2) @ rows


def cosines(centers: Tensor, rows: Tensor) -> Tensor:
    """Of each of ``centers``, float32 (B, n_way, D), and each of ``rows``, float32 (B, R, D): float32 (B, n_way, R)."""
    return F.normalize(centers, dim=2) @ rows.mT / torch.linalg.vector_norm(rows, dim=2).clamp_min(1e-12)[:, None]
