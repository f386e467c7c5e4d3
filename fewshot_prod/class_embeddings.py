"""What categories are called, or how they are described, as vectors: what AM3 mixes into prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.catalog.grocery import class_descriptions
from fewshot_prod.encoders.product import ProductEncoder

TEXTS = ("names", "descriptions")


def class_texts(catalog: Catalog, texts: str = "names") -> list[str]:
    """A text a category, in the order of ``catalog.categories``.

    Args:
        texts: one of ``TEXTS``; a description comes with the name.

    Raises:
        CatalogError: for the descriptions of another catalog than grocery.

    Example:
        >>> from fewshot_prod.catalog import load_catalog
        >>> class_texts(load_catalog("synthetic", products_per_category=2))[:2]
        ['armchair', 'axe']
    """
    if texts not in TEXTS:
        raise ValueError(f"texts is {texts!r}; choose one of {TEXTS}")
    if texts == "names":
        return list(catalog.categories)
    if catalog.name != "grocery":
        raise CatalogError(f"catalog {catalog.name!r} has no descriptions of its categories: use their names")
    described = class_descriptions(catalog.root)
    return [f"{name} {described[name].description}" for name in catalog.categories]


def class_embeddings(encoder: ProductEncoder, texts: Sequence[str], base_texts: Sequence[str]) -> Tensor:
    """float32 (len(texts), D_e) on the CPU: by the encoder's title part, else as a bag of character n-grams.

    Args:
        base_texts: of the base classes, which the bag's n-grams and their weights are taken from (TF-IDF, of 2 to 4
            characters of a word, which serve any script).
    """
    if encoder.title is None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        bag = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit(base_texts)
        return torch.from_numpy(bag.transform(texts).toarray()).float()
    device = next(encoder.parameters()).device
    tokens, lengths = (t.to(device) for t in encoder.tokenizer.encode(texts))
    was_training = encoder.title.training
    with torch.no_grad():
        read = encoder.title.eval()(tokens, lengths).float().cpu()
    encoder.title.train(was_training)
    return read
