"""One pass over a catalog's pictures: which can be decoded, and which are equal. Remembered on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from fewshot_prod.catalog.decoding import DECODING_VERSION, ImageProblem, in_threads, open_rgb, pixel_digest
from fewshot_prod.storage import cache_folder, write_whole

SAVE_EVERY = 20.0  # seconds of decoding that a kill may cost
COLUMNS = ["name", "size", "mtime_ns", "digest"]  # of the memory's file


@dataclass(frozen=True)
class Inspected:
    """What one picture turned out to be: a digest of its pixels, or the reason why it cannot be used."""

    digest: str | None
    reason: str | None


def inspect_images(root: Path, names: Sequence[str | None], *, progress: bool = True) -> list[Inspected | None]:
    """Decode every picture once and remember what was found.

    The memory is a file in ``cache_folder()`` keyed by a picture's path, size in bytes and modification time in
    nanoseconds: a file replaced by another of equal size with its old time put back is not looked at again. One that
    cannot be used is, since the reason may have gone: a right to read, a missing codec, too little memory.

    Args:
        root: folder that ``names`` are relative to.
        names: paths; None stays None in the result.
        progress: show a bar when there are many pictures to decode.
    """
    _names_in.cache_clear()
    keys = [None if name is None else _file_key(root, name) for name in names]
    memory = _Memory(root)
    new = [key for key in dict.fromkeys(keys) if isinstance(key, tuple) and key not in memory.known]
    saved_at = time.monotonic()
    found = in_threads(lambda key: _inspect(root, key[0]), new, progress=progress, what="Checking")
    for key, inspected in zip(new, found, strict=True):
        memory.known[key] = inspected
        if time.monotonic() - saved_at > SAVE_EVERY:
            memory.save()
            saved_at = time.monotonic()
    if new:
        memory.save()
    return [memory.known[key] if isinstance(key, tuple) else key for key in keys]


def _file_key(root: Path, name: str) -> tuple[str, int, int] | Inspected:
    if "://" in name:
        remedy = "download it and name the file, or leave the column out (--columns.image '')"
        return Inspected(None, f"image is a URL: {name[:80]}; {remedy}")
    try:
        info = os.stat(root / name)
    except FileNotFoundError:
        return Inspected(None, f"image missing: {name}{_nearby(root, name)}")
    except (OSError, ValueError) as error:  # no permission, name too long, a zero byte in it
        return Inspected(None, f"image unreadable: {name!r}: {error}")
    if not stat.S_ISREG(info.st_mode):  # a folder; or a pipe, which would wait for ever
        return Inspected(None, f"image unreadable: {name} is not a file")
    return name, info.st_size, info.st_mtime_ns


def _nearby(root: Path, name: str) -> str:
    """What is there in place of a missing picture: one behind a first slash, or one in other case."""
    path, below = root / name, root / name.lstrip("/")
    if name.startswith("/") and below.name in _names_in(below.parent).values():
        return "; it is there without the first /"
    found = _names_in(path.parent).get(path.name.casefold(), path.name)
    return f"; there is {found}, in other case" if found != path.name else ""


@functools.lru_cache(maxsize=16)  # while one catalog is inspected
def _names_in(folder: Path) -> dict[str, str]:
    try:
        return {name.casefold(): name for name in os.listdir(folder)}
    except OSError:
        return {}


def _inspect(root: Path, name: str) -> Inspected:
    try:
        return Inspected(pixel_digest(open_rgb(root / name, name)), None)
    except ImageProblem as error:
        return Inspected(None, str(error))


class _Memory:
    """What is known of the pictures under one root. Losing it costs time only."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(f"{DECODING_VERSION} ".encode() + os.fsencode(root.resolve())).hexdigest()[:20]
        self.path = cache_folder() / "inspected" / f"{name}.parquet"
        self.known = self._read()

    def _read(self) -> dict[tuple[str, int, int], Inspected]:
        try:
            frame = pd.read_parquet(self.path, columns=COLUMNS).dropna().astype(object)
            rows = frame.itertuples(index=False)
            return {(name, size, mtime_ns): Inspected(digest, None) for name, size, mtime_ns, digest in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError):  # damaged: look at the pictures again
            return {}

    def save(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                self.known = self._read() | self.known  # another process may have added to it
                rows = [(*key, found.digest) for key, found in self.known.items() if found.digest]
                write_whole(self.path, pd.DataFrame(rows, columns=COLUMNS).to_parquet)
        except OSError as error:
            warnings.warn(
                f"pictures will be checked again next time: {self.path} is not writable: {error}", stacklevel=2
            )
