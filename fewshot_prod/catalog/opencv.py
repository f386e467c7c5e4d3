"""Pictures by OpenCV in place of Pillow: the same pixels, sooner; other ones, by a little, once they are resized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewshot_prod.catalog.decoding import MAX_PIXELS, Fit, open_rgb
from fewshot_prod.errors import MissingPackage

END_OF_JPEG = b"\xff\xd9"


def decode(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """The pixels of :func:`open_rgb`, bit by bit; but of orientation OpenCV knows EXIF's alone, Pillow XMP's too.

    OpenCV reads whole JPEG files in RGB or grey and applies their EXIF orientation. Pillow reads the rest: other
    formats, for their transparency and their depth; CMYK; and damaged files, of which it says what is wrong.

    Args:
        size: (H, W) to which the picture will be resized. Then a JPEG file that is far larger is decoded at a half, a
            quarter or an eighth of its sides, at least three times the wanted ones.

    Returns:
        uint8 (H', W', 3), RGB.

    Raises:
        MissingPackage: if OpenCV is not installed.
        ImageProblem: as :func:`open_rgb`.
    """
    cv2 = _cv2()
    try:
        with Image.open(path) as header:  # no pixel is decoded
            width, height = header.size
            usual = header.format == "JPEG" and header.mode in ("RGB", "L") and width * height <= MAX_PIXELS
    except Exception:  # what is wrong is said by open_rgb
        usual = False
    data = np.fromfile(path, np.uint8) if usual else np.empty(0, np.uint8)
    if not usual or data[-2:].tobytes() != END_OF_JPEG:  # OpenCV fills up truncated pictures without a word
        return np.asarray(open_rgb(path))
    # Whatever the orientation, which may exchange the sides
    spare = min(width, height) / max(size) / 3 if size else 1
    flags = {n: getattr(cv2, f"IMREAD_REDUCED_COLOR_{n}") for n in (8, 4, 2)}
    pixels = cv2.imdecode(data, next((flag for n, flag in flags.items() if n <= spare), cv2.IMREAD_COLOR))
    return np.asarray(open_rgb(path)) if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def fitted(pixels: np.ndarray, size: tuple[int, int], fit: Fit = "stretch") -> np.ndarray:
    """:func:`resized` by OpenCV: averaged over areas where the picture shrinks, bicubic where it grows.

    Pixels differ from those of Pillow's bicubic with antialiasing by at most 2 of 255 in a photo's mean, and 99 % of
    them by at most 12; by 5 in the mean under "crop", which cuts between whole pixels.
    """
    cv2 = _cv2()
    (h, w), (height, width) = pixels.shape[:2], size
    if fit == "crop":
        part_h, part_w = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
        top, left = (h - part_h) // 2, (w - part_w) // 2
        pixels = pixels[top : top + part_h, left : left + part_w]
    elif fit == "pad":
        scale = min(height / h, width / w)
        height, width = max(1, round(h * scale)), max(1, round(w * scale))
    elif fit != "stretch":
        raise ValueError(f"fit={fit!r} is not one of 'stretch', 'pad', 'crop'")
    grows = pixels.shape[0] < height or pixels.shape[1] < width
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    if pixels.shape[:2] != size:
        top, left = round((size[0] - height) / 2), round((size[1] - width) / 2)  # as Pillow
        borders = (top, size[0] - height - top, left, size[1] - width - left)
        pixels = cv2.copyMakeBorder(pixels, *borders, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return pixels


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingPackage(
            "backend='opencv' needs the package 'opencv-python-headless': pip install 'fewshot_prod[opencv]', "
            "or choose 'pillow'"
        ) from None
    return cv2
