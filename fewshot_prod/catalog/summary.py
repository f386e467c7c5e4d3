"""A catalog in a few lines, with everything that was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fewshot_prod.catalog.catalog import COLUMNS, Catalog, Problem
from fewshot_prod.catalog.class_words import naming_rate


def summary(catalog: Catalog, examples: int | None = 3) -> str:
    """Products, categories, what is missing, near-duplicates, class sizes, named categories, the problems by kind.

    Args:
        examples: rows told of each kind of problem; None: all.

    Example:
        >>> import pandas as pd
        >>> row = {"product_id": "1", "category": "cup", "parent": None, "title": "Red cup", "image": None, "group": 0}
        >>> catalog = Catalog("table", pd.DataFrame([row | {"split": None}], dtype=object))
        >>> print(summary(catalog))
        catalog table: 1 products in 1 categories (no parents)
          images: 0 (1 missing); titles: 1 (0 missing)
          groups: 1 (0 products are near-duplicates of another)
          category sizes in groups: 1 (cup) to 1 (cup)
          titles that name their category: 100 % letter by letter, 100 % as the masking counts (singular,
          plural, hyphenated)
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
    others = [name for name in frame.columns if name not in (*COLUMNS, "pixel_digest")]
    for column, found in (("image", images), ("title", titles)):
        if catalog.name == "table" and not found and others:
            lines.append(f"  no {column} column found; not used: {', '.join(others)} (--columns.{column} names one)")
    if not unlabelled:
        lines.append(
            f"  category sizes in groups: {sizes.min()} ({sizes.idxmin()}) to {sizes.max()} ({sizes.idxmax()})"
        )
    if titles and not unlabelled:
        named = frame[frame["title"].notna()]
        letters = [c.casefold() in t.casefold() for c, t in zip(named["category"], named["title"], strict=True)]
        lines.append(
            f"  titles that name their category: {100 * np.mean(letters):.0f} % letter by letter, "
            f"{100 * naming_rate(named['title'], named['category']):.0f} % as the masking counts "
            "(singular, plural, hyphenated)"
        )
    if catalog.emptied:
        lines.append(f"  categories without a usable row: {', '.join(catalog.emptied)}")
    lines += _by_kind(f"left out: {len(catalog.problems)} of {catalog.rows_read:,} rows", catalog.problems, examples)
    if not catalog.problems:
        lines.append("  left out: nothing")
    lines += _by_kind(f"notes on {len(catalog.notes)} kept rows", catalog.notes, examples)
    return "\n".join(lines)


def problems_table(catalogs: Mapping[str, Catalog]) -> pd.DataFrame:
    """Every problem and note of these catalogs, by their names: the columns table, row, left_out and reason."""
    told = [
        (name, problem.row, left_out, problem.reason)
        for name, catalog in catalogs.items()
        for left_out, problems in (("yes", catalog.problems), ("no", catalog.notes))
        for problem in problems
    ]
    return pd.DataFrame(told, columns=["table", "row", "left_out", "reason"])


def _by_kind(heading: str, problems: Sequence[Problem], examples: int | None) -> list[str]:
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.reason.split(":")[0], []).append(problem)
    lines = [f"  {heading}"] if problems else []
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(f"    {len(found)} x {kind}")
        told = found[:examples]
        lines += [f"      {p.row}: {p.reason}" for p in told]
        lines += [f"      ... and {len(found) - len(told)} more"] if len(found) > len(told) else []
    return lines
