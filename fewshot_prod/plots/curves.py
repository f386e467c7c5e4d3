"""Accuracy curves: over shots, adaptation steps, the size of pretraining, and over training itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.isotonic import isotonic_regression

from fewshot_prod.grouping import ROWS, by_what_is_missing, current, group_by, label, refuse_repeated, shown, varying
from fewshot_prod.plots.style import (
    COLOURS,
    COLUMN_WIDTH,
    DASHES,
    MARKERS,
    drawn_on,
    episodes_told,
    points,
    set_heading,
    text_scale,
)
from fewshot_prod.results import Record


def accuracy_vs_shots(
    records: Iterable[Record],
    ax: Axes | None = None,
    *,
    series: Sequence[str] | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Accuracy over the number of labelled products a class, a line for each method (or encoder, modality, ...).

    A line is the mean over training seeds. Its band reaches from the lowest to the highest end of the seeds' 95 %
    intervals over episodes; with one seed it is that interval.

    Args:
        records: results records; only cells are drawn, all of one catalog, split and way.
        ax: where to draw; a figure of its own when None.
        series: the fields that name the lines; by default the fewest that tell them apart.
        width: inches, of that figure.

    Raises:
        ValueError: without cells, or when they come from several catalogs, splits or ways.
    """
    return _accuracy_curves(
        current(records, "cell"), "n_shot", "Labelled products a class (shots)", "log", ax, series, width
    )


def accuracy_vs_adaptation_steps(
    records: Iterable[Record],
    ax: Axes | None = None,
    *,
    series: Sequence[str] | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Accuracy over the number of gradient steps on the support, of the cells whose method takes such steps.

    Lines, bands and arguments as in :func:`accuracy_vs_shots`; all cells have one number of shots, or ``series``
    names "n_shot".
    """
    cells = current(records, "cell")
    steps = [r["config"].get("method", {}).get("n_adaptation_steps") for r in cells]
    cells = [r | {"n_adaptation_steps": k} for r, k in zip(cells, steps, strict=True) if k is not None]
    return _accuracy_curves(cells, "n_adaptation_steps", "Adaptation steps", "linear", ax, series, width)


def accuracy_vs_pretraining_size(
    records: Iterable[Record],
    ax: Axes | None = None,
    *,
    size: str = "images_seen",
    label: str = "Products shown in training",
    series: Sequence[str] | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Accuracy over how much the encoder was trained on; otherwise as :func:`accuracy_vs_shots`.

    Args:
        size: the field, or the path to it with dots ("config.training.n_base"), that holds a number above 0.
        label: of the axis.
    """
    cells = []
    for record in current(records, "cell"):
        value: Any = record
        for key in size.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value:
            cells.append(record | {"images_seen": value})
    return _accuracy_curves(cells, "images_seen", label, "log", ax, series, width)


def _accuracy_curves(
    cells: Sequence[Record],
    x: str,
    x_label: str,
    scale: str,
    ax: Axes | None,
    series: Sequence[str] | None,
    width: float,
) -> Axes:
    if not cells:
        raise ValueError("no cells to draw: run the experiment first")
    fixed = () if x == "n_shot" or "n_shot" in (series or ()) else ("n_shot",)
    mixed = varying(cells, ("catalog", "split", "n_way", "n_query", "query_distribution", *fixed))
    if mixed:
        values = sorted({str(r[mixed[0]]) for r in cells})
        raise ValueError(f"one figure shows one {mixed[0]}, not {', '.join(values)}: select the records to draw")
    series = series or fewest_fields(cells)
    refuse_repeated(cells, (*series, x))
    lines = {}
    for name, members in group_by(cells, series).items():
        at = list(group_by(members, (x,)).values())
        mean = np.array([np.mean([r["accuracy"] for r in p]) for p in at])
        low = np.array([min(r["accuracy"] - r["ci95"] for r in p) for p in at])
        high = np.array([max(r["accuracy"] + r["ci95"] for r in p) for p in at])
        lines[label(series, name)] = (np.array([p[0][x] for p in at]), mean, low, high)
    ticks = sorted({r[x] for r in cells})
    about = [cells[0]["split"] or cells[0]["catalog"], shown("n_way", cells[0]["n_way"])]
    about += [shown(f, cells[0][f]) for f in fixed]
    about.append(episodes_told(cells))
    with drawn_on(ax, width, grid="y") as ax:
        ax.set_xscale(scale)
        ticks = ticks[:: max(1, len(ticks) // 8)]
        ax.set_xticks(ticks, [_compact(t) for t in ticks])
        ax.minorticks_off()
        _draw_lines(ax, lines)
        ax.set_xlabel(x_label)
        set_heading(ax, about)
    return ax


def missing_sheet(records: Iterable[Record], *, n_way: int | str = 5, n_shot: int = 1, width: float = 7.0) -> Axes:
    """Accuracy over the share of titles, or images, that are missing: a panel for each place where they are.

    A line is the mean over training seeds; image alone and title alone, measured with nothing missing, are level.

    Args:
        records: as ``experiments/table2b_missing.py`` writes them, of one catalog and split.
        width: inches, of the figure.

    Returns:
        The first of the panels.

    Raises:
        ValueError: without cells of this way and shot.
    """
    chosen = [r for r in by_what_is_missing(records) if (r["n_way"], r["n_shot"]) == (n_way, n_shot)]
    if not chosen:
        raise ValueError(f"no cells of {n_way}-way {n_shot}-shot to draw: run the experiment first")
    masked = any(r["mask_class_words"] for r in chosen)
    chosen = [r | {"missing_rate": r["missing_rate"] or 0.0, "experiment": _line_name(r)} for r in chosen]
    panels = group_by(chosen, ("missing",))
    rows = -(-len(panels) // 3)
    size = 0.85 * 8 * text_scale(width)  # points; three panels stand side by side
    figure = plt.figure(figsize=(width, (2.0 if masked else 1.7) * rows), layout="constrained")
    axes = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).flat
    for ax, ((name,), members) in zip(axes, panels.items(), strict=False):
        lines = group_by(members, ("experiment",))
        styles = zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False)
        for ((line,), cells), (colour, dash, marker) in zip(lines.items(), styles, strict=False):
            at = list(group_by(cells, ("missing_rate",)).values())
            x = np.array([p[0]["missing_rate"] for p in at])
            mean = np.array([np.mean([r["accuracy"] for r in p]) for p in at])
            if len(x) == 1:
                x, mean, marker = np.array([0.0, 1.0]), mean.repeat(2), None
            ax.plot(100 * x, 100 * mean, color=colour, linestyle=dash, marker=marker, markersize=3, label=line)
        ax.set_title(f"{name} missing".replace("of both", "of all products"), loc="left", fontsize=size)
        ax.tick_params(labelsize=0.9 * size)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in figure.axes[3 * rows - 3 :]:
        ax.set_xlabel("Missing (%)", fontsize=size)  # a label of the whole figure would lie in the legend
    about = [chosen[0]["split"] or chosen[0]["catalog"], shown("n_way", n_way), f"{n_shot}-shot", episodes_told(chosen)]
    figure.suptitle(", ".join(about), x=0.01, ha="left", fontsize=size)
    figure.supylabel("Accuracy (%)", fontsize=size)
    names = {"ncols": 4, "fontsize": 0.9 * size, "frameon": False}
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", **names)
    return figure.axes[0]


def _line_name(record: Record) -> str:
    """ "concat" or "title", and whether class words are masked."""
    masked = ", masked" if record["mask_class_words"] else ""
    return (record["fusion"] or record["modality"]) + masked


def _compact(n: float) -> str:
    """A number as it stands at a tick: 20, 162k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:g}"


def training_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    ax: Axes | None = None,
    *,
    x: str = "epoch",
    y: str = "score",
    title: str = "Few-shot accuracy on validation classes",
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Validation accuracy while training, a line for each named history; its best point is ringed.

    Where a line starts far below all that follows, its start is cut off: it would press the rest together at the top.

    Args:
        histories: name of a run -> rows with ``x``, ``y`` (0 to 1) and, for a band, ``ci95``; rows without ``y``
            (no validation at that time) are passed over.

    Raises:
        ValueError: if a history has no row with ``y``.
    """
    lines = {}
    for name, history in histories.items():
        rows = [row for row in history if row.get(y) is not None]
        if not rows:
            raise ValueError(f"the history {name!r} has no {y!r}; it has {sorted({k for row in history for k in row})}")
        values = np.array([row[y] for row in rows])
        half = np.array([row.get("ci95") or 0.0 for row in rows])
        lines[name] = (np.array([row[x] for row in rows]), values, values - half, values + half)
    later = 100 * min((values[1:] if len(values) > 1 else values).min() for _, values, *_ in lines.values())
    lowest, highest = (100 * pick(v for _, values, *_ in lines.values() for v in values) for pick in (min, max))
    with drawn_on(ax, width, grid="y") as ax:
        if highest - lowest > 3 * (highest - later) > 0:
            ax.set_ylim(later - 0.1 * (highest - later), highest + 0.1 * (highest - later))
        _draw_lines(ax, lines)
        for line in ax.get_lines()[-len(lines) :]:
            best = line.get_ydata().argmax()
            point = line.get_xdata()[best], line.get_ydata()[best]
            ax.plot(*point, "o", color=line.get_color(), fillstyle="none", markersize=2.2 * line.get_markersize())
        ax.set_xlabel(x.replace("_", " ").capitalize())
        ax.set_title(title, loc="left")
    return ax


def training_progress(records: Iterable[Record], ax: Axes | None = None, *, width: float = COLUMN_WIDTH) -> Axes:
    """Validation accuracy over the images shown, a line for each encoder and training seed; see training_curves.

    Rows from before training are left out.

    Args:
        records: results records; those of kind "history" are drawn, see ``results.training_history``. Of encoders that
            start from random weights: of others, the images counted would be more than those of the rows.
    """
    histories = {}
    kept = current(records, "history")
    for record in kept:
        unit = "iteration" if "iteration" in record["rows"][-1] else "epoch"
        each = record["images_seen"] / record["rows"][-1][unit]
        name = record["encoder"].removeprefix(f"{record['catalog']}_").replace("_", " ")
        name += f", seed {record['train_seed']}" if varying(kept, ["train_seed"]) else ""
        histories[name] = [row | {"images_shown": each * row[unit]} for row in record["rows"] if row[unit]]
    ax = training_curves(histories, ax, x="images_shown", width=width)
    ax.xaxis.set_major_formatter(lambda n, _: _compact(n))
    return ax


def adaptation_curve(
    rows: Sequence[Mapping[str, float]],
    ax: Axes | None = None,
    *,
    value: str = "accuracy",
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Accuracy or loss of support and query over the steps of adapting to them.

    Args:
        rows: as :func:`fewshot_prod.explore.adaptation_steps` returns them.
        value: "accuracy" or "loss".
    """
    steps = np.array([row["step"] for row in rows])
    scale, label = {"accuracy": (1.0, "Accuracy (%)"), "loss": (0.01, "Cross-entropy (nats)")}[value]
    lines = {}
    for part in ("support", "query"):
        values = scale * np.array([row[f"{part}_{value}"] for row in rows])
        lines[part] = (steps, values, values, values)
    with drawn_on(ax, width, grid="y") as ax:
        ax.set_xticks(steps)
        _draw_lines(ax, lines)
        ax.set_ylabel(label)
        ax.set_xlabel("Adaptation steps")
    return ax


def fewest_fields(cells: Sequence[Record], beside: Sequence[str] = ()) -> tuple[str, ...]:
    """Fields that tell the lines apart, less those that the others determine: a method's own encoder goes unsaid.

    Args:
        beside: fields that are shown in another way.
    """
    fields = varying(cells, [f for f in (*ROWS, "mask_class_words") if f not in beside]) or ("method",)
    for field in fields:
        fewer = tuple(f for f in fields if f != field)
        if len(fields) > 1 and len(group_by(cells, fewer)) == len(group_by(cells, fields)):
            fields = fewer
    return fields


def _draw_lines(ax: Axes, lines: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Lines (x, mean, low, high), accuracies from 0 to 1, with bands, and their names: at the right where all end."""
    styles = zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False)
    for (x, mean, low, high), (colour, dash, marker) in zip(lines.values(), styles, strict=False):
        ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        every = max(1, len(x) // 8)
        ax.plot(x, 100 * mean, color=colour, linestyle=dash, marker=marker, markevery=every, markeredgecolor="white")
        ax.get_lines()[-1].set_markeredgewidth(0.12 * ax.get_lines()[-1].get_markersize())
    ax.set_ylabel("Accuracy (%)")
    if len({x[-1] for x, *_ in lines.values()}) == 1:
        label_ends(ax, list(lines), ax.get_lines()[-len(lines) :])
    else:  # a leader that starts inside would look like a line of data
        ax.legend(ax.get_lines()[-len(lines) :], lines, frameon=False, labelspacing=0.3, handlelength=2.6)


def label_ends(ax: Axes, names: Sequence[str], lines: Sequence[Line2D]) -> None:
    """Name lines right of the axes, the names apart by a line of text, with a leader to the end of each line."""
    ends = np.array([(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines])
    size, (_, height) = ax.yaxis.label.get_size(), points(ax)
    bottom, top = ax.get_ylim()
    order = ends[:, 1].argsort()
    gap = 1.25 * size / height * (top - bottom)
    ranks = gap * np.arange(len(names))
    # The least-squares positions that keep order and gap are an isotonic regression of end - rank * gap.
    placed = (
        isotonic_regression(ends[order, 1] - ranks, y_min=bottom, y_max=max(top - ranks[-1] - gap / 2, bottom)) + ranks
    )
    for i, y in zip(order, placed, strict=True):
        leader = {"arrowstyle": "-", "color": lines[i].get_color(), "relpos": (0, 0.5)}
        ax.annotate(
            names[i],
            ends[i],
            xytext=(1.04, y),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=size,
            arrowprops=leader | {"linewidth": 0.08 * size, "shrinkA": 0, "shrinkB": 0.5 * size},
            annotation_clip=False,
        )
