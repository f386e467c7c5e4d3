"""Any table of products (being written)."""

from __future__ import annotations

from pathlib import Path

from fewshot_prod.catalog.catalog import Catalog, CatalogError


def load_table(root: Path, *, strict: bool = False) -> Catalog:
    """Not there yet."""
    raise CatalogError("the source 'table' is not written yet")
