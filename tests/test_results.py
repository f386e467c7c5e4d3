"""Records: keys, files that survive a kill, per-episode accuracies, differences, provenance."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fewshot_prod import provenance, results
from fewshot_prod.episode_accuracy import load_episode_accuracy, save_episode_accuracy
from fewshot_prod.results import (
    append_record,
    cell,
    cell_key,
    difference,
    drop_superseded,
    measured,
    read_records,
    refuse_fewer_episodes,
    training_history,
)

COORDINATES = {
    "experiment": "table1",
    "catalog": "synthetic",
    "split": "synthetic_random",
    "method": "prototypical",
    "encoder": "conv4",
    "fusion": "attention",
    "modality": "image+title",
    "mask_class_words": False,
    "missing_rate": 0.0,
    "domain": "studio",
    "n_way": 5,
    "n_shot": 1,
    "n_query": 15,
    "query_distribution": "balanced",
    "n_episodes": 600,
    "episode_seed": 0,
    "train_seed": 0,
    "transductive": False,
    "norm": "running",
    "adapt": "all",
    "pretrained_on": "synthetic base classes",
    "images_seen": 1000,
    "config": {"shots": (1, 5), "method": {"logit_scale": np.float64(10.0)}, "by_shot": {10: "b", 2: "a"}},
    "catalog_fingerprint": "c0",
    "split_fingerprint": "50",
    "encoder_hash": "e0",
}


def made(**changes) -> dict:
    return cell(**{**COORDINATES, **changes})


def done(accuracy: float = 0.5, **changes) -> dict:
    return measured(made(**changes), accuracy=accuracy, ci95=0.01, train_seconds=3.0, eval_seconds=1.0)


def test_a_record_has_the_agreed_fields_and_null_where_one_does_not_apply():
    record = measured(
        cell(**{k: COORDINATES[k] for k in ("experiment", "catalog", "method", "n_way", "n_shot", "n_query")},
             n_episodes=1, episode_seed=0, config={}, catalog_fingerprint="c0"),
        accuracy=1.0, ci95=0.0,
    )  # fmt: skip
    agreed = (
        "kind experiment catalog split method encoder fusion modality mask_class_words missing_rate domain n_way n_shot"
        " n_query query_distribution n_episodes accuracy ci95 macro_f1 train_seed episode_seed transductive norm adapt"
        " pretrained_on images_seen config catalog_fingerprint split_fingerprint encoder_hash result_version commit"
        " versions device train_seconds eval_seconds"
    )
    assert set(agreed.split()) <= set(record)
    assert record["kind"] == "cell" and record["encoder"] is None and record["train_seconds"] is None


def test_the_key_is_the_same_before_measuring_after_it_and_after_reading(tmp_path):
    key = cell_key(made())
    append_record(tmp_path / "r.jsonl", done())
    assert cell_key(done(0.9)) == key
    assert {cell_key(r) for r in read_records(tmp_path / "r.jsonl")} == {key}
    assert cell_key(json.loads((tmp_path / "r.jsonl").read_text())) == key


@pytest.mark.parametrize("field", COORDINATES)
def test_every_coordinate_changes_the_key(field):
    other = {"config": {"shots": [1]}, "mask_class_words": True, "transductive": True, "modality": "image"}
    value = COORDINATES[field]
    changed = other.get(field, value + 1 if isinstance(value, (int, float)) else f"{value}x")
    assert cell_key(made(**{field: changed})) != cell_key(made())


def test_a_new_result_version_makes_every_cell_unfinished(monkeypatch):
    assert cell_key(made(result_version=results.RESULT_VERSION + 1)) != cell_key(made())


def test_commit_versions_device_and_seconds_do_not_change_the_key():
    record = done()
    for field in ("commit", "versions", "device", "train_seconds", "eval_seconds", "accuracy", "ci95"):
        assert cell_key({**record, field: "elsewhere"}) == cell_key(record)


def test_wrong_fields_and_values_are_refused():
    with pytest.raises(TypeError, match="n_shots"):
        made(n_shots=5)
    with pytest.raises(TypeError) as refused:
        made(config={"root": Path("x/y")})
    assert str(refused.value) == (
        f"record.config.root is {Path('x/y')!r}, which a record cannot carry: leave paths out, "
        "they name a machine and not a setting"
    )
    with pytest.raises(TypeError, match=r"record.config.lr is nan, which a record cannot carry"):
        made(config={"lr": float("nan")})
    with pytest.raises(ValueError, match=r"accuracy 79.1 is not between 0 and 1"):
        done(79.1)


def test_a_torn_last_line_is_ignored_loudly_moved_aside_and_redone(tmp_path):
    path = tmp_path / "r.jsonl"
    append_record(path, done(train_seed=0))
    torn = json.dumps(done(train_seed=1))[:-20]
    with path.open("a") as file:
        file.write(torn)
    with pytest.warns(UserWarning, match=f"left out a torn last line of {len(torn)} bytes; its cell will be redone"):
        assert {cell_key(r) for r in read_records(path)} == {cell_key(made(train_seed=0))}
    with pytest.warns(UserWarning, match="moved a torn last line"):
        append_record(path, done(train_seed=1))
    assert [r["train_seed"] for r in read_records(path)] == [0, 1]
    assert Path(f"{path}.torn").read_text() == torn + "\n"


def test_records_survive_kill_9(tmp_path):
    path = tmp_path / "r.jsonl"
    writer = (
        "import sys, itertools\nfrom fewshot_prod.results import append_record\n"
        "for i in itertools.count():\n"
        "    append_record(sys.argv[1], {'kind': 'cell', 'train_seed': i, 'config': 'x' * 20000})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(path)])
    deadline = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    append_record(path, {"kind": "cell", "train_seed": -1})
    seeds = [r["train_seed"] for r in read_records(path)]
    assert len(seeds) > 4 and seeds == [*range(len(seeds) - 1), -1]


def test_a_broken_line_before_the_last_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "r.jsonl"
    append_record(path, done(train_seed=0))
    path.write_text(path.read_text() + "{broken\n[]\n")
    with pytest.raises(ValueError, match="line 2 is no JSON record"):
        read_records(path)


def test_of_a_cell_that_stands_twice_the_later_line_counts(tmp_path):
    for accuracy in (0.4, 0.6):
        append_record(tmp_path / "r.jsonl", done(accuracy))
    assert [r["accuracy"] for r in read_records(tmp_path / "r.jsonl")] == [0.6]


def test_no_file_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none.jsonl")


def test_per_episode_accuracies_come_back_exactly_in_a_byte_or_two_each(tmp_path):
    rng = np.random.default_rng(0)
    for n_queries, dtype in ((75, np.uint8), (360, np.uint16)):
        accuracy = rng.integers(0, n_queries + 1, 1000) / n_queries
        path = save_episode_accuracy(tmp_path, "k", accuracy, n_queries)
        assert np.load(path)["correct"].dtype == dtype
        np.testing.assert_allclose(load_episode_accuracy(tmp_path, "k"), accuracy, rtol=0, atol=1e-15)
    assert [p.name for p in tmp_path.iterdir()] == ["k.npz"]
    ragged = rng.random(1000)
    save_episode_accuracy(tmp_path, "k", ragged)
    np.testing.assert_allclose(load_episode_accuracy(tmp_path, "k"), ragged, rtol=0, atol=0.00025)
    with pytest.raises(ValueError, match="no multiples of 1/75"):
        save_episode_accuracy(tmp_path, "k", ragged, 75)


def test_a_difference_says_what_the_cells_share_and_what_tells_them_apart():
    a, b = (
        done(0.6, train_seed=2),
        done(0.5, train_seed=2, method="nearest_centroid", n_episodes=200, encoder_hash="e1"),
    )
    record = difference(a, b, mean=0.1, ci95=0.02)
    assert record["kind"] == "difference" and record["n_episodes"] == 200 and record["train_seed"] == 2
    assert record["method"] is None and record["mean"] == 0.1 and record["ci95"] == 0.02
    assert record["a"] == {"key": cell_key(a), "method": "prototypical", "n_episodes": 600, "encoder_hash": "e0"}
    assert record["b"]["method"] == "nearest_centroid" and "accuracy" not in record
    assert cell_key(record) != cell_key(difference(b, a, mean=-0.1, ci95=0.02))


@pytest.mark.parametrize("field, value", [("episode_seed", 1), ("n_shot", 5), ("split_fingerprint", "51")])
def test_cells_on_other_episodes_cannot_be_paired(field, value):
    with pytest.raises(ValueError, match=f"cells with {field} .* share no episodes"):
        difference(done(), done(**{field: value}), mean=0.0, ci95=0.0)


def test_the_commit_is_known_in_a_checkout_and_none_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    provenance.commit.cache_clear()
    assert provenance.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "provenance.py").write_text("1\n")
    subprocess.run([*git, "init", "-q"], check=True)
    provenance.commit.cache_clear()
    assert provenance.commit() is None, "an untracked copy inside somebody's repository has no commit"
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    provenance.commit.cache_clear()
    clean = provenance.commit()
    assert len(clean) == 40
    (tmp_path / "provenance.py").write_text("2\n")
    provenance.commit.cache_clear()
    assert provenance.commit() == clean + "-dirty"
    monkeypatch.undo()
    provenance.commit.cache_clear()


def test_versions_are_those_imported_and_torch_is_not_imported_for_them():
    code = "import sys, fewshot_prod.results, fewshot_prod.tables; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    assert provenance.versions()["numpy"] == np.__version__
    assert "cores" in provenance.device_name("cpu")


def test_a_cell_measured_again_over_more_episodes_takes_the_old_one_s_place(tmp_path):
    path = tmp_path / "r.jsonl"
    for n in (1000, 10_000):
        append_record(path, {**done(), "n_episodes": n})
    assert drop_superseded(path) == 1
    assert [r["n_episodes"] for r in read_records(path)] == [10_000]


def test_only_cells_whose_place_a_run_would_take_forbid_fewer_episodes():
    place = {name: COORDINATES[name] for name in ("experiment", "catalog", "split", "episode_seed")}
    records = [done(config={"row": "a"}, train_seed=seed) for seed in (0, 1)]
    with pytest.raises(results.ResultsError, match="holds 'a' over 600 episodes, which a run over 500 would replace"):
        refuse_fewer_episodes("r.jsonl", records, place, {"a": 500})
    for asked in ({"a": 600}, {"a": 700}, {"b": 500}):
        refuse_fewer_episodes("r.jsonl", records, place, asked)
    others = {"experiment": "fig1", "catalog": "c", "split": "synthetic_random, validation classes", "episode_seed": 1}
    for name, value in others.items():
        refuse_fewer_episodes("r.jsonl", records, place | {name: value}, {"a": 500})


def test_a_changed_fusion_pretraining_or_split_takes_the_old_cell_and_its_difference_out(tmp_path):
    path = tmp_path / "r.jsonl"
    old, base = done(0.5, config={"row": "fused"}), done(0.4, config={"row": "alone"})
    for record in (old, base, difference(old, base, mean=0.1, ci95=0.01)):
        append_record(path, record)
    assert drop_superseded(path) == 0
    changed = {}
    for name, value in (("fusion", "gated"), ("pretrained_on", "x"), ("split_fingerprint", "51"), ("adapt", "head")):
        changed[name] = value
        append_record(path, done(0.6, config={"row": "fused"}, **changed))
        assert drop_superseded(path) == (2 if name == "fusion" else 1), name  # the first takes the difference along
    assert [(r["config"]["row"], r["fusion"]) for r in read_records(path)] == [
        ("alone", "attention"),
        ("fused", "gated"),
    ]


def test_cells_of_another_number_of_base_shots_stay(tmp_path):
    path = tmp_path / "r.jsonl"
    for shots in (20, 10):
        append_record(path, done(config={"row": "a", "base_shots": shots}))
    assert drop_superseded(path) == 0 and len(read_records(path)) == 2


def test_the_history_of_an_encoder_trained_anew_takes_the_old_one_s_place(tmp_path):
    path, same = tmp_path / "r.jsonl", {"catalog": "omniglot", "split": "s", "encoder": "conv4", "train_seed": 0}
    for hashed, score in (("a", 0.5), ("b", 0.75)):
        rows = [{"iteration": 10, "score": score}]
        append_record(path, training_history(rows, **same, encoder_hash=hashed, images_seen=100))
    append_record(path, done())
    assert drop_superseded(path) == 1
    history, cell = read_records(path)
    assert history["kind"] == "history" and history["rows"] == [{"iteration": 10, "score": 0.75}]
    assert cell["kind"] == "cell"
