"""Which options of a method are best? Asked of the validation classes, the only ones that may be asked.

Command: python experiments/select_options.py --catalog fashion --grid l2=0.01,0.1,1 transform=L2N,CL2N

Resumes: every finished cell is kept

Writes: runs/select/<split>_<recipe>_<method>.jsonl

Protocol: as table 1, with episodes of the validation classes in the place of the novel ones
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script
from fewshot_prod.errors import UsageError


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
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(episodes=2_000, episodes_adapting=100))
    """How much is measured."""


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
            raise UsageError(f"--grid {entry!r}: write an option and its values as in l2=0.01,0.1,1")
        if name in (given[0][0] for given in options):
            raise UsageError(f"--grid names {name!r} twice: write all its values behind one, as in l2=0.01,0.1,1")
        options.append([(name, value) for value in values.split(",")])
    named = {" ".join(f"{name}={value}" for name, value in chosen): chosen for chosen in product(*options)}
    return {key or "defaults": {name: plain(value) for name, value in chosen} for key, chosen in named.items()}


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.cells import split_name
    from fewshot_prod.grouping import current
    from fewshot_prod.results import read_records
    from fewshot_prod.rows import Row
    from fewshot_prod.settings import Setting

    catalog, split = args.data.load()
    grid = combinations(args.grid)
    rows = [Row(name, args.recipe, args.method, options) for name, options in grid.items()]
    settings = [Setting(way, shot) for way in (5, "all") for shot in args.shots]
    name, folder = f"{split.name}_{args.recipe}_{args.method}", Path("runs/select")
    results, code = args.cells.measure(
        "select", rows, settings, catalog, split, name=name, folder=folder, part="validation"
    )
    if code:  # means over different cells would not compare
        return code
    found: dict[str, list[float]] = {}
    ways: set[str] = set()
    where = {"split": split_name(split, "validation"), "method": args.method}
    measured = [r for r in read_records(results) if r["kind"] == "cell" and where.items() <= r.items()]
    for record in current(measured, "cell"):
        asked = record["n_shot"] in args.shots and record["train_seed"] in (*args.cells.seeds, None)
        asked &= record["config"]["training"]["recipe"] == args.recipe
        if asked and record["config"]["row"] in grid:
            found.setdefault(record["config"]["row"], []).append(100 * record["accuracy"])
            ways.add(f"{record['n_way']}-way")
    classes = len(split.validation)
    seeds = len(args.cells.seeds)
    print(f"\nmean over {' and '.join(sorted(ways))} of {classes} validation classes and {seeds} seeds, %:")
    if classes < 5:
        print(f"  {classes} classes hardly tell options apart: hold out more by `fewshot-prod split --validation 5`")
    for name, values in sorted(found.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        print(f"  {sum(values) / len(values):6.2f}   {name}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
