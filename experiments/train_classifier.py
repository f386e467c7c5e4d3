"""The full supervised system: one classifier of all categories of a catalog, image encoder, title encoder and fusion.

Command: python experiments/train_classifier.py --catalog fashion --recipe resnet12_gru
(grocery, by its published train and test parts: --catalog grocery --recipe lite0_classifier)

Resumes: stopped at any moment, the same command goes on after the last finished epoch; another --part measures only

Writes: experiments/results/classifier_<catalog>.jsonl: one record; under runs/classifiers/: the encoder, the head,
categories.csv: a row a category; confusion.png
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from fewshot_prod.arguments import CatalogSource, SourceArgs, check_output, run_script, table_name
from fewshot_prod.errors import UsageError


@dataclass(frozen=True)
class Args:
    """Train on the train part of every category, and measure on another: the catalog's own, else a stratified one."""

    recipe: str = "conv4_gru"
    """A key of fewshot_prod.recipes.RECIPES that is pretrained. All its parts are trained together, from the start."""
    source: CatalogSource = field(default_factory=SourceArgs)
    """Which catalog."""
    part: Literal["validation", "test"] = "test"
    """What to measure on: validation while options are being chosen, test once they are."""
    refit: bool = False
    """Train on the validation part too; for the test, once all options are chosen."""
    epochs: int | None = None
    """None: the recipe's."""
    batch_size: int | None = None
    """None: the recipe's."""
    lr: float | None = None
    """Peak learning rate; None: the recipe's."""
    head: Literal["linear", "cosine"] = "linear"
    """The classifier's last layer."""
    class_balanced: bool = False
    """Draw every category equally often."""
    seed: int = 0
    """Of the training, and of the parts where the catalog has none."""
    runs: Path = Path("runs/classifiers")
    """Where models and reports are kept."""
    results: Path = Path("experiments/results")
    """Where the record goes."""
    smoke: bool = False
    """One epoch on a few products, to see that it works."""


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from fewshot_prod.catalog import data_folder
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.checkpoints import save_checkpoint
    from fewshot_prod.classification import category_report, classification_scores, classifier_parts
    from fewshot_prod.devices import choose_precision, launch_fabric
    from fewshot_prod.features import embed
    from fewshot_prod.names import UnknownName, first_few
    from fewshot_prod.plots import confusion_matrix, save_figure
    from fewshot_prod.prepare import (
        UNTRAINED,
        cut_words,
        fitting_options,
        lacking_words,
        refuse_unreadable,
        stage_options,
        untrained,
    )
    from fewshot_prod.pretrain import pretrain
    from fewshot_prod.provenance import commit, device_name, versions
    from fewshot_prod.recipes import RECIPES
    from fewshot_prod.results import RESULT_VERSION, append_record
    from fewshot_prod.splits import category_parents
    from fewshot_prod.tables import classifiers_table

    recipe = RECIPES.get(args.recipe)
    if recipe is None or recipe.stage != "pretrain":
        pretrained = [name for name, other in RECIPES.items() if other.stage == "pretrain"]
        raise UnknownName("recipe that is pretrained", args.recipe, pretrained)
    if args.refit and args.part == "validation":
        raise UsageError("--refit trains on the validation part: measure on --part test")
    few = {"products_per_category": 12} if args.smoke and args.source.catalog == "synthetic" else {}
    catalog = args.source.load(**few)
    refuse_unreadable(args.recipe, catalog)
    print(summary(catalog))
    kept_as = table_name(args.source.root or data_folder("table")) if catalog.name == "table" else catalog.name
    runs, results = args.runs, args.results
    given = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    if args.smoke:
        catalog, runs, results, given = catalog.take_groups(12), Path("runs/smoke"), Path("runs/smoke"), {"epochs": 1}
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen |= {"head": args.head, "class_balanced": args.class_balanced, "frozen": ()}

    part, split = classifier_parts(catalog, args.seed, args.part)
    learned = part != "test" if args.refit else part == "train"
    train, measured = catalog.take(learned), catalog.take(part == args.part)
    shared = np.isin(measured.groups, train.groups).sum()
    print(
        f"{len(train)} products to train on, {len(measured)} of {args.part}; {shared} are near-duplicates across both"
    )

    if never := sorted(set(measured.categories) - set(train.categories)):
        print(f"{len(never)} of its categories cannot be guessed, having no product to train on: {first_few(never)}")
    if blind := lacking_words(recipe, catalog):
        print(blind)

    options = fitting_options(recipe, train, stage_options(recipe, catalog, {"pretrain": chosen}))
    masked = list(catalog.categories) if recipe.mask_class_words else None
    prepared = untrained(recipe, train, masked, args.seed)
    inputs = prepared.inputs(train)
    if cut := cut_words(prepared.encoder, inputs):
        print(cut)
    hashed = json.dumps([options, train.fingerprint], sort_keys=True)
    name = f"seed{args.seed}-{sha256(hashed.encode()).hexdigest()[:8]}"  # other options, another folder
    folder, kept = runs / kept_as / split / args.recipe / name, results / f"classifier_{kept_as}.jsonl"
    check_output(kept)
    sample = inputs[torch.arange(min(64, len(train)))]
    fabric = launch_fabric()
    precision = choose_precision(prepared.encoder.train(), sample, fabric, run_dir=folder)
    trained = pretrain(
        prepared.encoder,
        inputs,
        train.category_ids,
        **options,
        seed=args.seed,
        run_dir=folder,
        fabric=launch_fabric(precision=precision),
    )
    if not fabric.is_global_zero:  # the first process measures and writes for all
        return 0

    logits = np.full((len(measured), len(catalog.categories)), -np.inf)  # a category without training is never guessed
    logits[:, np.unique(catalog.category_ids[learned])] = embed(
        trained.classifier, prepared.inputs(measured), precision=precision
    ).numpy()
    truth = catalog.category_ids[part == args.part]
    parents = [category_parents(catalog).get(name) for name in catalog.categories]
    scores = classification_scores(np.nan_to_num(logits, neginf=-1e9), truth, parents)
    told = {
        "precision": precision,
        "categories": list(train.categories),
        "options": options | ({"refit": True} if args.refit else {}),
        "seed": args.seed,
    }
    pretrained_on = [*prepared.encoder.pretrained_on, f"{catalog.name}, all categories"]
    facts = {
        **prepared.facts,
        **UNTRAINED,
        "stage": "pretrain",
        "training": {"recipe": args.recipe, **told, "base": train.fingerprint},
        "seen": {"catalog": catalog.name, "base": list(train.categories), "validation": []},
        "precision": precision,
        "train_seconds": trained.seconds,
        "images_seen": trained.images_seen,
        "pretrained_on": ", ".join(pretrained_on),
    }
    save_checkpoint(folder / "encoder", trained.encoder, facts)
    save_file({k: v.contiguous() for k, v in trained.classifier.head.state_dict().items()}, folder / "head.safetensors")
    report = category_report(logits.argmax(1), truth, catalog.category_ids[learned], catalog.categories, parents)
    report.to_csv(folder / "categories.csv", index=False)
    counts = np.zeros((len(parents), len(parents)), np.int64)
    np.add.at(counts, (truth, logits.argmax(1)), 1)
    axes = confusion_matrix(counts, catalog.categories, parents=parents, about=f"{catalog.name}, {args.part}", width=9)
    save_figure(axes, folder / "confusion.png")

    record = {
        "kind": "classifier",
        "experiment": "classifier",
        "catalog": catalog.name,
        "split": split,
        "part": args.part,
        "encoder": args.recipe.removesuffix("_masked"),
        "fusion": (recipe.fusion or {}).get("kind"),
        "modality": trained.encoder.modality,
        "mask_class_words": recipe.mask_class_words if recipe.title else None,
        "train_seed": args.seed,
        "pretrained_on": ", ".join(prepared.encoder.pretrained_on) or None,
        "images_seen": trained.images_seen,
        "n_categories": len(catalog.categories),
        "n_products": len(measured),
        "n_train": len(train),
        "config": {"image": recipe.image, "title": recipe.title, "fusion": recipe.fusion, **prepared.facts, **told},
        "catalog_fingerprint": catalog.fingerprint,
        "result_version": RESULT_VERSION,
        **{name: None if np.isnan(value) else value for name, value in scores.items()},
        "train_seconds": trained.seconds,
        "commit": commit(),
        "versions": versions(),
        "device": device_name(trained.encoder.device),
    }
    append_record(kept, record)
    print(f"\n{classifiers_table([record])}\n{folder}: encoder/, head.safetensors, categories.csv, confusion.png")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
