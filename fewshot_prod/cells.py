"""Measure the cells of a table: encoders by recipe, methods on the same novel episodes, one record a cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_prod.base_novel import BASE_NOVEL, BaseNovelSampler
from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.checkpoints import encoder_hash
from fewshot_prod.comparisons import compare
from fewshot_prod.episode_accuracy import save_episode_accuracy
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.errors import UsageError
from fewshot_prod.evaluation import evaluate, mean_ci95
from fewshot_prod.methods import METHODS
from fewshot_prod.pools import Pools, hyperparameters
from fewshot_prod.prepare import columns_read, lacking_words, prepare_encoder
from fewshot_prod.provenance import device_name
from fewshot_prod.results import (
    Record,
    append_record,
    cell,
    cell_key,
    drop_superseded,
    measured,
    read_records,
    refuse_fewer_episodes,
    training_history,
)
from fewshot_prod.rows import Row, check_row, readable_rows
from fewshot_prod.settings import Setting, calibration_sampler, episode_sampler
from fewshot_prod.splits import Split


def measure_table(
    experiment: str,
    rows: Sequence[Row],
    settings: Sequence[Setting],
    *,
    catalog: Catalog,
    split: Split,
    seeds: Sequence[int],
    results: Path,
    runs: Path,
    n_episodes: int = 10_000,
    n_episodes_adapting: int = 200,
    episode_seed: int = 0,
    part: str = "novel",
    overrides: dict[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Measure every (row, setting, seed) that ``results`` lacks; encoders that do not exist yet are trained.

    Args:
        results: the JSONL file; finished cells in it are skipped, so that the same call goes on after a stop.
        runs: folder of trained encoders and per-episode accuracies.
        n_episodes: of feature methods.
        n_episodes_adapting: of adapting methods, the first ones of the same sequence.
        part: the classes that episodes are of: "novel", or "validation" to choose hyperparameters on.
        overrides: training options that win over the recipes' (for smoke runs).

    Returns:
        One line for each failed cell, reported at the end too. A setting that the novel classes are too small for is
        reported, not failed.

    Raises:
        UnknownName: for a row with an unknown recipe, method or option, before anything is trained.
        ResultsError: if ``results`` holds one of the rows over more episodes, likewise.
        UsageError: for "base+novel" beside other ways, or fewer than two episodes, likewise.
        CatalogError: if every row reads what no product has, or no setting is possible, likewise.
    """
    for row in rows:
        check_row(row)
    with_base = any(setting.n_way == BASE_NOVEL for setting in settings)
    if with_base and not all(setting.n_way == BASE_NOVEL for setting in settings):
        raise UsageError(
            f"n_way={BASE_NOVEL!r} beside other ways: measure them apart, base products are held out for it"
        )
    rows = readable_rows(rows, catalog, report)
    samplers, impossible = episode_samplers(catalog, split, settings, episode_seed, part)
    episodes = {"features": n_episodes, "inputs": min(n_episodes, n_episodes_adapting)}
    earlier = read_records(results) if results.exists() else []
    place = {"experiment": experiment, "catalog": catalog.name, "split": split_name(split, part)}
    place["episode_seed"] = episode_seed
    asked_for = {r.name: episodes[METHODS[r.method].needs] for r in rows}
    refuse_fewer_episodes(results, earlier, place, asked_for)
    if (fewest := min(asked_for.values())) < 2:
        raise UsageError(f"{fewest} episodes (--episodes, --episodes-adapting): an interval needs at least two")
    done = {cell_key(r): r for r in earlier}
    episodes_folder = runs / "episode_accuracy"
    failures: list[str] = []
    asked: set[str] = set()
    total, count, started = len(rows) * len(settings) * len(seeds), 0, time.perf_counter()
    measured_now = 0
    possible = sum(row.n_ways is None or setting.n_way in row.n_ways for row in rows for setting in samplers)
    before = [r for r in earlier if r["kind"] == "cell" and r["config"].get("row") in asked_for]
    # for the time left; of those measured before some may be outdated
    unmeasured = len(seeds) * possible - sum(r["train_seed"] in (*seeds, None) for r in before)
    for seed in seeds:
        cells: dict[tuple[str, Setting], Record] = {}
        pools: dict[str, Pools] = {}
        untrainable: dict[str, Exception] = {}
        for row in rows:
            if all(row.n_ways and setting.n_way not in row.n_ways for setting in samplers):
                way = " or ".join(map(str, row.n_ways))
                report(f"seed {seed}  {row.name}: not possible here: it is measured {way}-way alone")
                count += len(settings)
                continue
            try:
                if row.recipe in untrainable:
                    raise untrainable[row.recipe]
                if row.recipe not in pools:
                    prepared = prepare_encoder(row.recipe, catalog, split, seed, runs, overrides, report)
                    pools[row.recipe] = Pools(prepared, catalog, split, part, with_base=with_base)
                    if blind := lacking_words(prepared.encoder, split.select(catalog, part)):
                        report(f"{row.recipe}, {part} classes: {blind}")
                    history = history_record(row.recipe, pools[row.recipe], seed)
                    asked.add(cell_key(history))
                    if history["rows"] and cell_key(history) not in done:
                        append_record(results, history)
                pool = pools[row.recipe]
                method = pool.build(row.method, **row.options)
            except Exception as error:
                failures.append(f"{row.name}, seed {seed}: {type(error).__name__}: {error}")
                if row.recipe not in pools:  # not tried again for its other rows
                    untrainable[row.recipe] = error.with_traceback(None)
                count += len(settings)
                continue
            for setting in settings:
                count += 1
                alone = "+" not in pool.prepared.encoder.modality
                if (row.n_ways and setting.n_way not in row.n_ways) or (setting.missing and alone):
                    continue  # products keep the last modality that they have
                where = f"[{count}/{total}] seed {seed}  {row.name}  {setting}"
                if setting in impossible:
                    report(f"{where}: not possible here: {impossible[setting]}")
                    continue
                planned = describe(experiment, row, setting, method, pool, seed, episodes[method.needs], episode_seed)
                key = cell_key(planned)
                asked.add(key)
                if key in done and (episodes_folder / f"{key}.npz").exists():
                    cells[row.name, setting] = done[key]
                    report(f"{where}: done before")
                    continue
                try:
                    sampler = samplers[setting]
                    record, accuracy = measure_cell(
                        planned, row, method, pool, setting, sampler, heartbeat(where, report)
                    )
                    whole = None if setting.n_way == BASE_NOVEL else sampler.n_way * sampler.n_query
                    save_episode_accuracy(episodes_folder, key, accuracy, whole)
                    append_record(results, record)
                except Exception as error:
                    failures.append(f"{row.name}, {setting}, seed {seed}: {type(error).__name__}: {error}")
                    continue
                cells[row.name, setting] = done[key] = record
                measured_now += 1
                left = (time.perf_counter() - started) / measured_now * max(0, unmeasured - measured_now) / 60
                report(
                    f"{where}: {100 * record['accuracy']:.2f} ± {100 * record['ci95']:.2f} %"
                    f"  ({record['eval_seconds']:.1f} s, about {left:.0f} min left)"
                )
        compare(rows, settings, cells, seed, episodes_folder, done, results, report)
    dropped = drop_superseded(results, asked) if results.exists() else 0
    if dropped:
        report(f"{dropped} records of earlier recipes, options or catalogs were taken out of {results}")
    for failure in failures:
        report(f"failed: {failure}")
    report(f"{measured_now} cells measured, {len(failures)} failed; records in {results}")
    return failures


def episode_samplers(
    catalog: Catalog, split: Split, settings: Sequence[Setting], seed: int, part: str
) -> tuple[dict[Setting, EpisodeSampler | BaseNovelSampler], dict[Setting, str]]:
    """A sampler for each setting that the part's categories are enough for, and why the others are not possible.

    Raises:
        CatalogError: if none is possible.
    """
    samplers, impossible = {}, {}
    for setting in settings:
        try:
            samplers[setting] = episode_sampler(catalog, split, setting, seed, part)
            if setting.calibrated:  # on these classes
                calibration_sampler(catalog, split, setting, seed)
        except ValueError as error:
            samplers.pop(setting, None)
            impossible[setting] = str(error)
    if not samplers:
        raise CatalogError(f"nothing can be measured: {'; '.join(dict.fromkeys(impossible.values())) or 'no settings'}")
    return samplers, impossible


def split_name(split: Split, part: str) -> str:
    """How records call the part of a split that episodes are of."""
    return split.name if part == "novel" else f"{split.name}, {part} classes"


def describe(
    experiment: str, row: Row, setting: Setting, method: Any, pool: Pools, seed: int, n_episodes: int, episode_seed: int
) -> Record:
    """The cell before it is measured: everything that its key is made of."""
    facts, encoder = pool.prepared.facts, pool.prepared.encoder
    config = {"row": row.name, "method": hyperparameters(method), "training": facts["training"]}
    if setting.missing:
        config["missing"] = str(setting.missing)
    if setting.n_way == BASE_NOVEL:
        config |= {"base_shots": setting.base_shots, "calibrated": setting.calibrated}
    return cell(
        experiment=experiment,
        catalog=pool.catalog.name,
        split=split_name(pool.split, pool.part),
        method=row.method,
        encoder=row.recipe.replace("_masked", ""),  # masking is a column
        fusion=(encoder.config.get("fusion") or {}).get("kind"),
        modality=encoder.modality,
        mask_class_words=bool(facts["masked_classes"]) if "title" in encoder.modality else None,
        n_way=setting.n_way,
        n_shot=setting.n_shot,
        n_query=setting.n_query,
        query_distribution=setting.query_distribution,
        domain=setting.domain_name,
        missing_rate=setting.missing.rate if setting.missing else None,
        n_episodes=n_episodes,
        episode_seed=episode_seed,
        train_seed=None if facts["stage"] == "none" else seed,
        transductive=method.transductive,
        norm=getattr(method, "norm", "frozen"),
        adapt=getattr(method, "parts", None),
        pretrained_on=facts["pretrained_on"],
        images_seen=facts["images_seen"],
        config=config,
        catalog_fingerprint=pool.catalog.fingerprint,
        split_fingerprint=pool.split.fingerprint,
        encoder_hash=encoder_hash(encoder),
    )


def history_record(recipe: str, pool: Pools, seed: int) -> Record:
    """How the encoder's training went, see :func:`fewshot_prod.results.training_history`."""
    facts = pool.prepared.facts
    return training_history(
        facts["history"],
        catalog=pool.catalog.name,
        split=pool.split.name,
        encoder=recipe,
        train_seed=seed,
        encoder_hash=encoder_hash(pool.prepared.encoder),
        images_seen=facts["images_seen"],
    )


def measure_cell(
    planned: Record,
    row: Row,
    method: Any,
    pool: Pools,
    setting: Setting,
    sampler: EpisodeSampler | BaseNovelSampler,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Record, np.ndarray]:
    """The record of a ``planned`` cell, and its accuracies by episode, float64 (n,); ``method`` is the row's, built."""
    more: dict[str, Any] = {}
    if setting.calibrated:
        method = pool.calibrated(method, row, setting, planned["episode_seed"])
        more["base_penalty"] = method.penalty
    shown = pool.without(setting.missing, sampler) if setting.missing else (pool.of(method), sampler)
    scores = evaluate(method, *shown, planned["n_episodes"], progress=progress)
    mean, half = mean_ci95(scores.accuracy)
    if scores.sides is not None:
        for side, values in zip(("base", "novel"), scores.sides.T, strict=True):
            more[f"{side}_accuracy"], more[f"{side}_ci95"] = mean_ci95(values)
    names, there = pool.products.categories, pool.products.has(columns_read(pool.prepared.encoder))
    if not there.all():
        more["lacking"] = {"products": int((~there).sum()), "of": len(there)}
    record = measured(
        planned,
        accuracy=mean,
        ci95=half,
        macro_precision=scores.macro_precision,
        macro_recall=scores.macro_recall,
        macro_f1=scores.macro_f1,
        skipped={names[c]: n for c, n in sampler.skipped.items()},
        train_seconds=pool.prepared.facts["train_seconds"],
        eval_seconds=scores.seconds,
        device=device_name(pool.prepared.encoder.device),
    )
    return record | more, scores.accuracy


def heartbeat(where: str, report: Callable[[str], None], every: float = 20.0) -> Callable[[int, int], None]:
    """A progress callback that reports at most every ``every`` seconds, with the time left."""
    started = last = time.perf_counter()

    def progress(done: int, n: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > every and done < n:
            last = now
            report(f"{where}: {done}/{n} episodes, {(now - started) / done * (n - done):.0f} s left")

    return progress
