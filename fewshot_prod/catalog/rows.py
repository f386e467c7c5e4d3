"""From rows of any source to a Catalog: every row is checked, and a bad one is kept apart with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

import pandas as pd

from fewshot_prod.catalog.catalog import COLUMNS, Catalog, CatalogError, Problem
from fewshot_prod.catalog.groups import near_duplicate_groups
from fewshot_prod.catalog.inspection import Inspected, inspect_images


@dataclass(slots=True)
class Row:
    """One row as read, before and after checking.

    Args:
        place: where it stands: ``items.csv:17`` (a line of the file, counted from 1), or a picture's path.
        reason: why the row is left out, None as long as it is good.
        note: what is worth knowing about a row that is kept.
        extra: other columns of the source.
    """

    place: str
    product_id: str = ""
    category: str | None = None
    parent: str | None = None
    title: str | None = None
    image: str | None = None
    group: str | None = None
    split: str | None = None
    reason: str | None = None
    note: str | None = None
    extra: dict[str, str | None] = field(default_factory=dict)


def build_catalog(
    name: str,
    root: Path,
    rows: Sequence[Row],
    *,
    strict: bool,
    labelled: bool = True,
    source: Path | None = None,
) -> Catalog:
    """Check the rows, look at their pictures, join near-duplicates.

    Args:
        name: the source's name.
        root: folder that the rows' images are relative to.
        rows: in the order of the source; those with a ``reason`` are bad already.
        strict: raise at the first bad row instead of leaving bad rows out.
        labelled: False accepts rows without a category; their category is then the empty string. One whose picture
            cannot be used keeps its title.
        source: the file of the rows, for messages; None: ``root``.

    Raises:
        CatalogError: if no row is good, or ``strict`` and one is bad.
    """
    for row in rows:
        row.reason = row.reason or _missing_text(row, labelled)
    inspected = _look_at_pictures(root, rows, titles_will_do=not labelled and not strict)
    _refuse_repeated_ids(rows)
    problems = tuple(Problem(row.place, row.reason) for row in rows if row.reason)
    if problems and strict:
        others = f" ({len(problems) - 1} more bad rows; without strict they are left out)" if len(problems) > 1 else ""
        raise CatalogError(f"{problems[0].row}: {problems[0].reason}{others}")
    kept = [row for row in rows if not row.reason]
    if not kept:
        first = f"; the first of {len(problems)} problems: {problems[0].row}: {problems[0].reason}" if problems else ""
        where = f" (image paths count from {root.resolve()})" if "image missing" in first else ""
        raise CatalogError(f"{source or root} has no usable row{first}{where}")
    notes = [Problem(row.place, row.note) for row in kept if row.note]
    notes += _settle_parents(kept) + _alike(kept)
    emptied = sorted({row.category for row in rows if row.category} - {row.category for row in kept})
    return Catalog(name, _frame(kept, inspected), root, None, problems, len(rows), tuple(notes), tuple(emptied))


def _missing_text(row: Row, labelled: bool) -> str | None:
    if labelled and not row.category:
        return "category empty: the row has no label"
    if not row.title and not row.image:
        return "nothing to see: neither a title nor an image"
    return None


def _look_at_pictures(root: Path, rows: Sequence[Row], *, titles_will_do: bool) -> dict[str, Inspected]:
    looked_at = [row for row in rows if not row.reason and row.image]
    names = [row.image for row in looked_at]
    found = inspect_images(root, names)
    for row, picture in zip(looked_at, found, strict=True):
        if picture.reason and row.title and titles_will_do:
            row.image, row.note = None, f"{picture.reason}; the row keeps its title"
        else:
            row.reason = picture.reason
    return dict(zip(names, found, strict=True))


def _refuse_repeated_ids(rows: Sequence[Row]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if not row.reason and first.setdefault(row.product_id, row.place) != row.place:
            row.reason = f"id repeated: {row.product_id!r} stands at {first[row.product_id]} already"


def _settle_parents(rows: Sequence[Row]) -> list[Problem]:
    """Give every category one parent, the most frequent: splits that hold out parents need a tree."""
    counts: dict[str, Counter] = {}
    for row in rows:
        if row.category and row.parent:
            counts.setdefault(row.category, Counter())[row.parent] += 1
    settled = {name: min(found, key=lambda p: (-found[p], p)) for name, found in counts.items()}
    notes = []
    for row in rows:
        parent = settled.get(row.category, row.parent)
        if row.parent and row.parent != parent:
            notes.append(
                Problem(row.place, f"parent changed: {row.parent!r} to {parent!r}, as most of {row.category!r}")
            )
        row.parent = parent
    return notes


def _alike(rows: Sequence[Row]) -> list[Problem]:
    """A note for each category that another, larger one differs from only in case or width."""
    counts = Counter(row.category for row in rows if row.category)
    first = {row.category: row.place for row in reversed(rows)}
    spelled: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda n: (-counts[n], n)):
        spelled.setdefault(" ".join(normalize("NFKC", name).casefold().split()), []).append(name)
    return [
        Problem(
            first[other],
            f"category written like another: {other!r} ({counts[other]} products), {names[0]!r}; they count as two "
            "categories: if they are one, write them alike",
        )
        for names in spelled.values()
        for other in names[1:]
    ]


def _frame(rows: Sequence[Row], inspected: dict[str, Inspected]) -> pd.DataFrame:
    digests = [inspected[row.image].digest if row.image else None for row in rows]
    groups = near_duplicate_groups(
        [row.category for row in rows], [row.title for row in rows], digests, [row.group for row in rows]
    )
    columns = {name: [getattr(row, name) or None for row in rows] for name in COLUMNS}
    columns["category"] = [row.category or "" for row in rows]
    columns["pixel_digest"] = digests
    for name in dict.fromkeys(key for row in rows for key in row.extra):
        columns[name] = [row.extra.get(name) for row in rows]
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    frame["group"] = groups
    return frame
