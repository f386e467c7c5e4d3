"""The whole path on the embedded synthetic catalog: pretrain, meta-train, evaluate every method, table and curve.

Command: make demo         (python experiments/demo.py)

Minutes: about 7 on two CPU cores; run again, it reuses what is unchanged

Writes: runs/demo/: table.md, accuracy_vs_shots.png, records.jsonl, and the trained encoders; with --results X.jsonl
X_table.md and X_accuracy_vs_shots.png beside that
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_prod.arguments import Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row


@dataclass(frozen=True)
class Args:
    """Pretrain on the synthetic catalog's base classes and adapt to its novel ones at 1, 5 and 10 shots."""

    cells: Measure = field(
        default_factory=lambda: MeasureArgs(episodes=2_000, episodes_adapting=20, runs=Path("runs/demo"))
    )
    """How much is measured."""


def demo_rows() -> list[Row]:
    """Every method on image + title, and nearest centroid on images alone to compare with."""
    from fewshot_prod.rows import Row

    return [
        Row("nearest_centroid, image only", "conv4", "nearest_centroid"),
        Row("nearest_centroid", "conv4_gru", "nearest_centroid", against=("nearest_centroid, image only",)),
        Row("prototypical", "conv4_gru_prototypical", "prototypical", against=("nearest_centroid",)),
        Row("maml", "conv4_gru_maml", "maml", against=("nearest_centroid",)),
        Row("maml_first_order", "conv4_gru_maml_first_order", "maml_first_order", against=("nearest_centroid",)),
        Row("linear_probe", "conv4_gru", "linear_probe", against=("nearest_centroid",)),
        Row("finetune_head", "conv4_gru", "finetune_head", against=("nearest_centroid",)),
        Row("finetune_all", "conv4_gru", "finetune_all", against=("nearest_centroid",)),
    ]


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.catalog import load_catalog
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.plots import accuracy_vs_shots, save_figure
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.splits import default_split
    from fewshot_prod.tables import differences_table, methods_table

    started = time.perf_counter()
    catalog = load_catalog("synthetic")
    print(summary(catalog))
    print("\nOn two CPU cores this takes about 7 minutes the first time.\n")
    settings, split = [Setting(5, shot) for shot in (1, 5, 10)], default_split(catalog)
    results, code = args.cells.measure(
        "demo", demo_rows(), settings, catalog, split, name="records", folder=args.cells.runs
    )
    records = read_records(results)
    table = "\n\n".join([methods_table(records), differences_table(records)])
    own = f"{results.stem}_" if args.cells.results else ""  # beside other files: named after the one that was asked for
    page = results.with_name(f"{own}table.md")
    page.write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n")
    axes = accuracy_vs_shots(records, series=("modality", "method"))
    figure = save_figure(axes, page.with_name(f"{own}accuracy_vs_shots.png"))
    print(f"{time.perf_counter() - started:.0f} s; {page}, {figure}, {results}")
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
