"""Episodic training learns, chooses on validation classes, and survives kill -9 unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fewshot_prod.checkpoints import CheckpointError, encoder_hash, load_checkpoint, save_checkpoint
from fewshot_prod.encoders.heads import HEADS, attach_head
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.episodic import MetricTraining, training_pool
from fewshot_prod.features import embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.metatrain import ALGORITHMS, METRIC, metatrain
from fewshot_prod.methods import METHODS
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.training import seed_step


def products(n_classes: int, seed: int, n_each: int = 12) -> tuple[ProductInputs, np.ndarray, np.ndarray]:
    """16x16 images whose class shows in the blue channel alone; red and green are different in every image."""
    generator = torch.Generator().manual_seed(seed)
    n = n_classes * n_each
    blue = torch.randint(0, 256, (n_classes, 2, 2, 1), generator=generator).repeat_interleave(n_each, 0)
    images = torch.cat([torch.randint(0, 256, (n, 2, 2, 2), generator=generator), blue], 3)
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = images + torch.randint(-20, 21, images.shape, generator=generator)
    return (
        ProductInputs(images.clamp(0, 255).to(torch.uint8)),
        np.repeat(np.arange(n_classes), n_each),
        np.arange(n),
    )


def conv4(norm: str = "group") -> ProductEncoder:
    torch.manual_seed(0)
    return build_encoder({"image": {"name": "conv4", "width": 16, "norm": norm}})


VALIDATION = FewShotValidation(*products(10, 1), n_shots=(5,), n_query=5, n_episodes=100)
QUICK = {"n_shot": 2, "n_query": 2, "report": lambda line: None}


# What differs from the settings that suit the others; relation networks start their comparison from nothing
SETTINGS = {
    "relation": {"n_iterations": 100, "validate_every": 100, "outer_lr": 3e-3},
    "proto_maml": {"normalise": True, "inner_lr": 0.01},
    "reptile": {"n_iterations": 40, "validate_every": 40},
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learns_to_tell_new_classes_apart(algorithm):
    """Chance is 0.2. Without the outer update accuracy stays that of iteration 0, about 0.3; with it, above 0.9."""
    settings = {"n_iterations": 15, "validate_every": 15, "outer_lr": 1e-2, "inner_lr": 0.2}
    settings |= SETTINGS.get(algorithm, {})
    trained = metatrain(
        conv4(),
        *products(30, 0),
        algorithm=algorithm,
        validation=VALIDATION,
        n_validation_episodes=15,
        norm="group",
        n_shot=5,
        n_query=5,
        meta_batch_size=2,
        report=lambda line: None,
        **settings,
    )
    start, end = (row["score"] for row in trained.history)
    assert start < 0.4
    assert end > 0.75
    assert trained.images_seen == settings["n_iterations"] * 2 * 5 * 10


@pytest.mark.parametrize("algorithm", METRIC)
def test_everything_that_is_trained_moves_and_nothing_else_is_kept(algorithm):
    """Encoder, head and learned numbers, each by a step whose size SGD makes the gradient's."""
    encoder = conv4()
    if algorithm in HEADS:
        attach_head(encoder, algorithm)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    trained = metatrain(
        encoder, *products(8, 0), algorithm=algorithm, norm="group", optimiser="sgd", outer_lr=0.1, n_iterations=1,
        **QUICK,
    )  # fmt: skip
    after = trained.encoder.state_dict()
    assert after.keys() == before.keys()
    assert not [k for k in after if torch.equal(before[k], after[k])]
    assert all(trained.head[name] not in (10.0, 0.1) for name in METHODS[algorithm].learned)


@pytest.mark.parametrize("algorithm", HEADS)
def test_a_head_is_saved_and_restored_with_its_encoder(algorithm, tmp_path):
    trained = metatrain(conv4(), *products(8, 0), algorithm=algorithm, norm="group", n_iterations=1, **QUICK)
    save_checkpoint(tmp_path / "encoder", trained.encoder, {"head": trained.head})
    encoder, facts = load_checkpoint(tmp_path / "encoder")
    assert encoder_hash(encoder) == encoder_hash(trained.encoder)
    inputs, ids, groups = products(8, 1)
    episodes = EpisodeSampler(ids, groups, n_way=5, n_shot=2, n_query=2, seed=0).sample(0, 3)
    logits = [
        METHODS[algorithm](e.head, **facts["head"])(embed(e, inputs), episodes) for e in (trained.encoder, encoder)
    ]
    assert torch.equal(*logits)


def test_prototypical_states_of_earlier_versions_still_load():
    """A run that was stopped before the other metric methods came goes on: its learned scale is called log_scale."""
    model = MetricTraining(METHODS["prototypical"], conv4(), norm="group", start={"logit_scale": 10}, normalise=True)
    assert [k for k in model.state_dict() if not k.startswith("encoder.")] == ["log_scale"]


class ScoresInTurn(FewShotValidation):
    """Keeps a copy of the weights it is asked about and gives the scores 0.1, 0.3, 0.2."""

    seen: ClassVar[list[dict[str, torch.Tensor]]] = []

    def score(self, encoder, method=None, precision="32-true"):
        self.seen.append({k: v.clone() for k, v in encoder.state_dict().items()})
        return {"score": [0.1, 0.3, 0.2][len(self.seen) - 1]}


def test_keeps_the_iteration_that_was_best_on_validation():
    trained = metatrain(
        conv4(), *products(8, 0), validation=ScoresInTurn(*products(8, 1)), norm="group", n_iterations=2, **QUICK
    )
    chosen, (start, best, last) = trained.encoder.state_dict(), ScoresInTurn.seen
    assert not trained.encoder.training
    assert all(torch.equal(best[k], v) for k, v in chosen.items())
    assert not any(torch.equal(best["image.blocks.0.0.weight"], o["image.blocks.0.0.weight"]) for o in (start, last))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_returned_head_makes_the_method_that_was_trained(algorithm):
    trained = metatrain(conv4(), *products(8, 0), algorithm=algorithm, norm="group", n_iterations=1, **QUICK)
    if algorithm in METRIC:
        module = {"module": trained.encoder.head} if algorithm in HEADS else {}
        method = METHODS[algorithm](**module, **trained.head)
        assert [getattr(method, name) for name in method.learned] == pytest.approx(
            [{"logit_scale": 10.0, "penalty": 0.1}[name] for name in method.learned], rel=0.01
        )
        assert trained.head.get("normalise", True) and trained.head.get("transform", "L2N") == "L2N"
    else:
        method = METHODS[algorithm](trained.encoder, **trained.head)
        assert method.norm == "group" and method.first_order == (algorithm in ("maml_first_order", "reptile"))


@pytest.mark.parametrize(
    "algorithm, norm, changes",
    [
        ("prototypical", "frozen", False),
        ("prototypical", "batch", True),
        ("matching", "frozen", False),
        ("matching", "batch", True),
        ("maml", "batch", False),
    ],
)
def test_running_statistics_change_only_where_the_normalisation_says_so(algorithm, norm, changes):
    encoder = conv4("batch")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    trained = metatrain(encoder, *products(8, 0), algorithm=algorithm, norm=norm, n_iterations=1, **QUICK)
    after = trained.encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) != changes for k in after if "running" in k)
    assert all(not torch.equal(before[k], after[k]) for k in after if "weight" in k)


def test_augmentation_belongs_to_the_episode_and_not_to_its_batch():
    inputs, ids, groups = products(8, 0)
    sampler = EpisodeSampler(ids, groups, n_way=5, n_shot=2, n_query=2, seed=3)

    def pictures(start: int, stop: int) -> torch.Tensor:
        pool, episodes = training_pool(inputs, sampler.sample(start, stop), {"shift": 0.2}, 3, start)
        return pool.images[torch.cat([episodes.support, episodes.query], 1)]  # (E, S + Q, H, W, 3)

    assert torch.equal(pictures(4, 8), torch.cat([pictures(4, 5), pictures(5, 8)]))
    assert not torch.equal(pictures(4, 5)[0], inputs.images[sampler.sample(4, 5).support].float()[0])


RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fewshot_prod import metatrain as module
from test_metatrain import resumable_run

steps = 0
reduce = module.average_gradients

def die_in_the_fifth_iteration(*arguments):
    global steps
    steps += 1
    if steps == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    reduce(*arguments)

module.average_gradients = die_in_the_fifth_iteration
resumable_run({algorithm!r}, Path({folder!r}), lambda line: None)
"""


def resumable_run(algorithm: str, run_dir: Path | None, report) -> dict[str, torch.Tensor]:
    trained = metatrain(
        conv4("batch"),
        *products(8, 0),
        algorithm=algorithm,
        norm="frozen",
        n_shot=2,
        n_query=2,
        meta_batch_size=2,
        n_iterations=7,
        validate_every=2,
        augmentation={"shift": 0.1},
        run_dir=run_dir,
        report=report,
    )
    return {**trained.encoder.state_dict(), "losses": torch.tensor([row.get("loss", 0.0) for row in trained.history])}


@pytest.mark.parametrize("algorithm", ["prototypical", "relation", "maml_first_order"])
def test_goes_on_after_kill_9_to_the_same_weights(algorithm, tmp_path):
    script = RUN.format(tests=str(Path(__file__).parent), algorithm=algorithm, folder=str(tmp_path / "run"))
    root = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    lines: list[str] = []
    resumed = resumable_run(algorithm, tmp_path / "run", lines.append)
    assert [line.split("/")[0] for line in lines] == ["iteration 6", "iteration 7"]  # 4 was the last one kept
    uninterrupted = resumable_run(algorithm, None, lambda line: None)
    assert resumed.keys() == uninterrupted.keys()
    assert all(torch.equal(resumed[k], uninterrupted[k]) for k in resumed)


def test_modality_dropout_changes_nothing_where_there_is_one_modality():
    trained = [
        metatrain(conv4(), *products(8, 0), norm="group", n_iterations=2, modality_dropout=rate, **QUICK)
        for rate in (0.0, 0.8)
    ]
    assert encoder_hash(trained[0].encoder) == encoder_hash(trained[1].encoder)


@pytest.mark.parametrize("augmentation", [None, {"scale": 0.1}])
def test_modality_dropout_does_not_draw_what_augmentation_drew(augmentation, monkeypatch):
    drawn = []

    def hide_nothing(pool, rate, generator, part):
        drawn.append(generator.initial_seed())
        return pool

    monkeypatch.setattr("fewshot_prod.metatrain.drop_modalities", hide_nothing)
    options = {"norm": "group", "n_iterations": 2, "modality_dropout": 0.5, "augmentation": augmentation, **QUICK}
    metatrain(conv4(), *products(8, 0), **options)
    augmented = [seed_step(0, episode).initial_seed() for episode in (0, 1)]
    assert (drawn == augmented) == (augmentation is None) and (augmentation is None or not {*drawn} & {*augmented})


def test_a_state_of_other_settings_is_refused(tmp_path):
    metatrain(conv4(), *products(8, 0), norm="group", n_iterations=1, run_dir=tmp_path, **QUICK)
    with pytest.raises(CheckpointError, match=r"other settings \(outer_lr\)"):
        metatrain(conv4(), *products(8, 0), norm="group", n_iterations=1, outer_lr=0.1, run_dir=tmp_path, **QUICK)
    with pytest.raises(CheckpointError, match=r"other settings \(data\)"):
        metatrain(conv4(), *products(8, 1), norm="group", n_iterations=1, run_dir=tmp_path, **QUICK)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"algorithm": "leap"},
            "algorithm='leap' is unknown; choose one of prototypical, matching, meta_baseline, relation, feat",
        ),
        ({"norm": "train"}, "norm='train' is unknown; choose one of frozen, batch, group"),
        ({"norm": "group"}, "norm='group' but the encoder has 4 batch-normalisation layers"),
        ({"norm": "support"}, "norm='support' belongs to MAML's family; use 'frozen', 'batch' or 'group'"),
        ({"algorithm": "reptile", "n_adaptation_steps": 21}, "21 minibatches cannot be made of 20 products"),
        ({"algorithm": "reptile", "n_adaptation_steps": 0}, "n_adaptation_steps is 0: it must be above 0, Reptile"),
        ({"algorithm": "reptile", "inner_lr": 0.0}, r"inner_lr is 0\.0: it must be above 0, Reptile"),
        ({"n_way": 1, "algorithm": "relation"}, "n_way is 1: it must be at least 2"),
        ({"meta_batch_size": 0}, "meta_batch_size is 0: it must be at least 1"),
        ({"n_iterations": -2}, "n_iterations is -2: it must be at least 1"),
        ({"outer_lr": -0.1}, r"outer_lr is -0\.1: it must be at least 0"),
        ({"validate_every": 0}, "validate_every is 0: it must be at least 1"),
        ({"n_validation_episodes": 0}, "n_validation_episodes is 0: it must be at least 1"),
        ({"logit_scale": 0.0}, r"logit_scale is 0\.0: it must be above 0"),
        ({"logit_scale": -1.0}, r"logit_scale is -1\.0: it must be above 0"),
        ({"frozen": ("pictures",)}, "no part to freeze 'pictures'.* There are image"),
        ({"algorithm": "maml", "frozen": ("image",)}, "the steps of 'maml' would change image; give parts='head'"),
        ({"algorithm": "maml", "frozen": ("image",), "parts": "image+head"}, "would change image; give parts='head'"),
        ({"algorithm": "maml", "inner_lr": 1e30}, "lower inner_lr or outer_lr"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        metatrain(conv4("batch"), *products(8, 0), **{"n_iterations": 1} | settings, **QUICK)
