"""Linear heads that gradient steps train on an episode's support, written in the support's own coordinates.

Such a head never leaves the span of the support features X (S, D): its weights are ``W = X^T A`` with coefficients
A (S, n_way), its logits ``X W = (X X^T) A``. A step on A costs S^2 instead of S D multiplications a class, and
inner products are all that is left of the features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch

Solve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def head_logits(pool: Tensor, episodes: EpisodeBatch, solve: Solve) -> Tensor:
    """Query logits of the heads that ``solve`` finds, a block of episodes at a time.

    Args:
        pool: float32 (N, D) features.
        solve: from the support's inner products ``gram``, float32 (E, S, S), and its one-hot ``targets``, float32
            (E, S, n_way), zero where padded, to coefficients (E, S, n_way), zero where padded, and bias (E, 1, n_way).

    Returns:
        float32 (E, Q, n_way); gradients flow to ``pool``.
    """
    rows = episodes.support.shape[1] + episodes.query.shape[1]
    block_bytes = 2**26 if pool.device.type == "cpu" else 2**30  # of features gathered at a time
    block = block_bytes // (rows * pool.shape[1] * pool.element_size())
    parts = []
    for part in episodes.split(block):
        targets = F.one_hot(part.support_labels, part.n_way).to(pool.dtype)
        if part.support_mask is not None:
            targets = targets * part.support_mask[..., None]
        support = pool[part.support]
        coefficients, bias = solve(support @ support.mT, targets)
        weights = support.mT @ coefficients  # (E, D, n_way)
        parts.append(pool[part.query] @ weights + bias)
    return torch.cat(parts)


def residual(logits: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy in the logits, softmax - targets; zero where a row is padded."""
    return logits.softmax(2) * targets.sum(2, keepdim=True) - targets
