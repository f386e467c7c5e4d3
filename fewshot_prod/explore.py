"""For a notebook: a catalog with its split and encoder by one name, methods side by side, adaptation step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fewshot_prod.arguments import table_name
from fewshot_prod.catalog import Catalog, CatalogError, data_folder, load_catalog
from fewshot_prod.cells import describe, measure_cell
from fewshot_prod.comparisons import paired
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.grouping import varying
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import load_encoder, prepare_encoder
from fewshot_prod.results import Record
from fewshot_prod.rows import Row
from fewshot_prod.settings import Setting, episode_sampler
from fewshot_prod.splits import Split, default_split

REPOSITORY = Path(__file__).parents[1]
# Encoders that come with the repository, under data/checkpoints/
SHIPPED = {"synthetic": "synthetic_conv4_gru_prototypical", "grocery": "grocery_lite0_tuned"}


def open_pools(
    name: str,
    root: Path | None = None,
    *,
    split: Split | None = None,
    recipe: str | None = None,
    runs: Path = REPOSITORY / "runs" / "encoders",
    needs: Sequence[str] = (),
    **options: Any,
) -> Pools:
    """A catalog, its split and an encoder for it, ready to embed the novel products; see :func:`pools_of`.

    Args:
        name: a catalog source, see :func:`load_catalog`.
        root: its folder or file; default $FEWSHOT_PROD_DATA/NAME, else data/NAME of the repository.
        runs: where encoders are kept; a table's in a folder of its own there.
        needs: of "image" and "title", what the catalog must have.
        options: of the catalog's loader.

    Raises:
        CatalogError: if no product has what ``needs`` names; before any training.
    """
    if root is None and name != "synthetic" and not os.environ.get("FEWSHOT_PROD_DATA"):
        root = REPOSITORY / "data" / name  # a notebook runs in its own folder
    catalog = load_catalog(name, root, **options)
    lacking = [f"{column}s" for column in needs if catalog.frame[column].isna().all()]
    if lacking:
        lacks = f"this needs {' and '.join(lacking)}, and the catalog {name!r} has none"
        raise CatalogError(f"{lacks}: choose another, such as 'synthetic'")
    own = runs / table_name(Path(root or data_folder(name))) if name == "table" else runs
    return pools_of(catalog, split, recipe, own)


def pools_of(
    catalog: Catalog,
    split: Split | None = None,
    recipe: str | None = None,
    runs: Path = REPOSITORY / "runs" / "encoders",
    overrides: dict[str, Any] | None = None,
) -> Pools:
    """An encoder for a catalog's novel products.

    It is the shipped one where there is one; otherwise it is trained on the base classes the first time, which takes
    minutes to hours, and read from ``runs`` from then on.

    Args:
        split: the catalog's own when None.
        recipe: a key of ``RECIPES``; when it or another split is given, no shipped encoder is used.
        overrides: of :func:`prepare_encoder`.
    """
    usual = default_split(catalog)
    split = split or usual
    if recipe is None and split == usual and catalog.name in SHIPPED:
        kept = REPOSITORY / "data" / "checkpoints" / SHIPPED[catalog.name]
        return Pools(load_encoder(kept), catalog, split)
    return Pools(prepare_encoder(recipe or recipe_for(catalog), catalog, split, 0, runs, overrides), catalog, split)


def recipe_for(catalog: Catalog) -> str:
    """The recipe of a small encoder that reads what the catalog's products have: images, titles or both.

    On validation classes, 5-way, mean of 1 and 5 shots: synthetic, of both 85.7 % where ``conv4_gru`` has 80.1, of
    titles alone 66.1 where ``gru`` has 64.5, in Chinese 79.3 where that has 77.4; fashion, of both 92.5 where it has
    91.2, with class words masked 85.7 where it has 86.3.
    """
    images, titles = catalog.frame["image"].notna().any(), catalog.frame["title"].notna().any()
    return "conv4_gru_bag_attention" if images and titles else "conv4" if images else "gru_bag"


def compare_methods(
    pools: Pools,
    methods: Mapping[str, Mapping[str, Any]] | Sequence[str],
    settings: Sequence[Setting],
    *,
    n_episodes: int = 1000,
    n_episodes_adapting: int = 20,
    episode_seed: int = 0,
) -> list[Record]:
    """Records of several methods on the same episodes of one encoder, and their paired differences from the first.

    Args:
        methods: keys of ``METHODS``, the one to compare with first; with hyperparameters if a mapping.
        n_episodes: of feature methods.
        n_episodes_adapting: of adapting methods, which take far longer: the first episodes of the same sequence.

    Returns:
        Cells and differences in memory, as ``measure_table`` writes them into a file: for plots and tables.
    """
    records: list[Record] = []
    options = methods if isinstance(methods, Mapping) else {name: {} for name in methods}
    built = {name: pools.build(name, **options[name]) for name in options}
    recipe = pools.prepared.facts["training"]["recipe"]
    for setting in settings:
        sampler = episode_sampler(pools.catalog, pools.split, setting, episode_seed, pools.part)
        first = None
        for name, method in built.items():
            features = method.needs == "features"
            n = n_episodes if features else min(n_episodes, n_episodes_adapting)
            seed = pools.prepared.facts["training"]["seed"]
            row = Row(name, recipe, name, dict(options[name]))
            planned = describe("explore", row, setting, method, pools, seed, n, episode_seed)
            record, accuracy = measure_cell(planned, row, method, pools, setting, sampler)
            records.append(record)
            if first is None:
                first = record, accuracy
                continue
            records.append(paired(record, accuracy, *first))
    return records


def best_within(records: Sequence[Record], budgets: Mapping[str, float]) -> pd.DataFrame:
    """Which method to use at which number of shots, if an episode may take so long.

    Args:
        records: of :func:`compare_methods`, one or several, alike but for the number of shots.
        budgets: name of a column -> milliseconds an episode.

    Returns:
        A row for each number of shots, a column for each budget: the method with the greatest gain over the first one,
        with that gain in percentage points. Only a gain whose paired 95 % interval leaves out zero counts; without one
        the first method stands there.

    Raises:
        ValueError: if the records differ in more than the number of shots.
    """
    cells = [r for r in records if r["kind"] == "cell"]
    if mixed := varying(cells, ("n_way", "n_query", "query_distribution")):
        raise ValueError(f"records of several values of {', '.join(mixed)}: give those of one")
    milliseconds = {(r["method"], r["n_shot"]): 1000 * r["eval_seconds"] / r["n_episodes"] for r in cells}
    gains = [r for r in records if r["kind"] == "difference" and r["mean"] > r["ci95"]]

    def best(shot: int, most: float) -> str:
        found = [r for r in gains if r["n_shot"] == shot and milliseconds[r["a"]["method"], shot] <= most]
        if not found:
            return cells[0]["method"]
        gain = max(found, key=lambda r: r["mean"])
        return f"{gain['a']['method']}  {100 * gain['mean']:+.1f} ± {100 * gain['ci95']:.1f}"

    shots = sorted({r["n_shot"] for r in cells})
    table = {name: [best(shot, most) for shot in shots] for name, most in budgets.items()}
    return pd.DataFrame(table, index=pd.Index(shots, name="labelled products"))


def adaptation_steps(
    method: Callable[[ProductInputs, EpisodeBatch], Tensor], pool: ProductInputs, episodes: EpisodeBatch
) -> list[dict[str, float]]:
    """Loss and accuracy of a method that takes gradient steps, before the first one and after each.

    Args:
        method: one with ``n_adaptation_steps``, such as :class:`fewshot_prod.methods.maml.MAML`; it is asked once for
            every number of steps, so that what is reported is what it predicts.
        episodes: without padding.

    Returns:
        One dict a number of steps, 0 to ``n_adaptation_steps``: ``step``, and, as means over the products of all
        episodes, ``support_loss``, ``query_loss`` (cross-entropy, nats) and ``support_accuracy``,
        ``query_accuracy`` (0 to 1).

    Raises:
        TypeError: if the method takes no such steps.
    """
    if not hasattr(method, "n_adaptation_steps"):
        raise TypeError(f"{type(method).__name__} has no n_adaptation_steps: it takes no gradient steps to look at")
    joined = {
        "query": torch.cat([episodes.support, episodes.query], 1),
        "query_labels": torch.cat([episodes.support_labels, episodes.query_labels], 1),
    }
    on_support = {"query": episodes.support, "query_labels": episodes.support_labels}
    n_support = episodes.support.shape[1]
    rows = []
    for step in range(method.n_adaptation_steps + 1):
        at = replace(method, n_adaptation_steps=step)
        if method.transductive:  # queries influence each other
            parts = {"support": at(pool, replace(episodes, **on_support)), "query": at(pool, episodes)}
        else:  # adapted once for both
            logits = at(pool, replace(episodes, **joined))
            parts = {"support": logits[:, :n_support], "query": logits[:, n_support:]}
        row: dict[str, float] = {"step": step}
        for name, logits in parts.items():
            labels = getattr(episodes, f"{name}_labels").flatten()
            logits = logits.flatten(0, 1)
            row[f"{name}_loss"] = float(cross_entropy(logits, labels))
            row[f"{name}_accuracy"] = float((logits.argmax(1) == labels).to(torch.float64).mean())
        rows.append(row)
    return rows
