"""Photographs of the synthetic products: colours, patterns, background, clutter, light and camera, in whole numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fewshot_prod.catalog.synthetic_categories import COLOURS, SHAPES
from fewshot_prod.catalog.synthetic_dice import Dice
from fewshot_prod.catalog.synthetic_images import (
    COSINE,
    DOMAINS,
    SINE,
    SUBPIXEL,
    SUPERSAMPLING,
    TURN,
    Domain,
    Look,
    fill,
    placed,
    shape_outlines,
    shaped_pieces,
)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 (1, size) and (size, 1): coordinates of a canvas from its centre."""
    line = np.arange(size, dtype=np.int32) - size // 2
    return line[None, :], line[:, None]


def _luma(colour: np.ndarray) -> int:
    return int(colour @ (77, 150, 29)) >> 8


def _apart(colour: np.ndarray, other: np.ndarray, least: int) -> np.ndarray:
    """``colour``, made lighter or darker until its luma is ``least`` away from the other's."""
    gap = _luma(colour) - _luma(other)
    if abs(gap) >= least:
        return colour
    up = gap >= 0 if 90 < _luma(other) < 165 else _luma(other) < 128
    return np.clip(colour + (least - gap if up else -least - gap), 0, 255)


def _pattern(kind: str, size: int, dice: Dice) -> np.ndarray:
    """bool (size, size): where the second colour shows."""
    period = dice.between(size // 16, size // 6)
    angle = dice.between(0, TURN - 1)
    cosine, sine = int(COSINE[angle]), int(SINE[angle])
    x, y = _grid(size)
    u = (x * cosine + y * sine >> 14) + 4 * size  # positive, so that // and % need no care for signs
    if kind == "stripes":
        return u // period % 2 == 0
    v = (y * cosine - x * sine >> 14) + 4 * size
    if kind == "checks":
        return (u // period + v // period) % 2 == 0
    du, dv = u % period - period // 2, v % period - period // 2
    return du * du + dv * dv < period * period // 10


def take_photo(
    parts: str, look: Look, *, domain: str, size: int, difficulty: float, product: Dice, photo: Dice
) -> np.ndarray:
    """One picture of one product.

    Args:
        parts: the category's parts, as text.
        look: colours and pattern.
        domain: a name of ``DOMAINS``.
        size: side of the image in pixels.
        difficulty: 0 to 1, scales the variation of proportions, pose, background and clutter.
        product: decides what belongs to the product (optional parts, proportions); the same in every domain.
        photo: decides the rest.

    Returns:
        uint8 (size, size, 3).
    """
    camera, side = DOMAINS[domain], size * SUPERSAMPLING
    pieces, points = shaped_pieces(parts, difficulty, product)
    main, second, third = (_jittered(COLOURS[row][2:], 16, product) for row in look.colours)
    slots = (main, _apart(second, main, 24), _apart(third, main, 48))

    canvas = np.zeros((side, side), np.uint8)  # a row of the palette for each pixel
    palette = _background(canvas, main, camera, difficulty, photo)
    points = placed(points, camera.tilt, side, difficulty, photo)
    if photo.chance(0.5):
        _shadow(canvas, points, palette)
    first = len(palette)
    position = 0
    for piece in pieces:
        for lengths in piece.fills:
            stops = np.cumsum(lengths) + position
            fill(canvas, np.split(points[position : stops[-1]], stops[:-1] - position), len(palette))
            position = stops[-1]
        palette.append(np.clip(slots[piece.slot] + product.between(-14, 14), 0, 255))

    line = _jittered((40, 40, 40) if photo.chance(0.8) else (230, 230, 230), 20, photo)
    in_pattern = palette[:first] + [
        _apart(colour, colour, 60) if piece.slot == 0 else colour
        for piece, colour in zip(pieces, palette[first:], strict=True)
    ]
    index = canvas.copy()
    if look.pattern != "plain":
        index[_pattern(look.pattern, side, photo)] += len(palette)
    if photo.chance(0.7):
        index[_edges(canvas, first, 1 + side // 128)] = 2 * len(palette)
    colours = np.array([*palette, *in_pattern, line], np.uint16)
    return _developed(_shrunk(colours[index]), camera, photo)


def _jittered(colour: tuple[int, ...], most: int, dice: Dice) -> np.ndarray:
    return np.clip([channel + dice.between(-most, most) for channel in colour], 0, 255)


def _background(
    canvas: np.ndarray, main: np.ndarray, camera: Domain, difficulty: float, dice: Dice
) -> list[np.ndarray]:
    """Paint surroundings on the canvas; returns their colours, one for each value painted."""
    size = len(canvas)
    plain = dice.chance(min(1.0, 1 - (1 - camera.plain / 100) * 2 * difficulty))
    near_white = (248, 248, 246) if dice.chance(0.8) else (228, 226, 222)
    base = _jittered(near_white if plain and dice.chance(0.7) else dice.pick(COLOURS)[2:], 10, dice)
    palette = [_apart(base, main, 56)]
    if plain:
        return palette
    kind = dice.pick(("floor", "floor", "stripes", "checks", "dots", "flat"))
    if kind == "floor":
        canvas[size * dice.between(45, 85) // 100 :] = 1
    elif kind != "flat":
        canvas[_pattern(kind, size, dice)] = 1
    palette.append(_apart(np.clip(palette[0] + dice.between(-40, 40), 0, 255), main, 40))
    for _ in range(dice.between(0, int(camera.clutter * difficulty))):
        outlines = shape_outlines(dice.pick((*SHAPES, "oval", "ring", "dome", "arch", "ear")))
        width, height = (size * dice.between(12, 38) // 100 for _ in "xy")
        corner = [size * SUBPIXEL * dice.between(-15, 95) // 100 for _ in "xy"]
        scale = np.array([width * SUBPIXEL, height * SUBPIXEL])
        fill(canvas, [outline * scale // 6400 + corner for outline in outlines], len(palette))
        strange = _jittered(dice.pick(COLOURS)[2:], 20, dice)
        mix = 30 + int(60 * difficulty)
        palette.append((palette[0] * (100 - mix) + strange * mix) // 100)
    return palette


def _shadow(canvas: np.ndarray, points: np.ndarray, palette: list[np.ndarray]) -> None:
    """An oval on the ground under the product."""
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = int(high[0] - low[0]), int(high[1] - low[1]) // 8
    oval = shape_outlines("oval")[0] * (width, height) // 6400 + (int(low[0]), int(high[1]) - height * 2 // 3)
    fill(canvas, [oval], len(palette))
    palette.append(palette[0] * 80 // 100)


def _edges(canvas: np.ndarray, first: int, width: int) -> np.ndarray:
    """bool (C, C): within ``width`` pixels right of or below a border between pieces of the product."""
    marks = np.zeros(canvas.shape, bool)
    for turned, here in ((canvas, marks), (canvas.T, marks.T)):  # borders below, then to the right
        border = (turned[:-1] != turned[1:]) & (np.maximum(turned[:-1], turned[1:]) >= first)
        for shift in range(width):
            here[shift + 1 :] |= border[: len(border) - shift]
    return marks


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Mean of 4 x 4 canvas pixels: uint16 (C, C, 3) to int32 (C/4, C/4, 3)."""
    rows = pixels[0::4] + pixels[1::4] + pixels[2::4] + pixels[3::4]
    return (rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4] + 8).astype(np.int32) // 16


def _developed(image: np.ndarray, camera: Domain, dice: Dice) -> np.ndarray:
    """Light from one side, exposure, colour cast, fog, blur and noise."""
    size = len(image)
    x, y = _grid(size)
    light = 256 + (x * dice.between(-40, 40) + y * dice.between(-40, 40)) // size
    cast = np.array([100 + dice.between(-camera.cast, camera.cast) for _ in "rgb"])
    image = image * light[..., None] // 256 * cast * dice.between(*camera.dim) // 10000
    image = (image * (100 - camera.fog) + 128 * camera.fog) // 100
    for _ in range(camera.blur):
        padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
        image = (padded[:-2] + padded[1:-1] + padded[2:]) // 3
        padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
        image = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) // 3
    image = image + dice.noise(image.size).reshape(image.shape).astype(np.int32) * camera.noise // 148
    return np.clip(image, 0, 255).astype(np.uint8)
