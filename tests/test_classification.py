"""The supervised system: its parts of a catalog, its scores against loops, the classifier that training returns."""

from __future__ import annotations

import csv
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import macro_scores_by_loops
from test_pretrain import striped_products, train

from fewshot_prod.adapt import categorise
from fewshot_prod.arguments import SourceArgs
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.classification import (
    category_report,
    classification_scores,
    classifier_parts,
    deal_products,
    own_parts,
)
from fewshot_prod.errors import UsageError
from fewshot_prod.features import embed
from fewshot_prod.names import UnknownName
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import load_encoder
from fewshot_prod.results import RESULT_VERSION, cell_key, read_records
from fewshot_prod.splits import default_split
from fewshot_prod.tables import CLASSIFIER_COLUMNS, classifiers_table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def catalog():
    """The synthetic catalog, its products in groups of one to three, some across categories."""
    whole = load_catalog("synthetic", products_per_category=12)
    groups = np.random.default_rng(0).integers(0, len(whole) * 2 // 3, len(whole))
    return replace(whole, frame=whole.frame.assign(group=groups))


def test_parts_are_stratified_and_groups_stand_in_one_part(catalog):
    part = deal_products(catalog, seed=0)
    for group in np.unique(catalog.groups):
        assert len(set(part[catalog.groups == group])) == 1
    shares = {name: np.mean(part == name) for name in ("train", "validation", "test")}
    assert shares["test"] == pytest.approx(0.2, abs=0.04) and shares["validation"] == pytest.approx(0.1, abs=0.04)
    assert set(catalog.category_ids) == set(catalog.category_ids[part == "train"])
    assert np.array_equal(part, deal_products(catalog, seed=0)) and not np.array_equal(part, deal_products(catalog, 1))


def test_every_category_gives_its_share_and_the_smallest_none(catalog):
    whole = replace(catalog, frame=catalog.frame.assign(group=np.arange(len(catalog))))
    ids = whole.category_ids
    small = whole.take((ids > 0) | (np.cumsum(ids == 0) <= 2))  # the first category keeps two products
    part = deal_products(small, seed=3)
    assert set(part[small.category_ids == 0]) == {"train"}
    for category in range(1, 84):
        named, counts = np.unique(part[small.category_ids == category], return_counts=True)
        assert dict(zip(named, counts, strict=True)) == {"train": 9, "validation": 1, "test": 2}


def test_each_category_keeps_something_to_learn_from(catalog):
    part = deal_products(catalog.take_groups(2), seed=0, validation=0.3, test=0.3)
    kept = catalog.take_groups(2).category_ids[part == "train"]
    assert set(kept) == set(catalog.category_ids) and {"test"} < set(part)


def test_a_category_whose_groups_count_for_another_keeps_something_to_learn_from(catalog):
    """Its one product is a near-duplicate of another category's, which is dealt away in a quarter of all cases."""
    ids = catalog.category_ids
    pair = catalog.take((ids == 0) | ((ids == 1) & (np.cumsum(ids == 1) == 1)))
    pair = replace(pair, frame=pair.frame.assign(group=np.where(pair.category_ids, 0, np.arange(len(pair)))))
    for seed in range(12):
        part = deal_products(pair, seed)
        assert set(part[pair.groups == 0]) == {"train"} or set(pair.category_ids[part == "train"]) == {0, 1}
        assert {"validation", "test"} < set(part)


def test_a_catalogs_own_parts_win(catalog):
    assert own_parts(catalog) is None
    given = np.resize(["train", "val", "test"], len(catalog))
    own = own_parts(replace(catalog, frame=catalog.frame.assign(split=given)))
    assert own[:3].tolist() == ["train", "validation", "test"]
    for odd in ("holdout", None):
        frame = catalog.frame.assign(split=np.array([*given[:-1], odd], object))
        with pytest.raises(
            CatalogError, match=f"has a column 'split' with {odd or 'no value'}: use train, val and test"
        ):
            own_parts(replace(catalog, frame=frame))
    with pytest.raises(CatalogError, match="with only train: use train, val and test"):
        own_parts(replace(catalog, frame=catalog.frame.assign(split="train")))
    with pytest.raises(ValueError, match=r"validation=0.5 and test=0.5 must be 0 or more and leave a share for train"):
        deal_products(catalog, 0, validation=0.5, test=0.5)


def test_parts_with_nothing_to_measure_on_are_refused(catalog):
    given = np.resize(["train", "test"], len(catalog))
    own = replace(catalog, frame=catalog.frame.assign(split=given, group=np.arange(len(catalog))))
    assert [split for _, split in (classifier_parts(own, 0, "test"), classifier_parts(catalog, 0, "test"))] == [
        "own",
        "stratified",
    ]
    with pytest.raises(CatalogError, match="no products for validation: its column 'split' names none: write val"):
        classifier_parts(own, 0, "validation")
    apart = replace(own, frame=own.frame.assign(split=np.where(own.category_ids < 9, "background", "evaluation")))
    with pytest.raises(CatalogError, match=r"'synthetic', background and evaluation, share no category, .* choose an"):
        classifier_parts(apart, 0, "test")
    whole = replace(own, frame=own.frame.assign(split=None))
    for n, part in ((3, "test"), (6, "validation")):
        rank = whole.frame.groupby("category").cumcount()
        assert (classifier_parts(whole.take((rank < n).to_numpy()), 0, part)[0] == part).any()
        with pytest.raises(CatalogError, match=f"no products for {part}: none of its categories has {n} groups of"):
            classifier_parts(whole.take((rank < n - 1).to_numpy()), 0, part)


RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 9, 200)
LOGITS = RNG.normal(size=(200, 9)) + 2.0 * np.eye(9)[TRUTH]
PARENTS = ["a", "a", "a", "b", "b", "b", "c", "c", "c"]


def test_scores_match_loops():
    guess = LOGITS.argmax(1)
    scores = classification_scores(LOGITS, TRUTH, PARENTS)
    macro = macro_scores_by_loops(TRUTH.tolist(), guess.tolist())
    assert (scores["macro_precision"], scores["macro_recall"], scores["macro_f1"]) == pytest.approx(macro)
    assert scores["accuracy"] == scores["weighted_recall"] == pytest.approx(np.mean(guess == TRUTH))
    best = [sorted(range(9), key=lambda c: -row[c])[:5] for row in LOGITS]
    assert scores["top_5"] == pytest.approx(np.mean([t in five for t, five in zip(TRUTH, best, strict=True)]))
    families = [PARENTS[t] == PARENTS[g] for t, g in zip(TRUTH, guess, strict=True)]
    assert scores["parent_accuracy"] == pytest.approx(np.mean(families)) and scores["parent_accuracy"] < 1
    assert np.isnan(classification_scores(LOGITS, TRUTH, [None, *PARENTS[1:]])["parent_accuracy"])


def test_macro_scores_leave_out_categories_without_products():
    """A tenth category that nothing is of, and that some products are taken for, is no category with recall 0."""
    wide = np.concatenate([LOGITS, np.where(np.arange(200) < 20, 99.0, -99.0)[:, None]], 1)
    scores = classification_scores(wide, TRUTH, [*PARENTS, "c"])
    recall = [np.mean((wide.argmax(1) == c)[c == TRUTH]) for c in range(9)]
    assert scores["macro_recall"] == pytest.approx(np.mean(recall))


def test_the_report_names_what_a_category_is_taken_for():
    report = category_report([0, 1, 1, 1, 2], [0, 0, 0, 1, 2], [0, 0, 1], ["cup", "mug", "jug"], ["k", "k", None])
    cup = report.iloc[0]
    assert (cup["products"], cup["train_products"], cup["most_often_taken_for"]) == (3, 2, "mug")
    assert (cup["precision"], cup["recall"]) == (1.0, pytest.approx(1 / 3, abs=1e-4))
    assert report["most_often_taken_for"].isna().tolist() == [False, True, True]


def test_the_table_says_in_which_options_runs_differ():
    place = {"catalog": "grocery", "split": "own", "part": "test", "modality": "image", "fusion": None}
    told = {"mask_class_words": None, "train_seed": 0, "pretrained_on": None, "images_seen": 9, "n_categories": 81}
    numbers = {"n_products": 1000, "result_version": RESULT_VERSION} | dict.fromkeys(CLASSIFIER_COLUMNS, 0.5)

    def record(encoder: str, **options) -> dict:
        config = {"options": {"epochs": 3, "head": "linear", "class_balanced": False} | options}
        return {"kind": "classifier", "encoder": encoder, "config": config, **place, **told, **numbers}

    plain, cosine, other = record("a"), record("a", head="cosine", class_balanced=True), record("b", epochs=4)
    lines = [line.split(" | ") for line in classifiers_table([plain, cosine, other]).splitlines()[2:]]
    assert lines[0][8] == "options" and all(len(line) == len(lines[0]) for line in lines)
    first, second, alone = (line[8] for line in lines[2:])
    assert (first, second, alone) == ("head linear, class balanced False", "head cosine, class balanced True", "")
    assert "options" not in classifiers_table([plain, other])


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}], ids=["weights", "average"])
def test_pretraining_returns_the_classifier_too(options):
    """Chance 0.25; a head that had not been trained would stay there."""
    trained = train(**options)
    inputs, labels = striped_products(seed=1)
    logits = embed(trained.classifier, inputs, flip=False)
    assert float((logits.argmax(1).numpy() == labels).mean()) > 0.9
    features = embed(trained.encoder, inputs, flip=False)
    with torch.no_grad():
        torch.testing.assert_close(trained.classifier.head(features), logits, rtol=1e-4, atol=1e-4)


def test_the_script_trains_and_reports_and_its_second_run_only_measures(tmp_path, monkeypatch, capsys):
    path = ROOT / "experiments" / "train_classifier.py"
    script = importlib.util.module_from_spec(importlib.util.spec_from_file_location("train_classifier", path))
    monkeypatch.setitem(sys.modules, "train_classifier", script)
    script.__spec__.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)
    arguments = script.Args(recipe="gru", smoke=True)
    assert script.main(arguments) == 0
    first = capsys.readouterr().out
    assert script.main(replace(arguments, part="validation")) == 0
    assert "epoch 1/1" in first and "epoch" not in capsys.readouterr().out
    records = read_records(tmp_path / "runs" / "smoke" / "classifier_synthetic.jsonl")
    assert [r["part"] for r in records] == ["test", "validation"] and cell_key(records[0]) != cell_key(records[1])
    assert records[0]["n_products"] == 168 and 0 <= records[0]["macro_f1"] <= records[0]["top_5"] <= 1
    assert classifiers_table(records[:1]) in first
    (folder,) = (tmp_path / "runs" / "smoke" / "synthetic" / "stratified" / "gru").iterdir()
    names = {"encoder", "head.safetensors", "categories.csv", "confusion.png", "state.pt", "precision"}
    assert {path.name for path in folder.iterdir()} == names
    with (folder / "categories.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 84 and sum(int(row["products"]) for row in rows) == 84  # the validation part's
    encoder = load_encoder(folder / "encoder")
    trained_on = load_catalog("synthetic", products_per_category=12)
    with pytest.raises(CatalogError, match="trained or chosen on 20 of the 20 novel classes"):
        Pools(encoder, trained_on, default_split(trained_on))
    shop = replace(trained_on, name="shop").take_groups(4)
    support = shop.take(np.arange(len(shop)) % 2 == 0)
    assert categorise(encoder, support, shop)["category"].notna().all()
    assert script.main(replace(arguments, refit=True)) == 0
    refit = read_records(tmp_path / "runs" / "smoke" / "classifier_synthetic.jsonl")[-1]
    assert refit["n_train"] == records[0]["n_train"] + 84 and refit["config"]["options"]["refit"]
    capsys.readouterr()
    with pytest.raises(UsageError, match="--refit trains on the validation part"):
        script.main(replace(arguments, refit=True, part="validation"))
    with pytest.raises(UnknownName, match="no recipe that is pretrained 'lite0': did you mean 'lite0_tuned'"):
        script.main(replace(arguments, recipe="lite0"))
    few = ["title,category", *(f"{name} number {i},{name}" for name in ("cup", "mug") for i in range(10))]
    (tmp_path / "few.csv").write_text("\n".join(few))
    few = SourceArgs("table", tmp_path / "few.csv")
    assert script.main(replace(arguments, source=few)) == 0  # fewer than one batch
    parted = [
        f"{name} {i},{name},{'test' if i > 7 or name == 'pan' else 'train'}"
        for name in ("cup", "mug", "pan")
        for i in range(10)
    ]
    (tmp_path / "parted.csv").write_text("\n".join(["title,category,split", *parted]))
    assert script.main(replace(arguments, source=SourceArgs("table", tmp_path / "parted.csv"))) == 0
    assert "1 of its categories cannot be guessed, having no product to train on: pan\n" in capsys.readouterr().out
    for option, value in {"epochs": 0, "batch_size": -5, "lr": float("nan")}.items():
        with pytest.raises(UsageError, match=f"{option} is {value}: it must be at least"):
            script.main(replace(arguments, source=few, smoke=False, results=tmp_path, **{option: value}))
    (path,) = (tmp_path / "runs" / "smoke").glob("classifier_few-*.jsonl")
    (record,) = read_records(path)
    assert record["config"]["options"]["batch_size"] == record["n_train"] < 20
    pair = ["title,category", *(f"{word} {name},{name}" for name in ("cup", "mug") for word in ("red", "blue"))]
    (tmp_path / "pairs.csv").write_text("\n".join(pair))
    with pytest.raises(CatalogError, match="has no products for test: none of its categories has 3 groups"):
        script.main(replace(arguments, source=SourceArgs("table", tmp_path / "pairs.csv"), smoke=False))
