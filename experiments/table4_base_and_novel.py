"""Table 4: what is left of few-shot accuracy when new categories compete with all the well-filled ones?

Command: python experiments/table4_base_and_novel.py --catalog fashion          (also: synthetic, grocery, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/table4_base_and_novel_<split>.jsonl; ``make tables`` renders it

Protocol: a query may belong to any base or novel category. A fifth of each base category's products is held out from
all training; 20 of the others are its support. "Calibrated" lowers the logits of base categories by what gives the best
harmonic mean with the validation categories in the place of novel ones; two fifths of what is held out are queried for
that, the others are scored. Encoders are trained for this table alone
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row

QUERIES = 3  # a category, of the five products that the smallest base categories hold out


@dataclass(frozen=True)
class Args:
    """Measure methods on base and novel classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a novel class."""
    base_shots: int = 20
    """Labelled products a base class."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(seeds=(0, 1, 2), episodes=1_000))
    """How much is measured."""


def table_rows() -> list[Row]:
    """The rows, in the order in which they are measured; of a catalog without titles those of images are."""
    from fewshot_prod.rows import Row

    rows = []
    for encoder in ("conv4", "resnet12"):
        centroid = f"{encoder} nearest_centroid"
        rows += [
            Row(centroid, encoder, "nearest_centroid"),
            Row(f"{encoder} linear_probe", encoder, "linear_probe", against=(centroid,)),
            Row(f"{encoder} prototypical", f"{encoder}_prototypical", "prototypical", against=(centroid,)),
        ]
    for masked in ("", "_masked"):
        image, fused = "conv4 nearest_centroid", f"conv4_gru{masked}"
        rows.append(Row(f"{fused} nearest_centroid", fused, "nearest_centroid", against=(image,)))
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.base_novel import BASE_NOVEL, CALIBRATION_QUERIES, hold_out_base
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.tables import base_novel_table

    catalog, split = args.data.load()
    print(summary(catalog))
    rows, base_shots = table_rows(), args.base_shots
    if args.cells.smoke:
        catalog, base_shots = catalog.take_groups(12), min(base_shots, 5)
        slow = ("resnet12", "masked", "linear_probe")
        rows = [row for row in rows if not any(word in row.name for word in slow)]
    catalog = hold_out_base(catalog, split, least=QUERIES + CALIBRATION_QUERIES)
    settings = [
        Setting(BASE_NOVEL, shot, QUERIES, base_shots=base_shots, calibrated=calibrated)
        for shot in args.shots
        for calibrated in (False, True)
    ]
    # other products train these encoders than those of the other tables
    cells = replace(args.cells, runs=args.cells.runs / "base_held_out")
    name = f"table4_base_and_novel_{split.name}"
    results, code = cells.measure("table4_base_and_novel", rows, settings, catalog, split, name=name)
    print(base_novel_table(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
