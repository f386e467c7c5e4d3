"""The full supervised system: what a classifier of all categories is trained and measured on, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score

from fewshot_prod.catalog import Catalog, CatalogError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PARTS = ("train", "validation", "test")
OWN_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def deal_products(catalog: Catalog, seed: int, *, validation: float = 0.1, test: float = 0.2) -> np.ndarray:
    """Which part each product belongs to: stratified by category, near-duplicates always in one part.

    Args:
        validation, test: shares of each category's groups of near-duplicates, rounded; of each category at least one
            group stays in train, also where its groups count for others.

    Returns:
        Text (N,), "train", "validation" or "test".

    Raises:
        ValueError: if the shares leave nothing to train on.
    """
    if not (min(validation, test) >= 0 and validation + test < 1):
        raise ValueError(f"validation={validation} and test={test} must be 0 or more and leave a share for train")
    _, first, group = np.unique(catalog.groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    category = pd.Series(catalog.category_ids[first[shuffled]])  # a group across categories counts for its first
    rank, size = category.groupby(category).cumcount(), category.groupby(category).transform("size")
    n_test = (size * test).round().clip(upper=size - 1)
    n_validation = (size * validation).round().clip(upper=size - 1 - n_test)
    part = np.empty(len(first), "<U10")
    part[shuffled] = np.select([rank < n_test, rank < n_test + n_validation], ["test", "validation"], "train")
    dealt = part[group]
    for own in (catalog.category_ids == c for c in range(len(catalog.categories))):
        if not (dealt[own] == "train").any():  # all its groups count for other categories, and were dealt away
            dealt[group == group[own][0]] = "train"
    return dealt


def own_parts(catalog: Catalog) -> np.ndarray | None:
    """The parts that the catalog's column "split" deals, text (N,); None where it has none.

    Raises:
        CatalogError: if it deals only some products, knows no train or test, or has each category in one part alone.
    """
    given = catalog.frame["split"]
    if given.isna().all():
        return None
    if given.nunique() > 1 and given.groupby(catalog.frame["category"]).nunique().max() == 1:  # Omniglot's alphabets
        raise CatalogError(
            f"the parts of catalog {catalog.name!r}, {' and '.join(sorted(given.dropna().unique()))}, share no "
            "category, and a classifier that is trained on one of them knows none of the others: choose another "
            "catalog, or one whose column 'split' puts products of each category into train and test"
        )
    part = given.map(OWN_PARTS)
    odd = given.fillna("no value")[part.isna()].unique().tolist()
    if odd or not {"train", "test"} <= set(part):
        found = odd[0] if odd else f"only {', '.join(sorted(set(part)))}"
        raise CatalogError(
            f"catalog {catalog.name!r} has a column 'split' with {found}: use train, val and test for every product, "
            "or leave the column out"
        )
    return part.to_numpy(str)


def classifier_parts(catalog: Catalog, seed: int, measured: str) -> tuple[np.ndarray, str]:
    """The part of each product, text (N,), and whose parts these are: the catalog's "own", or "stratified" ones.

    Raises:
        CatalogError: if no product is in the part ``measured``; and see :func:`own_parts`.
    """
    own = own_parts(catalog)
    part, split = (deal_products(catalog, seed), "stratified") if own is None else (own, "own")
    if not (part == measured).any():
        if own is not None:  # train and test it has
            why = "its column 'split' names none: write val there for some, or measure on test"
        else:
            least = {"validation": 6, "test": 3}[measured]  # whose share is rounded to one
            why = f"none of its categories has {least} groups of near-duplicates: add products, or a column 'split'"
        raise CatalogError(f"catalog {catalog.name!r} has no products for {measured}: {why}")
    return part, split


def classification_scores(logits: ArrayLike, truth: ArrayLike, parents: Sequence[str | None]) -> dict[str, float]:
    """Accuracy, top-5, and precision, recall and F1, by scikit-learn, each 0 to 1.

    Args:
        logits: (N, C).
        truth: int (N,), category numbers.
        parents: C names; None for a category without one.

    Returns:
        ``macro_...`` are plain means over the categories that have products here, ``weighted_...`` weight them by
        their products; ``parent_accuracy`` counts a guess in the right parent, NaN where a category has none.

    Example:
        >>> scores = classification_scores([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0]], [0, 2], ["a", "b", "b"])
        >>> scores["accuracy"], scores["parent_accuracy"], scores["top_5"]
        (0.5, 1.0, 1.0)
    """
    logits, truth = np.asarray(logits, np.float64), np.asarray(truth)
    guess, here = logits.argmax(1), np.unique(truth)
    everything = np.arange(logits.shape[1])
    top = top_k_accuracy_score(truth, logits, k=5, labels=everything) if len(everything) > 5 else 1.0
    scores = {"accuracy": accuracy_score(truth, guess), "top_5": top}
    for average in ("macro", "weighted"):
        found = precision_recall_fscore_support(truth, guess, labels=here, average=average, zero_division=0)
        scores |= {
            f"{average}_{name}": value for name, value in zip(("precision", "recall", "f1"), found, strict=False)
        }
    families = np.array([name or "" for name in parents])
    known = all(parents[c] for c in here)
    scores["parent_accuracy"] = accuracy_score(families[truth], families[guess]) if known else float("nan")
    return {name: float(value) for name, value in scores.items()}


def category_report(
    guess: ArrayLike, truth: ArrayLike, train: ArrayLike, names: Sequence[str], parents: Sequence[str | None]
) -> pd.DataFrame:
    """A row a category: its products, precision, recall, F1, and what it is most often taken for.

    Args:
        guess, truth: int (N,), category numbers of the products that are measured on.
        train: int (M,), those of the products that were trained on.
        names, parents: of the C categories.
    """
    guess, truth = np.asarray(guess), np.asarray(truth)
    everything = np.arange(len(names))
    precision, recall, f1, n = precision_recall_fscore_support(truth, guess, labels=everything, zero_division=0)
    wrong = pd.Series(guess[guess != truth]).groupby(truth[guess != truth])
    taken_for = wrong.agg(lambda guesses: names[guesses.value_counts(sort=False).sort_index().idxmax()])
    return pd.DataFrame(
        {
            "category": names,
            "parent": parents,
            "train_products": np.bincount(train, minlength=len(names)),
            "products": n,
            "precision": precision.round(4),
            "recall": recall.round(4),
            "f1": f1.round(4),
            "most_often_taken_for": taken_for.reindex(everything).to_numpy(object),
        }
    )
