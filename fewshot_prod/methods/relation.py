"""Relation network: a learned comparison of a query with each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.prototypes import class_means

EPISODES_AT_ONCE = 16  # whose pairs a CPU's cache holds


@dataclass(frozen=True)
class Relation:
    r"""F. Sung, Y. Yang, L. Zhang, T. Xiang, P. H. S. Torr, T. M. Hospedales, "Learning to Compare: Relation Network
    for Few-Shot Learning", 2018, arXiv:1711.06025.

    A module :math:`g` scores each query beside each class, :math:`r_{i,j} = g(C(f(x_i), f(x_j)))` in 0..1 (equation
    1); training brings it to 1 for the query's own class and to 0 for others by squared error (equation 2). Logits
    are the scores before their sigmoid, which rank classes the same way. Inductive.

    Args:
        module: g, from class vectors (E, n_way, D) and query vectors (E, Q, D) to scores (E, Q, n_way); a
            :class:`fewshot_prod.encoders.heads.RelationModule` that :func:`fewshot_prod.metatrain.metatrain` trained
            with ``algorithm="relation"`` and left as the encoder's ``head``.

    Differs from the paper: features are vectors, so that g has fully connected layers, 64 wide, with layer
    normalisation of its inputs, where the paper has two convolutions over feature maps with batch normalisation; a
    class of several shots is the mean instead of the sum of its features; errors are averaged, not summed; scores
    start at 1 / n_way instead of 0.5, without which training stayed at equal scores for all pairs.
    """

    module: nn.Module

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ()

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        parts = episodes.split(EPISODES_AT_ONCE)
        return torch.cat([self.module(class_means(pool, part), pool[part.query]) for part in parts])

    def loss(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Mean squared error of the relation scores (equation 2), for episodes without padding."""
        relations = self(pool, episodes).sigmoid()
        return F.mse_loss(relations, F.one_hot(episodes.query_labels, episodes.n_way).to(relations.dtype))
