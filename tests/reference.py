"""Slow versions to compare with: loops straight from the definitions. Nothing here imports the package."""

from __future__ import annotations

import unicodedata

# Catalog ------------------------------------------------------------------------------------------------------------


def near_duplicate_groups_by_search(categories, titles, digests, given) -> list[int]:
    """Grow each group from its first product until no product outside it has a duplicate inside."""

    def normal(title):
        return " ".join(unicodedata.normalize("NFKC", title).casefold().split())

    def joined(i, j):
        same_title = titles[i] and titles[j] and normal(titles[i]) == normal(titles[j])
        return (
            (same_title and categories[i] == categories[j])
            or (digests[i] is not None and digests[i] == digests[j])
            or (given[i] is not None and given[i] == given[j])
        )

    group = [-1] * len(categories)
    for first in range(len(categories)):
        if group[first] >= 0:
            continue
        group[first] = number = max(group) + 1
        grown = True
        while grown:
            inside = [i for i in range(len(group)) if group[i] == number]
            outside = [j for j in range(len(group)) if group[j] < 0 and any(joined(i, j) for i in inside)]
            for j in outside:
                group[j] = number
            grown = bool(outside)
    return group
