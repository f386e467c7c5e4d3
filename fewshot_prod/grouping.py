"""Which records a line of a table or of a figure is of, and what it is called."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewshot_prod.results import RESULT_VERSION, Record, cell_key

# What may tell lines and columns apart; a field with one value all over stands in the caption instead.
ROWS = ("catalog", "split", "domain", "missing_rate", "modality", "encoder", "fusion", "adapt", "method")
COLUMNS = ("mask_class_words", "query_distribution", "n_way", "n_query", "n_shot")
METHOD_ORDER = ("nearest_centroid", "partial_distance", "prototypical", "am3", "matching", "meta_baseline", "relation")
METHOD_ORDER += ("feat", "ridge", "maml", "maml_first_order", "proto_maml", "anil", "reptile", "meta_sgd")
METHOD_ORDER += ("linear_probe", "finetune_head", "baseline_plus_plus", "finetune_all")
METHOD_ORDER += ("bd_cspn", "laplacian_shot", "tim", "alpha_tim", "pt_map", "transductive_finetuning")


def heading(field: str) -> str:
    """A field's name as it stands in a header or a caption.

    Example:
        >>> heading("pretrained_on"), heading("images_seen")
        ('pretrained on', 'products seen')
    """
    # the records' key is from before there were titles
    return {"images_seen": "products seen"}.get(field, field.replace("_", " "))


def shown(field: str, value: Any) -> str:
    """A field's value as it stands in a header, a row or a label.

    Example:
        >>> shown("n_way", 5), shown("n_way", "all"), shown("mask_class_words", True), shown("method", "finetune_all")
        ('5-way', 'all novel classes', 'class words masked', 'finetune all')
    """
    match field:
        case "n_way":
            return {"all": "all novel classes", "base+novel": "base + novel classes"}.get(value, f"{value}-way")
        case "n_shot":
            return f"{value}-shot"
        case "n_query":
            return f"{value} queries a class"
        case "query_distribution":
            return f"{value} queries"
        case "mask_class_words":
            return "class words masked" if value else ""  # None, there are no titles, belongs to the plain column
        case "missing_rate":
            return f"{100 * (value or 0):g} % missing"
        case "transductive":
            return "transductive" if value else "inductive"
        case "n_episodes" | "images_seen" if value is not None:
            return f"{value:,}"
        case "method":
            return str(value).replace("_", " ")
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "–" if value is None else str(value).replace("|", "\\|")


def label(fields: Sequence[str], values: Sequence[str]) -> str:
    """What a line or a side of a comparison is called, from its shown values; a method that its encoder's name ends
    with goes unsaid.

    Example:
        >>> label(("encoder", "method"), ("conv4", "ridge")), label(("encoder", "method"), ("conv4_ridge", "ridge"))
        ('conv4, ridge', 'conv4_ridge')
    """
    named = dict(zip(fields, values, strict=True))
    if named.get("encoder", "").endswith("_" + named.get("method", "–").replace(" ", "_")):
        named.pop("method")
    return ", ".join(v for v in named.values() if v not in ("", "–"))


def current(records: Iterable[Record], kind: str, **wanted: str) -> list[Record]:
    """The records of a kind and of this ``RESULT_VERSION``, filtered.

    Where several rows share encoder and method, their ``method`` says the options that tell them apart.

    Args:
        wanted: field -> the values that pass, written as text and joined by commas.
    """
    records = [r for r in records if r["result_version"] == RESULT_VERSION]
    chosen = [r for r in records if r["kind"] == kind]
    chosen = [r for r in chosen if all(str(r[name]) in values.split(",") for name, values in wanted.items())]
    names = _variants(r for r in records if r["kind"] == "cell")
    if not names:
        return chosen
    if kind == "difference":
        sides = ("a", "b")
        return [r | {s: r[s] | {"method": names[r[s]["key"]]} for s in sides if r[s]["key"] in names} for r in chosen]
    return [r | {"method": names[cell_key(r)]} if cell_key(r) in names else r for r in chosen]


def _variants(cells: Iterable[Record]) -> dict[str, str]:
    """Key of a cell -> "am3, texts names", where rows of one encoder and method differ in options other than norm."""
    places: dict[tuple, dict[str | None, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in cells:
        place = tuple(str(r[f]) for f in (*ROWS, "mask_class_words"))
        places[place][r["config"].get("row")].append(r)
    named = {}
    for rows in places.values():
        options = [group[0]["config"].get("method", {}) for group in rows.values()]
        names = dict.fromkeys(name for given in options for name in given if name != "norm")
        apart = [name for name in names if any(given.get(name) != options[0].get(name) for given in options)]
        if apart:
            for r in (r for group in rows.values() for r in group):
                told = (f"{o.removeprefix('n_')} {r['config']['method'].get(o)}" for o in apart)
                named[cell_key(r)] = ", ".join((r["method"], *told))
    return named


def varying(records: Iterable[Record], fields: Iterable[str]) -> tuple[str, ...]:
    """Those of the fields that are not shown alike in all records."""
    return tuple(f for f in fields if len({shown(f, r[f]) for r in records}) > 1)


def group_by(records: Iterable[Record], fields: Sequence[str]) -> dict[tuple[str, ...], list[Record]]:
    """Records by the shown values of fields: numbers ascending, also within words; methods in ``METHOD_ORDER``."""

    def place(value: Any) -> tuple[int, float, list[str | int]]:
        if value is None or isinstance(value, (bool, int, float)):
            return 0, float(value or 0), []
        name = str(value).partition(",")[0]  # a method's own, without options
        parts = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(value))]
        return 1, METHOD_ORDER.index(name) if name in METHOD_ORDER else len(METHOD_ORDER), parts

    groups = defaultdict(list)
    for record in sorted(records, key=lambda r: [place(r[f]) for f in fields]):
        groups[tuple(shown(f, record[f]) for f in fields)].append(record)
    return dict(groups)


def by_what_is_missing(records: Iterable[Record], kind: str = "cell") -> list[Record]:
    """Records with a further field ``missing``, such as "titles of queries"; where nothing is, once for each of these.

    So every line of a table, and of a figure, begins with the complete products.
    """
    chosen = current(records, kind)
    known = sorted({(r["config"] or {}).get("missing") for r in chosen} - {None})
    found = []
    for record in chosen:
        own = (record["config"] or {}).get("missing")
        found += [record | {"missing": name} for name in ([own] if own else known)]
    return found


def named_differences(pairs: Sequence[Record]) -> list[Record]:
    """Difference records with a further field ``difference`` that names both sides by what tells them apart.

    ``mask_class_words`` says which column the pair belongs to, also where one side has no titles to mask.
    """
    apart = told_apart(pairs)

    def side(record: Record, name: str) -> str:
        fields = [f for f in apart if f != "mask_class_words" or None not in (record["a"].get(f), record["b"].get(f))]
        return label(fields, [shown(f, record[name].get(f, record[f])) or "class words kept" for f in fields])

    def labelled(record: Record) -> Record:
        # Image against image + title: the side with titles says whether they are masked.
        sides = {record[s].get("mask_class_words") for s in "ab"}
        masked = record["mask_class_words"] or sides == {None, True}
        # A side that was not trained has no seed: the pair's is the other one's.
        seed = next(
            (s["train_seed"] for s in (record, record["a"], record["b"]) if s.get("train_seed") is not None), None
        )
        name = f"{side(record, 'a')} − {side(record, 'b')}"
        return {**record, "mask_class_words": masked, "train_seed": seed, "difference": name}

    return [labelled(r) for r in pairs]


def told_apart(pairs: Sequence[Record]) -> list[str]:
    """Fields in which the two sides of some pair differ, less what their encoders' names say already."""
    fields = [f for f in (*ROWS, "mask_class_words") if any(f in r["a"] and f in r["b"] for r in pairs)]
    sides = [{f: shown(f, r[side].get(f, r[f])) for f in fields} for r in pairs for side in "ab"]
    for field in ("modality", "fusion"):
        fewer = [f for f in fields if f != field]
        if len({tuple(s[f] for f in fewer) for s in sides}) == len({tuple(s[f] for f in fields) for s in sides}):
            fields = fewer
    return fields


def refuse_repeated(cells: Sequence[Record], places: Sequence[str]) -> None:
    """Raise ValueError if two cells of one training seed would share a place and so be averaged."""
    for place, group in group_by(cells, (*places, "train_seed")).items():
        if len(group) > 1:
            differ = [f for f in group[0] if group[0][f] != group[1].get(f)]
            raise ValueError(f"{len(group)} cells for one place, {', '.join(place)}; they differ in {differ}")
