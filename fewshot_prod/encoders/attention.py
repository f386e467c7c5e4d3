"""Additive attention, over the tokens of a title and over the modalities of a product."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """Attention whose score is a small network of query and key.

    Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (ICLR 2015),
    appendix A.1.2::

        e_ti = v . tanh(W q_t + U k_i),    alpha_t = softmax_i(e_t),    c_t = sum_i alpha_ti k_i

    Args:
        query_dim: size of a query.
        key_dim: size of a key, which is also the value that is averaged.
        hidden: size of the space in which query and key meet.

    Example:
        >>> attend = AdditiveAttention(query_dim=4, key_dim=6, hidden=5)
        >>> mask = torch.tensor([[True, True, False], [False, False, False]])
        >>> context, weights = attend(torch.randn(2, 4), torch.randn(2, 3, 6), mask)
        >>> context.shape, [round(total, 4) for total in weights.sum(1).tolist()]
        (torch.Size([2, 6]), [1.0, 0.0])
    """

    def __init__(self, query_dim: int, key_dim: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, hidden)
        self.key = nn.Linear(key_dim, hidden, bias=False)  # the query's bias serves the sum
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the keys where ``mask`` holds.

        Args:
            query: (B, query_dim).
            keys: (B, T, key_dim).
            mask: bool (B, T), which keys exist.

        Returns:
            The context (B, key_dim) and the weights (B, T). Weights sum to 1 over the keys that exist; a row
            without any key has zero weights and a zero context, and its gradient is zero, not NaN.
        """
        scores = self.score(torch.tanh(self.query(query).unsqueeze(1) + self.key(keys))).squeeze(-1)  # (B, T)
        weights = masked_softmax(scores, mask)
        return (weights.unsqueeze(-1) * keys).sum(1), weights


def modality_scores(keys: Tensor, mask: Tensor, query: nn.Module, score: nn.Module) -> Tensor:
    """Scores e_m = v . tanh(W q + k_m) of a product's modalities, (B, M); q is the mean of the keys it has.

    Args:
        keys: (B, M, hidden).
        mask: bool (B, M), which modalities exist.
        query, score: layers W, hidden to hidden, and v, hidden to 1.
    """
    mean = (keys * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return score(torch.tanh(query(mean).unsqueeze(1) + keys)).squeeze(-1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where ``mask`` (bool, the shape of ``scores``) holds, 0 elsewhere.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]])).tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """
    # The lowest finite number instead of -inf: a row of -inf alone would be NaN in value and gradient.
    lowest = torch.finfo(scores.dtype).min
    return torch.where(mask, scores.masked_fill(~mask, lowest).softmax(-1), 0.0)
