"""Table 1: which method adapts best to new categories, from images alone and from images with titles?

Command: python experiments/table1_methods.py --catalog fashion          (also: synthetic, grocery, table)

Resumes: every encoder and every finished cell is kept, so a stopped run goes on

Writes: experiments/results/table1_<split>.jsonl; ``make tables`` renders it

Protocol: novel classes only; 10,000 episodes for feature methods, the first 200 of them for adapting ones;
epochs are chosen on validation classes; three choices made after a look at novel ones stand in the README under Limits.
Rows of ResNet-12 that learned for a shorter or longer time, ..._11_epochs and ..._32_epochs before what goes on from it
and ..._long in that, with a contrastive loss beside, or as FEAT, are measured where --rows names them. Rows ..._halfway
have the weights between an encoder's and those of what went on from it
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
    """Measure methods at 1 and 5 shots, 5-way and on all novel classes at once."""

    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled products a class."""
    cells: Measure = field(default_factory=lambda: MeasureArgs(seeds=(0, 1, 2)))
    """How much is measured."""


def block(encoder: str, *, adapting: bool = True, halfway: bool = False, against: tuple[str, ...] = ()) -> list[Row]:
    """Every method on one encoder: what continues training shows as many products as its control.

    Args:
        adapting: with methods that change the encoder, seconds an episode, and many more with all classes at once.
        halfway: with the weights halfway to those that continued training has brought the encoder to.
        against: rows that nearest centroid is compared with.
    """
    from fewshot_prod.rows import Row

    base, control = f"{encoder} nearest_centroid", f"{encoder}_continued nearest_centroid"
    rows = [
        Row(base, encoder, "nearest_centroid", against=against),
        *(Row(f"{encoder} {method}", encoder, method, {}, (base,)) for method in ("linear_probe", "finetune_head")),
        Row(control, f"{encoder}_continued", "nearest_centroid", {}, (base,)),
        Row(f"{encoder} prototypical", f"{encoder}_prototypical", "prototypical", {}, (base, control)),
    ]
    if halfway:
        middle, middle_control = f"{encoder}_prototypical_halfway", f"{encoder}_continued_halfway"
        against = f"{middle_control} nearest_centroid", control, f"{encoder} prototypical", base
        rows += [
            Row(against[0], middle_control, "nearest_centroid", {}, (base, control)),
            Row(f"{middle} prototypical", middle, "prototypical", {}, against),
            Row(f"{middle} linear_probe", middle, "linear_probe"),
        ]
    if adapting:
        rows.append(Row(f"{encoder} finetune_all", encoder, "finetune_all", {}, (base,), (5,)))
        rows += [
            Row(f"{encoder} {m}", f"{encoder}_{m}", m, {}, (base, f"{encoder} prototypical"), (5,))
            for m in ("maml", "maml_first_order")
        ]
    return rows


def table_rows(*, descriptions: bool, more: bool) -> list[Row]:
    """The rows, in the order in which they are measured; of a catalog without titles those of images are.

    Args:
        descriptions: whether its categories have any, as grocery's: AM3 mixes them, or the names, into prototypes.
        more: with those of a ResNet-12 that learned for a shorter or longer time, by a contrastive loss, or as FEAT.
    """
    from fewshot_prod.rows import Row

    rows = block("resnet12", adapting=False)
    rows.append(Row("resnet12_prototypical linear_probe", "resnet12_prototypical", "linear_probe"))
    if more:
        base, longer, shorter = "resnet12 nearest_centroid", "resnet12_prototypical_long", "resnet12 prototypical"
        control = "resnet12_continued_long nearest_centroid"
        rows += [
            Row(control, "resnet12_continued_long", "nearest_centroid", against=(base,)),
            Row(f"{longer} prototypical", longer, "prototypical", against=(base, control, shorter)),
            Row(f"{longer} linear_probe", longer, "linear_probe"),
            Row("resnet12_contrastive nearest_centroid", "resnet12_contrastive", "nearest_centroid", against=(base,)),
            *block("resnet12_11_epochs", adapting=False, halfway=True),
            *block("resnet12_32_epochs", adapting=False, halfway=True),
            Row(
                "resnet12_32_epochs_prototypical linear_probe",
                "resnet12_32_epochs_prototypical",
                "linear_probe",
            ),
        ]
        against = "resnet12_32_epochs nearest_centroid", "resnet12_32_epochs prototypical"
        rows.append(Row("resnet12_32_epochs feat", "resnet12_32_epochs_feat", "feat", against=against))
    rows += block("conv4", halfway=True)
    tuned, control = "lite0_tuned nearest_centroid", "lite0_tuned_continued nearest_centroid"
    rows += [
        Row("lite0 nearest_centroid", "lite0", "nearest_centroid"),
        Row(tuned, "lite0_tuned", "nearest_centroid", against=("lite0 nearest_centroid",)),
        Row("lite0_tuned linear_probe", "lite0_tuned", "linear_probe", against=(tuned,)),
        Row(control, "lite0_tuned_continued", "nearest_centroid", against=(tuned,)),
        Row("lite0_tuned prototypical", "lite0_tuned_prototypical", "prototypical", against=(tuned, control)),
        Row("lite0_tuned_prototypical linear_probe", "lite0_tuned_prototypical", "linear_probe"),
        Row("lite0_contrastive nearest_centroid", "lite0_contrastive", "nearest_centroid", against=(tuned,)),
        Row("lite0_contrastive linear_probe", "lite0_contrastive", "linear_probe"),
    ]
    if descriptions:
        rows += [
            Row(f"lite0_tuned am3, {texts}", "lite0_tuned", "am3", {"texts": texts}, against=(tuned,))
            for texts in ("names", "descriptions")
        ]
    for masked in ("", "_masked"):
        image, title = "resnet12 nearest_centroid", f"gru nearest_centroid{masked}"
        rows.append(Row(title, f"gru{masked}", "nearest_centroid"))
        concat = f"resnet12_gru_concat nearest_centroid{masked}"
        rows.append(Row(concat, f"resnet12_gru_concat{masked}", "nearest_centroid", against=(image, title)))
        fused = f"resnet12_gru nearest_centroid{masked}"
        rows.append(Row(fused, f"resnet12_gru{masked}", "nearest_centroid", against=(image, title, concat)))
    rows += block("conv4_gru")
    rows += block("conv4_gru_masked", against=("conv4 nearest_centroid",))
    return rows


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.catalog.summary import summary
    from fewshot_prod.results import read_records
    from fewshot_prod.settings import Setting
    from fewshot_prod.tables import methods_table

    catalog, split = args.data.load()
    print(summary(catalog))
    rows = table_rows(descriptions=catalog.name == "grocery", more=bool(args.cells.rows))
    if args.cells.smoke:
        small = ("conv4 ", "gru ")  # those of encoders that are trained in seconds
        rows = [row for row in rows if row.name.startswith(small)]
    domains: list[tuple[str, str] | None] = [None]
    if {"train", "test"} <= set(catalog.frame["split"]):  # as for grocery, whose test photos come from other shops
        domains.append(("train", "test"))
    settings = [Setting(way, shot, domain=domain) for domain in domains for way in (5, "all") for shot in args.shots]
    results, code = args.cells.measure("table1", rows, settings, catalog, split, name=f"table1_{split.name}")
    print(methods_table(read_records(results)))
    return code


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
