"""Pages that show results: experiments/tables, experiments/figures, and the generated blocks of other pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from matplotlib.axes import Axes
from PIL import Image

from fewshot_prod.grouping import ROWS, by_what_is_missing, current
from fewshot_prod.plots import (
    COLUMN_WIDTH,
    accuracy_vs_adaptation_steps,
    accuracy_vs_seconds,
    accuracy_vs_shots,
    continued_training,
    difference_forest,
    missing_sheet,
    modality_weights,
    rank_diagram,
    save_figure,
    training_progress,
)
from fewshot_prod.plots.style import text_scale
from fewshot_prod.published import beside_published
from fewshot_prod.recipes import FUSED_STARTS
from fewshot_prod.reproduction import reproduction_table
from fewshot_prod.results import Record, read_records
from fewshot_prod.tables import (
    base_novel_differences_table,
    base_novel_table,
    classifiers_table,
    differences_table,
    methods_table,
    missing_differences_table,
    missing_table,
    seconds_table,
    speed_table,
)

# What a block's name begins with: the kind of records that it shows, and how.
RENDERERS = {
    "table": ("cell", methods_table),
    "missing": ("cell", missing_table),
    "base_novel": ("cell", base_novel_table),
    "differences": ("difference", differences_table),
    "seconds": ("cell", seconds_table),
    "published": ("cell", beside_published),
    "classifiers": ("classifier", classifiers_table),
}
# Words of a table's block that say how it is shown; all others are filters.
LAYOUT = ("rows", "without")
REPRODUCE = "reproduce"  # the block that stands for all results files
SPEED = "speed"  # that of the benchmarks, whose records lie beside them


def update_generated_blocks(markdown: Path | str, blocks: Mapping[str, str]) -> None:
    """Replace what stands between ``<!-- NAME -->`` and the next ``<!-- end -->`` for every name in ``blocks``."""
    path = Path(markdown)
    page = path.read_text(encoding="utf-8")
    for name, text in blocks.items():
        pattern = re.compile(f"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, found = pattern.subn(lambda m, text=text: f"{m[1]}{text}{m[2]}", page)
        if not found:
            raise ValueError(f"{path} has no block {name!r}: add '<!-- {name} -->' and '<!-- end -->' lines")
    path.write_text(page, encoding="utf-8")


def generated_blocks(markdown: Path | str, results_dir: Path | str) -> dict[str, str]:
    """What each block of a page must hold. A block names a kind, a results file and, to filter, fields:
    ``<!-- table:table1_fashion modality=image n_way=5 -->`` or ``<!-- differences:table1_fashion -->``.
    ``rows=mask_class_words`` makes lines of what stands in columns, ``without=images_seen`` leaves out. The block
    ``reproduce`` says how each results file is made again, ``speed`` what the benchmarks measured."""
    blocks = {}
    page = Path(markdown).read_text(encoding="utf-8")
    if f"<!-- {REPRODUCE} -->" in page:
        files = sorted(Path(results_dir).glob("*.jsonl"))
        blocks[REPRODUCE] = reproduction_table({path.stem: read_records(path) for path in files})
    measured = Path(results_dir).parents[1] / "benchmarks" / "results.jsonl"
    if f"<!-- {SPEED} -->" in page:
        blocks[SPEED] = speed_table([json.loads(line) for line in measured.read_text().splitlines()])
    for name in re.findall(rf"^<!-- ((?:{'|'.join(RENDERERS)}):.*) -->$", page, re.MULTILINE):
        source, *words = name.split()
        kind, stem = source.split(":")
        path = Path(results_dir) / f"{stem}.jsonl"
        records = read_records(path) if path.exists() else []
        record_kind, render = RENDERERS[kind]
        wanted = dict(word.split("=") for word in words)
        layout = {word: tuple(wanted.pop(word).split(",")) for word in LAYOUT if word in wanted}
        if "rows" in layout:
            layout["rows"] = (*ROWS, *layout["rows"])
        blocks[name] = render(current(records, record_kind, **wanted), **layout)
    return blocks


def figures_of(stem: str, records: Sequence[Record]) -> dict[str, Callable[[], Axes]]:
    """What is drawn of a results file: name of a figure -> how to draw it.

    A file ``fig1...`` is the curve over shots, ``fig2...`` that over adaptation steps, ``table2b...`` those over what
    is missing. A table's paired differences are drawn for each number of ways, those of images alone, of titles alone,
    with titles, and of weights halfway to the start apart, and those with imbalanced queries apart; accuracy over
    seconds at the fewest ways and most shots, images alone, on the encoder that most methods are measured on. Ranks are
    drawn of table 3, whose methods have all been measured in all settings, curves over training of Omniglot's encoders
    that start from random weights, and attention by category. Table 4 has none.
    """
    attention = current(records, "attention")
    if attention:
        shares = [list(r["modality_weights"].values()) for r in attention]
        about = f"{attention[0]['split']}, {attention[0]['encoder']}"
        return {stem: partial(modality_weights, shares, [r["category"] for r in attention], about=about)}
    if stem.startswith("fig"):
        if not current(records, "cell"):
            return {}
        draw = accuracy_vs_adaptation_steps if stem.startswith("fig2") else accuracy_vs_shots
        return {stem: partial(draw, records)}
    if stem.startswith("table4"):
        return {}
    if stem.startswith("table2b"):
        return {stem: partial(missing_sheet, records)} if by_what_is_missing(records) else {}
    drawn: dict[str, Callable[[], Axes]] = {}
    if stem.startswith("omniglot") and current(records, "history"):
        goes_on = {r["encoder"] for r in current(records, "cell") if r["config"].get("training", {}).get("start")}
        from_random = [r for r in records if r["encoder"] not in goes_on]
        drawn[f"{stem}_training"] = partial(training_progress, from_random)
    trained = {r["encoder"] for r in current(records, "history")}
    if any({f"{start}_prototypical", f"{start}_continued"} <= trained for start in trained):
        drawn[f"{stem}_training"] = partial(continued_training, records, width=5)
    pairs = current(records, "difference")
    part = _part
    if stem.startswith("table2"):  # its fusions under episodic training, and that against its start, are on the page
        pairs, part = [r for r in pairs if r["method"] == "nearest_centroid"], _part_beside_images
    for way in dict.fromkeys(r["n_way"] for r in pairs):
        for name in dict.fromkeys(map(part, pairs)):
            for ending, balanced in (("", True), ("_imbalanced", False)):
                chosen = [r for r in pairs if r["n_way"] == way and part(r) == name]
                chosen = [r for r in chosen if (r["query_distribution"] == "balanced") == balanced]
                if chosen:
                    drawn[f"{stem}_differences_{name}_{way}{ending}"] = partial(difference_forest, chosen)
    cells = current(records, "cell", domain="None", query_distribution="balanced", modality="image")
    ways = [r["n_way"] for r in cells if isinstance(r["n_way"], int)]
    cells = [r for r in cells if r["n_way"] == min(ways, default=0) and r["eval_seconds"]]
    cells = [r for r in cells if r["n_shot"] == max(c["n_shot"] for c in cells)]
    methods: dict[str, set[str]] = {}  # by the encoder, whatever went on from it
    for r in cells:
        methods.setdefault(r["encoder"].split("_")[0], set()).add(r["method"])
    most = max(methods, key=lambda name: len(methods[name]), default="")
    cells = [r for r in cells if r["encoder"].split("_")[0] == most]
    if len(methods.get(most, ())) > 2:
        drawn[f"{stem}_seconds"] = partial(accuracy_vs_seconds, cells, width=5)
    if stem.startswith("table3"):
        drawn[f"{stem}_ranks"] = partial(rank_diagram, records)
    return drawn


def _part(pair: Record) -> str:
    """The figure of a paired difference: that of images alone, of titles alone or with titles, plain or masked."""
    if (pair["a"].get("encoder") or "").endswith("_halfway"):
        return "halfway"
    part = {"image": "image", "title": "title_alone"}.get(pair["modality"], "titles")
    masked = any(side.get("mask_class_words") for side in (pair, pair["a"], pair["b"]))
    return f"masked_{part}" if masked else part


def _part_beside_images(pair: Record) -> str:
    """The same for table 2, fusions apart by whose image features they read; the default ones have the plain name."""
    encoder = pair["a"].get("encoder") or pair["encoder"]
    images = max((start for start in FUSED_STARTS if encoder.startswith(f"{start}_")), key=len, default="lite0")
    return _part(pair) if images == "lite0" else f"{_part(pair)}_{images}"


def fingerprint(records: Sequence[Record]) -> str:
    """What a figure was drawn from, as 16 hex digits: its PNG carries them."""
    return sha256("\n".join(sorted(json.dumps(r, sort_keys=True) for r in records)).encode()).hexdigest()[:16]


def write_figures(stem: str, records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw what :func:`figures_of` names into ``folder``, each PNG with its records' :func:`fingerprint`."""
    files = []
    for name, draw in figures_of(stem, records).items():
        files.append(save_figure(draw(), folder / f"{name}.png", Records=fingerprint(records)))
        print(f"wrote {files[-1]}")
    return files


def write_tables(
    results_dir: Path = Path("experiments/results"),
    tables_dir: Path = Path("experiments/tables"),
    figures_dir: Path = Path("experiments/figures"),
    pages: tuple[Path, ...] = (Path("README.md"), Path("experiments/RESULTS.md")),
) -> None:
    """Render every results file: a table each, its figures, and the blocks of ``pages``."""
    tables_dir.mkdir(parents=True, exist_ok=True)
    for path in sorted(results_dir.glob("*.jsonl")):
        records = read_records(path)
        figures = write_figures(path.stem, records, figures_dir)
        page = tables_dir / f"{path.stem}.md"
        figures += figures_dir.glob(f"{path.stem}_products.png")  # by the experiment itself
        page.write_text(_page(path.stem, records, figures), encoding="utf-8")
        print(f"wrote {page}")
    for page in pages:
        update_generated_blocks(page, generated_blocks(page, results_dir))
        print(f"wrote the tables in {page}")


def _page(stem: str, records: Sequence[Record], figures: Iterable[Path]) -> str:
    """Everything that a results file says."""
    parts = {
        "Accuracy": ("cell", methods_table),
        "Paired differences": ("difference", differences_table),
        "Seconds": ("cell", seconds_table),
        "Classifiers": ("classifier", classifiers_table),
    }
    if stem.startswith("table2b"):
        parts |= {"Accuracy": ("cell", missing_table), "Paired differences": ("difference", missing_differences_table)}
        del parts["Seconds"]  # table 2 has them
    if stem.startswith("table4"):
        parts |= {"Accuracy": ("cell", base_novel_table)}
        parts |= {"Paired differences": ("difference", base_novel_differences_table)}
        del parts["Seconds"]  # table 1 has them
    if stem.startswith("omniglot"):
        parts = {"Row by row": ("cell", beside_published), **parts}
    text = f"# {stem}\n\nMade by `make tables` from [the records](../results/{stem}.jsonl).\n"
    for heading, (kind, render) in parts.items():
        if current(records, kind):
            text += f"\n## {heading}\n\n{render(records)}"
    drawn = [f'<img src="../figures/{png.name}" width="{_pixels(png)}" alt="{png.stem}">\n' for png in figures]
    return text + ("\n## Figures\n\n" + "\n".join(drawn) if drawn else "")


def _pixels(png: Path) -> int:
    """How wide a figure is shown: text grows with the root of a figure's width, so this makes it one size on a page."""
    with Image.open(png) as image:
        inches = image.width / image.info["dpi"][0]
    return round(150 * COLUMN_WIDTH * text_scale(inches))


if __name__ == "__main__":
    import tyro

    tyro.cli(write_tables)
