"""Pages that show results: experiments/tables, experiments/figures and the generated blocks of the README."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fewshot_prod.classification import classifiers_table
from fewshot_prod.plots import accuracy_vs_shots, rank_diagram, save_figure, training_progress
from fewshot_prod.published import beside_published
from fewshot_prod.results import read_records
from fewshot_prod.tables import current, differences_table, methods_table, seconds_table

# What a block's name begins with: the kind of records that it shows, and how.
RENDERERS = {
    "table": ("cell", methods_table),
    "differences": ("difference", differences_table),
    "seconds": ("cell", seconds_table),
    "published": ("cell", beside_published),
    "classifiers": ("classifier", classifiers_table),
}
# The figure of a results file, by what the file's name begins with: the kind of records that it shows, and how.
FIGURES = {
    "fig": ("cell", accuracy_vs_shots),
    "table3": ("cell", rank_diagram),
    "omniglot": ("history", training_progress),
}


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
    ``<!-- table:table1_fashion modality=image n_way=5 -->`` or ``<!-- differences:table1_fashion -->``."""
    blocks = {}
    page = Path(markdown).read_text(encoding="utf-8")
    for name in re.findall(rf"^<!-- ((?:{'|'.join(RENDERERS)}):.*) -->$", page, re.MULTILINE):
        source, *filters = name.split()
        kind, stem = source.split(":")
        path = Path(results_dir) / f"{stem}.jsonl"
        records = read_records(path) if path.exists() else []
        record_kind, render = RENDERERS[kind]
        blocks[name] = render(current(records, record_kind, **dict(f.split("=") for f in filters)))
    return blocks


def write_tables(
    results_dir: Path = Path("experiments/results"),
    tables_dir: Path = Path("experiments/tables"),
    figures_dir: Path = Path("experiments/figures"),
    readme: Path = Path("README.md"),
) -> None:
    """Render every results file: a table each, the figures of ``FIGURES``, and the README's blocks."""
    tables_dir.mkdir(parents=True, exist_ok=True)
    for path in sorted(results_dir.glob("*.jsonl")):
        records = read_records(path)
        page = tables_dir / f"{path.stem}.md"
        parts = [methods_table(records), differences_table(records), seconds_table(records)]
        if current(records, "classifier"):
            parts = [classifiers_table(records)]
        if path.stem.startswith("omniglot"):
            parts.insert(0, beside_published(records))
        page.write_text("\n".join([f"# {path.stem}\n", *parts]), encoding="utf-8")
        print(f"wrote {page}")
        for prefix, (kind, draw) in FIGURES.items():
            if path.stem.startswith(prefix) and current(records, kind):
                print(f"wrote {save_figure(draw(records), figures_dir / f'{path.stem}.png')}")
    update_generated_blocks(readme, generated_blocks(readme, results_dir))
    print(f"wrote the tables in {readme}")


if __name__ == "__main__":
    import tyro

    tyro.cli(write_tables)
