"""The history as TensorBoard events, and a missing package told before training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_prod import tensorboard

ROOT = Path(__file__).parents[1]


class Recorder:
    """Stands in for SummaryWriter: its constructor, context manager and add_scalar."""

    written: list[tuple[str, str, float, int]]

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        Recorder.written.append(("closed", self.folder, 0.0, 0))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        Recorder.written.append((name, self.folder, value, step))


def test_every_number_is_written_over_its_epoch_or_iteration(monkeypatch):
    Recorder.written = []
    monkeypatch.setattr(tensorboard, "summary_writer", lambda: Recorder)
    history = [{"iteration": 0, "score": 0.5}, {"iteration": 30, "loss": 1.5, "score": 0.75}]
    tensorboard.log_history(history, "runs/a")
    assert Recorder.written == [
        ("score", "runs/a", 0.5, 0),
        ("loss", "runs/a", 1.5, 30),
        ("score", "runs/a", 0.75, 30),
        ("closed", "runs/a", 0.0, 0),
    ]


def test_real_events_can_be_read(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tensorboard.log_history([{"epoch": 1, "score": 0.5}, {"epoch": 2, "score": 0.75}], tmp_path)
    events = reading.EventAccumulator(str(tmp_path)).Reload().Scalars("score")
    assert [(e.step, e.value) for e in events] == [(1, 0.5), (2, 0.75)]


def test_a_missing_package_is_one_line_before_training(tmp_path):
    """The package is hidden from the script, whether it is installed or not."""
    code = (
        "import runpy, sys; sys.modules['tensorboard'] = None\n"
        f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['x', '--smoke', '--tensorboard', 'tb']\n"
        f"runpy.run_path({str(ROOT / 'experiments' / 'train_encoder.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: logging to TensorBoard needs the package")
    assert "training" not in done.stdout and not (tmp_path / "runs").exists()
