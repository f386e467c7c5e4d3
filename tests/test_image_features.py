"""Fusions trained on cached image features: the same as on pixels, for encoders that go on reading pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot_prod import recipes
from fewshot_prod.catalog import load_catalog
from fewshot_prod.checkpoints import CheckpointError
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.features import embed, image_part, with_image_features
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.metatrain import metatrain
from fewshot_prod.methods import METHODS
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import prepare_encoder
from fewshot_prod.pretrain import pretrain
from fewshot_prod.recipes import Recipe
from fewshot_prod.splits import default_split
from fewshot_prod.training import seed_step

QUIET = {"report": lambda line: None}
KINDS = ("attention", "concat", "gated", "late")


def build(kind: str = "attention") -> ProductEncoder:
    seed_step(0)
    title = {"vocab_size": 30, "embedding_dim": 8, "hidden_size": 8}
    return build_encoder({"image": {"name": "conv4", "width": 16}, "title": title, "fusion": {"kind": kind, "dim": 16}})


def products(n_per_class: int = 12) -> tuple[ProductInputs, np.ndarray]:
    """Eight classes: the image's brightness tells the pair, the title's first token the half of it."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(8).repeat(n_per_class)
    noise = 20 * torch.randn(len(y), 16, 16, 3, generator=generator)
    images = ((y // 2) * 70.0)[:, None, None, None] + noise
    tokens = torch.randint(5, 30, (len(y), 4), generator=generator)
    tokens[:, 0] = 1 + y % 2
    inputs = ProductInputs(
        images=images.clamp(0, 255).byte(),
        has_image=torch.rand(len(y), generator=generator) > 0.1,
        tokens=tokens,
        lengths=torch.full((len(y),), 4),
    )
    return inputs, y.numpy()


def cached(inputs: ProductInputs, encoder: ProductEncoder, folder, **options) -> ProductInputs:
    return with_image_features(inputs, encoder, inputs_key="these", cache_dir=folder, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_features_stand_for_the_pixels_that_they_were_made_of(kind, tmp_path):
    encoder, (inputs, _) = build(kind), products()
    instead = cached(inputs, encoder, tmp_path, flip=False)
    assert instead.images is None and len(instead) == len(inputs) and instead.shows_images
    torch.testing.assert_close(embed(encoder, instead, flip=False), embed(encoder, inputs, flip=False))
    shuffled = replace(instead, image_features=instead.image_features.flip(0))
    assert not torch.allclose(embed(encoder, shuffled), embed(encoder, instead))
    rows = torch.tensor([3, 0])
    assert torch.equal((instead[rows] + instead[rows]).image_features, instead.image_features[[3, 0, 3, 0]])


def test_flips_are_averaged_before_the_fusion(tmp_path):
    encoder, (inputs, _) = build(), products()
    images = ProductInputs(images=inputs.images, has_image=inputs.has_image)
    mirrored = replace(images, images=images.images.flip(2))
    alone = image_part(encoder).eval()
    with torch.no_grad():
        expected = (alone(images) + alone(mirrored)) / 2
    torch.testing.assert_close(cached(inputs, encoder, tmp_path, flip=True).image_features, expected)


def test_what_stands_in_for_a_missing_image_makes_no_difference():
    encoder, (inputs, _) = build(), products()
    features = torch.randn(len(inputs), 16)
    garbage = torch.where(inputs.has_image[:, None], features, torch.nan)
    read = [embed(encoder, replace(inputs, images=None, image_features=f)) for f in (features, garbage)]
    assert torch.equal(*read) and bool(read[0].isfinite().all())


def test_training_on_features_is_training_on_pixels_with_a_frozen_image_part(tmp_path):
    """Without augmentation: the same losses; and it learns what image and title only say together."""
    inputs, y = products()
    options = {"epochs": 25, "batch_size": 16, "optimiser": "adamw", "lr": 1e-2, "frozen": ("image",), **QUIET}
    options["modality_dropout"] = 0.3
    pixels, features = build(), build()
    start = {k: v.clone() for k, v in features.state_dict().items()}
    by_pixels = pretrain(pixels, inputs, y, **options)
    by_features = pretrain(features, cached(inputs, features, tmp_path, flip=False), y, **options)
    losses = [[row["loss"] for row in trained.history] for trained in (by_pixels, by_features)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    trained = by_features.encoder
    for name, value in trained.state_dict().items():
        assert torch.equal(value, start[name]) == name.startswith("image."), name
    with torch.no_grad():
        both = inputs[inputs.has_image]
        right = (by_features.classifier.eval()(both).argmax(1).numpy() == y[inputs.has_image.numpy()]).mean()
    assert right > 0.9  # of pixels, which the encoder goes on reading; one modality alone cannot exceed 0.5


def test_episodes_on_features_train_all_but_the_image_part(tmp_path):
    inputs, y = products()
    encoder = build()
    start = {k: v.clone() for k, v in encoder.state_dict().items()}
    trained = metatrain(
        encoder,
        cached(inputs, encoder, tmp_path, flip=False),
        y,
        np.arange(len(y)),
        n_way=8,
        n_shot=1,
        n_query=3,
        n_iterations=60,
        outer_lr=1e-2,
        validate_every=20,
        frozen=("image",),
        modality_dropout=0.2,
        **QUIET,
    )
    losses = [row["loss"] for row in trained.history if "loss" in row]
    assert losses[-1] < 0.6 * losses[0], losses
    after = trained.encoder.state_dict()
    assert all(torch.equal(after[k], start[k]) for k in start if k.startswith("image."))
    assert not torch.equal(after["title.embedding.weight"], start["title.embedding.weight"])
    assert all(p.requires_grad for p in trained.encoder.parameters())


def test_no_products_have_no_features(tmp_path):
    """As of validation classes, where a small catalog has none to spare."""
    encoder, nothing = build("concat"), products()[0][torch.arange(0)]
    assert embed(encoder, nothing).shape == (0, encoder.feature_dim)
    instead = cached(nothing, encoder, tmp_path)
    assert len(instead) == 0 and instead.image_features.shape == (0, encoder.image.feature_dim)


def test_regions_are_not_cached():
    encoder, (inputs, _) = build("co_attention"), products()
    with pytest.raises(ValueError, match="regions"):
        encoder(replace(inputs, images=None, image_features=torch.zeros(len(inputs), 16)))


def test_a_recipe_without_augmentation_and_with_a_frozen_image_part_reads_features(monkeypatch, tmp_path):
    """The encoder reads pixels all the same, and its features are those of the fusion over averaged flips."""
    frozen = {"frozen": ("image",), "epochs": 1, "batch_size": 64}
    gru = {"embedding_dim": 8, "hidden_size": 8}
    fused = {"title": gru, "fusion": {"kind": "concat", "dim": 16}, "start": "small"}
    image = {"name": "conv4", "width": 8}
    small = Recipe(image=image, options={"epochs": 1, "batch_size": 64})
    on_features = replace(small, **fused, options=frozen)
    augmented = replace(on_features, options=frozen | {"augmentation": {"colour": 0.1}})
    made = {"small": small, "on_features": on_features, "augmented": augmented}
    made["episodic"] = replace(
        on_features,
        start="on_features",
        stage="metatrain",
        options={"frozen": ("image",), **recipes.SMOKE["metatrain"]},
    )
    monkeypatch.setattr("fewshot_prod.prepare.RECIPES", made)
    catalog = load_catalog("synthetic", products_per_category=4)
    split = default_split(catalog)
    prepared = {name: prepare_encoder(name, catalog, split, 0, tmp_path, **QUIET) for name in made}
    again = prepare_encoder("episodic", catalog, split, 0, tmp_path, **QUIET)
    assert again.facts["train_seconds"] == prepared["episodic"].facts["train_seconds"]  # read, not trained anew
    assert "image_features" not in prepared["small"].facts | prepared["augmented"].facts
    for name in ("on_features", "episodic"):
        assert prepared[name].facts["image_features"]["flip"] is True
        encoder, pools = prepared[name].encoder, Pools(prepared[name], catalog, split)
        pixels = pools.inputs()
        assert pixels.images is not None
        alone = prepared["small"].encoder
        facts = prepared[name].facts
        features = embed(alone, pixels, precision=facts["image_features"]["precision"])
        expected = embed(encoder, replace(pixels, images=None, image_features=features), precision=facts["precision"])
        torch.testing.assert_close(pools.features(), expected, rtol=1e-4, atol=1e-4)
        head, everything = (METHODS["finetune_all"](encoder, parts=parts, transform="L2N") for parts in ("head", None))
        assert pools.of(head).images is None and pools.of(everything).images is not None


def test_an_image_part_that_is_frozen_as_it_comes_needs_no_encoder_to_start_from(monkeypatch, tmp_path):
    options = {"frozen": ("image",), "epochs": 1, "batch_size": 128}
    title, fusion = {"embedding_dim": 8, "hidden_size": 8}, {"kind": "concat", "dim": 16}
    recipe = Recipe(image={"name": "conv4", "width": 8}, title=title, fusion=fusion, options=options)
    monkeypatch.setattr("fewshot_prod.prepare.RECIPES", {"whole": recipe})
    catalog = load_catalog("synthetic", products_per_category=4)
    prepared = prepare_encoder("whole", catalog, default_split(catalog), 0, tmp_path, **QUIET)
    assert prepared.facts["image_features"] == {"flip": True, "precision": "32-true"}


def test_the_title_part_can_start_from_another_recipe(monkeypatch, tmp_path):
    """Its weights come from there, the rest from ``start``; what both cost is counted, a change there is noticed."""
    few = {"epochs": 1, "batch_size": 64, "frozen": ("image", "title")}
    title = {"embedding_dim": 8, "hidden_size": 8}
    small = Recipe(image={"name": "conv4", "width": 8}, options={"epochs": 1, "batch_size": 64})
    titles = Recipe(title=title, options={"epochs": 2, "batch_size": 64})
    fused = replace(small, title=title | {"dropout": 0.5}, fusion={"kind": "concat", "dim": 16}, options=few)
    made = {"small": small, "titles": titles, "fused": replace(fused, start="small", title_start="titles")}
    monkeypatch.setattr("fewshot_prod.prepare.RECIPES", made)
    catalog = load_catalog("synthetic", products_per_category=4)
    split = default_split(catalog)
    prepared = {name: prepare_encoder(name, catalog, split, 0, tmp_path, **QUIET) for name in made}
    for part, source in (("title", "titles"), ("image", "small")):
        expected = getattr(prepared[source].encoder, part).state_dict()
        torch.testing.assert_close(getattr(prepared["fused"].encoder, part).state_dict(), expected)
    seen = {name: one.facts["images_seen"] for name, one in prepared.items()}
    assert seen["fused"] == 2 * seen["small"] + seen["titles"] and seen["titles"] == 2 * seen["small"]
    made["titles"] = replace(titles, options=titles.options | {"lr": 1e-4})
    told = []
    prepare_encoder("fused", catalog, split, 0, tmp_path, report=told.append)
    assert sum("training anew" in line for line in told) == 2
    made["fused"] = replace(made["fused"], mask_class_words=True)
    with pytest.raises(CheckpointError, match="takes its title part from 'titles', whose tokens are others"):
        prepare_encoder("fused", catalog, split, 0, tmp_path, **QUIET)


def test_a_recipe_can_say_how_pixels_are_made(monkeypatch, tmp_path):
    """Its encoder reads grey pictures wherever it is used, a kept one too; another way of making them trains anew."""
    plain = Recipe(image={"name": "conv4", "width": 8}, options={"epochs": 1, "batch_size": 64})
    made = {"conv": replace(plain, pixels={"steps": ("greyscale",), "fit": "pad"})}
    monkeypatch.setattr("fewshot_prod.prepare.RECIPES", made)
    catalog = load_catalog("synthetic", products_per_category=4)
    split = default_split(catalog)
    prepare_encoder("conv", catalog, split, 0, tmp_path, **QUIET)
    kept = prepare_encoder("conv", catalog, split, 0, tmp_path, report=pytest.fail)
    pools = Pools(kept, catalog, split)
    images = pools.inputs().images
    assert (images[..., 0] == images[..., 2]).all() and images.float().std() > 10
    grey = pools.features()
    made["conv"] = plain
    told = []
    coloured = prepare_encoder("conv", catalog, split, 0, tmp_path, report=told.append)
    assert "training anew" in told[0]
    coloured = Pools(replace(kept, facts=coloured.facts), catalog, split)  # the same weights, shown other pixels
    assert not torch.allclose(coloured.features(), grey, atol=1e-3)
