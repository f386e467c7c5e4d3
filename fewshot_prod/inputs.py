"""What an encoder sees of products: images, title tokens and attributes, with what is missing marked as missing."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from fewshot_prod.catalog import Catalog
    from fewshot_prod.catalog.titles import TitleTokenizer

EMPTIED = "."  # a title that says nothing


@dataclass(frozen=True)
class ProductInputs:
    """Encoder inputs of B products; a whole catalog and a batch have the same form.

    Args:
        images: uint8 (B, H, W, 3), may be memory-mapped, or None when no product has an image. Kept as bytes
            until they reach the encoder, which scales and normalises them.
        has_image: bool (B,), or None for "all have one"; pixels of a product without an image are ignored.
        tokens: int64 (B, T) title token ids, padded with 0 behind ``lengths``, or None for "no titles".
        lengths: int64 (B,) number of tokens, 0 for a missing title.
        attributes: int64 (B, A), the number of each of A attributes' value (colour, gender), from 1; 0 where it is
            unknown. None for "no attributes".
        image_features: float (B, D), what a frozen image part made of the images, read in place of them.

    Example:
        >>> import torch
        >>> inputs = ProductInputs(images=torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
        >>> len(inputs), inputs[torch.tensor([0, 2])].images.shape
        (4, torch.Size([2, 8, 8, 3]))
    """

    images: Tensor | None = None
    has_image: Tensor | None = None
    tokens: Tensor | None = None
    lengths: Tensor | None = None
    attributes: Tensor | None = None
    image_features: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.shows_images and self.tokens is None:
            raise ValueError("ProductInputs needs images or tokens: products with neither cannot be encoded")
        if (self.tokens is None) != (self.lengths is None):
            raise ValueError("tokens and lengths come together")

    def __len__(self) -> int:
        return len(next(t for t in (self.images, self.image_features, self.tokens) if t is not None))

    @property
    def shows_images(self) -> bool:
        """Whether there are images, as pixels or as features."""
        return self.images is not None or self.image_features is not None

    def __getitem__(self, index: Tensor) -> ProductInputs:
        """The products at ``index`` (int64 or bool (B',))."""
        return ProductInputs(*(None if t is None else t[index] for t in self._fields()))

    def __add__(self, other: ProductInputs) -> ProductInputs:
        """These products and behind them ``other``'s, which must have the same parts."""
        pairs = zip(self._fields(), other._fields(), strict=True)
        return ProductInputs(*(None if a is None else torch.cat([a, b]) for a, b in pairs))

    def fingerprint(self, *columns: np.ndarray) -> str:
        """16 hex digits over these products and ``columns`` beside them, such as their categories.

        Of images and their features at most 64 rows, evenly spaced, stand for all: a catalog takes milliseconds.
        """
        every = slice(None, None, max(1, -(-len(self) // 64)))
        few = (None if t is None else t[every] for t in (self.images, self.image_features))
        parts = (*few, self.has_image, self.tokens, self.lengths, self.attributes)
        digest = hashlib.sha256()
        for part in (*(None if t is None else t.cpu().numpy() for t in parts), *columns):
            digest.update(b"none" if part is None else f"{part.shape} {part.dtype}".encode() + part.tobytes())
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> ProductInputs:
        return ProductInputs(*(None if t is None else t.to(device) for t in self._fields()))

    def _fields(self) -> tuple[Tensor | None, ...]:
        return (self.images, self.has_image, self.tokens, self.lengths, self.attributes, self.image_features)


def catalog_inputs(
    catalog: Catalog,
    *,
    image_size: tuple[int, int] | None = None,
    pixels: Mapping[str, Any] | None = None,
    tokenizer: TitleTokenizer | None = None,
    mask: Callable[[str], str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
) -> ProductInputs:
    """A whole catalog as encoder inputs, row by row.

    Args:
        image_size: (H, W) in pixels; None leaves the images out.
        pixels: how they are made, arguments ``fit``, ``steps`` and ``backend`` of
            :func:`fewshot_prod.catalog.images.image_array`.
        tokenizer: None leaves the titles out.
        mask: applied to every title first, see :func:`fewshot_prod.catalog.class_words.class_word_masker`. A title
            that it empties counts as missing; beside no image it becomes ``EMPTIED``.
        attributes: columns of the catalog with the values that are known, see :func:`attribute_values`; None leaves
            the attributes out.

    Raises:
        CatalogError: if the catalog lacks one of those columns.
    """
    images = has_image = tokens = lengths = None
    if image_size is not None:
        from fewshot_prod.catalog.images import image_array

        with warnings.catch_warnings():  # the cache is mapped read-only, and nothing here writes into it
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            images = torch.from_numpy(image_array(catalog, image_size, **(pixels or {})))
        has_image = torch.from_numpy(catalog.frame["image"].notna().to_numpy(bool))
    if tokenizer is not None:
        titles = catalog.titles
        if mask is not None:
            nothing = np.where(catalog.frame["image"].isna(), EMPTIED, "")  # a product with neither is refused
            titles = [title and (mask(title) or alone) for title, alone in zip(titles, nothing, strict=True)]
        tokens, lengths = tokenizer.encode(titles)
    numbers = None
    if attributes is not None:
        found = attribute_columns(catalog, list(attributes))
        known = [{value: i for i, value in enumerate(values, 1)} for values in attributes.values()]
        columns = [found[name].map(number).fillna(0) for name, number in zip(attributes, known, strict=True)]
        numbers = torch.tensor([column.tolist() for column in columns], dtype=torch.int64).T
    return ProductInputs(images, has_image, tokens, lengths, numbers)


def attribute_values(catalog: Catalog, columns: Sequence[str]) -> dict[str, list[str]]:
    """The values that products of ``catalog`` have in each of these columns, sorted; value i is number i + 1.

    Raises:
        CatalogError: if the catalog lacks one of them.
    """
    found = attribute_columns(catalog, columns)
    return {name: sorted(found[name].dropna().unique()) for name in columns}


def attribute_columns(catalog: Catalog, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of the catalog's frame; CatalogError if one is not there."""
    from fewshot_prod.catalog import CatalogError

    missing = [name for name in columns if name not in catalog.frame.columns]
    if missing:
        raise CatalogError(
            f"catalog {catalog.name!r} has no columns {missing}, which the encoder reads as attributes; it has "
            f"{list(catalog.frame.columns)}"
        )
    return catalog.frame[list(columns)]
