"""The kernels that prototype methods share: each query against one vector a class of its episode."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import gathered


def class_means(pool: Tensor, episodes: EpisodeBatch) -> Tensor:
    """Mean support feature of each class, padding left out.

    Args:
        pool: float32 (N, D) features.

    Returns:
        float32 (E, n_way, D); gradients flow to ``pool``.

    Example:
        >>> pool, support = torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([[0, 2, 1]])
        >>> episodes = EpisodeBatch(support, torch.tensor([[0, 1, 0]]), support[:, :1], torch.tensor([[0]]), n_way=2)
        >>> class_means(pool, episodes).tolist()
        [[[1.0], [5.0]]]
    """
    labels, order = episodes.support_labels.sort(dim=1, stable=True)
    weights = torch.ones_like(labels, dtype=pool.dtype)
    if episodes.support_mask is not None:
        weights = episodes.support_mask.gather(1, order).to(pool.dtype)
    shape = (len(episodes), episodes.n_way)
    shots = weights.new_zeros(shape).scatter_add_(1, labels, weights)
    slots = labels.new_zeros(shape).scatter_add_(1, labels, torch.ones_like(labels)).flatten()  # padding included
    means = F.embedding_bag(  # sums each class's rows without gathering them first
        episodes.support.gather(1, order).flatten(),
        pool,
        slots.cumsum(0) - slots,
        mode="sum",
        per_sample_weights=(weights / shots.gather(1, labels)).flatten(),
    )
    return means.unflatten(0, shape)


def linear_logits(
    pool: Tensor, episodes: EpisodeBatch, head: Callable[[EpisodeBatch], tuple[Tensor, Tensor | None]]
) -> Tensor:
    """x w_k + b_k for every query x and class k, with weights that each episode's support gives.

    Where no gradients are asked for, queries are gathered two megabytes at a time, which a CPU's cache holds: that
    takes a quarter of the time of gathering them all, and less than a Gram matrix of the pool to look products up in.

    Args:
        pool: float32 (N, D) features.
        head: from some of the episodes to weights, float32 (E, n_way, D), and biases, float32 (E, n_way), or None.

    Returns:
        float32 (E, Q, n_way); gradients flow to ``pool`` and through ``head``.
    """
    q = episodes.query.shape[1]
    at_once = 128 if pool.device.type == "cpu" else 4096
    parts = []
    for part in episodes.split(at_once):
        weights, biases = head(part)
        biases = weights.new_zeros(()) if biases is None else biases[:, None]
        biases = biases.expand(len(part), 1, weights.shape[1])
        weights = weights.mT  # (E, D, n_way)
        if torch.is_grad_enabled() and (pool.requires_grad or weights.requires_grad):
            parts.append(torch.baddbmm(biases, pool[part.query], weights))
            continue
        out = pool.new_empty(len(part), q, weights.shape[2])
        for some, features in gathered(pool, part.query, 2**21):
            torch.baddbmm(biases[some], features, weights[some], out=out[some])
        parts.append(out)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def squared_distances(pool: Tensor, episodes: EpisodeBatch, centers: Callable[..., Tensor] = class_means) -> Tensor:
    """||f(x) - c_k||^2 for every query and class, c_k the mean of the class's support features.

    Args:
        pool: float32 (N, D) features.
        centers: from (pool, episodes) to other c_k, float32 (E, n_way, D).

    Returns:
        float32 (E, Q, n_way); gradients flow to ``pool`` and through ``centers``.
    """

    def head(part: EpisodeBatch) -> tuple[Tensor, Tensor]:
        c = centers(pool, part)
        return -2 * c, c.square().sum(2)

    squares = torch.linalg.vector_norm(pool, dim=1).square()[episodes.query][..., None]  # (E, Q, 1)
    return linear_logits(pool, episodes, head).add_(squares)


def cosines(pool: Tensor, episodes: EpisodeBatch) -> Tensor:
    """Cosine of the angle between every query and every class's mean support feature, in -1..1.

    Args:
        pool: float32 (N, D) features.

    Returns:
        float32 (E, Q, n_way); gradients flow to ``pool``.
    """
    return linear_logits(unit_length(pool), episodes, lambda part: (unit_length(class_means(pool, part), dim=2), None))
