"""Checkpoints come back as they went, and a broken one says what is wrong."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_metatrain import conv4, products

from fewshot_prod.checkpoints import CheckpointError, TrainingState, encoder_hash, load_checkpoint, save_checkpoint
from fewshot_prod.cli import evaluate_checkpoint
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.features import cached_features, embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.metatrain import metatrain
from fewshot_prod.prepare import UNTRAINED, load_encoder
from fewshot_prod.pretrain import pretrain

CONFIG = {
    "image": {"name": "conv4", "width": 16},
    "title": {"vocab_size": 30, "embedding_dim": 8, "hidden_size": 8},
    "fusion": {"kind": "concat", "dim": 16},
}


def some_inputs(n: int = 6) -> ProductInputs:
    generator = torch.Generator().manual_seed(0)
    return ProductInputs(
        images=torch.randint(0, 256, (n, 32, 24, 3), generator=generator, dtype=torch.uint8),
        has_image=torch.ones(n, dtype=torch.bool),
        tokens=torch.randint(1, 30, (n, 5), generator=generator),
        lengths=torch.arange(n) % 5 + 1,
    )


def test_round_trip_gives_the_same_features_and_hash(tmp_path):
    encoder = build_encoder(CONFIG).eval()
    save_checkpoint(tmp_path / "a", encoder, {"train_seconds": 1.5})
    again, facts = load_checkpoint(tmp_path / "a")
    assert facts == {"train_seconds": 1.5}
    assert encoder_hash(again) == encoder_hash(encoder)
    torch.testing.assert_close(embed(again, some_inputs()), embed(encoder, some_inputs()), rtol=0, atol=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_half_precision_halves_the_file_and_moves_features_little(tmp_path):
    encoder = build_encoder({"image": {"name": "conv4"}}).eval()
    save_checkpoint(tmp_path / "full", encoder)
    save_checkpoint(tmp_path / "half", encoder, half=True)
    size = {name: (tmp_path / name / "weights.safetensors").stat().st_size for name in ("full", "half")}
    assert size["half"] < 0.55 * size["full"]
    inputs = ProductInputs(images=some_inputs().images)
    torch.testing.assert_close(
        embed(load_checkpoint(tmp_path / "half")[0], inputs), embed(encoder, inputs), rtol=0.01, atol=0.01
    )


def test_overwriting_replaces_the_whole_folder(tmp_path):
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG))
    encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
    save_checkpoint(tmp_path / "a", encoder)
    assert encoder_hash(load_checkpoint(tmp_path / "a")[0]) == encoder_hash(encoder)


def test_what_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG))
    weights = load_file(tmp_path / "a" / "weights.safetensors")
    weights.pop("image.blocks.0.0.weight")
    save_file(weights, tmp_path / "a" / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)cannot be read: .*Missing key"):
        load_checkpoint(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(json.dumps({"encoder": {}, "facts": {}}))
    with pytest.raises(CheckpointError, match=r"needs an 'image' part"):
        load_checkpoint(tmp_path / "a")


def test_a_damaged_checkpoint_says_so(tmp_path):
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG))
    weights = tmp_path / "a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "a")
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG))
    (tmp_path / "a" / "config.json").write_text(json.dumps({"encoder": CONFIG}))
    with pytest.raises(CheckpointError, match="it has no 'facts'"):
        load_checkpoint(tmp_path / "a")
    encoder = build_encoder(CONFIG)
    state = TrainingState(tmp_path / "state.pt", {})
    for damage in (b"", b"PK no state"):
        state.path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"state\.pt is damaged; delete it to start anew"):
            state.load({"model": encoder}, torch.optim.SGD(encoder.parameters(), 0.1))


@pytest.mark.parametrize(
    ("stage", "n_columns", "given"),
    [(pretrain, 1, {"epochs": 1, "batch_size": 16}), (metatrain, 2, {"n_iterations": 1, "norm": "group"})],
)
def test_a_state_tells_every_argument_that_the_result_depends_on(stage, n_columns, given, tmp_path):
    """One that it left out would let a run go on with another value."""
    inputs, *columns = products(5, 0, n_each=20)
    stage(conv4(), inputs, *columns[:n_columns], **given, run_dir=tmp_path, report=lambda line: None)
    settings = torch.load(tmp_path / "state.pt")["settings"]
    passed = {p.name: p.default for p in signature(stage).parameters.values() if p.kind == p.KEYWORD_ONLY} | given
    for name in ("run_dir", "resume", "fabric", "report"):  # where and how it runs
        del passed[name]
    passed |= {"validation": False, "encoder": conv4().config, "frozen": []}
    assert settings.keys() - passed.keys() == {"precision", "products", "data"}
    assert {name: settings[name] for name in passed} == passed


def test_several_writers_leave_a_whole_folder_and_nothing_else(tmp_path):
    encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: save_checkpoint(tmp_path / "a", encoder, {"i": i}), range(40)))
    assert encoder_hash(load_checkpoint(tmp_path / "a")[0]) == encoder_hash(encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_that_is_done_does_not_put_the_old_folder_back(tmp_path, monkeypatch):
    """Another one may just have moved the new folder aside, to put its own there."""
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG), {"i": 0})
    move = os.replace

    def and_another_writer_comes(source, target):
        move(source, target)
        if Path(target) == tmp_path / "a":
            move(target, tmp_path / "aside")

    monkeypatch.setattr(os, "replace", and_another_writer_comes)
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG), {"i": 1})
    assert not (tmp_path / "a").exists() and load_checkpoint(tmp_path / "aside")[1] == {"i": 1}


def test_a_folder_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "disk")
    for i in range(2):
        save_checkpoint(tmp_path / "a", build_encoder(CONFIG), {"i": i})
    assert (tmp_path / "a").is_symlink() and load_checkpoint(tmp_path / "disk")[1] == {"i": 1}


def test_what_is_not_known_of_an_encoders_training_is_named(tmp_path):
    save_checkpoint(tmp_path / "a", build_encoder(CONFIG), {**UNTRAINED, "image_size": [32, 24], "training": {}})
    with pytest.raises(CheckpointError, match="says nothing of masked_classes: train the encoder anew"):
        load_encoder(tmp_path / "a")
    assert load_encoder(SHIPPED[0]).facts["stage"] == "pretrain"


def test_features_that_cannot_be_kept_are_used_all_the_same(tmp_path):
    (tmp_path / "features").write_text("in the way")
    encoder, inputs = build_encoder(CONFIG), some_inputs()
    with pytest.warns(UserWarning, match=r"features are not kept, .* cannot be written"):
        features = cached_features(encoder, inputs, inputs_key="k", cache_dir=tmp_path)
    assert torch.equal(features, embed(encoder, inputs))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision='bf16' is not one of 32-true, bf16-mixed"):
        embed(build_encoder(CONFIG), some_inputs(), precision="bf16")


def test_a_mistyped_folder_is_answered_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"no config.json; did you mean .*synthetic_conv4_gru_prototypical\?"):
        load_checkpoint(SHIPPED[-1].with_name("synthetic_conv4_gru_prototypcial"))


@pytest.mark.parametrize(
    "typed",
    ["conv4/seed0", "conv4/sed0/encoder", "conv4/seed0/encodr", "conv4/seed1", "conv_4/seed0/encoder", "conv_4/seed0"],
)
def test_a_folder_of_trained_encoders_is_answered_with_the_encoder_in_it(tmp_path, typed):
    for name in ("conv4", "gru"):
        save_checkpoint(tmp_path / name / "seed0" / "encoder", build_encoder(CONFIG))
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(tmp_path / typed)
    assert f"did you mean {tmp_path / 'conv4' / 'seed0' / 'encoder'}?" in str(refused.value)


@pytest.mark.parametrize("typed", ["elsewhere", "conv4", "conv4/seed0/encoder"])
def test_no_checkpoint_near_none_is_proposed(tmp_path, typed):
    save_checkpoint(tmp_path / "conv4" / "seed0" / "encoder", build_encoder(CONFIG))
    (tmp_path / "conv4" / "seed0" / "encoder" / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="give the folder that training wrote"):
        load_checkpoint(tmp_path / typed)


def test_the_hash_sees_weights_and_configuration():
    encoder = build_encoder(CONFIG)
    before = encoder_hash(encoder)
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1e-3
    assert encoder_hash(encoder) != before


def test_cached_features_are_recomputed_for_other_weights_or_inputs(tmp_path):
    encoder, inputs = build_encoder(CONFIG).eval(), some_inputs()
    first = cached_features(encoder, inputs, inputs_key="a", cache_dir=tmp_path)
    files = list((tmp_path / "features").iterdir())
    assert len(files) == 1
    files[0].write_bytes(b"")  # damaged: computed again
    torch.testing.assert_close(cached_features(encoder, inputs, inputs_key="a", cache_dir=tmp_path), first)
    save_file({"features": first + 1}, files[0])
    torch.testing.assert_close(cached_features(encoder, inputs, inputs_key="a", cache_dir=tmp_path), first + 1)
    torch.testing.assert_close(cached_features(encoder, inputs, inputs_key="b", cache_dir=tmp_path), first)
    with torch.no_grad():
        encoder.fusion.blocks["image"].weight.mul_(2)
    assert (cached_features(encoder, inputs, inputs_key="a", cache_dir=tmp_path) - first).abs().max() > 0.01


@pytest.mark.parametrize("changed", ["tokens", "lengths"])
def test_titles_cut_in_another_way_are_other_inputs(changed, tmp_path):
    """As after a change of the code that reads titles, on the same catalog and with the same vocabulary."""
    encoder, inputs = build_encoder(CONFIG).eval(), some_inputs()
    first = cached_features(encoder, inputs, inputs_key="a", cache_dir=tmp_path)
    other = replace(inputs, **{changed: (getattr(inputs, changed) - 1).clamp(min=0)})
    read = cached_features(encoder, other, inputs_key="a", cache_dir=tmp_path)
    torch.testing.assert_close(read, embed(encoder, other))
    assert not torch.allclose(read, first)


def test_other_missing_images_are_other_inputs_and_to_miss_none_can_be_said_in_two_ways(tmp_path):
    encoder, inputs = build_encoder(CONFIG).eval(), some_inputs()
    missing = [replace(inputs, has_image=torch.arange(6) != row) for row in (0, 1)]
    for some in (inputs, *missing):
        read = cached_features(encoder, some, inputs_key="a", cache_dir=tmp_path)
        torch.testing.assert_close(read, embed(encoder, some))
    cached_features(encoder, replace(inputs, has_image=None), inputs_key="a", cache_dir=tmp_path)
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_features_do_not_depend_on_the_batch_nor_on_training_mode():
    encoder, inputs = build_encoder(CONFIG), some_inputs()
    together = embed(encoder.train(), inputs, batch_size=6)
    alone = embed(encoder, inputs, batch_size=1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert encoder.training
    mirrored = ProductInputs(inputs.images.flip(2), inputs.has_image, inputs.tokens, inputs.lengths)
    torch.testing.assert_close(embed(encoder, mirrored), together, rtol=1e-5, atol=1e-5)
    assert (embed(encoder, mirrored, flip=False) - embed(encoder, inputs, flip=False)).abs().max() > 1e-3


SHIPPED = sorted((Path(__file__).parents[1] / "data" / "checkpoints").iterdir())


def test_shipped_checkpoints_are_small_and_load():
    assert len(SHIPPED) >= 2
    files = [file for folder in SHIPPED for file in folder.iterdir()]
    assert sum(file.stat().st_size for file in files) < 10_000_000
    for folder in SHIPPED:
        _, facts = load_checkpoint(folder)
        assert "fashion" not in facts["pretrained_on"]  # its licence does not allow to publish such weights


def test_the_shipped_synthetic_encoder_knows_new_categories(capsys):
    """5-way 1-shot on products of novel categories; chance is 20 %."""
    evaluate_checkpoint(SHIPPED[-1], method="prototypical", ways=(5,), shots=(1,), episodes=200)
    *_, printed = capsys.readouterr().out.splitlines()
    assert printed.startswith("5-way 1-shot: ")
    assert float(printed.split()[2]) > 60
