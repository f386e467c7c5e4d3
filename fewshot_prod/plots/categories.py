"""Categories: how many products they have, which are taken for which, where their products lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import ArrayLike

from fewshot_prod.plots.style import COLOURS, COLUMN_WIDTH, MARKERS, SHADES, drawn_on, points, set_heading

SPLIT_COLOURS = ("0.75", COLOURS[6], COLOURS[0])  # lightness falls from part to part
NUMBERED = 12  # up to so many classes, a confusion matrix has its numbers written in


def class_sizes(
    sizes: Mapping[str, int],
    ax: Axes | None = None,
    *,
    parts: Mapping[str, Sequence[str]] | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Products of each category as bars, the largest first, in a colour for each part of a split.

    Args:
        sizes: category -> number of products (or of groups of near-duplicates).
        parts: part ("base", "validation", "novel") -> its categories; others are left out.
    """
    part_of = {name: part for part, names in (parts or {"": sizes}).items() for name in names}
    names = sorted((name for name in sizes if name in part_of), key=lambda name: -sizes[name])
    with drawn_on(ax, width, 0.55 * width, grid="y") as ax:
        for part, colour in zip(parts or {"": ()}, SPLIT_COLOURS if parts else (COLOURS[0],), strict=False):
            at = [i for i, name in enumerate(names) if part_of[name] == part]
            ax.bar(at, [sizes[names[i]] for i in at], width=0.85, color=colour, label=f"{part} ({len(at)})")
        if parts:
            above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.1}
            ax.legend(frameon=False, ncols=len(parts), handlelength=1, columnspacing=1, **above)
        ax.set_xlim(-1, len(names))
        ax.set_xticks([])
        ax.set_xlabel(f"{len(names)} categories, the largest first")
        ax.set_ylabel("Products")
    return ax


def confusion_matrix(
    confusion: ArrayLike,
    names: Sequence[str],
    ax: Axes | None = None,
    *,
    parents: Sequence[str | None] | None = None,
    about: str | None = None,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Which categories are taken for which: each true category's row in percent, relatives side by side.

    Args:
        confusion: int (C, C), row = true category, column = predicted, as in :class:`EpisodeScores`.
        names: C category names.
        parents: C names of their parents: categories are ordered by them, with a line between families.
        about: what the heading begins with.

    Raises:
        ValueError: if names or parents are not C.
    """
    confusion = np.asarray(confusion, np.float64)
    c = len(confusion)
    parents = list(parents) if parents is not None else [None] * c
    if not c == len(names) == len(parents):
        raise ValueError(f"{c} rows, {len(names)} names and {len(parents)} parents: give one of each a category")
    order = sorted(range(c), key=lambda i: (parents[i] or "", names[i]))
    names, parents = [names[i] for i in order], [parents[i] for i in order]
    confusion = confusion[np.ix_(order, order)]
    percent = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with drawn_on(ax, width, 0.95 * width) as ax:
        ax.imshow(percent, cmap=SHADES, vmin=0, vmax=100)
        ax.set_xticks(range(c), names, rotation=90)
        ax.set_yticks(range(c), names)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("Predicted")
        ax.set_ylabel("True")
        size = min(ax.yaxis.get_ticklabels()[0].get_size(), 0.8 * points(ax)[1] / c)
        ax.tick_params(labelsize=size)
        families = [i for i in range(1, c) if parents[i] != parents[i - 1]]
        for i in families:
            ax.axhline(i - 0.5, color="0.4", linewidth=0.08 * size)
            ax.axvline(i - 0.5, color="0.4", linewidth=0.08 * size)
        size = min(size, 0.4 * points(ax)[1] / c)  # as wide as "100"
        for i, j in np.argwhere(percent >= 0.5) if c <= NUMBERED else ():
            shade = "white" if percent[i, j] > 55 else "black"
            ax.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", color=shade, fontsize=size)
        if c > NUMBERED:
            bar = ax.figure.colorbar(ax.images[-1], ax=ax, shrink=0.6, aspect=18, pad=0.02)
            bar.outline.set_visible(False)
        share = "share of each true category (%)"
        set_heading(ax, [about, share] if about else [share.capitalize()])
    return ax


def embedding_map(
    features: ArrayLike,
    names: Sequence[str],
    ax: Axes | None = None,
    *,
    images: np.ndarray | None = None,
    thumbnails: int = 60,
    seed: int = 0,
    width: float = COLUMN_WIDTH,
) -> Axes:
    """Products on a plane where similar ones lie close together, some as pictures, by category.

    Args:
        features: float (N, D); t-SNE (van der Maaten & Hinton 2008) lays them out. With D = 2 they are positions.
        names: N category names.
        images: uint8 (N, H, W, 3), or None for marks alone.
        thumbnails: at most so many pictures, none over another.
        seed: of the layout and of the choice of pictures.

    Raises:
        ValueError: if names or images are not N.
    """
    features = np.asarray(features, np.float32)
    n, categories = len(features), sorted(set(names))
    if n != len(names) or (images is not None and n != len(images)):
        raise ValueError(f"{n} features, {len(names)} names: give one of each, and of the images, a product")
    positions = features
    if features.shape[1] != 2:
        from sklearn.manifold import TSNE  # imports slowly

        layout = TSNE(init="pca", perplexity=min(30.0, (n - 1) / 3), random_state=seed)
        positions = layout.fit_transform(features)
    category = np.array([categories.index(name) for name in names])
    with drawn_on(ax, width, 0.9 * width) as ax:
        ax.margins(0.08)
        for k in range(len(categories)):
            x, y = positions[category == k].T
            ax.plot(
                x,
                y,
                MARKERS[k % len(MARKERS)],
                color=COLOURS[k % len(COLOURS)],
                alpha=0.7,
                markeredgewidth=0,
                label=categories[k],
            )
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
        size = ax.xaxis.label.get_size()
        ax.legend(
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            borderaxespad=0.2,
            handletextpad=0.2,
            fontsize=min(0.9 * size, 0.8 * points(ax)[1] / len(categories)),
        )
        points(ax)  # lays the axes out anew, beside the legend
        if images is not None:
            _add_thumbnails(ax, positions, category, images, thumbnails, seed, 2.2 * size)
    return ax


def _add_thumbnails(
    ax: Axes,
    positions: np.ndarray,
    category: np.ndarray,
    images: np.ndarray,
    most: int,
    seed: int,
    size: float,
) -> None:
    """Pictures ``size`` points high in a frame of their category's colour, where they do not overlap."""
    pixel = ax.figure.dpi / 72
    at = ax.transData.transform(positions)
    apart = 1.15 * size * pixel * max(1.0, images.shape[2] / images.shape[1])
    placed: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(positions)):
        if len(placed) < most and all(np.abs(at[i] - at[j]).max() > apart for j in placed):
            placed.append(i)
            picture = OffsetImage(images[i], zoom=size / images.shape[1], interpolation="antialiased")
            frame = {"edgecolor": COLOURS[category[i] % len(COLOURS)], "linewidth": 0.04 * size}
            ax.add_artist(AnnotationBbox(picture, positions[i], pad=0.08, bboxprops=frame))
