"""A catalog in a few lines, with everything that was left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewshot_prod.catalog.catalog import Catalog, Problem

EXAMPLES = 3  # of each kind of problem


def summary(catalog: Catalog) -> str:
    """Products, categories, what is missing, near-duplicates, class sizes, and the problems by kind.

    Example:
        >>> import pandas as pd
        >>> row = {"product_id": "1", "category": "cup", "parent": None, "title": "Red cup", "image": None, "group": 0}
        >>> catalog = Catalog("table", pd.DataFrame([row | {"split": None}], dtype=object))
        >>> print(summary(catalog))
        catalog table: 1 products in 1 categories (no parents)
          images: 0 (1 missing); titles: 1 (0 missing)
          groups: 1 (0 products are near-duplicates of another)
          category sizes in groups: 1 (cup) to 1 (cup)
          left out: nothing
    """
    frame = catalog.frame
    n = len(catalog)
    parents = frame["parent"].nunique()
    images, titles = int(frame["image"].notna().sum()), int(frame["title"].notna().sum())
    sizes = frame.groupby("category")["group"].nunique().sort_index()
    in_group = np.bincount(np.unique(catalog.groups, return_inverse=True)[1])
    unlabelled = catalog.categories == ("",)
    where = "without categories" if unlabelled else f"in {len(sizes)} categories ({parents or 'no'} parents)"
    lines = [
        f"catalog {catalog.name}: {n:,} products {where}",
        f"  images: {images:,} ({n - images:,} missing); titles: {titles:,} ({n - titles:,} missing)",
        f"  groups: {len(in_group):,} ({in_group[in_group > 1].sum():,} products are near-duplicates of another)",
    ]
    if not unlabelled:
        lines.append(
            f"  category sizes in groups: {sizes.min()} ({sizes.idxmin()}) to {sizes.max()} ({sizes.idxmax()})"
        )
    lines += _by_kind(f"left out: {len(catalog.problems)} of {catalog.rows_read:,} rows", catalog.problems)
    if not catalog.problems:
        lines.append("  left out: nothing")
    lines += _by_kind(f"notes on {len(catalog.notes)} kept rows", catalog.notes)
    return "\n".join(lines)


def _by_kind(heading: str, problems: Sequence[Problem]) -> list[str]:
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.reason.split(":")[0], []).append(problem)
    lines = [f"  {heading}"] if problems else []
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(f"    {len(found)} x {kind}")
        lines += [f"      {p.row}: {p.reason}" for p in found[:EXAMPLES]]
        lines += [f"      ... and {len(found) - EXAMPLES} more"] if len(found) > EXAMPLES else []
    return lines
