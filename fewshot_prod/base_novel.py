"""Base and novel categories together, as a shop has them: each product may belong to a new one or to a well-filled one.

Generalised few-shot classification: Hariharan & Girshick 2017 (arXiv 1606.02819), Gidaris & Komodakis 2018 (arXiv
1804.09458). Accuracies on both sides are summed up by their harmonic mean (Xian et al. 2017, arXiv 1707.00600,
section 3.3), which is low where either side is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.catalog.catalog import HELD_OUT
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.evaluation import Method, harmonic_mean
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.splits import Split

BASE_NOVEL = "base+novel"
HELD_OUT_SHARE = 0.2  # of the groups of each base category
CALIBRATION_SHARE = 0.4  # of what is held out: calibrated on, and never scored
CALIBRATION_QUERIES = 2  # a category


def hold_out_base(catalog: Catalog, split: Split, least: int, seed: int = 0) -> Catalog:
    """The catalog with some products of each base category marked to be queried, which no encoder is trained on.

    Whole groups of near-duplicates are marked, drawn at random: a fifth of a category's, and at least ``least``.

    Returns:
        The catalog with a further column "held_out", bool; :meth:`Split.select` leaves these products out of "base".

    Example:
        >>> from fewshot_prod.catalog import load_catalog
        >>> from fewshot_prod.splits import default_split
        >>> catalog = load_catalog("synthetic", products_per_category=10)
        >>> split = default_split(catalog)
        >>> marked = hold_out_base(catalog, split, least=3)
        >>> len(split.select(catalog, "base")) - len(split.select(marked, "base")) == 3 * len(split.base)
        True
    """
    base = catalog.frame["category"].isin(split.base).to_numpy()
    held_out = _some_groups(catalog, base, HELD_OUT_SHARE, least, seed)
    return replace(catalog, frame=catalog.frame.assign(**{HELD_OUT: held_out}))


def _some_groups(catalog: Catalog, rows: np.ndarray, share: float, least: int, seed: int) -> np.ndarray:
    """bool (N,): of ``rows`` those in groups drawn from each category, a share of its groups and at least so many."""
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    category = catalog.frame["category"].to_numpy()
    for name in sorted(set(category[rows])):
        groups = np.unique(catalog.groups[rows & (category == name)])
        chosen.update(rng.permutation(groups)[: max(least, round(share * len(groups)))].tolist())
    return rows & np.isin(catalog.groups, sorted(chosen))


@dataclass(frozen=True)
class BaseNovelSampler:
    """Episodes of all base and all novel categories at once: base ones have the first labels.

    Args:
        base, novel: samplers over the rows of one pool.
    """

    base: EpisodeSampler
    novel: EpisodeSampler

    @classmethod
    def over(
        cls,
        products: Catalog,
        split: Split,
        *,
        base_shots: int,
        n_shot: int,
        n_query: int,
        seed: int,
        calibrating: bool = False,
    ) -> BaseNovelSampler:
        """Over the rows of ``products``, those of base categories and of novel (or validation) ones.

        Base queries are products that were held out from training, base supports are not. Base products whose
        near-duplicates stand in another part take no part.

        Args:
            base_shots, n_shot: support products a base category and a novel one.
            n_query: queries a category, of either kind.
            calibrating: query the part of the held-out products that is calibrated on, not the part that is scored.

        Raises:
            CatalogError: if no base products were held out.
            ValueError: as :class:`EpisodeSampler` does.
        """
        if HELD_OUT not in products.frame:
            raise CatalogError("no base products were held out from training: hold_out_base does so")
        base = products.frame["category"].isin(split.base).to_numpy()
        apart = base & ~np.isin(products.groups, products.groups[~base])
        held_out = products.frame[HELD_OUT].to_numpy(bool)
        calibrated_on = _some_groups(products, held_out, CALIBRATION_SHARE, CALIBRATION_QUERIES, seed=0)
        queried = calibrated_on if calibrating else held_out & ~calibrated_on
        rows = {"support_rows": apart & ~held_out, "query_rows": apart & queried}
        rest = {"n_way": "all", "n_query": n_query, "seed": seed}
        ids, groups = products.category_ids, products.groups
        novel_side = EpisodeSampler(ids, groups, n_shot=n_shot, **rest, support_rows=~base, query_rows=~base)
        try:
            base_side = EpisodeSampler(ids, groups, n_shot=base_shots, **rest, **rows)
        except ValueError as error:
            raise ValueError(f"of the base classes, whose n_shot is base_shots={base_shots}: {error}") from error
        return cls(base_side, novel_side)

    @property
    def skipped(self) -> dict[int, int]:
        """Category id -> number of groups, of those that are too small."""
        # to either sampler the other one's categories have no product
        return {c: n for side in (self.base, self.novel) for c, n in side.skipped.items() if n}

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        """Episodes ``start`` to ``stop - 1``, see :meth:`EpisodeSampler.sample`."""
        base, novel = self.base.sample(start, stop), self.novel.sample(start, stop)

        def joined(name: str, shift: int = 0) -> Tensor:
            return torch.cat([getattr(base, name), getattr(novel, name) + shift], 1)

        return EpisodeBatch(
            joined("support"),
            joined("support_labels", base.n_way),
            joined("query"),
            joined("query_labels", base.n_way),
            base.n_way + novel.n_way,
            joined("classes"),
            n_base=base.n_way,
        )


@dataclass(frozen=True)
class CalibratedStacking:
    """A method whose logits of base classes are lowered: few shots make novel classes lose against well-filled ones.

    Chao, Changpinyo, Gong, Sha 2016, "An empirical study and analysis of generalized zero-shot learning for object
    recognition in the wild" (arXiv 1605.04253), equation 2.

    Args:
        method: any that scores more classes than the base ones.
        penalty: what base logits lose, from :func:`base_penalty`.
    """

    method: Method
    penalty: float

    @property
    def needs(self) -> str:
        return self.method.needs

    @property
    def transductive(self) -> bool:
        return self.method.transductive

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way)."""
        logits = self.method(pool, episodes).clone()
        logits[..., : episodes.n_base] -= self.penalty
        return logits


@torch.no_grad()
def base_penalty(
    method: Method, pool: Tensor | ProductInputs, sampler: BaseNovelSampler, n_episodes: int = 100
) -> float:
    """The penalty on base logits with the best harmonic mean of both sides' accuracies over ``n_episodes`` episodes.

    Exact: between two neighbouring margins (highest base logit less highest novel one) all penalties predict alike.

    Args:
        pool: what the method needs; validation classes in the place of novel ones, so that none of these is seen.
    """
    margins, right, novel = [], [], []
    for start in range(0, n_episodes, 10):
        episodes = sampler.sample(start, min(start + 10, n_episodes))
        episodes = episodes.to(pool.device) if isinstance(pool, Tensor) else episodes
        logits, labels, n = method(pool, episodes), episodes.query_labels, episodes.n_base
        (high_base, base), (high_novel, new) = logits[..., :n].max(2), logits[..., n:].max(2)
        margins.append((high_base - high_novel).flatten())
        novel.append((labels >= n).flatten())
        right.append(torch.where(labels >= n, new + n == labels, base == labels).flatten())
    order = torch.cat(margins).argsort()
    margin, hit, is_novel = (torch.cat(part)[order].double() for part in (margins, right, novel))
    zero = margin.new_zeros(1)
    # predicted as novel: the i queries of the lowest margins, for i = 0 .. all
    novel_hits = torch.cat([zero, (hit * is_novel).cumsum(0)])
    base_hits = torch.cat([zero, (hit * (1 - is_novel)).cumsum(0)])
    sides = (base_hits[-1] - base_hits) / (1 - is_novel).sum(), novel_hits / is_novel.sum()
    edges = torch.cat([margin[:1] - 1, (margin[1:] + margin[:-1]) / 2, margin[-1:] + 1])
    apart = torch.cat([zero == 0, margin[1:] > margin[:-1], zero == 0])  # no penalty tells equal margins apart
    return float(edges[harmonic_mean(*sides).where(apart, -1).argmax()])
