"""How accuracy falls as titles, or images, disappear."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from fewshot_prod.grouping import by_what_is_missing, group_by, shown
from fewshot_prod.plots.style import COLOURS, DASHES, MARKERS, episodes_told, text_scale
from fewshot_prod.results import Record


def missing_sheet(
    records: Iterable[Record], *, n_way: int | str = 5, n_shot: int | None = None, width: float = 7.0
) -> Axes:
    """Accuracy over the share of titles, or images, that are missing: a panel for each place where they are.

    A line is the mean over training seeds; image alone and title alone, measured with nothing missing, are level.

    Args:
        records: as ``experiments/table2b_missing.py`` writes them, of one catalog and split.
        n_shot: None: the most that there are.
        width: inches, of the figure.

    Returns:
        The first of the panels.

    Raises:
        ValueError: without cells of this way and shot.
    """
    chosen = [r for r in by_what_is_missing(records) if r["n_way"] == n_way and n_shot in (None, r["n_shot"])]
    if not chosen:
        raise ValueError(f"no cells of {n_way}-way {n_shot or 'any'}-shot to draw: run the experiment first")
    n_shot = max(r["n_shot"] for r in chosen)
    chosen = [r for r in chosen if r["n_shot"] == n_shot]
    masked = any(r["mask_class_words"] for r in chosen)
    chosen = [r | {"missing_rate": r["missing_rate"] or 0.0, "line": _line_name(r)} for r in chosen]
    panels = group_by(chosen, ("missing",))
    rows = -(-len(panels) // 3)
    size = 0.85 * 8 * text_scale(width)  # points; three panels stand side by side
    figure = plt.figure(figsize=(width, (2.0 if masked else 1.7) * rows), layout="constrained")
    axes = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).flat
    for ax, ((name,), members) in zip(axes, panels.items(), strict=False):
        lines = group_by(members, ("line",))
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
    names = {"ncols": 3, "fontsize": 0.9 * size, "frameon": False}
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", **names)
    return figure.axes[0]


def _line_name(record: Record) -> str:
    """ "concat" or "title", the method where it is not nearest centroid, and whether class words are masked."""
    method = "" if record["method"] == "nearest_centroid" else f", {shown('method', record['method'])}"
    masked = ", masked" if record["mask_class_words"] else ""
    return (record["fusion"] or record["modality"]).replace("_", " ") + method + masked
