"""Two processes train as one does on the same global batch: pretraining and both orders of MAML, by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_prod.devices import launch_fabric
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.metatrain import metatrain
from fewshot_prod.pretrain import pretrain

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
    return first


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_processes_give_the_losses_of_one(algorithm, two_processes):
    """To 1e-5, relative: the sums run in another order. Without averaging, losses differ by 2e-4 to 1e-1."""
    alone, together = train(algorithm), two_processes[algorithm]
    assert (alone["processes"], together["processes"]) == ([1], [2])
    assert len(alone["losses"]) == 3
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert together["weights"] == pytest.approx(alone["weights"], rel=1e-5, abs=1e-5)


if __name__ == "__main__":
    results = {algorithm: train(algorithm) for algorithm in ALGORITHMS}
    rank = torch.distributed.get_rank()
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(results))
