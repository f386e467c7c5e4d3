"""CONTRIBUTING's five steps to a new method, followed to the letter in a copy of the repository."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_prod.methods import METHODS
from fewshot_prod.results import read_records

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding a method in five steps")[1]
BLOCKS = re.findall(r"^```python\n# (\S+), (.*?)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    \.venv/bin/python (.*)$", GUIDE, re.MULTILINE)
# Where a block goes: before or behind this text of its file
PLACES = {
    "in METHODS": (r"^METHODS = \{\n", "behind"),
    "in OPTIONS": (r"^OPTIONS = \{\n", "behind"),
    "before the rows are returned": (r"^    return rows\n(?=\n\ndef main)", "before"),
}


def follow(copy: Path, name: str, where: str, text: str) -> None:
    path = copy / name
    if where == "a new file":
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        return
    page = path.read_text(encoding="utf-8")
    if where == "at the end":
        path.write_text(f"{page}\n\n{text}", encoding="utf-8")
        return
    if where == "with the imports":  # in alphabetical order
        imports = re.findall(r"^from fewshot_prod\..*\n", page, re.MULTILINE)
        first = page.index(imports[0])
        assert page[first:].startswith("".join(imports)), "the imports stand together"
        page = page.replace("".join(imports), "".join(sorted([*imports, text])))
        path.write_text(page, encoding="utf-8")
        return
    pattern, side = PLACES[where]
    (place,) = re.finditer(pattern, page, re.MULTILINE)
    at = place.start() if side == "before" else place.end()
    path.write_text(page[:at] + text + page[at:], encoding="utf-8")


def run(copy: Path, command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], capture_output=True, text=True, cwd=copy, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository in which steps 1 to 3 and the row of step 5 are done."""
    copy = tmp_path_factory.mktemp("repository")
    for folder in ("fewshot_prod", "experiments", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("setup.cfg", "ruff.toml"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "data").symlink_to(ROOT / "data")
    for block in BLOCKS:
        follow(copy, *block)
    return copy


def test_the_guide_has_five_steps_and_what_they_need():
    assert re.findall(r"^\*\*(\d)\. ", GUIDE, re.MULTILINE) == list("12345")
    assert len(BLOCKS) == GUIDE.count("```python") == 7 and len(COMMANDS) == 3


def test_the_new_method_keeps_the_contract_and_the_style(repository):
    pytest_command, *_ = COMMANDS
    done = run(repository, f"{pytest_command} -q -p no:cacheprovider")
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
    assert passed >= 8 and "failed" not in done.stdout
    for arguments in ("check", "format --check"):
        run(
            repository, f"-m ruff {arguments} fewshot_prod/methods experiments tests/reference.py tests/test_methods.py"
        )
    methods = repository / "fewshot_prod" / "methods"
    assert len((methods / "soft_neighbours.py").read_text().splitlines()) <= 130
    files = {Path(inspect.getfile(method)).name for method in METHODS.values()}
    assert {name for name in files if len((methods / name).read_text().splitlines()) > 180} == set()


def test_options_are_chosen_and_the_row_is_measured(repository):
    _, select, table = COMMANDS
    done = run(repository, f"{select} --smoke")
    assert all(f"logit_scale={scale}" in done.stdout for scale in (3, 10, 30))
    run(repository, f"{table} --smoke")  # finds the encoder that the step before has trained
    (results,) = (repository / "runs" / "smoke").glob("table1_*.jsonl")
    records = read_records(results)
    assert {r["method"] for r in records if r["kind"] == "cell"} == {"nearest_centroid", "soft_neighbours"}
    assert any(r["kind"] == "difference" for r in records)
