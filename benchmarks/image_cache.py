"""A second epoch from the picture cache against torchvision's ImageFolder + DataLoader.

Command:   .venv/bin/python benchmarks/image_cache.py
Takes:     under a minute on 2 CPU cores
Prints:    images/s of both sides (medians over alternating rounds after a warm-up), then ``ratio: ...``
Expected:  a ratio of at least 5
Reading:   both sides read the same JPEG files in a folder per category and deliver float32 batches (B, 3, H, W) in
           0..1 and in a new shuffled order each epoch. The warm-up is the first epoch: it fills our cache, starts the
           DataLoader's workers (kept alive) and puts the files into the system's page cache. ``--source fashion``
           takes the published pictures of 80x60 pixels; larger photos make the ratio larger.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Args:
    """What is read, and how often."""

    source: Literal["synthetic", "fashion", "grocery"] = "synthetic"
    """Catalog whose pictures are written as JPEG files."""
    n_images: int = 3000
    """At most so many pictures."""
    height: int = 64
    """Pixels of the delivered pictures."""
    width: int = 48
    """Pixels of the delivered pictures."""
    batch_size: int = 64
    """Pictures a batch."""
    workers: int = 2
    """Worker processes of the DataLoader."""
    rounds: int = 5
    """Epochs a side that are timed."""


def main(args: Args) -> None:
    """Time both sides in turn and print the medians."""
    import torch

    torch.set_num_threads(1)  # as in a DataLoader's workers; batches are too small for threads to pay
    with tempfile.TemporaryDirectory(prefix="image_cache_") as folder:
        os.environ["FEWSHOT_PROD_CACHE"] = str(Path(folder) / "cache")  # its own, so that the first epoch is one
        tree = Path(folder) / "pictures"
        n = write_jpegs(args, tree)
        epochs = {"ImageFolder + DataLoader": image_folder(args, tree), "picture cache": picture_cache(args, tree)}
        shape = (3, args.height, args.width)
        sides = {name: functools.partial(read_epoch, epoch, n, shape) for name, epoch in epochs.items()}
        timed = take_turns(sides, args.rounds)
    for round_ in range(args.rounds + 1):
        for name, side in timed.items():
            warm_up = "(warm-up) " if round_ == 0 else ""
            print(f"round {round_} {warm_up}{name}: {n / side.seconds[round_]:,.0f} images/s")
    medians = {name: n / side.median for name, side in timed.items()}
    for name, speed in medians.items():
        print(f"{name}: {speed:,.0f} images/s (median of {args.rounds} epochs of {n} at {args.height}x{args.width})")
    print(f"ratio: {medians['picture cache'] / medians['ImageFolder + DataLoader']:.1f}")


def read_epoch(epoch: Callable[[], Iterator[Tensor]], n: int, shape: tuple[int, int, int]) -> None:
    """Read one epoch; a side that delivers anything else than it should is no comparison."""
    import torch

    seen = 0
    for batch in epoch():
        assert batch.dtype == torch.float32 and tuple(batch.shape[1:]) == shape, (batch.dtype, batch.shape)
        seen += len(batch)
    assert seen == n, (seen, n)


def write_jpegs(args: Args, tree: Path) -> int:
    """A folder per category, evenly sampled from the catalog; returns the number of pictures."""
    import numpy as np
    from PIL import Image

    from fewshot_prod.catalog import load_catalog

    catalog = load_catalog(args.source)
    rows = np.flatnonzero(catalog.frame["image"].notna())
    rows = rows[np.linspace(0, len(rows) - 1, min(args.n_images, len(rows))).astype(int)]
    for row in rows.tolist():
        product = catalog[row]
        path = tree / product.category.replace("/", " ") / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if catalog.pixels is None:
            shutil.copyfile(product.image, path)
        else:
            Image.fromarray(catalog.pixels[product.image]).save(path, quality=90)
    return len(rows)


def image_folder(args: Args, tree: Path) -> Callable[[], Iterator[Tensor]]:
    """The usual way: every epoch decodes and resizes every file in worker processes."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    transform = transforms.Compose([transforms.Resize((args.height, args.width)), transforms.ToTensor()])
    loader = DataLoader(
        ImageFolder(tree, transform),
        args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    return lambda: (images for images, _ in loader)


def picture_cache(args: Args, tree: Path) -> Callable[[], Iterator[Tensor]]:
    """Ours: the first epoch decodes once into the memory-mapped cache, every epoch only indexes it."""
    import torch

    from fewshot_prod.catalog import load_catalog
    from fewshot_prod.catalog.images import image_array

    @functools.cache
    def pictures() -> np.ndarray:
        return image_array(load_catalog("table", tree), (args.height, args.width))

    def epoch() -> Iterator[Tensor]:
        array = pictures()
        for index in torch.randperm(len(array)).split(args.batch_size):
            images = torch.from_numpy(array[index.numpy()])
            yield images.permute(0, 3, 1, 2).contiguous().float().div_(255)

    return epoch


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
