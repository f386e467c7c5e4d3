"""The uint8 memory-mapped cache of a catalog's pictures at one size, which training reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from fewshot_prod.catalog.catalog import Catalog, CatalogError
from fewshot_prod.catalog.decoding import DECODING_VERSION, Fit, ImageProblem, in_threads, open_rgb, resized


def cache_folder() -> Path:
    """``$FEWSHOT_PROD_CACHE``, else ``~/.cache/fewshot_prod``. Everything in it can be deleted at any time."""
    return Path(os.environ.get("FEWSHOT_PROD_CACHE") or Path.home() / ".cache" / "fewshot_prod")


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
        workers: decoding threads, default one a CPU core.
        progress: show a bar when there are many pictures to decode.
        fit: "stretch" ignores the aspect ratio, "pad" keeps it with white bars, "crop" keeps the centre.

    Returns:
        uint8 (N, H, W, 3), read-only, row i = row i of ``catalog.frame``.

    Raises:
        CatalogError: if a picture cannot be decoded (it changed since the catalog was loaded), or the cache cannot
            be written.
    """
    if catalog.pixels is not None:
        return _rendered(catalog, size, fit)
    names = catalog.frame["image"].tolist()
    shape = (len(names), *size, 3)
    folder = (cache_dir or cache_folder()) / "images"
    path = folder / f"{catalog.name}-{size[0]}x{size[1]}-{_key(catalog, names, size, fit)}.npy"
    blank = np.zeros((*size, 3), np.uint8)

    def decode(name: str | None) -> np.ndarray:
        return blank if name is None else resized(open_rgb((catalog.root or Path()) / name), size, fit)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # released by the system when its holder dies
            if (array := _open_cached(path, shape)) is None:
                _write(path, shape, in_threads(decode, names, workers=workers, progress=progress, what="Decoding"))
                array = np.load(path, mmap_mode="r")
            return array
    except ImageProblem as error:
        raise CatalogError(f"{error} (it was readable when the catalog was loaded: load it again)") from None
    except OSError as error:
        raise CatalogError(
            f"{folder} cannot hold a picture cache of {np.prod(shape, dtype=float) / 2**30:.2f} GB: {error}; "
            "point FEWSHOT_PROD_CACHE to another folder"
        ) from None


def _key(catalog: Catalog, names: list[str | None], size: tuple[int, int], fit: Fit) -> str:
    if "pixel_digest" in catalog.frame.columns:
        digests = catalog.frame["pixel_digest"].tolist()
    else:  # a catalog made by hand
        from fewshot_prod.catalog.inspection import inspect_images

        digests = [found and found.digest for found in inspect_images(catalog.root or Path(), names)]
    return hashlib.sha256(repr((DECODING_VERSION, tuple(size), fit, digests)).encode()).hexdigest()[:20]


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


def _rendered(catalog: Catalog, size: tuple[int, int], fit: Fit) -> np.ndarray:
    rows = catalog.frame["image"].tolist()
    if catalog.pixels.shape[1:3] == tuple(size) and None not in rows:
        everything = rows == list(range(len(catalog.pixels)))
        array = catalog.pixels.view() if everything else catalog.pixels[np.array(rows, np.int64)]
    else:
        array = np.zeros((len(rows), *size, 3), np.uint8)
        for i, row in enumerate(rows):
            if row is not None:
                array[i] = resized(Image.fromarray(catalog.pixels[row]), size, fit)
    array.flags.writeable = False
    return array
