"""Figure 2: how many gradient steps on the labelled products does each adapting method need, and what do they add?

Command: python experiments/fig2_adaptation_steps.py --catalog fashion        (also: synthetic, grocery, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/fig2_<split>.jsonl; ``make tables`` draws experiments/figures/fig2_<split>.png

Protocol: novel classes only, 5-way, 15 queries a class, the same 200 episodes for all; no steps at all leave MAML with
the prototypes that its head starts from, and fine-tuning with class means
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row

RECIPES = {"maml": "conv4_maml", "maml_first_order": "conv4_maml_first_order", "anil": "conv4_anil"}
RECIPES |= {"reptile": "conv4_reptile", "finetune_all": "conv4"}


@dataclass(frozen=True)
class Args:
    """Measure accuracy after 0 to 20 adaptation steps."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    steps: tuple[int, ...] = (0, 1, 2, 5, 10, 20)
    """Gradient steps on the support."""
    shot: int = 5
    """Labelled products a class."""
    cells: Measure = field(default_factory=MeasureArgs)
    """How much is measured."""


def figure_rows(steps: tuple[int, ...]) -> list[Row]:
    """Methods that take gradient steps on the support, image alone."""
    from fewshot_prod.rows import Row

    return [
        Row(f"{method}, {k} steps", recipe, method, {"n_adaptation_steps": k})
        for method, recipe in RECIPES.items()
        for k in steps
    ]


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.pages import write_figures
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting

    catalog, split = args.data.load()
    name = f"fig2_{split.name}"
    rows = figure_rows(args.steps)
    if args.cells.smoke:
        rows = [row for row in rows if row.recipe == "conv4"]  # nothing more to train
    results, code = args.cells.measure("fig2", rows, [Setting(5, args.shot)], catalog, split, name=name)
    trial = args.cells.smoke or args.cells.results
    write_figures(name, read_records(results), results.parent if trial else Path("experiments/figures"))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
