"""Files that are kept: where caches lie, and writing that leaves no half file behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """``$FEWSHOT_PROD_CACHE``, else ``~/.cache/fewshot_prod``. Everything in it can be deleted at any time."""
    return Path(os.environ.get("FEWSHOT_PROD_CACHE") or Path.home() / ".cache" / "fewshot_prod")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file by ``write(temporary path)`` and put it in ``path``'s place: it appears whole or not at all.

    Missing folders are made. Two processes that write the same file do not disturb each other; the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
