"""Which options of a method are best? Asked of the validation classes, the only ones that may be asked.

Command: python experiments/select_options.py --catalog fashion --grid l2=0.01,0.1,1 transform=L2N,CL2N

Resumes: every finished cell is kept in --results

Protocol: as table 1, with episodes of the validation classes in the place of the novel ones
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from fewshot_prod.cli import CatalogArgs, Data, run_script


@dataclass(frozen=True)
class Args:
    """Measure every combination of a grid at 1 and 5 shots, 5-way and on all validation classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    recipe: str = "conv4"
    """The encoder, a key of fewshot_prod.recipes.RECIPES; trained if it is not there."""
    method: str = "linear_probe"
    """A key of fewshot_prod.methods.METHODS."""
    grid: tuple[str, ...] = ()
    """Option and values, as in l2=0.01,0.1 transform=L2N,CL2N; all combinations are measured."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    episodes: int = 2_000
    """Episodes of a feature method."""
    episodes_adapting: int = 100
    """Episodes of a method that changes the encoder."""
    results: Path | None = None
    """The JSONL file; default runs/select/<split>_<recipe>_<method>.jsonl."""
    runs: Path = Path("runs/encoders")
    """Where trained encoders are kept and looked for."""
    smoke: bool = False
    """A run of seconds through the same code, to see that it works; its numbers mean nothing."""


def combinations(grid: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """Options by the name of their combination: {"l2=0.1 transform=L2N": {"l2": 0.1, "transform": "L2N"}, ...}."""

    def plain(value: str) -> object:
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value

    options = []
    for entry in grid:
        name, equals, values = entry.partition("=")
        if not equals or not values:
            raise SystemExit(f"--grid {entry!r}: write an option and its values as in l2=0.01,0.1,1")
        options.append([(name, value) for value in values.split(",")])
    return {
        " ".join(f"{name}={value}" for name, value in chosen) or "defaults": {
            name: plain(value) for name, value in chosen
        }
        for chosen in product(*options)
    }


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.cells import Row, measure_table
    from fewshot_prod.pools import Setting
    from fewshot_prod.recipes import SMOKE
    from fewshot_prod.results import read_records

    catalog, split = args.data.load()
    results = args.results or Path(f"runs/select/{split.name}_{args.recipe}_{args.method}.jsonl")
    runs, episodes, adapting, n_query = args.runs, args.episodes, args.episodes_adapting, 15
    if args.smoke:
        catalog, runs = catalog.take_groups(12), Path("runs/smoke")
        results = args.results or runs / f"select_{args.recipe}_{args.method}.jsonl"
        episodes, adapting, n_query = 20, 2, 5
    grid = combinations(args.grid)
    rows = [Row(name, args.recipe, args.method, options) for name, options in grid.items()]
    failures = measure_table(
        "select",
        rows,
        [Setting(way, shot, n_query) for way in (5, "all") for shot in args.shots],
        catalog=catalog,
        split=split,
        seeds=args.seeds,
        results=results,
        runs=runs,
        n_episodes=episodes,
        n_episodes_adapting=adapting,
        part="validation",
        overrides=SMOKE if args.smoke else None,
    )
    if failures:  # means over different cells would not compare
        return 1
    found: dict[str, list[float]] = {}
    for record in read_records(results):
        if (
            record["config"]["row"] in grid
            and record["n_shot"] in args.shots
            and record["train_seed"] in (*args.seeds, None)
        ):
            found.setdefault(record["config"]["row"], []).append(100 * record["accuracy"])
    print(f"\nmean accuracy over {len(args.seeds)} seeds, 5-way and all {len(split.validation)} validation classes, %:")
    for name, values in sorted(found.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        print(f"  {sum(values) / len(values):6.2f}   {name}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
