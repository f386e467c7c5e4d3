"""Episodes: few-shot tasks drawn from a catalog, as index tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewshot_prod.episode_draws import (
    ClassGroups,
    as_mask,
    choose_distinct,
    dirichlet_alpha,
    dirichlet_counts,
    draw_apart,
)

NUMBERS_AT_ONCE = 2**21  # random numbers of a block of episodes, 16 MB


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
        n_base: labels below it are base classes, which take part beside the others.

    Raises:
        ValueError: if a label is outside 0..n_way-1, or an episode has a label without support.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    n_way: int
    classes: Tensor | None = None
    support_mask: Tensor | None = None
    query_mask: Tensor | None = None
    n_base: int = 0

    def __post_init__(self) -> None:
        for name, labels in (("support_labels", self.support_labels), ("query_labels", self.query_labels)):
            if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_way:
                raise ValueError(
                    f"{name} span {int(labels.min())}..{int(labels.max())} but n_way is {self.n_way}: labels are "
                    f"episode-local, so number the classes of each episode 0..{self.n_way - 1}"
                )
        filled = torch.ones_like(self.support_labels) if self.support_mask is None else self.support_mask.long()
        shots = filled.new_zeros(len(self), self.n_way).scatter_add_(1, self.support_labels, filled)
        if len(self) and not bool(shots.all()):
            episode, label = (shots == 0).nonzero()[0].tolist()
            raise ValueError(
                f"episode {episode} has no support for label {label} although n_way is {self.n_way}: every label "
                f"0..{self.n_way - 1} needs at least one support item, so renumber labels with gaps or lower n_way"
            )

    def __len__(self) -> int:
        return len(self.support)

    def __getitem__(self, episodes: slice) -> EpisodeBatch:
        """The episodes that a slice selects, without copying."""
        return self._map(lambda t: t[episodes])

    def split(self, size: int) -> Iterator[EpisodeBatch]:
        """The batch in pieces of at most ``size`` episodes (at least one)."""
        return (self[i : i + max(1, size)] for i in range(0, len(self), max(1, size)))

    def to(self, device: torch.device | str) -> EpisodeBatch:
        return self._map(lambda t: t.to(device))

    def _map(self, change) -> EpisodeBatch:
        values = (getattr(self, f.name) for f in fields(self))
        return EpisodeBatch(*(change(v) if isinstance(v, Tensor) else v for v in values))


class EpisodeSampler:
    """Draws episodes from the rows of a catalog; episode ``i`` depends on (rows, setting, seed, i) alone.

    An episode holds at most one item of a group, over all its classes. A class's items are distinct groups drawn
    uniformly, and one member of each. Which class gets which label, and the order of the queries, are random;
    support items are ordered by label. Classes with fewer than ``n_shot + n_query`` groups are skipped.

    Random numbers come from the counter-based generator Philox (Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3"): an episode's numbers start at a counter computed from its index, so chunks do not matter.

    Args:
        category_ids: int (N,), any numbers.
        groups: int (N,), shared by near-duplicates.
        n_way: classes an episode, or "all" for every class that is big enough.
        n_shot: support items per class.
        n_query: query items per class (on average, when imbalanced).
        seed: 0 or more.
        query_distribution: "balanced", or "dirichlet:A" with a whole number A >= 1: the classes' shares of the
            ``n_way * n_query`` queries are drawn from Dirichlet(A) (Veilleux et al. 2021, "Realistic evaluation of
            transductive few-shot learning"), rounded to the same total; what a class is too small for goes
            to the largest others.
        support_rows, query_rows: bool (N,) or positions: where support and query come from; None for everywhere.

    Attributes:
        classes: int64 (C,), the categories that take part.
        skipped: category id -> number of groups, of those that are too small for this setting.
        n_way, n_shot, n_query, seed, query_distribution: as given, with n_way "all" resolved.

    Raises:
        ValueError: if a setting is impossible, or fewer than n_way classes remain.

    Example:
        >>> sampler = EpisodeSampler([7, 7, 7, 3, 3, 3], [0, 1, 2, 3, 4, 5], n_way=2, n_shot=1, n_query=2, seed=0)
        >>> episodes = sampler.sample(0, 100)
        >>> len(episodes), episodes.support.shape, episodes.query.shape
        (100, torch.Size([100, 2]), torch.Size([100, 4]))
        >>> bool((sampler.sample(40, 41).query == episodes[40:41].query).all())
        True
    """

    def __init__(
        self,
        category_ids: ArrayLike,
        groups: ArrayLike,
        *,
        n_way: int | str,
        n_shot: int,
        n_query: int,
        seed: int,
        query_distribution: str = "balanced",
        support_rows: ArrayLike | None = None,
        query_rows: ArrayLike | None = None,
    ) -> None:
        for name, ids in (("category_ids", category_ids), ("groups", groups)):
            if len(ids) and np.asarray(ids).dtype.kind not in "iu":
                raise ValueError(f"{name} are {np.asarray(ids).dtype}: give integers")
        category_ids, groups = np.asarray(category_ids, np.int64), np.asarray(groups, np.int64)
        if len(category_ids) != len(groups):
            raise ValueError(f"{len(category_ids)} category_ids but {len(groups)} groups: give one of each a row")
        for name, value, least in (("n_shot", n_shot, 1), ("n_query", n_query, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: it must be at least {least}")
        if n_way != "all" and not (isinstance(n_way, Integral) and n_way >= 2):
            raise ValueError(f"n_way is {n_way!r}: give a number of at least 2, or 'all'")
        self._alpha = dirichlet_alpha(query_distribution)
        self.n_shot, self.n_query, self.seed, self.query_distribution = n_shot, n_query, seed, query_distribution

        in_support, in_query = (as_mask(rows, len(groups)) for rows in (support_rows, query_rows))
        self._one_pool = bool((in_support == in_query).all())
        names, position = np.unique(category_ids, return_inverse=True)
        support, query, either = (
            ClassGroups.of(position, groups, mask, len(names)) for mask in (in_support, in_query, in_support | in_query)
        )
        enough = (support.size >= n_shot) & (query.size >= n_query) & (either.size >= n_shot + n_query)
        self.classes = names[enough]
        self.skipped: dict[int, int] = {
            int(c): int(n) for c, n in zip(names[~enough], either.size[~enough], strict=True)
        }
        self.n_way = len(self.classes) if n_way == "all" else int(n_way)
        if len(self.classes) < max(2, self.n_way):
            raise ValueError(
                f"{len(self.classes)} of {len(names)} classes have {n_shot + n_query} groups (n_shot={n_shot} + "
                f"n_query={n_query}) but n_way is {n_way}: lower n_way, n_shot or n_query, or give more products "
                f"(groups are of near-duplicates; the largest class has {either.size.max(initial=0)})"
            )
        self._support, self._query = support.keep(enough), query.keep(enough)
        self._most_queries = np.minimum(self._query.size, either.size[enough] - n_shot)  # (C,)
        entries = self._query.used() if self._one_pool else np.append(self._support.used(), self._query.used())
        self._may_collide = len(np.unique(entries)) < len(entries)

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        """Episodes ``start`` to ``stop - 1``.

        Raises:
            UsageError: if an episode cannot be free of repeated groups, because its classes share too many.
        """
        if not 0 <= start < stop:
            raise ValueError(f"episodes {start}..{stop} are empty or negative: give 0 <= start < stop")
        per_block = max(1, NUMBERS_AT_ONCE // (4 * self._counters()))
        parts = [self._block(i, min(i + per_block, stop)) for i in range(start, stop, per_block)]
        support, query, query_labels, classes = (
            torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True)
        )
        support_labels = torch.arange(self.n_way).repeat_interleave(self.n_shot).expand_as(support)
        return EpisodeBatch(support, support_labels, query, query_labels, self.n_way, classes)

    def _sizes(self) -> tuple[int, int, int]:
        """(queries an episode, most queries of one class, alpha or 0)."""
        total = self.n_way * self.n_query
        most = self.n_query if self._alpha is None else int(min(total, self._most_queries.max()))
        return total, most, self._alpha or 0

    def _counters(self) -> int:
        """Philox counters an episode uses up; each yields four numbers."""
        total, most, alpha = self._sizes()
        slots = self.n_way * (self.n_shot + most)
        return -(-(len(self.classes) + 2 * slots + self.n_way * self.n_shot + 2 * total + self.n_way * alpha) // 4)

    def _block(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Support (E, S), query (E, Q), query labels (E, Q) and category ids (E, n_way) of some episodes."""
        n, way, shot, (total, most, alpha) = stop - start, self.n_way, self.n_shot, self._sizes()
        stream = np.random.Philox(key=self.seed, counter=start * self._counters())
        numbers = np.random.Generator(stream).random((n, 4 * self._counters()))
        used = 0

        def uniform(*shape: int) -> np.ndarray:
            nonlocal used
            used += (count := int(np.prod(shape)))
            return numbers[:, used - count : used].reshape(n, *shape)

        classes = uniform(len(self.classes)).argsort(1)[:, :way]
        counts = np.full((n, way), self.n_query)
        if alpha:
            counts = dirichlet_counts(uniform(way, alpha), self._most_queries[classes], total)

        def entries(source: ClassGroups, k: int) -> np.ndarray:
            """Entries (E, n_way, k) of ``source``, -k or less behind the last one of a small class."""
            u = np.ascontiguousarray(np.moveaxis(uniform(2, k, way), 0, 2)).reshape(2, k, n * way)
            return (
                choose_distinct(u, source.size[classes.ravel()]).reshape(n, way, k) + source.first[classes][..., None]
            )

        if self._one_pool:
            support, query = np.split(entries(self._query, shot + most), [shot], 2)
        else:
            support, query = entries(self._support, shot), entries(self._query, most)
        wanted = np.arange(most) < counts[..., None]
        support, query = support.reshape(n, way * shot), query[wanted].reshape(n, total)
        labels = np.broadcast_to(np.arange(way)[:, None], wanted.shape[1:])
        query_labels = np.broadcast_to(labels, wanted.shape)[wanted].reshape(n, total)

        if self._may_collide:
            drawn = np.sort(np.concatenate([self._support.group[support], self._query.group[query]], 1), 1)
            for e in np.flatnonzero((drawn[:, 1:] == drawn[:, :-1]).any(1)):
                rng = np.random.Generator(np.random.Philox(key=[self.seed, start + e + 1]))
                shots, queries = draw_apart(rng, self._support, self._query, classes[e], shot, counts[e])
                support[e], query[e] = shots.ravel(), np.concatenate(queries)

        order = uniform(total).argsort(1)
        query, query_labels = np.take_along_axis(query, order, 1), np.take_along_axis(query_labels, order, 1)
        support = self._support.member(support, uniform(way * shot))
        return support, self._query.member(query, uniform(total)), query_labels, self.classes[classes]
