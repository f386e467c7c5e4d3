"""Pictures from disk: decoding to RGB, and the uint8 memory-mapped cache that training reads."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

from fewshot_prod.catalog.catalog import Catalog, CatalogError

DECODING_VERSION = 1  # part of every cache key: raise it when the same file would give other pixels
MAX_PIXELS = 89_478_485  # width * height; decoded RGB takes three bytes each, so 256 MiB (Pillow's own first limit)
SHOW_PROGRESS_FROM = 2_000  # pictures; fewer take about a second

Fit = Literal["stretch", "pad", "crop"]


class ImageProblem(ValueError):
    """A picture that cannot be used; the message starts with the kind of problem and a colon."""


def cache_folder() -> Path:
    """``$FEWSHOT_PROD_CACHE``, else ``~/.cache/fewshot_prod``. Everything in it can be deleted at any time."""
    return Path(os.environ.get("FEWSHOT_PROD_CACHE") or Path.home() / ".cache" / "fewshot_prod")


def open_rgb(path: Path) -> Image.Image:
    """Decode one picture: EXIF orientation applied, grey/CMYK/palette made RGB, transparency put on white.

    The size is read from the header and checked before any pixel is decoded.

    Raises:
        ImageProblem: if the file is truncated, not a picture, or larger than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageProblem(
                    f"image too large: {path.name} is {width}x{height} pixels, {3 * width * height / 2**30:.1f} GB "
                    f"decoded; the limit is {MAX_PIXELS:,} pixels: scale it down"
                )
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except ImageProblem:
        raise
    except Image.DecompressionBombError as error:
        raise ImageProblem(f"image too large: {path.name}: {error}; scale it down") from None
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error...
        kind = "image truncated" if "truncated" in str(error).lower() else "image unreadable"
        raise ImageProblem(f"{kind}: {path.name}: {error}".replace(str(path), path.name)) from None


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


def image_array(
    catalog: Catalog,
    size: tuple[int, int],
    *,
    cache_dir: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    fit: Fit = "stretch",
) -> np.ndarray:
    """Every picture of a catalog at one size, decoded once and then memory-mapped.

    The file's name is a hash of the pictures' pixel digests in row order, the size and the fit: other pictures or
    another order make another file. It is written under another name and renamed, so a killed process leaves no
    half file, and a second process waits for the first. A damaged file is made again.

    Args:
        catalog: rows without a picture get zeros.
        size: (H, W) in pixels.
        cache_dir: default ``cache_folder()``.
        workers: decoding threads, default one a CPU core (Pillow decodes and resizes outside the GIL).
        progress: show a bar when there are many pictures to decode.
        fit: "stretch" ignores the aspect ratio, "pad" keeps it with white bars, "crop" keeps the centre.

    Returns:
        uint8 (N, H, W, 3), read-only, row i = row i of ``catalog.frame``.

    Raises:
        CatalogError: if a picture cannot be decoded (it changed since the catalog was loaded).
    """
    if catalog.pixels is not None:
        return _rendered(catalog, size, fit)
    names = catalog.frame["image"].tolist()
    key = _key(catalog, names, size, fit)
    folder = (cache_dir or cache_folder()) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{catalog.name}-{size[0]}x{size[1]}-{key}.npy"
    shape = (len(catalog), *size, 3)
    with FileLock(path.with_suffix(".lock")):  # released by the system when its holder dies
        if (array := _open_cached(path, shape)) is not None:
            return array
        unfinished = path.with_suffix(".tmp")
        with open(unfinished, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            root = catalog.root or Path()
            blank = np.zeros((*size, 3), np.uint8)

            def decode(name: str | None) -> np.ndarray:
                return blank if name is None else resized(open_rgb(root / name), size, fit)

            try:
                for image in in_threads(decode, names, workers=workers, progress=progress, what="Decoding pictures"):
                    file.write(np.ascontiguousarray(image).data)
            except ImageProblem as error:
                raise CatalogError(f"{error} (it was readable when the catalog was loaded: load it again)") from None
        os.replace(unfinished, path)
        return np.load(path, mmap_mode="r")


def in_threads(function: Callable, items: Iterable, *, workers: int | None, progress: bool, what: str) -> Iterator:
    """``map(function, items)`` in order over decoding threads, with a progress bar where it takes long."""
    from rich.console import Console
    from rich.progress import track

    items = list(items)
    Image.preinit()  # here, so that the threads do not race to load Pillow's plugins
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # what matters of them arrives as ImageProblem
        blocks = pool.map(
            lambda start: [function(item) for item in items[start : start + 64]], range(0, len(items), 64)
        )
        results = chain.from_iterable(blocks)
        console = Console(stderr=True)
        quiet = not (progress and console.is_terminal and len(items) >= SHOW_PROGRESS_FROM)
        yield from track(results, what, len(items), console=console, disable=quiet, transient=True)


def _key(catalog: Catalog, names: list[str | None], size: tuple[int, int], fit: Fit) -> str:
    if "pixel_digest" in catalog.frame.columns:
        digests = catalog.frame["pixel_digest"].tolist()
    else:  # a catalog made by hand
        from fewshot_prod.catalog.inspection import inspect_images

        digests = [found and found.digest for found in inspect_images(catalog.root or Path(), names)]
    return hashlib.sha256(repr((DECODING_VERSION, size, fit, digests)).encode()).hexdigest()[:20]


def _open_cached(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):  # absent, truncated, empty
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _rendered(catalog: Catalog, size: tuple[int, int], fit: Fit) -> np.ndarray:
    rows = catalog.frame["image"].tolist()
    if catalog.pixels.shape[1:3] == tuple(size) and rows == list(range(len(catalog.pixels))):
        array = catalog.pixels.view()
    else:
        array = np.zeros((len(rows), *size, 3), np.uint8)
        for i, row in enumerate(rows):
            if row is not None:
                array[i] = resized(Image.fromarray(catalog.pixels[row]), size, fit)
    array.flags.writeable = False
    return array
