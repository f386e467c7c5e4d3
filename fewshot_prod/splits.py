"""Which categories encoders learn from (base), choices are made on (validation) and reports are on (novel)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.catalog.catalog import HELD_OUT
from fewshot_prod.catalog.omniglot import ROTATIONS, rotated_name
from fewshot_prod.names import first_few, unknown_name
from fewshot_prod.storage import write_whole

PARTS = ("base", "validation", "novel")
FOLDERS = (Path("data/splits"), Path(__file__).parents[1] / "data" / "splits")  # of the shipped ones
DEFAULT_SPLITS = {
    "synthetic": "synthetic_random",
    "fashion": "fashion_random",
    "grocery": "grocery_parent",
    "omniglot": "omniglot_vinyals",
}


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of categories of one catalog.

    Args:
        name: the file's name without ``.json``.
        catalog: the catalog's name.
        level: what a category is there, such as "articleType".
        rule: how the categories were dealt, in words.
        base, validation, novel: category names.
        holds_out_parents: whether no parent may have categories in two parts.
    """

    name: str
    catalog: str
    level: str
    rule: str
    base: tuple[str, ...]
    validation: tuple[str, ...]
    novel: tuple[str, ...]
    holds_out_parents: bool = False

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for part in PARTS:
            for name in getattr(self, part):
                if name in seen:
                    both = f"twice in {part}" if seen[name] == part else f"in both {seen[name]} and {part}"
                    raise ValueError(f"split {self.name!r}: the category {name!r} stands {both}; name it once")
                seen[name] = part
        if not self.base:
            raise ValueError(f"split {self.name!r} has no base categories")

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the three sets of names; order and wording of the rule do not matter."""
        parts = [sorted(getattr(self, part)) for part in PARTS]
        return hashlib.sha256(json.dumps([self.catalog, parts]).encode()).hexdigest()[:16]

    def select(self, catalog: Catalog, part: str) -> Catalog:
        """The products of the base, validation or novel categories; of base ones without what is held out.

        Raises:
            ValueError: if ``part`` is none of these.
            CatalogError: if the catalog lacks a category of the split, or parents are shared where it says that they
                are not.
        """
        if part not in PARTS:
            raise ValueError(f"part={part!r} is not one of {', '.join(PARTS)}")
        self.check_parents(catalog)
        chosen = catalog.take_categories(getattr(self, part))
        if part == "base" and HELD_OUT in chosen.frame:
            return chosen.take(~chosen.frame[HELD_OUT].to_numpy(bool))
        return chosen

    def check_names(self, catalog: Catalog) -> None:
        """Raise CatalogError if the split names a category that the catalog does not have."""
        known = set(catalog.categories)
        for part in PARTS:
            unknown = [name for name in getattr(self, part) if name not in known]
            if unknown:
                empty = sorted(set(unknown) & set(catalog.emptied))
                why = f" (all rows of {first_few(empty)} were left out)" if empty else ""
                raise CatalogError(
                    f"{len(unknown)} {part} categories of split {self.name!r} are not in catalog {catalog.name!r}: "
                    f"{first_few(unknown)}{why}; correct the split file, or make one with `fewshot-prod split`"
                )

    def check_parents(self, catalog: Catalog) -> None:
        """Raise CatalogError if the split holds out whole parents and the catalog shows one on two sides."""
        if not self.holds_out_parents:
            return
        parents = category_parents(catalog)
        side: dict[str, str] = {}
        for part in PARTS:
            for name in getattr(self, part):
                parent = parents.get(name)
                if parent is not None and side.setdefault(parent, part) != part:
                    raise CatalogError(
                        f"split {self.name!r} holds out whole parents, but {parent!r} has categories in both "
                        f"{side[parent]} and {part} (there {name!r}); deal it to one side"
                    )

    def near_duplicates(self, catalog: Catalog, part: str) -> tuple[np.ndarray, np.ndarray]:
        """The base products with near-duplicates in ``part``, and those near-duplicates: bool (N,) each."""
        base, other = (catalog.frame["category"].isin(getattr(self, side)).to_numpy() for side in ("base", part))
        shared = np.isin(catalog.groups, np.intersect1d(catalog.groups[base], catalog.groups[other]))
        return base & shared, other & shared

    def unnamed_categories(self, catalog: Catalog) -> tuple[str, ...]:
        """The catalog's categories that the split does not name: they take no part."""
        named = {name for part in PARTS for name in getattr(self, part)}
        return tuple(name for name in catalog.categories if name not in named)


def category_parents(catalog: Catalog) -> dict[str, str]:
    """Each category's parent, for the categories that have one; the loaders leave one a category."""
    known = catalog.frame[catalog.frame["parent"].notna()]
    return dict(zip(known["category"], known["parent"], strict=True))


def read_split(path_or_name: str | Path) -> Split:
    """Read a split file, or one of ``data/splits/`` by its name.

    Raises:
        CatalogError: if there is no such file, or it is not a split.
    """
    path = _split_path(path_or_name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for part in PARTS:
            if not isinstance(content[part], list):
                raise ValueError(f"{part} is {content[part]!r}: give a list of category names")
        parts = {part: tuple(content[part]) for part in PARTS}
        words = {key: content[key] for key in ("catalog", "level", "rule")}
        if not all(isinstance(name, str) for names in (*parts.values(), words.values()) for name in names):
            raise ValueError("a name in it is not text")
        whole = content.get("holds_out_parents", False)
        if not isinstance(whole, bool):
            raise ValueError(f"holds_out_parents is {whole!r}: give true or false")
        return Split(path.stem, **words, **parts, holds_out_parents=whole)
    except KeyError as error:
        raise CatalogError(f"{path}: a split needs the key {error}; see data/splits/ for examples") from None
    except (OSError, ValueError, TypeError) as error:
        raise CatalogError(f"{path} cannot be read as a split: {error}") from None


def _split_path(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    if path.suffix == ".json":
        return path
    for folder in FOLDERS:
        if (folder / f"{path_or_name}.json").is_file():
            return folder / f"{path_or_name}.json"
    names = sorted({file.stem for folder in FOLDERS for file in folder.glob("*.json")})
    if not names:
        raise CatalogError(
            f"split {path_or_name!r}: data/splits/ is not here; it comes with the repository, not with the installed "
            "package: run this in a clone, or give the path of a split file (`fewshot-prod split` writes one)"
        )
    raise CatalogError(f"{unknown_name('split', str(path_or_name), names)} in data/splits/; or give a .json path")


def refuse_shipped_name(split: Split) -> None:
    """Raise CatalogError if a split of ``data/splits/`` has this one's name and other categories.

    Results and encoders are kept by the split's name, so that those of the two would take each other's place.
    """
    shipped = any((folder / f"{split.name}.json").is_file() for folder in FOLDERS)
    if shipped and read_split(split.name).fingerprint != split.fingerprint:
        raise CatalogError(
            f"split {split.name!r} has other categories than the one of that name in data/splits/, whose results and "
            "encoders it would replace: give the file another name"
        )


def default_split(catalog: Catalog) -> Split:
    """The split that stands for a catalog in the tables; for a catalog of one's own a random one.

    A fifth of the categories is novel, but at least five, for 5-way episodes, or half of them where they are fewer than
    ten; :func:`validation_size` says how many choose among epochs.

    Raises:
        CatalogError: if the catalog has too few categories to hold some out.
    """
    if catalog.name in DEFAULT_SPLITS:
        split = read_split(DEFAULT_SPLITS[catalog.name])
        if catalog.name == "synthetic" and not set(split.novel) & set(catalog.categories):
            return in_chinese(split)
        return split
    sizes = sorted(category_groups(catalog).values())
    # Ten products let an episode have a few shots and queries; a catalog with smaller categories takes what it has.
    least = min(10, sizes[len(sizes) // 2])
    n = sum(size >= least for size in sizes)
    n_novel = max(n // 5, min(5, n // 2))
    if not n_novel:
        raise CatalogError(
            f"{n} of the {len(sizes)} categories of catalog {catalog.name!r} has {least} different products or more: "
            "two must, one to learn from and one to hold out as new"
        )
    return random_split(catalog, 0, n_novel=n_novel, n_validation=validation_size(n), min_groups=least)


def in_chinese(split: Split) -> Split:
    """A split of the synthetic catalog's categories, by their Chinese names.

    Example:
        >>> in_chinese(read_split("synthetic_random")).novel[0].isascii()
        False
    """
    from fewshot_prod.catalog.synthetic_categories import CATEGORIES

    names = {category.name: category.name_zh for category in CATEGORIES}
    return replace(split, **{part: tuple(names[name] for name in getattr(split, part)) for part in PARTS})


def pretraining_split(catalog: Catalog, seed: int) -> Split:
    """Nothing held out as novel: all categories of at least two different products are base, but some validation.

    Raises:
        CatalogError: if there are fewer than two such categories.
    """
    usable = sum(size >= 2 for size in category_groups(catalog).values())
    if usable < 2:
        raise CatalogError(
            f"{usable} of the {len(catalog.categories)} categories of catalog {catalog.name!r} to pretrain on have two "
            "different products: at least two categories must"
        )
    return random_split(catalog, seed, n_novel=0, n_validation=validation_size(usable), min_groups=2)


def validation_size(n_categories: int) -> int:
    """How many of a user's categories choose among epochs: an eighth, or none where that is one, which cannot choose.

    Example:
        >>> [validation_size(n) for n in (15, 16, 80)]
        [0, 2, 10]
    """
    return n_categories // 8 if n_categories >= 16 else 0


def with_rotations(split: Split) -> Split:
    """An Omniglot split with each character's rotations as further classes on the character's own side.

    Vinyals et al. 2016 and Snell et al. 2017 do so in training and in evaluation alike.

    Example:
        >>> split = Split("s", "omniglot", "character", "by hand", ("Greek/character01",), (), ("Greek/character02",))
        >>> with_rotations(split).novel[:2]
        ('Greek/character02', 'Greek/character02/rot090')
    """

    def turned(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(turn for name in names for turn in (name, *(rotated_name(name, d) for d in ROTATIONS)))

    return replace(split, **{part: turned(getattr(split, part)) for part in PARTS})


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, in the form of the files in ``data/splits/``; the file appears whole or not at all."""
    content = {key: value for key, value in asdict(split).items() if key != "name"}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def random_split(catalog: Catalog, seed: int, n_novel: int, n_validation: int, min_groups: int = 25) -> Split:
    """Shuffle the categories of at least ``min_groups`` near-duplicate groups once, and cut.

    Raises:
        CatalogError: if no base category would be left, or a number is negative.
    """
    names = _shuffled(_large_enough(catalog, min_groups, n_novel, n_validation), seed)
    rule = f"categories with at least {min_groups} groups; shuffled once with seed {seed} and cut"
    return _cut(f"{catalog.name}_random", catalog, rule, names, n_novel, n_validation)


def tail_split(catalog: Catalog, seed: int, n_novel: int, n_validation: int, min_groups: int = 25) -> Split:
    """The smallest categories (in groups) are novel, the next validation, the largest base.

    ``seed`` orders categories of equal size.

    Raises:
        CatalogError: if no base category would be left, or a number is negative.
    """
    sizes = category_groups(catalog)
    names = sorted(_shuffled(_large_enough(catalog, min_groups, n_novel, n_validation), seed), key=sizes.__getitem__)
    rule = f"categories with at least {min_groups} groups ordered by groups (ties by seed {seed}): rarest novel, "
    return _cut(f"{catalog.name}_tail", catalog, rule + "next validation, rest base", names, n_novel, n_validation)


def parent_split(catalog: Catalog, seed: int, n_novel: int, n_validation: int, min_groups: int = 25) -> Split:
    """Deal whole parents, shuffled once: to novel as long as they fit there, then to validation, the rest to base.

    A parent that would exceed ``n_novel`` or ``n_validation`` goes on to the next part, so that novel and validation
    may stay smaller than asked. A category without a parent counts as its own.

    Raises:
        CatalogError: if a part would be empty, or a number is negative.
    """
    parents = category_parents(catalog)
    families: dict[str, list[str]] = {}
    for name in _large_enough(catalog, min_groups, n_novel, n_validation):
        families.setdefault(parents.get(name, name), []).append(name)
    room = {"novel": n_novel, "validation": n_validation, "base": len(catalog.categories)}
    parts: dict[str, list[str]] = {part: [] for part in room}
    for family in _shuffled(sorted(families), seed):
        part = next(p for p in room if len(parts[p]) + len(families[family]) <= room[p])
        parts[part] += families[family]
    empty = [part for part in room if not parts[part] and room[part]]
    if empty:
        raise CatalogError(
            f"{len(families)} parents leave no categories for {empty}: ask for other sizes or another seed"
        )
    rule = f"parents of categories with at least {min_groups} groups, shuffled once with seed {seed} and dealt whole"
    names = {part: tuple(sorted(dealt)) for part, dealt in parts.items()}
    return Split(f"{catalog.name}_parent", catalog.name, "category", rule, **names, holds_out_parents=True)


def category_groups(catalog: Catalog) -> dict[str, int]:
    """How many near-duplicate groups each category has: what an episode can draw from."""
    return catalog.frame.groupby("category")["group"].nunique().to_dict()


def _large_enough(catalog: Catalog, min_groups: int, n_novel: int, n_validation: int) -> list[str]:
    if min(n_novel, n_validation) < 0:
        raise CatalogError(f"{n_novel} novel and {n_validation} validation categories: give 0 or more of each")
    held_out = n_novel + n_validation
    names = [name for name, groups in category_groups(catalog).items() if groups >= min_groups]
    if len(names) <= held_out:
        raise CatalogError(
            f"{len(names)} of {len(catalog.categories)} categories have at least {min_groups} groups, too few to hold "
            f"out {held_out} and leave some as base: lower min_groups, n_novel or n_validation (--min-groups, --novel, "
            "--validation)"
        )
    return sorted(names)


def _shuffled(names: list[str], seed: int) -> list[str]:
    if seed < 0:
        raise CatalogError(f"seed {seed}: give 0 or more")
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def _cut(name: str, catalog: Catalog, rule: str, names: list[str], n_novel: int, n_validation: int) -> Split:
    held_out = n_novel + n_validation
    novel, validation, base = names[:n_novel], names[n_novel:held_out], names[held_out:]
    parts = {"base": base, "validation": validation, "novel": novel}
    return Split(name, catalog.name, "category", rule, **{part: tuple(sorted(n)) for part, n in parts.items()})
