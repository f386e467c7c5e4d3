"""Table 1: which method adapts best to new categories, from images alone and from images with titles?

Command: python experiments/table1_methods.py --catalog fashion          (also: synthetic, grocery, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/table1_<split>.jsonl; ``make tables`` renders it

Protocol: novel classes only; 10,000 episodes for feature methods, the first 200 of them for adapting ones;
epochs are chosen on validation classes; two choices made after a look at novel ones stand in the README under Limits
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
    """Measure methods at 1 and 5 shots, 5-way and on all novel classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    rows: tuple[str, ...] = ()
    """Only these rows; default all that the catalog has."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    episodes: int = 10_000
    """Episodes of feature methods."""
    episodes_adapting: int = 200
    """Episodes of methods that change the encoder: the first ones of the same sequence."""
    results: Path | None = None
    """The JSONL file; default experiments/results/table1_<split>.jsonl."""
    runs: Path = Path("runs/encoders")
    """Where trained encoders are kept and looked for."""
    smoke: bool = False
    """A run of seconds through the same code, to see that it works; its numbers mean nothing."""


def block(encoder: str, *, episodic: bool = True, maml: bool = True, masked: str = "") -> list[Row]:
    """Every method on one encoder: what continues training shows as many products as its control."""
    from fewshot_prod.cells import Row

    base = f"{encoder} nearest_centroid{masked}"
    rows = [
        Row(base, encoder + masked, "nearest_centroid"),
        *(
            Row(f"{encoder} {method}{masked}", encoder + masked, method, against=(base,))
            for method in ("linear_probe", "finetune_head")
        ),
        # Methods that change the encoder take seconds an episode, many more with all classes at once.
        Row(f"{encoder} finetune_all{masked}", encoder + masked, "finetune_all", against=(base,), n_ways=(5,)),
    ]
    if episodic:
        control = f"{encoder}_continued nearest_centroid"
        rows += [
            Row(control, f"{encoder}_continued", "nearest_centroid", against=(base,)),
            Row(f"{encoder} prototypical", f"{encoder}_prototypical", "prototypical", against=(base, control)),
        ]
    if maml:
        rows += [
            Row(f"{encoder} {m}", f"{encoder}_{m}", m, against=(base, f"{encoder} prototypical"), n_ways=(5,))
            for m in ("maml", "maml_first_order")
        ]
    return rows


def table_rows(titles: bool) -> list[Row]:
    """The rows, in the order in which they are measured."""
    from fewshot_prod.cells import Row

    rows = block("resnet12", maml=False)
    rows.append(Row("resnet12_prototypical linear_probe", "resnet12_prototypical", "linear_probe"))
    rows += block("conv4")
    rows += [
        Row("lite0 nearest_centroid", "lite0", "nearest_centroid"),
        Row("lite0_tuned nearest_centroid", "lite0_tuned", "nearest_centroid", against=("lite0 nearest_centroid",)),
        Row("lite0_tuned linear_probe", "lite0_tuned", "linear_probe", against=("lite0_tuned nearest_centroid",)),
    ]
    if titles:
        for masked in ("", "_masked"):
            image, title = "resnet12 nearest_centroid", f"gru nearest_centroid{masked}"
            rows.append(Row(title, f"gru{masked}", "nearest_centroid"))
            concat = f"resnet12_gru_concat nearest_centroid{masked}"
            rows.append(Row(concat, f"resnet12_gru_concat{masked}", "nearest_centroid", against=(image, title)))
            fused = f"resnet12_gru nearest_centroid{masked}"
            rows.append(Row(fused, f"resnet12_gru{masked}", "nearest_centroid", against=(image, title, concat)))
        rows += block("conv4_gru")
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.cells import choose_rows, measure_table
    from fewshot_prod.pools import Setting
    from fewshot_prod.recipes import SMOKE
    from fewshot_prod.results import read_records
    from fewshot_prod.tables import methods_table

    catalog, split = args.data.load()
    print(summary(catalog))
    name = f"table1_{split.name}"
    results, runs = args.results or Path("experiments/results") / f"{name}.jsonl", args.runs
    seeds, episodes, adapting, n_query = args.seeds, args.episodes, args.episodes_adapting, 15
    if args.smoke:
        catalog, runs = catalog.take_groups(12), Path("runs/smoke")
        results = args.results or runs / f"{name}.jsonl"
        seeds, episodes, adapting, n_query = args.seeds[:1], 20, 2, 5
    rows = table_rows(titles=catalog.frame["title"].notna().any())
    if args.smoke:
        rows = [row for row in rows if row.name.startswith("conv4") and "gru_" not in row.recipe]  # the small encoders
    domains: list[tuple[str, str] | None] = [None]
    if {"train", "test"} <= set(catalog.frame["split"]):  # as for grocery, whose test photos come from other shops
        domains.append(("train", "test"))
    failures = measure_table(
        "table1",
        choose_rows(rows, args.rows),
        [Setting(way, shot, n_query, domain=domain) for domain in domains for way in (5, "all") for shot in args.shots],
        catalog=catalog,
        split=split,
        seeds=seeds,
        results=results,
        runs=runs,
        n_episodes=episodes,
        n_episodes_adapting=adapting,
        overrides=SMOKE if args.smoke else None,
    )
    print(methods_table(read_records(results)))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
