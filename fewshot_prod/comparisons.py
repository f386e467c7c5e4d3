"""Paired differences between the rows of a table, over the episodes that both were measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fewshot_prod.episode_accuracy import load_episode_accuracy
from fewshot_prod.evaluation import paired_difference
from fewshot_prod.results import SETTING_FIELDS, Record, append_record, cell_key, difference
from fewshot_prod.rows import Row
from fewshot_prod.settings import Setting


def compare(
    rows: Sequence[Row],
    settings: Sequence[Setting],
    cells: dict[tuple[str, Setting], Record],
    seed: int,
    episodes_folder: Path,
    done: dict[str, Record],
    results: Path,
    report: Callable[[str], None],
) -> None:
    """Append the paired differences that ``Row.against`` asks for, over the episodes that both cells have.

    Args:
        cells: of this run and ``seed``.
        done: all cells by their keys: a row that is not of this run is taken from there.
    """
    named = {row.name for row in rows}
    for row in rows:
        for other in row.against:
            for setting in settings:
                a, b = cells.get((row.name, setting)), cells.get((other, setting))
                if a is None or (b is None and other in named):
                    continue  # why stands above
                b = b or measured_before(other, a, seed, episodes_folder, done)
                if b is None:
                    where = f"seed {seed}  {row.name}  {setting}"
                    report(f"{where}: not compared with {other!r}, not measured here: name that row in --rows too")
                    continue
                first, second = (load_episode_accuracy(episodes_folder, cell_key(c)) for c in (a, b))
                record = paired(a, first, b, second)
                before = done.get(cell_key(record))
                if before is None or (before["mean"], before["ci95"]) != (record["mean"], record["ci95"]):
                    append_record(results, record)  # of cells that were measured again, a later line wins


def paired(a: Record, first: np.ndarray, b: Record, second: np.ndarray) -> Record:
    """Cell ``a`` minus cell ``b`` over the episodes that both have: the first ones of the longer, float64 (n,)."""
    n = min(len(first), len(second))
    mean, half = paired_difference(first[:n], second[:n])
    return difference(a, b, mean=mean, ci95=half)


def measured_before(row: str, like: Record, seed: int, episodes_folder: Path, done: dict[str, Record]) -> Record | None:
    """The latest cell of this row on the episodes of ``like``, by an encoder of this seed or one without training."""
    same = ("experiment", "catalog", "catalog_fingerprint", "split", "split_fingerprint", "result_version")
    same += ("n_way", "n_shot", "n_query", "query_distribution", "domain", "missing_rate", "episode_seed")
    for key, record in reversed(done.items()):
        if (
            record["kind"] == "cell"
            and record["config"].get("row") == row
            and record["train_seed"] in (seed, None)
            and all(record[name] == like[name] for name in same)
            and all(record["config"].get(name) == like["config"].get(name) for name in SETTING_FIELDS)
            and (episodes_folder / f"{key}.npz").exists()
        ):
            return record
    return None
