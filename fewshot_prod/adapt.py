"""An encoder adapted to new categories by a few labelled products of each: what a program of one's own calls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.features import embed
from fewshot_prod.names import UnknownName
from fewshot_prod.pools import build_method
from fewshot_prod.prepare import Prepared, columns_read, has_mirror_images

METHODS = ("nearest_centroid", "partial_distance", "linear_probe", "finetune_head")  # inductive, on features alone


def categorise(
    prepared: Prepared, support: Catalog, items: Catalog, *, method: str = "linear_probe", base: Catalog | None = None
) -> pd.DataFrame:
    """The category of every item, its probability, and the runner-up; each item for itself, whatever the others are.

    Args:
        prepared: an encoder, as :func:`prepare_encoder` or :func:`load_encoder` gives it.
        support: a few labelled products of each category. An item gets one of these categories and no other.
        items: their categories are not looked at; see :func:`load_catalog` with ``labelled=False``.
        method: "nearest_centroid", "partial_distance", "linear_probe" or "finetune_head".
        base: products that the encoder was pretrained on: their mean is the centre of all features (CL2N). None: there
            is no centre (L2N). Of these, as of ``support``, what the encoder sees nothing of takes no part.

    Returns:
        A row for each item: ``product_id``, ``title``, ``category``, ``probability``, ``second_category`` and
        ``second_probability``; the last four are missing where the item has nothing that the encoder reads.

    Raises:
        CatalogError: if fewer than two categories of ``support`` have what the encoder reads, or no item has, or no
            product of ``base``.
        UnknownName: for another method.

    Example:
        >>> from fewshot_prod.catalog import load_catalog
        >>> from fewshot_prod.prepare import load_encoder
        >>> from fewshot_prod.splits import default_split
        >>> catalog = load_catalog("synthetic", products_per_category=8)
        >>> new = default_split(catalog).select(catalog, "novel")
        >>> support = new.take_groups(5)
        >>> items = new.take(~new.frame["product_id"].isin(support.frame["product_id"]).to_numpy())
        >>> encoder = load_encoder("data/checkpoints/synthetic_conv4_gru_prototypical")
        >>> found = categorise(encoder, support, items)
        >>> len(found), bool((found["category"] == items.frame["category"]).mean() > 0.5)
        (60, True)
    """
    if method not in METHODS:
        raise UnknownName("method to adapt by", method, METHODS)
    reads = columns_read(prepared.encoder)
    support = support.take(support.has(reads))
    base = base if base is None else base.take(base.has(reads))
    seen = np.flatnonzero(items.has(reads))
    if len(support.categories) < 2:
        names = list(support.categories)
        raise CatalogError(f"two categories are needed to choose between, usable in support are {names}")
    if not len(seen):
        raise CatalogError(f"the encoder reads only {' and '.join(reads)}, and no item has that")
    if base is not None and not len(base):  # the mean of nothing is no centre
        raise CatalogError(
            f"the encoder reads only {' and '.join(reads)}, and no product of base has that: leave base out"
        )

    def features(part: Catalog) -> torch.Tensor:
        options = {"flip": has_mirror_images(part), "precision": prepared.facts["precision"]}
        return embed(prepared.encoder, prepared.inputs(part), **options)

    pool = torch.cat([features(support), features(items.take(seen))])
    episode = EpisodeBatch(
        support=torch.arange(len(support))[None],
        support_labels=torch.tensor(support.category_ids)[None],
        query=torch.arange(len(support), len(pool))[None],
        query_labels=torch.zeros(1, len(seen), dtype=torch.int64),  # unknown
        n_way=len(support.categories),
    )
    # The items' own mean as the centre would make each prediction depend on the other items.
    center = None if base is None else features(base).mean(0)
    transform = "L2N" if base is None else "CL2N"
    adapted = build_method(method, prepared, lambda: center, transform=transform)
    best, order = (t.numpy() for t in adapted(pool, episode)[0].softmax(1).topk(2, dim=1))
    names = np.array(support.categories, dtype=object)
    found = pd.DataFrame(
        {
            "category": names[order[:, 0]],
            "probability": best[:, 0].round(4),
            "second_category": names[order[:, 1]],
            "second_probability": best[:, 1].round(4),
        },
        index=seen,
    )
    return items.frame[["product_id", "title"]].reset_index(drop=True).join(found)
