"""Omniglot: do the methods reach the numbers that others have published?

Command: python experiments/table_omniglot.py                     (the official split: --split omniglot_official)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on; --rows picks some

Writes: experiments/results/<split>.jsonl; ``make tables`` renders it beside the published numbers, with a figure of how
validation accuracy rose in training

Protocol: 28 x 28, each character turned by 90, 180 and 270 degrees counts as three more classes in training and in
evaluation; 15 queries a class; 10,000 episodes for feature methods, the first 600 of them for adapting ones; the
iteration is chosen on validation characters
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_prod.arguments import CatalogArgs, Measure, MeasureArgs, SourceArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row

# Trained and measured with batch statistics, which makes them transductive as in the papers, then measured inductively:
# each query normalised by the support's statistics. MAML's head starts from prototypes (see the recipes), which makes
# it Proto-MAML; what its steps add to that start is measured too.
ADAPTING = ("maml", "maml_first_order", "anil", "reptile")


@dataclass(frozen=True)
class Args:
    """Measure methods at 5 and 20 ways, 1 and 5 shots."""

    root: Path | None = None
    """Omniglot's folder; default $FEWSHOT_PROD_DATA/omniglot, else data/omniglot."""
    split: Literal["omniglot_vinyals", "omniglot_official"] = "omniglot_vinyals"
    """Vinyals' characters, or the published background and evaluation alphabets."""
    strict: bool = False
    """Stop at the first bad drawing instead of leaving bad ones out and reporting them."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(episodes_adapting=600))
    """How much is measured."""


def table_rows() -> list[Row]:
    """The rows, in the order in which they are measured."""
    from fewshot_prod.rows import Row

    centroid = "nearest centroid"
    rows = [
        Row(centroid, "omniglot_classifier", "nearest_centroid"),
        Row("linear probe", "omniglot_classifier", "linear_probe", against=(centroid,)),
        Row("prototypical", "omniglot_prototypical", "prototypical", against=(centroid,)),
        Row("prototypical, long", "omniglot_prototypical_long", "prototypical", against=(centroid, "prototypical")),
        Row("prototypical, 5 shots", "omniglot_prototypical_5shot", "prototypical", against=(centroid,)),
        Row("matching", "omniglot_matching", "matching", against=(centroid,)),
        Row("ridge", "omniglot_ridge", "ridge", against=(centroid,)),
    ]
    for method in ADAPTING:
        name, recipe = method.replace("_", " "), f"omniglot_{method}"
        rows.append(Row(name, recipe, method, against=(centroid,), n_ways=(5,)))
        rows.append(Row(f"{name}, support statistics", recipe, method, {"norm": "support"}, n_ways=(5,)))
    for name, recipe, against in (
        ("maml, 20 ways", "omniglot_maml_20way", "maml"),
        ("maml, 20 ways, long", "omniglot_maml_20way_long", "maml, 20 ways"),
    ):
        rows.append(Row(name, recipe, "maml", against=(against,)))
        rows.append(Row(f"{name}, support statistics", recipe, "maml", {"norm": "support"}))
    rows.append(Row("maml, no steps", "omniglot_maml", "maml", {"n_adaptation_steps": 0}, n_ways=(5,)))
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.published import SETTINGS, beside_published
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.splits import PARTS

    catalog, split = CatalogArgs(SourceArgs("omniglot", args.root, strict=args.strict), args.split).read()
    if args.cells.smoke:
        split = replace(split, **{part: getattr(split, part)[:80] for part in PARTS})
    split.check_names(catalog)
    settings = [Setting(way, shot) for way, shot in SETTINGS]
    results, code = args.cells.measure("omniglot", table_rows(), settings, catalog, split, name=split.name)
    print(beside_published(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
