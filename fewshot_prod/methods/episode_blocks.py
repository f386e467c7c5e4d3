"""A block of episodes at a time, its features gathered once; and solving so for transductive methods.

Solvers work class-major, with classes before products, (B, n_way, Q): a softmax over few classes then runs along
long contiguous rows, which takes a quarter of the time on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch

Solve = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def solve_in_blocks(pool: Tensor, episodes: EpisodeBatch, solve: Solve) -> Tensor:
    """Query logits that ``solve`` finds from the features of support and queries together.

    Args:
        pool: float32 (N, D) features.
        solve: from ``rows``, float32 (B, S + Q, D), the support's features and then the queries', which it may
            change; ``targets``, float32 (B, n_way, S), one-hot, zero where padded; and ``share``, float32 (B, 1, Q),
            one over the number of an episode's queries, zero where padded; to logits, float32 (B, n_way, Q).

    Returns:
        float32 (E, Q, n_way), without gradients: these methods are solved by iterations that are not trained through.

    Example:
        >>> pool, support = torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, torch.tensor([[0, 1]]), torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> solve_in_blocks(pool, episodes, lambda rows, targets, share: targets @ rows[:, :2] * rows[:, 2:]).tolist()
        [[[0.0, 10.0]]]
    """
    n, q = episodes.query.shape
    index = torch.cat([episodes.support, episodes.query], 1)  # (E, S + Q)
    targets = support_targets(episodes, pool.dtype)
    share = pool.new_full((n, 1, q), 1 / q)
    if episodes.query_mask is not None:
        share = episodes.query_mask[:, None].to(pool.dtype)
        share = share / share.sum(2, keepdim=True)
    out = pool.new_empty(n, q, episodes.n_way)
    for some, rows in gathered(pool, index, 2**23):
        out[some] = solve(rows, targets[some], share[some]).mT
    return out


def gathered(pool: Tensor, index: Tensor, block_bytes: int) -> Iterator[tuple[slice, Tensor]]:
    """The features at ``index``, int64 (E, R), a block of episodes at a time: which ones, and float32 (B, R, D).

    The next block takes the same memory. No gradients flow.

    Args:
        block_bytes: of the features, on a CPU: few enough that its last-level cache holds them, many enough that small
            operations are worth a call. On a GPU 128 times as many.
    """
    block_bytes *= 1 if pool.device.type == "cpu" else 128
    size = max(1, block_bytes // (index.shape[1] * pool.shape[1] * pool.element_size()))
    buffer = pool.new_empty(min(size, len(index)), index.shape[1], pool.shape[1])
    for i in range(0, len(index), size):
        some = slice(i, i + size)
        rows = buffer[: len(index[some])]
        torch.index_select(pool, 0, index[some].flatten(), out=rows.view(-1, pool.shape[1]))
        yield some, rows


def support_targets(episodes: EpisodeBatch, dtype: torch.dtype) -> Tensor:
    """The support's labels, one-hot, zero where padded: ``dtype`` (E, n_way, S)."""
    targets = F.one_hot(episodes.support_labels, episodes.n_way).mT.to(dtype, memory_format=torch.contiguous_format)
    return targets if episodes.support_mask is None else targets * episodes.support_mask[:, None]


def support_means(rows: Tensor, targets: Tensor) -> Tensor:
    """Mean support feature of each class, float32 (B, n_way, D), from what ``solve`` is given."""
    return (targets / targets.sum(2, keepdim=True)) @ rows[:, : targets.shape[2]]
