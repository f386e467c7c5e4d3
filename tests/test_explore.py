"""What notebooks stand on: pools by one name, methods side by side, adaptation step by step; and mistyped names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fewshot_prod.arguments import table_name
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.evaluation import evaluate
from fewshot_prod.explore import adaptation_steps, best_within, compare_methods, open_pools, recipe_for
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.maml import MAML
from fewshot_prod.methods.tim import TIM
from fewshot_prod.names import MOST_LISTED, UnknownName, unknown_name
from fewshot_prod.plots import adaptation_curve
from fewshot_prod.pools import Pools, build_method
from fewshot_prod.recipes import RECIPES
from fewshot_prod.rows import Row, choose_rows
from fewshot_prod.settings import Setting, episode_sampler
from fewshot_prod.splits import read_split


@pytest.fixture(scope="module")
def pools():
    return open_pools("synthetic", products_per_category=8)


def test_pools_have_the_shipped_encoder_and_the_catalogs_split(pools):
    assert pools.split.name == "synthetic_random" and pools.prepared.facts["stage"] == "metatrain"
    assert len(pools.features()) == 8 * len(pools.split.novel)


def test_a_recipe_reads_what_the_products_have(pools):
    novel = pools.split.select(pools.catalog, "novel")
    assert recipe_for(novel) == "conv4_gru_bag_attention"
    assert recipe_for(replace(novel, frame=novel.frame.assign(title=None))) == "conv4"
    assert recipe_for(replace(novel, frame=novel.frame.assign(image=None))) == "gru_bag"
    assert {"conv4_gru_bag_attention", "conv4", "gru_bag"} <= set(RECIPES)


def test_methods_are_compared_on_the_same_episodes(pools):
    settings = [Setting(5, shot, 3) for shot in (1, 5)]
    records = compare_methods(pools, ("nearest_centroid", "prototypical"), settings, n_episodes=40)
    cells = {(r["method"], r["n_shot"]): r for r in records if r["kind"] == "cell"}
    assert len(cells) == 4 and len(records) == 6
    method = build_method("prototypical", pools.prepared, pools.center)
    for setting in settings:
        alone = evaluate(method, pools.features(), episode_sampler(pools.catalog, pools.split, setting, 0), 40)
        assert cells["prototypical", setting.n_shot]["accuracy"] == pytest.approx(alone.accuracy.mean())
    for d in (r for r in records if r["kind"] == "difference"):
        a, b = (cells[name, d["n_shot"]]["accuracy"] for name in ("prototypical", "nearest_centroid"))
        assert d["mean"] == pytest.approx(a - b) and d["n_episodes"] == 40


def test_methods_are_compared_on_the_part_that_the_pools_are_of(pools):
    validation = Pools(pools.prepared, pools.catalog, pools.split, "validation")
    setting = Setting(5, 1, 3)
    (record,) = compare_methods(validation, ("nearest_centroid",), [setting], n_episodes=40)
    method = build_method("nearest_centroid", pools.prepared, pools.center)
    sampler = episode_sampler(pools.catalog, pools.split, setting, 0, "validation")
    alone = evaluate(method, validation.features(), sampler, 40)
    assert record["split"] == "synthetic_random, validation classes"
    assert record["accuracy"] == pytest.approx(alone.accuracy.mean())


def test_the_best_within_a_budget_is_a_sure_gain_that_fits_into_it():
    alike = {"n_way": 5, "n_query": 15, "query_distribution": "balanced"}

    def cell(method, shot, seconds):
        return alike | {"kind": "cell", "method": method, "n_shot": shot, "eval_seconds": seconds, "n_episodes": 1000}

    def gain(method, shot, mean, ci95):
        return {"kind": "difference", "a": {"method": method}, "n_shot": shot, "mean": mean, "ci95": ci95}

    cells = [cell(m, k, s) for k in (1, 5) for m, s in (("first", 0.1), ("quick", 1.0), ("slow", 5.0))]
    gains = [gain("quick", 1, 0.01, 0.02), gain("slow", 1, -0.05, 0.01), gain("quick", 5, 0.02, 0.01)]
    table = best_within([*cells, *gains, gain("slow", 5, 0.04, 0.01)], {"1 ms": 1.0, "any": float("inf")})
    assert table.loc[1].tolist() == ["first", "first"], "an unsure gain and a loss are none"
    assert table.loc[5].tolist() == ["quick  +2.0 ± 1.0", "slow  +4.0 ± 1.0"]
    with pytest.raises(ValueError, match="several values of n_way"):
        best_within([*cells, cells[0] | {"n_way": "all"}, *gains], {"1 ms": 1.0})


def test_adapting_methods_are_measured_and_paired_on_the_first_episodes(pools):
    methods = {"nearest_centroid": {}, "maml": {"n_adaptation_steps": 1, "inner_lr": 0.01}}
    records = compare_methods(pools, methods, [Setting(5, 1, 2)], n_episodes=30, n_episodes_adapting=3)
    assert [r["n_episodes"] for r in records] == [30, 3, 3]


def tiny_episode():
    torch.manual_seed(0)
    encoder = build_encoder({"image": {"name": "conv4", "width": 8}})
    images = torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8)
    images[10:] //= 3  # the second class is darker
    from fewshot_prod.episodes import EpisodeBatch

    support, query = torch.tensor([[0, 1, 10, 11]]), torch.tensor([[5, 6, 15, 16, 17]])
    episode = EpisodeBatch(support, support // 10, query, query // 10, n_way=2)
    return (
        MAML(encoder, n_adaptation_steps=2, inner_lr=0.5, normalise=True, logit_scale=4),
        ProductInputs(images=images),
        episode,
    )


def test_adaptation_steps_are_what_the_method_predicts_and_the_support_loss_falls():
    method, pool, episode = tiny_episode()
    rows = adaptation_steps(method, pool, episode)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[0]["query_loss"] == pytest.approx(np.log(2)), "a head of zeros is undecided"
    logits = method(pool, episode)[0]
    assert rows[-1]["query_loss"] == pytest.approx(float(cross_entropy(logits, episode.query_labels[0])))
    assert rows[-1]["query_accuracy"] == float((logits.argmax(1) == episode.query_labels[0]).double().mean())
    losses = [row["support_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True) and losses[0] - losses[-1] > 0.05
    with pytest.raises(TypeError, match="takes no gradient steps"):
        adaptation_steps(lambda pool, episodes: None, pool, episode)


@pytest.mark.parametrize("kind", ["batch statistics", "tim"])
def test_adaptation_steps_of_transductive_methods_show_them_no_support_among_the_queries(kind):
    maml, pool, episode = tiny_episode()
    if kind == "tim":
        method, pool = TIM(n_adaptation_steps=2, lr=0.1, logit_scale=1.0, transform="UN"), torch.randn(20, 6)
    else:
        method = replace(maml, norm="batch")
    last = adaptation_steps(method, pool, episode)[-1]
    for name in ("support", "query"):
        rows, labels = getattr(episode, name), getattr(episode, f"{name}_labels")
        logits = method(pool, replace(episode, query=rows, query_labels=labels))[0]
        assert last[f"{name}_loss"] == pytest.approx(float(cross_entropy(logits, labels[0])), rel=1e-5)


def test_the_adaptation_curve_shows_both_parts():
    rows = [
        {"step": s, **{f"{p}_{v}": x + s for p, x in (("support", 0.2), ("query", 0.1)) for v in ("loss", "accuracy")}}
        for s in (0, 1)
    ]
    support, query = adaptation_curve(rows, value="loss").get_lines()
    np.testing.assert_allclose([support.get_ydata(), query.get_ydata()], [[0.2, 1.2], [0.1, 1.1]])
    np.testing.assert_allclose(adaptation_curve(rows).get_lines()[0].get_ydata(), [20, 120])


def test_attention_is_that_of_the_forward_pass(pools):
    encoder = pools.prepared.encoder
    inputs = pools.inputs()[torch.arange(6)]
    inputs.lengths[2] = 0
    encoder.train()
    found = encoder.attention(inputs)
    assert encoder.training
    for name, parts in encoder.attention(inputs, batch_size=4).items():
        torch.testing.assert_close(parts, found[name])
    encoder.eval()
    assert found["tokens"].shape == inputs.tokens.shape and found["modalities"].shape == (6, 2)
    torch.testing.assert_close(found["modalities"].sum(1), torch.ones(6))
    assert found["modalities"][2].tolist() == [1, 0] and not found["tokens"][2].any(), "a missing title gets none"
    beyond = torch.arange(inputs.tokens.shape[1]) >= inputs.lengths[:, None]
    assert not found["tokens"][beyond].any()
    with torch.no_grad():
        features, present = encoder.modality_features(inputs)
        whole = encoder(inputs)
    blocks = [encoder.fusion.blocks[n](encoder.fusion.norms[n](features[n])) for n in ("image", "title")]
    both = present["title"]
    scales = (1 + 2 * found["modalities"][both]) / 2
    again = torch.cat([b[both] * scales[:, i : i + 1] for i, b in enumerate(blocks)], 1)
    torch.testing.assert_close(again, whole[both])


def test_attention_of_one_modality():
    encoder = build_encoder({"image": {"name": "conv4", "width": 8}})
    assert encoder.attention(ProductInputs(images=torch.zeros(1, 16, 16, 3, dtype=torch.uint8))) == {}


@pytest.mark.parametrize(
    "typed, meant",
    [("protypical", "prototypical"), ("ProtoNet", "prototypical"), ("finetune", "finetune_all"), ("qqq", None)],
)
def test_a_mistyped_name_is_answered_with_the_nearest(typed, meant):
    message = unknown_name("method", typed, ["maml", "prototypical", "finetune_all"])
    assert message.startswith(f"no method {typed!r}") and message.endswith("There are maml, prototypical, finetune_all")
    assert (f"did you mean {meant!r}?" in message) if meant else ("did you mean" not in message)


def test_of_many_names_the_nearest_are_told():
    many = [f"conv4_{i}" for i in range(100)] + ["gru", "gru_masked"]
    message = unknown_name("recipe", "gru_maskd", many)
    assert message.startswith(
        "no recipe 'gru_maskd': did you mean 'gru_masked'? There are 102, among them gru_masked, gru,"
    )
    assert message.count(",") == MOST_LISTED // 3


def test_all_places_that_take_names_answer_so(pools):
    with pytest.raises(UnknownName, match=r"no method 'mamml': did you mean 'maml'\?"):
        build_method("mamml", pools.prepared, pools.center)
    with pytest.raises(UnknownName, match=r"no recipe 'conv5': did you mean 'conv4'\?"):
        open_pools("synthetic", recipe="conv5", products_per_category=8)
    with pytest.raises(CatalogError, match=r"no catalog source 'fashoin': did you mean 'fashion'\?"):
        load_catalog("fashoin")
    with pytest.raises(CatalogError, match=r"no split 'fashion_randon': did you mean 'fashion_random'\?"):
        read_split("fashion_randon")
    rows = [Row("nearest_centroid", "conv4", "nearest_centroid"), Row("maml", "conv4_maml", "maml")]
    assert choose_rows(rows, ()) == rows and choose_rows(rows, ["maml"]) == rows[1:]
    with pytest.raises(UnknownName, match=r"no row 'nearest': did you mean 'nearest_centroid'\?"):
        choose_rows(rows, ["nearest"])


def test_each_tables_encoder_has_a_folder_of_its_own(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr("fewshot_prod.explore.pools_of", lambda *given: folders.append(given[-1]))
    for shop in ("one", "other"):
        (tmp_path / shop).mkdir()
        table = tmp_path / shop / "my.csv"
        table.write_text("title,category\nOak table,tables\nRed cup,cups\n")
        open_pools("table", str(table), runs=tmp_path)
    open_pools("synthetic", runs=tmp_path, products_per_category=2)
    one, other, synthetic = folders
    assert synthetic == tmp_path == one.parent == other.parent and one != other
    assert one == tmp_path / table_name(tmp_path / "one" / "my.csv")  # as adapt_catalog.py has it
