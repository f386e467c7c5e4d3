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

from fewshot_prod.cli import CatalogArgs, Data, run_script

if TYPE_CHECKING:
    from fewshot_prod.cells import Row


@dataclass(frozen=True)
class Args:
    """Measure accuracy at 1, 2, 3, 5, 10 and 20 shots."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds."""
    shots: tuple[int, ...] = (1, 2, 3, 5, 10, 20)
    """Labelled products a class."""
    episodes: int = 10_000
    """Episodes of feature methods."""
    episodes_adapting: int = 200
    """Episodes of methods that change the encoder: the first ones of the same sequence."""
    results: Path | None = None
    """The JSONL file; default experiments/results/fig1_<split>.jsonl."""
    runs: Path = Path("runs/encoders")
    """Where trained encoders are kept and looked for."""
    smoke: bool = False
    """A run of seconds through the same code, to see that it works; its numbers mean nothing."""


def figure_rows() -> list[Row]:
    """Every method on one encoder, image alone."""
    from fewshot_prod.cells import Row

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
    from fewshot_prod.cells import measure_table
    from fewshot_prod.plots import accuracy_vs_shots, save_figure
    from fewshot_prod.pools import Setting
    from fewshot_prod.recipes import SMOKE
    from fewshot_prod.results import read_records

    catalog, split = args.data.load()
    name = f"fig1_{split.name}"
    results, runs, figures = (
        args.results or Path(f"experiments/results/{name}.jsonl"),
        args.runs,
        Path("experiments/figures"),
    )
    shots, episodes, adapting, n_query = args.shots, args.episodes, args.episodes_adapting, 10
    if args.smoke:
        catalog, runs = catalog.take_groups(12), Path("runs/smoke")
        results, figures = args.results or runs / f"{name}.jsonl", runs
        shots, episodes, adapting, n_query = (1, 2, 5), 20, 2, 5
    failures = measure_table(
        "fig1",
        figure_rows(),
        [Setting(5, shot, n_query) for shot in shots],
        catalog=catalog,
        split=split,
        seeds=args.seeds,
        results=results,
        runs=runs,
        n_episodes=episodes,
        n_episodes_adapting=adapting,
        overrides=SMOKE if args.smoke else None,
    )
    figure = save_figure(accuracy_vs_shots(read_records(results)), figures / f"{name}.png")
    print(f"figure in {figure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
