"""The kernel that prototype methods share: squared distances from each query to the class means of its episode."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch


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


def squared_distances(pool: Tensor, episodes: EpisodeBatch) -> Tensor:
    """||f(x) - c_k||^2 for every query and class, c_k the mean of the class's support features.

    Where no gradients are asked for, queries are gathered two megabytes at a time, which a CPU's cache holds: that
    takes a quarter of the time of gathering them all, and less than a Gram matrix of the pool to look products up in.

    Args:
        pool: float32 (N, D) features.

    Returns:
        float32 (E, Q, n_way); gradients flow to ``pool``.
    """
    squares = torch.linalg.vector_norm(pool, dim=1).square()[episodes.query][..., None]  # (E, Q, 1)
    if pool.requires_grad and torch.is_grad_enabled():
        means = class_means(pool, episodes)  # (E, n_way, D)
        return torch.baddbmm(means.square().sum(2)[:, None], pool[episodes.query], means.mT, alpha=-2) + squares
    n, q = episodes.query.shape
    at_once, block_bytes = (128, 2**21) if pool.device.type == "cpu" else (4096, 2**28)
    block = max(1, block_bytes // (q * pool.shape[1] * pool.element_size()))
    gathered = pool.new_empty(block, q, pool.shape[1])
    out = pool.new_empty(n, q, episodes.n_way)
    for part, part_out in zip(episodes.split(at_once), out.split(at_once), strict=True):
        means = class_means(pool, part)
        offsets, means = means.square().sum(2)[:, None], means.mT
        for i in range(0, len(part), block):
            rows = part.query[i : i + block]
            features = gathered[: len(rows)]
            torch.index_select(pool, 0, rows.view(-1), out=features.view(-1, pool.shape[1]))
            torch.baddbmm(offsets[i : i + block], features, means[i : i + block], alpha=-2, out=part_out[i : i + block])
    return out.add_(squares)
