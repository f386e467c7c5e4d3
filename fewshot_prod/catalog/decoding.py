"""From a picture file to RGB pixels of the wanted size, whatever the file turns out to be."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

DECODING_VERSION = 1  # part of every cache key: raise it when the same file would give other pixels
MAX_PIXELS = 89_478_485  # width * height; decoded RGB takes three bytes each, so 256 MiB (Pillow's own first limit)
SHOW_PROGRESS_FROM = 2_000  # pictures; fewer take about a second
BLOCK = 32  # pictures that a thread takes at a time
BLOCKS_AHEAD = 32  # decoded before they are used, at most

Fit = Literal["stretch", "pad", "crop"]


class ImageProblem(ValueError):
    """A picture that cannot be used; the message starts with the kind of problem and a colon."""


def open_rgb(path: Path, name: str | None = None) -> Image.Image:
    """Decode one picture: EXIF orientation applied, grey/CMYK/palette made RGB, transparency put on white.

    Of 16 bits the upper eight are kept. Modes of 32 bits, whole or floating, say nothing about what is black and what
    is white, and are refused.

    The size is read from the header and checked before any pixel is decoded.

    Args:
        name: what messages call it; the file's name when None.

    Raises:
        ImageProblem: if the file is truncated, not a picture, of 32 bits a pixel, or larger than ``MAX_PIXELS``.
    """
    name = name or path.name
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(f"{name} is {width}x{height} pixels", width * height)
            if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
                raise ImageProblem(f"image unreadable: {name} has 32 bits a pixel; save it with 8 or 16")
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except ImageProblem:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own, above twice its limit; it tells no width and height
        told = re.search(r"(\d+) pixels", str(error))
        pixels = int(told[1]) if told else 2 * MAX_PIXELS
        raise _too_large(f"{name} has {pixels:,} pixels", pixels) from None
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error...
        kind = "image truncated" if "truncated" in str(error).lower() else "image unreadable"
        raise ImageProblem(f"{kind}: {name}: {str(error).replace(str(path), name)}") from None


def _too_large(found: str, pixels: int) -> ImageProblem:
    return ImageProblem(
        f"image too large: {found}, {3 * pixels / 2**30:.1f} GB decoded; the limit is {MAX_PIXELS:,} pixels: "
        "scale it down"
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def pixel_digest(image: Image.Image) -> str:
    """32 hex digits that equal pictures share: a hash of size and RGB pixels, whatever the file format.

    Example:
        >>> pixel_digest(Image.new("RGB", (4, 4))) == pixel_digest(Image.new("RGB", (2, 8)))
        False
    """
    digest = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def resized(image: Image.Image, size: tuple[int, int], fit: Fit = "stretch") -> np.ndarray:
    """The picture as uint8 (H, W, 3), antialiased: stretched, padded with white, or cropped at the centre."""
    height, width = size
    if fit == "pad":
        image = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color="white")
    elif fit == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    elif fit != "stretch":
        raise ValueError(f"fit={fit!r} is not one of 'stretch', 'pad', 'crop'")
    elif image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image)


def in_threads(
    function: Callable, items: Sequence, *, workers: int | None = None, progress: bool, what: str
) -> Iterator:
    """``map(function, items)`` in order, over threads: Pillow decodes and resizes outside the GIL.

    At most ``BLOCK * BLOCKS_AHEAD`` results wait to be used. A progress bar shows where it takes long.
    """
    from rich.console import Console
    from rich.progress import track

    def block(start: int) -> list:
        return [function(item) for item in items[start : start + BLOCK]]

    Image.preinit()  # here, so that the threads do not race to load Pillow's plugins
    console = Console(stderr=True)
    quiet = not (progress and console.is_terminal and len(items) >= SHOW_PROGRESS_FROM)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # what matters of them arrives as ImageProblem
        starts = range(0, len(items), BLOCK)
        windows = (starts[i : i + BLOCKS_AHEAD] for i in range(0, len(starts), BLOCKS_AHEAD))
        results = chain.from_iterable(chain.from_iterable(pool.map(block, window)) for window in windows)
        yield from track(results, what, len(items), console=console, disable=quiet, transient=True)
