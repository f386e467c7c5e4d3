"""The published data sets, where they are: exact counts and their known quirks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fewshot_prod.catalog import Catalog, load_catalog
from fewshot_prod.catalog.class_words import class_word_masker
from fewshot_prod.catalog.grocery import class_descriptions
from fewshot_prod.catalog.images import image_array
from fewshot_prod.splits import read_split

DATA = os.environ.get("FEWSHOT_PROD_DATA")
WITHOUT_PICTURE = {"39403", "39410", "39401", "39425", "12347"}
TITLE_NA = {"42878", "30991", "45687", "42863", "45698", "30992", "43119"}


def load(name: str) -> Catalog:
    if not DATA or not (Path(DATA) / name).is_dir():
        pytest.skip(f"needs the data set {name} in $FEWSHOT_PROD_DATA (now {DATA!r}); see data/README.md")
    return load_catalog(name)


@pytest.fixture(scope="module")
def fashion() -> Catalog:
    return load("fashion")


@pytest.fixture(scope="module")
def grocery() -> Catalog:
    return load("grocery")


def test_fashion_counts(fashion):
    frame = fashion.frame
    assert (len(fashion), fashion.rows_read, len(fashion.problems)) == (18_740, 18_740, 0)
    assert (len(fashion.categories), frame["parent"].nunique(), frame["department"].nunique()) == (143, 42, 7)
    assert set(frame["product_id"][frame["image"].isna()]) == WITHOUT_PICTURE
    assert set(frame["product_id"][frame["title"].isna()]) == TITLE_NA
    assert not {"Perfumes", "Skin"} & set(frame["parent"])
    assert frame["category"].value_counts().max() == 405 and frame["category"].value_counts().min() == 1


def test_fashion_near_duplicates(fashion):
    frame = fashion.frame
    assert frame["group"].nunique() == 14_295
    same_pixels = frame[frame["pixel_digest"].duplicated(keep=False) & frame["pixel_digest"].notna()]
    assert len(same_pixels) == 260
    across = same_pixels.groupby("pixel_digest")["category"].nunique()
    assert (across > 1).sum() == 2
    assert (same_pixels.groupby("pixel_digest")["group"].nunique() == 1).all()
    titled = frame[frame["title"].notna()]
    assert (titled.groupby(["category", "title"])["group"].nunique() == 1).all()


def test_fashion_splits(fashion):
    for name in ("fashion_random", "fashion_tail"):
        split = read_split(name)
        sizes = [len(split.select(fashion, part).categories) for part in ("base", "validation", "novel")]
        assert sizes == [45, 12, 24]
        assert len(split.unnamed_categories(fashion)) == 143 - 81
        assert "Gloves" in split.unnamed_categories(fashion)


def test_near_duplicates_on_both_sides_of_a_split_are_as_many_as_the_readme_says(fashion, grocery):
    for name, expected in {"fashion_random": {"novel": (15, 3)}, "fashion_tail": {"validation": (15, 3)}}.items():
        split = read_split(name)
        found = {part: split.near_duplicates(fashion, part) for part in ("validation", "novel")}
        counts = {part: tuple(int(side.sum()) for side in sides) for part, sides in found.items()}
        assert counts == {"validation": (0, 0), "novel": (0, 0)} | expected
        ((base, other),) = (found[part] for part in expected)
        assert len(set(fashion.groups[base])) == 2 and set(fashion.frame["category"][other]) == {"Free Gifts"}
    for part in ("validation", "novel"):
        assert not np.any(read_split("grocery_parent").near_duplicates(grocery, part))


def test_what_masked_titles_still_say_is_as_much_as_the_readme_says(fashion):
    novel = read_split("fashion_random").select(fashion, "novel")
    mask = class_word_masker(fashion.categories)
    frame = novel.frame.assign(masked=[title and mask(title) for title in novel.titles])
    deodorants = frame["masked"][frame["category"] == "Deodorant"]
    assert round(100 * deodorants.str.contains("deo").mean()) == 97
    titled = frame[frame["masked"].fillna("") != ""]
    of_another = titled.groupby(["category", "masked"])["group"].transform("nunique") > 1
    assert (len(frame), of_another.sum()) == (5386, 216)


def test_grocery_counts(grocery):
    frame = grocery.frame
    assert (len(grocery), len(grocery.problems), len(grocery.categories)) == (5_421, 0, 81)
    # The paper counts 42 coarse classes; classes.csv numbers 43 of them, 0 to 42.
    assert frame["parent"].nunique() == 43
    assert frame["split"].value_counts().to_dict() == {"train": 2_640, "test": 2_485, "val": 296}
    assert frame[frame["split"] == "val"]["category"].nunique() == 60
    assert (frame["category"].value_counts().min(), frame["category"].value_counts().max()) == (35, 143)
    assert frame["title"].isna().all() and frame["image"].notna().all()


def test_grocery_split_and_descriptions(grocery):
    split = read_split("grocery_parent")
    split.check_parents(grocery)
    assert [len(split.select(grocery, part)) for part in ("base", "validation", "novel")] == [3_138, 765, 1_518]
    assert split.unnamed_categories(grocery) == ()
    about = class_descriptions(grocery.root)
    assert sorted(about) == sorted(grocery.categories)
    assert all(found.description and found.iconic_image.is_file() for found in about.values())


def test_pictures_of_a_real_class(grocery):
    some = grocery.take_categories(["Kiwi"])
    array = image_array(some, (32, 32))
    assert array.shape == (len(some), 32, 32, 3)
    assert array.std(axis=(1, 2, 3)).min() > 10
    red, green, blue = array.reshape(-1, 3).mean(0)
    assert green > blue and red > blue  # kiwis, and the crates under them, are no blue things


def test_omniglot_counts_and_splits():
    catalog = load("omniglot")
    frame = catalog.frame
    assert (len(catalog), catalog.rows_read, len(catalog.problems)) == (32_460, 32_460, 0)
    assert (len(catalog.categories), frame["parent"].nunique()) == (1_623, 50)
    assert frame.groupby("split")["category"].nunique().to_dict() == {"background": 964, "evaluation": 659}
    assert (frame["category"].value_counts() == 20).all()
    twice = frame[frame["group"].duplicated(keep=False)]
    assert twice["category"].tolist() == ["Braille/character01"] * 2  # the only drawings that are equal to the pixel
    ink = catalog.pixels[:, :, :, 0].mean()
    assert 15 < ink < 30  # strokes are bright and thin
    for name, sizes in (("omniglot_vinyals", (1_028, 172, 423)), ("omniglot_official", (815, 149, 659))):
        split = read_split(name)
        assert tuple(len(getattr(split, part)) for part in ("base", "validation", "novel")) == sizes
        assert split.unnamed_categories(catalog) == ()
        split.check_parents(catalog)
    evaluation = set(frame["category"][frame["split"] == "evaluation"])
    assert set(read_split("omniglot_official").novel) == evaluation
