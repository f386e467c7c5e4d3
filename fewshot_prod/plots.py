"""Figures from records and training histories, legible in colour, in grey, in a column and on a slide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from math import sqrt
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from sklearn.isotonic import isotonic_regression

from fewshot_prod.results import Record
from fewshot_prod.tables import ROWS, current, group_by, refuse_repeated, shown, varying

COLUMN_WIDTH = 3.4  # inches, one of two columns of a paper
SLIDE_WIDTH = 9.0

# Okabe and Ito's colour-blind-safe colours without yellow, which is lost on white. In grey print dash patterns and
# markers keep the lines apart; the three cycles have different lengths, so that no combination comes twice.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


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
    cells = current(records, "cell")
    if not cells:
        raise ValueError("no cells to draw: run the experiment first")
    mixed = varying(cells, ("catalog", "split", "n_way", "n_query", "query_distribution"))
    if mixed:
        values = sorted({str(r[mixed[0]]) for r in cells})
        raise ValueError(f"one figure shows one {mixed[0]}, not {', '.join(values)}: select the records to draw")
    series = series or _fewest_fields(cells)
    refuse_repeated(cells, (*series, "n_shot"))
    lines = {}
    for name, members in group_by(cells, series).items():
        points = list(group_by(members, ("n_shot",)).values())
        shots = np.array([p[0]["n_shot"] for p in points])
        mean = np.array([np.mean([r["accuracy"] for r in p]) for p in points])
        low = np.array([min(r["accuracy"] - r["ci95"] for r in p) for p in points])
        high = np.array([max(r["accuracy"] + r["ci95"] for r in p) for p in points])
        lines[", ".join(filter(None, name))] = (shots, mean, low, high)
    ticks = sorted({r["n_shot"] for r in cells})
    counts = sorted({r["n_episodes"] for r in cells})
    title = f"{cells[0]['split'] or cells[0]['catalog']}, {shown('n_way', cells[0]['n_way'])}, n = "
    title += "–".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))) + " episodes"
    with _drawn_on(ax, width) as ax:
        ax.set_xscale("log")
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        _draw_lines(ax, lines)
        ax.set_xlabel("Labelled products a class (shots)")
        ax.set_title(title, loc="left")
    return ax


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
    with _drawn_on(ax, width) as ax:
        _draw_lines(ax, lines)
        for line in ax.get_lines()[-len(lines) :]:
            best = line.get_ydata().argmax()
            point = line.get_xdata()[best], line.get_ydata()[best]
            ax.plot(*point, "o", color=line.get_color(), fillstyle="none", markersize=2.2 * line.get_markersize())
        ax.set_xlabel(x.replace("_", " ").capitalize())
        ax.set_title(title, loc="left")
    return ax


def save_figure(ax: Axes, path: Path | str) -> Path:
    """Write the figure of ``ax`` and close it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(path, dpi=300 if ax.figure.get_figwidth() < 5 else 150, metadata={"Software": None})
    plt.close(ax.figure)
    return path


def _fewest_fields(cells: Sequence[Record]) -> tuple[str, ...]:
    """Fields that tell the lines apart, less those that the others determine: a method's own encoder goes unsaid."""
    fields = varying(cells, (*ROWS, "mask_class_words")) or ("method",)
    for field in fields:
        fewer = tuple(f for f in fields if f != field)
        if len(fields) > 1 and len(group_by(cells, fewer)) == len(group_by(cells, fields)):
            fields = fewer
    return fields


@contextmanager
def _drawn_on(ax: Axes | None, width: float) -> Iterator[Axes]:
    """The axes to draw on: those given, as their figure is styled, or new ones styled for ``width`` inches."""
    if ax is not None:
        yield ax
        return
    # Text and lines grow with the root of the width: 8 pt in a column, 13 pt on a slide.
    scale = sqrt(width / COLUMN_WIDTH)
    sizes = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8 * scale)
    sizes |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 7.5 * scale)
    sizes |= {"lines.linewidth": 1.2 * scale, "lines.markersize": 4.2 * scale, "axes.linewidth": 0.6 * scale}
    with plt.rc_context(sizes):
        ax = plt.figure(figsize=(width, 0.72 * width), layout="constrained").subplots()
        ax.grid(axis="y", color="0.85", linewidth=0.4 * scale)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        yield ax


def _draw_lines(ax: Axes, lines: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Lines (x, mean, low, high), accuracies from 0 to 1, with bands, and their names at the right."""
    styles = zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False)
    for (x, mean, low, high), (colour, dash, marker) in zip(lines.values(), styles, strict=False):
        ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        every = max(1, len(x) // 8)
        ax.plot(x, 100 * mean, color=colour, linestyle=dash, marker=marker, markevery=every, markeredgecolor="white")
        ax.get_lines()[-1].set_markeredgewidth(0.12 * ax.get_lines()[-1].get_markersize())
    ax.set_ylabel("Accuracy (%)")
    _label_ends(ax, list(lines))


def _label_ends(ax: Axes, names: Sequence[str]) -> None:
    """Name the lines right of the axes, apart from each other by a line of text, with a leader to each end."""
    ends = np.array([(line.get_xdata()[-1], line.get_ydata()[-1]) for line in ax.get_lines()[-len(names) :]])
    ax.figure.draw_without_rendering()  # lays the axes out, so that points can be turned into data units
    size = ax.yaxis.label.get_size()
    height = ax.get_window_extent().height * 72 / ax.figure.dpi  # points
    bottom, top = ax.get_ylim()
    order = ends[:, 1].argsort()
    gap = 1.25 * size / height * (top - bottom)
    ranks = gap * np.arange(len(names))
    # The least-squares positions that keep order and gap are an isotonic regression of end - rank * gap.
    placed = (
        isotonic_regression(ends[order, 1] - ranks, y_min=bottom, y_max=max(top - ranks[-1] - gap / 2, bottom)) + ranks
    )
    for i, y in zip(order, placed, strict=True):
        leader = {"arrowstyle": "-", "color": ax.get_lines()[i - len(names)].get_color(), "relpos": (0, 0.5)}
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
