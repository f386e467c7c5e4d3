"""Base, validation and novel categories."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewshot_prod.catalog import Catalog, CatalogError, load_catalog
from fewshot_prod.splits import (
    Split,
    category_groups,
    default_split,
    parent_split,
    pretraining_split,
    random_split,
    read_split,
    tail_split,
    write_split,
)

FOLDER = Path(__file__).parents[1] / "data" / "splits"


def make_catalog(n_categories: int = 20, per_parent: int = 2) -> Catalog:
    """Category i has i + 1 groups of two products each, and the parent i // per_parent."""
    rows = []
    for i in range(n_categories):
        for group in range(i + 1):
            for _ in range(2):
                row = {"product_id": str(len(rows)), "category": f"c{i:02}", "parent": f"p{i // per_parent:02}"}
                rows.append(row | {"title": None, "image": None, "group": 1000 * i + group, "split": None})
    return Catalog("shop", pd.DataFrame(rows, dtype=object).astype({"group": np.int64}))


def make_split(**changes) -> Split:
    fields = {"name": "s", "catalog": "shop", "level": "category", "rule": "by hand"}
    return Split(**fields | {"base": ("c00", "c01"), "validation": ("c02",), "novel": ("c04", "c05")} | changes)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_splits_are_read_by_name_and_by_path(path, monkeypatch, tmp_path):
    by_path = read_split(path)
    monkeypatch.chdir(tmp_path)  # by name from anywhere
    assert read_split(path.stem) == by_path
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {part: list(getattr(by_path, part)) for part in ("base", "validation", "novel")} == {
        part: content[part] for part in ("base", "validation", "novel")
    }


def test_at_least_the_shared_splits_are_shipped():
    shipped = {path.stem for path in FOLDER.glob("*.json")}
    assert shipped >= {"fashion_random", "fashion_tail", "grocery_parent", "omniglot_vinyals", "omniglot_official"}


def test_written_splits_are_read_back(tmp_path):
    split = make_split(novel=("杯子", "cup"))
    write_split(split, tmp_path / "new" / "s.json")
    assert read_split(tmp_path / "new" / "s.json") == split
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"novel": ("c04", "c01")}, "the category 'c01' stands in both base and novel"),
        ({"validation": ("c02", "c02")}, "the category 'c02' stands twice in validation"),
        ({"base": ()}, "has no base categories"),
    ],
)
def test_a_split_that_is_none(changes, message):
    with pytest.raises(ValueError, match=message):
        make_split(**changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a split"),
        ("[]", "cannot be read as a split"),
        ('{"catalog": "shop", "base": ["a"]}', "a split needs the key 'validation'"),
        ('{"catalog": "", "level": "", "rule": "", "base": [1], "validation": [], "novel": ["b"]}', "is not text"),
    ],
)
def test_a_file_that_is_no_split(tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(CatalogError, match=rf"bad\.json.*{message}"):
        read_split(tmp_path / "bad.json")


def test_unknown_names_list_what_there_is():
    with pytest.raises(CatalogError, match=r"no split 'fashon'.*fashion_random, fashion_tail, grocery_parent"):
        read_split("fashon")


def test_select_and_what_takes_no_part():
    catalog, split = make_catalog(6), make_split()
    novel = split.select(catalog, "novel")
    assert novel.categories == ("c04", "c05") and len(novel) == 2 * (5 + 6)
    assert split.unnamed_categories(catalog) == ("c03",)
    with pytest.raises(ValueError, match="part='train' is not one of base, validation, novel"):
        split.select(catalog, "train")
    with pytest.raises(CatalogError, match=r"has no categories \['c77'\]"):
        make_split(novel=("c77",)).select(catalog, "novel")


@pytest.mark.parametrize("part", ["base", "validation", "novel"])
def test_a_name_that_the_catalog_has_not_is_told_with_its_part(part):
    catalog = replace(make_catalog(6), emptied=("gone",))
    make_split().check_names(catalog)
    wrong = make_split(**{part: (*getattr(make_split(), part), "ghost", "gone")})
    named = rf"2 {part} categories of split 's' are not in catalog 'shop': ghost, gone \(all rows of gone were left"
    with pytest.raises(CatalogError, match=named):
        wrong.check_names(catalog)


def test_an_installed_package_says_where_the_splits_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fewshot_prod.splits.FOLDERS", (Path("data/splits"), tmp_path / "site-packages/data/splits"))
    with pytest.raises(CatalogError, match=r"'fashion_random': .* comes with the repository.* run this in a clone"):
        read_split("fashion_random")


def test_parents_are_disjoint_where_the_split_says_so(tmp_path):
    catalog = make_catalog(6)  # parents: p00 = c00, c01; p01 = c02, c03; p02 = c04, c05
    shared = {"base": ("c00",), "validation": ("c01",), "novel": ("c04",)}
    assert len(make_split(**shared).select(catalog, "base"))
    message = "'p00' has categories in both base and validation"
    with pytest.raises(ValueError, match=message):
        make_split(**shared, holds_out_parents=True).select(catalog, "novel")
    whole = make_split(holds_out_parents=True)
    assert len(whole.select(catalog, "novel"))
    assert len(make_split(**shared, rule="parents may be shared").select(catalog, "novel"))
    write_split(whole, tmp_path / "s.json")
    assert read_split(tmp_path / "s.json") == whole
    (tmp_path / "s.json").write_text((tmp_path / "s.json").read_text().replace("true", '"yes"'))
    with pytest.raises(CatalogError, match="holds_out_parents is 'yes': give true or false"):
        read_split(tmp_path / "s.json")
    (tmp_path / "s.json").write_text(json.dumps({"catalog": "c", "level": "l", "rule": "r", "novel": "chairs"}))
    with pytest.raises(CatalogError, match="needs the key 'base'"):
        read_split(tmp_path / "s.json")
    names = {"base": ["a"], "validation": [], "novel": "chairs"}
    (tmp_path / "s.json").write_text(json.dumps({"catalog": "c", "level": "l", "rule": "r", **names}))
    with pytest.raises(CatalogError, match="novel is 'chairs': give a list of category names"):
        read_split(tmp_path / "s.json")


def test_the_fingerprint_is_of_names_alone():
    split = make_split()
    assert make_split(base=("c01", "c00"), rule="other words", name="t").fingerprint == split.fingerprint
    assert make_split(base=("c00", "c03")).fingerprint != split.fingerprint
    assert make_split(base=("c00",), validation=("c01", "c02")).fingerprint != split.fingerprint
    assert make_split(catalog="other").fingerprint != split.fingerprint


@pytest.mark.parametrize("make", [random_split, tail_split, parent_split])
def test_made_splits_are_disjoint_large_enough_and_repeatable(make):
    catalog = make_catalog()
    split = make(catalog, 3, 4, 2, min_groups=5)
    assert (len(split.novel), len(split.validation), len(split.base)) == (4, 2, 10)
    names = {*split.base, *split.validation, *split.novel}
    assert names == {f"c{i:02}" for i in range(4, 20)}  # category i has i + 1 groups
    assert split.unnamed_categories(catalog) == ("c00", "c01", "c02", "c03")
    assert make(catalog, 3, 4, 2, min_groups=5) == split


def test_other_seeds_deal_otherwise():
    catalog = make_catalog()
    for make in (random_split, parent_split):
        assert len({make(catalog, seed, 4, 2, 5).fingerprint for seed in range(5)}) > 3


def test_the_tail_is_novel():
    split = tail_split(make_catalog(), 0, 4, 2, min_groups=5)
    assert split.novel == ("c04", "c05", "c06", "c07") and split.validation == ("c08", "c09")


def test_whole_parents_are_held_out():
    catalog = make_catalog(21, per_parent=3)
    for seed in range(5):
        split = parent_split(catalog, seed, 6, 3, min_groups=1)
        split.check_parents(catalog)
        parents = [{int(name[1:]) // 3 for name in getattr(split, part)} for part in ("base", "validation", "novel")]
        assert [len(p) for p in parents] == [4, 1, 2]
        assert len(set.union(*parents)) == 7


def test_too_few_categories_say_what_to_lower():
    catalog = make_catalog()
    message = "6 of 20 categories have at least 15 groups, too few to hold out 6 .*: lower min_groups"
    with pytest.raises(CatalogError, match=message):
        random_split(catalog, 0, 4, 2, min_groups=15)
    with pytest.raises(CatalogError, match=r"1 parents leave no categories for \['novel', 'validation'\]"):
        parent_split(make_catalog(20, per_parent=20), 0, 4, 2, min_groups=5)
    for deal in (random_split, tail_split, parent_split):
        with pytest.raises(CatalogError, match="-3 novel and 2 validation categories: give 0 or more"):
            deal(catalog, 0, -3, 2)
        with pytest.raises(CatalogError, match="seed -1: give 0 or more"):
            deal(catalog, -1, 3, 2, min_groups=2)


def test_a_users_categories_are_not_given_away_for_nothing():
    """One validation class cannot choose an epoch, so that 15 categories are all learned from."""
    smallest = {n: sum(i + 1 >= min(10, n // 2 + 1) for i in range(n)) for n in (15, 26)}
    assert smallest == {15: 8, 26: 17}  # categories that are large enough to take part
    assert default_split(make_catalog(15)).validation == ()
    assert len(default_split(make_catalog(26)).validation) == 2
    for n, n_validation in ((16, 0), (17, 2)):  # c00 has one group
        split = pretraining_split(make_catalog(n), 0)
        assert (len(split.base), len(split.validation), split.novel) == (n - 1 - n_validation, n_validation, ())
        assert split.unnamed_categories(make_catalog(n)) == ("c00",)
    with pytest.raises(CatalogError, match="1 of the 2 categories of catalog 'shop' to pretrain on"):
        pretraining_split(make_catalog(2), 0)


def test_a_published_catalogs_split_is_never_drawn_again():
    """One that lacks a novel class of it would get another split by the same name, whose novel classes were base."""
    shipped = read_split("fashion_random")
    names = [*shipped.base, *shipped.validation, *shipped.novel[1:]]
    rows = [{"product_id": name, "category": name, "group": i} for i, name in enumerate(names)]
    lacking = Catalog("fashion", pd.DataFrame(rows).reindex(columns=make_catalog(1).frame.columns))
    split = default_split(lacking)
    assert split == shipped
    with pytest.raises(CatalogError, match=f"1 novel categor.*{shipped.novel[0]}"):
        split.check_names(lacking)


def test_the_synthetic_catalog_is_split_alike_in_both_languages():
    english, chinese = (load_catalog("synthetic", products_per_category=2, language=one) for one in ("en", "zh"))
    splits = default_split(english), default_split(chinese)
    for part in ("base", "validation", "novel"):
        ours, theirs = (one.select(products, part) for one, products in zip(splits, (english, chinese), strict=True))
        assert sorted(ours.frame["product_id"]) == sorted(theirs.frame["product_id"])


@pytest.mark.parametrize(("n", "novel"), [(2, 1), (6, 3), (9, 4), (10, 5), (24, 5), (25, 5), (40, 8)])
def test_enough_of_a_users_categories_are_held_out_for_5_way_episodes(n, novel):
    """A fifth of 24 categories, four, would make no 5-way episode."""
    catalog = make_catalog(n + 9)
    split = default_split(catalog.take_categories(catalog.categories[9:]))  # those of ten groups and more
    assert len(split.novel) == novel and len(split.base) >= novel


def test_sizes_count_groups_not_products():
    assert category_groups(make_catalog(3)) == {"c00": 1, "c01": 2, "c02": 3}
