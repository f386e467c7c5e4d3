"""GroceryStoreDataset: photos taken in shops, with a fine and a coarse label each.

Klasson, Zhang, Kjellström, "A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels", WACV 2019,
https://arxiv.org/abs/1901.00711, published at https://github.com/marcusklasson/GroceryStoreDataset (MIT licence).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fewshot_prod.catalog.catalog import Catalog, CatalogError
from fewshot_prod.catalog.csv_rows import read_csv
from fewshot_prod.catalog.rows import Row, build_catalog

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class GroceryClass:
    """A line of classes.csv. The description belongs to the class, not to a product."""

    name: str
    parent: str
    iconic_image: Path
    description: str


def load_grocery(root: Path, *, strict: bool = False) -> Catalog:
    """Read train.txt, val.txt, test.txt and classes.csv as published.

    The fine label is the category, the coarse one the parent, and the published part (train and test were taken in
    different shops) stands in the column ``split``. There are no titles. ``root`` may be the repository or its
    ``dataset`` folder.

    Raises:
        CatalogError: if the files are not there, or ``strict`` and a row is bad.
    """
    root = _dataset_folder(root)
    classes = {number: (name, parent) for name, number, parent, *_ in _class_lines(root)}
    rows = []
    for split in SPLITS:
        text = (root / f"{split}.txt").read_text(encoding="utf-8-sig", errors="replace")
        for line, content in enumerate(text.splitlines(), start=1):
            if not content.strip():
                continue
            row = Row(f"{split}.txt:{line}", split=split)
            rows.append(row)
            fields = [field.strip() for field in content.split(",")]
            if len(fields) != 3:
                row.reason = f"broken line: {len(fields)} fields where image, fine label and coarse label are expected"
            elif fields[1] not in classes:
                row.reason = f"class unknown: fine label {fields[1]!r} is not in classes.csv"
            else:
                row.product_id = row.image = fields[0]
                row.category, row.parent = classes[fields[1]]
    return build_catalog("grocery", root, rows, strict=strict)


def class_descriptions(root: Path) -> dict[str, GroceryClass]:
    """The iconic picture and the description of every class, by category name.

    Raises:
        CatalogError: if the files are not there.
    """
    root = _dataset_folder(root)
    found = {}
    for name, _, parent, _, iconic, description in _class_lines(root):
        path = root / description.lstrip("/")
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise CatalogError(f"{path}: the description of {name!r} cannot be read: {error.strerror}") from None
        found[name] = GroceryClass(name, parent, root / iconic.lstrip("/"), text)
    return found


def _dataset_folder(root: Path) -> Path:
    for folder in (root / "dataset", root):
        if all((folder / name).is_file() for name in ("classes.csv", *(f"{split}.txt" for split in SPLITS))):
            return folder
    raise CatalogError(
        f"no grocery catalog at {root}: dataset/ with classes.csv, train.txt, val.txt and test.txt is missing. "
        "It is published at https://github.com/marcusklasson/GroceryStoreDataset: clone that repository to this folder"
    )


def _class_lines(root: Path) -> list[list[str]]:
    """Fields of classes.csv in the order name, number, coarse name, coarse number, iconic image, description."""
    expected = ["Class Name", "Class ID", "Coarse Class Name", "Coarse Class ID", "Iconic Image Path"]
    expected.append("Product Description Path")
    header, records = read_csv(root / "classes.csv")
    names = [re.sub(r"\s*\(\w+\)$", "", name) for name in header]  # the header has types in brackets
    if names != expected:
        raise CatalogError(f"{root / 'classes.csv'} has the columns {names}; expected {expected}")
    for line, _, reason in records:
        if reason:
            raise CatalogError(f"{root / 'classes.csv'}:{line}: {reason}")
    return [[field.strip() for field in fields] for _, fields, _ in records]
