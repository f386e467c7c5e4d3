"""Markdown tables from records: a table holds nothing that is not in the JSON lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from fewshot_prod.grouping import (
    COLUMNS,
    ROWS,
    by_what_is_missing,
    current,
    group_by,
    heading,
    named_differences,
    refuse_repeated,
    shown,
    told_apart,
    varying,
)
from fewshot_prod.results import Record, ResultsError

TRAINED_ON = ("pretrained_on", "images_seen")
# Told with each row, since methods may differ in them without answering another question.
TOLD = ("norm", "transductive", *TRAINED_ON)
# Fields whose values need no name in a caption.
PLAIN = ("catalog", "split", "modality", "encoder", "method", "transductive", *COLUMNS)

IMAGENET = "Pretrained on ImageNet, which shows things like the novel categories: {names}."
BASE_NOVEL_NOTE = (
    "Base: queries of base classes, products that no encoder was trained on; novel: queries of novel classes. All "
    "classes compete for each. A base class has {shots} labelled products. Together: the harmonic mean of both, "
    "episode by episode. Calibrated: base logits are lowered by what gives the best harmonic mean with the validation "
    "classes in the place of novel ones, on other base products than those scored."
)
INTERVAL = "± is the half-width of the 95 % interval over {n}"
KEPT = "Validation chose the start in these trainings, whose weights are those that they went on from: {names}."
LACKING = "{products:,} of {of:,} products have no {reads}: rows that read nothing else see nothing of them."
MASKED = (
    "Class words masked: the phrases that name any class of the catalog (singular, plural, hyphenated) are deleted "
    "from every title."
)
CLASSIFIER_COLUMNS = {
    "accuracy": "accuracy",
    "top_5": "top 5",
    "parent_accuracy": "parent",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "weighted_f1": "weighted F1",
}
CLASSIFIER_ROWS = ("catalog", "split", "part", "modality", "encoder", "fusion", "mask_class_words", "train_seed")


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
    kept = kept_starts(cells)
    notes += [KEPT.format(names=", ".join(kept))] if kept else []
    notes += [MASKED] if any(r["mask_class_words"] for r in cells) else []
    told = [LACKING.format(reads=r["modality"].replace("+", " or "), **r["lacking"]) for r in cells if r.get("lacking")]
    notes += dict.fromkeys(told)
    skipped = {f"{name} ({shown('n_shot', r['n_shot'])})": None for r in cells for name in r.get("skipped") or ()}
    notes += [f"Skipped, too few products: {', '.join(skipped)}."] if skipped else []
    return text + "".join(f"\n{note}\n" for note in notes)


def kept_starts(cells: Iterable[Record]) -> list[str]:
    """Encoders with the weights of what they went on from: "conv4_maml (2 of 3)", of trainings by seed and masking.

    Told by equal weights, so that the start has to be among the cells; it is what has seen least.
    """
    trainings: dict[str, set[tuple[object, ...]]] = {}
    kept: dict[str, set[tuple[object, ...]]] = {}
    for same in group_by([r for r in cells if r["encoder_hash"]], ("encoder_hash",)).values():
        least = min(r["images_seen"] or 0 for r in same)
        for r in same:
            training = tuple(r[field] for field in ("catalog", "split", "train_seed", "mask_class_words"))
            trainings.setdefault(r["encoder"], set()).add(training)
            if (r["images_seen"] or 0) > least:
                kept.setdefault(r["encoder"], set()).add(training)
    return [f"{name} ({len(kept[name])} of {len(trainings[name])})" for name in sorted(kept)]


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
    apart = told_apart(pairs)
    rows = (*(f for f in rows if f not in apart), "difference")
    return _pivot(named_differences(pairs), rows, columns, text, (), f"{caption}; {INTERVAL}")


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


def base_novel_table(records: Iterable[Record], *, rows: Sequence[str] = ROWS, without: Sequence[str] = ()) -> str:
    """Accuracies on base queries, on novel ones, and together their harmonic mean; all classes compete for each.

    Args:
        rows, without: as in :func:`methods_table`.
    """
    cells = _with_base_logits(current(records, "cell"))
    scored = [
        r | {"queries": side} | {field: r[f"{prefix}{field}"] for field in ("accuracy", "ci95")}
        for r in cells
        for side, prefix in (("base", "base_"), ("novel", "novel_"), ("together", ""))
    ]
    text = methods_table(scored, rows=(*rows, *_base_fields(cells)), columns=(*COLUMNS, "queries"), without=without)
    shots = " and ".join(sorted({str(r["config"]["base_shots"]) for r in cells}))
    return f"{text}\n{BASE_NOVEL_NOTE.format(shots=shots)}\n"


def base_novel_differences_table(records: Iterable[Record]) -> str:
    """Paired differences of the harmonic means."""
    pairs = _with_base_logits(current(records, "difference"))
    return differences_table(pairs, rows=(*ROWS, *_base_fields(pairs)))


def _with_base_logits(records: Iterable[Record]) -> list[Record]:
    """With further fields that say whether logits of base classes are calibrated, and how many products these have."""
    calibrated = {True: "calibrated", False: "as they are"}
    configs = [(r, r["config"] or {}) for r in records]
    return [
        r | {"base_logits": calibrated[c.get("calibrated", False)], "base_shots": c.get("base_shots")}
        for r, c in configs
    ]


def _base_fields(records: Sequence[Record]) -> tuple[str, ...]:
    """Which of those fields are rows; one number of base shots stands in the note alone."""
    return ("base_logits", *varying(records, ["base_shots"]))


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


def speed_table(records: Iterable[Record]) -> str:
    """What ``benchmarks/record_all.py`` recorded: of each benchmark what it compares, and the ratio of both sides."""
    lines = ["| benchmark | compares | ratio |", "| --- | --- | --: |"]
    lines += [f"| `benchmarks/{r['command']}` | {r['about']} | {r['ratio']:g} |" for r in records]
    devices = ", ".join(sorted({r["device"] for r in records}))
    return "\n".join(lines) + f"\n\nRatio: the speed of the side named first by the other's, on {devices}.\n"


def classifiers_table(records: Iterable[Record]) -> str:
    """The classifiers of all categories in percent, a line each, as Markdown with its caption."""
    found = current(records, "classifier")
    if not found:
        return "No records yet.\n"
    found = [r | {"options": told} for r, told in zip(found, _options_apart(found), strict=True)]
    rows = (*CLASSIFIER_ROWS, "options") if any(r["options"] for r in found) else CLASSIFIER_ROWS
    lines = [[*rows, "categories", "products", *CLASSIFIER_COLUMNS.values(), *map(heading, TRAINED_ON)]]
    lines.append(["---"] * (len(rows)) + ["--:"] * (2 + len(CLASSIFIER_COLUMNS)) + ["---", "--:"])
    for r in found:
        figures = ["–" if r[name] is None else f"{100 * r[name]:.1f}" for name in CLASSIFIER_COLUMNS]
        fields = ["yes" if r[f] is True else "no" if r[f] is False else shown(f, r[f]) for f in rows]
        told = [shown(f, r[f]) for f in TRAINED_ON]
        lines.append([*fields, str(r["n_categories"]), f"{r['n_products']:,}", *figures, *told])
    caption = "In %; macro: the plain mean over the categories that have products in the part measured on.\n\n"
    return caption + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _options_apart(records: Sequence[Record]) -> list[str]:
    """Of each record the training options in which others of the same row differ, as in "head cosine, lr 0.1"."""
    alike: dict[tuple, list[dict]] = defaultdict(list)
    for r in records:
        alike[tuple(r[f] for f in CLASSIFIER_ROWS)].append(r["config"]["options"])
    told = []
    for r in records:
        own, others = r["config"]["options"], alike[tuple(r[f] for f in CLASSIFIER_ROWS)]
        differing = [name for name in own if any(o.get(name) != own[name] for o in others)]
        told.append(", ".join(f"{name.replace('_', ' ')} {shown(name, own[name])}" for name in differing))
    return told


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
    header = [*map(heading, rows), *(" ".join(filter(None, c)) for c in across)]
    header += [heading(f).replace("n ", "") for f in told] + ["training seeds"] * (len(set(seeds.values())) > 1)
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
    about = [v if f in PLAIN else f"{heading(f)} {v}" for f, v in about if v not in ("", "–", "0 % missing")]
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
            raise ResultsError(
                f"cells differ in {mixed[0]} ({', '.join(values)}): select one or make it a row or column; if the "
                "catalog has changed, measure all rows again or name another file (--results)"
            )
    refuse_repeated(cells, placed)
