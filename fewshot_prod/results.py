"""Results as JSON lines: one line a cell of a table, with everything needed to make the cell again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fewshot_prod.provenance import commit, versions
from fewshot_prod.storage import write_whole

Record = dict[str, Any]


class ResultsError(ValueError):
    """A file of records is broken, or would lose some by what is asked for."""


# Raise it when a change of the code makes the same configuration give other numbers: finished cells are then redone.
RESULT_VERSION = 1

# Of a cell's configuration, what belongs to the episodes and not to the row.
SETTING_FIELDS = ("missing", "base_shots", "calibrated")

# Fields that say how a cell came out or where it was made. All others say what was measured: they make its key.
OUTCOMES = {
    *("accuracy", "ci95", "macro_precision", "macro_recall", "macro_f1", "skipped", "mean"),
    *("base_accuracy", "base_ci95", "novel_accuracy", "novel_ci95", "base_penalty"),
    "lacking",  # {"products": n, "of": N}: how many have nothing that the encoder reads, where there are any
    *("weighted_precision", "weighted_recall", "weighted_f1", "top_5", "parent_accuracy"),
    *("train_seconds", "eval_seconds", "commit", "versions", "device"),
}


def cell(
    *,
    experiment: str,
    catalog: str,
    method: str,
    n_way: int | str,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    episode_seed: int,
    config: Mapping[str, Any],
    catalog_fingerprint: str,
    split: str | None = None,
    split_fingerprint: str | None = None,
    encoder: str | None = None,
    encoder_hash: str | None = None,
    fusion: str | None = None,
    modality: str = "image",
    mask_class_words: bool | None = None,
    missing_rate: float | None = None,
    domain: str | None = None,
    query_distribution: str = "balanced",
    train_seed: int | None = None,
    transductive: bool = False,
    norm: str | None = None,
    adapt: Any = None,
    pretrained_on: str | None = None,
    images_seen: int | None = None,
    result_version: int = RESULT_VERSION,
) -> Record:
    """What a cell measures, known before it is measured; ``measured`` adds how it came out.

    Args:
        n_way: classes an episode, or "all" (novel classes at once) or "base+novel" (these and all base classes).
        n_query: query products a class.
        config: the whole resolved configuration; plain JSON values, no paths.
        modality: "image", "title", "image+title" or "image+title+attributes".
        train_seed: seed of the encoder's training; None for an encoder that was not trained here.
        norm: what normalisation layers use: "frozen" running statistics, those of the "batch" or of the "support", or
            those of each product ("group").
        images_seen: products shown in all of the encoder's training here, each time counted, pretraining included.

    Raises:
        TypeError: for an unknown or missing field, and for a value that JSON cannot carry.

    Example:
        >>> one = cell(experiment="table1", catalog="synthetic", method="maml", n_way=5, n_shot=1, n_query=15,
        ...            n_episodes=600, episode_seed=0, config={"inner_lr": 0.01}, catalog_fingerprint="5e1f")
        >>> one["fusion"] is None, len(cell_key(one))
        (True, 16)
    """
    return {"kind": "cell", **_plain(locals())}


def measured(
    cell: Record,
    *,
    accuracy: float,
    ci95: float,
    macro_precision: float | None = None,
    macro_recall: float | None = None,
    macro_f1: float | None = None,
    skipped: Mapping[str, int] | None = None,
    train_seconds: float | None = None,
    eval_seconds: float | None = None,
    device: str = "cpu",
) -> Record:
    """The cell's record: its coordinates, how it came out, and the code and versions that made it.

    Args:
        accuracy: mean over episodes, 0 to 1; with "base+novel" of the harmonic mean of both sides' accuracies.
        ci95: half-width of its 95 % interval over episodes, 0 to 1.
        skipped: categories too small for the setting and their number of groups.
        device: as ``provenance.device_name`` gives it.
    """
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy {accuracy} is not between 0 and 1; records hold fractions, tables print percent")
    outcome = _plain({k: v for k, v in locals().items() if k != "cell"})
    return {**cell, **outcome, "commit": commit(), "versions": versions()}


def training_history(
    rows: Sequence[Mapping[str, float]],
    *,
    catalog: str,
    split: str,
    encoder: str,
    train_seed: int,
    encoder_hash: str,
    images_seen: int,
) -> Record:
    """How an encoder's training went, kind "history": ``rows`` are its validation accuracies as it went on.

    Args:
        encoder: the recipe.
        images_seen: products shown by the last row, each time counted, earlier training included.
    """
    return {"kind": "history", **_plain(locals()), "result_version": RESULT_VERSION, "commit": commit()}


def difference(a: Record, b: Record, *, mean: float, ci95: float) -> Record:
    """The paired difference of two measured cells: accuracy of ``a`` minus accuracy of ``b``, episode by episode.

    What both cells share stands at the record's top, what tells them apart inside its ``a`` and ``b``.

    Raises:
        ValueError: if the cells were not measured on the same episodes, so that nothing can be paired.
    """
    episodes = ("catalog_fingerprint", "split_fingerprint", "n_way", "n_shot", "n_query", "query_distribution")
    for name in (*episodes, "domain", "episode_seed"):
        if a[name] != b[name]:
            raise ValueError(f"cells with {name} {a[name]!r} and {b[name]!r} share no episodes: nothing to pair")
    names = [n for n in a if n not in OUTCOMES]
    shared = {n: a[n] if a[n] == b[n] else None for n in names}
    apart = [n for n in names if a[n] != b[n]]
    sides = {s: {"key": cell_key(c), **{n: c[n] for n in apart if n != "config"}} for s, c in (("a", a), ("b", b))}
    shared |= {"kind": "difference", "n_episodes": min(a["n_episodes"], b["n_episodes"])}
    settings = {name: a["config"][name] for name in SETTING_FIELDS if a["config"].get(name)}
    if settings and all(b["config"].get(name) == value for name, value in settings.items()):
        shared["config"] = settings  # of both, as the rest of the configurations is not
    return {**shared, **sides, **_plain({"mean": mean, "ci95": ci95}), "commit": commit(), "versions": versions()}


def cell_key(record: Record) -> str:
    """16 hex digits over all that says what was measured; the same before and after measuring.

    Commit, versions, device and seconds take no part: a finished cell stays finished on another machine.
    """
    coordinates = _plain({k: v for k, v in record.items() if k not in OUTCOMES})
    return hashlib.sha256(json.dumps(coordinates, sort_keys=True).encode()).hexdigest()[:16]


def append_record(path: Path | str, record: Record) -> None:
    """Add one line, whole or not at all as readers see it: a line counts once its newline is there.

    A torn last line (the process was killed, the disk was full) is first moved aside to ``path`` + ".torn".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(_plain(record)) + "\n"
    with FileLock(f"{path}.lock"), path.open("a+b") as file:
        file.seek(0)
        whole, torn = _split_torn(file.read())
        if torn:
            warnings.warn(f"{path}: moved a torn last line of {len(torn)} bytes aside to {path}.torn", stacklevel=2)
            with Path(f"{path}.torn").open("ab") as aside:
                aside.write(torn + b"\n")
            file.truncate(len(whole))
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def write_records(path: Path | str, records: Sequence[Record]) -> None:
    """Make the file of these records alone, a line each; what it held stays until all of them are written."""
    text = "".join(json.dumps(_plain(record)) + "\n" for record in records)
    write_whole(Path(path), lambda file: file.write_text(text, encoding="utf-8"))


def read_records(path: Path | str) -> list[Record]:
    """The records of a file, oldest first; of a cell that stands there twice the later line counts.

    Raises:
        FileNotFoundError: if there is no such file.
        ResultsError: for a broken line before the last, with its number. A torn last line only warns.
    """
    whole, torn = _split_torn(Path(path).read_bytes())
    if torn:
        warnings.warn(f"{path}: left out a torn last line of {len(torn)} bytes; its cell will be redone", stacklevel=2)
    records = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            records[cell_key(record)] = record
        except (ValueError, AttributeError) as error:
            raise ResultsError(
                f"{path}, line {number} is no JSON record ({error}); delete that line and rerun"
            ) from error
    return list(records.values())


def refuse_fewer_episodes(
    path: Path | str, records: Sequence[Record], where: Mapping[str, Any], asked: Mapping[str, int]
) -> None:
    """Raise ResultsError if a run would put cells of fewer episodes in the place of these ``records`` of ``path``.

    Whatever their settings and training seeds, so that none is replaced by less. More episodes may be measured of
    some settings or seeds first: until the others follow, a table names both numbers in such a row.

    Args:
        where: fields that all cells of the run share, as records have them: experiment, catalog, split, episode_seed.
        asked: name of each row that is to be measured -> episodes.
    """
    for record in records:
        if record["kind"] != "cell" or any(record[name] != value for name, value in where.items()):
            continue
        row, n = record["config"].get("row"), record["n_episodes"]
        if asked.get(row, n) < n:
            raise ResultsError(
                f"{path} holds {row!r} over {n:,} episodes, which a run over {asked[row]:,} would replace: name "
                f"another file (--results), or as many episodes (--episodes, for adapting methods --episodes-adapting)"
            )


def drop_superseded(path: Path | str, asked: Collection[str] = ()) -> int:
    """Take out cells that stand there again, later, for the same row, setting and seed, and the differences of both.

    Likewise the history of an encoder that was trained anew.

    That is what a changed recipe, catalog, split, hyperparameter or number of episodes leaves behind; a table would
    refuse the two together, or show the old one as a row of its own.

    Args:
        asked: keys of cells and histories that stay, also where others stand later: those of the run that ends here,
            which found some of them measured before.

    Returns:
        How many records were taken out.
    """
    with FileLock(f"{path}.lock"):
        return _drop_superseded(path, asked)


def _drop_superseded(path: Path | str, asked: Collection[str]) -> int:
    records = read_records(path)
    unlike = OUTCOMES | {"config", "encoder_hash", "images_seen", "catalog_fingerprint", "result_version"}
    unlike |= {"n_episodes", "norm", "transductive", "rows", "fusion", "adapt", "pretrained_on", "split_fingerprint"}
    latest: dict[str, str] = {}
    for record in sorted(records, key=lambda r: cell_key(r) in asked):
        if record["kind"] != "difference":
            told = {name: record.get("config", {}).get(name) for name in ("row", *SETTING_FIELDS)}
            place = {k: v for k, v in record.items() if k not in unlike} | told
            latest[json.dumps(place, sort_keys=True)] = cell_key(record)
    keys = set(latest.values())
    kept = [
        r
        for r in records
        if ({r["a"]["key"], r["b"]["key"]} <= keys if r["kind"] == "difference" else cell_key(r) in keys)
    ]
    if len(kept) < len(records):
        write_records(path, kept)
    return len(records) - len(kept)


def _plain(value: Any, name: str = "record") -> Any:
    """The value as JSON reads it back (lists for tuples, str keys), so that keys agree before and after writing."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{name}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    remedy = "leave paths out, they name a machine and not a setting" if isinstance(value, Path) else "use plain values"
    raise TypeError(f"{name} is {value!r}, which a record cannot carry: {remedy}")


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    """The whole lines, and what follows the last newline."""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]
