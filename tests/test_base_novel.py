"""Base and novel categories together: what is held out, what is drawn, what is scored, and the calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import base_and_novel_accuracy

from fewshot_prod.base_novel import BASE_NOVEL, BaseNovelSampler, CalibratedStacking, base_penalty, hold_out_base
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.cells import measure_table
from fewshot_prod.evaluation import evaluate
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import load_encoder
from fewshot_prod.recipes import SMOKE
from fewshot_prod.results import read_records
from fewshot_prod.rows import Row
from fewshot_prod.settings import Setting, episode_products, episode_sampler
from fewshot_prod.splits import default_split
from fewshot_prod.tables import base_novel_table

SHIPPED = Path(__file__).parents[1] / "data" / "checkpoints" / "synthetic_conv4_gru_prototypical"
SIZES = {"base_shots": 4, "n_shot": 2, "n_query": 3}
SETTING = Setting(BASE_NOVEL, 2, 3, base_shots=4)
BOTH = (SETTING, replace(SETTING, calibrated=True))


@pytest.fixture(scope="module")
def catalog():
    whole = load_catalog("synthetic", products_per_category=12)
    return hold_out_base(whole, default_split(whole), least=5)


@pytest.fixture(scope="module")
def split(catalog):
    return default_split(catalog)


@pytest.fixture(scope="module")
def products(catalog, split):
    return episode_products(catalog, split, with_base=True)


def sampler(products, split, seed=0, **options):
    return BaseNovelSampler.over(products, split, **SIZES | options, seed=seed)


def test_whole_groups_of_base_products_are_held_out(split):
    whole = load_catalog("synthetic", products_per_category=30)
    whole = replace(whole, frame=whole.frame.assign(group=np.arange(len(whole)) // 2))  # pairs
    marked = hold_out_base(whole, split, least=2)
    held_out = marked.frame["held_out"].to_numpy()
    assert not np.intersect1d(marked.groups[held_out], marked.groups[~held_out]).size
    assert set(marked.frame["category"][held_out]) == set(split.base)
    assert marked.frame[held_out].groupby("category").size().eq(6).all()  # a fifth
    trained_on = split.select(marked, "base")
    assert len(trained_on) == len(split.select(whole, "base")) - held_out.sum()
    assert not set(trained_on.frame["product_id"]) & set(marked.frame["product_id"][held_out])
    assert len(split.select(marked, "novel")) == len(split.select(whole, "novel"))
    assert marked.fingerprint != whole.fingerprint


def test_base_queries_are_held_out_and_base_supports_are_not(products, split):
    episodes = sampler(products, split).sample(0, 20)
    n, n_novel = len(split.base), len(split.novel)
    assert episodes.n_base == n and episodes.n_way == n + n_novel
    held_out, category = products.frame["held_out"].to_numpy(), products.category_ids
    for rows, labels, each in (
        (episodes.support, episodes.support_labels, {False: 4, True: 2}),
        (episodes.query, episodes.query_labels, {False: 3, True: 3}),
    ):
        novel = labels >= n
        assert (held_out[rows[~novel]] == (rows is episodes.query)).all() and not held_out[rows[novel]].any()
        assert (category[rows] == episodes.classes.gather(1, labels).numpy()).all()
        for e in range(len(episodes)):
            counts = labels[e].bincount(minlength=n + n_novel)
            assert (counts[:n] == each[False]).all() and (counts[n:] == each[True]).all()
    drawn = torch.cat([episodes.support, episodes.query], 1)
    assert all(len(row.unique()) == len(row) for row in drawn)
    assert {products.categories[c] for c in episodes.classes[0, :n]} == set(split.base)


def test_episodes_depend_on_seed_and_index_alone(products, split):
    whole, later = sampler(products, split).sample(0, 12), sampler(products, split).sample(7, 12)
    assert (whole[7:].support == later.support).all() and (whole[7:].query == later.query).all()
    assert later.n_base == whole.n_base
    assert (whole.query != sampler(products, split, seed=1).sample(0, 12).query).any()


def test_what_is_calibrated_on_is_never_scored(catalog, split, products):
    """Of five held out, two and three, whichever categories stand beside the base ones."""
    seen = {}
    beside_validation = episode_products(catalog, split, "validation", with_base=True)
    for calibrating, pool, n_query in ((True, beside_validation, 2), (False, products, 3)):
        episodes = sampler(pool, split, calibrating=calibrating, n_query=n_query).sample(0, 20)
        rows = episodes.query[episodes.query_labels < episodes.n_base]
        seen[calibrating] = set(pool.frame["product_id"].iloc[rows.tolist()])
    assert not seen[True] & seen[False]
    assert len(seen[True]) == 2 * len(split.base) and len(seen[False]) == 3 * len(split.base)


def test_base_products_with_a_duplicate_among_novel_ones_take_no_part(products, split):
    group = products.groups.copy()
    base = products.frame["category"].isin(split.base).to_numpy()
    drawn = sampler(products, split).sample(0, 1)
    row = int(drawn.query[0, drawn.query_labels[0] == 0][0])
    group[row] = group[np.flatnonzero(~base)[0]]
    shared = replace(products, frame=products.frame.assign(group=group))
    assert row in sampler(products, split).sample(0, 60).query
    assert row not in sampler(shared, split).sample(0, 60).query


def test_small_categories_are_skipped_and_told(products, split):
    name = split.base[0]
    few = products.take(~((products.frame["category"] == name) & products.frame["held_out"]).to_numpy())
    drawn = sampler(few, split)
    assert drawn.skipped == {few.categories.index(name): 7}
    assert drawn.sample(0, 2).n_base == len(split.base) - 1


@dataclass
class Noisy:
    """Right by chance, more often on base classes, whose logits are higher throughout."""

    bonus: float = 1.5
    needs: str = "features"
    transductive: bool = False

    def __call__(self, pool, episodes):
        shape = (*episodes.query.shape[1:], episodes.n_way)
        noise = torch.stack([torch.randn(shape, generator=self.of(rows)) for rows in episodes.query])
        noise.scatter_add_(2, episodes.query_labels[..., None], torch.full_like(noise, 2.0))
        noise[..., : episodes.n_base] += self.bonus
        return noise

    @staticmethod
    def of(rows):
        return torch.Generator().manual_seed(int(rows.sum()))


def test_scores_are_those_of_a_loop_over_queries(products, split):
    draws, method = sampler(products, split), Noisy()
    scores = evaluate(method, torch.zeros(len(products), 1), draws, 6, chunk=4)
    episodes = draws.sample(0, 6)
    logits = method(None, episodes)
    for e in range(6):
        expected = base_and_novel_accuracy(logits[e].tolist(), episodes.query_labels[e].tolist(), episodes.n_base)
        assert (*scores.sides[e], scores.accuracy[e]) == pytest.approx(expected)
    assert scores.sides[:, 0].mean() > 2 * scores.sides[:, 1].mean()


def test_the_penalty_is_the_best_of_all(products, split):
    draws, method = sampler(products, split), Noisy()
    pool = torch.zeros(len(products), 1)
    found = base_penalty(method, pool, draws, 4)
    episodes = draws.sample(0, 4)
    logits, labels = method(None, episodes).flatten(0, 1).tolist(), episodes.query_labels.flatten().tolist()

    def together(penalty):
        return base_and_novel_accuracy(logits, labels, episodes.n_base, penalty)[2]

    best = max(together(penalty) for penalty in np.linspace(-3, 6, 400))
    assert together(found) >= best - 1e-9
    assert best > together(0.0) + 0.05
    calibrated = evaluate(CalibratedStacking(method, found), pool, draws, 4).accuracy.mean()
    assert calibrated > evaluate(method, pool, draws, 4).accuracy.mean() + 0.05


def test_products_alike_are_not_told_apart_by_a_penalty(products, split):
    """All margins are equal: everything is base, or everything novel."""

    class Alike(Noisy):
        def __call__(self, pool, episodes):
            logits = torch.zeros(*episodes.query.shape, episodes.n_way)
            return logits.index_fill(2, torch.arange(episodes.n_base), 0.5)

    draws, pool = sampler(products, split), torch.zeros(len(products), 1)
    penalty = base_penalty(Alike(), pool, draws, 3)
    assert abs(penalty - 0.5) > 0.1
    sides = evaluate(CalibratedStacking(Alike(), penalty), pool, draws, 3).sides
    assert sorted(sides.max(0) > 0) == [False, True]


def test_settings_that_do_not_go_together_are_refused(products, split):
    with pytest.raises(ValueError, match="balanced queries of complete products"):
        Setting(BASE_NOVEL, 1, domain=("train", "test"))
    with pytest.raises(ValueError, match="base_shots=40: 0 of"):
        BaseNovelSampler.over(products, split, **SIZES | {"base_shots": 40}, seed=0)
    with pytest.raises(ValueError, match=r"calibrated=True .* needs n_way='base\+novel'"):
        Setting(5, 1, calibrated=True)


def test_without_anything_held_out_it_is_told_how(split):
    with pytest.raises(CatalogError, match="hold_out_base"):
        episode_sampler(load_catalog("synthetic", products_per_category=12), split, SETTING, 0)


def test_cells_are_measured_on_both_sides_and_kept(catalog, split, tmp_path):
    rows = [
        Row("centroid", "conv4", "nearest_centroid"),
        Row("names", "conv4", "am3", {"n_iterations": 1}, against=("centroid",)),
    ]
    lines: list[str] = []

    def measure(settings=BOTH):
        return measure_table(
            "table4_base_and_novel",
            rows,
            settings,
            catalog=catalog,
            split=split,
            seeds=(0,),
            results=tmp_path / "records.jsonl",
            runs=tmp_path,
            n_episodes=8,
            overrides=SMOKE,
            report=lines.append,
        )

    assert measure() == []
    records = read_records(tmp_path / "records.jsonl")
    plain, calibrated = (r for r in records if r["kind"] == "cell" and r["method"] == "nearest_centroid")
    pairs = [r for r in records if r["kind"] == "difference"]
    assert [r["config"] for r in pairs] == [{"base_shots": 4}, {"base_shots": 4, "calibrated": True}]
    assert plain["config"]["calibrated"] is False and calibrated["config"]["calibrated"] is True
    assert "base_penalty" in calibrated and "base_penalty" not in plain
    for r in (plain, calibrated):
        assert r["n_way"] == BASE_NOVEL and r["config"]["base_shots"] == 4
        assert 0 <= r["accuracy"] <= (r["base_accuracy"] + r["novel_accuracy"]) / 2
    trained_on = split.select(catalog, "base")
    assert plain["config"]["training"]["base"] == trained_on.fingerprint
    table = base_novel_table(records)
    header = next(line for line in table.splitlines() if line.startswith("|"))
    assert header.endswith("| base | novel | together |")
    assert "as they are" in table and "calibrated" in table and "4 labelled products" in table
    other = plain | {"config": plain["config"] | {"base_shots": 2}}
    assert "base shots" in base_novel_table([*records, other]) and "base shots" not in table
    lines.clear()
    measure()
    assert sum("done before" in line for line in lines) == 4
    with pytest.raises(ValueError, match="measure them apart"):
        measure([SETTING, Setting(5, 1)])


def test_a_method_is_calibrated_by_the_names_of_the_classes_that_it_is_calibrated_on(catalog, split, monkeypatch):
    """AM3 mixes names into prototypes, and the validation classes have other names than the novel ones."""
    asked = []
    monkeypatch.setattr("fewshot_prod.pools.base_penalty", lambda method, pool, draws: asked.append(method) or 0.5)
    pools = Pools(load_encoder(SHIPPED), catalog, split, with_base=True)
    row = Row("names", "conv4_gru_prototypical", "am3", {"n_iterations": 1})
    method = pools.build(row.method, **row.options)
    assert pools.calibrated(method, row, BOTH[1], seed=0).method is method
    validation = episode_products(catalog, split, "validation", with_base=True)
    expected = Pools(pools.prepared, catalog, split, "validation", with_base=True).build(row.method, **row.options)
    assert len(asked[0].class_embeddings) == len(validation.categories) != len(method.class_embeddings)
    assert torch.equal(asked[0].class_embeddings, expected.class_embeddings)
