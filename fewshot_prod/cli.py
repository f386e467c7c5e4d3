"""Look at a catalog, deal its categories into a split, evaluate a checkpoint.

What does my table hold, and which rows cannot be used?
    fewshot-prod catalog --root my.csv

Which categories shall training never see?
    fewshot-prod split my_split.json --root my.csv --novel 20 --validation 10

How well does an encoder adapt to such categories?
    fewshot-prod evaluate data/checkpoints/synthetic_conv4_gru_prototypical --method prototypical

Training and whole tables are scripts: see experiments/README.md, and --help of each.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fewshot_prod.arguments import CatalogArgs, CatalogSource, Data, SourceArgs, answered, check_output
from fewshot_prod.errors import UsageError

if TYPE_CHECKING:
    from fewshot_prod.catalog import Catalog

TABLE = SourceArgs("table")


def left_out(catalog: Catalog) -> str:
    """How many rows of a catalog are not used, or are to be looked at, in a line; "" if there are none."""
    n, m = len(catalog.problems), len(catalog.notes)
    return f"{n} rows left out, {m} to look at: `fewshot-prod catalog` lists them\n" if n or m else ""


def show_catalog(source: CatalogSource = TABLE) -> None:
    """What a catalog holds, and every row that had to be left out with its reason.

    Args:
        source: Which catalog.
    """
    from fewshot_prod.catalog.summary import summary

    print(summary(source.load(), examples=None))


def make_split(
    out: Annotated[Path, tyro.conf.Positional],
    kind: Literal["random", "tail", "parent"] = "random",
    source: CatalogSource = TABLE,
    novel: int = 20,
    validation: int = 10,
    min_groups: int = 20,
    seed: int = 0,
) -> None:
    """Deal a catalog's categories into base, validation and novel ones, and write them down as JSON.

    Args:
        out: The file to write.
        kind: random; tail (the smallest are novel); parent (whole parents held out).
        source: Which catalog.
        novel: Novel categories.
        validation: Validation categories.
        min_groups: Categories with fewer different products take no part.
        seed: Of the shuffle.
    """
    from fewshot_prod import splits

    if out.suffix != ".json":
        raise UsageError(f"{out}: a split is a JSON file, give a name such as {out.with_suffix('.json')}")
    check_output(out, keep=(source.root,))
    if out.exists():  # results and encoders are kept by its name
        raise UsageError(f"{out} exists: delete it, or give another name")
    deal = {"random": splits.random_split, "tail": splits.tail_split, "parent": splits.parent_split}[kind]
    products = source.load()
    print(left_out(products), end="")
    split = deal(products, seed, novel, validation, min_groups)
    splits.write_split(split, out)
    print(f"{out}: {len(split.base)} base, {len(split.validation)} validation, {len(split.novel)} novel categories")
    if len(split.novel) < novel or len(split.validation) < validation:
        print("fewer than asked for: whole parents are dealt, and the next one would have been too many")


def evaluate_checkpoint(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    data: Data = CatalogArgs(),
    method: str = "nearest_centroid",
    adapt: str | None = None,
    ways: tuple[int | Literal["all"], ...] = (5, "all"),
    shots: tuple[int, ...] = (1, 5),
    queries: int = 15,
    episodes: int = 10_000,
    episodes_adapting: int = 200,
    episode_seed: int = 0,
) -> None:
    """Accuracy of a checkpoint on a catalog's novel categories, with 95 % intervals over episodes.

    Args:
        checkpoint: Folder with weights.safetensors and config.json.
        data: Which catalog and split.
        method: A key of fewshot_prod.methods.METHODS.
        adapt: What MAML and finetune_all change: image, title, attributes, fusion, head, or some joined by +; else all.
        ways: Categories an episode, numbers or all.
        shots: Labelled products a category.
        queries: Products to categorise, a category and episode.
        episodes: How many episodes.
        episodes_adapting: At most as many, for methods that change the encoder and take seconds an episode.
        episode_seed: Other seeds draw other episodes.
    """
    from fewshot_prod.cells import heartbeat
    from fewshot_prod.evaluation import evaluate, mean_ci95
    from fewshot_prod.pools import Pools
    from fewshot_prod.prepare import lacking_words, load_encoder
    from fewshot_prod.settings import Setting, episode_sampler

    if min(episodes, episodes_adapting) < 2:
        raise UsageError(f"{min(episodes, episodes_adapting)} episodes: an interval needs at least two")
    if not ways or not shots:
        raise UsageError(f"--ways {ways} --shots {shots}: give at least one of each")
    if episode_seed < 0:
        raise UsageError(f"--episode-seed {episode_seed}: give 0 or more")
    prepared = load_encoder(checkpoint)
    catalog, split = data.load()
    print(left_out(catalog), end="")
    if masked := prepared.facts["masked_classes"]:  # what names a class of this catalog, too, where it is another
        masked = sorted({*masked, *catalog.categories})
        prepared = replace(prepared, facts=prepared.facts | {"masked_classes": masked})
        print("class words masked: phrases that name a class are deleted from every title")
    pools = Pools(prepared, catalog, split)
    try:
        built = pools.build(method, **({"parts": adapt} if adapt else {}))
    except ValueError as error:
        raise UsageError(f"{error} (--method, --adapt)") from None
    n = episodes if built.needs == "features" else min(episodes, episodes_adapting)
    print(f"{checkpoint}: trained on {pools.prepared.facts['pretrained_on'] or 'nothing'}; catalog {catalog.name}")
    if blind := lacking_words(pools.prepared.encoder, split.select(catalog, "novel")):
        print(f"{checkpoint}: {blind}")
    kind = "transductive" if built.transductive else "inductive"
    print(f"{method}, {kind}, norm {getattr(built, 'norm', 'frozen')}, novel classes of {split.name}, {n:,} episodes")
    for way in ways:
        for shot in shots:
            setting = Setting(way, shot, queries)
            try:
                sampler = episode_sampler(catalog, split, setting, episode_seed)
            except ValueError as error:
                raise UsageError(f"{error} (--ways, --shots, --queries)") from None
            if sampler.skipped:
                novel = pools.products.categories
                small = ", ".join(novel[c] for c in sampler.skipped)
                print(f"{setting}: {len(sampler.skipped)} of {len(novel)} classes skipped, too few products: {small}")
            scores = evaluate(built, pools.of(built), sampler, n, progress=heartbeat(str(setting), print))
            mean, half = mean_ci95(scores.accuracy)
            print(f"{setting}: {100 * mean:.2f} ± {100 * half:.2f} %  ({scores.seconds:.1f} s)")


def main() -> int:
    """Entry point of the console script."""
    commands = {"catalog": show_catalog, "split": make_split, "evaluate": evaluate_checkpoint}

    def run() -> int:
        tyro.extras.subcommand_cli_from_dict(commands, prog="fewshot-prod", description=__doc__)
        return 0

    return answered(run)


if __name__ == "__main__":
    sys.exit(main())
