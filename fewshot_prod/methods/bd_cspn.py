"""BD-CSPN: prototypes rectified by confident queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import solve_in_blocks, support_means
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.transforms import Transform, check_transform, transform_features


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
    are its cosines :math:`\epsilon \cos(x_q, p_k)` to these prototypes. Transductive.

    Args:
        cosine_scale: the paper's epsilon, multiplies the cosines inside the weights, and the logits.
        n_confident: the paper's Z, how many queries join a class at most, the surest ones; None for all.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if n_confident is below 1, the transform is unknown, or CL2N has no center.

    Differs from the paper: features are centred before their norm is divided out; queries are shifted for the
    prototypes alone and classified where they lie, as in the code of Veilleux et al. 2021 and in easyfsl.
    """

    cosine_scale: float = 10.0
    n_confident: int | None = 8
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_transform(self.transform, self.center)
        if self.n_confident is not None and self.n_confident < 1:
            raise ValueError(f"n_confident is {self.n_confident}: give at least 1, or None for all queries")
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        features = transform_features(pool, self.transform, self.center)
        rectify = partial(rectified_prototypes, cosine_scale=self.cosine_scale, n_confident=self.n_confident)

        def solve(rows: Tensor, targets: Tensor, share: Tensor) -> Tensor:
            unit = F.normalize(rectify(rows, targets, share), dim=2)
            query = rows[:, targets.shape[2] :]
            return self.cosine_scale * (unit @ query.mT) / _norms(query)

        return solve_in_blocks(features, episodes, solve)


def rectified_prototypes(
    rows: Tensor, targets: Tensor, share: Tensor, *, cosine_scale: float, n_confident: int | None
) -> Tensor:
    """Prototypes, float32 (B, n_way, D), of support and pseudo-labelled queries, from what a solver is given.

    Inner products with the shift stand in for a shifted copy of the queries.
    """
    n_way, n_support = targets.shape[1:]
    support, query = rows[:, :n_support], rows[:, n_support:]
    unit = F.normalize(support_means(rows, targets), dim=2)
    in_support = targets.sum(1, keepdim=True)
    shift = (in_support / in_support.sum(2, keepdim=True)) @ support - share @ query  # (B, 1, D)

    support_cosine = (unit @ support.mT) / _norms(support)  # (B, n_way, S)
    dots = torch.cat([unit, shift], 1) @ query.mT  # (B, n_way + 1, Q)
    shifted_square = _norms(query).square() + 2 * dots[:, n_way:] + shift.square().sum(2, keepdim=True)
    query_cosine = (dots[:, :n_way] + unit @ shift.mT) / shifted_square.clamp_min(1e-12).sqrt()

    confidence = (cosine_scale * query_cosine).softmax(1)
    best = confidence.amax(1, keepdim=True)
    joins = (confidence == best) & (share > 0)
    if n_confident is not None and n_confident < query.shape[1]:
        least = torch.where(joins, confidence, -1.0).topk(n_confident, dim=2).values[..., -1:]
        joins &= confidence >= least
    cosine = torch.cat([support_cosine, query_cosine], 2)
    weights = (cosine_scale * cosine).masked_fill(~torch.cat([targets > 0, joins], 2), -torch.inf).softmax(2)
    return torch.baddbmm(weights[..., n_support:].sum(2, keepdim=True) * shift, weights, rows)


def _norms(rows: Tensor) -> Tensor:
    """Euclidean norms, float32 (B, 1, R)."""
    return torch.linalg.vector_norm(rows, dim=2).clamp_min(1e-12)[:, None]
