"""The pages show what the records say, and name commands and files that exist."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tyro
from PIL import Image

from fewshot_prod import cli, recipes
from fewshot_prod.catalog import load_catalog
from fewshot_prod.encoders.title import PRETRAINED
from fewshot_prod.grouping import current
from fewshot_prod.pages import figures_of, fingerprint, generated_blocks, update_generated_blocks, write_tables
from fewshot_prod.prepare import untrained
from fewshot_prod.results import read_records

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
FIGURES = ROOT / "experiments" / "figures"
README = ROOT / "README.md"
DATA_PAGE = ROOT / "data" / "README.md"
RESULTS_PAGE = ROOT / "experiments" / "RESULTS.md"
EXPERIMENTS_PAGE = ROOT / "experiments" / "README.md"
PAGES = [README, RESULTS_PAGE, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def stale_blocks(page: Path, copy: Path) -> bool:
    """Whether rendering the records again changes the page."""
    shutil.copy(page, copy)
    update_generated_blocks(copy, generated_blocks(page, RESULTS))
    return copy.read_text() != page.read_text()


@pytest.mark.parametrize(("page", "n_blocks"), [(README, 3), (RESULTS_PAGE, 9)], ids=["README", "RESULTS"])
def test_the_blocks_are_what_the_records_say(page, n_blocks, tmp_path):
    assert len(generated_blocks(page, RESULTS)) >= n_blocks, "the page lost its generated tables"
    assert not stale_blocks(page, tmp_path / "copy.md"), f"{page.name} and experiments/results differ: make tables"


def test_a_number_typed_by_hand_is_noticed(tmp_path):
    page = README.read_text()
    tampered = tmp_path / "README.md"
    tampered.write_text(re.sub(r"(<!-- table:.* -->\n)", r"\1| 99.9 ± 0.1 |\n", page, count=1))
    assert tampered.read_text() != page
    assert stale_blocks(tampered, tmp_path / "copy.md")


def test_committed_tables_are_what_the_records_say(tmp_path):
    shutil.copytree(FIGURES, tmp_path / "figures")
    write_tables(RESULTS, tmp_path / "tables", tmp_path / "figures", pages=())
    made = {path.name: path.read_text() for path in (tmp_path / "tables").glob("*.md")}
    committed = {path.name: path.read_text() for path in (ROOT / "experiments" / "tables").glob("*.md")}
    assert made == committed, "experiments/tables and experiments/results differ: make tables"


def test_committed_figures_are_drawn_from_the_committed_records():
    """What they were drawn from stands in the PNG: pixels would differ with the version of matplotlib."""
    expected = {}
    for path in RESULTS.glob("*.jsonl"):
        records = read_records(path)
        expected |= dict.fromkeys(figures_of(path.stem, records), fingerprint(records))
        if current(records, "attention") and records[0]["catalog"] == "synthetic":
            expected[f"{path.stem}_products"] = fingerprint(records)  # with pictures, by the experiment itself
    committed = {path.stem: Image.open(path).text.get("Records") for path in FIGURES.glob("*.png")}
    assert len(committed) >= 10
    assert committed == expected, "experiments/figures and experiments/results differ: make tables"


def test_a_changed_record_makes_its_figures_stale(tmp_path):
    records = read_records(RESULTS / "fig1_fashion_random.jsonl")
    changed = [records[0] | {"accuracy": records[0]["accuracy"] + 1e-6}, *records[1:]]
    assert fingerprint(records) == fingerprint(records[::-1]) != fingerprint(changed)


def headings(page: Path) -> set[str]:
    """What a link may name after ``#``."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, EXPERIMENTS_PAGE], ids=lambda p: str(p.relative_to(ROOT)))
def test_linked_and_named_files_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text)
    links += [(source, "") for source in re.findall(r'src="([^"]+)"', text)]
    named = re.findall(r"\b((?:experiments|benchmarks|tests|notebooks|fewshot_prod)/[\w/]+\.(?:py|ipynb|md))\b", text)
    placeholders = {"fewshot_prod/methods/soft_neighbours.py"}  # what the guide has the reader write
    missing = {name for name in named if name not in placeholders and not (ROOT / name).exists()}
    for name, heading in links:
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in headings(target)):
            missing.add(f"{name}#{heading}")
    assert links or named or page.name == "CHANGELOG.md"
    assert not missing


def test_the_example_of_a_chinese_catalog_prints_what_it_says(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```$", DATA_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec(example, {})
    told = capsys.readouterr().out.splitlines()
    assert "84 categories (17 parents)" in told[0] and "missing" in told[1]
    assert example.endswith(f"  # {told[-1]}\n") and re.search("[\u4e00-\u9fff]", told[-1])


def test_the_example_of_a_recipe_makes_encoders(monkeypatch):
    pytest.importorskip("cv2")
    (example,) = re.findall(r"(?m)^    from dataclasses import replace\n(?: {4}.*\n|\n)+", README.read_text("utf-8"))
    monkeypatch.setattr(recipes, "RECIPES", known := dict(recipes.RECIPES))
    exec(textwrap.dedent(example), {})
    assert known["mine"].title["kind"] in PRETRAINED and known["mine"].stage == "pretrain"
    catalog = load_catalog("synthetic", products_per_category=2)
    made = untrained(known["cropped"], catalog, None, 0)
    assert made.inputs(catalog).images.shape == (len(catalog), *made.facts["image_size"], 3)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"(?:^ {4}|`)make ([\w-]+)", page.read_text(), re.MULTILINE))
    rules = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets and targets <= rules


def test_the_first_screen_has_sentence_flow_table_curve_and_three_commands():
    screen = README.read_text().split("## Install")[0]
    order = ["catalog -> splits", "<!-- table:", "fig1_fashion_random.png", "make demo"]
    assert [screen.index(text) for text in order] == sorted(screen.index(text) for text in order)
    commands = re.findall(r"^ {4}(?:make|\.venv/bin/python) ", screen, re.MULTILINE)
    assert len(commands) == 3
    assert "make test" in screen and "experiments/table1_methods.py" in screen
    table = [line for line in screen.splitlines() if line.startswith("|")]
    assert len(table) <= 10 and table[0].count("|") <= 10, "a table that a first screen has room for"
    assert " ± " in table[2] and "episodes" in screen, "intervals and their n"


def test_ci_runs_lint_and_tests_with_the_data_beside_the_checkout(tmp_path):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    checkout = tmp_path / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
    (checkout / "Makefile").write_text("lint test:\n\t@echo $@ $$FEWSHOT_PROD_DATA\n")
    run = ["bash", str(checkout / ".ci" / "run")]
    data = (tmp_path / "shared" / "data").resolve()
    ran = subprocess.run(run, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=True)
    assert ran.stdout.split("\n")[:2] == [f"lint {data}", f"test {data}"]
    ran = subprocess.run(
        run, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "FEWSHOT_PROD_DATA": "/d"}, check=True
    )
    assert ran.stdout.split("\n")[:2] == ["lint /d", "test /d"]
    (checkout / "Makefile").write_text("lint:\n\t@exit 1\ntest:\n\t@echo tested\n")
    failed = subprocess.run(run, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False)
    assert failed.returncode and "tested" not in failed.stdout


COMMAND_PAGES = [README, RESULTS_PAGE, EXPERIMENTS_PAGE]


def shown_commands(page: Path) -> set[tuple[str, ...]]:
    """Program and arguments of every command of ours that a page shows."""
    commands = re.findall(
        r"(?:^ {4}|`)(?:\.venv/bin/)?(?:python )?((?:(?:experiments|benchmarks)/\w+\.py|fewshot-prod)\b[^`\n#]*)",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return {tuple(shlex.split(command)) for command in commands}


def told_minutes(page: Path) -> dict[tuple[str, ...], str]:
    """(script, catalog, split) -> the minutes that a table of the page gives."""
    rows = re.findall(r"`(?:python )?experiments/(\w+\.py)([^`]*)` \| (\d+|–)", page.read_text(encoding="utf-8"))
    return {(script, *re.findall(r"--(?:catalog|split) (\w+)", options)): told for script, options, told in rows}


def test_both_pages_tell_the_same_minutes():
    records, page = (told_minutes(path) for path in (README, EXPERIMENTS_PAGE))
    assert len(records) >= 4
    assert {key: page.get(key) for key in records} == records, "experiments/README.md: take over the README's minutes"


COMMANDS = sorted(set().union(*map(shown_commands, COMMAND_PAGES)))


def test_each_script_has_a_command_on_a_page():
    scripts = {f"{path.parent.name}/{path.name}" for path in (ROOT / "experiments").glob("*.py")}
    assert scripts | {"fewshot-prod"} <= {program for program, *_ in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shown_is_one_that_its_program_takes(command, monkeypatch):
    """Parsed, not run: tests/test_experiments.py runs them, with --smoke where they are long."""
    program, *arguments = command
    if program == "fewshot-prod":
        name, *arguments = arguments
        function = {"catalog": cli.show_catalog, "split": cli.make_split, "evaluate": cli.evaluate_checkpoint}[name]
        takes = functools.wraps(function)(lambda *given, **named: None)
    else:
        spec = importlib.util.spec_from_file_location("a_script", ROOT / program)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "a_script", module)  # where its annotations are looked up
        spec.loader.exec_module(module)
        if not hasattr(module, "Args"):
            assert not arguments
            return
        takes = module.Args
    tyro.cli(takes, args=arguments)  # exits with an error if it does not
