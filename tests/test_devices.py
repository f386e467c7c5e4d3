"""The precision probe, and where trained encoders are."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

from fewshot_prod import prepare
from fewshot_prod.catalog import load_catalog
from fewshot_prod.devices import PRECISIONS, choose_precision
from fewshot_prod.prepare import prepare_encoder
from fewshot_prod.recipes import RECIPES
from fewshot_prod.splits import default_split


def test_a_run_keeps_the_precision_that_it_began_with(tmp_path):
    """Timings decide only once: what is kept wins, whichever it is, also where no step could be timed."""
    model, sample = nn.Linear(4, 2), torch.ones(3, 4)
    first = choose_precision(model, sample, run_dir=tmp_path / "run")
    assert first in PRECISIONS and (tmp_path / "run" / "precision").read_text() == first
    for kept in PRECISIONS:
        (tmp_path / "run" / "precision").write_text(kept)
        assert choose_precision(model, None, run_dir=tmp_path / "run") == kept
    (tmp_path / "run" / "precision").write_text("bf16-mi")  # half a word, of a process that was stopped
    assert choose_precision(model, sample, run_dir=tmp_path / "run") in PRECISIONS
    assert (tmp_path / "run" / "precision").read_text() in PRECISIONS
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_the_probe_leaves_weights_statistics_and_gradients_as_they_were():
    model, sample = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.randn(8, 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert choose_precision(model, sample, steps=1) in PRECISIONS
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def fabric_on(device: str, rank: int = 0) -> SimpleNamespace:
    """Whatever is broadcast stays what it is."""
    alone = {"broadcast": lambda value: value, "barrier": lambda: None}
    return SimpleNamespace(device=torch.device(device), is_global_zero=rank == 0, **alone)


def test_the_probe_runs_where_training_will(monkeypatch):
    """On "meta", whose tensors have a device and no values; autocast does not know it."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = nn.Linear(4, 2)
    assert choose_precision(model, torch.ones(3, 4), fabric_on("meta"), steps=1) in PRECISIONS
    assert model.weight.device.type == "meta"


def test_the_first_process_alone_probes(tmp_path):
    assert choose_precision(nn.Linear(4, 2), None, fabric_on("cpu", rank=1), run_dir=tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


def test_an_encoder_is_where_training_runs_whether_it_is_new_or_read(tmp_path, monkeypatch):
    untrained = replace(RECIPES["conv4"], stage="none", start=None)
    monkeypatch.setattr(prepare, "RECIPES", {"untrained": untrained})
    catalog = load_catalog("synthetic", products_per_category=3)

    def prepared(fabric: SimpleNamespace) -> torch.device:
        monkeypatch.setattr(prepare, "launch_fabric", lambda: fabric)
        return prepare_encoder("untrained", catalog, default_split(catalog), 0, tmp_path).encoder.device

    assert prepared(fabric_on("cpu", rank=1)).type == "cpu"
    assert not list(tmp_path.rglob("*")), "only the first process writes"
    with monkeypatch.context() as new:
        new.setattr(prepare, "save_checkpoint", lambda *_: None)  # without values there is nothing to save
        assert prepared(fabric_on("meta")).type == "meta"
    prepared(fabric_on("cpu"))
    assert list(tmp_path.rglob("weights.safetensors"))
    assert prepared(fabric_on("meta")).type == "meta"
