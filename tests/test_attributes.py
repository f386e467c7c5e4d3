"""Product attributes from a catalog's columns: known values are those of base products, and an encoder reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot_prod import prepare
from fewshot_prod.catalog import CatalogError, load_catalog
from fewshot_prod.features import embed
from fewshot_prod.inputs import attribute_values, catalog_inputs
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import prepare_encoder
from fewshot_prod.recipes import RECIPES, SMOKE
from fewshot_prod.splits import default_split


@pytest.fixture(scope="module")
def catalog():
    """Synthetic products with a size and a material; materials of novel products have names of their own."""
    whole = load_catalog("synthetic", products_per_category=8)
    novel = whole.frame["category"].isin(default_split(whole).novel)
    size = np.resize(np.array(["small", "large", None], object), len(whole))
    return replace(whole, frame=whole.frame.assign(size=size, material=np.where(novel, "wool", "clay")))


def test_values_are_numbered_from_one_and_unknown_ones_are_zero(catalog):
    few = catalog.take(np.arange(4))
    few = replace(few, frame=few.frame.assign(colour=["red", None, "blue", "green"]))
    inputs = catalog_inputs(few, image_size=(16, 16), attributes={"colour": ["blue", "red"], "size": ["small"]})
    assert inputs.attributes.tolist() == [[2, 1], [0, 0], [1, 0], [0, 1]] and inputs.attributes.dtype == torch.int64
    assert attribute_values(few, ["size", "colour"]) == {"size": ["large", "small"], "colour": ["blue", "green", "red"]}
    with pytest.raises(CatalogError, match=r"catalog 'synthetic' has no columns \['price'\], which the encoder reads"):
        attribute_values(few, ["size", "price"])


def test_a_recipe_with_attributes_is_trained_kept_and_reads_them(catalog, tmp_path, monkeypatch):
    attributes = {"columns": ("size", "material"), "dim": 8}
    with_attributes = replace(RECIPES["conv4_gru"], attributes=attributes, start=None)
    monkeypatch.setattr(prepare, "RECIPES", RECIPES | {"sized": with_attributes})
    split, quiet = default_split(catalog), (SMOKE, lambda line: None)
    trained = prepare_encoder("sized", catalog, split, 0, tmp_path, *quiet)
    kept = prepare_encoder("sized", catalog, split, 0, tmp_path, SMOKE, pytest.fail)
    assert kept.encoder.modality == "image+title+attributes"
    assert kept.encoder.config["attribute_values"] == {"size": ["large", "small"], "material": ["clay"]}

    inputs = kept.inputs(split.select(catalog, "novel"))
    assert set(inputs.attributes[:, 0].tolist()) == {0, 1, 2} and set(inputs.attributes[:, 1].tolist()) == {0}
    features = embed(trained.encoder, inputs)
    torch.testing.assert_close(embed(kept.encoder, inputs), features)
    without = replace(inputs, attributes=torch.zeros_like(inputs.attributes))
    changed = (embed(kept.encoder, without) - features).abs().amax(1) > 1e-4
    assert changed.tolist() == (inputs.attributes[:, 0] > 0).tolist()


def test_what_was_made_from_other_attributes_is_not_read_again(catalog, tmp_path, monkeypatch):
    """Neither features nor encoders; the catalog's fingerprint says nothing of these columns."""
    attributes = {"columns": ("size",), "dim": 8}
    sized = replace(RECIPES["conv4_gru"], attributes=attributes, start=None, stage="none")
    monkeypatch.setattr(prepare, "RECIPES", {"sized": sized})
    split, lines = default_split(catalog), []
    turned = replace(catalog, frame=catalog.frame.assign(size=catalog.frame["size"].to_numpy()[::-1]))
    assert turned.fingerprint == catalog.fingerprint
    made = prepare_encoder("sized", catalog, split, 0, tmp_path, None, lines.append)
    first, other = (Pools(made, one, split).features() for one in (catalog, turned))
    assert not torch.allclose(first, other)
    torch.testing.assert_close(other, embed(made.encoder, made.inputs(split.select(turned, "novel"))))
    for one, told in ((catalog, 0), (turned, 1)):
        prepare_encoder("sized", one, split, 0, tmp_path, None, lines.append)
        assert len(lines) == told
    assert "its settings or data have changed" in lines[0]


def test_encoders_without_attributes_are_told_as_before(catalog, tmp_path, monkeypatch):
    """Else every encoder that was trained before recipes had attributes would be trained anew."""
    monkeypatch.setattr(prepare, "RECIPES", {"plain": replace(RECIPES["conv4"], stage="none")})
    prepared = prepare_encoder("plain", catalog, default_split(catalog), 0, tmp_path)
    assert "attributes" not in prepared.facts["training"] and "attributes" not in prepared.encoder.config
