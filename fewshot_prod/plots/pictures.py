"""Sheets of product pictures: some of each category, or the support and query of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.plots.style import COLOURS, COLUMN_WIDTH, drawn_on, points, text_scale

GAP = 0.06  # between pictures, as a share of a picture's width
WRONG = COLOURS[1]


def product_sheet(
    images: np.ndarray,
    rows: Mapping[str, Sequence[int]],
    ax: Axes | None = None,
    *,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Pictures in rows, each row's name at its left.

    Args:
        images: uint8 (N, H, W, 3).
        rows: name of a row -> positions of its pictures among ``images``.

    Raises:
        ValueError: without a picture.
    """
    columns = max((len(row) for row in rows.values()), default=0)
    if not columns:
        raise ValueError("a sheet without pictures: give at least one row with one picture")
    tall = images.shape[1] / images.shape[2]
    height = 0.8 * width * (tall + GAP) / (1 + GAP) * len(rows) / columns + 0.1
    with drawn_on(ax, width, height) as ax:
        for y, row in enumerate(rows.values()):
            for x, i in enumerate(row):
                _place(ax, images[i], x * (1 + GAP), y * (tall + GAP), tall)
        _finish(ax, columns * (1 + GAP) - GAP, list(rows), tall)
    return ax


def episode_sheet(
    images: np.ndarray,
    episode: EpisodeBatch,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    predictions: ArrayLike | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """One episode as pictures: a row a class, its support at the left of the line, its queries at the right.

    Args:
        images: uint8 (N, H, W, 3), the pool that the episode's positions refer to.
        episode: a batch of one episode.
        names: what each category id of ``episode.classes`` is called; labels are numbered when None.
        predictions: int (Q,), predicted labels: a query that is taken for another class is framed, and says which.

    Raises:
        ValueError: if there are several episodes, or predictions are not one a query.
    """
    if len(episode) != 1:
        raise ValueError(f"{len(episode)} episodes on one sheet: give one, as in episodes[3:4]")
    support, query = (_by_label(episode, part) for part in ("support", "query"))
    predicted = None if predictions is None else np.asarray(predictions)
    if predicted is not None and predicted.shape != episode.query.shape[1:]:
        raise ValueError(f"{predicted.size} predictions for {episode.query.shape[1]} queries: give one each")
    labels = [f"class {label}" for label in range(episode.n_way)]
    if names is not None and episode.classes is not None:
        labels = [names[c] for c in episode.classes[0].tolist()]
    shots, queries = (max(len(row) for row in rows) for rows in (support, query))
    tall = images.shape[1] / images.shape[2]
    under = [wrap(label, 10, break_long_words=False) for label in labels]  # a mistake, what it is taken for
    lines = max(map(len, under)) if predicted is not None else 0
    step, line = tall + GAP + 0.08 + 0.22 * lines if lines else tall + GAP, 0.35
    right = shots * (1 + GAP) + line
    across = right + queries * (1 + GAP) - GAP
    with drawn_on(ax, width, 0.8 * width * (step * episode.n_way + 0.3) / across + 0.25 * text_scale(width)) as ax:
        size = ax.xaxis.label.get_size()
        mistakes = []
        for y, (left_row, right_row) in enumerate(zip(support, query, strict=True)):
            for x, slot in enumerate(left_row):
                _place(ax, images[int(episode.support[0, slot])], x * (1 + GAP), y * step, tall)
            for x, slot in enumerate(right_row):
                corner = right + x * (1 + GAP), y * step
                _place(ax, images[int(episode.query[0, slot])], *corner, tall)
                if predicted is not None and predicted[slot] != y:
                    frame = {"edgecolor": WRONG, "linewidth": 0.2 * size, "fill": False, "clip_on": False}
                    ax.add_patch(Rectangle(corner, 1, tall, **frame))
                    text = "→ " + "\n".join(under[predicted[slot]])
                    at = corner[0] + 0.5, corner[1] + tall + 0.03
                    style = {"ha": "center", "va": "top", "fontsize": 0.6 * size, "color": WRONG}
                    mistakes.append(ax.text(*at, text, clip_on=False, **style))
        middle = right - line / 2 - GAP / 2
        ax.plot([middle, middle], [0, episode.n_way * step - GAP], color="0.6", linewidth=0.08 * size)
        heading = {"va": "bottom", "fontsize": size, "color": "0.3"}
        ax.text(0, -0.08, "support", **heading)
        ax.text(right, -0.08, "query", **heading)
        _finish(ax, across, labels, tall, step)
        points(ax)  # lays the figure out, so that sizes are known
        room = np.diff(ax.transData.transform([(0, 0), (1, 0)])[:, 0]).item()
        for text in mistakes:  # a long word is made smaller, or it would run into the neighbour's
            text.set_fontsize(text.get_fontsize() * min(1, room / text.get_window_extent().width))
    return ax


def _by_label(episode: EpisodeBatch, part: str) -> list[list[int]]:
    """The slots of each label, in order, padding left out."""
    labels, mask = getattr(episode, f"{part}_labels")[0], getattr(episode, f"{part}_mask")
    real = mask[0] if mask is not None else labels >= 0
    return [((labels == label) & real).nonzero().flatten().tolist() for label in range(episode.n_way)]


def _place(ax: Axes, image: np.ndarray, x: float, y: float, tall: float) -> None:
    """A picture with its upper left corner at (x, y), one unit wide."""
    ax.imshow(image, extent=(x, x + 1, y + tall, y), interpolation="antialiased")


def _finish(ax: Axes, across: float, names: Sequence[str], tall: float, step: float | None = None) -> None:
    step = step or tall + GAP
    ax.set_xlim(0, across)
    ax.set_ylim(len(names) * step, 0)
    ax.set_aspect("equal", anchor="W")  # the layout makes room for the names at the left edge
    ax.set_xticks([])
    lines = ["\n".join(wrap(name, 16, break_long_words=False)) for name in names]
    ax.set_yticks([y * step + tall / 2 for y in range(len(names))], lines)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
