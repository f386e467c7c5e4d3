"""Adapt a pretrained encoder to new categories, and categorise unlabelled products.

Command: python experiments/adapt_catalog.py --root my.csv --support support.csv --items items.csv
(my.csv: the catalog to pretrain on, once; or --checkpoint FOLDER with an encoder that exists already)

Writes: predictions.csv: one line an item that can be used with its category, the probability, and the runner-up;
predictions_problems.csv: every row that was left out, with the reason
"""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_prod.arguments import Columns, check_output, run_script, table_name
from fewshot_prod.errors import UsageError

if TYPE_CHECKING:
    from fewshot_prod.catalog import Catalog


@dataclass(frozen=True)
class Args:
    """Categorise the products in --items by the few labelled ones in --support."""

    support: Path
    """CSV, TSV, Parquet or folder with a few labelled products of each new category."""
    items: Path
    """The same without categories: what is to be categorised."""
    catalog: Literal["synthetic", "grocery", "fashion", "table"] = "table"
    """The catalog to pretrain on, unless --checkpoint is given."""
    root: Path | None = None
    """Its file or folder."""
    columns: Columns = field(default_factory=Columns)
    """Names of the columns in all three tables; --support and --items may lack those of parent, group, split and id."""
    checkpoint: Path | None = None
    """Folder of a pretrained encoder; then no catalog is needed, and features are not centred by the mean of one."""
    recipe: str | None = None
    """What is pretrained, a key of fewshot_prod.recipes.RECIPES; unset: a small encoder of what the catalog has
    (images, titles or both), from scratch."""
    method: Literal["nearest_centroid", "partial_distance", "linear_probe", "finetune_head"] = "linear_probe"
    """How the encoder is adapted; a linear probe's probabilities are the best of these. Partial distances are for
    products of which many lack their title or their image."""
    out: Path = Path("predictions.csv")
    """Where the predictions go, and beside them what was left out."""
    seed: int = 0
    """Of pretraining and of the split into base and validation categories."""
    runs: Path = Path("runs/encoders")
    """Where the pretrained encoder is kept and looked for; a table's in a folder of its own there."""
    strict: bool = False
    """Stop at the first bad row instead of leaving bad rows out and reporting them."""
    smoke: bool = False
    """Pretrain for seconds only, in runs/smoke, to see that everything works."""


def catalog_to_learn_from(args: Args) -> Catalog:
    """The catalog to pretrain on."""
    from fewshot_prod.catalog import CatalogError, load_catalog

    if args.catalog == "table" and args.root is None:
        raise CatalogError("give --root, the catalog to pretrain on, or --checkpoint, an encoder that exists already")
    options = args.columns.options() if args.catalog == "table" else {}
    catalog = load_catalog(args.catalog, args.root, strict=args.strict, **options)
    if args.smoke:
        print("a smoke run: the first 12 products of each category")
        return catalog.take_groups(12)
    return catalog


def new_products(args: Args, reads: list[str]) -> tuple[Catalog, Catalog]:
    """Support and items; those of which the encoder, which ``reads`` images, titles or both, sees nothing are told."""
    from fewshot_prod.catalog import CatalogError, Problem, load_catalog

    options = {"strict": args.strict, "optional": ("parent", "group", "split", "product_id"), **args.columns.options()}
    support = load_catalog("table", args.support, **options)
    items = load_catalog("table", args.items, labelled=False, **options)
    reason = f"not seen by the encoder: it reads only {' and '.join(reads)}"
    support = support.leave_out(~support.has(reads), reason)  # told here, and not only left out by categorise
    unseen = [Problem(f"product {name}", reason) for name in items.frame["product_id"][~items.has(reads)]]
    items = replace(items, notes=(*items.notes, *unseen))
    if len(support.categories) < 2:
        why = [f"; the last of {len(support.problems)} problems: {p.row}: {p.reason}" for p in support.problems[-1:]]
        names = list(support.categories)
        raise CatalogError(f"{args.support}: two categories are needed, usable are {names}{''.join(why)}")
    if len(unseen) == len(items):
        raise CatalogError(f"{args.items}: no product is {reason.removeprefix('not ')}")
    if not any(support.has([column]).any() and items.has([column]).any() for column in reads):
        raise CatalogError(
            f"{args.support} and {args.items} share nothing that the encoder reads ({' and '.join(reads)}): one has "
            "only images, the other only titles"
        )
    return support, items


def refuse_other_file(path: Path, header: str) -> None:
    """Raise UsageError if there is a file that an earlier run, whose files begin with ``header``, has not written."""
    if path.is_file() and not path.read_bytes().removeprefix(codecs.BOM_UTF8).startswith(header.encode()):
        raise UsageError(f"{path} exists and is no earlier run's: give another name, or delete it")


def own_runs(args: Args) -> Path:
    """Where encoders are kept: one table's never overwrites another's, nor a smoke run's a real one."""
    runs = Path("runs/smoke") if args.smoke else args.runs
    return runs if args.catalog != "table" else runs / table_name(args.root)


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.adapt import categorise
    from fewshot_prod.catalog import CatalogError
    from fewshot_prod.catalog.summary import problems_table, summary
    from fewshot_prod.explore import recipe_for
    from fewshot_prod.names import UnknownName
    from fewshot_prod.prepare import (
        columns_read,
        load_encoder,
        prepare_encoder,
        refuse_unreadable,
        runs_folder,
        trainings,
    )
    from fewshot_prod.recipes import RECIPES, SMOKE
    from fewshot_prod.splits import pretraining_split

    # What a user may have to mend is met before the minutes of training.
    inputs = (args.root, args.support, args.items)
    check_output(args.out, keep=inputs)
    told = args.out.with_name(f"{args.out.stem}_problems.csv")
    check_output(told, keep=inputs)
    refuse_other_file(args.out, "product_id,title,category,probability")
    refuse_other_file(told, "table,row,left_out,reason")
    tables: dict[str, Catalog] = {}
    catalog = None
    if args.checkpoint and (args.root or args.recipe):
        option = "--root" if args.root else "--recipe"
        raise CatalogError(f"--checkpoint is a pretrained encoder: leave {option} out, or --checkpoint")
    if args.recipe is not None and args.recipe not in RECIPES:
        raise UnknownName("recipe", args.recipe, RECIPES)
    if args.checkpoint:
        prepared = load_encoder(args.checkpoint)
        encoder = prepared.encoder
    else:
        tables["pretraining"] = catalog = catalog_to_learn_from(args)
        recipe = args.recipe or recipe_for(catalog)
        refuse_unreadable(recipe, catalog)
        encoder = RECIPES[recipe]
        split = pretraining_split(catalog, args.seed)
    reads = columns_read(encoder)
    tables["support"], tables["items"] = support, items = new_products(args, reads)
    for name, part in tables.items():
        print(f"{name}: {summary(part)}\n")
    for column in ("image", "title"):
        if column not in reads and support.has([column]).any():
            print(f"the encoder reads only {' and '.join(reads)}: {column}s take no part")
    if catalog is not None:
        if single := split.unnamed_categories(catalog):
            print(f"not pretrained on, having one product each: {', '.join(single)}")
        if len(steps := trainings(recipe)) > 1:
            print(f"trained one after the other, unless done before: {', '.join(steps)}")
        place = (recipe, catalog, split, args.seed, own_runs(args))
        prepared = prepare_encoder(*place, SMOKE if args.smoke else None)
        print(f"the encoder is kept in {runs_folder(*place) / 'encoder'}")

    base = None if catalog is None else catalog.take_groups(40)
    found = categorise(prepared, support, items, method=args.method, base=base)
    # Excel knows UTF-8 by its mark alone, which items out of Excel have, unless they are in another encoding
    marked = args.items.is_file() and args.items.open("rb").read(3) == codecs.BOM_UTF8
    encoding = "utf-8-sig" if marked or args.columns.encoding else "utf-8"
    found.to_csv(args.out, index=False, encoding=encoding)
    problems = problems_table(tables)
    problems.to_csv(told, index=False, encoding=encoding)
    unseen = int(found["category"].isna().sum())
    without = f" ({unseen} in none: the encoder reads only {' and '.join(reads)})" if unseen else ""
    print(f"\n{len(items)} products in {len(support.categories)} categories{without}: {args.out}")
    print(f"{len(problems)} rows left out or to look at, in all tables: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
