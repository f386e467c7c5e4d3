"""The columns of a table: how many classes, shots and queries an episode has, and the sampler that draws it."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_prod.base_novel import BASE_NOVEL, CALIBRATION_QUERIES, BaseNovelSampler
from fewshot_prod.catalog import Catalog
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.missing import Missing
from fewshot_prod.splits import Split


@dataclass(frozen=True)
class Setting:
    """Columns of a table: what an episode is.

    Args:
        n_way: classes, or "all" novel ones at once, or "base+novel": these and all base classes.
        n_shot: labelled products a class.
        n_query: queries a class.
        query_distribution: see :class:`EpisodeSampler`.
        domain: the values of the catalog's column "split" that support and query come from, such as
            ("train", "test"); None: from everywhere.
        missing: which titles or images are not there; None: all are.
        base_shots: labelled products a base class, where these take part.
        calibrated: lower base logits by what does best on the validation classes, see :class:`CalibratedStacking`.

    Raises:
        ValueError: for "base+novel" with a domain, missing parts or imbalanced queries, and ``calibrated`` without it.
    """

    n_way: int | str
    n_shot: int
    n_query: int = 15
    query_distribution: str = "balanced"
    domain: tuple[str, str] | None = None
    missing: Missing | None = None
    base_shots: int = 20
    calibrated: bool = False

    def __post_init__(self) -> None:
        plain = self.query_distribution == "balanced" and not self.domain and not self.missing
        if self.n_way == BASE_NOVEL and not plain:
            raise ValueError(f"n_way={BASE_NOVEL!r} has balanced queries of complete products from everywhere: {self}")
        if self.calibrated and self.n_way != BASE_NOVEL:
            raise ValueError(f"calibrated=True lowers logits of base classes: it needs n_way={BASE_NOVEL!r}")

    def __str__(self) -> str:
        way = self.n_way if self.n_way == BASE_NOVEL else "all-way" if self.n_way == "all" else f"{self.n_way}-way"
        imbalanced = "" if self.query_distribution == "balanced" else " imbalanced"
        name = f"{way} {self.n_shot}-shot{imbalanced}" + (f" {self.domain_name}" if self.domain else "")
        name += " calibrated" if self.calibrated else ""
        return name + (f", {100 * self.missing.rate:g} % of {self.missing} missing" if self.missing else "")

    @property
    def domain_name(self) -> str | None:
        """How records and tables call the domain."""
        return " to ".join(self.domain) if self.domain else None


def episode_products(catalog: Catalog, split: Split, part: str = "novel", *, with_base: bool = False) -> Catalog:
    """The products whose rows episodes speak of: one part of the split, and all base ones where these take part."""
    if with_base:  # held out or not
        return catalog.take_categories((*split.base, *getattr(split, part)))
    return split.select(catalog, part)


def episode_sampler(
    catalog: Catalog, split: Split, setting: Setting, seed: int, part: str = "novel"
) -> EpisodeSampler | BaseNovelSampler:
    """Episodes over the :func:`episode_products`.

    Raises:
        ValueError: if the split has too few classes in that part, and as :class:`EpisodeSampler` does.
    """
    classes, needed = len(getattr(split, part)), 2 if isinstance(setting.n_way, str) else setting.n_way
    if classes < needed:
        raise ValueError(
            f"{needed}-way episodes need as many {part} classes, and split {split.name!r} has {classes}: hold out more "
            "with `fewshot-prod split` and name its file with --split"
        )
    products = episode_products(catalog, split, part, with_base=setting.n_way == BASE_NOVEL)
    if setting.n_way == BASE_NOVEL:
        sizes = {"base_shots": setting.base_shots, "n_shot": setting.n_shot, "n_query": setting.n_query}
        return BaseNovelSampler.over(products, split, **sizes, seed=seed)
    rows = [(products.frame["split"] == name).to_numpy() for name in setting.domain or ()]
    return EpisodeSampler(
        products.category_ids,
        products.groups,
        n_way=setting.n_way,
        n_shot=setting.n_shot,
        n_query=setting.n_query,
        seed=seed,
        query_distribution=setting.query_distribution,
        **dict(zip(("support_rows", "query_rows"), rows, strict=False)),
    )


def calibration_sampler(catalog: Catalog, split: Split, setting: Setting, seed: int) -> BaseNovelSampler:
    """Episodes to choose a penalty on: validation classes beside the base ones, which nothing is scored on."""
    products = episode_products(catalog, split, "validation", with_base=True)
    sizes = {"base_shots": setting.base_shots, "n_shot": setting.n_shot, "n_query": CALIBRATION_QUERIES}
    return BaseNovelSampler.over(products, split, **sizes, seed=seed, calibrating=True)
