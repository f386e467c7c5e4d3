"""An encoder by its recipe: trained now, or read from where it was kept.

A recipe may start from another one's weights. Trained encoders are kept under
``<runs>/<catalog>/<split>/<recipe>/seed<n>/`` and reused when everything that they depend on is unchanged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.catalog.class_words import class_word_masker
from fewshot_prod.catalog.titles import TitleTokenizer
from fewshot_prod.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from fewshot_prod.devices import choose_precision, launch_fabric
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.encoders.title import PRETRAINED
from fewshot_prod.encoders.title.huggingface import files_hash
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.features import with_image_features
from fewshot_prod.halfway import halfway
from fewshot_prod.inputs import ProductInputs, attribute_columns, attribute_values, catalog_inputs
from fewshot_prod.names import UnknownName
from fewshot_prod.pretrain import pretrain
from fewshot_prod.recipes import IMAGE_SIZES, RECIPES, Recipe
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.splits import Split
from fewshot_prod.training import seed_step

# What is known of an encoder's training beside its settings, and what that is before any
UNTRAINED: dict[str, Any] = {
    "seen": None,
    "precision": "32-true",
    "head": {},
    "history": [],
    "train_seconds": 0.0,
    "images_seen": 0,
    "pretrained_on": None,
}


@dataclass(frozen=True)
class Prepared:
    """A trained encoder with the facts that go into records, and how it reads products."""

    encoder: ProductEncoder
    facts: dict[str, Any]

    def inputs(self, catalog: Catalog) -> ProductInputs:
        """``catalog`` as this encoder reads it."""
        return catalog_inputs(
            catalog,
            image_size=self.facts["image_size"],
            pixels=self.facts.get("pixels"),
            tokenizer=self.encoder.tokenizer,
            mask=class_word_masker(self.facts["masked_classes"]) if self.facts["masked_classes"] else None,
            attributes=self.encoder.config.get("attribute_values"),
        )

    @property
    def pixel_key(self) -> list[Any]:
        """What makes other pixels of the same pictures, for keys of kept features."""
        size, pixels = self.facts["image_size"], self.facts.get("pixels")
        return [size and list(size), *([pixels] if pixels else [])]

    def feature_inputs(self, catalog: Catalog) -> ProductInputs:
        """:meth:`inputs` with image features, computed once, in place of images; where the image part was frozen."""
        key = f"{[catalog.fingerprint, *self.pixel_key]}"
        return with_image_features(self.inputs(catalog), self.encoder, inputs_key=key, **self.facts["image_features"])


def has_mirror_images(catalog: Catalog) -> bool:
    """Whether features are averaged over mirror images: a mirrored character is another one."""
    return catalog.name != "omniglot"


def load_encoder(folder: Path) -> Prepared:
    """The encoder in a checkpoint folder, on a GPU if there is one.

    Raises:
        CheckpointError: if there is none, it cannot be read, or what is known of its training is not in it.
    """
    encoder, facts = load_checkpoint(folder)
    if lacking := [name for name in ("training", "image_size", "masked_classes", *UNTRAINED) if name not in facts]:
        raise CheckpointError(f"checkpoint {folder} says nothing of {', '.join(lacking)}: train the encoder anew")
    return Prepared(encoder.to(launch_fabric().device), facts)


def prepare_encoder(
    name: str,
    catalog: Catalog,
    split: Split,
    seed: int,
    runs: Path,
    overrides: dict[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> Prepared:
    """The encoder that recipe ``name`` gives on this catalog, trained now or read from ``runs``.

    Only products of base and validation classes are handed to training. Trained or read, the encoder is where training
    runs, on a GPU if there is one. Of several processes the first keeps it.

    Args:
        overrides: options that win over the recipe's, where its stage knows them.

    Raises:
        UnknownName: for an unknown recipe.
        CatalogError: for a recipe with images or titles on a catalog that has none, or with episodes where fewer than
            two base classes are large enough for one.
        CheckpointError: for a ``title_start`` that reads other tokens.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    recipe = RECIPES[name]
    refuse_unreadable(name, catalog)
    base, validation = split.select(catalog, "base"), split.select(catalog, "validation")
    training = training_facts(name, catalog, base, validation, seed, overrides)
    folder = runs_folder(name, catalog, split, seed, runs)
    fabric = launch_fabric()
    if fabric.broadcast((folder / "encoder" / "config.json").is_file()):
        encoder, facts = load_checkpoint(folder / "encoder")
        if facts["training"] == training:
            return Prepared(encoder.to(fabric.device), facts)
        report(f"{folder}: its settings or data have changed; training anew")

    options = fitting_options(recipe, base, stage_options(recipe, catalog, overrides))

    def prepared_start(start: str | None) -> Prepared | None:
        return prepare_encoder(start, catalog, split, seed, runs, overrides, report) if start else None

    start, title_start = prepared_start(recipe.start), prepared_start(recipe.title_start)
    prepared = untrained(recipe, base, training["masked_classes"], seed)
    encoder, inputs = prepared.encoder.to(fabric.device), prepared.inputs
    if start:
        take_over(encoder, start.encoder)
    if title_start:
        theirs, mine = (title_reading(one) for one in (title_start, prepared))
        if theirs != mine:
            raise CheckpointError(
                f"recipe {name!r} takes its title part from {recipe.title_start!r}, whose tokens are others: let both "
                "mask class words alike, and cut titles alike; if both do, it is of an earlier version: delete "
                f"{runs_folder(recipe.title_start, catalog, split, seed, runs)}"
            )
        encoder.title.load_state_dict(title_start.encoder.title.state_dict())
    if features_suffice(encoder, options):
        precision = (start.facts.get("image_features") or start.facts)["precision"] if start else "32-true"
        prepared.facts["image_features"] = {"flip": has_mirror_images(catalog), "precision": precision}
        inputs = prepared.feature_inputs

    earlier = (start.facts["pretrained_on"] if start else None) or ""
    own = [data for data in encoder.pretrained_on if data not in earlier]
    facts = {"training": training, "stage": recipe.stage, **prepared.facts, **UNTRAINED}
    facts["pretrained_on"] = ", ".join(filter(None, [earlier, *own])) or None
    for one in filter(None, (start, title_start)):
        facts |= {k: facts[k] + one.facts[k] for k in ("images_seen", "train_seconds")}
    if recipe.stage == "halfway":
        began = prepared_start(RECIPES[recipe.start].start)
        encoder.load_state_dict(halfway(began.encoder, encoder))
        facts |= {name: start.facts[name] for name in UNTRAINED if name != "history"}
    elif recipe.stage != "none":
        facts["seen"] = {"catalog": catalog.name, "base": list(split.base), "validation": list(split.validation)}
        told = f"training {name}, seed {seed}, on {len(base)} products of {len(base.categories)} base classes"
        report(f"{told}; {blind}" if (blind := lacking_words(encoder, base)) else told)
        base_inputs, validation_inputs = inputs(base), inputs(validation)
        if cut := cut_words(encoder, base_inputs):
            report(f"  {name} seed {seed}: {cut}")
        # A run that was stopped under other settings must not stand in this one's way.
        unfinished = folder / f"unfinished-{sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:8]}"
        if start and same_work(start, prepared):
            facts["precision"] = start.facts["precision"]
        else:
            sample = base_inputs[torch.arange(min(64, len(base)))]
            facts["precision"] = choose_precision(encoder.train(), sample, fabric, run_dir=unfinished)
        chooser = FewShotValidation.fitting(
            validation_inputs, validation.category_ids, validation.groups, inputs(base.take_evenly(1000))
        )
        if chooser is None:
            report(
                f"  {name} seed {seed}: too few validation categories to choose on ({len(validation.categories)}; "
                "where there are fewer than 16 in all, none are held out for that; those that share their groups of "
                "near-duplicates make no episode): the last weights are kept"
            )
        stage = pretrain
        if recipe.stage == "metatrain":
            from fewshot_prod.metatrain import metatrain as stage

        rows = (base.category_ids,) if recipe.stage == "pretrain" else (base.category_ids, base.groups)
        trained = stage(
            encoder,
            base_inputs,
            *rows,
            **options,
            validation=chooser,
            seed=seed,
            run_dir=unfinished,
            fabric=launch_fabric(precision=facts["precision"]),
            report=lambda line: report(f"  {name} seed {seed}: {line}"),
        )
        encoder = trained.encoder
        facts["images_seen"] += trained.images_seen
        facts["train_seconds"] += trained.seconds
        facts |= {"head": trained.head, "history": trained.history}
        sources = [facts["pretrained_on"], f"{catalog.name} base classes"]
        facts["pretrained_on"] = (
            sources[0] if sources[0] and sources[1] in sources[0] else ", ".join(filter(None, sources))
        )
    fabric.barrier()  # every process has read what this replaces
    if fabric.is_global_zero:
        save_checkpoint(folder / "encoder", encoder, facts)
        for left in folder.glob("unfinished-*"):
            shutil.rmtree(left)
    fabric.barrier()
    return Prepared(encoder.eval(), facts)


def same_work(start: Prepared, prepared: Prepared) -> bool:
    """Whether training ``start`` ran the same network on inputs of the same kind, so that its precision is as fast."""

    def work(one: Prepared) -> list[Any]:
        parts = [one.encoder.config.get(part) for part in ("image", "title", "fusion", "attributes")]
        return [*parts, list(one.facts["image_size"] or ()), "image_features" in one.facts]

    return start.facts["stage"] != "none" and work(start) == work(prepared)


def runs_folder(name: str, catalog: Catalog, split: Split, seed: int, runs: Path) -> Path:
    """Where :func:`prepare_encoder` keeps what it trains; the encoder itself in the folder ``encoder`` in there."""
    return runs / catalog.name / split.name / name / ("weights" if RECIPES[name].stage == "none" else f"seed{seed}")


def trainings(name: str) -> list[str]:
    """The recipes that :func:`prepare_encoder` trains for one called ``name``, in order, itself included.

    Example:
        >>> trainings("lite0_gru_attention")
        ['lite0_tuned', 'lite0_tuned_prototypical', 'gru', 'lite0_gru_attention']
    """
    recipe = RECIPES[name]
    before = [one for start in (recipe.start, recipe.title_start) if start for one in trainings(start)]
    return list(dict.fromkeys([*before, *([name] if recipe.stage in ("pretrain", "metatrain") else [])]))


def columns_read(encoder: Recipe | ProductEncoder) -> list[str]:
    """Which of a catalog's columns "image" and "title" an encoder reads."""
    return [name for name in ("image", "title") if getattr(encoder, name) is not None]


def lacking_words(encoder: Recipe | ProductEncoder, products: Catalog) -> str:
    """How many products have nothing that the encoder reads, in words; "" if all have something.

    They stay, in training and in episodes, so that all encoders are measured on the same ones.
    """
    reads = columns_read(encoder)
    n = int((~products.has(reads)).sum())
    return f"{n:,} of {len(products):,} products have no {' or '.join(reads)}: it sees nothing of them" if n else ""


def cut_words(encoder: ProductEncoder, inputs: ProductInputs) -> str:
    """How many titles are at least as long as what is read of one, in words; "" if none is."""
    if encoder.tokenizer is None or not (n := int((inputs.lengths >= encoder.tokenizer.max_length).sum())):
        return ""
    return f"{n:,} of {len(inputs):,} titles fill the {encoder.tokenizer.max_length} tokens that are read; no more is"


def refuse_unreadable(recipe: str, catalog: Catalog) -> None:
    """Raise CatalogError if the recipe reads images, or titles, and no product of the catalog has one."""
    for column in columns_read(RECIPES[recipe]):
        if not catalog.has([column]).any():
            raise CatalogError(
                f"recipe {recipe!r} reads {column}s, and no product of {catalog.name!r} has one: choose another"
            )


def stage_options(recipe: Recipe, catalog: Catalog, overrides: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments of the recipe's stage on this catalog."""
    return recipe.options | recipe.catalog_options.get(catalog.name, {}) | (overrides or {}).get(recipe.stage, {})


def fitting_options(recipe: Recipe, base: Catalog, options: dict[str, Any]) -> dict[str, Any]:
    """``options`` as this many base products allow: a small catalog is one batch, and episodes are of fewer classes."""
    match recipe.stage:
        case "pretrain":
            return options | {"batch_size": min(options["batch_size"], len(base))}
        case "metatrain":
            sizes = {name: options[name] for name in ("n_shot", "n_query")}
            try:
                large_enough = EpisodeSampler(base.category_ids, base.groups, n_way="all", seed=0, **sizes).n_way
            except ValueError as error:
                raise CatalogError(f"no episodes of the base classes of catalog {base.name!r}: {error}") from None
            return options | {"n_way": min(options["n_way"], large_enough)}
    return options


def training_facts(
    name: str, catalog: Catalog, base: Catalog, validation: Catalog, seed: int, overrides: dict[str, Any] | None
) -> dict[str, Any]:
    """All that the weights of recipe ``name`` depend on, those that it starts from included, as JSON reads it back.

    Args:
        base, validation: the parts of ``catalog`` that are trained and chosen on.
    """
    recipe = RECIPES[name]
    unused = {field for field in ("attributes", "pixels", "title_start") if not getattr(recipe, field)}
    told_elsewhere = {"options", "catalog_options"} | unused

    def facts_of(start: str | None) -> dict[str, Any] | None:
        return training_facts(start, catalog, base, validation, seed, overrides) if start else None

    training = {
        "recipe": name,
        **{k: v for k, v in asdict(recipe).items() if k not in told_elsewhere},
        "options": stage_options(recipe, catalog, overrides),
        "image_size": IMAGE_SIZES[catalog.name][recipe.size] if recipe.image else None,
        "masked_classes": list(catalog.categories) if recipe.mask_class_words else None,
        "seed": seed if recipe.stage != "none" else None,
        "base": base.fingerprint,
        "validation": validation.fingerprint,
        "start": facts_of(recipe.start),
    }
    if recipe.title_start:
        training["title_start"] = facts_of(recipe.title_start)
    model = (recipe.title or {}).get("model")
    if model and (files := files_hash(model)):
        training["title_files"] = files
    if recipe.attributes:  # fingerprints leave these columns out
        columns = [attribute_columns(part, recipe.attributes["columns"]).to_json() for part in (base, validation)]
        training["attribute_rows"] = sha256("".join(columns).encode()).hexdigest()[:16]
    return json.loads(json.dumps(training))


def features_suffice(encoder: ProductEncoder, options: dict[str, Any]) -> bool:
    """Whether a training with these options sees always the same features of an image: they are then computed once."""
    fused = encoder.fusion is not None and not encoder.fusion.reads_elements
    return fused and "image" in options.get("frozen", ()) and options.get("augmentation") is None


def untrained(recipe: Recipe, catalog: Catalog, masked_classes: list[str] | None, seed: int) -> Prepared:
    """The encoder that a recipe describes, before any training.

    The tokens and attributes that it knows are ``catalog``'s; a pretrained title encoder brings its own tokens.
    """
    mask = class_word_masker(masked_classes) if masked_classes else None
    config: dict[str, Any] = {"image": recipe.image, "title": recipe.title, "fusion": recipe.fusion}
    if recipe.title and recipe.title.get("kind") not in PRETRAINED:
        titles = [title for title in catalog.titles if title is not None]
        title = dict(recipe.title)
        cut = {"chinese": title.pop("chinese")} if "chinese" in title else {}
        tokenizer = TitleTokenizer.train(list(map(mask, titles)) if mask else titles, **cut)
        config |= {"title": {"vocab_size": tokenizer.vocab_size, **title}, "tokenizer": tokenizer.to_json()}
    if recipe.attributes:
        values = attribute_values(catalog, recipe.attributes["columns"])
        sizes = [len(known) for known in values.values()]
        config |= {"attributes": {"sizes": sizes, "dim": recipe.attributes["dim"]}, "attribute_values": values}
    seed_step(seed)
    image_size = IMAGE_SIZES[catalog.name][recipe.size] if recipe.image else None
    pixels = {"pixels": recipe.pixels} if recipe.pixels else {}
    return Prepared(build_encoder(config), {"image_size": image_size, **pixels, "masked_classes": masked_classes})


def title_reading(prepared: Prepared) -> list[Any]:
    """What decides how titles become tokens: the words masked, the kind of title part, and its tokenizer."""
    title = prepared.encoder.config["title"]
    tokenizer = title.get("tokenizer") or prepared.encoder.config.get("tokenizer")
    return [prepared.facts["masked_classes"], title.get("kind"), tokenizer]


def take_over(encoder: ProductEncoder, start: ProductEncoder) -> None:
    """Copy the weights of every part (image, title, attributes, fusion) that both encoders have."""
    for part in ("image", "title", "attributes", "fusion"):
        mine, theirs = getattr(encoder, part), getattr(start, part)
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())
