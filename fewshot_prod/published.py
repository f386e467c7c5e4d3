"""Omniglot: accuracies as their authors published them, beside those measured here."""

from __future__ import annotations

from collections.abc import Iterable

from fewshot_prod.grouping import current, heading, shown
from fewshot_prod.results import Record

SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))  # (n_way, n_shot)

# Published accuracies in percent on Vinyals' split, or another random one of all characters, in the order of SETTINGS,
# by row. None: not reported. Those of Nichol et al. are as other reimplementations cite them; of ridge (Bertinetto et
# al. 2019) none was found, so that none is given.
PUBLISHED: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "prototypical": ("Snell et al. 2017, table 1", (98.8, 99.7, 96.0, 98.9)),
    "prototypical, 5 shots": ("Snell et al. 2017, table 1", (98.8, 99.7, 96.0, 98.9)),
    "prototypical, long": ("Snell et al. 2017, table 1", (98.8, 99.7, 96.0, 98.9)),
    "matching": ("Vinyals et al. 2016, table 1", (98.1, 98.9, 93.8, 98.5)),
    "maml": ("Finn et al. 2017, table 1, transductive", (98.7, 99.9, 95.8, 98.9)),
    "maml, 20 ways": ("Finn et al. 2017, table 1, transductive", (98.7, 99.9, 95.8, 98.9)),
    "maml, 20 ways, long": ("Finn et al. 2017, table 1, transductive", (98.7, 99.9, 95.8, 98.9)),
    "maml first order": ("Nichol et al. 2018, table 2, transductive", (98.3, 99.2, 89.4, 97.9)),
    "anil": ("PaddleFSL, first order", (96.1, 98.7, None, None)),
    "reptile": ("Nichol et al. 2018, table 2, transductive", (97.7, 99.5, 89.4, 97.1)),
    "reptile, support statistics": ("Nichol et al. 2018, table 2, inductive", (95.4, 98.9, 88.1, 96.7)),
}


def beside_published(records: Iterable[Record]) -> str:
    """Markdown: each row's accuracies, its budget and how it normalises; on Vinyals' split beside published ones."""
    cells: dict[tuple[str, int], list[Record]] = {}
    for record in current(records, "cell"):
        cells.setdefault((record["config"]["row"], record["train_seed"]), []).append(record)
    if not cells:
        return "No records yet.\n"
    splits = {record["split"] for group in cells.values() for record in group}
    published = PUBLISHED if splits == {"omniglot_vinyals"} else {}
    titles = [f"{shown('n_way', way)} {shown('n_shot', shot)}" for way, shot in SETTINGS]
    header = ["row", *titles, "seed", heading("images_seen"), "minutes", "norm", "", "episodes"]
    lines = [header, ["---", *["--:"] * 7, "---", "---", "--:"]]
    for name in dict.fromkeys(name for name, _ in cells):
        if name in published:
            source, figures = published[name]
            lines.append([f"*{source}*", *("–" if f is None else f"*{f:.1f}*" for f in figures), *[""] * 6])
        for seed, here in ((seed, group) for (row, seed), group in cells.items() if row == name):
            found = {(r["n_way"], r["n_shot"]): f"{100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f}" for r in here}
            one = here[0]
            minutes, way = f"{one['train_seconds'] / 60:.0f}", shown("transductive", one["transductive"])
            episodes = shown("n_episodes", max(r["n_episodes"] for r in here))
            budget = [str(seed), shown("images_seen", one["images_seen"]), minutes, one["norm"], way, episodes]
            lines.append([name, *(found.get(setting, "–") for setting in SETTINGS), *budget])
    note = "Accuracy in %; ± is the half-width of the 95 % interval over episodes; minutes are those of training."
    if published:
        note += " Published figures stand in italics above their row; splits, budgets and intervals of theirs differ."
    return f"{note}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
