"""What does an encoder listen to: picture or title, category by category, and which words of a title?

Command: python experiments/fig_attention.py                     (fashion: --catalog fashion --recipe resnet12_gru)

Minutes: under 1 with a shipped encoder; else an encoder is trained first, as table 1 does it

Writes: experiments/results/attention_<split>.jsonl, a line a novel category, of which ``make tables`` draws
experiments/figures/attention_<split>.png; and attention_<split>_products.png, some products with their pictures and
titles: beside it for the synthetic catalog, for others in runs/attention/, since they may not be ours to publish.
Where the file has another encoder's records, both are called attention_<split>_<recipe>
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_prod.arguments import CatalogArgs, Data, run_script
from fewshot_prod.errors import UsageError


@dataclass(frozen=True)
class Args:
    """Draw the attention of an encoder with attention fusion over products of novel categories."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split; it must have titles."""
    recipe: str | None = None
    """A key of fewshot_prod.recipes.RECIPES with (unit) attention; default the shipped encoder, else the one that
    fewshot_prod.explore.recipe_for names."""
    products: tuple[str, ...] = ()
    """Ids of the products to show; default eight: from most image to most title, and one without a title if any is."""
    runs: Path = Path("runs/encoders")
    """Where trained encoders are kept and looked for."""
    smoke: bool = False
    """A run of seconds on a few products; writes into runs/smoke."""


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    import numpy as np

    from fewshot_prod.catalog import CatalogError
    from fewshot_prod.catalog.class_words import class_word_masker
    from fewshot_prod.checkpoints import encoder_hash
    from fewshot_prod.encoders.fusion import FUSIONS
    from fewshot_prod.explore import pools_of, recipe_for
    from fewshot_prod.names import UnknownName
    from fewshot_prod.pages import fingerprint
    from fewshot_prod.plots import attention_sheet, save_figure
    from fewshot_prod.provenance import commit, versions
    from fewshot_prod.recipes import RECIPES, SMOKE
    from fewshot_prod.results import RESULT_VERSION, read_records, write_records

    catalog, split = args.data.load()
    if split.select(catalog, "novel").frame["title"].isna().all():
        raise CatalogError(f"no novel product of {catalog.name!r} has a title to attend to: choose another")
    if not catalog.has(["image"]).any():
        raise CatalogError(f"{catalog.name!r} has no images to attend to beside titles: choose another")
    if args.smoke:
        catalog = catalog.take_groups(6)
    recipe, novel = args.recipe or recipe_for(catalog), split.select(catalog, "novel")
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    fusion = RECIPES[recipe].fusion
    if fusion is None or not FUSIONS[fusion["kind"]].attends or RECIPES[recipe].attributes:
        raise UsageError(f"--recipe {recipe} has no attention fusion of image and title: give conv4_gru")
    ids = novel.frame["product_id"].astype(str).tolist()
    for product in args.products:
        if product not in ids:
            raise UnknownName("novel product", product, ids)
    if args.smoke:
        pools = pools_of(catalog, split, args.recipe, Path("runs/smoke"), SMOKE)
    else:
        pools = pools_of(catalog, split, args.recipe, args.runs)
    encoder, inputs = pools.prepared.encoder, pools.inputs()
    attention = encoder.attention(inputs)
    weights, categories = attention["modalities"].numpy(), novel.frame["category"].to_numpy()

    name = f"attention_{split.name}"
    results, figures = Path("experiments/results"), Path("experiments/figures")
    if args.smoke:
        results = figures = Path("runs/smoke")
    used = pools.prepared.facts["training"]["recipe"]
    kept = results / f"{name}.jsonl"
    if kept.exists() and any(record["encoder"] != used for record in read_records(kept)):
        name += f"_{used}"  # those stay
    facts = {
        "kind": "attention",
        "experiment": "attention",
        "catalog": catalog.name,
        "split": split.name,
        "encoder": used,
        "train_seed": pools.prepared.facts["training"]["seed"],
        "encoder_hash": encoder_hash(encoder),
        "catalog_fingerprint": catalog.fingerprint,
        "split_fingerprint": split.fingerprint,
        "result_version": RESULT_VERSION,
        "commit": commit(),
        "versions": versions(),
    }
    records = []
    for category in novel.categories:
        own = weights[categories == category]
        share = dict(zip(("image", "title"), own.mean(0).tolist(), strict=True))
        records.append(facts | {"category": category, "n_products": len(own), "modality_weights": share})

    titled = np.flatnonzero([title is not None for title in novel.titles])
    by_image = titled[weights[titled, 0].argsort()[::-1]]
    pick = [*by_image[np.linspace(0, len(titled) - 1, 7).astype(int)], *np.setdiff1d(range(len(novel)), titled)[:1]]
    if args.products:
        pick = [ids.index(i) for i in args.products]
    hidden = pools.prepared.facts["masked_classes"]
    mask = class_word_masker(hidden) if hidden else str
    ax = attention_sheet(
        [encoder.tokenizer.pieces(mask(novel.titles[i])) if novel.titles[i] else [] for i in pick],
        attention["tokens"][pick].numpy(),
        images=inputs.images[pick].numpy(),
        has_image=inputs.has_image[pick].numpy(),
        modality_weights=weights[pick],
        names=categories[pick].tolist(),
    )
    folder = figures if catalog.name == "synthetic" or args.smoke else Path("runs/attention")
    path = results / f"{name}.jsonl"
    write_records(path, records)
    figure = save_figure(ax, folder / f"{name}_products.png", Records=fingerprint(read_records(path)))
    print(f"records in {path}; products in {figure}" + ("" if args.smoke else "; then: make tables"))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
