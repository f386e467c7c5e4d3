"""Tables are measured cell by cell, resume where they stopped, and list what failed."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from fewshot_prod import prepare
from fewshot_prod.base_novel import BASE_NOVEL, hold_out_base
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.cells import episode_samplers, measure_table
from fewshot_prod.checkpoints import encoder_hash
from fewshot_prod.encoders.heads import attach_head
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.episode_accuracy import load_episode_accuracy
from fewshot_prod.features import embed
from fewshot_prod.halfway import halfway
from fewshot_prod.methods import METHODS
from fewshot_prod.names import UnknownName
from fewshot_prod.pools import FOUND, Pools, build_method, hyperparameters
from fewshot_prod.prepare import Prepared, lacking_words, prepare_encoder, take_over, untrained
from fewshot_prod.recipes import RECIPES, SMOKE, continued
from fewshot_prod.results import ResultsError, append_record, cell_key, read_records
from fewshot_prod.rows import Row, readable_rows
from fewshot_prod.settings import Setting, episode_sampler
from fewshot_prod.splits import default_split, random_split, read_split
from fewshot_prod.tables import methods_table

ROWS = [
    Row("centroid", "conv4", "nearest_centroid"),
    Row("proto", "conv4_prototypical", "prototypical", against=("centroid",)),
    Row("tuned", "conv4", "finetune_all", {"n_adaptation_steps": 1}, n_ways=(5,)),
]
SETTINGS = [Setting(5, 1, 3), Setting("all", 1, 3)]


@pytest.fixture(scope="module")
def catalog():
    return load_catalog("synthetic", products_per_category=8)


def measure(catalog, folder, rows=ROWS, **options):
    lines: list[str] = []
    failures = measure_table(
        "test",
        rows,
        SETTINGS,
        catalog=catalog,
        split=default_split(catalog),
        seeds=(0,),
        results=folder / "records.jsonl",
        runs=folder,
        **{"n_episodes": 30, "n_episodes_adapting": 2, "overrides": SMOKE, "report": lines.append} | options,
    )
    return failures, lines


@pytest.fixture(scope="module")
def measured(catalog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    failures, _ = measure(catalog, folder)
    assert failures == []
    return folder


def test_what_goes_on_shows_about_as_many_products_as_its_control():
    """At most 5 % apart; base products as in the catalogs (40 a category in the synthetic one). For the demo's sake
    episodes of five classes show a third on the synthetic catalog."""
    base = {"synthetic": 40 * len(read_split("synthetic_random").base), "fashion": 10_112, "grocery": 3_138}
    for name, n in base.items():
        others = continued("conv4")
        control = others.pop("conv4_continued")
        others = {which: recipe for which, recipe in others.items() if recipe.stage != "halfway"}  # not trained
        shown = (control.options | control.catalog_options.get(name, {}))["epochs"] * (n // 64 * 64)
        for which, recipe in others.items():
            o = {"meta_batch_size": 1} | recipe.options | recipe.catalog_options.get(name, {})
            products = o["n_iterations"] * o["meta_batch_size"] * o["n_way"] * (o["n_shot"] + o["n_query"])
            share = 3 if name == "synthetic" and o["n_way"] == 5 else 1
            assert share * products == pytest.approx(shown, rel=0.05), (name, which)


def test_every_cell_has_a_record_with_what_made_it(measured, catalog):
    cells = [r for r in read_records(measured / "records.jsonl") if r["kind"] == "cell"]
    where = {(r["config"]["row"], r["n_way"]) for r in cells}
    assert where == {("centroid", 5), ("centroid", "all"), ("proto", 5), ("proto", "all"), ("tuned", 5)}
    one = next(r for r in cells if r["method"] == "prototypical" and r["n_way"] == 5)
    assert one["n_episodes"] == 30 and one["train_seed"] == 0 and one["pretrained_on"] == "synthetic base classes"
    start = next(r for r in cells if r["method"] == "nearest_centroid")
    assert one["images_seen"] > start["images_seen"] > 0
    assert one["config"]["training"]["start"]["recipe"] == "conv4"
    assert one["catalog_fingerprint"] == catalog.fingerprint
    assert 0 < one["macro_f1"] < 1 and one["transductive"] is False and one["norm"] == "frozen"
    assert next(r for r in cells if r["method"] == "finetune_all")["n_episodes"] == 2


def test_differences_are_those_of_the_kept_episodes(measured):
    records = read_records(measured / "records.jsonl")
    differences = [r for r in records if r["kind"] == "difference"]
    assert len(differences) == 2
    for d in differences:
        a, b = (load_episode_accuracy(measured / "episode_accuracy", d[side]["key"]) for side in "ab")
        assert d["mean"] == pytest.approx(float(np.mean(a - b)), abs=1e-9)


def test_a_row_is_compared_with_one_that_was_measured_in_an_earlier_run(measured, catalog, tmp_path):
    shutil.copytree(measured, tmp_path / "runs")
    path = tmp_path / "runs" / "records.jsonl"
    whole = read_records(path)
    centroids = [r for r in whole if r["kind"] == "cell" and r["config"]["row"] == "centroid"]
    path.unlink()
    for record in centroids:
        append_record(path, record)
    _, lines = measure(catalog, tmp_path / "runs", ROWS[1:2])
    assert not any("not compared" in line for line in lines)
    wanted = {cell_key(r) for r in whole if r["kind"] == "difference"}
    assert {cell_key(r) for r in read_records(path) if r["kind"] == "difference"} == wanted

    path.unlink()
    for changed in ({"train_seed": 1}, {"catalog_fingerprint": "x"}, {"split_fingerprint": "x"}, {"n_query": 4}):
        for record in centroids:
            append_record(path, record | changed)
    _, lines = measure(catalog, tmp_path / "runs", ROWS[1:2])
    missing = [line for line in lines if "not compared with 'centroid'" in line and "name that row in --rows" in line]
    assert len(missing) == 2 and not any(r["kind"] == "difference" for r in read_records(path))


def test_a_second_run_measures_nothing_and_says_so(measured, catalog):
    before = (measured / "records.jsonl").read_bytes()
    failures, lines = measure(catalog, measured)
    assert failures == [] and lines[-1].startswith("0 cells measured, 0 failed")
    assert sum("done before" in line for line in lines) == 5
    assert (measured / "records.jsonl").read_bytes() == before


def test_a_changed_option_is_a_new_cell_and_takes_the_old_one_s_place(catalog, measured, tmp_path):
    shutil.copytree(measured, tmp_path / "runs")
    changed = [Row("centroid", "conv4", "nearest_centroid", {"transform": "L2N"})]
    _, lines = measure(catalog, tmp_path / "runs", changed)
    assert lines[-1].startswith("2 cells measured")
    records = read_records(tmp_path / "runs" / "records.jsonl")
    cells = [r for r in records if r["kind"] == "cell" and r["config"]["row"] == "centroid"]
    assert [r["config"]["method"]["transform"] for r in cells] == ["L2N", "L2N"]
    assert not [r for r in records if r["kind"] == "difference"]  # they compared with the old cells


def test_going_back_to_an_option_keeps_its_cells_and_drops_those_of_a_stopped_run(catalog, measured, tmp_path):
    folder = shutil.copytree(measured, tmp_path / "runs")

    def stop(line: str) -> None:
        if "5-way 1-shot: " in line:
            raise KeyboardInterrupt

    before = read_records(folder / "records.jsonl")
    with pytest.raises(KeyboardInterrupt):
        measure(catalog, folder, [Row("centroid", "conv4", "nearest_centroid", {"transform": "L2N"})], report=stop)
    assert len(read_records(folder / "records.jsonl")) == len(before) + 1
    _, lines = measure(catalog, folder)
    assert lines[-1].startswith("0 cells measured, 0 failed")
    assert read_records(folder / "records.jsonl") == before


def test_a_run_over_fewer_episodes_is_refused_before_anything_is_lost(measured, catalog):
    before = (measured / "records.jsonl").read_bytes()
    for fewer, row, n in (({"n_episodes": 20}, "centroid", 30), ({"n_episodes_adapting": 1}, "tuned", 2)):
        lost = f"holds '{row}' over {n} episodes, which a run over {next(iter(fewer.values()))} would replace: name"
        with pytest.raises(ResultsError, match=lost):
            measure(catalog, measured, **fewer)
    assert (measured / "records.jsonl").read_bytes() == before


def test_an_interval_needs_two_episodes(catalog, tmp_path):
    with pytest.raises(ValueError, match=r"1 episodes .* an interval needs at least two"):
        measure(catalog, tmp_path, ROWS[:1], n_episodes=1)
    assert not list(tmp_path.iterdir())


def test_a_difference_whose_cells_were_measured_again_is_written_again(measured, catalog, tmp_path):
    for folder in ("synthetic", "episode_accuracy"):
        shutil.copytree(measured / folder, tmp_path / folder)
    kept = read_records(measured / "records.jsonl")
    true = [r["mean"] for r in kept if r["kind"] == "difference"]
    for r in kept:
        append_record(tmp_path / "records.jsonl", r | {"mean": 0.9} if r["kind"] == "difference" else r)
    measure(catalog, tmp_path, ROWS[:2])
    assert [r["mean"] for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "difference"] == true


def test_a_failing_cell_is_listed_and_the_rest_goes_on(measured, catalog):
    rows = [Row("broken", "conv4", "linear_probe", {"transform": "CLN"}), ROWS[0]]
    failures, lines = measure(catalog, measured, rows)
    assert len(failures) == 1 and "broken, seed 0" in failures[0] and "transform is 'CLN'" in failures[0]
    assert sum("done before" in line for line in lines) == 2


def test_a_recipe_that_cannot_be_trained_is_tried_once_and_fails_every_row(catalog, tmp_path, monkeypatch):
    tried = []

    def fail(recipe, *_):
        tried.append(recipe)
        raise ValueError("the loss is nan")

    monkeypatch.setattr("fewshot_prod.cells.prepare_encoder", fail)
    failures, lines = measure(catalog, tmp_path)
    assert failures == [f"{row.name}, seed 0: ValueError: the loss is nan" for row in ROWS]
    assert tried == ["conv4", "conv4_prototypical"]  # rows 1 and 3 share a recipe
    assert lines[-1].startswith("0 cells measured, 3 failed")


@pytest.mark.gpu
def test_a_table_is_measured_on_the_gpu_that_its_encoders_are_trained_on(catalog, tmp_path):
    methods = ("relation", "feat", "maml", "maml_first_order")
    rows = [Row(name, f"conv4_{name}", name) for name in methods]
    rows += [Row("am3", "conv4_gru", "am3"), Row("tuned", "conv4", "finetune_all", {"n_adaptation_steps": 1})]
    for _ in range(2):  # trained, then read
        failures, _ = measure(catalog, tmp_path, rows)
        assert failures == []
        records = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "cell"]
        assert {r["device"] for r in records} == {torch.cuda.get_device_name()}
        (tmp_path / "records.jsonl").unlink()


def test_a_setting_that_does_not_fit_is_reported_not_failed(measured, catalog):
    lines: list[str] = []
    options = {"catalog": catalog, "split": default_split(catalog), "seeds": (0,), "overrides": SMOKE}
    options |= {"results": measured / "other.jsonl", "n_episodes": 5, "report": lines.append}
    failures = measure_table("test", ROWS[:1], [Setting(5, 7, 3), Setting(5, 1, 3)], runs=measured, **options)
    assert failures == [] and "not possible here" in lines[0] and "lower n_way, n_shot or n_query" in lines[0]
    assert lines[-1].startswith("1 cells measured")


def test_where_no_setting_fits_nothing_is_trained(catalog, tmp_path):
    few = replace(split := default_split(catalog), novel=split.novel[:2], validation=())
    options = {"catalog": catalog, "split": few, "seeds": (0,), "overrides": SMOKE, "results": tmp_path / "r.jsonl"}
    options |= {"runs": tmp_path, "n_episodes": 5, "n_episodes_adapting": 2}
    reasons = "nothing can be measured: .*5-way episodes need as many novel classes.*; .*but n_way is all"
    with pytest.raises(CatalogError, match=reasons):
        measure_table("test", ROWS, [Setting(5, 1, 3), Setting("all", 7, 3)], report=pytest.fail, **options)
    assert not list(tmp_path.iterdir())
    lines: list[str] = []  # the last row is measured 5-way alone
    assert measure_table("test", ROWS[2:], [Setting("all", 1, 3)], report=lines.append, **options) == []
    assert lines[0] == "seed 0  tuned: not possible here: it is measured 5-way alone"
    assert not any("training" in line for line in lines)

    held = hold_out_base(catalog, few, least=4)
    both = [Setting(BASE_NOVEL, 1, 2, base_shots=3, calibrated=calibrated) for calibrated in (False, True)]
    samplers, impossible = episode_samplers(held, few, both, 0, "novel")
    assert list(samplers) == both[:1] and list(impossible) == both[1:]  # there is nothing to calibrate on


def test_support_and_query_may_come_from_two_parts_of_the_catalog(catalog, tmp_path):
    marked = catalog.take(np.arange(len(catalog)))
    marked.frame["split"] = np.where(np.arange(len(catalog)) % 2, "train", "test")
    split = default_split(marked)
    sampler = episode_sampler(marked, split, Setting(5, 1, 3, domain=("train", "test")), seed=0)
    episodes, parts = sampler.sample(0, 20), split.select(marked, "novel").frame["split"].to_numpy()
    assert set(parts[episodes.support.numpy().ravel()]) == {"train"}
    assert set(parts[episodes.query.numpy().ravel()]) == {"test"}
    measure_table(
        "test", ROWS[:1], [Setting(5, 1, 3), Setting(5, 1, 3, domain=("train", "test"))], catalog=marked, split=split,
        seeds=(0,), results=tmp_path / "domain.jsonl", runs=tmp_path, n_episodes=5, overrides=SMOKE,
        report=lambda line: None,
    )  # fmt: skip
    records = [r for r in read_records(tmp_path / "domain.jsonl") if r["kind"] == "cell"]
    assert [r["domain"] for r in records] == [None, "train to test"]
    assert "| train to test |" in methods_table(records)


def test_an_encoder_is_reused_until_its_settings_change(measured, catalog):
    split, lines = default_split(catalog), []
    again = prepare_encoder("conv4", catalog, split, 0, measured, SMOKE, lines.append)
    assert lines == []
    changed = prepare_encoder("conv4", catalog, split, 0, measured, {"pretrain": {"epochs": 2}}, lines.append)
    assert "its settings or data have changed" in lines[0]
    assert encoder_hash(changed.encoder) != encoder_hash(again.encoder)


def test_what_goes_on_from_an_encoder_trains_in_its_precision(catalog, tmp_path, monkeypatch):
    """It is the same network, trained now or read again; with titles beside it is another, and timed."""
    timed = []
    monkeypatch.setattr(prepare, "choose_precision", lambda one, *a, **k: timed.append(one.modality) or "bf16-mixed")
    split = default_split(catalog)
    few = replace(split, base=split.base[:3], validation=())
    for recipe, expected in [
        ("conv4_prototypical", ["image"]),
        ("conv4_continued", []),
        ("conv4_gru", ["image+title"]),
    ]:
        prepared = prepare_encoder(recipe, catalog, few, 0, tmp_path, SMOKE, lambda line: None)
        assert timed == expected and prepared.facts["precision"] == "bf16-mixed"
        timed.clear()


def test_episodes_of_training_are_of_the_classes_that_there_are(catalog, tmp_path):
    split = default_split(catalog)
    few = replace(split, base=split.base[:3], validation=())
    facts = prepare_encoder("conv4_prototypical", catalog, few, 0, tmp_path, SMOKE, lambda line: None).facts
    assert facts["images_seen"] == 24 + 2 * 3 * (1 + 2)  # an epoch of conv4, two episodes


def test_episodes_of_training_are_of_the_classes_that_are_large_enough(catalog, tmp_path):
    split = default_split(catalog)
    base = split.base[:4]
    small = np.cumsum(catalog.frame["category"] == base[0]) <= 2  # of this one two products, an episode takes three
    few = catalog.take(small | (catalog.frame["category"] != base[0]).to_numpy())
    facts = prepare_encoder(
        "conv4_prototypical", few, replace(split, base=base, validation=()), 0, tmp_path, SMOKE, lambda line: None
    ).facts
    assert facts["images_seen"] == 26 + 2 * 3 * (1 + 2)
    with pytest.raises(CatalogError, match="no episodes of the base classes of catalog 'synthetic'"):
        alone = replace(split, base=base[:2], validation=())
        prepare_encoder("conv4_prototypical", few, alone, 0, tmp_path / "none", SMOKE, lambda line: None)
    assert not (tmp_path / "none").exists()  # nor was its start trained


def test_a_title_that_masking_empties_is_no_missing_product(catalog):
    few = catalog.take(np.arange(3))
    first = few.categories[0]
    few = replace(
        few, frame=few.frame.assign(title=[first, first, f"red {first}"], image=pd.Series([None, 0, 1], dtype=object))
    )
    prepared = untrained(RECIPES["conv4_gru_masked"], few, list(few.categories), 0)
    inputs = prepared.inputs(few)
    assert (inputs.lengths > 0).tolist() == [True, False, True]  # the second has an image
    assert embed(prepared.encoder, inputs).isfinite().all()


def test_an_encoder_that_is_there_needs_no_start(measured, catalog, tmp_path):
    where = ("synthetic", default_split(catalog).name)
    shutil.copytree(measured.joinpath(*where, "conv4_prototypical"), tmp_path.joinpath(*where, "conv4_prototypical"))
    prepare_encoder("conv4_prototypical", catalog, default_split(catalog), 0, tmp_path, SMOKE, pytest.fail)
    assert not tmp_path.joinpath(*where, "conv4").exists()


def test_a_recipe_with_titles_is_refused_on_a_catalog_without_any(tmp_path):
    catalog = load_catalog("synthetic", products_per_category=3, missing_titles=1.0)
    with pytest.raises(CatalogError, match="'gru' reads titles, and no product of 'synthetic' has one"):
        prepare_encoder("gru", catalog, default_split(catalog), 0, tmp_path, SMOKE)


def without_pictures(catalog):
    return replace(catalog, frame=catalog.frame.assign(image=None))


def test_nothing_is_trained_or_measured_on_pictures_that_are_not_there(measured, catalog, tmp_path):
    """Blanks would be trained on, and measured, as if they were pictures."""
    blank, split = without_pictures(catalog), default_split(catalog)
    with pytest.raises(CatalogError, match="'conv4' reads images, and no product of 'synthetic' has one"):
        prepare_encoder("conv4", blank, split, 0, tmp_path, SMOKE)
    with pytest.raises(CatalogError, match="catalog 'synthetic' has no images, and all that was to be measured reads"):
        measure(blank, tmp_path)
    assert not list(tmp_path.iterdir())
    images = prepare_encoder("conv4", catalog, split, 0, measured, SMOKE)
    with pytest.raises(CatalogError, match="reads images, and no novel product of catalog 'synthetic' has one"):
        Pools(images, blank, split)

    lines: list[str] = []
    kept = readable_rows([*ROWS, Row("title", "gru", "nearest_centroid")], blank, lines.append)
    assert [row.name for row in kept] == ["title"]
    assert lines == ["catalog 'synthetic' has no images: 3 of 4 rows, which read images, are left out"]
    assert readable_rows(ROWS, catalog, pytest.fail) == ROWS


def test_products_without_what_an_encoder_reads_are_told_and_stay_in_the_episodes(catalog, tmp_path):
    split = default_split(catalog)
    some = load_catalog("synthetic", products_per_category=8, missing_images=0.125)
    _, lines = measure(some, tmp_path, ROWS[:1])
    told = {part: split.select(some, part).frame["image"].isna().sum() for part in ("base", "novel")}
    sizes = {part: len(split.select(some, part)) for part in told}
    words = {p: f"{told[p]} of {sizes[p]:,} products have no image: it sees nothing of them" for p in told}
    assert lines[0] == f"training conv4, seed 0, on {sizes['base']} products of 52 base classes; {words['base']}"
    assert f"conv4, novel classes: {words['novel']}" in lines
    cells = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "cell"]
    assert [r["lacking"] for r in cells] == [{"products": told["novel"], "of": sizes["novel"]}] * 2
    assert lacking_words(RECIPES["conv4_gru"], some) == ""  # a title is something


def test_training_sees_no_product_of_a_novel_class(measured, catalog):
    """The encoder is the same, to the last bit, when all novel products are taken out of the catalog's rows."""
    split = default_split(catalog)
    known = catalog.take(~catalog.frame["category"].isin(split.novel).to_numpy())
    without = prepare_encoder("conv4", known, split, 0, measured / "without", SMOKE, lambda line: None)
    whole = prepare_encoder("conv4", catalog, split, 0, measured / "whole", SMOKE, lambda line: None)
    assert encoder_hash(without.encoder) == encoder_hash(whole.encoder)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_lacks_to_be_built_is_found_for_it(method):
    """Every field without a plain default, so that none of them is taken for an option."""
    plain = (bool, int, float, str)
    lacking = [f.name for f in fields(METHODS[method]) if f.name not in FOUND and not isinstance(f.default, plain)]
    assert set(lacking) <= {"parts", "vectorised", "n_confident", "n_iterations"}  # None: left to the method


@pytest.mark.parametrize("most", [5, 2000])
def test_the_centre_is_that_of_base_products_whatever_the_novel_ones_are(measured, catalog, monkeypatch, most):
    """The one number by which novel products could reach every cell of CL2N features."""
    monkeypatch.setattr("fewshot_prod.pools.CENTER_PRODUCTS", most)
    split = default_split(catalog)
    prepared = prepare_encoder("conv4", catalog, split, 0, measured, SMOKE, lambda line: None)
    base = prepared.inputs(split.select(catalog, "base").take_evenly(most))
    expected = embed(prepared.encoder, base, precision=prepared.facts["precision"]).mean(0)
    novel = catalog.frame["category"].isin(split.novel).to_numpy()
    half, none = catalog.take(~novel | (np.arange(len(catalog)) % 2 == 0)), catalog.take(~novel)
    assert len(none) < len(half) < len(catalog)
    for products, part in ((catalog, "novel"), (half, "novel"), (none, "validation")):
        assert torch.equal(Pools(prepared, products, split, part).center(), expected)


def trained_as(algorithm: str, head: dict[str, float]) -> Prepared:
    encoder = build_encoder({"image": {"name": "conv4", "width": 8}})
    if algorithm == "relation":
        attach_head(encoder, algorithm)
    return Prepared(encoder, {"head": head, "training": {"options": {"algorithm": algorithm}}})


def test_a_method_finds_the_head_and_the_numbers_that_were_trained_for_it_and_no_others():
    def center():
        return torch.zeros(8)

    relation, ridge = trained_as("relation", {}), trained_as("ridge", {"logit_scale": 12.0, "penalty": 3.0})
    assert build_method("relation", relation, center).module is relation.encoder.head
    with pytest.raises(ValueError, match="this encoder has no head for 'feat': meta-train it with algorithm='feat'"):
        build_method("feat", relation, center)
    with pytest.raises(ValueError, match="prototypical does not choose what it adapts: leave out parts="):
        build_method("prototypical", trained_as("prototypical", {}), center, parts="title")
    assert build_method("ridge", ridge, center).penalty == 3.0
    assert build_method("ridge", ridge, center, penalty=2.0).penalty == 2.0
    assert build_method("finetune_head", ridge, center).logit_scale == 5.0


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_a_row_can_name_each_normalisation_of_nearest_centroid(transform):
    row = Row(f"centroid {transform}", "conv4", "nearest_centroid", {"transform": transform})
    method = build_method(row.method, trained_as("prototypical", {}), lambda: torch.zeros(8), **row.options)
    assert method.transform == transform and hyperparameters(method) == {"transform": transform}


def test_every_recipe_names_a_start_that_exists_and_shares_its_parts():
    for name, recipe in RECIPES.items():
        assert recipe.start is None or recipe.start in RECIPES, name
        assert recipe.stage in ("none", "pretrain", "metatrain", "halfway"), name
        assert recipe.stage != "halfway" or RECIPES[recipe.start].start, name  # where it was trained from
        if recipe.title_start:
            titles = RECIPES[recipe.title_start]
            assert titles.mask_class_words == recipe.mask_class_words, name
            assert titles.title == {k: v for k, v in recipe.title.items() if k != "dropout"}, name
    assert RECIPES["lite0_minilm_tuned_attention_masked"].title_start == "minilm_tuned_masked"
    assert RECIPES["lite0_minilm_attention"].title_start is None  # it is used as it comes


def test_what_goes_on_for_twice_as_long_does_so_on_every_catalog():
    for which, length in (("continued", "epochs"), ("prototypical", "n_iterations")):
        once, longer = RECIPES[f"resnet12_{which}"], RECIPES[f"resnet12_{which}_long"]
        for name in (None, "synthetic", "grocery", "table"):
            one, two = (r.options | r.catalog_options.get(name, {}) for r in (once, longer))
            assert two == one | {length: 2 * one[length]}, (which, name)


def test_every_trained_method_goes_on_from_conv4_with_as_many_products():
    from fewshot_prod.metatrain import ALGORITHMS

    for algorithm in ALGORITHMS:
        recipe = RECIPES[f"conv4_{algorithm}"]
        o = {"meta_batch_size": 1, **recipe.options}
        shown = o["n_iterations"] * o["meta_batch_size"] * o["n_way"] * (o["n_shot"] + o["n_query"])
        assert (recipe.start, o["algorithm"], shown) == ("conv4", algorithm, 30_000)


def test_take_over_copies_shared_parts(catalog):
    from fewshot_prod.encoders.product import build_encoder

    image = build_encoder({"image": {"name": "conv4", "width": 16}})
    title = {"vocab_size": 20, "embedding_dim": 8, "hidden_size": 8}
    both = build_encoder({"image": image.config["image"], "title": title, "fusion": {"kind": "concat", "dim": 8}})
    assert not (both.image.blocks[0][0].weight == image.image.blocks[0][0].weight).all()
    take_over(both, image)
    assert (both.image.blocks[0][0].weight == image.image.blocks[0][0].weight).all()


@pytest.mark.parametrize("trained", ["conv4_prototypical", "conv4_continued"])
def test_an_encoder_halfway_to_where_it_was_trained_from(catalog, tmp_path, trained):
    """Trained in no other way: its facts are those of the encoder that was, and its weights the mean of two."""
    split = default_split(catalog)
    few = replace(split, base=split.base[:5], validation=())  # so that the last weights are kept, not the start's
    names = (f"{trained}_halfway", "conv4", trained)
    lines: list[str] = []
    middle, start, end = (prepare_encoder(n, catalog, few, 0, tmp_path, SMOKE, lines.append) for n in names)
    trainings = [line.split(",")[0] for line in lines if line.startswith("training ")]
    assert trainings == [f"training {name}" for name in names[1:]]
    moved = 0.0
    for name, tensor in middle.encoder.state_dict().items():
        ours, theirs = start.encoder.state_dict()[name], end.encoder.state_dict()[name]
        if tensor.is_floating_point():
            moved += float((theirs - ours).abs().sum())
            assert torch.allclose(tensor, (ours + theirs) / 2, atol=1e-6), name
        else:
            assert tensor.equal(theirs), name
    assert moved > 0
    told = ("seen", "precision", "head", "images_seen", "train_seconds", "pretrained_on")
    assert {fact: middle.facts[fact] for fact in told} == {fact: end.facts[fact] for fact in told}
    assert middle.facts["stage"] == "halfway" and middle.facts["history"] == []
    method = Pools(middle, catalog, few).build("prototypical")
    assert end.facts["head"].items() <= vars(method).items()


def test_halfway_is_between_encoders_of_the_same_parts():
    narrow, wide = (build_encoder({"image": {"name": "conv4", "width": width}}) for width in (16, 32))
    with pytest.raises(ValueError, match="of the same parts and sizes"):
        halfway(narrow, wide)


def test_a_run_stopped_under_other_settings_is_not_in_the_way(catalog, tmp_path):
    """Stopped after epoch 1 of 2: a run of 1 epoch starts anew beside it, the same run goes on with epoch 2."""
    split, two = default_split(catalog), {"pretrain": {"epochs": 2}}

    def stop(line):
        if "epoch 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_encoder("conv4", catalog, split, 0, tmp_path / "runs", two, stop)
    shutil.copytree(tmp_path / "runs", tmp_path / "other")
    prepare_encoder("conv4", catalog, split, 0, tmp_path / "other", {"pretrain": {"epochs": 1}}, lambda line: None)
    assert not list((tmp_path / "other").rglob("state.pt"))  # finished: what was stopped before is swept up
    resumed: list[str] = []
    prepare_encoder("conv4", catalog, split, 0, tmp_path / "runs", two, resumed.append)
    assert not any("epoch 1/2" in line for line in resumed) and any("epoch 2/2" in line for line in resumed)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (Row("r", "conv5", "nearest_centroid"), "no recipe 'conv5': did you mean 'conv4'"),
        (Row("r", "conv4", "nearest_centroids"), "no method 'nearest_centroids': did you mean 'nearest_centroid'"),
        (Row("r", "conv4", "linear_probe", {"L2": 1.0}), "no option of linear_probe 'L2': did you mean 'l2'"),
        (Row("r", "conv4", "linear_probe", {"l2": "a"}), "r: l2 is 'a': give a number, as the default"),
        (Row("r", "conv4", "linear_probe", {"l2": None}), "r: l2 is None: give a number, as the default"),
        (Row("r", "conv4", "linear_probe", {"l2": -1}), "r: l2 is -1: it must be above 0"),
        (Row("r", "conv4", "maml", {"n_adaptation_steps": -1}), "r: n_adaptation_steps is -1: it must be 0 or above"),
        (Row("r", "conv4", "maml", {"precision": "fp8"}), "r: precision is 'fp8': it must be one of 32-true"),
        (Row("r", "conv4", "nearest_centroid", {"center": 3}), "r: center follows from .* leave out center=3"),
    ],
)
def test_a_mistyped_row_is_answered_before_anything_is_trained(catalog, tmp_path, row, answer):
    with pytest.raises((UnknownName, ResultsError), match=answer):
        measure(catalog, tmp_path, [ROWS[0], row])
    assert not list(tmp_path.iterdir())


def test_an_encoder_is_not_evaluated_on_classes_that_it_has_seen(measured, catalog):
    split = default_split(catalog)
    prepared = prepare_encoder("conv4", catalog, split, 0, measured, SMOKE, lambda line: None)
    other = random_split(catalog, seed=5, n_novel=10, n_validation=10, min_groups=4)
    both = {*split.base, *split.validation} & set(other.novel)
    assert both  # else this test tests nothing
    with pytest.raises(CatalogError, match=f"trained or chosen on {len(both)} of the 10 novel classes"):
        Pools(prepared, catalog, other)
    assert Pools(prepared, catalog, split).part == "novel"
    assert Pools(prepared, catalog, split, "validation").part == "validation"
