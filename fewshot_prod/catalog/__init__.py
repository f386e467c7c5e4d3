"""Catalogs: what a shop sells, read from any source into one form.

Example::

    catalog = load_catalog("fashion")                            # $FEWSHOT_PROD_DATA/fashion, else data/fashion
    catalog = load_catalog("table", Path("my.csv"), title_column="name")
    print(summary(catalog))
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewshot_prod.catalog.catalog import Catalog, CatalogError, Problem, Product
from fewshot_prod.catalog.fashion import load_fashion
from fewshot_prod.catalog.grocery import load_grocery
from fewshot_prod.catalog.omniglot import load_omniglot
from fewshot_prod.catalog.summary import summary
from fewshot_prod.catalog.table import load_table
from fewshot_prod.names import unknown_name

__all__ = ["SOURCES", "Catalog", "CatalogError", "Problem", "Product", "data_folder", "load_catalog", "summary"]


def load_synthetic(root: Path | None = None, *, strict: bool = False, **options: Any) -> Catalog:
    """The embedded catalog; see ``fewshot_prod.catalog.synthetic`` (imported here, since rendering needs more)."""
    from fewshot_prod.catalog import synthetic

    _check_options("synthetic", synthetic.load_synthetic, options)
    return synthetic.load_synthetic(**options)


SOURCES: dict[str, Callable[..., Catalog]] = {
    "synthetic": load_synthetic,
    "grocery": load_grocery,
    "fashion": load_fashion,
    "omniglot": load_omniglot,
    "table": load_table,
}


def load_catalog(source: str, root: Path | None = None, *, strict: bool = False, **options: Any) -> Catalog:
    """Read a catalog from one of ``SOURCES``.

    Args:
        source: a key of ``SOURCES``.
        root: the data set's folder (for "table" also the file itself); default ``data_folder(source)``.
        strict: raise at the first bad row instead of leaving bad rows out and reporting them.
        options: of the source's loader.

    Raises:
        CatalogError: if the source or an option is unknown, a ``root`` is given to "synthetic", the data are not
            there, no row is usable, or ``strict`` and a row is bad.
    """
    if source not in SOURCES:
        hint = f"; for a file or folder: load_catalog('table', {source!r})" if Path(source).exists() else ""
        raise CatalogError(unknown_name("catalog source", source, sorted(SOURCES)) + hint)
    if source == "synthetic" and root is not None:
        raise CatalogError(f"root {root}: the synthetic catalog is drawn, not read; for a file or folder: 'table'")
    _check_options(source, SOURCES[source], options)
    return SOURCES[source](data_folder(source) if root is None else Path(root), strict=strict, **options)


def data_folder(source: str) -> Path:
    """``$FEWSHOT_PROD_DATA/NAME`` where the variable is set, else ``data/NAME``."""
    return Path(os.environ.get("FEWSHOT_PROD_DATA") or "data") / source


def _check_options(source: str, loader: Callable[..., Catalog], options: dict[str, Any]) -> None:
    parameters = inspect.signature(loader).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY and p.name not in ("root", "strict")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise CatalogError(f"the catalog source {source!r} has no options {unknown}; it has {known}")
