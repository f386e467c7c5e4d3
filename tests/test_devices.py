"""The precision probe."""

from __future__ import annotations

import torch
from torch import nn

from fewshot_prod.devices import PRECISIONS, choose_precision


def test_a_run_keeps_the_precision_that_it_began_with(tmp_path):
    """Timings decide only once: what is kept wins, whichever it is, also where no step could be timed."""
    model, sample = nn.Linear(4, 2), torch.ones(3, 4)
    first = choose_precision(model, sample, run_dir=tmp_path / "run")
    assert first in PRECISIONS and (tmp_path / "run" / "precision").read_text() == first
    for kept in PRECISIONS:
        (tmp_path / "run" / "precision").write_text(kept)
        assert choose_precision(model, None, run_dir=tmp_path / "run") == kept


def test_the_probe_leaves_weights_statistics_and_gradients_as_they_were():
    model, sample = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.randn(8, 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert choose_precision(model, sample, steps=1) in PRECISIONS
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
