"""The uint8 memory-mapped cache of a catalog's pictures at one size, which training reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from PIL import Image

from fewshot_prod.catalog import opencv
from fewshot_prod.catalog.catalog import Catalog, CatalogError
from fewshot_prod.catalog.decoding import (
    DECODING_VERSION,
    Fit,
    ImageProblem,
    in_threads,
    open_rgb,
    pixel_digest,
    resized,
)
from fewshot_prod.catalog.inspection import inspect_images
from fewshot_prod.catalog.preprocessing import preprocess
from fewshot_prod.storage import cache_folder


def image_array(
    catalog: Catalog,
    size: tuple[int, int],
    *,
    cache_dir: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    fit: Fit = "stretch",
    steps: Sequence[str] = (),
    backend: Literal["pillow", "opencv"] = "pillow",
) -> np.ndarray:
    """Every picture of a catalog at one size, decoded once and then memory-mapped.

    The file's name is a hash of the pictures' pixel digests in row order and of all that makes other pixels of them:
    other pictures or another order make another file. It is written under another name and renamed, so a killed
    process leaves no half file, and a second process waits for the first. A damaged file is made again. A picture that
    has changed since the catalog was loaded is refused, but by OpenCV, which need not decode all of it.

    Args:
        catalog: rows without a picture get zeros.
        size: (H, W) in pixels.
        cache_dir: default ``cache_folder()``.
        workers: decoding threads, default one a CPU core.
        progress: show a bar when there are many pictures to decode.
        fit: "stretch" ignores the aspect ratio, "pad" keeps it with white bars, "crop" keeps the centre.
        steps: what is done to the pixels first, names of ``preprocessing.STEPS``.
        backend: "opencv" is faster and makes slightly other pixels, see :mod:`fewshot_prod.catalog.opencv`. The
            encoders that come with this package were trained on those of "pillow". Drawn catalogs have no files to
            decode, and are resized by Pillow.

    Returns:
        uint8 (N, H, W, 3), read-only, row i = row i of ``catalog.frame``.

    Raises:
        CatalogError: if a picture has changed since the catalog was loaded, or the cache cannot be written.
        ImportError: if OpenCV is wanted and not installed.
        ValueError: for an unknown step, back end or fit.
    """
    if backend not in ("pillow", "opencv"):
        raise ValueError(f"backend={backend!r} is not one of 'pillow', 'opencv'")
    preprocess(np.zeros((1, 1, 3), np.uint8), steps)  # names are checked before the work
    if catalog.pixels is not None:
        return _rendered(catalog, size, fit, steps)
    names, digests = catalog.frame["image"].tolist(), _digests(catalog)
    digest_of = dict(zip(names, digests, strict=True))
    shape = (len(names), *size, 3)
    folder = (cache_dir or cache_folder()) / "images"
    path = folder / f"{catalog.name}-{size[0]}x{size[1]}-{_key(digests, size, fit, steps, backend)}.npy"
    blank = np.zeros((*size, 3), np.uint8)

    def decode(name: str | None) -> np.ndarray:
        if name is None:
            return blank
        picture = (catalog.root or Path()) / name
        if backend == "pillow":
            image = open_rgb(picture)
            if pixel_digest(image) != digest_of[name]:
                raise ImageProblem(f"image changed: {name}")
            return resized(_preprocessed(image, steps), size, fit)
        return opencv.fitted(preprocess(opencv.decode(picture, None if steps else size), steps), size, fit)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # released by the system when its holder dies
            if (array := _open_cached(path, shape)) is None:
                _write(path, shape, in_threads(decode, names, workers=workers, progress=progress, what="Decoding"))
                array = np.load(path, mmap_mode="r")
            return array
    except ImageProblem as error:
        raise CatalogError(f"{error} (it was another when the catalog was loaded: load it again)") from None
    except OSError as error:
        raise CatalogError(
            f"{folder} cannot hold a picture cache of {np.prod(shape, dtype=float) / 2**30:.2f} GB: {error}; "
            "point FEWSHOT_PROD_CACHE to another folder"
        ) from None


def _preprocessed(image: Image.Image, steps: Sequence[str]) -> Image.Image:
    return Image.fromarray(preprocess(np.asarray(image), steps)) if steps else image


def _digests(catalog: Catalog) -> list[str | None]:
    if "pixel_digest" in catalog.frame.columns:
        return catalog.frame["pixel_digest"].tolist()
    found = inspect_images(catalog.root or Path(), catalog.frame["image"].tolist())  # of a catalog made by hand
    return [one and one.digest for one in found]


def _key(digests: list[str | None], size: tuple[int, int], fit: Fit, steps: Sequence[str], backend: str) -> str:
    made = (DECODING_VERSION, tuple(size), fit, digests)
    if steps or backend != "pillow":  # caches from before there were these keep their names
        made += (tuple(steps), backend)
    return hashlib.sha256(repr(made).encode()).hexdigest()[:20]


def _open_cached(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):  # absent, truncated, empty
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _write(path: Path, shape: tuple[int, ...], images: Iterable[np.ndarray]) -> None:
    """Write a .npy file image by image (a full disk is then an error, where a memory map would end the process)."""
    unfinished = path.with_suffix(".tmp")
    try:
        with open(unfinished, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for image in images:
                file.write(np.ascontiguousarray(image).data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _rendered(catalog: Catalog, size: tuple[int, int], fit: Fit, steps: Sequence[str]) -> np.ndarray:
    rows = catalog.frame["image"].tolist()
    if catalog.pixels.shape[1:3] == tuple(size) and None not in rows and not steps:
        everything = rows == list(range(len(catalog.pixels)))
        array = catalog.pixels.view() if everything else catalog.pixels[np.array(rows, np.int64)]
    else:
        array = np.zeros((len(rows), *size, 3), np.uint8)
        for i, row in enumerate(rows):
            if row is not None:
                array[i] = resized(_preprocessed(Image.fromarray(catalog.pixels[row]), steps), size, fit)
    array.flags.writeable = False
    return array
