"""Adapt a pretrained encoder to new categories, and categorise unlabelled products.

Command: python experiments/adapt_catalog.py --root my.csv --support support.csv --items items.csv
(my.csv: the catalog to pretrain on, once; or --checkpoint FOLDER with an encoder that exists already)

Writes: predictions.csv: one line an item with its category, the probability, and the runner-up
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_prod.arguments import Columns, run_script

if TYPE_CHECKING:
    from fewshot_prod.catalog import Catalog
    from fewshot_prod.prepare import Prepared


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
    """Names of the columns in all three tables."""
    checkpoint: Path | None = None
    """Folder of a pretrained encoder; then no catalog is needed."""
    method: Literal["nearest_centroid", "partial_distance", "linear_probe", "finetune_head"] = "linear_probe"
    """How the encoder is adapted; a linear probe's probabilities are the best of these. Partial distances are for
    products of which many lack their title or their image."""
    out: Path = Path("predictions.csv")
    """Where the predictions go."""
    seed: int = 0
    """Of pretraining and of the split into base and validation categories."""
    runs: Path = Path("runs/encoders")
    """Where the pretrained encoder is kept and looked for."""
    strict: bool = False
    """Stop at the first bad row instead of leaving bad rows out and reporting them."""
    smoke: bool = False
    """Pretrain for seconds only, to see that everything works."""


def pretrained(args: Args) -> tuple[Prepared, Catalog | None]:
    """The encoder, from --checkpoint or pretrained on the catalog by what its products have."""
    from fewshot_prod.catalog import CatalogError, load_catalog
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.checkpoints import load_checkpoint
    from fewshot_prod.explore import recipe_for
    from fewshot_prod.prepare import Prepared, prepare_encoder
    from fewshot_prod.recipes import SMOKE
    from fewshot_prod.splits import random_split

    if args.checkpoint:
        return Prepared(*load_checkpoint(args.checkpoint)), None
    if args.catalog == "table" and args.root is None:
        raise CatalogError("give --root, the catalog to pretrain on, or --checkpoint, an encoder that exists already")
    catalog = load_catalog(args.catalog, args.root, strict=args.strict, **args.columns.options())
    print(summary(catalog))
    # Nothing is held out as novel: the new categories are those in --support.
    split = random_split(catalog, args.seed, n_novel=0, n_validation=len(catalog.categories) // 8, min_groups=2)
    return prepare_encoder(
        recipe_for(catalog), catalog, split, args.seed, args.runs, SMOKE if args.smoke else None
    ), catalog


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    import pandas as pd
    import torch

    from fewshot_prod.catalog import CatalogError, load_catalog
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.episodes import EpisodeBatch
    from fewshot_prod.features import embed
    from fewshot_prod.pools import build_method

    prepared, catalog = pretrained(args)
    columns = args.columns.options()
    support = load_catalog("table", args.support, strict=args.strict, **columns)
    items = load_catalog("table", args.items, strict=args.strict, labelled=False, **columns)
    if len(support.categories) < 2:
        raise CatalogError(f"{args.support} has only the categories {list(support.categories)}: give at least two")
    for name, part in (("support", support), ("items", items)):
        print(f"\n{name}: {summary(part)}")

    def features(part: Catalog) -> torch.Tensor:
        return embed(prepared.encoder, prepared.inputs(part), precision=prepared.facts["precision"])

    pool = torch.cat([features(support), features(items)])
    episode = EpisodeBatch(
        support=torch.arange(len(support))[None],
        support_labels=torch.from_numpy(support.category_ids)[None],
        query=torch.arange(len(support), len(pool))[None],
        query_labels=torch.zeros(1, len(items), dtype=torch.int64),  # unknown
        n_way=len(support.categories),
    )

    # Features are centred by the base products' mean where these are at hand. The items' own mean would make each
    # prediction depend on the other items.
    transform = "L2N" if catalog is None else "CL2N"
    center = None if catalog is None else features(catalog.take_groups(40)).mean(0)
    method = build_method(args.method, prepared, lambda: center, transform=transform)
    probabilities = method(pool, episode)[0].softmax(1)
    best, order = probabilities.topk(2, dim=1)
    names = support.categories
    table = pd.DataFrame(
        {
            "product_id": items.frame["product_id"],
            "title": items.frame["title"],
            "category": [names[i] for i in order[:, 0].tolist()],
            "probability": best[:, 0].numpy().round(4),
            "second_category": [names[i] for i in order[:, 1].tolist()],
            "second_probability": best[:, 1].numpy().round(4),
        }
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out, index=False)
    print(f"\n{len(table)} products in {len(names)} categories, {len(items.problems)} rows left out: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
