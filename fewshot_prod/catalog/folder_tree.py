"""A folder of pictures per category, read as rows."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from errno import ELOOP
from itertools import count
from pathlib import Path
from unicodedata import normalize

from fewshot_prod.catalog.catalog import CatalogError
from fewshot_prod.catalog.rows import Row

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= {"val": "val", "valid": "val", "validation": "val"}
LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})


def read_folder_tree(root: Path) -> list[Row]:
    """One row a file under ``root``, in the order of their paths; what is no picture, and empty folders, are bad rows.

    The category is the folder that the picture lies in, the parent the folder above it. Where two folders of the
    same name lie in different parents, their categories are named by as much of the path as tells all of that name
    apart, ``parent/folder`` or longer. If all top folders are called train, val, test or the like, they are the split,
    which is then called train, val or test. Hidden files and folders are not looked at; links are followed.

    Raises:
        CatalogError: if there is no file.
    """
    unreadable: list[OSError] = []
    files, empty = _files(root, unreadable)
    paths = sorted(path.relative_to(root) for path in files)
    if not paths:
        raise CatalogError(f"{root} holds neither a table (.csv, .tsv, .parquet) nor folders of pictures")
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    skip = 1 if tops and {top.lower() for top in tops} <= set(SPLITS) else 0

    def folders_of(path: Path) -> tuple[str, ...]:
        return tuple(normalize("NFC", part) for part in path.parts[skip:])

    locations = {path: folders_of(path.parent) for path in paths}
    same_name = defaultdict(set)
    for folders in locations.values():
        same_name[folders[-1:]].add(folders)
    told_by = {  # how many parts of a path tell all folders of that name apart
        name: next(n for n in count(1) if len({o[-n:] for o in others}) == len(others))
        for name, others in same_name.items()
    }

    def category(folders: tuple[str, ...]) -> str:
        return "/".join(folders[-told_by.get(folders[-1:], 1) :])

    rows = [Row(str(error.filename), reason=f"folder unreadable: {error.strerror}") for error in unreadable]
    for folder in sorted(path.relative_to(root) for path in empty):
        reason = "folder empty: no picture in it; add some, or delete it"
        rows.append(Row(folder.as_posix(), category=category(folders_of(folder)) or None, reason=reason))
    for path, folders in locations.items():
        row = Row(path.as_posix(), product_id=path.as_posix(), image=path.as_posix())
        rows.append(row)
        row.split = SPLITS[path.parts[0].lower()] if skip and len(path.parts) > 1 else None
        row.category = category(folders)
        row.parent = folders[-2] if len(folders) > 1 else None
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in path.as_posix()):  # control characters, stray bytes
            row.place = ascii(path.as_posix())
            row.reason = "text not UTF-8: bytes that are not, or control characters, in the file's name"
        elif path.suffix.lower() not in PICTURES:
            row.reason = f"not a picture: {path.suffix or 'no suffix'}; expected {', '.join(sorted(PICTURES))}"
    return rows


def _files(root: Path, unreadable: list[OSError]) -> tuple[list[Path], list[Path]]:
    """The files under ``root``, and the folders that hold nothing."""
    files, empty = [], []
    way: dict[str, frozenset[str]] = {}  # the real folders that were walked through, of each folder
    for folder, subfolders, names in os.walk(root, onerror=unreadable.append, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        before, here = way.get(os.path.dirname(folder), frozenset()), os.path.realpath(folder)
        if here in before:
            subfolders.clear()
            unreadable.append(OSError(ELOOP, "it is a link to a folder around it", folder))
            continue
        way[folder] = before | {here}
        found = [Path(folder, n) for n in names if not n.startswith(".") and n.lower() not in LEFT_BY_SYSTEMS]
        files += found
        if not found and not subfolders:
            empty.append(Path(folder))
    return files, empty
