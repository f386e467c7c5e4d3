"""Table 2b: how does accuracy fall as titles, or images, disappear from queries, from supports, from both?

Command: python experiments/table2b_missing.py --catalog fashion            (also: synthetic, table)

Resumes: encoders are shared with table 2, every finished cell is kept

Writes: experiments/results/table2b_missing_<split>.jsonl; ``make tables`` renders the table and its figure

Protocol: as table 2, nearest centroid; which products lose their title (image) depends on product and share alone, and
who loses it at one share does so at every higher one; image alone and title alone stand beside, with nothing missing
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script
from fewshot_prod.errors import UsageError

if TYPE_CHECKING:
    from fewshot_prod.rows import Row


@dataclass(frozen=True)
class Args:
    """Measure fusions as one modality disappears, 5-way and on all novel classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    rates: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of titles, or images, that are missing."""
    image: str = "lite0"
    """The image encoder whose features are fused, a key of fewshot_prod.recipes.FUSED_STARTS."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(seeds=(0, 1, 2), episodes=2_000))
    """How much is measured."""


def table_rows(image: str) -> list[Row]:
    """Image and title alone, which are not measured with anything missing, and fusions."""
    from fewshot_prod.recipes import FUSED_STARTS
    from fewshot_prod.rows import Row

    rows = [Row("image", FUSED_STARTS[image], "nearest_centroid")]
    for masked in ("", "_masked"):
        rows.append(Row(f"title{masked}", f"gru{masked}", "nearest_centroid"))
        for kind, against in (("concat", ()), ("attention", (f"concat{masked}",))):
            rows.append(Row(f"{kind}{masked}", f"{image}_gru_{kind}{masked}", "nearest_centroid", against=against))
        partial, against = f"{image}_gru_attention{masked}", (f"concat{masked}", f"attention{masked}")
        rows.append(Row(f"attention, partial distance{masked}", partial, "partial_distance", against=against))
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.catalog import CatalogError
    from fewshot_prod.missing import Missing
    from fewshot_prod.names import UnknownName
    from fewshot_prod.recipes import FUSED_STARTS
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.tables import missing_table

    if not all(0 < rate <= 1 for rate in args.rates):
        raise UsageError(f"--rates {args.rates}: give shares of products, above 0 and at most 1")
    if args.image not in FUSED_STARTS:
        raise UnknownName("image encoder for fusions", args.image, FUSED_STARTS)
    catalog, split = args.data.load()
    if lacking := [f"{column}s" for column in ("image", "title") if not catalog.has([column]).any()]:
        raise CatalogError(f"catalog {catalog.name!r} has no {lacking[0]}: only where there are both can one disappear")
    image, rates = args.image, args.rates
    if args.cells.smoke:
        image, rates = "conv4", args.rates[-1:]
    whole = [Setting(way, shot) for way in (5, "all") for shot in args.shots]
    places = [(modality, where) for modality in ("title", "image") for where in ("queries", "supports", "both")]
    less = [
        Setting(one.n_way, one.n_shot, missing=Missing(modality, rate, where))
        for one in whole
        for modality, where in places
        for rate in rates
    ]
    rows = [row for row in table_rows(image) if not args.cells.smoke or "masked" not in row.name]
    results, code = args.cells.measure(
        "table2b_missing", rows, whole + less, catalog, split, name=f"table2b_missing_{split.name}"
    )
    print(missing_table(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
