"""Modules that a metric method learns beside the encoder; they are kept and saved with the encoder."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class RelationModule(nn.Module):
    """How alike two feature vectors are: a multilayer perceptron on their concatenation (Sung et al. 2018).

    Args:
        feature_dim: D, size of the features.
        hidden: width of both hidden layers.
        n_way: classes of the episodes that it is trained on: scores start at 1 / n_way, the share of right pairs.

    Example:
        >>> RelationModule(4)(torch.zeros(3, 5, 4), torch.zeros(3, 7, 4)).shape
        torch.Size([3, 7, 5])
    """

    def __init__(self, feature_dim: int, hidden: int = 64, n_way: int = 5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.pair = nn.Linear(2 * feature_dim, hidden)
        self.hidden = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        # From higher scores the first steps lower every one, which ends with hidden units that are zero for all pairs,
        # and training stays there.
        nn.init.constant_(self.score.bias, -math.log(n_way - 1))

    def forward(self, classes: Tensor, queries: Tensor) -> Tensor:
        """Scores, float32 (..., Q, n_way), from vectors (..., n_way, D) and (..., Q, D)."""
        # A layer on a concatenation is the sum of one on each part, which spares forming Q * n_way pairs of 2 D.
        of_class, of_query = self.pair.weight.chunk(2, dim=1)
        first = (self.norm(queries) @ of_query.mT)[..., :, None, :] + (self.norm(classes) @ of_class.mT)[
            ..., None, :, :
        ]
        return self.score(self.hidden((first + self.pair.bias).relu()).relu())[..., 0]


class SetAttention(nn.Module):
    """One head of self-attention over a set of vectors, a residual and layer normalisation (Ye et al. 2020, section 4).

    Args:
        feature_dim: D, size of the features.

    Example:
        >>> SetAttention(4)(torch.zeros(3, 5, 4)).shape
        torch.Size([3, 5, 4])
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(feature_dim, feature_dim, bias=False) for _ in range(3))
        for projection in (self.query, self.key, self.value):
            nn.init.normal_(projection.weight, std=math.sqrt(1 / feature_dim))
        self.out = nn.Linear(feature_dim, feature_dim)
        nn.init.xavier_normal_(self.out.weight, gain=0.1)  # small: the set starts almost as it is
        self.norm = nn.LayerNorm(feature_dim)

    def forward(self, members: Tensor, mask: Tensor | None = None) -> Tensor:
        """The set adapted to itself, float32 (..., n, D).

        Args:
            members: (..., n, D).
            mask: bool (..., n, n), true where the row's member may look at the column's; each at one at least.
        """
        scores = self.query(members) @ self.key(members).mT / math.sqrt(members.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return self.norm(self.out(scores.softmax(-1) @ self.value(members)) + members)


HEADS: dict[str, type[nn.Module]] = {"relation": RelationModule, "feat": SetAttention}


def build_head(config: dict[str, Any], feature_dim: int) -> nn.Module:
    """The module that ``config``, ``{"kind": a key of HEADS, **arguments}``, describes, freshly initialised."""
    arguments = dict(config)
    return HEADS[arguments.pop("kind")](feature_dim, **arguments)


def attach_head(encoder: nn.Module, kind: str, **arguments: Any) -> None:
    """Give ``encoder`` the module ``head``, and note it in its configuration so that checkpoints restore it.

    Args:
        kind: a key of ``HEADS``.
        arguments: of that module.

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> attach_head(encoder, "relation", hidden=8)
        >>> build_encoder(encoder.config).head.score
        Linear(in_features=8, out_features=1, bias=True)
    """
    encoder.config = {**encoder.config, "head": {"kind": kind, **arguments}}
    encoder.head = build_head(encoder.config["head"], encoder.feature_dim)
