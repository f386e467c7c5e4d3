"""The catalog itself, near-duplicate groups, and the published layouts of grocery and fashion in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import near_duplicate_groups_by_search

from fewshot_prod.catalog import SOURCES, CatalogError, data_folder, load_catalog, summary
from fewshot_prod.catalog.grocery import class_descriptions
from fewshot_prod.catalog.groups import near_duplicate_groups


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 6, 3), np.uint8)).save(path)


@pytest.fixture
def fashion(tmp_path) -> Path:
    root = tmp_path / "fashion"
    lines = [
        "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName",
        "1,Men,Personal Care,Perfumes,Perfume,Black,Fall,2010,Casual,Scent One",
        "2,Men,Personal Care,Fragrance,Perfume,,Fall,2010,Casual,NA",
        "3,Women,Personal Care,Skin,Face Wash,White,Fall,2010,NA,Soap",
        "4,Women,Personal Care,Skin Care,Face Wash,White,Fall,2010,NA,SOAP ",
        "5,Women,Personal Care,Skin Care,Face Wash,White,Fall,2010,NA,Soap, large",
        "6,Women,Personal Care,Skin Care,Face Wash,White,Fall,2010,NA,NA",
        "7,Women,Personal Care,Skin Care,Face Wash,White,Fall,2010,NA,Cut off",
    ]
    for i in (1, 2, 4, 7):
        picture(root / "images" / f"{i}.jpg", i)
    (root / "images" / "7.jpg").write_bytes((root / "images" / "7.jpg").read_bytes()[:300])
    (root / "styles.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def grocery(tmp_path) -> Path:
    root = tmp_path / "grocery"
    names = {"Royal-Gala": ("0", "Apple", "0"), "Granny-Smith": ("1", "Apple", "0"), "Oat-Milk": ("2", "Milk", "1")}
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"
    lines = [header + ",Iconic Image Path (str),Product Description Path (str)"]
    for name, (number, parent, parent_number) in names.items():
        lines.append(f"{name},{number},{parent},{parent_number},/iconic/{name}.jpg,/iconic/{name}.txt")
        (root / "dataset" / "iconic").mkdir(parents=True, exist_ok=True)
        (root / "dataset" / "iconic" / f"{name}.txt").write_text(f"About {name}.\n")
    (root / "dataset" / "classes.csv").write_text("\n".join(lines))
    for i, split in enumerate(("train", "val", "test")):
        rows = [f"{split}/{name}_{j}.png, {number}, {p}" for name, (number, _, p) in names.items() for j in range(2)]
        for j, row in enumerate(rows):
            picture(root / "dataset" / row.split(",")[0], 10 * i + j)
        if split == "val":
            rows += ["", "val/none.png, 0, 0", "val/Oat-Milk_0.png, 9, 1", "val/Oat-Milk_0.png; 2; 1"]
        (root / "dataset" / f"{split}.txt").write_text("\n".join(rows))
    return root


def test_fashion_as_published(fashion):
    catalog = load_catalog("fashion", fashion)
    rows = catalog.frame.set_index("product_id")
    assert rows.index.tolist() == ["1", "2", "3", "4"]
    assert rows["parent"].tolist() == ["Fragrance", "Fragrance", "Skin Care", "Skin Care"]
    assert rows["sub_category"].tolist() == ["Perfumes", "Fragrance", "Skin", "Skin Care"]
    assert rows["department"].unique().tolist() == ["Personal Care"]
    assert rows["title"].tolist() == ["Scent One", None, "Soap", "SOAP"]
    assert rows["image"].tolist() == ["images/1.jpg", "images/2.jpg", None, "images/4.jpg"]
    assert rows["colour"].tolist() == ["Black", None, "White", "White"]
    assert rows["group"].tolist() == [0, 1, 2, 2]  # one normalised title
    assert {p.row: p.reason.split(":")[0] for p in catalog.problems} == {
        "styles.csv:6": "broken line",
        "styles.csv:7": "nothing to see",
        "styles.csv:8": "image truncated",
    }
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.notes] == [("styles.csv:4", "picture not published")]
    assert "notes on 1 kept rows" in summary(catalog)


def test_grocery_as_published(grocery):
    catalog = load_catalog("grocery", grocery)
    assert len(catalog) == 18 and catalog.categories == ("Granny-Smith", "Oat-Milk", "Royal-Gala")
    assert catalog.frame["split"].value_counts().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert dict(zip(catalog.frame["category"], catalog.frame["parent"], strict=True))["Royal-Gala"] == "Apple"
    assert set(catalog.titles) == {None}
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.problems] == [
        ("val.txt:8", "image missing"),
        ("val.txt:9", "class unknown"),
        ("val.txt:10", "broken line"),
    ]
    assert load_catalog("grocery", grocery / "dataset").fingerprint == catalog.fingerprint
    about = class_descriptions(grocery)
    assert about["Oat-Milk"].description == "About Oat-Milk." and about["Oat-Milk"].parent == "Milk"
    assert about["Oat-Milk"].iconic_image == grocery / "dataset" / "iconic" / "Oat-Milk.jpg"


@pytest.mark.parametrize(
    ("source", "place", "layout"),
    [
        ("fashion", "kaggle.com/datasets/paramaggarwal/fashion-product-images-small", "styles.csv and images/"),
        ("grocery", "github.com/marcusklasson/GroceryStoreDataset", "train.txt, val.txt and test.txt"),
        ("omniglot", "github.com/brendenlake/omniglot", "images_background and images_evaluation, as folders or .zip"),
    ],
)
def test_an_absent_data_set_says_where_it_is_published(tmp_path, monkeypatch, source, place, layout):
    monkeypatch.setenv("FEWSHOT_PROD_DATA", str(tmp_path))
    with pytest.raises(CatalogError) as error:
        load_catalog(source)
    assert place in str(error.value) and layout in str(error.value) and str(tmp_path / source) in str(error.value)


def test_where_data_are_looked_for(monkeypatch):
    monkeypatch.setenv("FEWSHOT_PROD_DATA", "/somewhere")
    assert data_folder("fashion") == Path("/somewhere/fashion")
    monkeypatch.delenv("FEWSHOT_PROD_DATA")
    assert data_folder("fashion") == Path("data/fashion")


def test_unknown_sources_and_options_list_what_there_is(fashion):
    assert sorted(SOURCES) == ["fashion", "grocery", "omniglot", "synthetic", "table"]
    with pytest.raises(
        CatalogError, match=r"no catalog source 'fasion': did you mean 'fashion'\? There are fashion, grocery,"
    ):
        load_catalog("fasion")
    with pytest.raises(CatalogError, match=r"'fashion' has no options \['seed'\]"):
        load_catalog("fashion", fashion, seed=1)


def test_strict_stops_at_the_first(fashion, grocery):
    with pytest.raises(CatalogError, match=r"^styles\.csv:6: broken line.*\(2 more bad rows"):
        load_catalog("fashion", fashion, strict=True)
    with pytest.raises(CatalogError, match=r"^val\.txt:8: image missing"):
        load_catalog("grocery", grocery, strict=True)


def test_products_and_selections(fashion):
    catalog = load_catalog("fashion", fashion)
    product = catalog[0]
    assert product.product_id == "1" and product.image == fashion / "images" / "1.jpg" and product.parent == "Fragrance"
    assert catalog[2].image is None and catalog[1].title is None
    part = catalog.take_categories(["Face Wash"])
    assert part.frame["product_id"].tolist() == ["3", "4"] and part.problems == catalog.problems
    assert part.category_ids.tolist() == [0, 0] and catalog.category_ids.tolist() == [1, 1, 0, 0]


def test_the_fingerprint_follows_content(fashion, tmp_path):
    before = load_catalog("fashion", fashion).fingerprint
    moved = fashion.rename(tmp_path / "elsewhere")
    assert load_catalog("fashion", moved).fingerprint == before
    picture(moved / "images" / "1.jpg", 99)
    assert load_catalog("fashion", moved).fingerprint != before


def test_groups_against_a_search_over_all_pairs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = 30
        categories = rng.choice(["a", "b", "c"], n).tolist()
        titles = [None if t == "0" else t for t in rng.choice(list("0xXyYzvwu"), n)]
        digests = [None if d > 25 else str(d) for d in rng.integers(0, 40, n)]
        given = [None if g > 6 else str(g) for g in rng.integers(0, 60, n)]
        found = near_duplicate_groups(categories, titles, digests, given)
        assert found.dtype == np.int64
        assert found.tolist() == near_duplicate_groups_by_search(categories, titles, digests, given)


def test_a_chain_of_duplicates_is_one_group():
    categories, titles = ["a", "a", "b", "b"], ["one", "one", "two", "two"]
    assert near_duplicate_groups(categories, titles, [None, "p", "p", None]).tolist() == [0, 0, 0, 0]
    assert near_duplicate_groups(categories, titles, [None, "p", "q", None]).tolist() == [0, 0, 1, 1]
    assert near_duplicate_groups([], [], []).tolist() == []


def test_no_title_and_no_picture_join_nothing():
    assert near_duplicate_groups(["a"] * 3, [None, "", None], [None, "", None]).tolist() == [0, 1, 2]
