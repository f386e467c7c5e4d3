"""Markdown tables from records: a table holds nothing that is not in the JSON lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fewshot_prod.results import RESULT_VERSION, Record, cell_key

# What may tell rows and columns apart; a field with one value all over stands in the caption instead.
ROWS = ("catalog", "split", "domain", "missing_rate", "modality", "encoder", "fusion", "adapt")
ROWS += ("method",)
COLUMNS = ("mask_class_words", "query_distribution", "n_way", "n_query", "n_shot")
# Told with each row, since methods may differ in them without answering another question.
TOLD = ("norm", "transductive", "pretrained_on", "images_seen")
# Fields whose values need no name in a caption.
PLAIN = ("catalog", "split", "modality", "encoder", "method", "transductive", *COLUMNS)
METHOD_ORDER = ("nearest_centroid", "prototypical", "am3", "matching", "meta_baseline", "relation", "feat", "ridge")
METHOD_ORDER += ("maml", "maml_first_order", "proto_maml", "anil", "reptile", "meta_sgd")
METHOD_ORDER += ("linear_probe", "finetune_head", "baseline_plus_plus", "finetune_all")
METHOD_ORDER += ("bd_cspn", "laplacian_shot", "tim", "alpha_tim", "pt_map", "transductive_finetuning")

IMAGENET = "Pretrained on ImageNet, which shows things like the novel categories: {names}."
INTERVAL = "± is the half-width of the 95 % interval over {n}"
MASKED = (
    "Class words masked: the phrases that name any class of the catalog (singular, plural, hyphenated) are deleted "
    "from every title."
)


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
        apart = [o for o in options[0] if o != "norm" and any(other.get(o) != options[0][o] for other in options)]
        if apart:
            for r in (r for group in rows.values() for r in group):
                told = (f"{o} {r['config']['method'].get(o)}" for o in apart)
                named[cell_key(r)] = ", ".join((r["method"], *told))
    return named


def varying(records: Iterable[Record], fields: Iterable[str]) -> tuple[str, ...]:
    """Those of the fields that are not shown alike in all records."""
    return tuple(f for f in fields if len({shown(f, r[f]) for r in records}) > 1)


def group_by(records: Iterable[Record], fields: Sequence[str]) -> dict[tuple[str, ...], list[Record]]:
    """Records by the shown values of fields: numbers ascending, then words; methods in ``METHOD_ORDER``."""

    def place(value: Any) -> tuple[int, float, str]:
        if value is None or isinstance(value, (bool, int, float)):
            return 0, float(value or 0), ""
        name = str(value).partition(",")[0]  # a method's own, without options
        return 1, METHOD_ORDER.index(name) if name in METHOD_ORDER else len(METHOD_ORDER), str(value)

    groups = defaultdict(list)
    for record in sorted(records, key=lambda r: [place(r[f]) for f in fields]):
        groups[tuple(shown(f, record[f]) for f in fields)].append(record)
    return dict(groups)


def methods_table(
    records: Iterable[Record],
    *,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
    without: Sequence[str] = (),
) -> str:
    """Accuracies of the cells in percent, one line a method, as Markdown with its caption.

    Training seeds are averaged. Where one encoder and method was measured under two normalisations, each is a row. The
    number of episodes stands in the caption or, where rows differ in it, in each row. Nothing is bold: which difference
    is one, ``differences_table`` says.

    Args:
        rows, columns: fields that tell lines and columns apart; a field of ``rows`` makes no column.
        without: fields that are not shown, for a table that fits a narrow page.

    Raises:
        ValueError: if a place of the table would mix cells of different protocols or configurations.
    """
    cells = current(records, "cell")
    if not cells:
        return "No records yet.\n"
    columns = [f for f in columns if f not in rows]
    rows = _with_norm(cells, rows, columns)
    text = _pivot(
        cells,
        rows,
        columns,
        lambda c: _estimate(c, "accuracy"),
        [f for f in TOLD if f not in rows],
        f"Accuracy in %; {INTERVAL}",
        without,
    )
    imagenet = dict.fromkeys(str(r["encoder"]) for r in cells if "imagenet" in str(r["pretrained_on"]).lower())
    notes = [IMAGENET.format(names=", ".join(sorted(imagenet)))] if imagenet else []
    notes += [MASKED] if any(r["mask_class_words"] for r in cells) else []
    skipped = {f"{name} ({shown('n_shot', r['n_shot'])})": None for r in cells for name in r.get("skipped") or ()}
    notes += [f"Skipped, too few products: {', '.join(skipped)}."] if skipped else []
    return text + "".join(f"\n{note}\n" for note in notes)


def differences_table(
    records: Iterable[Record], *, rows: Sequence[str] = ROWS, columns: Sequence[str] = COLUMNS
) -> str:
    """Paired differences in percentage points, bold where the interval leaves out zero in every training seed."""
    pairs = current(records, "difference")
    if not pairs:
        return "No paired differences yet.\n"

    def text(cells: list[Record]) -> str:
        sure = {r["mean"] > 0 if abs(r["mean"]) > r["ci95"] else None for r in cells}
        return f"**{_estimate(cells, 'mean', '+')}**" if sure in ({True}, {False}) else _estimate(cells, "mean", "+")

    caption = "Paired difference in percentage points, bold where the interval leaves out zero in every seed"
    apart = _told_apart(pairs)
    rows = (*(f for f in rows if f not in apart), "difference")
    return _pivot(named_differences(pairs), rows, columns, text, (), f"{caption}; {INTERVAL}")


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


# One column a share, one line an encoder, a setting, and a place where titles or images are missing
MISSING_ROWS = ("missing", *(f for f in COLUMNS if f not in ("query_distribution", "n_query")))
MISSING_ROWS += tuple(f for f in ROWS if f != "missing_rate")


def missing_table(records: Iterable[Record]) -> str:
    """Accuracies as titles, or images, disappear."""
    return methods_table(by_what_is_missing(records), rows=MISSING_ROWS, columns=("missing_rate",))


def missing_differences_table(records: Iterable[Record]) -> str:
    """Paired differences as titles, or images, disappear."""
    pairs = by_what_is_missing(records, "difference")
    return differences_table(pairs, rows=MISSING_ROWS, columns=("missing_rate",))


def named_differences(pairs: Sequence[Record]) -> list[Record]:
    """Difference records with a further field ``difference`` that names both sides by what tells them apart.

    ``mask_class_words`` says which column the pair belongs to, also where one side has no titles to mask.
    """
    apart = _told_apart(pairs)

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


def _told_apart(pairs: Sequence[Record]) -> list[str]:
    """Fields in which the two sides of some pair differ, less what their encoders' names say already."""
    fields = [f for f in (*ROWS, "mask_class_words") if any(f in r["a"] and f in r["b"] for r in pairs)]
    sides = [{f: shown(f, r[side].get(f, r[f])) for f in fields} for r in pairs for side in "ab"]
    for field in ("modality", "fusion"):
        fewer = [f for f in fields if f != field]
        if len({tuple(s[f] for f in fewer) for s in sides}) == len({tuple(s[f] for f in fields) for s in sides}):
            fields = fewer
    return fields


def seconds_table(records: Iterable[Record], *, columns: Sequence[str] = COLUMNS) -> str:
    """Seconds that each method took for 1,000 episodes, features at hand; mean over training seeds."""
    cells = [r for r in current(records, "cell") if r["eval_seconds"] is not None]
    if not cells:
        return "No records yet.\n"

    def text(place: list[Record]) -> str:
        seconds = 1000 * sum(r["eval_seconds"] / r["n_episodes"] for r in place) / len(place)
        return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}" if seconds < 10 else f"{seconds:,.0f}"

    rows = _with_norm(cells, ROWS, columns)
    return _pivot(cells, rows, columns, text, ("device",), "Seconds for 1,000 episodes, measured over {n}")


def _with_norm(cells: Sequence[Record], rows: Sequence[str], columns: Sequence[str]) -> Sequence[str]:
    """The fields of rows, and "norm" where one encoder and method was measured under two normalisations."""
    places = group_by(cells, (*rows, *columns, "train_seed")).values()
    return (*rows, "norm") if any(varying(group, ["norm"]) for group in places) else rows


def _estimate(cells: Sequence[Record], field: str, sign: str = "") -> str:
    """ "79.1 ± 0.2 (78.9 to 79.4)": mean over seeds, mean half-width of the intervals, lowest and highest seed."""
    values = [100 * r[field] for r in cells]
    text = f"{sum(values) / len(values):{sign}.1f} ± {100 * sum(r['ci95'] for r in cells) / len(cells):.1f}"
    text += f" ({min(values):{sign}.1f} to {max(values):{sign}.1f})" if len(values) > 1 else ""
    return text.replace("-", "−")


def _pivot(
    cells: Sequence[Record],
    rows: Sequence[str],
    columns: Sequence[str],
    text: Callable[[list[Record]], str],
    told: Sequence[str],
    caption: str,
    without: Sequence[str] = (),
) -> str:
    """One table; of ``rows``, ``columns`` and ``told`` what does not vary goes into the caption, episodes as {n}."""
    _refuse_mixture(cells, rows, columns)
    rows, columns, told = ([f for f in fields if f not in without] for fields in (rows, columns, told))
    refuse_repeated(cells, (*rows, *columns))
    constant = [f for f in (*rows, *columns, *told) if f not in varying(cells, (*rows, *columns, *told))]
    rows = varying(cells, rows) or rows[-1:]
    columns = (*varying(cells, columns[:-1]), columns[-1])  # a header needs words even if all columns are alike
    across = group_by(cells, columns)
    seeds = {id(r): len(g) for g in group_by(cells, (*rows, *columns)).values() for r in g}
    told = [f for f in (*told, "n_episodes") if varying(cells, [f])]
    header = [*(f.replace("_", " ") for f in rows), *(" ".join(filter(None, c)) for c in across)]
    header += [f.replace("_", " ").replace("n ", "") for f in told] + ["training seeds"] * (
        len(set(seeds.values())) > 1
    )
    lines = [header, ["---"] * len(rows) + ["--:"] * (len(header) - len(rows))]
    for name, members in group_by(cells, rows).items():
        here = group_by(members, columns)
        line = [*name, *(text(here[c]) if c in here else "–" for c in across)]
        line += [" / ".join(dict.fromkeys(shown(f, r[f]) for r in members)) for f in told]
        if len(set(seeds.values())) > 1:
            line.append("–".join(str(n) for n in sorted({seeds[id(r)] for r in members})))
        lines.append(line)
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)

    about = [(f, shown(f, cells[0][f])) for f in constant if f not in (*rows, *columns)]
    about = [v if f in PLAIN else f"{f.replace('_', ' ')} {v}" for f, v in about if v not in ("", "–", "0 % missing")]
    n = "n episodes" if "n_episodes" in told else f"{cells[0]['n_episodes']:,} episodes"
    caption = caption.format(n=n)
    if max(seeds.values()) > 1:
        count = "the" if len(set(seeds.values())) > 1 else str(max(seeds.values()))
        caption += f"; mean over {count} training seeds (lowest to highest seed)"
    return f"{caption}. {', '.join(about)}.\n\n{table}" if about else f"{caption}.\n\n{table}"


def _refuse_mixture(cells: Sequence[Record], rows: Sequence[str], columns: Sequence[str]) -> None:
    placed = (*rows, *columns)
    protocol = [f for f in (*ROWS, *COLUMNS) if f in cells[0] and f not in placed and "difference" not in rows]
    for group in group_by(cells, ("catalog", "split")).values():
        mixed = varying(group, [*protocol, "episode_seed", "catalog_fingerprint", "split_fingerprint"])
        if mixed:
            values = sorted({str(r[mixed[0]]) for r in group})
            raise ValueError(f"cells differ in {mixed[0]} ({', '.join(values)}): select one or make it a row or column")
    refuse_repeated(cells, placed)


def refuse_repeated(cells: Sequence[Record], places: Sequence[str]) -> None:
    """Raise ValueError if two cells of one training seed would share a place and so be averaged."""
    for place, group in group_by(cells, (*places, "train_seed")).items():
        if len(group) > 1:
            differ = [f for f in group[0] if group[0][f] != group[1].get(f)]
            raise ValueError(f"{len(group)} cells for one place, {', '.join(place)}; they differ in {differ}")
