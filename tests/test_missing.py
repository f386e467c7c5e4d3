"""Titles and images that disappear: where they should, nowhere else, and how tables and figures show it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from fewshot_prod import recipes
from fewshot_prod.catalog import load_catalog
from fewshot_prod.cells import measure_table
from fewshot_prod.checkpoints import CheckpointError
from fewshot_prod.encoders.fusion import build_fusion
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.features import embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.missing import Missing, QueriesApart
from fewshot_prod.pages import write_tables
from fewshot_prod.plots import missing_sheet
from fewshot_prod.pools import Pools, build_method
from fewshot_prod.prepare import Prepared, untrained
from fewshot_prod.recipes import Recipe
from fewshot_prod.results import read_records
from fewshot_prod.rows import Row
from fewshot_prod.settings import Setting, episode_sampler
from fewshot_prod.splits import default_split
from fewshot_prod.tables import missing_differences_table, missing_table

IDS = [f"p{i}" for i in range(400)]


def whole() -> ProductInputs:
    """400 products: every seventh has no image, every eleventh no title."""
    i = torch.arange(400)
    return ProductInputs(
        images=torch.zeros(400, 2, 2, 3, dtype=torch.uint8),
        has_image=i % 7 != 0,
        tokens=torch.ones(400, 3, dtype=torch.int64),
        lengths=torch.where((i % 11 == 0) & (i % 7 != 0), 0, 3),
    )


def has(inputs: ProductInputs) -> dict[str, torch.Tensor]:
    return {"image": inputs.has_image, "title": inputs.lengths > 0}


@pytest.mark.parametrize("modality", ["image", "title"])
def test_a_share_disappears_of_those_with_both_and_nothing_else(modality):
    before, other = has(whole()), {"image": "title", "title": "image"}[modality]
    both, lost_before = before["image"] & before["title"], torch.zeros(400, dtype=torch.bool)
    for rate in (0.0, 0.25, 0.5, 0.75, 1.0):
        after = has(Missing(modality, rate).hide(whole(), IDS))
        lost = before[modality] & ~after[modality]
        assert torch.equal(after[other], before[other]) and not (lost & ~both).any()
        assert bool((after["image"] | after["title"]).all()) and bool((lost >= lost_before).all())  # more and more
        assert abs(float(lost[both].double().mean()) - rate) < 0.08
        lost_before = lost
    assert torch.equal(lost, both)


def test_who_loses_depends_on_product_and_seed_alone():
    missing, turned = Missing("title", 0.5), torch.arange(399, -1, -1)
    first = has(missing.hide(whole(), IDS))["title"]
    again = has(missing.hide(whole()[turned], IDS[::-1]))["title"]
    assert torch.equal(again.flip(0), first)
    assert not torch.equal(has(missing.hide(whole(), IDS, seed=1))["title"], first)
    images = has(Missing("image", 0.5).hide(whole(), IDS))["image"]
    assert (images == first).float().mean() < 0.7  # another draw for images


@pytest.mark.parametrize("wrong", [{"modality": "price"}, {"rate": 1.5}, {"where": "somewhere"}])
def test_what_cannot_be_missing_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Missing(**{"modality": "title", "rate": 0.5} | wrong)


@pytest.fixture(scope="module")
def catalog():
    return load_catalog("synthetic", products_per_category=8)


@pytest.mark.parametrize("where", ["queries", "supports", "both"])
def test_supports_and_queries_lose_what_they_should(catalog, where):
    """Against embedding the two sides one by one: supports see the first half of the rows, queries the second."""
    recipe = Recipe(
        image={"name": "conv4", "width": 8},
        title={"embedding_dim": 8, "hidden_size": 8},
        fusion={"kind": "attention", "dim": 16},
    )
    prepared = untrained(recipe, catalog, None, 0)
    prepared = Prepared(prepared.encoder, prepared.facts | {"precision": "32-true"})
    split = default_split(catalog)
    pools = Pools(prepared, catalog, split)
    sampler, missing = episode_sampler(catalog, split, Setting(5, 1, 3), 0), Missing("title", 0.5, where)
    pool, apart = pools.without(missing, sampler)
    products = split.select(catalog, "novel")
    less = embed(prepared.encoder, missing.hide(prepared.inputs(products), list(products.frame["product_id"])))
    full, n = pools.features(), len(less)
    torch.testing.assert_close(pool[:n], full if where == "queries" else less)
    torch.testing.assert_close(pool[n:], full if where == "supports" else less)
    assert not torch.allclose(less, full)
    plain, shifted = sampler.sample(3, 5), apart.sample(3, 5)
    assert torch.equal(shifted.support, plain.support) and torch.equal(shifted.query, plain.query + n)


@dataclass
class Fixed:
    batch: EpisodeBatch

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        return self.batch


def test_queries_are_looked_up_further_on():
    batch = EpisodeBatch(
        torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), torch.tensor([[2]]), torch.tensor([[1]]), n_way=2
    )
    assert QueriesApart(Fixed(batch), 10).sample(0, 1).query.tolist() == [[12]]


def test_cells_tables_and_figure_of_what_is_missing(catalog, monkeypatch, tmp_path):
    """Each place and share is a cell of its own; a lone modality has none; the pages show all."""
    gru = {"embedding_dim": 8, "hidden_size": 8}
    alone = Recipe(image={"name": "conv4", "width": 8}, stage="none")
    both = Recipe(image=alone.image, title=gru, fusion={"kind": "attention", "dim": 16}, stage="none")
    made = {"alone": alone, "both": both}
    for module in ("prepare", "rows"):
        monkeypatch.setattr(f"fewshot_prod.{module}.RECIPES", recipes.RECIPES | made)
    settings = [Setting(5, 1, 3)] + [
        Setting(5, 1, 3, missing=Missing("title", rate, where)) for rate in (0.5, 1.0) for where in ("queries", "both")
    ]
    rows = [Row("alone", "alone", "nearest_centroid"), Row("both", "both", "nearest_centroid", against=("alone",))]
    rows.append(Row("L2", "both", "nearest_centroid", {"transform": "L2N"}, against=("both",)))
    results = tmp_path / "results" / "table2b_missing_x.jsonl"
    options = {"catalog": catalog, "split": default_split(catalog), "seeds": (0,), "results": results}
    for _ in range(2):
        failures = measure_table("x", rows, settings, **options, runs=tmp_path, n_episodes=20, report=lambda line: None)
        assert failures == []
        records = read_records(results)
        assert len([r for r in records if r["kind"] == "cell"]) == 1 + 2 * 5
    both = [r["accuracy"] for r in records if r["kind"] == "cell" and r["config"]["row"] == "both"]
    assert len(set(both)) == 1 + 4  # what is missing was missing
    pairs = [r for r in records if r["kind"] == "difference" and r["missing_rate"]]
    assert {(r["config"]["missing"], r["missing_rate"]) for r in pairs} == {
        (place, rate) for place in ("titles of queries", "titles of both") for rate in (0.5, 1.0)
    }
    kept = [r for r in records if r["kind"] == "difference" or r["config"]["row"] != "L2"]
    kept = [r for r in kept if r["kind"] == "cell"]
    table = missing_table(kept)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert "50 % missing" in lines[0] and "100 % missing" in lines[0] and len(lines) == 2 + 2 * 2
    assert sum(line.count("–") for line in lines if "conv4" not in line) >= 2 * 2  # alone: nothing at 50 and 100 %
    differences = missing_differences_table([r for r in pairs if r["kind"] == "difference"])
    lines = [line for line in differences.splitlines() if line.startswith("|")]
    assert "100 % missing" in lines[0] and len(lines) == 2 + 2  # two places
    results.write_text("".join(json.dumps(r) + "\n" for r in kept))
    readme = tmp_path / "README.md"
    readme.write_text("")
    write_tables(results.parent, tmp_path, tmp_path, (readme,))
    assert (tmp_path / "table2b_missing_x.png").stat().st_size > 10_000
    assert not (tmp_path / "table2b_missing_x_training.png").exists()
    figure = missing_sheet(kept + [r | {"method": "partial_distance"} for r in kept]).figure
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["attention", "attention, partial distance", "image", "image, partial distance"]
    figure.canvas.draw()
    legend, panels = figure.legends[0].get_window_extent(), [ax for ax in figure.axes if ax.get_xlabel()]
    assert panels and all(ax.xaxis.label.get_window_extent().y0 >= legend.y1 for ax in panels)
    assert "titles of queries" in (tmp_path / "table2b_missing_x.md").read_text()


def test_the_encoder_reads_what_is_left():
    """Without its title a product is to the encoder what it is with any other title hidden."""
    title = {"vocab_size": 9, "embedding_dim": 4, "hidden_size": 4}
    encoder = build_encoder(
        {"image": {"name": "conv4", "width": 8}, "title": title, "fusion": {"kind": "attention", "dim": 8}}
    )
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 16, 16, 3), generator=rng, dtype=torch.uint8)
    one, other = (
        ProductInputs(images=images, tokens=torch.full((4, 3), k), lengths=torch.full((4,), 3)) for k in (1, 5)
    )
    hide = Missing("title", 1.0).hide
    hidden = [embed(encoder, hide(inputs, list("abcd"))) for inputs in (one, other)]
    torch.testing.assert_close(*hidden)
    assert not torch.allclose(embed(encoder, one), embed(encoder, other))


@pytest.mark.parametrize("fusion", [{"kind": "attention", "dim": 13}, {"kind": "unit_attention"}])
def test_blocks_of_missing_modalities_are_zero_where_a_fusion_says_so(fusion):
    """What partial distances rest on, whatever the order of modalities."""
    fused = build_fusion({"image": 8, "title": 6}, **fusion).eval()
    features = {"image": torch.randn(3, 8), "title": torch.randn(3, 6)}
    present = {"image": torch.tensor([True, True, False]), "title": torch.tensor([True, False, True])}
    widths = [width for width, _ in fused.block_shares]
    image, title = fused(features, present).split(widths, dim=1)
    assert [(block != 0).any(1).tolist() for block in (image, title)] == [[True, True, False], [True, False, True]]


def test_shares_are_those_of_the_blocks_squared_lengths_in_a_complete_product():
    fused = build_fusion({"image": 8, "title": 6}, "unit_attention", shares={"title": 0.25}, spread=0.0).eval()
    widths, shares = zip(*fused.block_shares, strict=True)
    whole = fused({"image": torch.randn(3, 8), "title": torch.randn(3, 6)}, {})
    squares = torch.stack([block.square().sum(1) for block in whole.split(widths, dim=1)], dim=1)
    expected = torch.tensor(shares).expand(3, 2) / sum(shares)
    torch.testing.assert_close(squares / squares.sum(1, keepdim=True), expected)


def test_partial_distance_takes_the_fusion_s_blocks_and_refuses_one_without(catalog):
    split = default_split(catalog)
    title, image = {"embedding_dim": 8, "hidden_size": 8}, {"name": "conv4", "width": 8}
    shapes = {"attention": {"kind": "attention", "dim": 16}, "concat": {"kind": "concat", "dim": 16}}
    built = {}
    for name, fusion in shapes.items():
        prepared = untrained(Recipe(image=image, title=title, fusion=fusion), split.select(catalog, "base"), None, 0)
        prepared.facts.update(training={"options": {}}, head={}, precision="32-true")
        built[name] = partial(build_method, "partial_distance", prepared, lambda: torch.zeros(16))
    assert built["attention"]().blocks == ((8, 1.0), (8, 1.0))
    with pytest.raises(CheckpointError, match="'concat' does not leave them apart: choose attention"):
        built["concat"]()
