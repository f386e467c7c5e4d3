"""How to make each results file again: the command, its minutes, and a line that it prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_prod.grouping import current
from fewshot_prod.results import Record
from fewshot_prod.settings import Setting
from fewshot_prod.splits import DEFAULT_SPLITS


def reproduction_table(results: Mapping[str, Sequence[Record]], scripts: Path = Path("experiments")) -> str:
    """Markdown: a line for each results file that has cells of one training seed, the first, in it.

    Args:
        results: name of a results file -> its records.
        scripts: folder of the experiments; the one whose name contains the records' ``experiment`` made them.
    """
    lines = ["| command | minutes | rows | prints, among others |", "| --- | --: | --: | --- |"]
    for records in results.values():
        cells = current(records, "cell")
        seed = min((r["train_seed"] for r in cells if r["train_seed"] is not None), default=None)
        cells = [r for r in cells if r["train_seed"] in (seed, None) and r["config"].get("row")]
        if cells:
            rows = len({r["config"]["row"] for r in cells})
            command = f"`{_command(cells[0], seed, scripts)}`"
            lines.append(f"| {command} | {minutes(cells):.0f} | {rows} | `{_line(cells, seed)}` |")
    devices = sorted({r["device"] for records in results.values() for r in current(records, "cell")})
    note = (
        f"Minutes: training and measuring of one training seed and of as many rows, on {', '.join(devices)}. Where a "
    )
    note += "script has other rows by default, `--rows` names these."
    return "\n".join(lines) + f"\n\n{note}\n"


def minutes(cells: Sequence[Record]) -> float:
    """What training the encoders of some cells and measuring the cells took, in minutes.

    An encoder's ``train_seconds`` hold those of the encoders that it went on from, which count once. Of one that was
    trained twice, for rows that were measured later, the shorter time counts.
    """
    seconds: dict[str, float] = {}
    for r in cells:
        training = _text(r["config"]["training"])
        seconds[training] = min(seconds.get(training, math.inf), r["train_seconds"] or 0.0)
    starts = [_text(json.loads(training).get(part)) for training in seconds for part in ("start", "title_start")]
    own = sum(seconds.values()) - sum(seconds.get(start, 0.0) for start in starts)
    return (own + sum(r["eval_seconds"] or 0.0 for r in cells)) / 60


def _text(training: Mapping | None) -> str:
    return json.dumps(training, sort_keys=True)


def _command(cell: Record, seed: int | None, scripts: Path) -> str:
    made = sorted(path.name for path in scripts.glob(f"*{cell['experiment']}*.py"))
    if len(made) != 1:
        raise ValueError(
            f"experiment {cell['experiment']!r} is made by {made or 'no script'} in {scripts}: name one after it"
        )
    words = [f"experiments/{made[0]}"]
    words += [] if cell["catalog"] in made[0] else [f"--catalog {cell['catalog']}"]
    words += [] if cell["split"] == DEFAULT_SPLITS.get(cell["catalog"]) else [f"--split {cell['split']}"]
    return " ".join([*words, f"--seeds {seed or 0}"])


def _line(cells: Sequence[Record], seed: int | None) -> str:
    """As ``cells.measure_table`` prints it, of the first row's most shots."""
    first = [r for r in cells if r["config"]["row"] == cells[0]["config"]["row"] and r["n_way"] == cells[0]["n_way"]]
    cell = max(first, key=lambda r: r["n_shot"])
    domain = tuple(cell["domain"].split(" to ")) if cell["domain"] else None
    setting = Setting(
        *(cell[name] for name in ("n_way", "n_shot", "n_query", "query_distribution")),
        domain,
        calibrated=cell["config"].get("calibrated", False),
    )
    score = f"{100 * cell['accuracy']:.2f} ± {100 * cell['ci95']:.2f} %"
    return f"seed {seed or 0}  {cell['config']['row']}  {setting}: {score}"
