"""Draws the products of the synthetic catalog: parts to polygons, polygons to pixels, in whole numbers only.

Nothing here depends on a graphics library or on how a processor rounds: coordinates are int64 fixed point, polygons
are filled by an even-odd scanline rule on a canvas of four times the image size, and an image pixel is the mean of
4 x 4 canvas pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fewshot_prod.catalog.synthetic_categories import COLOURS, SHAPES
from fewshot_prod.catalog.synthetic_dice import Dice

UNIT = 64  # fixed-point steps in one unit of the category table
HALF = 50 * UNIT  # half a side of the table's square
SUPERSAMPLING = 4
SUBPIXEL = 256  # fixed-point steps in one canvas pixel
TURN = 1024  # angles are whole numbers, a full turn is 1024
# No entry lies near a rounding boundary, so a last-digit difference between mathematical libraries cannot show.
SINE = np.array([round(math.sin(2 * math.pi * k / TURN) * 16384) for k in range(TURN)], np.int64)
COSINE = np.roll(SINE, -TURN // 4)
PATTERNS = ("plain", "plain", "stripes", "checks", "dots")


class Domain(NamedTuple):
    """How photos are taken. Percentages, scaled by the difficulty where a field says so."""

    plain: int  # chance of a flat background (difficulty 0.5)
    clutter: int  # most objects lying around (scaled)
    dim: tuple[int, int]  # exposure
    cast: int  # most a colour channel is scaled by
    fog: int  # contrast lost
    noise: int  # standard deviation in grey levels
    blur: int  # rounds of a 3 x 3 mean
    tilt: int  # most rotation in degrees (scaled)


DOMAINS = {
    "catalog": Domain(plain=60, clutter=7, dim=(92, 106), cast=3, fog=0, noise=3, blur=0, tilt=50),
    "phone": Domain(plain=5, clutter=16, dim=(55, 100), cast=22, fog=22, noise=11, blur=1, tilt=100),
}


class Look(NamedTuple):
    """What a product looks like apart from its shape; titles mention it too."""

    colours: tuple[int, int, int]  # rows of COLOURS for the slots a, b, c
    pattern: str


class Piece(NamedTuple):
    """One part of a category. ``fills`` are the numbers of ``points`` in the outlines that are filled together."""

    slot: int
    optional: bool
    points: np.ndarray  # int64 (n, 2), fixed point, (0, 0) is the centre of the table's square
    fills: tuple[tuple[int, ...], ...]


def draw_look(dice: Dice) -> Look:
    """Colours and pattern of a product, by the same odds for every category."""
    a, b, c = (dice.between(0, len(COLOURS) - 1) for _ in range(3))
    return Look((a, b if dice.chance(0.6) else a, c), dice.pick(PATTERNS))


def _arc(start: int, stop: int, rx: int, ry: int, cx: int, cy: int) -> list[tuple[int, int]]:
    """Points on an ellipse in steps of a 32nd turn, angles in 32nds clockwise from the right."""
    step = 1 if stop > start else -1
    angles = [k * TURN // 32 % TURN for k in range(start, stop + step, step)]
    return [(cx + rx * int(COSINE[k]) // 16384, cy + ry * int(SINE[k]) // 16384) for k in angles]


@lru_cache
def shape_outlines(name: str) -> tuple[np.ndarray, ...]:
    """Outlines int64 (n, 2) of a shape, in a box of 0..100 units."""
    side, half = 100 * UNIT, 50 * UNIT
    if name not in SHAPES:
        thick, ring = 76 * UNIT // 2, 64 * UNIT // 2
        round_shapes = {
            "oval": [_arc(0, 31, half, half, half, half)],
            "ring": [_arc(0, 31, half, half, half, half), _arc(0, 31, ring, ring, half, half)],
            "dome": [_arc(16, 32, half, side, half, side)],
            "bowl": [_arc(0, 16, half, side, half, 0)],
            "arch": [_arc(16, 32, half, side, half, side) + _arc(32, 16, thick, 2 * thick, half, side)],
            "ear": [_arc(-8, 8, side, half, 0, half) + _arc(8, -8, 2 * thick, thick, 0, half)],
        }
        return tuple(np.array(outline, np.int64) for outline in round_shapes[name])
    text = SHAPES[name]
    outlines = []
    for outline in text.lstrip("~ ").split("; "):
        points = np.array([xy.split(",") for xy in outline.split()], np.int64) * UNIT
        for _ in range(2 * text.startswith("~")):  # Chaikin's corner cutting
            following = np.roll(points, -1, axis=0)
            points = np.stack([3 * points + following, points + 3 * following], axis=1).reshape(-1, 2) // 4
        outlines.append(points)
    return tuple(outlines)


def _stroke(width: int, path: np.ndarray) -> list[list[np.ndarray]]:
    """A line of ``width`` units through ``path`` (n, 2): one square-ended rectangle a segment."""
    fills = []
    for start, stop in pairwise(path):
        dx, dy = (int(d) for d in stop - start)
        length = max(math.isqrt(dx * dx + dy * dy), 1)
        along = np.array([dx, dy], np.int64) * width * UNIT // 2 // length
        across = np.array([-along[1], along[0]])
        a, b = start - along, stop + along
        fills.append([np.stack([a + across, b + across, b - across, a - across])])
    return fills


@lru_cache
def category_pieces(parts: str) -> tuple[Piece, ...]:
    """The parts of a category from their text (see synthetic_categories.py)."""
    pieces = []
    for part in parts.split("|"):
        word = part.strip()
        flags = word[: len(word) - len(word.lstrip("?="))]
        shape, slot, *numbers = word.lstrip("?=").split()
        values = np.array(numbers, np.int64)
        if shape == "line":
            fills = _stroke(int(values[0]), values[1:].reshape(-1, 2) * UNIT)
        else:
            corner, opposite = values.reshape(2, 2) * UNIT
            fills = [[corner + (opposite - corner) * outline // (100 * UNIT) for outline in shape_outlines(shape)]]
        fills = [[outline - HALF for outline in fill] for fill in fills]
        if "=" in flags:
            fills += [[outline * (-1, 1) for outline in fill] for fill in fills]
        points = np.concatenate([outline for fill in fills for outline in fill])
        lengths = tuple(tuple(len(outline) for outline in fill) for fill in fills)
        pieces.append(Piece("abc".index(slot), "?" in flags, points, lengths))
    return tuple(pieces)


def fill(canvas: np.ndarray, outlines: list[np.ndarray], value: int) -> None:
    """Set the canvas pixels (uint8 (C, C)) whose centre is inside the outlines (sub-pixels), by the even-odd rule."""
    size = len(canvas)
    starts = np.concatenate(outlines)
    stops = np.concatenate([np.roll(outline, -1, axis=0) for outline in outlines])
    top, bottom = np.clip([starts[:, 1].min() // SUBPIXEL, starts[:, 1].max() // SUBPIXEL + 1], 0, size)
    left, right = np.clip([starts[:, 0].min() // SUBPIXEL, starts[:, 0].max() // SUBPIXEL + 2], 0, size)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom) * SUBPIXEL + SUBPIXEL // 2
    edge, row = np.nonzero((starts[:, 1:] <= rows) != (stops[:, 1:] <= rows))
    (x0, y0), (x1, y1) = starts[edge].T, stops[edge].T
    cross = x0 + (rows[row] - y0) * (x1 - x0) // (y1 - y0)
    column = np.clip((cross + SUBPIXEL // 2 - 1) // SUBPIXEL - left, 0, right - left)
    width = right - left + 1
    toggles = np.bincount(row * width + column, minlength=len(rows) * width).astype(np.uint8).reshape(-1, width)
    inside = np.cumsum(toggles, axis=1, dtype=np.uint8)[:, :-1] & 1
    np.copyto(canvas[top:bottom, left:right], value, where=inside.astype(bool))


def shaped_pieces(parts: str, difficulty: float, dice: Dice) -> tuple[list[Piece], np.ndarray]:
    """One product of a category: which optional parts it has, and its own proportions.

    Returns:
        The pieces, and their points int64 (n, 2) after stretching, tapering and bending.
    """
    percent = int(difficulty * 100)

    def swing(most: int) -> int:
        return dice.between(-most * percent // 100, most * percent // 100)

    kept, moved = [], []
    for piece in category_pieces(parts):
        grow, shift = (256 + swing(30), 256 + swing(30)), (swing(2 * UNIT), swing(2 * UNIT))
        if piece.optional and dice.chance(0.5):
            continue
        centre = (piece.points.min(axis=0) + piece.points.max(axis=0)) // 2
        kept.append(piece)
        moved.append((piece.points - centre) * grow // 256 + centre + shift)
    x, y = np.concatenate(moved).T
    x, y = x * (256 + swing(64)) // 256, y * (256 + swing(64)) // 256
    x = x + x * y * swing(50) // (HALF * 256) + y * y * swing(44) // (HALF * 256)
    y = y + y * y * swing(40) // (HALF * 256)
    return kept, np.stack([x, y], axis=1)


def placed(points: np.ndarray, tilt: int, size: int, difficulty: float, dice: Dice) -> np.ndarray:
    """Pose: flip, shear, rotate by up to ``tilt`` degrees, then scale and shift within a canvas of ``size`` pixels."""
    percent = int(difficulty * 100)
    x, y = points.T
    x = x * (-1 if dice.chance(0.5) else 1) + y * dice.between(-percent, percent) // 256
    most = tilt * percent * TURN // 36000
    angle = dice.between(-most, most)
    x, y = (x * COSINE[angle] - y * SINE[angle]) // 16384, (x * SINE[angle] + y * COSINE[angle]) // 16384
    points = np.stack([x, y], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = size * SUBPIXEL * dice.between(90 - percent * 36 // 100, 94) // 100
    slack = (size * SUBPIXEL - extent) // 2
    centre = np.array([size * SUBPIXEL // 2 + dice.between(-slack, slack) for _ in "xy"])
    return (2 * points - low - high) * extent // (2 * int((high - low).max())) + centre
