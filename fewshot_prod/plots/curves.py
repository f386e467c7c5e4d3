"""Accuracy curves from records: over shots and adaptation steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from sklearn.isotonic import isotonic_regression

from fewshot_prod.grouping import ROWS, current, group_by, label, refuse_repeated, shown, varying
from fewshot_prod.plots.style import (
    COLOURS,
    COLUMN_WIDTH,
    DASHES,
    MARKERS,
    drawn_on,
    episodes_told,
    points,
    refuse_mixed,
    set_heading,
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
    cells = []
    for record in current(records, "cell"):
        steps = record["config"].get("method", {}).get("n_adaptation_steps")
        if steps is not None:  # the method's name without options, which say the steps too
            cells.append(record | {"method": record["method"].partition(",")[0], "n_adaptation_steps": steps})
    return _accuracy_curves(cells, "n_adaptation_steps", "Adaptation steps", "linear", ax, series, width)


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
    refuse_mixed(cells, ("catalog", "split", "n_way", "n_query", "query_distribution", *fixed))
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
        ax.set_xticks(ticks)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.minorticks_off()
        draw_lines(ax, lines)
        ax.set_xlabel(x_label)
        set_heading(ax, about)
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


def draw_lines(ax: Axes, lines: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Lines (x, mean, low, high), accuracies 0 to 1, with bands; their names at the right where all end, or nearly."""
    styles = zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False)
    for (x, mean, low, high), (colour, dash, marker) in zip(lines.values(), styles, strict=False):
        ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        every = max(1, len(x) // 8)
        ax.plot(x, 100 * mean, color=colour, linestyle=dash, marker=marker, markevery=every, markeredgecolor="white")
        ax.get_lines()[-1].set_markeredgewidth(0.12 * ax.get_lines()[-1].get_markersize())
    ax.set_ylabel("Accuracy (%)")
    ends = [x[-1] for x, *_ in lines.values()]
    if max(ends) - min(ends) <= 0.05 * max(ends):
        label_ends(ax, list(lines), ax.get_lines()[-len(lines) :])
    else:  # a leader that starts inside would look like a line of data
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # within, it would cover the ends of short lines
        ax.legend(ax.get_lines()[-len(lines) :], lines, frameon=False, labelspacing=0.3, handlelength=2.6, **beside)


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
        # From the middle of the name's left side; clipped at its box, a steep one would begin between two names.
        leader = {"arrowstyle": "-", "color": lines[i].get_color(), "relpos": (0, 0.5), "patchA": None}
        ax.annotate(
            names[i],
            ends[i],
            xytext=(1.04, y),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=size,
            arrowprops=leader | {"linewidth": 0.08 * size, "shrinkA": 0.15 * size, "shrinkB": 0.5 * size},
            annotation_clip=False,
        )
