"""Titles or images that products lack on purpose: which ones, a pure function of product and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import torch

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.evaluation import Sampler
from fewshot_prod.inputs import ProductInputs


@dataclass(frozen=True)
class Missing:
    """A share of titles, or of images, that is not there.

    Args:
        modality: "title" or "image".
        rate: share of the products that lose it, 0 to 1.
        where: "queries", "supports" or "both".

    Raises:
        ValueError: for another modality or place, or a rate outside 0 to 1.

    Example:
        >>> str(Missing("title", 0.5, "queries"))
        'titles of queries'
    """

    modality: Literal["title", "image"]
    rate: float
    where: Literal["queries", "supports", "both"] = "both"

    def __post_init__(self) -> None:
        known = {"modality": ("title", "image"), "where": ("queries", "supports", "both")}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(values)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is {self.rate}: it is a share, 0 to 1")

    def __str__(self) -> str:
        return f"{self.modality}s of {self.where}"

    def hide(self, inputs: ProductInputs, product_ids: Sequence[str], seed: int = 0) -> ProductInputs:
        """``inputs`` without what is missing. A product keeps the last that it has, image or title.

        Whether a product loses its title depends on its id and ``seed`` alone, and who loses it at one rate does so at
        every higher one.

        Args:
            product_ids: of the inputs' B products.
        """
        draws = [sha256(f"{seed} {self.modality} {name}".encode()).digest()[:7] for name in product_ids]
        draw = torch.tensor([int.from_bytes(d, "big") / 2**56 for d in draws], dtype=torch.float64)
        has_image = torch.full((len(inputs),), inputs.shows_images)
        if inputs.has_image is not None:
            has_image &= inputs.has_image
        has_title = inputs.lengths > 0 if inputs.lengths is not None else torch.zeros_like(has_image)
        lost = (draw < self.rate) & has_image & has_title
        if self.modality == "image":
            return replace(inputs, has_image=has_image & ~lost)
        return replace(inputs, lengths=torch.where(lost, 0, inputs.lengths))


@dataclass(frozen=True)
class QueriesApart:
    """A sampler's episodes with queries looked up ``offset`` rows further on, as the queries show their products."""

    sampler: Sampler
    offset: int

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        episodes = self.sampler.sample(start, stop)
        return replace(episodes, query=episodes.query + self.offset)
