"""Figures: what is drawn is what the records say, and labels stay apart."""

from __future__ import annotations

from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from fewshot_prod.plots import (
    COLUMN_WIDTH,
    SLIDE_WIDTH,
    accuracy_vs_shots,
    continued_training,
    save_figure,
    training_curves,
    training_progress,
)
from fewshot_prod.plots.curves import draw_lines
from fewshot_prod.results import cell, measured, training_history

SHOTS = (1, 2, 3, 5, 10, 20)


def record(accuracy: float, *, ci95: float = 0.002, **changes) -> dict:
    fields = {
        "experiment": "f",
        "catalog": "synthetic",
        "split": "synthetic_random",
        "method": "prototypical",
        "encoder": "conv4",
        "n_way": 5,
        "n_shot": 1,
        "n_query": 10,
        "n_episodes": 10_000,
        "episode_seed": 0,
        "train_seed": 0,
        "config": {},
        "catalog_fingerprint": "c0",
    }
    return measured(cell(**{**fields, **changes}), accuracy=accuracy, ci95=ci95)


def crowd(n: int) -> list[dict]:
    """n methods whose curves all but coincide."""
    return [record(0.6 + k / 100 + m / 2000, method=f"method {m}", n_shot=k) for m in range(n) for k in SHOTS]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_lines_are_means_over_seeds_and_bands_reach_to_the_outermost_interval():
    seeds = [(0.70, 0.01), (0.72, 0.02)]
    records = [record(a + k / 100, ci95=h, n_shot=k, train_seed=s) for s, (a, h) in enumerate(seeds) for k in (5, 1)]
    ax = accuracy_vs_shots(records)
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 5])
    np.testing.assert_allclose(line.get_ydata(), [72, 76])
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    np.testing.assert_allclose([corners[corners[:, 0] == 1, 1].min(), corners[corners[:, 0] == 1, 1].max()], [70, 75])


def test_axes_say_what_they_show():
    ax = accuracy_vs_shots([*crowd(2), record(0.5, method="maml", n_episodes=200)])
    assert ax.get_ylabel() == "Accuracy (%)" and ax.get_xlabel() == "Labelled products a class (shots)"
    assert ax.get_title("left").replace("\n", " ") == "synthetic_random, 5-way, n = 200 or 10,000 episodes"
    assert [t.get_text() for t in ax.get_xticklabels()] == [str(k) for k in SHOTS]
    assert not ax.get_xticks(minor=True).size


@pytest.mark.parametrize("n, width", [(7, COLUMN_WIDTH), (7, SLIDE_WIDTH), (12, SLIDE_WIDTH)])
def test_labels_of_lines_that_coincide_stay_apart_in_order_and_inside_the_figure(n, width):
    ax = accuracy_vs_shots(crowd(n), width=width)
    ax.figure.canvas.draw()
    labels = sorted(ax.texts, key=lambda t: int(t.get_text().split()[1]))
    assert len(labels) == n
    boxes = [plt.Text.get_window_extent(t) for t in labels]  # an annotation's own box would hold its leader too
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(a.y0 < b.y0 for a, b in pairwise(boxes)), "labels stand in the order of the lines"
    assert max(b.x1 for b in boxes) <= ax.figure.bbox.x1 + 1
    assert not any(b.overlaps(ax._left_title.get_window_extent()) for b in boxes)


def test_no_two_lines_look_alike_even_without_colour():
    lines = accuracy_vs_shots(crowd(12), width=SLIDE_WIDTH).get_lines()
    assert len({(line.get_linestyle(), str(line._dash_pattern), line.get_marker()) for line in lines}) == 12
    assert len({line.get_color() for line in lines[:7]}) == 7


def test_the_fewest_fields_name_the_lines():
    own = [record(0.6, encoder=f"conv4_{m}", method=m) for m in ("maml", "prototypical")]
    assert {t.get_text() for t in accuracy_vs_shots(own).texts} == {"prototypical", "maml"}
    both = [record(0.6, encoder=e, method=m) for e in ("conv4", "resnet12") for m in ("maml", "prototypical")]
    assert {t.get_text() for t in accuracy_vs_shots(both).texts} == {
        f"{e}, {m}" for e in ("conv4", "resnet12") for m in ("maml", "prototypical")
    }


def test_a_figure_refuses_to_mix():
    with pytest.raises(ValueError, match="one figure shows one n_way, not 5, all"):
        accuracy_vs_shots([record(0.6), record(0.6, n_way="all")])
    with pytest.raises(ValueError, match="2 cells for one place, prototypical, 1-shot"):
        accuracy_vs_shots([record(0.6), record(0.7, config={"lr": 1})])
    with pytest.raises(ValueError, match="no cells to draw"):
        accuracy_vs_shots([])


def test_training_curves_ring_the_best_point_and_pass_over_rows_without_validation():
    history = [{"epoch": e, "score": s} for e, s in ((1, 0.5), (3, 0.7), (4, 0.65))]
    ax = training_curves({"supervised": [*history, {"epoch": 5, "loss": 1.0}], "ProtoNet": history[:2]})
    line, _, ring, _ = ax.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [50, 70, 65])
    assert (ring.get_xdata(), ring.get_ydata()) == ([3], [70])
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"supervised", "ProtoNet"} and not ax.texts
    with pytest.raises(ValueError, match=r"the history 'a' has no 'score'; it has \['epoch', 'loss'\]"):
        training_curves({"a": [{"epoch": 5, "loss": 1.0}]})


def test_training_progress_counts_images_and_leaves_out_the_start():
    def history(encoder, unit, images, *scores):
        rows = [{unit: k, "score": score} for k, score in enumerate(scores)]
        where = {"catalog": "omniglot", "split": "s", "train_seed": 0, "encoder_hash": encoder}
        return training_history(rows, **where, encoder=encoder, images_seen=images)

    kept = [
        history("omniglot_maml", "iteration", 600, 0.2, 0.7, 0.9, 0.8),
        history("omniglot_classifier", "epoch", 100, 0.2, 0.6),
    ]
    ax = training_progress(kept)
    maml, classifier, ring, _ = ax.get_lines()
    np.testing.assert_allclose(maml.get_xdata(), [200, 400, 600])
    np.testing.assert_allclose(classifier.get_xdata(), [100])
    assert (ring.get_xdata(), ring.get_ydata()) == ([400], [90])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["maml", "classifier"]


def test_continued_training_starts_from_nothing_shown_and_averages_the_seeds_that_went_both_ways():
    def history(encoder, seed, unit, images, *scores):
        rows = [{unit: k, "score": score} for k, score in enumerate(scores, unit == "epoch")]
        where = {"catalog": "fashion", "split": "s", "encoder_hash": f"{encoder}{seed}"}
        return training_history(rows, **where, train_seed=seed, encoder=encoder, images_seen=images)

    kept = [
        *(history("conv4", seed, "epoch", 1000, 0.5, 0.7) for seed in (0, 1, 2)),
        *(
            history("conv4_prototypical", seed, "iteration", 1400, first, 0.7, 0.8)
            for seed, first in enumerate((0.6, 0.6, 0.9))
        ),
        *(history("conv4_continued", seed, "epoch", 1400, 0.7, 0.72) for seed in (0, 1, 2, 3)),
        history("resnet12_prototypical", 0, "iteration", 1400, 0.9, 0.9),
    ]
    ax = continued_training(kept)
    episodes, supervised = ax.get_lines()
    np.testing.assert_allclose(episodes.get_xdata(), [0, 200, 400])
    np.testing.assert_allclose(episodes.get_ydata(), [70, 70, 80])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 0, 1].min() == pytest.approx(60) and band[:, 1].max() == pytest.approx(90)
    np.testing.assert_allclose(supervised.get_xdata(), [200, 400])
    with pytest.raises(ValueError, match="no start with histories of its own"):
        continued_training(kept[1:3])


def test_a_training_curve_s_low_start_is_cut_off_and_nothing_else():
    rows = [{"epoch": e, "score": s} for e, s in enumerate((0.2, 0.9, 0.92, 0.91))]
    assert 88 < training_curves({"a": rows, "b": rows[1:]}).get_ylim()[0] < 90
    assert training_curves({"a": rows[1:]}).get_ylim()[0] <= 90
    gentle = [{"epoch": e, "score": s} for e, s in enumerate((0.8, 0.85, 0.92))]
    assert training_curves({"a": gentle}).get_ylim()[0] <= 80


def test_a_given_axes_is_drawn_on_and_a_png_is_sharp_in_a_column(tmp_path):
    _, axes = plt.subplots(1, 2)
    assert accuracy_vs_shots(crowd(2), axes[1]) is axes[1] and not axes[0].get_lines()
    path = save_figure(accuracy_vs_shots(crowd(3)), tmp_path / "deep" / "f.png")
    with Image.open(path) as image:
        assert image.width == 1020
        grey = np.asarray(image.convert("L"))
    assert 0.02 < (grey < 128).mean() < 0.5
    assert plt.get_fignums() == [1], "the saved figure is closed"


def test_each_name_at_the_right_is_where_its_leader_ends():
    """Also where many lines end close together, so that leaders are steep."""
    x = np.array([1, 5])
    lines = {f"method {i}": (x, *[np.array([0.5, 0.9 + i / 1000])] * 3) for i in range(7)} | {"low": (x, *[x / 10] * 3)}
    _, ax = plt.subplots(figsize=(3.4, 2.4))
    draw_lines(ax, lines)
    ax.figure.canvas.draw()
    for name in ax.texts:
        box = Text.get_window_extent(name)
        path, _ = name.arrow_patch._get_path_in_displaycoord()
        begins = path[0].vertices[0]
        assert abs(begins[1] - (box.y0 + box.y1) / 2) < box.height / 4, name.get_text()
