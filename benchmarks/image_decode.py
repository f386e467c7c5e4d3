"""Decoding and resizing of picture files: OpenCV against Pillow, which the package uses unless told.

Command:   .venv/bin/python benchmarks/image_decode.py --source fashion
           .venv/bin/python benchmarks/image_decode.py --source grocery --height 160 --width 160
Prints:    how far the pixels of both sides are apart, images/s of both (medians over alternating rounds after a
           warm-up, one thread), then ``ratio: ...``, OpenCV's speed by Pillow's
Needs:     the extra ``opencv``
Reading:   both sides read a file's bytes, apply its EXIF orientation, and deliver uint8 (H, W, 3) in RGB. Resizing:
           Pillow's bicubic with antialiasing against OpenCV's area averaging (bicubic where a picture grows), each
           with the reduced-size decoding that its library offers for JPEG files, OpenCV's by whole factors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Args:
    """What is decoded, and how often."""

    source: Literal["fashion", "grocery"] = "fashion"
    """Catalog whose picture files are read, evenly spaced."""
    root: Path | None = None
    """Its folder; default $FEWSHOT_PROD_DATA/NAME, else data/NAME."""
    n_images: int = 500
    """Pictures a round."""
    height: int = 64
    """Pixels of the delivered pictures."""
    width: int = 48
    """Pixels of the delivered pictures."""
    rounds: int = 5
    """Rounds a side that are timed."""


def main(args: Args) -> None:
    """Compare pixels, then time both sides in turn and print the medians."""
    import cv2
    import numpy as np

    from fewshot_prod.catalog import load_catalog
    from fewshot_prod.catalog.decoding import open_rgb, resized
    from fewshot_prod.catalog.opencv import decode, fitted

    cv2.setNumThreads(1)
    catalog = load_catalog(args.source, args.root)
    rows = np.flatnonzero(catalog.frame["image"].notna())
    rows = rows[np.linspace(0, len(rows) - 1, min(args.n_images, len(rows))).astype(int)]
    files = [catalog[row].image for row in rows.tolist()]
    size = (args.height, args.width)
    sides: dict[str, Callable[[Path], np.ndarray]] = {
        "OpenCV": lambda path: fitted(decode(path, size), size),
        "Pillow": lambda path: resized(open_rgb(path), size),
    }

    decoded = [np.abs(decode(f).astype(int) - np.asarray(open_rgb(f)).astype(int)).max() for f in files[:100]]
    print(f"decoded at full size: {sum(d == 0 for d in decoded)} of {len(decoded)} equal, largest gap {max(decoded)}")
    gaps = [np.abs(sides["OpenCV"](f).astype(int) - sides["Pillow"](f).astype(int)) for f in files[:100]]
    print(f"resized: mean gap {np.mean([g.mean() for g in gaps]):.2f} of 255, 99 % below {np.percentile(gaps, 99):.0f}")

    def read_all(read: Callable[[Path], np.ndarray]) -> None:
        for file in files:
            read(file)

    timed = take_turns({name: functools.partial(read_all, read) for name, read in sides.items()}, args.rounds)
    speed = {name: len(files) / side.median for name, side in timed.items()}
    for name, images in speed.items():
        print(f"{name}: {images:,.0f} images/s (median of {args.rounds} rounds of {len(files)}, one thread)")
    print(f"ratio: {speed['OpenCV'] / speed['Pillow']:.1f}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
