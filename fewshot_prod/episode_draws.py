"""The arithmetic behind EpisodeSampler: distinct groups of a class from uniform numbers, for many episodes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fewshot_prod.errors import UsageError


@dataclass(frozen=True)
class ClassGroups:
    """The groups of each class, and the rows of each group, as flat arrays.

    An *entry* is one group within one class; its position in ``group`` is how the sampler speaks of it.

    Args:
        first: int64 (C,), position of each class's first entry.
        size: int64 (C,), entries of each class.
        group: int64 (P,), the group of each entry.
        first_row: int64 (P,), position in ``rows`` of each entry's first member.
        members: int64 (P,), rows of each entry.
        rows: int64 (N,), pool rows ordered by class and group.
    """

    first: np.ndarray
    size: np.ndarray
    group: np.ndarray
    first_row: np.ndarray
    members: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, classes: np.ndarray, groups: np.ndarray, mask: np.ndarray, n_classes: int) -> ClassGroups:
        """Structure the rows where ``mask`` holds; ``classes`` are positions 0..n_classes-1, all (N,)."""
        rows = np.flatnonzero(mask)
        rows = rows[np.lexsort((groups[rows], classes[rows]))]
        pairs = np.stack([classes[rows], groups[rows]])
        new = np.ones(len(rows), bool)
        new[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(0)
        first_row = np.flatnonzero(new)
        members = np.diff(np.append(first_row, len(rows)))
        size = np.bincount(pairs[0, first_row], minlength=n_classes)
        return cls(np.cumsum(size) - size, size, pairs[1, first_row], first_row, members, rows)

    def keep(self, mask: np.ndarray) -> ClassGroups:
        """The same with only the classes that ``mask`` (C,) selects, renumbered in order."""
        return ClassGroups(self.first[mask], self.size[mask], self.group, self.first_row, self.members, self.rows)

    def entries(self, c: int) -> np.ndarray:
        return np.arange(self.first[c], self.first[c] + self.size[c])

    def member(self, entries: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One row of each entry, chosen by uniform numbers ``u`` of the same shape."""
        return self.rows[self.first_row[entries] + (u * self.members[entries]).astype(np.int64)]

    def used(self) -> np.ndarray:
        """The groups of all kept classes, with repetition where classes share one."""
        return self.group[np.concatenate([self.entries(c) for c in range(len(self.first))])]


def choose_distinct(u: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Choose k distinct numbers below each ``size``, in random order, with numpy steps over all rows at once.

    Floyd's algorithm (Bentley & Floyd 1987, "A sample of brilliance") gives the set, a sort by random keys the order.

    Args:
        u: float64 (2, k, R), uniform in [0, 1).
        size: int64 (R,).

    Returns:
        int64 (R, k). Where ``size < k`` all numbers come, followed by -1.

    Example:
        >>> u = np.random.default_rng(0).random((2, 3, 2))
        >>> np.sort(choose_distinct(u, np.array([3, 2]))).tolist()
        [[0, 1, 2], [-1, 0, 1]]
    """
    k = u.shape[1]
    chosen = np.empty(u.shape[1:], np.int64)
    for i in range(k):
        top = size - k + i
        pick = (u[0, i] * (top + 1)).astype(np.int64)
        pick = np.where((chosen[:i] == pick).any(0), top, pick)
        chosen[i] = np.where(top < 0, -1, pick)
    keys = np.where(chosen < 0, 2.0, u[1]).T
    return np.take_along_axis(chosen.T, keys.argsort(1), 1)


def dirichlet_counts(u: np.ndarray, limits: np.ndarray, total: int) -> np.ndarray:
    """Share out ``total`` queries by Dirichlet(alpha) proportions, alpha a whole number.

    Largest-remainder rounding keeps the total; what exceeds a class's limit goes to the others, largest first.

    Args:
        u: float64 (E, n_way, alpha), uniform in [0, 1): a Gamma(alpha) variable is a sum of alpha exponentials.
        limits: int64 (E, n_way), most queries of each class; each row sums to at least ``total``.
        total: queries an episode.

    Returns:
        int64 (E, n_way), rows summing to ``total``.
    """
    gamma = -np.log1p(-u).sum(2)
    shares = gamma / gamma.sum(1, keepdims=True) * total
    counts = np.floor(shares).astype(np.int64)
    rank = (counts - shares).argsort(1).argsort(1)  # 0 for the largest remainder
    counts += rank < total - counts.sum(1, keepdims=True)

    capped = np.minimum(counts, limits)
    order = (-shares).argsort(1)
    room = np.take_along_axis(limits - capped, order, 1)
    excess = total - capped.sum(1, keepdims=True)
    fill = np.clip(excess - (room.cumsum(1) - room), 0, room)
    np.put_along_axis(capped, order, np.take_along_axis(capped, order, 1) + fill, 1)
    return capped


def draw_apart(
    rng: np.random.Generator,
    support: ClassGroups,
    query: ClassGroups,
    classes: np.ndarray,
    n_shot: int,
    n_query: np.ndarray,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw one episode class by class when classes, or support and query, share groups.

    A class's support leaves its queries enough groups; classes are taken in random order, so that none is favoured.

    Args:
        classes: int64 (n_way,), positions in ``support`` and ``query``.
        n_query: int64 (n_way,), queries of each class.

    Returns:
        Support entries, int64 (n_way, n_shot), and query entries, one int64 (n_query[label],) a label.
    """
    for _ in range(100):
        taken = np.empty(0, np.int64)
        shots: dict[int, np.ndarray] = {}
        queries: dict[int, np.ndarray] = {}
        for label in rng.permutation(len(classes)):
            s, q = support.entries(classes[label]), query.entries(classes[label])
            s = rng.permutation(s[~np.isin(support.group[s], taken)])
            q = q[~np.isin(query.group[q], taken)]
            common = np.isin(support.group[s], query.group[q])
            s = s[~common | (common.cumsum() <= len(q) - n_query[label])][:n_shot]
            q = rng.permutation(q[~np.isin(query.group[q], support.group[s])])[: n_query[label]]
            if len(s) < n_shot or len(q) < n_query[label]:
                break
            shots[label], queries[label] = s, q
            taken = np.concatenate([taken, support.group[s], query.group[q]])
        else:
            labels = range(len(classes))
            return np.stack([shots[label] for label in labels]), [queries[label] for label in labels]
    raise UsageError(
        f"no episode of {len(classes)} classes with {n_shot} shots and {n_query.max()} queries free of repeated groups "
        "in 100 tries: the classes share too many groups, so lower n_way, n_shot or n_query"
    )


def as_mask(rows: ArrayLike | None, n: int) -> np.ndarray:
    """bool (n,), true at ``rows`` (a mask or positions), or everywhere for None."""
    if rows is None:
        return np.ones(n, bool)
    rows = np.asarray(rows)
    if rows.dtype == bool and len(rows) != n:
        raise ValueError(f"a row mask of {len(rows)} for {n} rows: give one value a row, or positions")
    if rows.dtype != bool and not len(rows):  # numpy takes an empty list for float64
        rows = rows.astype(np.int64)
    mask = np.zeros(n, bool)
    mask[rows] = True
    return mask


def dirichlet_alpha(query_distribution: str) -> int | None:
    """None for "balanced", A for "dirichlet:A"."""
    if query_distribution == "balanced":
        return None
    name, _, alpha = query_distribution.partition(":")
    if name != "dirichlet" or not alpha.isdecimal() or int(alpha) < 1:
        raise ValueError(
            f"query_distribution is {query_distribution!r}: give 'balanced', or 'dirichlet:A' with a whole number "
            "A >= 1, such as 'dirichlet:2'"
        )
    return int(alpha)
