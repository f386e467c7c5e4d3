"""The rows of a table: an encoder by its recipe, a method, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.limits import check_option
from fewshot_prod.names import UnknownName
from fewshot_prod.pools import FOUND
from fewshot_prod.prepare import columns_read
from fewshot_prod.recipes import RECIPES
from fewshot_prod.results import ResultsError


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        name: unique in the table.
        recipe: a key of ``RECIPES``.
        method: a key of ``METHODS``.
        options: hyperparameters of the method.
        against: names of earlier rows with which it is compared episode by episode.
        n_ways: the settings' ways that it is measured at; None for all of them.
    """

    name: str
    recipe: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    against: tuple[str, ...] = ()
    n_ways: tuple[int | str, ...] | None = None


def choose_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, in the order of ``rows``; all of them without names.

    Raises:
        UnknownName: if a name is no row's.
    """
    known = [row.name for row in rows]
    for name in names:
        if name not in known:
            raise UnknownName("row", name, known)
    return [row for row in rows if not names or row.name in names]


def check_row(row: Row) -> None:
    """Whether a row can be measured, as far as it can be told before anything is trained for it.

    Raises:
        UnknownName: if there is no such recipe, method or option of that method.
        ResultsError: for words where a number belongs, a number that :func:`check_option` refuses, or what is not
            chosen but found.
    """
    for kind, name, known in (("recipe", row.recipe, RECIPES), ("method", row.method, METHODS)):
        if name not in known:
            raise UnknownName(kind, name, known)
    defaults = {f.name: f.default for f in fields(METHODS[row.method])}
    for name, value in row.options.items():
        if name not in defaults:
            raise UnknownName(f"option of {row.method}", name, defaults)
        if name in FOUND:
            raise ResultsError(
                f"{row.name}: {name} follows from the encoder and the base classes: leave out {name}={value!r}"
            )
        if isinstance(defaults[name], (int, float)) and not isinstance(value, (int, float)):
            raise ResultsError(f"{row.name}: {name} is {value!r}: give a number, as the default {defaults[name]}")
        try:
            check_option(name, value)
        except ValueError as error:
            raise ResultsError(f"{row.name}: {error}") from None


def readable_rows(rows: Sequence[Row], catalog: Catalog, report: Callable[[str], None]) -> list[Row]:
    """The rows whose encoders read what the catalog has: images, titles or both. How many others there are is told.

    Raises:
        CatalogError: if none is left.
    """
    kept = list(rows)
    for column in ("image", "title"):
        if catalog.has([column]).any():
            continue
        kept = [row for row in kept if column not in columns_read(RECIPES[row.recipe])]
        lacking = f"catalog {catalog.name!r} has no {column}s"
        if not kept:
            raise CatalogError(
                f"{lacking}, and all that was to be measured reads {column}s: name their column (--columns.{column}), "
                "or measure what the catalog has (tables 1 and 2 have rows of images and rows of titles)"
            )
        if len(kept) < len(rows):
            report(f"{lacking}: {len(rows) - len(kept)} of {len(rows)} rows, which read {column}s, are left out")
    return kept
