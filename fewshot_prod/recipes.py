"""How each encoder of the tables is made: a literal dict of recipes, and the function that follows one.

A recipe may start from another one's weights. Trained encoders are kept under
``<runs>/<catalog>/<split>/<recipe>/seed<n>/`` and reused when everything that they depend on is unchanged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from fewshot_prod.catalog import Catalog
from fewshot_prod.catalog.class_words import class_word_masker
from fewshot_prod.catalog.titles import TitleTokenizer
from fewshot_prod.checkpoints import load_checkpoint, save_checkpoint
from fewshot_prod.devices import choose_precision, launch_fabric
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.inputs import ProductInputs, catalog_inputs
from fewshot_prod.names import UnknownName
from fewshot_prod.pretrain import pretrain, seed_step
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.splits import Split

# (H, W) in pixels: "small" for networks trained from scratch, "large" for ImageNet weights
IMAGE_SIZES = {
    "synthetic": {"small": (64, 64), "large": (128, 128)},
    "fashion": {"small": (64, 48), "large": (160, 120)},
    "grocery": {"small": (64, 64), "large": (224, 224)},
    "omniglot": {"small": (28, 28), "large": (112, 112)},
    "table": {"small": (64, 64), "large": (160, 160)},
}


@dataclass(frozen=True)
class Recipe:
    """How an encoder is made.

    Args:
        image: arguments of :func:`image_encoder`, or None.
        title: arguments of :func:`title_encoder` without the vocabulary size, or None.
        fusion: arguments of the fusion, needed with both.
        size: "small" or "large", see ``IMAGE_SIZES``.
        start: the recipe whose weights this one starts from; every part that both have is taken over.
        stage: "none" (weights as they come), "pretrain" or "metatrain".
        options: arguments of that stage.
        catalog_options: the same, for one catalog; they win over ``options``.
        mask_class_words: delete the phrases that name a class of the catalog from every title.
    """

    image: dict[str, Any] | None = None
    title: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    size: str = "small"
    start: str | None = None
    stage: str = "pretrain"
    options: dict[str, Any] = field(default_factory=dict)
    catalog_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    mask_class_words: bool = False


AUGMENTATION = {"scale": 0.2, "shift": 0.08, "rotate": 5.0, "colour": 0.15, "erase": 0.3}
SCRATCH = {"epochs": 16, "batch_size": 64, "lr": 0.05, "augmentation": AUGMENTATION}
TUNED = {"epochs": 3, "batch_size": 32, "lr": 0.01, "augmentation": AUGMENTATION}
TITLES = {"epochs": 10, "batch_size": 64, "optimiser": "adamw", "lr": 2e-3}
FUSED = TITLES | {"epochs": 5, "modality_dropout": 0.3, "augmentation": AUGMENTATION, "frozen": ("image",)}
# On fashion's validation classes prototypical networks did better without augmentation (88.3 against 87.5 %), and 40
# classes an episode better than 20 on all of them at once (72.4 against 71.8 % at one shot).
# The next three show the same number of products: 3 epochs of fashion's base classes, 30,000 in episodes.
CONTINUED = SCRATCH | {"epochs": 3, "lr": 0.005}
PROTOTYPICAL = {
    "algorithm": "prototypical",
    "n_way": 40,
    "n_shot": 1,
    "n_query": 5,
    "outer_lr": 5e-4,
    "n_iterations": 125,
}
# With a head that starts at zeros, first-order training fell on the validation classes as it went on (82.1 to 74.2 %);
# from prototypes of normalised features, with a smaller step, both orders reached 86.2 %, as much as ProtoNet.
MAML = {
    "algorithm": "maml",
    "n_way": 5,
    "n_shot": 1,
    "n_query": 5,
    "meta_batch_size": 4,
    "n_iterations": 250,
    "head": "prototypes",
    "normalise": True,
    "inner_lr": 0.01,
    "augmentation": AUGMENTATION,
}

# The synthetic catalog's base classes have 2,080 products, grocery's 3,138. A user's table may have few categories.
SHORT = {"n_iterations": 60, "validate_every": 60, "n_validation_episodes": 20}
MAML_SIZES = {"synthetic": SHORT}
PROTOTYPICAL_SIZES = {
    "synthetic": SHORT | {"n_way": 20},
    "table": {"n_way": 5, "meta_batch_size": 4, "n_iterations": 250},
}

ATTENTION, CONCAT = {"kind": "attention", "dim": 256}, {"kind": "concat", "dim": 256}
conv4 = Recipe(image={"name": "conv4"}, options=SCRATCH, catalog_options={"grocery": {"epochs": 40}})
resnet12 = Recipe(image={"name": "resnet12"}, options=SCRATCH)
lite0 = Recipe(image={"name": "efficientnet_lite0"}, size="large", stage="none")
gru = Recipe(title={"embedding_dim": 128, "hidden_size": 128, "cell": "gru"}, options=TITLES)
conv4_gru = replace(conv4, title=gru.title, fusion=ATTENTION, start="conv4", options=FUSED)
resnet12_gru = replace(resnet12, title=gru.title, fusion=ATTENTION, start="resnet12", options=FUSED)


def continued(start: str) -> dict[str, Recipe]:
    """What goes on from an encoder with an equal number of products: episodic training, and its supervised control."""
    control = replace(STARTS[start], start=start, options=CONTINUED, catalog_options={"grocery": {"epochs": 10}})
    episodic = replace(control, stage="metatrain", options=PROTOTYPICAL, catalog_options=PROTOTYPICAL_SIZES)
    maml = replace(episodic, options=MAML, catalog_options=MAML_SIZES)
    others = ("matching", "meta_baseline", "relation", "feat", "ridge")
    return {
        f"{start}_continued": control,
        f"{start}_prototypical": episodic,
        **{f"{start}_{m}": replace(episodic, options=PROTOTYPICAL | {"algorithm": m}) for m in others},
        f"{start}_maml": maml,
        f"{start}_maml_first_order": replace(maml, options=MAML | {"algorithm": "maml_first_order"}),
    }


def omniglot() -> dict[str, Recipe]:
    """Conv4-64 from scratch on Omniglot: the published episodes (Snell et al. 2017, Finn et al. 2017), no augmentation.

    Augmentation would mirror characters. At 28 x 28 the last map is 1 x 1, so that averaging it is flattening it.
    """
    recipe = Recipe(image={"name": "conv4"}, stage="metatrain")
    adam = {"outer_lr": 1e-3, "weight_decay": 0.0, "norm": "batch"}
    proto = {**adam, "algorithm": "prototypical", "n_way": 60, "n_shot": 1, "n_query": 5, "normalise": False}
    # One step from a head of zeros gives the encoder no gradient, so that MAML would be ANIL: hence three. First order
    # from zeros stays behind on the validation characters after 150 iterations (87.5 and 90.5 %, from prototypes 93.6
    # and 97.5 %).
    maml = {**adam, "n_way": 5, "n_shot": 1, "n_query": 5, "meta_batch_size": 8, "validate_every": 500}
    maml |= {"n_iterations": 6000, "inner_lr": 0.1, "n_adaptation_steps": 3}
    prototypes = {"normalise": True, "inner_lr": 0.01}
    # Nichol et al. 2018: ten drawings a class, in five minibatches
    reptile = {"n_shot": 5, "n_query": 5, "meta_batch_size": 5, "n_adaptation_steps": 5, "n_iterations": 10_000}
    plans = {
        "prototypical": {**proto, "n_iterations": 6000, "validate_every": 500},
        "prototypical_5shot": {**proto, "n_shot": 5, "n_iterations": 4000, "validate_every": 500},
        "maml": {**maml, "algorithm": "maml"},
        "maml_first_order": {**maml, "algorithm": "maml_first_order", "head": "prototypes", **prototypes},
        "proto_maml": {**maml, "algorithm": "proto_maml", **prototypes},
        "anil": {**maml, "algorithm": "anil", "n_iterations": 10_000},
        "reptile": {**maml, "algorithm": "reptile", **reptile},
    }
    classifier = replace(recipe, stage="pretrain", options={"epochs": 8, "batch_size": 128, "lr": 0.05})
    return {
        "omniglot_classifier": classifier,
        **{f"omniglot_{name}": replace(recipe, options=options) for name, options in plans.items()},
    }


STARTS: dict[str, Recipe] = {
    "conv4": conv4,
    "resnet12": resnet12,
    "lite0": lite0,
    "lite0_tuned": replace(lite0, stage="pretrain", options=TUNED),
    "gru": gru,
    "gru_masked": replace(gru, mask_class_words=True),
    "conv4_gru": conv4_gru,
    "conv4_gru_masked": replace(conv4_gru, mask_class_words=True),
    "resnet12_gru": resnet12_gru,
    "resnet12_gru_masked": replace(resnet12_gru, mask_class_words=True),
    "resnet12_gru_concat": replace(resnet12_gru, fusion=CONCAT),
    "resnet12_gru_concat_masked": replace(resnet12_gru, fusion=CONCAT, mask_class_words=True),
}
RECIPES: dict[str, Recipe] = STARTS | continued("conv4") | continued("resnet12") | continued("conv4_gru") | omniglot()

# Options of a smoke run, by stage
SMOKE = {
    "pretrain": {"epochs": 1},
    "metatrain": {"n_iterations": 2, "n_way": 5, "n_shot": 1, "n_query": 2, "n_validation_episodes": 4},
}


@dataclass(frozen=True)
class Prepared:
    """A trained encoder with the facts that go into records, and how it reads products."""

    encoder: ProductEncoder
    facts: dict[str, Any]

    def inputs(self, catalog: Catalog) -> ProductInputs:
        """``catalog`` as this encoder reads it."""
        tokenizer = self.encoder.config.get("tokenizer")
        return catalog_inputs(
            catalog,
            image_size=self.facts["image_size"],
            tokenizer=TitleTokenizer.from_json(tokenizer) if tokenizer else None,
            mask=class_word_masker(self.facts["masked_classes"]) if self.facts["masked_classes"] else None,
        )


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

    Only products of base and validation classes are handed to training.

    Args:
        overrides: options that win over the recipe's, where its stage knows them.

    Raises:
        UnknownName: for an unknown recipe.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    recipe = RECIPES[name]
    base, validation = split.select(catalog, "base"), split.select(catalog, "validation")
    start = prepare_encoder(recipe.start, catalog, split, seed, runs, overrides, report) if recipe.start else None

    image_size = IMAGE_SIZES[catalog.name][recipe.size] if recipe.image else None
    masked_classes = list(catalog.categories) if recipe.mask_class_words else None
    options = {
        **recipe.options,
        **recipe.catalog_options.get(catalog.name, {}),
        **(overrides or {}).get(recipe.stage, {}),
    }
    training = {
        "recipe": name,
        **{k: v for k, v in asdict(recipe).items() if k not in ("options", "catalog_options")},
        "options": options,
        "image_size": image_size,
        "masked_classes": masked_classes,
        "seed": seed if recipe.stage != "none" else None,
        "base": base.fingerprint,
        "validation": validation.fingerprint,
        "start": start.facts["training"] if start else None,
    }
    training = json.loads(json.dumps(training))
    folder = runs / catalog.name / split.name / name / ("weights" if recipe.stage == "none" else f"seed{seed}")
    if (folder / "encoder" / "config.json").is_file():
        encoder, facts = load_checkpoint(folder / "encoder")
        if facts["training"] == training:
            return Prepared(encoder, facts)
        report(f"{folder}: its settings or data have changed; training anew")

    prepared = untrained(recipe, base, masked_classes, seed)
    encoder, inputs = prepared.encoder, prepared.inputs
    if start:
        take_over(encoder, start.encoder)

    facts = {
        "training": training,
        "stage": recipe.stage,
        "image_size": image_size,
        "masked_classes": masked_classes,
        "seen": None,
        "precision": "32-true",
        "head": {},
        "history": [],
        "train_seconds": 0.0,
        "images_seen": 0,
        "pretrained_on": "ImageNet-1k" if (recipe.image or {}).get("name") == "efficientnet_lite0" else None,
    }
    if start:
        facts |= {k: start.facts[k] for k in ("images_seen", "train_seconds", "pretrained_on")}
    if recipe.stage != "none":
        facts["seen"] = {"catalog": catalog.name, "base": list(split.base), "validation": list(split.validation)}
        report(f"training {name}, seed {seed}, on {len(base)} products of {len(base.categories)} base classes")
        base_inputs, validation_inputs = inputs(base), inputs(validation)
        facts["precision"] = choose_precision(encoder.train(), base_inputs[torch.arange(min(64, len(base)))])
        chooser = FewShotValidation.fitting(
            validation_inputs, validation.category_ids, validation.groups, inputs(base.take_evenly(1000))
        )
        stage = pretrain
        if recipe.stage == "metatrain":
            from fewshot_prod.metatrain import metatrain as stage

        # A run that was stopped under other settings must not stand in this one's way.
        unfinished = folder / f"unfinished-{sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:8]}"
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
    save_checkpoint(folder / "encoder", encoder, facts)
    for left in folder.glob("unfinished-*"):
        shutil.rmtree(left)
    return Prepared(encoder.eval(), facts)


def untrained(recipe: Recipe, catalog: Catalog, masked_classes: list[str] | None, seed: int) -> Prepared:
    """The encoder that a recipe describes, before any training; its tokenizer learns from the catalog's titles."""
    mask = class_word_masker(masked_classes) if masked_classes else None
    config: dict[str, Any] = {"image": recipe.image, "title": recipe.title, "fusion": recipe.fusion}
    if recipe.title:
        titles = [title for title in catalog.titles if title is not None]
        tokenizer = TitleTokenizer.train([mask(title) for title in titles] if mask else titles)
        config |= {"title": {"vocab_size": tokenizer.vocab_size, **recipe.title}, "tokenizer": tokenizer.to_json()}
    seed_step(seed)
    image_size = IMAGE_SIZES[catalog.name][recipe.size] if recipe.image else None
    return Prepared(build_encoder(config), {"image_size": image_size, "masked_classes": masked_classes})


def take_over(encoder: ProductEncoder, start: ProductEncoder) -> None:
    """Copy the weights of every part (image, title, fusion) that both encoders have."""
    for part in ("image", "title", "fusion"):
        mine, theirs = getattr(encoder, part), getattr(start, part)
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())
