"""What can be done to a picture's pixels before it is resized: steps from uint8 (H, W, 3), RGB, to the same form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

WHITE = 240  # a pixel whose channels are all at least this bright is background


def crop_white(pixels: np.ndarray) -> np.ndarray:
    """Without the white margins; a picture that is white all over stays as it is.

    Example:
        >>> picture = np.full((6, 8, 3), 255, np.uint8)
        >>> picture[2:5, 3] = 0
        >>> crop_white(picture).shape
        (3, 1, 3)
    """
    product = (pixels < WHITE).any(2)
    if not product.any():
        return pixels
    rows, columns = np.flatnonzero(product.any(1)), np.flatnonzero(product.any(0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def greyscale(pixels: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) in all three channels, as Pillow's ``convert("L")`` rounds it.

    Example:
        >>> greyscale(np.array([[[255, 0, 0]]], np.uint8)).tolist()
        [[[76, 76, 76]]]
    """
    luma = (pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)


def grey_light(pixels: np.ndarray) -> np.ndarray:
    """Colour constancy by "shades of grey" (Finlayson & Trezzi 2004, Minkowski norm 6): the light's colour taken out.

    Each channel is scaled such that the sixth roots of their mean sixth powers agree.

    Example:
        >>> grey_light(np.full((2, 2, 3), (100, 150, 200), np.uint8))[0, 0].tolist()
        [150, 150, 150]
    """
    shades = np.arange(256) / 255
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(pixels, 2, 0)]
    light = (np.array(counts) @ shades**6 / pixels[..., 0].size) ** (1 / 6)
    if light.min() == 0:  # a channel without light tells nothing about it
        return pixels
    scaled = (255 * shades[:, None] * light.mean() / light).round().clip(0, 255).astype(np.uint8)  # (256, 3)
    return np.stack([scaled[pixels[..., c], c] for c in range(3)], axis=2)


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "crop_white": crop_white,
    "greyscale": greyscale,
    "grey_light": grey_light,
}


def preprocess(pixels: np.ndarray, steps: Sequence[str]) -> np.ndarray:
    """``pixels`` after the steps of these names, in this order.

    Raises:
        ValueError: for a name that is not in ``STEPS``.
    """
    for name in steps:
        if name not in STEPS:
            raise ValueError(f"preprocessing step {name!r} is not one of {', '.join(STEPS)}")
        pixels = STEPS[name](pixels)
    return pixels
