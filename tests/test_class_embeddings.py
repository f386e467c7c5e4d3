"""Class texts as vectors, and AM3 built from a catalog's base classes by the tables' own path."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from fewshot_prod import class_embeddings as module
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.catalog.grocery import GroceryClass
from fewshot_prod.class_embeddings import class_embeddings, class_texts
from fewshot_prod.features import embed
from fewshot_prod.methods.am3 import AM3, AdaptiveMixing
from fewshot_prod.pools import Pools, build_method, hyperparameters
from fewshot_prod.prepare import prepare_encoder
from fewshot_prod.recipes import SMOKE
from fewshot_prod.settings import Setting, episode_sampler
from fewshot_prod.splits import default_split


@pytest.fixture(scope="module")
def catalog():
    return load_catalog("synthetic", products_per_category=8)


@pytest.fixture(scope="module")
def encoders(catalog, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    split = default_split(catalog)
    return {name: prepare_encoder(name, catalog, split, 0, runs, SMOKE, lambda line: None) for name in ("conv4", "gru")}


def test_texts_are_names_and_grocerys_descriptions(catalog, monkeypatch):
    assert class_texts(catalog) == list(catalog.categories)
    with pytest.raises(CatalogError, match="catalog 'synthetic' has no descriptions of its categories"):
        class_texts(catalog, "descriptions")
    with pytest.raises(ValueError, match="texts is 'titles'; choose one of"):
        class_texts(catalog, "titles")
    grocery = type(catalog)("grocery", catalog.frame, Path("shop"))
    described = {name: GroceryClass(name, "", Path(), f"About {name}.") for name in catalog.categories}
    monkeypatch.setattr(module, "class_descriptions", lambda root: described if root == Path("shop") else {})
    first = catalog.categories[0]
    assert class_texts(grocery, "descriptions")[0] == f"{first} About {first}."


def test_a_bag_knows_the_base_texts_alone_and_a_title_part_reads_any(encoders):
    base, asked = ["oat milk", "sour milk", "red apple"], ["soy milk", "xyz", "牛奶"]
    bag = class_embeddings(encoders["conv4"].encoder, asked, base)
    known = class_embeddings(encoders["conv4"].encoder, base, base)
    similar = bag[0] @ known.T
    assert similar[:2].min() > 0.3 > similar[2] and bag[1:].abs().max() == 0
    title = encoders["gru"].encoder
    read = class_embeddings(title, base, [])
    assert read.shape == (3, title.title.feature_dim) and torch.pdist(read).min() > 1e-3
    assert torch.equal(read, class_embeddings(title.train(), base, []))


@pytest.mark.parametrize("name", ["conv4", "gru"])
def test_am3_is_fitted_to_base_classes_when_it_is_built(encoders, catalog, name):
    split = default_split(catalog)
    pools = Pools(encoders[name], catalog, split)
    am3 = pools.build("am3", logit_scale=5.0, n_iterations=3)
    plain = {"texts": "names", "logit_scale": 5.0, "normalise": True, "n_iterations": 3}
    assert hyperparameters(am3) == plain  # all that the fit depends on is in a record's key
    assert len(am3.class_embeddings) == len(split.novel) and not am3.mixing.training
    episodes = episode_sampler(catalog, split, Setting(5, 1, 2), 0).sample(0, 2)
    logits = am3(pools.features(), episodes)
    assert logits.shape == (2, 10, 5) and torch.isfinite(logits).all()


@pytest.mark.parametrize("name", ["conv4", "gru"])
def test_am3_is_fitted_to_base_products_alone_and_looks_novel_classes_up_by_name(encoders, catalog, name, monkeypatch):
    fitted = []

    def fit(features, category_ids, groups, embeddings, **options):
        fitted.append((features, category_ids, embeddings))
        assert options["n_iterations"] == AM3.n_iterations
        return AdaptiveMixing(embeddings.shape[1], features.shape[1])

    monkeypatch.setattr("fewshot_prod.pools.fit_mixing", fit)
    split, prepared = default_split(catalog), encoders[name]
    am3 = Pools(prepared, catalog, split).build("am3")
    ((features, category_ids, embeddings),) = fitted
    base = catalog.frame[catalog.frame["category"].isin(split.base)]
    products = prepared.inputs(catalog)[torch.from_numpy(base.index.to_numpy())]
    torch.testing.assert_close(features, embed(prepared.encoder, products, precision=prepared.facts["precision"]))

    def of(category):
        return class_embeddings(prepared.encoder, [category], sorted(split.base))[0]

    for i in (0, len(base) // 2, len(base) - 1):
        torch.testing.assert_close(embeddings[category_ids[i]], of(base["category"].iloc[i]))
    novel = split.select(catalog, "novel")
    for i in (0, len(novel) // 2, len(novel) - 1):
        torch.testing.assert_close(am3.class_embeddings[novel.category_ids[i]], of(novel[i].category))


@pytest.mark.gpu
def test_class_texts_are_read_where_the_encoder_is(encoders):
    encoder = copy.deepcopy(encoders["gru"].encoder)
    here = class_embeddings(encoder, ["oat milk"], [])
    torch.testing.assert_close(class_embeddings(encoder.cuda(), ["oat milk"], []), here, rtol=1e-3, atol=1e-3)


def test_without_base_classes_am3_cannot_be_built(encoders):
    with pytest.raises(ValueError, match="am3 is fitted to the base classes of a catalog, which are not at hand"):
        build_method("am3", encoders["conv4"], lambda: torch.zeros(64))
