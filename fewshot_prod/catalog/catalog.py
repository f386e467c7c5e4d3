"""The Catalog that every source returns: one row a product, and the problems met while reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("product_id", "category", "parent", "title", "image", "group", "split")
HELD_OUT = "held_out"  # a further column, bool: products that no encoder may be trained on


class CatalogError(ValueError):
    """A catalog cannot be read, or (strict) one of its rows is bad. The message names value and remedy."""


@dataclass(frozen=True)
class Product:
    """One product. ``image`` is a path or, in a rendered catalog, a row of its pixel array."""

    product_id: str
    category: str
    parent: str | None
    title: str | None
    image: Path | int | None
    group: int
    split: str | None


@dataclass(frozen=True)
class Problem:
    """A row that was left out: where it stands (file and line, or path) and why.

    The reason's words before its first colon say which kind of problem it is.
    """

    row: str
    reason: str


@dataclass(frozen=True)
class Catalog:
    """Products of one shop.

    Args:
        name: the source's name, as it stands in records.
        frame: one row a product with the columns ``COLUMNS``; ids are unique, a missing title, image, parent
            or split is None, ``group`` is an int64 that near-duplicates share. Other columns are kept.
        root: folder to which ``image`` is relative, or None for a rendered catalog.
        pixels: uint8 (N_images, H, W, 3), the images of a rendered catalog; ``image`` is then a row of it.
        problems: the rows that were left out.
        rows_read: rows met in the source, bad ones included.
        notes: rows that were kept and are worth a look, in the form of problems.
        emptied: categories all of whose rows were left out.
    """

    name: str
    frame: pd.DataFrame
    root: Path | None = None
    pixels: np.ndarray | None = None
    problems: Sequence[Problem] = field(default_factory=tuple)
    rows_read: int = 0
    notes: Sequence[Problem] = field(default_factory=tuple)
    emptied: Sequence[str] = ()

    def __post_init__(self) -> None:
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise CatalogError(f"catalog {self.name!r} lacks the columns {missing}; it has {list(self.frame.columns)}")
        repeated = self.frame["product_id"][self.frame["product_id"].duplicated()]
        if len(repeated):
            raise CatalogError(f"catalog {self.name!r} repeats product_id {repeated.iloc[0]!r}; ids must be unique")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: int) -> Product:
        row = self.frame.iloc[index]
        image = row["image"]
        if image is not None and self.pixels is None:
            image = (self.root or Path()) / image
        return Product(
            row["product_id"], row["category"], row["parent"], row["title"], image, int(row["group"]), row["split"]
        )

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Category names in sorted order; position = value in ``category_ids``."""
        return tuple(sorted(self.frame["category"].unique()))

    @cached_property
    def category_ids(self) -> np.ndarray:
        """int64 (N,): each product's position in ``categories``."""
        position = {name: i for i, name in enumerate(self.categories)}
        return self.frame["category"].map(position).to_numpy(np.int64)

    @property
    def groups(self) -> np.ndarray:
        """int64 (N,): near-duplicates share a number."""
        return self.frame["group"].to_numpy(np.int64)

    @property
    def titles(self) -> list[str | None]:
        return self.frame["title"].tolist()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over ids, categories, titles, groups and the images' pixel digests or names."""
        digest = hashlib.sha256(self.name.encode())
        columns = [c for c in (*COLUMNS, "pixel_digest", HELD_OUT) if c in self.frame.columns]
        digest.update(
            pd.util.hash_pandas_object(self.frame[columns].astype("string"), index=False).to_numpy().tobytes()
        )
        if self.pixels is not None:
            grey = self.pixels.strides[-1] == 0  # one channel in memory, shown three times
            digest.update(np.ascontiguousarray(self.pixels[..., :1] if grey else self.pixels).data)
        return digest.hexdigest()[:16]

    def take(self, keep: np.ndarray) -> Catalog:
        """The catalog of the products that ``keep`` (bool mask or positions) selects, problems included."""
        rows = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else keep
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def has(self, columns: Sequence[str]) -> np.ndarray:
        """bool (N,): which products have something in any of these columns."""
        return self.frame[list(columns)].notna().any(axis=1).to_numpy(bool)

    def leave_out(self, rows: np.ndarray, reason: str) -> Catalog:
        """The catalog without the products that ``rows`` (bool (N,)) marks, which join its problems."""
        kept = self.take(~rows)
        problems = [Problem(f"product {name}", reason) for name in self.frame["product_id"][rows]]
        emptied = sorted(set(self.categories) - set(kept.categories))
        return replace(kept, problems=(*self.problems, *problems), emptied=(*self.emptied, *emptied))

    def take_categories(self, names: Sequence[str]) -> Catalog:
        """The catalog of the products whose category is in ``names``.

        Raises:
            CatalogError: if a name is not a category of this catalog.
        """
        unknown = sorted(set(names) - set(self.categories))
        if unknown:
            raise CatalogError(f"catalog {self.name!r} has no categories {unknown[:5]}; check the split file's names")
        return self.take(self.frame["category"].isin(set(names)).to_numpy())

    def take_evenly(self, most: int) -> Catalog:
        """At most ``most`` products, evenly spaced over the rows."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64)))

    def take_groups(self, n: int) -> Catalog:
        """The first ``n`` groups of near-duplicates of each category, for quick runs."""
        rank = self.frame.groupby("category")["group"].transform(lambda groups: groups.factorize()[0])
        return self.take(rank.to_numpy() < n)
