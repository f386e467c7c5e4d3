"""The kernel that prototype methods share: squared distances from each query to the class means of its episode."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch


def support_weights(episodes: EpisodeBatch) -> Tensor:
    """float32 (E, n_way, S): 1 / shots of the class where a support item belongs to it, else 0 (padding included)."""
    member = torch.nn.functional.one_hot(episodes.support_labels, episodes.n_way).transpose(1, 2).float()
    if episodes.support_mask is not None:
        member = member * episodes.support_mask[:, None]
    return member / member.sum(2, keepdim=True)


def squared_distances(pool: Tensor, episodes: EpisodeBatch, *, block: int = 4) -> Tensor:
    """||f(x) - c_k||^2 for every query and class, c_k the mean of the class's support features.

    Episodes are worked off a few at a time, so that the gathered features stay in the processor's cache.

    Args:
        pool: float32 (N, D) features.

    Returns:
        float32 (E, Q, n_way), gradients flow to ``pool``.
    """
    square = pool.square().sum(1)
    parts = []
    for part in episodes.split(block):
        prototypes = support_weights(part) @ pool[part.support]  # (E, n_way, D)
        dots = pool[part.query] @ prototypes.transpose(1, 2)  # (E, Q, n_way)
        parts.append(square[part.query][..., None] - 2 * dots + prototypes.square().sum(2)[:, None])
    return torch.cat(parts)
