"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn once by the same 20 people.

Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction", Science 2015,
published at https://github.com/brendenlake/omniglot (MIT licence). No catalog of a shop, but the set on which nearly
every few-shot method has published numbers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
from PIL import Image

from fewshot_prod.catalog.catalog import Catalog, CatalogError, Problem
from fewshot_prod.catalog.groups import near_duplicate_groups

PARTS = ("images_background", "images_evaluation")
ROTATIONS = (90, 180, 270)  # degrees, counter-clockwise


def rotated_name(category: str, degrees: int) -> str:
    """What the class is called that a character makes when turned by ``degrees``.

    Example:
        >>> rotated_name("Greek/character01", 90)
        'Greek/character01/rot090'
    """
    return f"{category}/rot{degrees:03d}"


def load_omniglot(root: Path, *, strict: bool = False, image_size: int = 28, rotations: bool = False) -> Catalog:
    """Read images_background and images_evaluation, folders or zips of the same layout (alphabet/character/file.png).

    A character is a category (named "alphabet/character"), its alphabet the parent, and the published part
    ("background" or "evaluation") the column ``split``. Every drawing is a group of its own, except where two are
    equal to the pixel. There are no titles. Zips are read in place; nothing is written.

    Args:
        image_size: side in pixels to which the 105 x 105 drawings are scaled, antialiased (Lanczos, as Finn et al.
            2017 did); strokes are bright on black, as Snell et al. 2017 have them, in three equal channels.
        rotations: each character turned by 90, 180 and 270 degrees makes three more categories (Vinyals et al. 2016),
            see :func:`rotated_name`. Splits name them with :func:`fewshot_prod.splits.with_rotations`.

    Raises:
        CatalogError: if the data are not there, or ``strict`` and a drawing cannot be read.
    """
    root = next((folder for folder in (root / "omniglot-py", root) if _source(folder, PARTS[0])), root)
    missing = [part for part in PARTS if _source(root, part) is None]
    if missing:
        raise CatalogError(
            f"no omniglot catalog at {root}: {' and '.join(missing)}, as folders or .zip files, are missing. It is "
            "published at https://github.com/brendenlake/omniglot: put python/images_background.zip and "
            "python/images_evaluation.zip into this folder, or let torchvision lay them out: "
            "torchvision.datasets.Omniglot(FOLDER, background=B, download=True) for B in (True, False)"
        )
    names, drawings, problems = [], [], []
    for part in PARTS:
        for name, content in _files(_source(root, part)):
            try:
                with Image.open(io.BytesIO(content)) as image:
                    drawing = image.convert("L").resize((image_size, image_size), Image.Resampling.LANCZOS)
            except Exception as error:  # decoders of damaged files raise nearly anything
                problems.append(Problem(name, f"image unreadable: {error}"))
                if strict:
                    raise CatalogError(f"{name}: {problems[-1].reason}") from None
                continue
            names.append(name)
            drawings.append(255 - np.asarray(drawing))
    if not names:
        raise CatalogError(f"omniglot under {root} has no usable drawing (alphabet/character/file.png)")
    pixels = np.stack(drawings)  # (N, H, W)
    turns = (0, *ROTATIONS) if rotations else (0,)
    pixels = np.concatenate([np.rot90(pixels, degrees // 90, (1, 2)) for degrees in turns])
    frame = _frame(names, turns, [hashlib.blake2b(p.tobytes(), digest_size=16).hexdigest() for p in pixels])
    channels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    return Catalog("omniglot", frame, None, channels, tuple(problems), len(names) + len(problems))


def _source(root: Path, part: str) -> Path | None:
    return next((path for path in (root / part, root / f"{part}.zip") if path.exists()), None)


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name from the part on ("images_background/Greek/character01/0394_01.png") and content, sorted by name."""
    if source.is_dir():
        for path in sorted(source.glob("*/*/*.png")):
            yield path.relative_to(source.parent).as_posix(), path.read_bytes()
        return
    with ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".png") and name.count("/") == 3:
                yield name, archive.read(name)


def _frame(names: list[str], turns: tuple[int, ...], digests: list[str]) -> pd.DataFrame:
    """One row a drawing and turn: all drawings as published first, then all of them turned by 90 degrees, ..."""
    columns: dict[str, list] = {name: [] for name in ("product_id", "category", "parent", "split")}
    for degrees in turns:
        for name in names:
            part, alphabet, character, file = name.split("/")
            category = f"{alphabet}/{character}"
            category = rotated_name(category, degrees) if degrees else category
            columns["category"].append(category)
            columns["product_id"].append(f"{category}/{file.removesuffix('.png')}")
            columns["parent"].append(alphabet)
            columns["split"].append(part.removeprefix("images_"))
    frame = pd.DataFrame(columns, dtype=object)
    frame["title"], frame["image"] = None, pd.Series(range(len(frame)), dtype=object)
    frame["group"] = near_duplicate_groups(columns["category"], frame["title"], digests)
    frame["pixel_digest"] = digests
    return frame
