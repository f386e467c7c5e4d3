"""Pretraining learns, resumes exactly, and its pieces do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import supervised_contrastive_by_loops

from fewshot_prod.augment import augment
from fewshot_prod.catalog import CatalogError
from fewshot_prod.checkpoints import CheckpointError, state_hash
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.errors import UsageError
from fewshot_prod.features import embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.losses import LOSSES, class_balanced_weights
from fewshot_prod.names import UnknownName
from fewshot_prod.pretrain import epoch_order, moving_average, pretrain
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.training import drop_modalities, learning_rate, seed_step

QUIET = {"report": lambda line: None}


def striped_products(n_per_class: int = 16, seed: int = 0) -> tuple[ProductInputs, np.ndarray]:
    """Four classes of 16x16 images told apart by stripes (their direction and width), in random colours."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label in range(4):
        for _ in range(n_per_class):
            position = np.arange(16) + rng.integers(8)
            stripe = (position // (2 if label < 2 else 4)) % 2
            image = np.tile(stripe, (16, 1)) if label % 2 else np.tile(stripe, (16, 1)).T
            images.append((image[..., None] * rng.integers(120, 255, 3)).astype(np.uint8))
            labels.append(label)
    return ProductInputs(images=torch.from_numpy(np.stack(images))), np.array(labels)


def train(epochs: int = 6, **options):
    torch.manual_seed(0)
    encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
    inputs, labels = striped_products()
    return pretrain(encoder, inputs, labels, epochs=epochs, batch_size=16, **QUIET | options)


def centroid_accuracy(encoder) -> float:
    """Nearest class mean of the training products, on fresh ones; chance is 0.25."""
    (seen, labels), (fresh, truth) = striped_products(), striped_products(seed=1)
    features, queries = embed(encoder, seen), embed(encoder, fresh)
    means = torch.stack([features[labels == label].mean(0) for label in range(4)])
    return float((torch.cdist(queries, means).argmin(1).numpy() == truth).mean())


def test_it_learns_and_does_not_without_updates():
    """Chance 0.25. With lr=0 (no update) the loss stays at log 4 or above and the accuracy low."""
    trained, idle = train(), train(lr=0.0)
    assert trained.history[-1]["loss"] < 0.75 * trained.history[0]["loss"]
    assert centroid_accuracy(trained.encoder) > 0.9
    assert idle.history[-1]["loss"] > 0.95 * np.log(4)
    assert trained.images_seen == 6 * 64


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("beta", [None, 0.9])
def test_the_loss_and_the_class_weights_asked_for_are_used(loss, beta):
    """One batch of everything without an update: what is reported is the loss of the classifier as it is."""
    torch.manual_seed(0)
    inputs, labels = striped_products()
    rows = np.flatnonzero((labels != 3) | (np.arange(len(labels)) % 8 == 0))  # the last class has two products
    inputs, labels = inputs[torch.from_numpy(rows)], labels[rows]
    encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
    options = {"epochs": 1, "batch_size": len(labels), "lr": 0.0, "loss": loss, "class_weight_beta": beta}
    trained = pretrain(encoder, inputs, labels, **options, **QUIET)
    weight = None if beta is None else class_balanced_weights(torch.from_numpy(labels).bincount(), beta=beta)
    smoothing = {"label_smoothing": 0.1} if loss == "cross_entropy" else {}
    with torch.no_grad():
        logits = trained.classifier.train()(inputs)
    expected = LOSSES[loss](logits, torch.from_numpy(labels), weight=weight, **smoothing)
    assert trained.history[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_contrastive_loss_of_the_features_is_added_with_its_weight():
    """One batch of everything without an update, against the loss written out in loops."""
    inputs, labels = striped_products(n_per_class=4)
    losses = []
    for contrastive in (0.0, 0.5):
        torch.manual_seed(0)
        encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        options = {"contrastive": contrastive, "contrastive_temperature": 0.2}
        trained = pretrain(encoder, inputs, labels, epochs=1, batch_size=len(labels), lr=0.0, **options, **QUIET)
        losses.append(trained.history[0]["loss"])
    with torch.no_grad():
        features = trained.encoder.train()(inputs)
    expected = supervised_contrastive_by_loops(features.tolist(), labels.tolist(), temperature=0.2)
    assert losses[1] - losses[0] == pytest.approx(0.5 * expected, rel=1e-4)


@pytest.mark.parametrize("options", [{"contrastive": -1.0}, {"contrastive": 0.5, "contrastive_temperature": 0.0}])
def test_a_contrastive_loss_that_pushes_the_wrong_way_is_refused(options):
    with pytest.raises(ValueError, match=r"a weight, must be at least 0, and contrastive_temperature=0\.[01] above 0"):
        train(**options)


def test_generalised_cross_entropy_believes_wrong_labels_less():
    """Two in five labels of the training products are wrong: what is learned of the true ones, trained to the end."""
    inputs, labels = striped_products(n_per_class=32)
    wrong = np.arange(len(labels)) % 5 < 2
    noisy = np.where(wrong, (labels + np.arange(len(labels)) // 5 % 3 + 1) % 4, labels)
    assert (noisy != labels).sum() == wrong.sum()
    right = {}
    for loss in ("cross_entropy", "generalised_cross_entropy"):
        torch.manual_seed(0)
        encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        trained = pretrain(encoder, inputs, noisy, epochs=30, batch_size=32, loss=loss, label_smoothing=0.0, **QUIET)
        fresh, truth = striped_products(seed=1)
        with torch.no_grad():
            right[loss] = float((trained.classifier(fresh).argmax(1).numpy() == truth).mean())
    assert right["generalised_cross_entropy"] > right["cross_entropy"] + 0.1


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown loss 'hinge'; choose one of cross_entropy"):
        train(loss="hinge")


def test_the_best_validation_epoch_is_kept():
    inputs, labels = striped_products(seed=2)
    validation = FewShotValidation(inputs, labels, np.arange(64), n_way=4, n_query=5, n_episodes=20)
    trained = train(validation=validation, epochs=3)
    scores = [row["score"] for row in trained.history]
    assert validation.score(trained.encoder)["score"] == pytest.approx(max(scores), abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}], ids=["weights", "average"])
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, options):
    class Stop(Exception):
        pass

    def stop_after_two(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise Stop

    whole = train(augmentation={}, epochs=4, **options)
    with pytest.raises(Stop):
        train(augmentation={}, epochs=4, run_dir=tmp_path, report=stop_after_two, **options)
    resumed = train(augmentation={}, epochs=4, run_dir=tmp_path, **options)
    assert state_hash(resumed.encoder.state_dict()) == state_hash(whole.encoder.state_dict())
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_pretrain import train
train(epochs=200, run_dir=Path(sys.argv[1]))
"""


def test_kill_9_loses_at_most_an_epoch(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[1])
    deadline = time.time() + 120
    while not (tmp_path / "state.pt").exists() and time.time() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["progress"]["epoch"] >= 1
    reached = state["progress"]["epoch"]
    lines: list[str] = []

    class Enough(Exception):
        pass

    def report(line: str) -> None:
        lines.append(line)
        raise Enough

    with pytest.raises(Enough):
        train(epochs=200, run_dir=tmp_path, report=report)
    assert lines[0].startswith(f"epoch {reached + 1}/200")


def test_a_state_of_other_settings_is_refused(tmp_path):
    train(epochs=1, run_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(lr\)"):
        train(epochs=1, run_dir=tmp_path, lr=0.2)
    assert train(epochs=1, run_dir=tmp_path, lr=0.2, resume=False).history


def test_a_state_of_an_earlier_version_is_not_gone_on_from(tmp_path, monkeypatch):
    lines: list[str] = []
    for version, epochs in ((1, 1), (1, 0), (2, 1), (2, 0)):
        monkeypatch.setattr("fewshot_prod.checkpoints.STATE_VERSION", version)
        lines.clear()
        train(epochs=1, run_dir=tmp_path, report=lines.append)
        assert len(lines) == epochs


def test_a_state_of_other_products_is_refused(tmp_path):
    def go_on(inputs, labels):
        encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        return pretrain(encoder, inputs, labels, epochs=1, batch_size=16, run_dir=tmp_path, **QUIET)

    inputs, labels = striped_products()
    go_on(inputs, labels)
    go_on(inputs, labels)
    for others in ((striped_products(seed=1)[0], labels), (inputs, labels[::-1])):
        with pytest.raises(CheckpointError, match=r"other settings \(data\)"):
            go_on(*others)


def test_the_moving_average_is_the_recursion_written_out():
    encoder = torch.nn.BatchNorm1d(2)
    average = moving_average(encoder, 0.5)
    expected, values = None, torch.tensor([[1.0, 4.0], [2.0, 5.0], [7.0, -1.0], [3.0, 0.5]])
    for n, value in enumerate(values):
        with torch.no_grad():
            encoder.weight.copy_(value)
        encoder.num_batches_tracked += 1
        average.update_parameters(encoder)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.module.weight.detach(), expected)
    assert average.module.num_batches_tracked == 4


def test_too_few_products_for_a_batch():
    with pytest.raises(ValueError, match=r"batch_size=128 must be at most the number of products \(64\)"):
        pretrain(build_encoder({"image": {"name": "conv4", "width": 16}}), *striped_products(), batch_size=128)


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match=r"the loss is nan in epoch 1: lower lr, which is 1e\+30"):
        train(epochs=2, lr=1e30)


def test_one_category_is_refused():
    inputs, labels = striped_products()
    with pytest.raises(CatalogError, match="all 64 products to train on are of one category: give at least two"):
        pretrain(build_encoder({"image": {"name": "conv4", "width": 16}}), inputs, 0 * labels)


def test_frozen_parts_keep_weights_and_statistics():
    encoder = build_encoder(
        {
            "image": {"name": "conv4", "width": 16},
            "title": {"vocab_size": 20, "embedding_dim": 8, "hidden_size": 8},
            "fusion": {"kind": "attention", "dim": 16},
        }
    )
    images, labels = striped_products()
    inputs = ProductInputs(
        images=images.images,
        has_image=torch.ones(64, dtype=torch.bool),
        tokens=torch.randint(1, 20, (64, 4)),
        lengths=torch.full((64,), 4),
    )
    with pytest.raises(UnknownName, match=r"no part to freeze 'pictures'.* There are image, title, fusion"):
        pretrain(encoder, inputs, labels, epochs=1, batch_size=16, frozen=("pictures",), **QUIET)
    before = state_hash(encoder.image.state_dict()), state_hash(encoder.title.state_dict())
    trained = pretrain(
        encoder, inputs, labels, epochs=1, batch_size=16, frozen=("image",), modality_dropout=0.5, **QUIET
    ).encoder
    assert state_hash(trained.image.state_dict()) == before[0]
    assert state_hash(trained.title.state_dict()) != before[1]
    assert all(p.requires_grad for p in trained.parameters())


def test_modality_dropout_never_takes_the_last_one():
    inputs = ProductInputs(
        images=torch.zeros(400, 2, 2, 3, dtype=torch.uint8),
        has_image=torch.arange(400) % 4 > 0,
        tokens=torch.ones(400, 3, dtype=torch.int64),
        lengths=torch.where(torch.arange(400) % 4 == 1, 0, 3),
    )
    dropped = drop_modalities(inputs, 0.5, seed_step(0))
    assert bool((dropped.has_image | (dropped.lengths > 0)).all())
    both = inputs.has_image & (inputs.lengths > 0)
    lost = both & ~(dropped.has_image & (dropped.lengths > 0))
    assert 0.4 < lost.sum() / both.sum() < 0.6
    assert bool((dropped.has_image <= inputs.has_image).all())
    halves = [drop_modalities(inputs[torch.arange(400).chunk(2)[i]], 0.5, seed_step(0), (i, 2)) for i in range(2)]
    for name in ("has_image", "lengths"):
        assert torch.equal(torch.cat([getattr(half, name) for half in halves]), getattr(dropped, name))


def test_modality_dropout_leaves_a_lone_modality_alone():
    titles = ProductInputs(tokens=torch.ones(50, 3, dtype=torch.int64), lengths=torch.full((50,), 3))
    images = ProductInputs(images=torch.zeros(50, 2, 2, 3, dtype=torch.uint8))
    for inputs in (titles, images):
        assert drop_modalities(inputs, 1.0, seed_step(0)) is inputs


def test_class_balanced_order_evens_out_a_long_tail():
    labels = np.repeat([0, 1], [900, 100])
    balanced = labels[epoch_order(labels, seed_step(0), True).numpy()]
    assert 0.4 < balanced.mean() < 0.6
    assert sorted(epoch_order(labels, seed_step(0), False).tolist()) == list(range(1000))


def test_learning_rate_rises_then_falls_to_zero():
    factors = [learning_rate(step, 100) for step in range(100)]
    assert factors[0] < factors[2] < 1.0 >= max(factors)
    assert np.argmax(factors) == 5
    assert factors[-1] < 1e-3
    assert factors[52] == pytest.approx(0.5, abs=0.01)


def test_augmentation_depends_on_its_generator_alone():
    images = striped_products()[0].images
    once, again = (augment(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, augment(images, torch.Generator().manual_seed(4)))
    assert once.shape == images.shape and once.min() >= 0 and once.max() <= 255


def test_augmentation_without_strength_only_flips():
    images = striped_products()[0].images.float()
    out = augment(images, torch.Generator().manual_seed(0), scale=0.0, shift=0.0, rotate=0.0, colour=0.0, erase=0.0)
    same = (out - images).abs().amax(dim=(1, 2, 3)) < 1e-2
    flipped = (out - images.flip(2)).abs().amax(dim=(1, 2, 3)) < 1e-2
    assert bool((same | flipped).all()) and same.any() and flipped.any()


def test_crops_keep_their_share_lie_inside_and_are_returned_smaller():
    """Pixels that say where they lie: red the row, green the column, 0 to 240 in steps of 10."""
    place = (torch.arange(25) * 10.0)[:, None, None].expand(25, 25, 1)
    images = torch.cat([place, place.transpose(0, 1), torch.zeros_like(place)], 2).expand(400, 25, 25, 3)
    off = {"scale": 0.0, "shift": 0.0, "rotate": 0.0, "colour": 0.0, "erase": 0.0}
    out = augment(images, torch.Generator().manual_seed(0), crop=0.25, resolution=0.6, **off)
    assert out.shape == (400, 15, 15, 3)
    rows, columns = out[:, :, 7, 0], out[:, 7, :, 1]
    step = (rows[:, 8] - rows[:, 7]) / 10  # input pixels an output pixel
    area = (step * 15 / 25) ** 2
    assert 0.24 < float(area.min()) < 0.3 and 0.97 < float(area.max()) < 1.01
    assert float(area.mean()) == pytest.approx(0.625, abs=0.03)
    middle = torch.stack([rows[:, 7], columns[:, 7]])[:, area < 0.3]  # at most a quarter of the side off the centre
    assert float((middle - 120).abs().max()) <= 62 and bool((middle < 80).any()) and bool((middle > 160).any())


def test_validation_makes_do_with_classes_that_share_groups():
    """As with one picture for all products that have none. No choice is left to make where all groups are shared."""
    ids, groups = np.repeat([0, 1, 2], 6), np.arange(18)
    groups[[4, 5, 10, 11, 16, 17]] = 99
    whole = FewShotValidation(None, ids, groups, n_way=3, n_shots=(1,), n_query=4)
    with pytest.raises(UsageError, match="share too many groups"):
        whole.sampler(1).sample(0, 500)
    fitting = FewShotValidation.fitting(None, ids, groups)
    assert fitting.n_way == 3 and fitting.n_query < 4
    for shot in fitting.n_shots:
        assert len(fitting.sampler(shot).sample(0, fitting.n_episodes)) == fitting.n_episodes
    assert FewShotValidation.fitting(None, np.repeat([0, 1], 4), np.tile([0, 1], 4)) is None
