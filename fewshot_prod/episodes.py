"""Episodes: few-shot tasks drawn from a catalog, as index tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EpisodeBatch:
    """E episodes over the rows of one pool (features or inputs).

    Labels are episode-local, 0..n_way-1. Padding (only where ways or shots vary) has mask False, label 0, index 0.

    Args:
        support: int64 (E, S) positions in the pool.
        support_labels: int64 (E, S).
        query: int64 (E, Q) positions in the pool.
        query_labels: int64 (E, Q).
        n_way: classes an episode.
        classes: int64 (E, n_way), the category id behind each label, or None.
        support_mask: bool (E, S), or None when nothing is padded.
        query_mask: bool (E, Q), or None when nothing is padded.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    n_way: int
    classes: Tensor | None = None
    support_mask: Tensor | None = None
    query_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.support)
