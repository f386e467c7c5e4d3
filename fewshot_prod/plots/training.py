"""Curves over training, and over the adaptation of one episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from fewshot_prod.grouping import current, varying
from fewshot_prod.plots.curves import draw_lines
from fewshot_prod.plots.style import COLUMN_WIDTH, drawn_on
from fewshot_prod.results import Record


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
        draw_lines(ax, lines)
        for line in ax.get_lines()[-len(lines) :]:
            best = line.get_ydata().argmax()
            point = line.get_xdata()[best], line.get_ydata()[best]
            ax.plot(*point, "o", color=line.get_color(), fillstyle="none", markersize=2.2 * line.get_markersize())
        ax.set_xlabel(x.replace("_", " ").capitalize())
        ax.set_title(title, loc="left")
    return ax


def training_progress(records: Iterable[Record], ax: Axes | None = None, *, width: float = COLUMN_WIDTH) -> Axes:
    """Validation accuracy over the products shown, a line for each encoder and training seed; see training_curves.

    Rows from before training are left out.

    Args:
        records: results records; those of kind "history" are drawn, see ``results.training_history``. Of encoders that
            start from random weights: of others, the products counted would be more than those of the rows.
    """
    histories = {}
    kept = current(records, "history")
    for record in kept:
        unit = "iteration" if "iteration" in record["rows"][-1] else "epoch"
        each = record["images_seen"] / record["rows"][-1][unit]
        name = record["encoder"].removeprefix(f"{record['catalog']}_").replace("_", " ")
        name += f", seed {record['train_seed']}" if varying(kept, ["train_seed"]) else ""
        histories[name] = [row | {"products_shown": each * row[unit]} for row in record["rows"] if row[unit]]
    ax = training_curves(histories, ax, x="products_shown", width=width)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 162k, 1.5M
    return ax


def continued_training(records: Iterable[Record], ax: Axes | None = None, *, width: float = COLUMN_WIDTH) -> Axes:
    """Validation accuracy as encoders go on from their start, in episodes (``_prototypical``) or in supervised batches
    (``_continued``), over the products shown since; mean over training seeds, the band from the lowest to the highest.

    Each is validated by the method that it is measured with, so that what counts is how far a line rises.

    Args:
        records: results records; histories are drawn, where both ways on from a start and the start itself have one.

    Raises:
        ValueError: if there is no such start.
    """
    kept = {(r["encoder"], r["train_seed"]): r for r in current(records, "history")}
    ways, lines = {"_prototypical": "episodes", "_continued": "supervised"}, {}
    for start in dict.fromkeys(encoder for encoder, _ in kept):
        seeds = [s for e, s in kept if e == start and all((f"{start}{way}", s) in kept for way in ways)]
        for way, word in ways.items() if seeds else ():
            histories = [kept[f"{start}{way}", seed] for seed in seeds]
            rows = histories[0]["rows"]
            unit = "iteration" if "iteration" in rows[-1] else "epoch"
            each = (histories[0]["images_seen"] - kept[start, seeds[0]]["images_seen"]) / rows[-1][unit]
            scores = np.array([[row["score"] for row in history["rows"]] for history in histories])
            shown = each * np.array([row[unit] for row in rows])
            lines[f"{start}, {word}"] = (shown, scores.mean(0), scores.min(0), scores.max(0))
    if not lines:
        raise ValueError("no start with histories of its own, in episodes and in supervised batches")
    with drawn_on(ax, width, grid="y") as ax:
        draw_lines(ax, lines)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 162k, 1.5M
        ax.set_xlabel("Products shown since the start")
        ax.set_title("Few-shot accuracy on validation classes", loc="left")
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
        draw_lines(ax, lines)
        ax.set_ylabel(label)
        ax.set_xlabel("Adaptation steps")
    return ax
