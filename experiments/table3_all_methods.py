"""Table 3: methods of every kind on one encoder, one budget and the same episodes; and what imbalanced queries do.

Command: python experiments/table3_all_methods.py --catalog fashion          (also: synthetic, grocery, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/table3_<split>.jsonl; ``make tables`` renders it, seconds and paired differences included

Protocol: 5-way, 15 queries a class, images only, Conv4; queries balanced, or with class sizes drawn from a Dirichlet
distribution with alpha = 2 (Veilleux et al. 2021); what is trained on episodes goes on from the same encoder with as
many products as its continued control; otherwise as table 1
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row

FROZEN = ("ridge", "linear_probe", "finetune_head", "baseline_plus_plus")
TRANSDUCTIVE = ("bd_cspn", "laplacian_shot", "tim", "alpha_tim", "pt_map", "transductive_finetuning")
EPISODIC = ("prototypical", "matching", "meta_baseline", "relation", "feat", "ridge")
EPISODIC += ("maml", "maml_first_order", "proto_maml", "anil", "reptile", "meta_sgd")


@dataclass(frozen=True)
class Args:
    """Measure the methods of ``table_rows`` at 1 and 5 shots, with balanced and with imbalanced queries."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    cells: Measure = field(default_factory=MeasureArgs)
    """How much is measured."""


def table_rows() -> list[Row]:
    """The rows, in the order in which they are measured; each is compared with the first."""
    from fewshot_prod.rows import Row

    first = "nearest_centroid"
    return [
        Row(first, "conv4", first),
        *(Row(f"{first} {t}", "conv4", first, {"transform": t}, against=(first,)) for t in ("UN", "L2N")),
        Row("am3, names", "conv4", "am3", {"texts": "names"}, against=(first,)),
        *(Row(name, "conv4", name, against=(first,)) for name in (*FROZEN, *TRANSDUCTIVE)),
        Row("finetune_all", "conv4", "finetune_all", against=(first,)),
        Row("continued nearest_centroid", "conv4_continued", first, against=(first,)),
        *(Row(f"trained {name}", f"conv4_{name}", name, against=(first,)) for name in EPISODIC),
    ]


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.tables import methods_table, seconds_table

    catalog, split = args.data.load()
    rows = table_rows()
    if args.cells.smoke:
        # quick ones, with nothing more to train
        rows = [row for row in rows if row.recipe == "conv4" and row.method != "finetune_all"]
    settings = [
        Setting(5, shot, query_distribution=queries) for queries in ("balanced", "dirichlet:2") for shot in args.shots
    ]
    results, code = args.cells.measure("table3", rows, settings, catalog, split, name=f"table3_{split.name}")
    print(methods_table(read_records(results)))
    print(seconds_table(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
