"""Fashion Product Images (Small): catalogue pictures of 80x60 pixels with titles.

Published by Param Aggarwal, https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-small
(pictures and texts come from the Myntra catalogue; research use only).
"""

from __future__ import annotations

import os
from pathlib import Path

from fewshot_prod.catalog.catalog import Catalog, CatalogError
from fewshot_prod.catalog.csv_rows import read_csv
from fewshot_prod.catalog.rows import Row, build_catalog

PARENT_SPELLINGS = {"Perfumes": "Fragrance", "Skin": "Skin Care"}  # published under two names each
EXTRA = {"department": "masterCategory", "sub_category": "subCategory", "gender": "gender", "colour": "baseColour"}
EXTRA |= {"season": "season", "usage": "usage"}
COLUMNS = ("id", "articleType", "productDisplayName", *EXTRA.values())


def load_fashion(root: Path, *, strict: bool = False) -> Catalog:
    """Read ``styles.csv`` and ``images/{id}.jpg`` as published.

    articleType is the category, subCategory the parent (two parents with two spellings each are merged, and a
    category filed under several parents gets its most frequent one; the column ``sub_category`` keeps what was
    published), productDisplayName the title; the further columns of ``EXTRA`` are kept. ``NA`` means missing. A product
    whose picture was never published keeps its title, with a note; a picture that is there and cannot be decoded is a
    problem.

    Raises:
        CatalogError: if the files are not there, or ``strict`` and a row is bad.
    """
    table = root / "styles.csv"
    if not table.is_file():
        raise CatalogError(
            f"no fashion catalog at {root}: styles.csv is missing. Download Fashion Product Images (Small) from "
            "https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-small and lay it out as "
            "styles.csv and images/ID.jpg"
        )
    header, records = read_csv(table)
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise CatalogError(f"{table} lacks the columns {absent}; it has {header}")
    pictures = set(os.listdir(root / "images")) if (root / "images").is_dir() else set()
    rows = []
    for line, fields, reason in records:
        row = Row(f"{table.name}:{line}", reason=reason)
        rows.append(row)
        if reason:
            continue
        cells = dict(zip(header, (field.strip() for field in fields), strict=True))
        row.product_id = cells["id"]
        row.category = cells["articleType"]
        row.parent = PARENT_SPELLINGS.get(cells["subCategory"], cells["subCategory"])
        cells = {column: None if cell in ("", "NA") else cell for column, cell in cells.items()}
        row.title = cells["productDisplayName"]
        row.extra = {name: cells[column] for name, column in EXTRA.items()}
        if f"{cells['id']}.jpg" in pictures:
            row.image = f"images/{cells['id']}.jpg"
        else:
            row.note = f"picture not published: images/{cells['id']}.jpg; the row keeps its title"
    return build_catalog("fashion", root, rows, strict=strict)
