"""Near-duplicates: products that must not stand on both sides of an episode share a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fewshot_prod.catalog.titles import normalise_title


def near_duplicate_groups(
    categories: Sequence[str | None],
    titles: Sequence[str | None],
    pixel_digests: Sequence[str | None],
    given: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Number the groups of near-duplicates, in the order in which they first appear.

    Two products are joined by the same normalised title within a category, by equal decoded pixels anywhere, or by
    the same given group; and so is everything in a chain of such pairs.

    Args:
        categories: N category names.
        titles: N titles, None for a missing one.
        pixel_digests: N hashes of decoded pictures, None for a missing one.
        given: N groups that the user's table names, None for a row without.

    Returns:
        int64 (N,).

    Example:
        >>> near_duplicate_groups(["a", "a", "b", "b"], ["Red cup", "red  CUP", "red cup", None], [None, "x", "y", "x"])
        array([0, 0, 1, 0])
    """
    keys: dict[tuple, int] = {}
    edges = []  # (product, key): products and what they may share are the two sides of one graph
    for i, (category, title, digest) in enumerate(zip(categories, titles, pixel_digests, strict=True)):
        shared = [
            ("title", category, normalise_title(title)) if title else None,
            ("pixels", digest) if digest else None,
        ]
        if given is not None and given[i] is not None:
            shared.append(("given", given[i]))
        edges += [(i, keys.setdefault(key, len(keys))) for key in shared if key is not None]
    n = len(categories)
    products, shared_keys = np.array(edges, np.int64).reshape(-1, 2).T
    size = n + len(keys)
    graph = coo_array((np.ones(len(edges), np.int8), (products, n + shared_keys)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)
