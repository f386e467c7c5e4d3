"""Table 2: what do image and title say together that neither says alone, and how are they best fused?

Command: python experiments/table2_modalities.py --catalog fashion          (also: synthetic, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/table2_modalities_<split>.jsonl; ``make tables`` renders it

Protocol: as table 1; every fusion is trained on the same image features, those of one image encoder, computed once a
training seed; "masked" titles have lost the phrases that name any class of the catalog. The image encoder has to be
trained on the split in use: --split fashion_tail trains it first. Rows of MAML, fine-tuning and end-to-end training
are measured where --rows names them
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fewshot_prod.arguments import CatalogArgs, Data, Measure, MeasureArgs, run_script

if TYPE_CHECKING:
    from fewshot_prod.rows import Row


@dataclass(frozen=True)
class Args:
    """Measure image, title and their fusions at 1 and 5 shots, 5-way and on all novel classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    image: str = "lite0"
    """The image encoder whose features are fused, a key of fewshot_prod.recipes.FUSED_STARTS."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(seeds=(0, 1, 2)))
    """How much is measured."""


def table_rows(image: str, *, more: bool) -> list[Row]:
    """The rows, in the order in which they are measured.

    Args:
        image: a key of ``FUSED_STARTS``.
        more: with the rows that are slow, MAML and fine-tuning on attention fusion, that fusion trained end to end and
            co-attention, whose image features cannot be kept; and those of other title encoders and of attributes.
    """
    from fewshot_prod.recipes import FUSED_KINDS, FUSED_STARTS, FUSED_TITLES, OTHER_TITLES, PRETRAINED_TITLES
    from fewshot_prod.rows import Row

    methods, parts = {"nearest_centroid": "", "prototypical": "_prototypical"}, {"parts": "title+fusion+head"}
    rows = [Row(f"image {method}", FUSED_STARTS[image], method) for method in methods]
    for masked in ("", "_masked"):
        rows += [Row(f"title {method}{masked}", f"gru{how}{masked}", method) for method, how in methods.items()]
        for kind in FUSED_KINDS:  # concat first: the others are compared with it
            if kind == "co_attention" and not more:
                continue
            fused = f"{image}_gru_{kind}"
            for method, how in methods.items():
                against = [f"image {method}", f"title {method}{masked}"]
                against += [f"{kind} nearest_centroid{masked}"] if method == "prototypical" else []
                against += [f"concat {method}{masked}"] if kind != "concat" else []
                rows.append(Row(f"{kind} {method}{masked}", f"{fused}{how}{masked}", method, against=tuple(against)))
        fused, against = f"{image}_gru_attention", (f"attention nearest_centroid{masked}",)
        rows.append(Row(f"attention linear_probe{masked}", fused + masked, "linear_probe", {}, against))
        if more:
            whole, attributes = f"attention end to end{masked}", f"attention with attributes{masked}"
            rows += [
                Row(whole, f"{fused}_whole{masked}", "nearest_centroid", {}, against),
                Row(attributes, f"{fused}_attributes{masked}", "nearest_centroid", {}, against),
                Row(f"attention maml{masked}", f"{fused}_maml{masked}", "maml", {}, against, (5,)),
                Row(f"attention finetune_all{masked}", fused + masked, "finetune_all", parts, against, (5,)),
                Row(f"attention finetune_head{masked}", fused + masked, "finetune_head", {}, against),
            ]
            for title in (*PRETRAINED_TITLES, *OTHER_TITLES):
                alone, gru = f"title {title}{masked}", f"title nearest_centroid{masked}"
                rows.append(Row(alone, title + masked, "nearest_centroid", {}, (gru,)))
                if title in FUSED_TITLES:
                    beside = (*against, alone, "image nearest_centroid")
                    both = f"{image}_{title}_attention{masked}"
                    rows.append(Row(f"attention {title}{masked}", both, "nearest_centroid", {}, beside))
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.names import UnknownName
    from fewshot_prod.recipes import FUSED_STARTS
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.tables import methods_table

    catalog, split = args.data.load()
    print(summary(catalog))
    settings = [Setting(way, shot) for way in (5, "all") for shot in args.shots]
    if args.image not in FUSED_STARTS:
        raise UnknownName("image encoder for fusions", args.image, FUSED_STARTS)
    image = "conv4" if args.cells.smoke else args.image
    rows = table_rows(image, more=bool(args.cells.rows))
    if args.cells.smoke:
        rows = [
            row for row in rows if not row.name.startswith(("cosines", "gated", "late")) and "masked" not in row.name
        ]
    results, code = args.cells.measure(
        "table2_modalities", rows, settings, catalog, split, name=f"table2_modalities_{split.name}"
    )
    print(methods_table(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
