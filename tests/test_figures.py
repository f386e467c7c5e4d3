"""Figures beside the accuracy curves: what is drawn is what was given, and nothing is cut off or lies over another."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from test_plots import record

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.pages import figures_of
from fewshot_prod.plots import (
    COLUMN_WIDTH,
    SLIDE_WIDTH,
    accuracy_vs_adaptation_steps,
    accuracy_vs_seconds,
    attention_sheet,
    class_sizes,
    confusion_matrix,
    difference_forest,
    embedding_map,
    episode_sheet,
    modality_weights,
    product_sheet,
    rank_diagram,
    style,
)
from fewshot_prod.plots.pictures import GAP
from fewshot_prod.ranks import average_ranks, critical_difference
from fewshot_prod.results import difference

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def flat_images(n: int, height: int = 8, width: int = 6) -> np.ndarray:
    """n pictures of one grey value each, picture i of value i."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, height, width, 3)).copy()


def shown_values(ax) -> dict[int, tuple[float, float]]:
    """Grey value of every picture on the axes -> the middle of where it stands."""
    middles = {}
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        middles[int(np.asarray(image.get_array()).flat[0])] = ((left + right) / 2, (bottom + top) / 2)
    return middles


def pair(mean: float, ci95: float, **changes) -> dict:
    return difference(record(0.7, **changes), record(0.6, method="maml", **changes), mean=mean, ci95=ci95)


def drawn(ax) -> np.ndarray:
    """The figure as luminance, float (H, W), 0 to 1."""
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3] / 255 @ LUMINANCE


def test_a_long_name_under_a_mistake_stays_under_its_picture():
    queries = torch.arange(2, 10)[None]
    many = replace(one_episode(), query=queries, query_labels=torch.tensor([[0, 1] * 4]))
    names = ["short", "an extraordinarily long name"]
    ax = episode_sheet(flat_images(10), replace(many, classes=torch.tensor([[0, 1]])), names=names, predictions=[1] * 8)
    ax.figure.canvas.draw()
    mistakes = [t for t in ax.texts if t.get_text().startswith("→")]
    left, right = ax.transData.transform([(0, 0), (1 + GAP, 0)])[:, 0]
    assert len(mistakes) == 4 and all(t.get_window_extent().width <= right - left + 1 for t in mistakes)


def test_adaptation_steps_are_read_from_the_config_and_methods_without_them_left_out():
    def config(steps: int) -> dict:
        return {"row": f"maml, {steps} steps", "method": {"n_adaptation_steps": steps}}

    records = [record(0.5 + k / 10, method="maml", config=config(k)) for k in (3, 1, 0)]
    ax = accuracy_vs_adaptation_steps([*records, record(0.9)])
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 3])
    np.testing.assert_allclose(line.get_ydata(), [50, 60, 80])
    assert ax.get_xlabel() == "Adaptation steps" and "1-shot" in ax.get_title("left")
    with pytest.raises(ValueError, match="one figure shows one n_shot"):
        accuracy_vs_adaptation_steps([*records, records[0] | {"n_shot": 5}])


def test_forest_marks_lie_at_the_means_and_are_filled_only_where_the_interval_leaves_out_zero():
    ax = difference_forest([pair(0.03, 0.01), pair(-0.002, 0.01, n_shot=5)])
    zero, *lines = ax.get_lines()
    intervals, marks = lines[::2], lines[1::2]
    assert zero.get_xdata() == [0, 0]
    np.testing.assert_allclose([line.get_xdata() for line in intervals], [[2, 4], [-1.2, 0.8]])
    np.testing.assert_allclose([m.get_xdata()[0] for m in marks], [3, -0.2])
    assert [to_rgb(m.get_markerfacecolor()) == (1, 1, 1) for m in marks] == [False, True]
    assert {"+3.0  1-shot", "−0.2  5-shot", "prototypical − maml"} <= {t.get_text() for t in ax.texts}


def test_a_forest_names_once_what_all_are_compared_with():
    base, others = record(0.6, method="nearest_centroid"), [record(0.7), record(0.5, method="maml")]
    ax = difference_forest([difference(one, base, mean=0.1, ci95=0.01) for one in others])
    assert ax.get_xlabel().endswith("from\nnearest centroid")
    assert [t.get_text() for t in ax.texts if t.get_weight() == "bold"] == ["maml", "prototypical"]
    ax = difference_forest([difference(others[i], others[1 - i], mean=0.1, ci95=0.01) for i in (0, 1)])
    assert ax.get_xlabel() == "Paired difference (percentage points)"
    names = [t.get_text() for t in ax.texts if t.get_weight() == "bold"]
    assert names == ["maml − prototypical", "prototypical − maml"]


def test_forest_numbers_have_two_decimals_where_all_are_small():
    ax = difference_forest([pair(0.0082, 0.001), pair(-0.0002, 0.01, n_shot=5)])
    assert {"+0.82  1-shot", "−0.02  5-shot"} <= {t.get_text() for t in ax.texts}


def test_a_forest_of_imbalanced_queries_says_so():
    imbalanced = {"query_distribution": "dirichlet:2"}
    heading = difference_forest([pair(0.03, 0.01, **imbalanced)]).get_title("left")
    assert "imbalanced queries (dirichlet:2)" in heading
    assert "queries" not in difference_forest([pair(0.03, 0.01)]).get_title("left")


def test_a_forest_mark_of_seeds_that_disagree_is_open_and_reaches_over_all_of_them():
    ax = difference_forest([pair(0.03, 0.01, train_seed=0), pair(-0.03, 0.01, train_seed=1)])
    _, interval, mark = ax.get_lines()
    np.testing.assert_allclose(interval.get_xdata(), [-4, 4])
    assert to_rgb(mark.get_markerfacecolor()) == (1, 1, 1) and mark.get_xdata() == [0]
    with pytest.raises(ValueError, match="no paired differences"):
        difference_forest([record(0.5)])


def test_long_names_of_a_forest_break_and_stay_inside_the_figure():
    long = [
        difference(
            record(0.7, encoder="conv4_maml_first_order", method="linear_probe"),
            record(0.6, encoder="conv4_prototypical"),
            mean=0.1,
            ci95=0.01,
        )
    ]
    for width, lines in ((COLUMN_WIDTH, 2), (SLIDE_WIDTH, 1)):
        ax = difference_forest(long, width=width)
        ax.figure.canvas.draw()
        names = [t for t in ax.texts if t.get_weight() == "bold"]
        assert len(names) == lines
        assert max(t.get_window_extent().x1 for t in names) <= ax.figure.bbox.x1


def test_average_ranks_share_ties_and_the_critical_difference_is_demsars():
    np.testing.assert_allclose(average_ranks([[0.9, 0.8, 0.8], [0.1, 0.2, 0.3]]), [2, 2.25, 1.75])
    # Demšar 2006, table 5(a): q_0.05 = 2.343 for three and 2.728 for five classifiers
    assert critical_difference(3, 1) == pytest.approx(2.343 * np.sqrt(3 * 4 / 6), abs=2e-3)
    assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / 180), abs=1e-3)
    assert critical_difference(5, 30, alpha=0.1) < critical_difference(5, 30)
    with pytest.raises(ValueError, match="1 methods on 3 blocks"):
        critical_difference(1, 3)


def test_rank_diagram_orders_methods_and_joins_those_that_are_not_told_apart():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (3, 200))
    scores = dict(zip(("worst", "equal b", "equal a"), noise + np.array([[0.0], [1.0], [1.0]]), strict=True))
    ax = rank_diagram(scores)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[2] == "worst  3.00" and {label[:7] for label in labels[:2]} == {"equal a", "equal b"}
    bars = [line for line in ax.get_lines() if line.get_linewidth() > 2]
    assert [tuple(np.round(b.get_ydata())) for b in bars] == [(0, 1)], "one bar, over the two equal ones"
    marks = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(sorted(marks), np.sort(average_ranks(np.stack(list(scores.values()), 1))))
    assert "200 episodes" in ax.get_xlabel()


def test_ranks_of_records_are_taken_in_the_settings_that_all_share():
    accuracy = {("maml", 1): 0.5, ("maml", 5): 0.6, ("prototypical", 1): 0.7, ("prototypical", 5): 0.8}
    records = [record(a, method=m, n_shot=k) for (m, k), a in accuracy.items()]
    ax = rank_diagram([*records, record(0.1, method="prototypical", n_shot=20)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["prototypical  1.00", "maml  2.00"]
    assert "2 settings" in ax.get_xlabel()


def test_ranks_over_unlike_numbers_of_episodes_are_those_of_paired_differences():
    """The 200 episodes that the adapting method saw are hard ones: on them it is the best."""
    first, other = record(0.7, method="nearest_centroid"), record(0.8, method="ridge")
    few = record(0.6, method="maml", n_episodes=200)
    pairs = [difference(a, first, mean=mean, ci95=0.01) for a, mean in ((other, 0.1), (few, 0.2))]
    ax = rank_diagram([first, other, few, *pairs])
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["maml  1.00", "ridge  2.00", "nearest centroid  3.00"]
    with pytest.raises(ValueError, match="1 of 3 cells are of different numbers of episodes and not compared"):
        rank_diagram([first, other, few, pairs[0]])
    second = record(0.5, method="linear_probe")
    with pytest.raises(ValueError, match="compared with several others"):
        rank_diagram([first, second, other, few, pairs[0], difference(few, second, mean=0.2, ci95=0.01)])


def test_seconds_are_those_of_an_episode():
    cells = [record(0.6, method=m) | {"eval_seconds": s, "n_episodes": n} for m, s, n in (("a", 4, 400), ("b", 6, 3))]
    ax = accuracy_vs_seconds(cells)
    marks = [line for line in ax.get_lines() if line.get_marker() not in ("None", None)]
    np.testing.assert_allclose([m.get_xdata()[0] for m in marks], [10, 2000])
    assert {m.get_markerfacecolor() == "white" for m in marks} == {False} and "transductive" not in ax.get_xlabel()
    with pytest.raises(ValueError, match="eval_seconds"):
        accuracy_vs_seconds([record(0.6)])


def test_a_tables_seconds_are_drawn_on_the_encoder_with_most_methods():
    """With those of every encoder the names leave the picture no room."""
    seen = [("conv4", "a"), ("conv4", "b"), ("conv4_maml", "c"), ("resnet12", "a"), ("resnet12", "d")]
    cells = [record(0.6, method=m, encoder=e) | {"eval_seconds": 1.0, "n_episodes": 10} for e, m in seen]
    marks = [
        line for line in figures_of("table1", cells)["table1_seconds"]().get_lines() if line.get_marker() != "None"
    ]
    assert len(marks) == 3
    assert not {name for name in figures_of("table1", cells[3:]) if name.endswith("seconds")}  # two methods


def test_differences_of_weights_halfway_have_a_figure_of_their_own():
    start, trained, middle = (
        record(a, encoder=e) for a, e in ((0.5, "conv4"), (0.6, "conv4_continued"), (0.7, "conv4_halfway"))
    )
    pairs = [difference(one, start, mean=0.1, ci95=0.01) for one in (trained, middle)]
    assert {"table1_differences_image_5", "table1_differences_halfway_5"} == set(figures_of("table1", pairs))


def test_a_method_that_saw_all_queries_has_an_open_mark():
    cells = [record(0.6, method=m, transductive=m == "tim") | {"eval_seconds": 1} for m in ("tim", "prototypical")]
    ax = accuracy_vs_seconds(cells)
    faces = {line.get_label(): line.get_markerfacecolor() for line in ax.get_lines() if line.get_marker() != "None"}
    assert faces["tim"] == "white" != faces["prototypical"] and "open: transductive" in ax.get_xlabel()


@pytest.mark.parametrize("counts, told", [((5,), "5"), ((200, 10_000), "200 or 10,000"), ((1, 2, 3), "1 to 3")])
def test_episodes_are_told_as_they_are(counts, told):
    assert style.episodes_told([{"n_episodes": n} for n in counts]) == f"n = {told} episodes"


def test_class_sizes_are_sorted_and_coloured_by_part():
    sizes = {"a": 3, "b": 9, "c": 5, "left out": 7}
    ax = class_sizes(sizes, parts={"base": ["b", "a"], "novel": ["c"]})
    bars = {round(p.get_x() + p.get_width() / 2): (p.get_height(), to_rgb(p.get_facecolor())) for p in ax.patches}
    assert [bars[i][0] for i in range(3)] == [9, 5, 3]
    assert bars[0][1] == bars[2][1] != bars[1][1]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["base (2)", "novel (1)"]


def test_confusion_rows_are_percent_and_stand_in_the_order_of_the_taxonomy():
    confusion = [[8, 2, 0], [0, 5, 0], [1, 1, 2]]
    ax = confusion_matrix(confusion, ["vase", "cup", "bowl"], parents=["decoration", "tableware", "tableware"])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["vase", "bowl", "cup"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[80, 0, 20], [25, 50, 25], [0, 0, 100]])
    written = {t.get_position(): t.get_text() for t in ax.texts}
    assert written[2, 0] == "20" and written[0, 1] == "25" and (0, 2) not in written
    lines = [line.get_ydata()[0] for line in ax.get_lines() if line.get_ydata()[0] == line.get_ydata()[1]]
    assert 0.5 in lines and 1.5 not in lines, "a line between families only"
    with pytest.raises(ValueError, match="3 rows, 2 names"):
        confusion_matrix(confusion, ["vase", "cup"])


def test_labels_of_a_large_confusion_do_not_overlap():
    ax = confusion_matrix(np.eye(24), [f"category {i}" for i in range(24)])
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_embedding_map_keeps_given_positions_and_its_thumbnails_apart():
    positions = np.random.default_rng(0).normal(size=(80, 2))
    names = [f"c{i % 3}" for i in range(80)]
    ax = embedding_map(positions, names, images=flat_images(80), thumbnails=12)
    at = np.concatenate([np.stack(line.get_data(), 1) for line in ax.get_lines()])
    np.testing.assert_allclose(np.sort(at, 0), np.sort(positions, 0), rtol=1e-6)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["c0", "c1", "c2"]
    ax.figure.canvas.draw()
    pictures = [a for a in ax.artists if hasattr(a, "offsetbox")]
    boxes = [a.offsetbox.get_window_extent() for a in pictures]
    assert 3 <= len(boxes) <= 12 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for picture in pictures:
        i = int(np.asarray(picture.offsetbox.get_data()).flat[0])
        np.testing.assert_allclose(picture.xy, positions[i], rtol=1e-6)


def test_an_embedding_map_lays_out_features_by_category():
    rng = np.random.default_rng(0)
    names = ["left"] * 15 + ["right"] * 15
    features = rng.normal(0, 0.1, (30, 8)) + np.repeat([[0.0], [9.0]], 15, axis=0)
    left, right = (np.stack(line.get_data(), 1) for line in embedding_map(features, names).get_lines())
    apart = np.linalg.norm(left.mean(0) - right.mean(0))
    assert apart > 2 * max(left.std(0).max(), right.std(0).max())


def test_product_sheet_has_a_row_of_pictures_a_name():
    ax = product_sheet(flat_images(9), {"mug": [4, 2], "tea pot": [7]})
    at = shown_values(ax)
    assert set(at) == {2, 4, 7} and at[4][0] < at[2][0] and at[4][1] == at[2][1] < at[7][1]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["mug", "tea pot"]
    ax = product_sheet(flat_images(9), {"God-Morgon-Red-Grapefruit-Juice": [0], "Highlighter and Blush": [1]})
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["God-Morgon-Red-\nGrapefruit-Juice", "Highlighter and\nBlush"]
    with pytest.raises(ValueError, match="without pictures"):
        product_sheet(flat_images(1), {"mug": []})


def one_episode() -> EpisodeBatch:
    return EpisodeBatch(
        support=torch.tensor([[1, 2]]),
        support_labels=torch.tensor([[0, 1]]),
        query=torch.tensor([[3, 4, 5]]),
        query_labels=torch.tensor([[1, 0, 1]]),
        n_way=2,
        classes=torch.tensor([[6, 4]]),
    )


def test_episode_sheet_places_support_left_of_query_and_frames_mistakes():
    names = [f"category {i}" for i in range(7)]
    ax = episode_sheet(flat_images(6), one_episode(), names=names, predictions=[1, 1, 1])
    at = shown_values(ax)
    assert at[1][1] == at[4][1] < at[2][1] == at[3][1] == at[5][1], "a row a class"
    assert max(at[1][0], at[2][0]) < min(at[3][0], at[4][0], at[5][0])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["category 6", "category 4"]
    (frame,) = ax.patches
    x, y = at[4]
    assert frame.get_x() < x < frame.get_x() + 1 and frame.get_y() < y < frame.get_y() + frame.get_height()
    assert "→ category 4" in {t.get_text() for t in ax.texts}
    with pytest.raises(ValueError, match="2 predictions for 3 queries"):
        episode_sheet(flat_images(6), one_episode(), predictions=[0, 1])


def test_attention_sheet_shades_tokens_by_weight_and_bars_by_modality():
    pieces, weights = [["red", "mug"], []], [[0.2, 0.6, 0.2], [0.0]]
    ax = attention_sheet(pieces, weights, images=flat_images(2), modality_weights=[[0.7, 0.3], [1, 0]])
    words = {t.get_text(): t for t in ax.texts}
    shade = {w: np.dot(words[w].get_bbox_patch().get_facecolor()[:3], LUMINANCE) for w in ("red", "mug")}
    assert shade["mug"] < shade["red"] and "(no title)" in words
    assert {"image 70 %", "title 30 %", "image 100 %"} <= set(words)
    widths = [p.get_width() for p in ax.patches[:2]]
    assert widths[0] / widths[1] == pytest.approx(7 / 3)
    bare = attention_sheet(pieces, weights, images=flat_images(2), has_image=[True, False])
    assert set(shown_values(bare)) == {0} and "(no\nimage)" in {t.get_text() for t in bare.texts}
    with pytest.raises(ValueError, match="title 0 has 2 tokens but 1 weights"):
        attention_sheet([["red", "mug"]], [[1.0]])


def test_a_long_title_goes_on_in_another_line_inside_the_axes():
    title = [f"word{i}" for i in range(14)]
    ax = attention_sheet([title], [np.ones(14)])
    ax.figure.canvas.draw()
    words = [t for t in ax.texts if t.get_text() in title]
    assert len({t.get_position()[1] for t in words}) == 2
    assert max(t.get_window_extent().x1 for t in words) <= ax.figure.bbox.x1


def test_a_title_that_is_too_long_for_its_row_ends_in_an_ellipsis():
    title = [f"word{i}" for i in range(60)]
    ax = attention_sheet([title, ["red", "mug"]], [np.ones(60), np.ones(2)], names=["long", "short"])
    texts = {t.get_text(): t.get_position()[1] for t in ax.texts}
    assert "word59" not in texts and texts["word0"] < texts["…"] < texts["short"]


def test_bytes_are_shown_as_the_characters_that_they_spell():
    spelled = [f"<0x{byte:02X}>" for byte in "边".encode()]
    ax = attention_sheet([[*spelled, "桌"]], [[0.1, 0.2, 0.3, 0.4]])
    assert [t.get_text() for t in ax.texts] == ["边", "桌"]
    shades = [t.get_bbox_patch().get_facecolor() for t in ax.texts]
    assert shades[0] != shades[1]  # 0.6 against 0.4


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".jpg", ""])
def test_figures_are_written_in_the_format_of_their_suffix(tmp_path, suffix):
    path = style.save_figure(attention_sheet([["red"]], [[1.0]]), tmp_path / f"figure{suffix}", Records="abc")
    assert path.is_file() and path.suffix == (suffix or ".png")


def test_modality_weights_are_means_of_categories_the_most_visual_on_top():
    ax = modality_weights([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], ["words", "words", "looks"])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["looks", "words"]
    np.testing.assert_allclose([p.get_width() for p in ax.patches], [90, 30, 10, 70])


def test_a_heading_that_is_too_long_for_a_column_breaks():
    parts = ["synthetic_random", "5-way", "5-shot", "n = 200 or 10,000 episodes"]
    for width, lines in ((COLUMN_WIDTH, 2), (SLIDE_WIDTH, 1)):
        with style.drawn_on(None, width) as ax:
            style.set_heading(ax, parts)
        assert len(ax.get_title("left").split("\n")) == lines


def test_chinese_labels_get_a_font_that_has_them(monkeypatch):
    monkeypatch.setattr(style, "chinese_family", lambda: "Some CJK")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = class_sizes({"衬衫": 1}, parts={"基础": ["衬衫"]})
        assert "Some CJK" in ax.get_legend().get_texts()[0].get_fontfamily()
        _, given = plt.subplots()
        given.set_title("口红")
        class_sizes({"a": 1}, given)
        assert given.title.get_fontfamily()[-1] == "Some CJK"


def test_a_missing_chinese_font_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setattr(style, "chinese_family", lambda: None)
    with pytest.warns(UserWarning, match="no font with Chinese characters is installed"):
        product_sheet(flat_images(1), {"衬衫": [0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        product_sheet(flat_images(1), {"shirt": [0]})


def test_a_missing_chinese_font_is_told_once_and_not_a_character_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "chinese_family", lambda: None)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ax = confusion_matrix(np.eye(2, dtype=int), ["衬衫", "口红"])
        style.save_figure(ax, tmp_path / "a.png")
        assert ["Chinese" in str(warning.message) for warning in told] == [True]
        style.save_figure(class_sizes({"cup": 1}, parts={"ᠠ": ["cup"]}), tmp_path / "b.png")
        assert "Glyph" in str(told[1].message), "other scripts are still told of"


@pytest.fixture
def two_glyphs(tmp_path):
    """An installed family with two Chinese characters, a full box and half of one, so that no download is needed."""
    builder = FontBuilder(1000)
    corners = {".notdef": (0, 0), "uni886C": (900, 800), "uni53E3": (900, 400)}
    builder.setupGlyphOrder(list(corners))
    builder.setupCharacterMap({ord("衬"): "uni886C", ord("口"): "uni53E3"})
    glyphs = {}
    for name, (right, top) in corners.items():
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in ((0, top), (right, top), (right, 0)):
            pen.lineTo(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(corners, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Glyphs", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")
    font_manager.fontManager.addfont(tmp_path / "two.ttf")
    yield "Two Glyphs"
    font_manager.fontManager.ttflist = [f for f in font_manager.fontManager.ttflist if f.name != "Two Glyphs"]


def test_chinese_characters_are_drawn_by_the_font_that_has_them(two_glyphs, monkeypatch):
    """The same label with a whole and a half box: what is missing would be two equal boxes, and warned about."""
    monkeypatch.setattr(style, "chinese_family", lambda: two_glyphs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ink = {name: (1 - drawn(product_sheet(flat_images(1), {name: [0]}))).sum() for name in ("衬", "口", " ")}
    assert ink["衬"] - ink[" "] == pytest.approx(2 * (ink["口"] - ink[" "]), rel=0.1)


def test_an_installed_chinese_font_has_different_pictures_for_different_characters():
    if style.chinese_family() is None:
        pytest.skip("no font with Chinese characters is installed: pip install '.[fonts]'")
    pictures = [drawn(product_sheet(flat_images(1), {name: [0]})) for name in ("衬", "口")]
    assert np.abs(pictures[0] - pictures[1]).max() > 0.5, "missing glyphs are equal boxes"


def test_image_comparison_an_episode_sheet_shows_each_picture_where_it_belongs():
    """The rendered sheet, row by row: support of value 1 and 2 is dark, queries 3 to 5 are brighter."""
    images = flat_images(6, 20, 20)
    images = (images.astype(int) * 45).astype(np.uint8)
    ax = episode_sheet(images, one_episode())
    grey = drawn(ax)
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        x, y = ax.transData.transform([((left + right) / 2, (bottom + top) / 2)])[0]
        expected = np.asarray(image.get_array()).flat[0] / 255
        assert grey[grey.shape[0] - 1 - int(y), int(x)] == pytest.approx(expected, abs=0.02)
    assert grey[[0, -1]].min() == 1 and grey[:, [0, -1]].min() == 1, "nothing touches the edge"


def test_image_comparison_a_confusion_matrix_reads_in_grey():
    """Lightness falls as the share rises, so that a grey print orders the cells as the numbers do."""
    ax = confusion_matrix([[50, 30, 20], [5, 90, 5], [0, 0, 100]], ["a", "b", "c"])
    grey = drawn(ax)

    def lightness(column: float, row: float) -> float:
        x, y = ax.transData.transform((column - 0.4, row - 0.4))  # beside the number
        return grey[grey.shape[0] - 1 - int(y), int(x)]

    shares = [(100, 2, 2), (90, 1, 1), (50, 0, 0), (30, 1, 0), (20, 2, 0), (5, 0, 1), (0, 0, 2)]
    seen = [lightness(column, row) for _, column, row in shares]
    assert seen == sorted(seen) and seen[-1] - seen[0] > 0.6


def test_a_sheet_leaves_its_names_inside_the_figure():
    ax = product_sheet(flat_images(8, 64, 64), {f"bookcase {i}": range(8) for i in range(6)})
    assert drawn(ax)[:, :2].min() > 0.99
