"""Omniglot in miniature: zips and folders alike, bright strokes, rotations as classes."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.catalog.images import image_array
from fewshot_prod.splits import Split, with_rotations

CHARACTERS = {
    "images_background": ("Greek/character01", "Greek/character02"),
    "images_evaluation": ("Angelic/character01",),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Black lines on white, one bit a pixel, as published; the stroke of drawing i of character c ends at (20 c, i)."""
    for part, names in CHARACTERS.items():
        for c, name in enumerate(names, start=0 if part == "images_background" else 2):
            for i in range(3):
                image = Image.new("1", (105, 105), 1)
                ImageDraw.Draw(image).line((5, 5, 30 + 20 * c, 60 + 10 * i), fill=0, width=3)
                path = tmp_path / "data" / part / name / f"{c:04d}_{i + 1:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return tmp_path / "data"


def zipped(folder: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for part in CHARACTERS:
        with ZipFile(target / f"{part}.zip", "w") as archive:
            for path in sorted((folder / part).rglob("*")):
                archive.write(path, path.relative_to(folder))
    return target


def test_folders_zips_and_torchvisions_layout_give_the_same(folder, tmp_path):
    catalog = load_catalog("omniglot", folder)
    before = sorted(path.name for path in folder.rglob("*"))
    for root in (zipped(folder, tmp_path / "zips"), zipped(folder, tmp_path / "tv" / "omniglot-py").parent):
        other = load_catalog("omniglot", root)
        assert other.fingerprint == catalog.fingerprint
        assert np.array_equal(other.pixels, catalog.pixels)
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert catalog.categories == ("Angelic/character01", "Greek/character01", "Greek/character02")
    product = catalog[0]
    assert product.product_id == "Greek/character01/0000_01" and product.parent == "Greek" and product.title is None
    assert catalog.frame["split"].tolist() == ["background"] * 6 + ["evaluation"] * 3
    assert len(set(catalog.groups[:6])) == 6


def test_strokes_are_bright_and_antialiased_in_three_equal_channels(folder):
    catalog = load_catalog("omniglot", folder)
    assert catalog.pixels.shape == (9, 28, 28, 3) and catalog.pixels.dtype == np.uint8
    assert (catalog.pixels[..., :1] == catalog.pixels).all()
    first = catalog.pixels[0, :, :, 0]
    assert np.median(first) == 0 and first[1:17, 1:9].max() > 150 and first[20:].max() == 0
    assert len(np.unique(first)) > 10


def test_rotations_are_further_classes_of_the_same_drawings(folder):
    plain, turned = load_catalog("omniglot", folder), load_catalog("omniglot", folder, rotations=True)
    assert len(turned) == 4 * len(plain) and len(turned.categories) == 12
    assert turned.frame["product_id"].is_unique
    assert turned.frame.groupby("category")["parent"].nunique().eq(1).all()
    for k, degrees in enumerate((90, 180, 270), start=1):
        part = turned.take_categories([f"Greek/character02/rot{degrees:03d}"])
        expected = np.rot90(plain.pixels[3:6], k, (1, 2))
        assert np.array_equal(image_array(part, (28, 28)), expected)
    assert image_array(part, (14, 14)).shape == (3, 14, 14, 3)


def test_equal_drawings_share_a_group_across_rotations(folder):
    black = Image.new("1", (105, 105), 0)  # the same from all sides
    black.save(folder / "images_evaluation" / "Angelic" / "character01" / "0002_01.png")
    turned = load_catalog("omniglot", folder, rotations=True)
    groups = turned.frame.set_index("product_id")["group"]
    assert groups[[name for name in groups.index if "Angelic" in name and "_01" in name]].nunique() == 1
    assert groups.nunique() == 4 * 9 - 3


def test_a_damaged_drawing_is_left_out_and_told(folder):
    damaged = folder / "images_background" / "Greek" / "character01" / "0000_02.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    catalog = load_catalog("omniglot", folder)
    assert (len(catalog), catalog.rows_read) == (8, 9)
    (problem,) = catalog.problems
    assert problem.row == "images_background/Greek/character01/0000_02.png"
    assert problem.reason.startswith("image unreadable: ")
    with pytest.raises(CatalogError, match=r"0000_02\.png: image unreadable"):
        load_catalog("omniglot", folder, strict=True)


def test_a_missing_half_is_told(folder):
    for path in sorted((folder / "images_evaluation").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "images_evaluation").rmdir()
    with pytest.raises(CatalogError, match=r"images_evaluation, as folders or .zip files, are missing.*download=True"):
        load_catalog("omniglot", folder)


def test_rotations_of_a_split_stay_on_the_character_s_side(folder):
    catalog = load_catalog("omniglot", folder, rotations=True)
    split = Split("s", "omniglot", "character", "by hand", ("Greek/character01",), ("Greek/character02",),
                  ("Angelic/character01",))  # fmt: skip
    rotated = with_rotations(split)
    assert [len(rotated.select(catalog, part)) for part in ("base", "validation", "novel")] == [12, 12, 12]
    assert rotated.unnamed_categories(catalog) == () and rotated.fingerprint != split.fingerprint
    assert rotated.base == ("Greek/character01", *(f"Greek/character01/rot{d}" for d in ("090", "180", "270")))
