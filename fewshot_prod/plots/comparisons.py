"""Methods against each other: paired differences, ranks, and accuracy against time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fewshot_prod.grouping import COLUMNS, current, group_by, label, named_differences, shown, varying
from fewshot_prod.plots.curves import fewest_fields
from fewshot_prod.plots.style import (
    COLOURS,
    COLUMN_WIDTH,
    MARKERS,
    drawn_on,
    episodes_told,
    refuse_mixed,
    set_heading,
    text_scale,
)
from fewshot_prod.ranks import average_ranks, critical_difference
from fewshot_prod.results import RESULT_VERSION, Record, cell_key

# What tells apart the blocks in which records are ranked
SETTING = ("catalog", "split", "n_way", "n_query", "query_distribution", "n_shot", "mask_class_words", "train_seed")


def difference_forest(records: Iterable[Record], ax: Axes | None = None, *, width: float = COLUMN_WIDTH) -> Axes:
    """Paired differences in percentage points with their 95 % intervals, under the name of each pair.

    What all pairs are compared with is named once, at the axis.

    A filled mark: the interval leaves out zero in every training seed; an open one: it does not. With several seeds
    the mark is their mean and the interval reaches from the lowest to the highest end of theirs.

    Args:
        records: results records; only differences are drawn, those of one catalog and split.
        ax: where to draw; a figure of its own, as high as the number of pairs asks for, when None.

    Raises:
        ValueError: without differences, or when they come from several catalogs or splits.
    """
    pairs = named_differences(current(records, "difference"))
    if not pairs:
        raise ValueError("no paired differences to draw: rows name what they are compared with in `against`")
    refuse_mixed(pairs, ("catalog", "split"))
    columns = varying(pairs, ("domain", "missing_rate", *COLUMNS))
    lines = []  # (name of the pair or None, setting or None, records)
    groups = group_by(pairs, ("difference",))
    bases = {name.partition(" − ")[2] for (name,) in groups}
    base = next(iter(bases)) if len(bases) == 1 < len(groups) else None
    for (name,), members in groups.items():
        parts = [name.removesuffix(f" − {base}")] if base else _in_lines(name, width)
        lines += [(part, None, []) for part in parts]
        for setting, group in group_by(members, columns).items():
            words = " ".join(v for v in setting if v not in ("", "–")).replace("class words masked", "masked")
            lines.append((None, words, group))
    scale = text_scale(width)
    digits = 1 if max(abs(r["mean"]) for r in pairs) > 0.02 else 2
    about = [pairs[0]["split"] or pairs[0]["catalog"]]
    about += [shown(f, pairs[0][f]) for f in ("n_way", "n_shot") if f not in columns]
    if "query_distribution" not in columns and pairs[0]["query_distribution"] != "balanced":
        about.append(f"imbalanced queries ({pairs[0]['query_distribution']})")
    about.append(episodes_told(pairs))
    with drawn_on(ax, width, (0.17 * (len(lines) + bool(base)) + 0.55) * scale, grid="x") as ax:
        size = ax.xaxis.label.get_size()
        ax.axvline(0, color="black", linewidth=0.1 * size)
        for y, (name, setting, group) in enumerate(lines):
            if name is not None:
                style = {"va": "center", "fontsize": 0.9 * size, "weight": "bold", "in_layout": False}
                box = {"facecolor": "white", "edgecolor": "none", "pad": 0.1 * size}  # over the grid
                ax.text(0, y + 0.1, name, transform=ax.get_yaxis_transform(), bbox=box, **style)
                continue
            low = 100 * min(r["mean"] - r["ci95"] for r in group)
            high = 100 * max(r["mean"] + r["ci95"] for r in group)
            mean = 100 * np.mean([r["mean"] for r in group])
            sure = all(abs(r["mean"]) > r["ci95"] for r in group) and len({r["mean"] > 0 for r in group}) == 1
            colour = COLOURS[0]
            ax.plot([low, high], [y, y], "-", color=colour, solid_capstyle="butt")
            ax.plot(mean, y, "o", color=colour, markerfacecolor=colour if sure else "white")
            number = f"{round(mean, digits) + 0.0:+.{digits}f}".replace("-", "−")  # a rounded -0.0 is 0.0
            text = f"{number}  {setting or ''}"
            ax.text(1.02, y, text.rstrip(), transform=ax.get_yaxis_transform(), va="center", fontsize=0.9 * size)
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        told = f" from\n{base}" if base else ""
        ax.set_xlabel(f"Paired difference (percentage points){told}", loc="left")  # it may be longer than the axis
        set_heading(ax, about)
    return ax


def rank_diagram(
    scores: Mapping[str, ArrayLike] | Iterable[Record],
    ax: Axes | None = None,
    *,
    blocks: str | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Average ranks, best on top; a bar at the right joins methods that Nemenyi's test does not tell apart.

    Demšar's critical-difference diagram (JMLR 7, 2006); see :func:`fewshot_prod.ranks.critical_difference`.

    Args:
        scores: name of a method -> its accuracies, float (n,), over the same episodes (of arrays of different
            length the first ones count); or records, whose cells are then ranked within each setting (catalog,
            split, way, shots, masking, training seed) that all of the methods have been measured in. Where cells are
            of different numbers of episodes, their paired differences from a method that all are compared with count.
        blocks: what the ranks are averaged over, as the title says it; "episodes" or "settings" when None.

    Raises:
        ValueError: for fewer than two methods, no block that they share, or a cell of other episodes than the rest
            that was not compared.
    """
    if not isinstance(scores, Mapping):
        scores, blocks = _scores_by_setting(list(scores)), blocks or "settings"
    n = min((len(np.asarray(values)) for values in scores.values()), default=0)
    critical = critical_difference(len(scores), n)
    ranks = average_ranks(np.stack([np.asarray(values)[:n] for values in scores.values()], axis=1))
    order = ranks.argsort(kind="stable")
    names, ranks = [list(scores)[i] for i in order], ranks[order]
    k = len(names)
    with drawn_on(ax, width, (0.19 * k + 0.7) * text_scale(width), grid="x") as ax:
        size = ax.xaxis.label.get_size()
        for y, rank in enumerate(ranks):
            ax.plot([0, rank], [y, y], "-", color="0.6", linewidth=0.08 * size)
            ax.plot(rank, y, "o", color=COLOURS[0])
        joined = _joined(ranks, critical)
        for level, (first, last) in enumerate(joined):
            x = k + 0.05 * k * (level + 1)
            ax.plot([x, x], [first - 0.2, last + 0.2], "-", color="black", linewidth=0.35 * size, solid_capstyle="butt")
        ax.set_yticks(range(k), [f"{name}  {rank:.2f}" for name, rank in zip(names, ranks, strict=True)])
        ax.set_ylim(k - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.set_xticks(range(1, k + 1, max(1, k // 3)))
        ax.set_xlim(0.9, k * (1.03 + 0.05 * len(joined)))
        ax.set_xlabel(
            f"Average rank over {n:,} {blocks or 'episodes'};\nbars join less than {critical:.2g} apart", loc="right"
        )
    return ax


def accuracy_vs_seconds(records: Iterable[Record], ax: Axes | None = None, *, width: float = COLUMN_WIDTH) -> Axes:
    """Accuracy over the time an episode takes (drawing, adapting, predicting), a mark for each method.

    An open mark: the method is transductive, so that it saw all queries at once.

    Args:
        records: results records; the cells of one catalog, split, way and number of shots are drawn.

    Raises:
        ValueError: without cells that know their seconds, or when they come from several settings.
    """
    cells = [r for r in current(records, "cell") if r.get("eval_seconds")]
    if not cells:
        raise ValueError("no cells with eval_seconds to draw: run the experiment first")
    refuse_mixed(cells, ("catalog", "split", "n_way", "n_shot", "n_query", "query_distribution"))
    fields = fewest_fields(cells)
    groups = group_by(cells, fields)
    groups = dict(sorted(groups.items(), key=lambda named: -np.mean([r["accuracy"] for r in named[1]])))
    tall = max(0.72 * width, (0.17 * len(groups) + 0.6) * text_scale(width))
    with drawn_on(ax, width, tall, grid="y") as ax:
        ax.set_xscale("log")
        for i, (name, group) in enumerate(groups.items()):
            x = 1000 * np.mean([r["eval_seconds"] / r["n_episodes"] for r in group])
            y, half = (100 * np.mean([r[f] for r in group]) for f in ("accuracy", "ci95"))
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            ax.plot([x, x], [y - half, y + half], "-", color=colour)
            face = "white" if group[0]["transductive"] else colour
            ax.plot(x, y, marker, color=colour, markerfacecolor=face, label=label(fields, name))
        sees = any(r["transductive"] for r in cells)
        ax.set_xlabel("Milliseconds an episode" + (";\nopen: transductive" if sees else ""), loc="left")
        ax.set_ylabel("Accuracy (%)")
        # Names stand in the order of the marks, the highest first.
        names = {"frameon": False, "handletextpad": 0.2, "labelspacing": 0.3, "borderaxespad": 0}
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), **names)
        first = cells[0]
        about = [first["split"] or first["catalog"], shown("n_way", first["n_way"]), shown("n_shot", first["n_shot"])]
        about.append(episodes_told(cells))
        set_heading(ax, about)
    return ax


def _in_lines(name: str, width: float) -> list[str]:
    """The name of a pair, in two lines where it is too long for a figure of ``width`` inches."""
    room = width * 72 / (0.9 * 8 * text_scale(width) * 0.65)  # bold characters are 0.65 em wide
    first, _, second = name.partition(" − ")
    return [name] if len(name) < room else [first, f"− {second}"]


def _scores_by_setting(records: list[Record]) -> dict[str, list[float]]:
    """Accuracies of each method, or its gains, in the settings that all have, in one order."""
    keys = [cell_key(r) for r in records if r["kind"] == "cell" and r["result_version"] == RESULT_VERSION]
    cells = current(records, "cell")  # the same ones, with other names
    if varying(cells, ["n_episodes"]):  # episodes that others have not seen may be harder
        gains = _gains(records, keys, [tuple(shown(f, r[f]) for f in SETTING) for r in cells])
        cells = [r | {"accuracy": gain} for r, gain in zip(cells, gains, strict=True)]
    found: dict[str, dict[tuple[str, ...], float]] = {}
    fields = fewest_fields(cells, SETTING)
    for name, members in group_by(cells, fields).items():
        values = {place: float(np.mean([r["accuracy"] for r in g])) for place, g in group_by(members, SETTING).items()}
        found[label(fields, name)] = values
    shared = sorted(set.intersection(*(set(v) for v in found.values()))) if found else []
    return {name: [values[place] for place in shared] for name, values in found.items()}


def _gains(records: list[Record], keys: list[str], settings: list[tuple[str, ...]]) -> list[float]:
    """Of each cell its paired difference from the one that all are compared with in its setting; 0 of that one."""
    pairs = [r for r in records if r["kind"] == "difference"]
    compared = {r["a"]["key"] for r in pairs}
    references = {r["b"]["key"] for r in pairs} - compared
    apart = [setting for key, setting in zip(keys, settings, strict=True) if key in references]
    if len(apart) > len(set(apart)):
        raise ValueError("cells of one setting are compared with several others: rank them by differences from one")
    gains = dict.fromkeys(references, 0.0) | {r["a"]["key"]: r["mean"] for r in pairs if r["b"]["key"] in references}
    if missing := [key for key in keys if key not in gains]:
        raise ValueError(
            f"{len(missing)} of {len(keys)} cells are of different numbers of episodes and not compared with one "
            "method: rank them by paired differences, which rows ask for by `against`"
        )
    return [gains[key] for key in keys]


def _joined(ranks: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """First and last position of each longest run of ranks, ascending, that lie less than ``critical`` apart."""
    runs: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.flatnonzero(ranks - ranks[first] < critical).max())
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
