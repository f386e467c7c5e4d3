"""Figure 1: how does accuracy grow with the number of labelled products of a new category?

Command: python experiments/fig1_shots.py --catalog fashion              (also: synthetic, grocery, table)

Resumes: encoders are shared with table 1, every finished cell is kept

Writes: experiments/results/fig1_<split>.jsonl; ``make tables`` draws experiments/figures/fig1_<split>.png

Protocol: 5-way, 10 queries a class, so that 20 shots fit the smaller classes; otherwise as table 1
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row


@dataclass(frozen=True)
class Args:
    """Measure accuracy at 1, 2, 3, 5, 10 and 20 shots."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 2, 3, 5, 10, 20)
    """Labelled products a class."""
    cells: Measure = field(default_factory=MeasureArgs)
    """How much is measured."""


def figure_rows() -> list[Row]:
    """Every method on one encoder, image alone."""
    from fewshot_prod.rows import Row

    return [
        Row("nearest_centroid", "conv4", "nearest_centroid"),
        Row("prototypical", "conv4_prototypical", "prototypical"),
        Row("linear_probe", "conv4", "linear_probe"),
        Row("finetune_head", "conv4", "finetune_head"),
        Row("maml", "conv4_maml", "maml"),
        Row("maml_first_order", "conv4_maml_first_order", "maml_first_order"),
        Row("finetune_all", "conv4", "finetune_all"),
    ]


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.pages import write_figures
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting

    catalog, split = args.data.load()
    name = f"fig1_{split.name}"
    settings = [Setting(5, shot, n_query=10) for shot in args.shots]
    results, code = args.cells.measure("fig1", figure_rows(), settings, catalog, split, name=name)
    trial = args.cells.smoke or args.cells.results
    write_figures(name, read_records(results), results.parent if trial else Path("experiments/figures"))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
