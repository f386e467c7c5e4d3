"""The scripts as a user runs them: smoke runs, a second run that reuses, and a table with mistakes in it."""

from __future__ import annotations

import csv
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
import time
from codecs import BOM_UTF8
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from fewshot_prod import catalog, pools, prepare
from fewshot_prod.adapt import categorise
from fewshot_prod.arguments import CatalogArgs, SourceArgs, answered
from fewshot_prod.cli import main
from fewshot_prod.errors import MissingPackage, UsageError
from fewshot_prod.results import append_record, read_records
from fewshot_prod.splits import read_split, write_split
from fewshot_prod.tables import methods_table

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py"))
SHIPPED = ROOT / "data" / "checkpoints" / "synthetic_conv4_gru_prototypical"
TABLE_SCRIPTS = {"table1_methods.py": 7, "table3_all_methods.py": 12, "fig1_shots.py": 7}  # and their methods
TABLE_SCRIPTS |= {"table2_modalities.py": 3, "table2b_missing.py": 2, "fig2_adaptation_steps.py": 1}
TABLE_SCRIPTS |= {"table4_base_and_novel.py": 2}


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "experiments" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_fast_and_imports_no_torch(script):
    """Under 1 s on an idle machine; the bound here allows for a busy one, and torch alone takes longer to import."""
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try:\n    runpy.run_path({str(ROOT / 'experiments' / script)!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "Command:" in shown.stdout and time.perf_counter() - started < 5


def test_the_demo_runs_end_to_end_and_reuses_what_it_has(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    first = run("demo.py", "--smoke", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "runs" / "smoke"
    assert {"table.md", "accuracy_vs_shots.png", "records.jsonl"} <= {path.name for path in folder.iterdir()}
    cells = [r for r in read_records(folder / "records.jsonl") if r["kind"] == "cell"]
    assert {r["method"] for r in cells} == {
        *("nearest_centroid", "prototypical", "maml", "maml_first_order"),
        *("linear_probe", "finetune_head", "finetune_all"),
    }
    assert {r["n_shot"] for r in cells} == {1, 5} and len(cells) == 16
    (folder / "table.md").write_text("of records.jsonl")
    shutil.copy(folder / "records.jsonl", folder / "mine.jsonl")
    again = run("demo.py", "--smoke", "--results", "runs/smoke/mine.jsonl", cwd=tmp_path)
    assert again.returncode == 0 and "0 cells measured, 0 failed" in again.stdout
    assert again.stdout.count("done before") == 16 and "training" not in again.stdout
    assert (folder / "table.md").read_text() == "of records.jsonl"
    assert (folder / "mine_table.md").exists() and (folder / "mine_accuracy_vs_shots.png").exists()


@pytest.mark.parametrize("script", TABLE_SCRIPTS)
def test_smoke_of_the_tables(script, tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    done = run(script, "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "runs" / "smoke").glob("*.jsonl")
    assert len({r["method"] for r in read_records(results) if r["kind"] == "cell"}) == TABLE_SCRIPTS[script]


def test_options_are_selected_on_validation_classes(tmp_path, run_here):
    asked = ["select_options.py", "--smoke", "--grid", "l2=0.1,1000", "transform=L2N"]
    done = run(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "runs" / "smoke" / "synthetic_random_conv4_linear_probe.jsonl"
    records = [r for r in read_records(results) if r["kind"] == "cell"]
    assert {r["split"] for r in records} == {"synthetic_random, validation classes"}
    assert {r["config"]["method"]["l2"] for r in records} == {0.1, 1000}
    best, worst = done.stdout.splitlines()[-2:]
    assert float(best.split()[0]) >= float(worst.split()[0]) and "l2=" in best and "transform=L2N" in worst
    for of_another in (
        {"method": "ridge"},
        {"encoder": "gru", "config": records[0]["config"] | {"training": {"recipe": "gru"}}},
        {"split": "synthetic_tail, validation classes"},
    ):
        append_record(results, records[0] | of_another | {"accuracy": 1.0})
    assert run_here(*asked)[1].splitlines()[-2:] == [best, worst]
    for grid, answer in ((["l2"], "write an option and its values"), (["l2=1", "l2=2"], "--grid names 'l2' twice")):
        code, _, error = run_here("select_options.py", "--smoke", "--grid", *grid)
        assert code == 2 and answer in error


def test_smoke_of_omniglot_stands_beside_the_published_numbers(tmp_path):
    """Drawings of noise under the names that the smoke run keeps: 20 characters of each part."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    split, rng = read_split("omniglot_vinyals"), np.random.default_rng(0)
    with ZipFile(tmp_path / "images_background.zip", "w") as archive:
        for name in (*split.base[:20], *split.validation[:20], *split.novel[:20]):
            for i in range(20):
                content = io.BytesIO()
                Image.fromarray(rng.integers(0, 2, (28, 28)).astype(bool)).save(content, "png")
                archive.writestr(f"images_background/{name}/{i:02d}.png", content.getvalue())
    ZipFile(tmp_path / "images_evaluation.zip", "w").close()
    wanted = ["nearest centroid", "prototypical", "maml", "maml, support statistics"]
    done = run("table_omniglot.py", "--smoke", "--root", str(tmp_path), "--rows", *wanted, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page, everything = done.stdout, read_records(tmp_path / "runs" / "smoke" / "omniglot_vinyals.jsonl")
    records = [r for r in everything if r["kind"] == "cell"]
    rows = {r["config"]["row"] for r in records}
    assert rows == set(wanted) and all(f"| {row} | " in page for row in rows)
    assert "*Snell et al. 2017, table 1* | *98.8* | *99.7* | *96.0* | *98.9*" in page
    histories = {r["encoder"]: [row["score"] for row in r["rows"]] for r in everything if r["kind"] == "history"}
    assert set(histories) == {"omniglot_classifier", "omniglot_prototypical", "omniglot_maml"}
    assert all(0 <= score <= 1 for scores in histories.values() for score in scores)
    assert {(r["n_way"], r["n_shot"]) for r in records} == {(5, 1), (5, 5), (20, 1), (20, 5)}
    transductive = {norm: {r["transductive"] for r in records if r["norm"] == norm} for norm in ("batch", "support")}
    assert transductive == {"batch": {True}, "support": {False}}
    assert "| norm |" in methods_table(records)


def test_smoke_of_the_attention_figure(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    done = run("fig_attention.py", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = run("fig_attention.py", "--smoke", "--recipe", "conv4_gru", cwd=tmp_path)
    assert trained.returncode == 0 and "epoch 1/1" in trained.stdout, trained.stderr
    assert not (tmp_path / "runs" / "encoders").exists(), "a smoke run trains where no real encoder lies"
    for name, encoder in (("", "conv4_gru_prototypical"), ("_conv4_gru", "conv4_gru")):  # the second leaves the first
        records = read_records(tmp_path / "runs" / "smoke" / f"attention_synthetic_random{name}.jsonl")
        assert len(records) == len(read_split("synthetic_random").novel)
        assert {r["encoder"] for r in records} == {encoder}
    assert all(sum(r["modality_weights"].values()) == pytest.approx(1, abs=1e-5) for r in records)
    assert (tmp_path / "runs" / "smoke" / "attention_synthetic_random_products.png").exists()
    path = tmp_path / "runs" / "smoke" / "attention_synthetic_random.jsonl"
    before = path.stat().st_mtime_ns
    for wrong, answer in (
        (["--products", "nobody"], "no novel product 'nobody'"),
        (["--recipe", "conv4"], "conv4 has no attention fusion"),
        (["--recipe", "conv4_gru_attention_attributes"], "has no attention fusion of image and title"),
    ):
        refused = run("fig_attention.py", "--smoke", *wrong, cwd=tmp_path)
        assert refused.returncode == 2 and answer in refused.stderr
        assert "training" not in refused.stdout and path.stat().st_mtime_ns == before


def test_an_attention_figure_that_is_stopped_leaves_the_records_of_before(tmp_path, run_here, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "data")
    path = tmp_path / "runs" / "smoke" / "attention_synthetic_random.jsonl"
    path.parent.mkdir(parents=True)
    shutil.copy(ROOT / "experiments" / "results" / path.name, path)
    before = path.read_bytes()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fewshot_prod.plots.attention_sheet", stop)
    code, _, error = run_here("fig_attention.py", "--smoke")
    assert code == 130 and "interrupted" in error and path.read_bytes() == before


def test_an_encoder_is_trained_by_its_recipe(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    done = run("train_encoder.py", "--recipe", "gru", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gru, seed 0: validation" in done.stdout
    (folder,) = (tmp_path / "runs" / "smoke").glob("synthetic/*/gru/seed0/encoder")
    assert {path.name for path in folder.iterdir()} == {"config.json", "weights.safetensors"}


@pytest.mark.parametrize(
    ("stage", "history", "told"),
    [
        ("pretrain", [{"score": 0.5}, {"score": 0.7}], "validation 70.0 %"),
        ("pretrain", [{"loss": 1.0}], "not validated: too few validation categories"),
        ("none", [], "taken as it is: not trained, so not validated"),
        ("halfway", [], "the mean of two encoders' weights: not trained, so not validated"),
    ],
)
def test_an_encoder_without_validation_has_no_accuracy(stage, history, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_encoder.py", "--smoke"])
    facts = {"stage": stage, "history": history, "train_seconds": 60.0}
    monkeypatch.setattr(prepare, "prepare_encoder", lambda *_: SimpleNamespace(facts=facts))
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments" / "train_encoder.py"), run_name="__main__")
    assert not stop.value.code and capsys.readouterr().out == f"conv4, seed 0: {told}, 1.0 minutes\n"


def test_a_shipped_encoder_is_evaluated(monkeypatch, capsys):
    small = catalog.load_catalog("synthetic", products_per_category=20)
    monkeypatch.setattr(catalog, "load_catalog", lambda *_, **__: small)
    monkeypatch.setattr(pools, "CENTER_PRODUCTS", 100)
    monkeypatch.setattr(sys, "argv", ["fewshot-prod", "evaluate", str(SHIPPED), "--episodes", "40", "--ways", "5"])
    assert main() == 0
    trained, about, *lines = capsys.readouterr().out.splitlines()
    assert trained == f"{SHIPPED}: trained on synthetic base classes; catalog synthetic"
    assert about == "nearest_centroid, inductive, norm frozen, novel classes of synthetic_random, 40 episodes"
    accuracy = {line.split(":")[0]: float(re.search(r": ([\d.]+) ±", line).group(1)) for line in lines}
    assert 60 < accuracy["5-way 1-shot"] < accuracy["5-way 5-shot"] < 100
    for wrong, told in (
        ("--queries 100", "n_query=100"),
        ("--ways", "--ways ()"),
        ("--episode-seed -1", "seed -1: give"),
    ):
        monkeypatch.setattr(sys, "argv", ["fewshot-prod", "evaluate", str(SHIPPED), *wrong.split()])
        assert main() == 2 and told in capsys.readouterr().err
    scarce = read_split("synthetic_random").novel[0]
    gone = (small.frame["category"] == scarce).to_numpy() & (np.arange(len(small)) % 2 == 0)
    monkeypatch.setattr(catalog, "load_catalog", lambda *_, **__: small.take(~gone))
    monkeypatch.setattr(sys, "argv", ["fewshot-prod", "evaluate", str(SHIPPED), "--episodes", "2", "--shots", "1"])
    assert main() == 0
    told = f": 1 of 20 classes skipped, too few products: {scarce}\n"
    out = capsys.readouterr().out
    assert f"5-way 1-shot{told}" in out and f"all-way 1-shot{told}" in out


def test_titles_are_masked_of_the_classes_of_the_catalog_that_is_evaluated_on_too(monkeypatch, capsys):
    """Else what was trained on masked titles would read the names of another catalog's classes."""
    small = catalog.load_catalog("synthetic", products_per_category=4)
    monkeypatch.setattr(catalog, "load_catalog", lambda *_, **__: small)
    shipped = prepare.load_encoder(SHIPPED)
    masked = replace(shipped, facts=shipped.facts | {"masked_classes": ["elsewhere"]})
    monkeypatch.setattr(prepare, "load_encoder", lambda _: masked)
    read = []
    monkeypatch.setattr(pools.Pools, "build", lambda self, *_: read.append(self.prepared) or 1 / 0)
    monkeypatch.setattr(sys, "argv", ["fewshot-prod", "evaluate", str(SHIPPED)])
    with pytest.raises(ZeroDivisionError):
        main()
    assert "class words masked" in capsys.readouterr().out
    assert read[0].facts["masked_classes"] == sorted(["elsewhere", *small.categories])


def test_novel_classes_that_share_too_many_groups_are_answered_in_one_line(monkeypatch, capsys):
    small = catalog.load_catalog("synthetic", products_per_category=20)
    shared = replace(small, frame=small.frame.assign(group=small.frame.groupby("category").cumcount()))
    monkeypatch.setattr(catalog, "load_catalog", lambda *_, **__: shared)
    monkeypatch.setattr(pools, "CENTER_PRODUCTS", 100)
    wanted = ["--episodes", "10", "--ways", "5", "--shots", "1", "--queries", "5"]
    monkeypatch.setattr(sys, "argv", ["fewshot-prod", "evaluate", str(SHIPPED), *wanted])
    assert main() == 2 and "the classes share too many groups, so lower n_way" in capsys.readouterr().err


def test_features_are_not_centred_by_nothing():
    small = catalog.load_catalog("synthetic", products_per_category=20)
    new = read_split("synthetic_random").select(small, "novel")
    unseen = replace(new, frame=new.frame.assign(image=None, title=None))
    with pytest.raises(
        catalog.CatalogError, match="only image and title, and no product of base has that: leave base out"
    ):
        categorise(prepare.load_encoder(SHIPPED), new, new, base=unseen)


def test_a_split_of_too_few_categories_names_the_options(tmp_path, monkeypatch, capsys):
    write_titles(tmp_path / "shop.csv", ["apron", "basket"], 3)
    out, root = str(tmp_path / "split.json"), str(tmp_path / "shop.csv")
    monkeypatch.setattr(sys, "argv", ["fewshot-prod", "split", out, "--root", root])
    assert main() == 2
    assert capsys.readouterr().err.endswith(
        "lower min_groups, n_novel or n_validation (--min-groups, --novel, --validation)\n"
    )
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--min-groups", "2", "--novel", "1", "--validation", "0"])
    assert main() == 0
    made = (tmp_path / "split.json").read_bytes()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--kind", "tail"])
    assert main() == 2 and f"{out} exists: delete it, or give another name" in capsys.readouterr().err
    assert (tmp_path / "split.json").read_bytes() == made
    kept = (tmp_path / "shop.csv").read_bytes()
    for wrong, told in (("shop.csv", "a split is a JSON file"), ("shop.json", "is read here and would be overwritten")):
        (tmp_path / wrong).write_bytes(kept)
        read = str(tmp_path / "shop.csv") if wrong == "shop.csv" else str(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fewshot-prod", "split", str(tmp_path / wrong), "--root", read])
        assert main() == 2 and told in capsys.readouterr().err
        assert (tmp_path / wrong).read_bytes() == kept


@pytest.mark.parametrize("error", [UsageError("--rows: none"), MissingPackage("needs 'jieba'")])
def test_what_can_be_mended_is_answered_by_one_line_and_a_bug_is_not(error, capsys):
    def run():
        raise error

    assert answered(run) == 2 and capsys.readouterr().err == f"error: {error}\n"
    for bug in (ValueError("a bug"), ImportError("a bug")):
        error = bug
        with pytest.raises(type(bug), match="a bug"):
            answered(run)


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    missing = run("table1_methods.py", "--catalog", "fashion", "--root", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert missing.returncode == 2 and "Traceback" not in missing.stderr
    assert missing.stderr.startswith("error: ") and "styles.csv" in missing.stderr
    row = run("table1_methods.py", "--rows", "nearest", cwd=tmp_path)
    assert row.returncode == 2 and "Traceback" not in row.stderr and "no row 'nearest'" in row.stderr
    seeds = run("table1_methods.py", "--seeds", "0", "-1", cwd=tmp_path)
    assert seeds.returncode == 2 and seeds.stderr == "error: --seeds -1: give 0 or more\n"
    rates = run("table2b_missing.py", "--rates", "0.5", "2", cwd=tmp_path)
    assert rates.returncode == 2 and "Traceback" not in rates.stderr and "--rates (0.5, 2.0)" in rates.stderr
    drawn = run("table1_methods.py", "--root", "my.csv", cwd=tmp_path)
    assert drawn.returncode == 2 and drawn.stderr.startswith("error: root my.csv: the synthetic catalog is drawn")


def write_table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def coloured(folder: Path, name: str, colour: tuple[int, int, int], rng: np.random.Generator) -> str:
    pixels = np.clip(np.array(colour) + rng.normal(0, 20, (24, 24, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return f"{name}.png"


def test_adapting_to_a_table_with_mistakes(tmp_path):
    """Three new categories told apart by colour and a word: predictions well above chance (1/3)."""
    rng = np.random.default_rng(0)
    words = ["apron", "basket", "candle", "drawer", "easel", "funnel", "goblet", "hammock", "inkwell", "jug"]
    colours = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in words]

    def products(k: int, count: int, tag: str) -> list[list[str]]:
        word = words[k]
        return [
            [f"{tag}{k}-{i}", coloured(tmp_path, f"{tag}{k}-{i}", colours[k], rng), f"{word} number {i}", word]
            for i in range(count)
        ]

    header = ["id", "picture file", "title", "category"]
    base = [row for k in range(3, 10) for row in products(k, 16, "base")]
    base[4][1] = "nowhere.png"
    write_table(tmp_path / "my.csv", header, base)
    write_table(tmp_path / "support.csv", header, [row for k in range(3) for row in products(k, 5, "new")])
    items = [row[:3] for k in range(3) for row in products(k, 6, "item")]
    items[0][1] = ""  # a title alone is enough
    items[1][1] = items[1][2] = ""
    write_table(tmp_path / "items.csv", header[:3], items)
    arguments = ["--root", "my.csv", "--support", "support.csv", "--items", "items.csv"]
    done = run("adapt_catalog.py", *arguments, "--columns.image", "picture file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nowhere.png" in done.stdout and "items.csv:3" in done.stdout
    (folder,) = (tmp_path / "runs" / "encoders").iterdir()
    assert re.fullmatch("my-[0-9a-f]{6}", folder.name)
    assert (folder / "table/table_random/conv4_gru_bag_attention/seed0").is_dir()
    with (tmp_path / "predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 17
    right = [row["category"] == words[int(row["product_id"][4])] for row in predictions]
    assert np.mean(right) > 0.7
    assert all(0 < float(row["second_probability"]) <= float(row["probability"]) <= 1 for row in predictions)
    unknown = run("adapt_catalog.py", *arguments, "--columns.image", "photo", cwd=tmp_path)
    assert unknown.returncode == 2 and "'photo'" in unknown.stderr and "picture file" in unknown.stderr


@pytest.fixture
def run_here(tmp_path, monkeypatch, capsys):
    """A script in this process and in ``tmp_path``: exit code, what it prints, errors."""
    monkeypatch.chdir(tmp_path)

    def run_here(script: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
        return stop.value.code, *capsys.readouterr()

    return run_here


@pytest.fixture
def adapt(run_here):
    return partial(run_here, "adapt_catalog.py")


def write_titles(path: Path, words: list[str], count: int) -> None:
    write_table(path, ["title", "category"], [[f"{word} number {i}", word] for word in words for i in range(count)])


def test_a_small_shop_with_headers_of_its_own(tmp_path, adapt):
    """Fewer products than one batch, columns that support and items lack, an item that the encoder cannot see."""
    coloured(tmp_path, "here", (200, 0, 0), np.random.default_rng(0))
    words = ["Korb", "Kerze", "Krug", "Pokal", "Trichter", "Teller", "Gabel", "Dose"]
    header = ["Nr", "Bezeichnung", "Warengruppe", "Sparte"]
    base = [[f"{word}{i}", f"{word} aus Holz {i}", word, "Haus"] for word in words for i in range(5)]
    base[3][1] += " und noch mehr" * 40
    write_table(tmp_path / "shop.csv", header, [*base, ["x", "Einzeln", "Einzelgruppe", "Haus"]])
    support = [[f"{word} rund {i}", word, ""] for word in ("Löffel", "Schale") for i in range(2)]
    support += [["", "Messer", "fort.png"], ["", "Schale", "here.png"]]
    write_table(tmp_path / "support.csv", ["Bezeichnung", "Warengruppe", "image"], support)
    items = [
        ["a", "Löffel neu", ""],
        ["b", "", "here.png"],
        *([f"c{i}", "", ""] for i in range(5)),
        ["d", "Schale", ""],
    ]
    write_table(tmp_path / "items.csv", ["Nr", "Bezeichnung", "image"], items)
    named = ["--columns.id", "Nr", "--columns.title", "Bezeichnung", "--columns.category", "Warengruppe"]
    shop = ["--support", "support.csv", "--items", "items.csv", *named, "--columns.parent", "Sparte", "--smoke"]
    code, out, error = adapt("--root", "shop.csv", *shop)
    assert code == 0, error
    assert "not pretrained on, having one product each: Einzelgruppe" in out
    assert "categories without a usable row: Messer" in out
    assert "on 40 products of 8 base classes" in out and "too few validation categories" in out
    assert "1 of 40 titles fill the 64 tokens that are read" in out
    assert "3 products in 2 categories (1 in none: the encoder reads only title): predictions.csv" in out
    with (tmp_path / "predictions.csv").open() as file:
        found = {row["product_id"]: (row["category"], row["probability"]) for row in csv.DictReader(file)}
    assert list(found) == ["a", "b", "d"] and found["b"] == ("", "")
    assert found["a"][0] == "Löffel" and found["d"][0] == "Schale"
    with (tmp_path / "predictions_problems.csv").open() as file:
        told = [(row["table"], row["row"], row["left_out"]) for row in csv.DictReader(file)]
    assert told == [
        ("support", "support.csv:6", "yes"),
        ("support", "product line-7", "yes"),
        *(("items", f"items.csv:{line}", "yes") for line in range(4, 9)),
        ("items", "product b", "no"),
    ]

    (tmp_path / "other").mkdir()
    write_titles(tmp_path / "other" / "shop.csv", ["apron", "basket"], 4)
    write_titles(tmp_path / "new.csv", ["jug", "lamp"], 2)
    other = ["--root", "other/shop.csv", "--support", "new.csv", "--items", "new.csv", "--smoke"]
    assert "training gru_bag" in adapt(*other)[1]  # and not in the first one's place
    assert "training bag," in adapt(*other, "--recipe", "bag")[1]
    assert all("epoch" not in adapt(*arguments)[1] for arguments in (["--root", "shop.csv", *shop], other))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["smoke"]

    results = [tmp_path / "predictions.csv", tmp_path / "predictions_problems.csv"]
    marks = [path.read_bytes().startswith(BOM_UTF8) for path in results]
    for_excel = tmp_path / "items.csv"
    for_excel.write_bytes(BOM_UTF8 + for_excel.read_bytes())
    assert adapt("--root", "shop.csv", *shop)[0] == 0
    assert marks == [False, False] and all(path.read_bytes().startswith(BOM_UTF8) for path in results)


def test_what_adapt_catalog_refuses_it_refuses_before_training(tmp_path, adapt):
    write_titles(tmp_path / "my.csv", ["apron", "basket"], 3)
    write_titles(tmp_path / "new.csv", ["jug", "lamp"], 2)
    write_titles(tmp_path / "one.csv", ["apron"], 3)
    for name in ("third.csv", "fresh_problems.csv"):
        write_titles(tmp_path / name, ["apron"], 3)
    (tmp_path / "zh.csv").write_bytes("title\n杯子\n".encode("gbk"))
    (tmp_path / "apart").mkdir()
    write_titles(tmp_path / "apart" / "new.csv", ["jug", "lamp"], 2)
    coloured(tmp_path, "a", (200, 0, 0), np.random.default_rng(0))
    write_table(tmp_path / "pictures.csv", ["image", "category"], [["a.png", "jug"], ["a.png", "lamp"]])
    usual = {"--root": "my.csv", "--support": "new.csv", "--items": "new.csv"}
    for changed, answer in [
        ({"--support": "nwe.csv"}, "no table at nwe.csv"),
        ({"--items": "zh.csv"}, "text not UTF-8"),
        ({"--support": "one.csv"}, "two categories are needed, usable are ['apron']"),
        ({"--support": "pictures.csv"}, "not seen by the encoder: it reads only title"),
        ({"--items": "pictures.csv"}, "pictures.csv: no product is seen by the encoder: it reads only title"),
        ({"--root": "one.csv"}, "1 of the 1 categories"),
        ({"--out": "."}, "is a folder: give the file to write"),
        ({"--out": "my.csv"}, "my.csv is read here and would be overwritten"),
        ({"--items": "my_problems.csv", "--out": "my.csv", "--root": "one.csv"}, "my_problems.csv is read here"),
        ({"--checkpoint": str(SHIPPED)}, "leave --root out"),
        ({"--checkpoint": str(SHIPPED), "--root": None, "--recipe": "gru"}, "leave --recipe out"),
        (
            {"--checkpoint": str(SHIPPED), "--root": None, "--items": "pictures.csv"},
            "share nothing that the encoder reads",
        ),
        ({"--recipe": "gru_bga"}, "no recipe 'gru_bga': did you mean 'gru_bag'?"),
        ({"--recipe": "conv4"}, "recipe 'conv4' reads images, and no product of 'table' has one"),
        ({"--out": "my.csv/out.csv"}, "my.csv/out.csv cannot be written"),
        ({"--out": "third.csv"}, "third.csv exists and is no earlier run's"),
        ({"--out": "fresh.csv"}, "fresh_problems.csv exists and is no earlier run's"),
        ({"--items": "apart", "--out": "apart/found.csv"}, "apart/found.csv would lie beside a table"),
        ({"--seed": "-1"}, "--seed -1: give 0 or more"),
    ]:
        given = {option: value for option, value in (usual | changed).items() if value}
        code, out, error = adapt(*(word for pair in given.items() for word in pair), "--smoke")
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and answer in error, error
        assert "epoch" not in out
    assert not (tmp_path / "runs").exists()
    assert (
        adapt("--root", "my.csv", "--support", "new.csv", "--items", "zh.csv", "--columns.encoding", "gbk", "--smoke")[
            0
        ]
        == 0
    )


def test_the_results_and_encoders_of_two_tables_lie_apart(tmp_path, run_here):
    words = ["apron", "basket", "candle", "drawer", "easel", "funnel", "goblet", "hammock", "inkwell", "jug"]
    kept = []
    for name, some in (("spring", words), ("autumn", words[::-1])):
        write_titles(tmp_path / f"{name}.csv", [f"{name} {word}" for word in some], 8)
        arguments = ["--catalog", "table", "--root", f"{name}.csv", "--smoke", "--rows", "gru nearest_centroid"]
        code, out, error = run_here("table1_methods.py", *arguments)
        assert code == 0, error
        (new,) = {p.name for p in (tmp_path / "runs" / "smoke").glob("*.jsonl")} - set(kept)
        kept.append(new)
        assert re.fullmatch(f"table1_{name}-[0-9a-f]{{6}}_random.jsonl", new) and "taken out" not in out
        assert "done before" in run_here("table1_methods.py", *arguments)[1]


def test_a_table_of_titles_alone_is_answered_in_one_line(tmp_path, run_here):
    """Tables leave rows of images out; what measures nothing else says so, before any training."""
    words = ["apron", "basket", "candle", "drawer", "easel", "funnel", "goblet", "hammock", "inkwell", "jug"]
    write_titles(tmp_path / "titles.csv", words, 10)
    shop = ["--catalog", "table", "--root", "titles.csv"]
    for script, answer in (
        ("fig1_shots.py", "catalog 'table' has no images, and all that was to be measured reads images"),
        ("table2b_missing.py", "catalog 'table' has no images: only where there are both"),
        ("fig_attention.py", "'table' has no images to attend to beside titles"),
        ("train_encoder.py", "recipe 'conv4' reads images, and no product of 'table' has one"),
        ("train_classifier.py", "recipe 'conv4_gru' reads images, and no product of 'table' has one"),
    ):
        code, out, error = run_here(script, *shop, "--smoke")
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and answer in error, error
        assert "training" not in out


def test_a_split_file_is_held_against_the_catalog_before_anything_else(tmp_path, run_here):
    words = ["apron", "basket", "candle", "drawer", "easel", "funnel", "goblet", "hammock"]
    write_titles(tmp_path / "titles.csv", words, 8)
    split = {"catalog": "table", "level": "category", "rule": "by hand", "validation": []}
    split |= {"base": words[:2], "novel": words[6:]}
    (tmp_path / "short.json").write_text(json.dumps(split))
    (tmp_path / "ghost.json").write_text(json.dumps(split | {"novel": ["ghost", *words[6:]]}))
    train = ["train_encoder.py", "--catalog", "table", "--root", "titles.csv", "--recipe", "gru", "--smoke", "--split"]
    code, out, error = run_here(*train, "short.json")
    assert code == 0, error
    assert "4 of 8 categories take no part, not being in split short: candle, drawer, easel, ...\n" in out
    write_titles(tmp_path / "others.csv", words, 8)
    code, out, error = run_here(*train, "short.json", "--root", "others.csv")
    kept = sorted(path.name for path in (tmp_path / "runs" / "smoke" / "table").iterdir())
    assert [name.split("-")[0] for name in kept] == ["others", "titles"]  # neither takes the other's place
    assert all(name.endswith("_short") for name in kept)
    code, out, error = run_here(*train, "ghost.json")
    assert code == 2 and out == "" and error.count("\n") == 1
    assert "1 novel categories of split 'ghost' are not in catalog 'table': ghost;" in error


def test_a_split_with_the_name_of_a_shipped_one_has_its_categories(tmp_path, monkeypatch):
    small = catalog.load_catalog("synthetic", products_per_category=2)
    monkeypatch.setattr(catalog, "load_catalog", lambda *_, **__: small)
    shipped = read_split("synthetic_random")
    args = CatalogArgs(split=str(tmp_path / "synthetic_random.json"))
    write_split(shipped, Path(args.split))
    assert args.load()[1] == shipped
    other = replace(shipped, base=shipped.base[1:])
    write_split(other, Path(args.split))
    with pytest.raises(catalog.CatalogError, match=r"'synthetic_random' has other .* in data/splits/, .* another name"):
        args.load()
    (tmp_path / "mine.json").write_bytes(Path(args.split).read_bytes())
    assert CatalogArgs(split=str(tmp_path / "mine.json")).load()[1].base == other.base


def test_base_products_with_near_duplicates_in_another_part_are_told(tmp_path, capsys):
    words = ["apron", "basket", "candle"]
    rows = [[f"{word} number {i}", word, f"{word} {i}"] for word in words for i in range(8)]
    for row in (0, 1, 16):  # two aprons and a candle
        rows[row][2] = "alike"
    write_table(tmp_path / "titles.csv", ["title", "category", "group"], rows)
    split = {"catalog": "table", "level": "category", "rule": "by hand"}
    split |= {"base": words[:1], "validation": words[1:2], "novel": words[2:]}
    (tmp_path / "mine.json").write_text(json.dumps(split))
    CatalogArgs(SourceArgs("table", tmp_path / "titles.csv"), str(tmp_path / "mine.json")).load()
    assert capsys.readouterr().out == "2 base products have near-duplicates among novel ones (1, of candle)\n"


def test_strict_stops_every_script_at_the_first_bad_row(tmp_path, run_here, monkeypatch, capsys):
    write_titles(tmp_path / "titles.csv", ["apron", "basket", "candle"], 4)
    with (tmp_path / "titles.csv").open("a") as file:
        file.write(",drawer\n")
    told = "titles.csv:14: nothing to see: neither a title nor an image"
    shop = ["--catalog", "table", "--root", "titles.csv", "--strict"]
    for script in ("table1_methods.py", "train_encoder.py", "train_classifier.py"):
        code, out, error = run_here(script, *shop, "--smoke")
        assert code == 2 and out == "" and told in error, error
    for command in (["split", "out.json"], ["evaluate", str(SHIPPED)]):
        monkeypatch.setattr(sys, "argv", ["fewshot-prod", *command, *shop])
        assert main() == 2 and told in capsys.readouterr().err
