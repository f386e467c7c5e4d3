"""Omniglot: do the methods reach the numbers that others have published?

Command: python experiments/table_omniglot.py                     (the official split: --split omniglot_official)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on; --rows picks some

Writes: experiments/results/<split>.jsonl and experiments/tables/<split>_published.md, the numbers
beside the published ones; ``make tables`` renders the records alone

Protocol: 28 x 28, each character turned by 90, 180 and 270 degrees counts as three more classes in training and in
evaluation; 15 queries a class; 10,000 episodes for feature methods, the first 600 of them for adapting ones; the
iteration is chosen on validation characters
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_prod.arguments import CatalogArgs, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fewshot_prod.cells import Row
    from fewshot_prod.results import Record

SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))  # (n_way, n_shot)

# Published accuracies in percent, in the order of SETTINGS, by row. None: not reported.
PUBLISHED: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "prototypical": ("Snell et al. 2017, table 1", (98.8, 99.7, 96.0, 98.9)),
    "prototypical, 5 shots": ("Snell et al. 2017, table 1", (98.8, 99.7, 96.0, 98.9)),
    "matching": ("Vinyals et al. 2016, table 1", (98.1, 98.9, 93.8, 98.5)),
    "maml": ("Finn et al. 2017, table 1, transductive", (98.7, 99.9, 95.8, 98.9)),
    "maml first order": ("Nichol et al. 2018, table 2, transductive", (98.3, 99.2, 89.4, 97.9)),
    "anil": ("PaddleFSL, first order", (96.1, 98.7, None, None)),
    "reptile": ("Nichol et al. 2018, table 2, transductive", (97.7, 99.5, 89.4, 97.1)),
    "reptile, support statistics": ("Nichol et al. 2018, table 2, inductive", (95.4, 98.9, 88.1, 96.7)),
}
# First-order MAML starts its head from prototypes (see the recipes), the others but for Proto-MAML from zeros.
# Trained and measured with batch statistics, which makes them transductive as in the papers, then measured inductively:
# each query normalised by the support's statistics.
ADAPTING = ("maml", "maml_first_order", "proto_maml", "anil", "reptile")


@dataclass(frozen=True)
class Args:
    """Measure methods at 5 and 20 ways, 1 and 5 shots."""

    root: Path | None = None
    """Omniglot's folder; default $FEWSHOT_PROD_DATA/omniglot, else data/omniglot."""
    split: Literal["omniglot_vinyals", "omniglot_official"] = "omniglot_vinyals"
    """Vinyals' characters, or the published background and evaluation alphabets."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(episodes_adapting=600))
    """How much is measured."""


def table_rows() -> list[Row]:
    """The rows, in the order in which they are measured."""
    from fewshot_prod.cells import Row

    centroid = "nearest centroid"
    rows = [
        Row(centroid, "omniglot_classifier", "nearest_centroid"),
        Row("linear probe", "omniglot_classifier", "linear_probe", against=(centroid,)),
        Row("prototypical", "omniglot_prototypical", "prototypical", against=(centroid,)),
        Row("prototypical, 5 shots", "omniglot_prototypical_5shot", "prototypical", against=(centroid,)),
        Row("matching", "omniglot_matching", "matching", against=(centroid,)),
        Row("ridge", "omniglot_ridge", "ridge", against=(centroid,)),
    ]
    for method in ADAPTING:
        name, recipe = method.replace("_", " "), f"omniglot_{method}"
        rows.append(Row(name, recipe, method, against=(centroid,), n_ways=(5,)))
        rows.append(Row(f"{name}, support statistics", recipe, method, {"norm": "support"}, n_ways=(5,)))
    return rows


def beside_published(records: Iterable[Record]) -> str:
    """Markdown: each row's accuracies as published and as measured, with its budget and how it normalises."""
    from fewshot_prod.tables import current, shown

    cells: dict[tuple[str, int], list[Record]] = {}
    for record in current(records, "cell"):
        cells.setdefault((record["config"]["row"], record["train_seed"]), []).append(record)
    titles = [f"{shown('n_way', way)} {shown('n_shot', shot)}" for way, shot in SETTINGS]
    header = ["row", *titles, "seed", "images seen", "minutes", "norm", "", "episodes"]
    lines = [header, ["---", *["--:"] * 7, "---", "---", "--:"]]
    for name in dict.fromkeys(name for name, _ in cells):
        if name in PUBLISHED:
            source, figures = PUBLISHED[name]
            lines.append([f"*{source}*", *("–" if f is None else f"*{f:.1f}*" for f in figures), *[""] * 6])
        for seed, here in ((seed, group) for (row, seed), group in cells.items() if row == name):
            found = {(r["n_way"], r["n_shot"]): f"{100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f}" for r in here}
            one = here[0]
            minutes, way = f"{one['train_seconds'] / 60:.0f}", shown("transductive", one["transductive"])
            episodes = shown("n_episodes", max(r["n_episodes"] for r in here))
            budget = [str(seed), shown("images_seen", one["images_seen"]), minutes, one["norm"], way, episodes]
            lines.append([name, *(found.get(setting, "–") for setting in SETTINGS), *budget])
    note = (
        "Accuracy in %; ± is the half-width of the 95 % interval over episodes; minutes are those of training. "
        "Published figures stand in italics above their row; splits, budgets and intervals of theirs differ.\n\n"
    )
    return note + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.pools import Setting
    from fewshot_prod.results import read_records
    from fewshot_prod.splits import PARTS

    catalog, split = CatalogArgs("omniglot", args.root, split=args.split).load()
    if args.cells.smoke:
        split = replace(split, **{part: getattr(split, part)[:80] for part in PARTS})
    settings = [Setting(way, shot) for way, shot in SETTINGS]
    results, code = args.cells.measure("omniglot", table_rows(), settings, catalog, split, name=split.name)
    page = (results.parent if args.cells.smoke else Path("experiments/tables")) / f"{split.name}_published.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = beside_published(read_records(results))
    page.write_text(f"# {split.name}\n\n{text}", encoding="utf-8")
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
