"""The notebooks run top to bottom on the synthetic catalog, and their committed outputs are those of such a run."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebooks need pip install '.[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need pip install '.[notebooks]'")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 60  # on one thread of an idle machine; the tests allow for a busy one


def outputs(notebook, kind: str) -> list:
    """The outputs of a notebook that have the MIME type ``kind``, or are of that output type."""
    found = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return [o for o in found if o.output_type == kind or kind in o.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_shows_what_is_committed(path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own, which shows figures
    committed, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    started = time.perf_counter()
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()  # raises at the first cell that fails, an assertion included
    assert time.perf_counter() - started < 3 * SECONDS
    pictures = len(outputs(notebook, "image/png"))
    assert pictures == len(outputs(committed, "image/png")) > 0, (
        "not every figure is shown: execute and commit it again"
    )
    assert not outputs(notebook, "error")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_committed_notebook_is_small_whole_and_of_the_synthetic_catalog(path):
    assert path.stat().st_size < 420_000
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it top to bottom, then commit"
    assert code[0].source.startswith('CATALOG = "synthetic"'), "no pictures of other catalogs are committed"
    assert sum(len(re.findall(r"^CATALOG = ", cell.source, re.MULTILINE)) for cell in code) == 1, (
        "one variable switches the catalog"
    )
    assert not outputs(notebook, "error")
    shown = "".join(str(o) for cell in code for o in cell.outputs if o.output_type == "stream")
    assert not re.search(r"(^|[\s'\"])/(home|tmp|root|work|usr)/", shown), "a path of one machine"


def test_there_are_the_four_of_them_and_each_is_thin():
    names = ["01_catalog", "02_one_episode", "03_few_shot_curves", "04_image_and_title"]
    assert [path.stem for path in NOTEBOOKS] == names
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert not re.search(r"^\s*(def|class|while) ", cell.source, re.MULTILINE), (
                    "logic goes into the package"
                )
                assert len(cell.source.splitlines()) <= 30
