"""The embedded catalog: the same everywhere, categories told apart by their parts, knobs that do what they say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import near_duplicate_groups_by_search

from fewshot_prod.catalog import CatalogError, load_catalog, synthetic
from fewshot_prod.catalog.class_words import class_word_masker, naming_rate
from fewshot_prod.catalog.synthetic import load_synthetic
from fewshot_prod.catalog.synthetic_categories import CATEGORIES, COLOURS, DEPARTMENTS, PARENTS, SHAPES
from fewshot_prod.catalog.synthetic_dice import Dice
from fewshot_prod.catalog.synthetic_images import SINE, category_pieces, fill
from fewshot_prod.catalog.synthetic_photos import take_photo
from fewshot_prod.catalog.synthetic_titles import ADJECTIVES, BRANDS, LINES, NOISE, PART_WORDS, PATTERN_WORDS
from fewshot_prod.checkpoints import load_checkpoint
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.evaluation import evaluate
from fewshot_prod.features import embed, image_part
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.linear_probe import LinearProbe
from fewshot_prod.splits import default_split

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def plain():
    return load_synthetic(products_per_category=6, image_size=32)


def digest(catalog) -> str:
    titles = "\n".join(catalog.titles).encode()
    return hashlib.sha256(titles + catalog.pixels.tobytes()).hexdigest()[:16]


def nearest_neighbour_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    features = features.astype(np.float64)
    squares = (features**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * features @ features.T
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


# --- the same everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "6f109e569db7bc1f"),
        ({"seed": 1, "language": "zh", "domain": "phone", "difficulty": 1.0}, "192490ea06518195"),
    ],
)
def test_pixels_and_titles_are_those_of_every_other_machine(options, expected):
    """A new value here makes every number measured on this catalog void: change it knowingly."""
    assert digest(load_synthetic(products_per_category=2, image_size=32, **options)) == expected


def test_photos_are_drawn_once_and_again_where_the_file_is_damaged_or_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_PROD_CACHE", str(tmp_path))
    drawn = []
    monkeypatch.setattr(synthetic, "take_photo", lambda *a, **k: drawn.append(1) or take_photo(*a, **k))
    size = {"products_per_category": 1, "image_size": 16}
    first = load_synthetic(**size).pixels
    assert len(drawn) == len(first) == 84
    (kept,) = tmp_path.glob("images/synthetic-16x16-*.npy")
    np.testing.assert_array_equal(load_synthetic(**size).pixels, first)
    assert load_synthetic(**size, language="zh").pixels.shape == first.shape and len(drawn) == 84
    assert not np.array_equal(load_synthetic(**size, difficulty=1.0).pixels, first) and len(drawn) == 2 * 84
    for damaged in (kept.read_bytes()[:-100], b"", b"not an array"):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(load_synthetic(**size).pixels, first)
        assert kept.stat().st_size > first.size
    assert len(drawn) == 5 * 84


def test_photos_do_without_a_cache_that_can_be_written(tmp_path, monkeypatch, plain):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_PROD_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(load_synthetic(products_per_category=6, image_size=32).pixels, plain.pixels)


def test_sines_are_far_from_rounding_boundaries():
    exact = np.sin(2 * np.pi * np.arange(1024) / 1024) * 16384
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-6
    assert SINE.dtype == np.int64


def test_another_seed_is_another_shop(plain):
    other = load_synthetic(products_per_category=6, image_size=32, seed=1)
    assert (other.pixels != plain.pixels).any(axis=(1, 2, 3)).all()
    assert np.mean([a == b for a, b in zip(plain.titles, other.titles, strict=True)]) < 0.01


def test_a_larger_catalog_continues_a_smaller_one(plain):
    larger = load_synthetic(products_per_category=7, image_size=32)
    assert len(larger) == 7 * len(CATEGORIES)
    row = {product: i for i, product in enumerate(larger.frame["product_id"])}
    same = [row[product] for product in plain.frame["product_id"]]
    assert (larger.pixels[same] == plain.pixels).all()
    assert [larger.titles[i] for i in same] == plain.titles


def test_polygons_are_filled_as_a_loop_over_pixels_would():
    dice = Dice(3)
    for _ in range(20):
        outlines = [
            np.array([[dice.between(-2000, 10000), dice.between(-2000, 10000)] for _ in range(dice.between(3, 7))])
            for _ in range(dice.between(1, 2))
        ]
        canvas = np.zeros((32, 32), np.uint8)
        fill(canvas, outlines, 1)
        expected = [[_is_inside(x * 256 + 128, y * 256 + 128, outlines) for x in range(32)] for y in range(32)]
        assert canvas.tolist() == np.array(expected, int).tolist()


def _is_inside(x: int, y: int, outlines: list[np.ndarray]) -> bool:
    crossings = 0
    for outline in outlines:
        for (x0, y0), (x1, y1) in zip(outline.tolist(), np.roll(outline, -1, axis=0).tolist(), strict=True):
            if (y0 <= y) != (y1 <= y):
                crossings += x0 + (y - y0) * (x1 - x0) // (y1 - y0) <= x
    return crossings % 2 == 1


# --- what is in it ---------------------------------------------------------------------------------------------


def test_counts(plain):
    assert len(plain.categories) == len(CATEGORIES) >= 60
    assert plain.frame["parent"].nunique() == len(PARENTS) >= 12
    assert sorted(plain.frame["department"].unique()) == sorted(DEPARTMENTS) and len(DEPARTMENTS) == 4
    assert (plain.frame.groupby("parent")["category"].nunique() >= 4).all()
    assert (plain.frame.groupby("category").size() == 6).all()
    assert plain.pixels.dtype == np.uint8 and plain.pixels.shape == (len(plain), 32, 32, 3)
    assert plain.frame["image"].tolist() == list(range(len(plain)))
    assert (plain.frame["true_category"] == plain.frame["category"]).all()


def test_default_size_is_what_the_documentation_says():
    defaults = load_synthetic.__kwdefaults__
    assert defaults["products_per_category"] >= 40 and defaults["image_size"] == 64


def test_the_table_is_consistent():
    parents = {parent.name for parent in PARENTS}
    assert {parent.department for parent in PARENTS} == set(DEPARTMENTS)
    assert {category.parent for category in CATEGORIES} == parents
    for position, extra in ((0, "synonyms"), (1, "synonyms_zh")):
        names = [name for c in CATEGORIES for name in (c[position], *getattr(c, extra))]
        assert len(names) == len(set(names)), "a name or synonym stands for two categories"
    drawings = [category.parts for category in CATEGORIES]
    assert len(set(drawings)) == len(drawings)


def test_categories_share_their_shapes():
    """At least three quarters of the categories are made of shapes that others have too."""
    shapes = {c.name: {p.split()[0].lstrip("?=") for p in c.parts.split(" | ")} for c in CATEGORIES}
    used = [shape for of in shapes.values() for shape in of]
    assert set(SHAPES) <= set(used)
    shared = [name for name, of in shapes.items() if all(used.count(shape) > 1 for shape in of)]
    assert len(shared) >= 0.75 * len(CATEGORIES)
    assert {"a", "b"} <= {"abc"[piece.slot] for c in CATEGORIES for piece in category_pieces(c.parts)}


def test_pixels_and_colours_tell_categories_apart_badly(plain):
    """Chance is 1.2 % for the nearest of 84 x 6 products; pictures without variation would give 100 %."""
    labels = plain.category_ids
    assert nearest_neighbour_accuracy(plain.pixels.mean(axis=(1, 2)), labels) < 0.05
    assert nearest_neighbour_accuracy(plain.pixels.reshape(len(plain), -1), labels) < 0.08


def test_a_linear_classifier_of_raw_pixels_stays_far_below_a_trained_conv4():
    """5-way 1-shot on novel categories, above chance: below two fifths of it (measured: a twelfth)."""
    catalog = load_synthetic(products_per_category=16)
    novel = default_split(catalog).select(catalog, "novel")
    images = torch.from_numpy(novel.pixels[novel.frame["image"].tolist()])
    shipped = ROOT / "data" / "checkpoints" / "synthetic_conv4_gru_prototypical"
    learned = embed(image_part(load_checkpoint(shipped)[0]), ProductInputs(images=images))
    raw = torch.nn.functional.avg_pool2d(images.float().permute(0, 3, 1, 2), 2).flatten(1)
    sampler = EpisodeSampler(novel.category_ids, novel.groups, n_way=5, n_shot=1, n_query=10, seed=0)
    above_chance = {
        name: evaluate(LinearProbe(transform="L2N"), pool, sampler, 200).accuracy.mean() - 1 / 5
        for name, pool in (("raw", raw), ("learned", learned))
    }
    assert above_chance["learned"] > 0.3
    assert above_chance["raw"] < 0.4 * above_chance["learned"]


def test_titles_name_the_category_by_name_by_a_synonym_or_not_at_all():
    catalog = load_synthetic(products_per_category=20, image_size=16, missing_images=1.0)
    synonyms = {c.name: (c.name, *c.synonyms) for c in CATEGORIES}
    said = [
        any(name in title.lower() for name in synonyms[category])
        for title, category in zip(catalog.titles, catalog.frame["category"], strict=True)
    ]
    assert 0.5 < np.mean(said) < 0.7
    assert 0.35 < naming_rate(catalog.titles, catalog.frame["category"].tolist()) < 0.5
    colours = [c[0] for c in COLOURS]
    assert 0.5 < np.mean([any(colour in title.lower() for colour in colours) for title in catalog.titles]) < 0.8


@pytest.mark.parametrize("tongue", [0, 1])
def test_no_other_word_of_a_title_names_a_category(tongue):
    """Otherwise masking the category names would delete it, and a title could name a wrong category."""
    mask = class_word_masker(category[tongue] for category in CATEGORIES)
    words = [word[tongue] for table in (BRANDS, LINES, ADJECTIVES, NOISE) for word in table]
    words += [word[tongue] for table in (*PART_WORDS.values(), *PATTERN_WORDS.values()) for word in table]
    words += [word[tongue] for parent in PARENTS for word in (*parent.materials, *parent.vague)]
    words += [colour[tongue] for colour in COLOURS]
    assert [word for word in words if mask(word) != word.casefold()] == []


def test_a_chinese_catalog_is_chinese_throughout():
    catalog = load_synthetic(products_per_category=6, image_size=16, language="zh")
    for column in ("category", "parent", "department", "title", "true_category"):
        assert catalog.frame[column].str.contains("[\u4e00-\u9fff]").all(), column
    assert 0.35 < naming_rate(catalog.titles, catalog.frame["category"].tolist()) < 0.5


def test_an_english_catalog_has_no_chinese(plain):
    assert not any(re.search("[\u4e00-\u9fff]", title) for title in plain.titles)


# --- knobs -----------------------------------------------------------------------------------------------------


def test_the_phone_domain_shows_the_same_products_in_other_photos(plain):
    phone = load_synthetic(products_per_category=6, image_size=32, domain="phone")
    assert phone.titles == plain.titles and (phone.frame["category"] == plain.frame["category"]).all()
    assert not set(phone.frame["product_id"]) & set(plain.frame["product_id"])
    assert (phone.pixels != plain.pixels).any(axis=(1, 2, 3)).all()
    assert phone.pixels.mean() < plain.pixels.mean() - 20, "phone photos are taken in dim light"


def test_difficulty_scales_the_variation():
    easy, hard = (load_synthetic(products_per_category=4, image_size=32, difficulty=d) for d in (0.0, 1.0))
    grey = [np.abs(c.pixels.mean(axis=3) - np.median(c.pixels, axis=(1, 2, 3))[:, None, None]) for c in (easy, hard)]
    accuracy = [nearest_neighbour_accuracy(g.reshape(len(g), -1), easy.category_ids) for g in grey]
    assert accuracy[0] > 5 * accuracy[1]


def test_missing_images_and_titles(plain):
    catalog = load_synthetic(products_per_category=6, image_size=32, missing_images=0.25, missing_titles=0.125)
    no_image = catalog.frame["image"].isna().to_numpy()
    no_title = catalog.frame["title"].isna().to_numpy()
    assert no_image.sum() == 126 and no_title.sum() == 63
    assert not (no_image & no_title).any()
    assert all(value is None for value in catalog.frame["image"][no_image]), "None, not NaN"
    rows = catalog.frame["image"][~no_image].astype(int)
    assert rows.tolist() == list(range(len(catalog.pixels)))
    assert (catalog.pixels == plain.pixels[~no_image]).all(), "the other pictures stay as they were"
    assert catalog.frame["title"][~no_title].tolist() == [plain.titles[i] for i in np.flatnonzero(~no_title)]


def test_nothing_is_left_of_a_shop_without_images_but_its_titles():
    catalog = load_synthetic(products_per_category=1, image_size=16, missing_images=1.0)
    assert len(catalog.pixels) == 0 and all(catalog.titles)


def test_label_noise(plain):
    catalog = load_synthetic(products_per_category=6, image_size=32, label_noise=0.25)
    wrong = catalog.frame["category"] != catalog.frame["true_category"]
    assert wrong.sum() == 126
    assert (catalog.frame.groupby("category").size() == 6).all(), "swapping keeps the sizes"
    assert (catalog.frame["true_category"] == plain.frame["category"]).all()
    parent_of = dict(zip(plain.frame["category"], plain.frame["parent"], strict=True))
    assert (catalog.frame["category"].map(parent_of) == catalog.frame["parent"]).all(), "the parent goes along"
    assert (catalog.pixels == plain.pixels).all() and catalog.titles == plain.titles
    pairs = set(zip(catalog.frame["true_category"][wrong], catalog.frame["category"][wrong], strict=True))
    assert len(pairs) > 100, "errors are spread over pairs of categories"


def test_groups_are_those_of_the_definition():
    catalog = load_synthetic(products_per_category=3, image_size=16, near_duplicates=0.3, label_noise=0.2)
    nothing = [None] * len(catalog)
    groups = near_duplicate_groups_by_search(
        catalog.frame["category"], catalog.titles, catalog.frame["pixel_digest"], nothing
    )
    assert catalog.groups.tolist() == groups and len(set(groups)) < 0.8 * len(catalog)


def test_near_duplicates_have_the_same_pixels_or_title(plain):
    catalog = load_synthetic(products_per_category=6, image_size=16, near_duplicates=0.25)
    pixels = catalog.pixels.reshape(len(catalog), -1).astype(np.int64)
    same_pixels = np.array([(pixels == picture).all(axis=1) for picture in pixels])
    same_title = np.equal.outer(np.array(catalog.titles), np.array(catalog.titles))
    same_category = np.equal.outer(catalog.category_ids, catalog.category_ids)

    def copies(same: np.ndarray) -> int:  # products that equal one before them
        return int(np.triu(same & same_category, 1).any(axis=0).sum())

    assert len(catalog) - len(set(catalog.groups)) == 126, "each re-listing joins one original"
    # A third of them each: same photo, same title, both.
    assert 70 <= copies(same_pixels) <= 98 and 70 <= copies(same_title) <= 98
    assert same_category[same_pixels].all()
    assert len(plain) - len(set(plain.groups)) <= 2, "without the knob there are hardly any"


def test_all_products_but_one_a_category_can_be_copies():
    catalog = load_synthetic(products_per_category=4, image_size=16, near_duplicates=1.0)
    assert (catalog.frame.groupby("category")["group"].nunique() == 1).all()


def test_a_long_tail_follows_a_power_law():
    catalog = load_synthetic(products_per_category=60, image_size=16, long_tail=0.7, missing_images=1.0)
    sizes = sorted(catalog.frame.groupby("category").size(), reverse=True)
    assert sizes == [max(5, int(60 * rank**-0.7)) for rank in range(1, len(CATEGORIES) + 1)]
    assert sizes[-1] == 5 and list(catalog.frame.groupby("category").size()) != sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_noise": 1.5}, "label_noise = 1.5 of the synthetic catalog must be at least 0 and at most 1"),
        ({"long_tail": -1}, "long_tail = -1 of the synthetic catalog must be at least 0"),
        ({"language": "fr"}, r"language = 'fr' of the synthetic catalog must be one of \('en', 'zh'\)"),
        ({"domain": "film"}, r"domain = 'film' of the synthetic catalog must be one of \('catalog', 'phone'\)"),
        ({"missing_images": 0.6, "missing_titles": 0.6}, "a product keeps its image or its title"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(CatalogError, match=message):
        load_synthetic(**options)


def test_it_is_a_source_of_the_package():
    catalog = load_catalog("synthetic", products_per_category=1, image_size=16)
    assert catalog.name == "synthetic" and len(catalog) == len(CATEGORIES)
    with pytest.raises(CatalogError, match="no options"):
        load_catalog("synthetic", colour="red")
