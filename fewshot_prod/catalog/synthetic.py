"""The embedded default catalog: drawn products with titles, the same for the same seed on any machine."""

from __future__ import annotations

import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from fewshot_prod.catalog import synthetic_categories, synthetic_dice, synthetic_images, synthetic_photos
from fewshot_prod.catalog.catalog import Catalog, CatalogError
from fewshot_prod.catalog.decoding import pixel_digest
from fewshot_prod.catalog.groups import near_duplicate_groups
from fewshot_prod.catalog.synthetic_categories import CATEGORIES, DEPARTMENTS, PARENTS, Category
from fewshot_prod.catalog.synthetic_dice import Dice
from fewshot_prod.catalog.synthetic_images import DOMAINS, draw_look
from fewshot_prod.catalog.synthetic_photos import take_photo
from fewshot_prod.catalog.synthetic_titles import LANGUAGES, write_title
from fewshot_prod.storage import cache_folder, write_whole

DRAWING = (synthetic_categories, synthetic_dice, synthetic_images, synthetic_photos)  # what pixels follow from
SMALLEST_CLASS = 5  # products in the last category of a long tail
_PARENTS = {parent.name: parent for parent in PARENTS}


class _Listing(NamedTuple):
    """A product for sale. Re-listed products refer to the number of the product that they copy."""

    category: Category
    number: int  # within the category
    product: int  # number of the product shown: proportions, colours, pattern
    photo: int  # number of the product whose photo it has
    title: int  # number of the product whose title it has


def load_synthetic(
    *,
    seed: int = 0,
    products_per_category: int = 40,
    image_size: int = 64,
    language: str = "en",
    long_tail: float = 0.0,
    label_noise: float = 0.0,
    missing_images: float = 0.0,
    missing_titles: float = 0.0,
    near_duplicates: float = 0.0,
    domain: str = "catalog",
    difficulty: float = 0.5,
) -> Catalog:
    """Draw a catalog of 84 categories in 17 parents and 4 departments.

    Categories share shapes, parts, colours, patterns and backgrounds; only the combination of parts tells them
    apart. Product j of a category depends on (seed, category, j) alone, so each option changes only what it names.
    Photos are drawn once and kept in :func:`cache_folder`.

    Args:
        seed: >= 0; another seed is another shop.
        products_per_category: products in a category, or in the largest one where there is a long tail.
        image_size: side of the images in pixels, 16 to 256.
        language: "en" or "zh", of titles and of the names of categories, parents and departments.
        long_tail: exponent t >= 0 of the class sizes, ``products_per_category * rank ** -t`` but at least 5; 0: equal.
        label_noise: share of products whose category was swapped with that of a product of another category. The
            column ``true_category`` keeps the right one.
        missing_images: share of products without image.
        missing_titles: share of products without title; never one without image.
        near_duplicates: share of products that are re-listings of another one of their category: the same photo, the
            same title or both. They share its ``group``.
        domain: "catalog" (studio photos) or "phone" (the same products in dim light, tilted, among other things).
        difficulty: 0 to 1, scales the variation of proportions, pose, background and clutter.

    Returns:
        Catalog "synthetic" with the further columns ``department``, ``true_category``, ``domain``, ``pixel_digest``.

    Raises:
        CatalogError: if an option is out of its range.

    Example:
        >>> catalog = load_synthetic(products_per_category=1, image_size=16)
        >>> len(catalog), len(catalog.categories), catalog.pixels.shape, catalog[0].category
        (84, 84, (84, 16, 16, 3), 'mug')
    """
    _check(locals())
    listings = _relisted(_products(seed, products_per_category, long_tail), near_duplicates, seed)
    n = len(listings)
    order = Dice(seed, 3).order(n)
    no_image = set(order[: round(missing_images * n)])
    no_title = set(order[len(no_image) : len(no_image) + round(missing_titles * n)])

    titles = [None if i in no_title else _title(seed, listing, language) for i, listing in enumerate(listings)]
    shown = [i for i in range(n) if i not in no_image]
    pixels = _kept_photos(seed, [listings[i] for i in shown], domain, image_size, difficulty)
    images, digests = [None] * n, [None] * n
    for row, i in enumerate(shown):
        images[i], digests[i] = row, pixel_digest(Image.fromarray(pixels[row]))

    labels = _swapped([listing.category for listing in listings], label_noise, seed)
    english = language == "en"
    names = [label.name if english else label.name_zh for label in labels]
    parents = [_PARENTS[label.parent] for label in labels]
    prefix = "" if domain == "catalog" else f"{domain}-"
    frame = pd.DataFrame(
        {
            "product_id": [f"{prefix}{c.name.replace(' ', '-')}-{number:04d}" for c, number, *_ in listings],
            "category": names,
            "parent": [parent.name if english else parent.name_zh for parent in parents],
            "title": titles,
            "image": images,
            "group": 0,
            "split": None,
            "department": [p.department if english else DEPARTMENTS[p.department] for p in parents],
            "true_category": [x.category.name if english else x.category.name_zh for x in listings],
            "domain": domain,
            "pixel_digest": digests,
        },
        dtype=object,
    )
    frame["group"] = near_duplicate_groups(names, titles, digests)
    return Catalog("synthetic", frame, pixels=pixels, rows_read=n)


def _check(options: dict[str, object]) -> None:
    limits = {
        "seed": (0, None),
        "products_per_category": (1, 10_000),
        "image_size": (16, 256),
        "long_tail": (0, None),
        "label_noise": (0, 1),
        "missing_images": (0, 1),
        "missing_titles": (0, 1),
        "near_duplicates": (0, 1),
        "difficulty": (0, 1),
    }
    for name, (low, high) in limits.items():
        if not low <= options[name] or (high is not None and options[name] > high):
            most = "" if high is None else f" and at most {high}"
            raise CatalogError(f"{name} = {options[name]} of the synthetic catalog must be at least {low}{most}")
    for name, allowed in (("language", LANGUAGES), ("domain", tuple(DOMAINS))):
        if options[name] not in allowed:
            raise CatalogError(f"{name} = {options[name]!r} of the synthetic catalog must be one of {allowed}")
    if options["missing_images"] + options["missing_titles"] > 1:
        raise CatalogError("missing_images + missing_titles is above 1, but a product keeps its image or its title")


def _key(category: Category) -> int:
    """A number that stays when other categories come and go."""
    return zlib.crc32(category.name.encode())


def _products(seed: int, most: int, long_tail: float) -> list[_Listing]:
    ranks = Dice(seed, 4).order(len(CATEGORIES))
    listings = []
    for category, rank in zip(CATEGORIES, ranks, strict=True):
        size = max(min(SMALLEST_CLASS, most), int(most * (rank + 1) ** -long_tail + 1e-9))
        listings += [_Listing(category, j, j, j, j) for j in range(size)]
    return listings


def _relisted(listings: list[_Listing], rate: float, seed: int) -> list[_Listing]:
    """Turn a share of the products into copies of others of their category, the first of which stays as it is."""
    dice = Dice(seed, 5)
    order = [i for i in dice.order(len(listings)) if listings[i].number > 0]
    chosen = set(order[: round(rate * len(listings))])
    originals: dict[Category, list[int]] = {}
    for i, listing in enumerate(listings):
        if i not in chosen:
            originals.setdefault(listing.category, []).append(listing.number)
    relisted = list(listings)
    for i in sorted(chosen):
        category, number, *_ = listings[i]
        source = dice.pick(originals[category])
        photo, title = dice.pick(((source, number), (number, source), (source, source)))
        relisted[i] = _Listing(category, number, source, photo, title)
    return relisted


def _title(seed: int, listing: _Listing, language: str) -> str:
    category = listing.category
    look = draw_look(Dice(seed, _key(category), listing.product, 0))
    dice = Dice(seed, _key(category), listing.title, 2)
    return write_title(category, _PARENTS[category.parent], look, language, dice)


def _kept_photos(seed: int, listings: list[_Listing], domain: str, size: int, difficulty: float) -> np.ndarray:
    """:func:`_photos`, drawn once for each choice of arguments and each state of the code that draws."""
    code = b"".join(Path(module.__file__).read_bytes() for module in DRAWING)
    products = [(_key(listing.category), listing.product, listing.photo) for listing in listings]
    made_of = sha256(code + repr((seed, products, domain, size, difficulty)).encode()).hexdigest()[:20]
    kept = cache_folder() / "images" / f"synthetic-{size}x{size}-{made_of}.npy"
    with suppress(OSError, ValueError, EOFError):  # absent, or damaged
        pixels = np.load(kept)
        if pixels.dtype == np.uint8 and pixels.shape == (len(listings), size, size, 3):
            return pixels
    pixels = _photos(seed, listings, domain, size, difficulty)

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, pixels)

    with suppress(OSError):  # a folder that cannot be written to, or a full disk, costs time alone
        write_whole(kept, save)
    return pixels


def _photos(seed: int, listings: list[_Listing], domain: str, size: int, difficulty: float) -> np.ndarray:
    """uint8 (n, size, size, 3); a photo that several products share is drawn once."""
    pixels = np.empty((len(listings), size, size, 3), np.uint8)
    drawn: dict[tuple[int, int, int], int] = {}
    for row, listing in enumerate(listings):
        key = (_key(listing.category), listing.product, listing.photo)
        if key in drawn:
            pixels[row] = pixels[drawn[key]]
            continue
        drawn[key] = row
        product = Dice(seed, key[0], listing.product, 0)
        photo = Dice(seed, key[0], listing.photo, 1, tuple(DOMAINS).index(domain))
        look = draw_look(product)
        pixels[row] = take_photo(
            listing.category.parts,
            look,
            domain=domain,
            size=size,
            difficulty=difficulty,
            product=product,
            photo=photo,
        )
    return pixels


def _swapped(categories: list[Category], rate: float, seed: int) -> list[Category]:
    """Swap the categories of pairs of products until a share ``rate`` of all products has a wrong one."""
    labels, waiting, wrong = list(categories), [], 0
    for i in Dice(seed, 6).order(len(categories)):
        if wrong + 2 > round(rate * len(categories)):
            break
        partner = next((j for j in waiting if categories[j] is not categories[i]), None)
        if partner is None:
            waiting.append(i)
        else:
            waiting.remove(partner)
            labels[i], labels[partner] = categories[partner], categories[i]
            wrong += 2
    return labels
