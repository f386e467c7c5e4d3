"""What an encoder attends to: the tokens of a title, and picture against title."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from fewshot_prod.plots.style import COLOURS, COLUMN_WIDTH, SHADES, drawn_on, points, text_scale

BYTE = re.compile("<0x[0-9A-F]{2}>")  # a piece of TitleTokenizer that is no character by itself
MODALITY_COLOURS = (COLOURS[0], COLOURS[6], "0.75")  # the darkest first


def attention_sheet(
    pieces: Sequence[Sequence[str]],
    token_weights: Sequence[ArrayLike],
    ax: Axes | None = None,
    *,
    images: np.ndarray | None = None,
    has_image: ArrayLike | None = None,
    modality_weights: ArrayLike | None = None,
    modalities: Sequence[str] = ("image", "title"),
    names: Sequence[str] | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Products in rows: the picture, how much attention each modality gets, and the title shaded token by token.

    Args:
        pieces: the tokens of each title as text, N lists; empty for a missing title. Bytes, as in "<0xE8>", are put
            together to the characters that they spell.
        token_weights: attention paid to them, each at least as long as its title (what is padding is left out).
            A title's most attended token is the darkest.
        images: uint8 (N, H, W, 3), or None.
        has_image: bool (N,), which products have theirs; None: all.
        modality_weights: float (N, M), each row sums to 1; or None.
        names: N captions.

    Raises:
        ValueError: if a title has more tokens than weights.
    """
    n, readable = len(pieces), []
    for i, (title, weights) in enumerate(zip(pieces, token_weights, strict=True)):
        if len(title) > len(np.asarray(weights)):
            raise ValueError(f"title {i} has {len(title)} tokens but {len(np.asarray(weights))} weights")
        readable.append(_with_characters(title, np.asarray(weights, float)))
    with drawn_on(ax, width, n * 0.56 * text_scale(width)) as ax:
        ax.axis("off")
        size = 0.9 * ax.xaxis.label.get_size()
        across, down = points(ax)
        row = down / n
        ax.set_xlim(0, across)
        ax.set_ylim(down, 0)
        picture = 0.9 * row if images is not None else 0.0
        left = picture + 0.8 * size if images is not None else 0.0
        for i, (title, paid) in enumerate(readable):
            top = i * row
            if images is not None:
                wide = picture * images.shape[2] / images.shape[1]
                if has_image is None or np.asarray(has_image)[i]:
                    place = (0, wide, top + picture, top)
                    ax.imshow(images[i], extent=place, aspect="auto", interpolation="antialiased")
                else:
                    middle = (wide / 2, top + picture / 2)
                    ax.text(
                        *middle, "(no\nimage)", ha="center", va="center", fontsize=size, style="italic", color="0.4"
                    )
                left = max(left, wide + 0.8 * size)
            line = top + 0.7 * size
            if names is not None:
                ax.text(left, line, names[i], va="center", fontsize=size, weight="bold")
            if modality_weights is not None:
                _modality_bar(ax, np.asarray(modality_weights)[i], modalities, (0.5 * across, line), 0.5 * across, size)
            if names is not None or modality_weights is not None:
                line += 1.6 * size
            _shaded_title(ax, title, paid, (left, line), (across, top + row - 0.7 * size), size)
        ax.set_xlim(0, across)  # imshow moves them
        ax.set_ylim(down, 0)
    return ax


def _with_characters(pieces: Sequence[str], weights: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The pieces with each run of bytes, as in "<0xE8>", as the characters that it spells, and their summed weights."""
    joined: list[str] = []
    paid: list[float] = []
    for spelled, run in groupby(zip(pieces, weights, strict=False), key=lambda piece: bool(BYTE.fullmatch(piece[0]))):
        texts, values = zip(*run, strict=True)
        if spelled:
            joined.append(bytes(int(text[3:5], 16) for text in texts).decode(errors="replace"))
            paid.append(sum(values))
        else:
            joined += texts
            paid += values
    return joined, np.array(paid)


def modality_weights(
    weights: ArrayLike,
    names: Sequence[str],
    ax: Axes | None = None,
    *,
    modalities: Sequence[str] = ("image", "title"),
    about: str = "",
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Mean attention to each modality, category by category, the one that leans most on the first modality on top.

    Args:
        weights: float (N, M), each row sums to 1.
        names: N category names.
        about: what stands above, such as the encoder's name.
    """
    weights = np.asarray(weights, np.float64)
    names = np.asarray(names)
    mean = {name: weights[names == name].mean(0) for name in sorted(set(names.tolist()))}
    order = sorted(mean, key=lambda name: -mean[name][0])
    with drawn_on(ax, width, (0.16 * len(order) + 0.6) * text_scale(width), grid="x") as ax:
        start = np.zeros(len(order))
        for m, modality in enumerate(modalities):
            share = 100 * np.array([mean[name][m] for name in order])
            ax.barh(range(len(order)), share, left=start, height=0.8, color=MODALITY_COLOURS[m], label=modality)
            start += share
        ax.set_yticks(range(len(order)), order)
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.set_xlim(0, 100)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("Share of attention (%)")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(modalities), frameon=False, borderaxespad=0.1)
        ax.set_title(about, loc="left", pad=2.2 * ax.xaxis.label.get_size())
    return ax


def _modality_bar(
    ax: Axes, weights: np.ndarray, modalities: Sequence[str], corner: tuple[float, float], wide: float, size: float
) -> None:
    """A bar of length ``wide`` points in pieces as long as the weights, with their percentages."""
    x, y = corner
    for weight, name, colour in zip(weights, modalities, MODALITY_COLOURS, strict=False):
        ax.add_patch(Rectangle((x, y - 0.6 * size), wide * weight, 1.2 * size, color=colour, linewidth=0))
        if weight > 0.25:
            shade = "white" if colour == MODALITY_COLOURS[0] else "black"
            text = f"{name} {100 * weight:.0f} %"
            ax.text(x + wide * weight / 2, y, text, ha="center", va="center", fontsize=0.8 * size, color=shade)
        x += wide * weight


def _shaded_title(
    ax: Axes,
    title: Sequence[str],
    weights: np.ndarray,
    corner: tuple[float, float],
    end: tuple[float, float],
    size: float,
) -> None:
    """Tokens from ``corner`` (points) on, in lines up to ``end``; what does not fit is left out behind an ellipsis."""
    (x, y), (right, bottom) = corner, end
    if not len(title):
        ax.text(x, y, "(no title)", va="center", fontsize=size, style="italic", color="0.4")
        return
    shades = colormaps[SHADES]
    pixel = ax.figure.dpi / 72
    for piece, weight in zip(title, weights[: len(title)] / weights[: len(title)].max(), strict=True):
        text = ax.text(
            x,
            y,
            piece,
            va="center",
            fontsize=size,
            color="white" if weight > 0.65 else "black",
            bbox={"facecolor": shades(0.85 * weight), "edgecolor": "none", "pad": 0.12 * size},
        )
        wide = text.get_window_extent().width / pixel
        if x + wide > right and x > corner[0]:
            if y + 1.6 * size > bottom:
                text.set(text="…", color="black", bbox=None)
                return
            x, y = corner[0], y + 1.6 * size
            text.set_position((x, y))
        x += wide + 0.45 * size
