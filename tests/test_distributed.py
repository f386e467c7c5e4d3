"""Two processes train as one does on the same global batch: pretraining and both orders of MAML, by torchrun.

Batch normalisation sees other batches on two processes than on one; there they must agree with each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from fewshot_prod import prepare
from fewshot_prod.catalog import load_catalog
from fewshot_prod.checkpoints import encoder_hash, save_checkpoint
from fewshot_prod.devices import launch_fabric
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.metatrain import metatrain
from fewshot_prod.prepare import prepare_encoder
from fewshot_prod.pretrain import pretrain
from fewshot_prod.recipes import SMOKE
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.splits import default_split

sys.path.insert(0, str(Path(__file__).parent))
from test_metatrain import conv4, products


def train(algorithm: str) -> dict[str, list[float]]:
    """Losses as the history has them and the sum of each weight, after a few steps with group normalisation."""
    fabric = launch_fabric("cpu")
    inputs, ids, groups = products(6, 0)
    common = {"fabric": fabric, "report": lambda line: None}
    if algorithm == "pretrain":
        trained = pretrain(conv4(), inputs, ids, epochs=3, batch_size=24, lr=0.05, **common)
    else:
        encoder = conv4()
        if algorithm == "modality dropout":  # prototypical networks on images and titles, some of which are hidden
            algorithm, common["modality_dropout"] = "prototypical", 0.6
            titles = torch.arange(len(inputs))[:, None] // 12 + torch.tensor([[1, 7, 2]])
            inputs = replace(inputs, tokens=titles, lengths=torch.full((len(inputs),), 3))
            title = {"vocab_size": 20, "embedding_dim": 8, "hidden_size": 8, "dropout": 0.0}
            parts = {"image": encoder.config["image"], "title": title, "fusion": {"kind": "concat", "dim": 16}}
            encoder = build_encoder(parts)
        episodes = {"n_way": 3, "n_shot": 2, "n_query": 2, "meta_batch_size": 4, "n_iterations": 3}
        trained = metatrain(
            encoder,
            inputs,
            ids,
            groups,
            algorithm=algorithm,
            norm="group",
            outer_lr=1e-2,
            optimiser="sgd",
            validate_every=1,
            augmentation={"shift": 0.1},
            **episodes,
            **common,
        )
    return {
        "losses": [row["loss"] for row in trained.history if "loss" in row],
        "weights": [float(p.detach().double().sum()) for p in trained.encoder.parameters()],
        "processes": [fabric.world_size],
    }


class ScoresByProcess(FewShotValidation):
    """Of three epochs the first process finds the first one best, the second the second; what it measured is kept."""

    measured: ClassVar[list[float]] = []

    def score(self, encoder, method=None, precision="32-true"):
        self.measured.append(super().score(encoder, method, precision)["score"])
        return {"score": float((len(self.measured) - 1) % 3 == torch.distributed.get_rank())}


def train_with_batch_statistics(ema_decay: float | None) -> dict[str, list]:
    """What two processes must agree on: the chosen epoch's weights and running statistics, and every evaluation."""
    validation = ScoresByProcess(*products(10, 1), n_shots=(1,), n_query=5, n_episodes=20)
    inputs, ids, _ = products(6, 0)
    options = {"epochs": 3, "batch_size": 24, "lr": 0.05, "ema_decay": ema_decay, "report": lambda line: None}
    trained = pretrain(conv4("batch"), inputs, ids, validation=validation, fabric=launch_fabric("cpu"), **options)
    state = {name: t.double().sum().item() for name, t in trained.encoder.state_dict().items()}
    return {"state": list(state.items()), "history": trained.history, "measured": list(validation.measured)}


def prepare_in(folder: Path) -> dict[str, list]:
    """An encoder that both processes prepare; who saves it leaves a note in ``folder``."""

    def save_and_tell(*arguments) -> None:
        Path(folder, f"saved-{torch.distributed.get_rank()}").touch()
        save_checkpoint(*arguments)

    prepare.save_checkpoint = save_and_tell
    catalog = load_catalog("synthetic", products_per_category=4)
    quiet = {"overrides": SMOKE, "report": lambda line: None}
    new, read = (
        prepare_encoder("conv4", catalog, default_split(catalog), 0, folder / "runs", **quiet) for _ in range(2)
    )
    return {"hashes": [encoder_hash(new.encoder), encoder_hash(read.encoder)], "precision": [new.facts["precision"]]}


ALGORITHMS = ("pretrain", "prototypical", "maml", "maml_first_order", "modality dropout")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> dict[str, dict[str, list[float]]]:
    folder, root = tmp_path_factory.mktemp("distributed"), Path(__file__).parents[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, folder]
    run = subprocess.run(
        [str(part) for part in command],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second  # the processes agree exactly
    return {**first, "saved by": sorted(path.name for path in folder.glob("saved-*"))}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_processes_give_the_losses_of_one(algorithm, two_processes):
    """To 1e-5, relative: the sums run in another order. Without averaging, losses differ by 2e-4 to 1e-1."""
    alone, together = train(algorithm), two_processes[algorithm]
    assert (alone["processes"], together["processes"]) == ([1], [2])
    assert len(alone["losses"]) == 3
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert together["weights"] == pytest.approx(alone["weights"], rel=1e-5, abs=1e-5)


def test_two_processes_choose_the_same_epoch_and_average_running_statistics(two_processes):
    """The fixture has compared the processes: state and history are equal, and so is what each measured by itself."""
    for run in ("batch statistics", "averaged batch statistics"):
        assert [row["score"] for row in two_processes[run]["history"]] == [1.0, 0.0, 0.0]
        assert any("running_var" in name for name, _ in two_processes[run]["state"])


def test_two_processes_prepare_one_encoder_which_the_first_one_keeps(two_processes):
    new, read = two_processes["prepared"]["hashes"]
    assert new == read
    assert two_processes["saved by"] == ["saved-0"]


if __name__ == "__main__":
    results = {algorithm: train(algorithm) for algorithm in ALGORITHMS}
    results["batch statistics"] = train_with_batch_statistics(None)
    results["averaged batch statistics"] = train_with_batch_statistics(0.9)
    results["prepared"] = prepare_in(Path(sys.argv[1]))
    rank = torch.distributed.get_rank()
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(results))
