"""Image encoders: shapes, every parameter trained, errors, and products that lack a modality."""

from __future__ import annotations

import pytest
import torch

from fewshot_prod.encoders.image import image_encoder
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.inputs import ProductInputs

TITLE = {"vocab_size": 30, "embedding_dim": 8, "hidden_size": 8}


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("name", "width", "dim"), [("conv4", 16, 16), ("resnet12", 8, 64)])
def test_shape_and_a_gradient_for_every_parameter(name, width, dim, norm):
    encoder = image_encoder(name, width=width, norm=norm)
    features = encoder(torch.randn(4, 3, 32, 24))
    assert features.shape == (4, dim) == (4, encoder.feature_dim)
    (features * torch.randn_like(features)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "squeezenet1_1"])
def test_torchvision_by_name(name):
    if name == "squeezenet1_1":
        with pytest.raises(ValueError, match="does not end in a linear layer"):
            image_encoder(name)
        return
    encoder = image_encoder(name).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, 224, 224))
    assert features.shape == (1, encoder.feature_dim)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match=r"torchvision has no classifier 'resnet13'; it has .*resnet18"):
        image_encoder("resnet13")
    with pytest.raises(ValueError, match="width and norm belong to conv4 and resnet12"):
        image_encoder("resnet18", width=3)
    with pytest.raises(ValueError, match="unknown normalisation 'layer'"):
        image_encoder("conv4", norm="layer")
    with pytest.raises(ValueError, match="if and only if"):
        build_encoder({"image": {"name": "conv4"}, "title": TITLE})


def test_group_norm_in_training_mode_keeps_images_apart():
    encoder = image_encoder("conv4", width=16, norm="group").train()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]))


def test_a_missing_modality_is_masked_not_seen():
    encoder = build_encoder(
        {"image": {"name": "conv4", "width": 16}, "title": TITLE, "fusion": {"kind": "attention", "dim": 16}}
    ).eval()
    assert encoder.modality == "image+title" and encoder.feature_dim == 16
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    tokens, lengths = torch.randint(1, 30, (2, 4)), torch.tensor([4, 4])
    has_image = torch.tensor([False, True])
    one = encoder(ProductInputs(images, has_image, tokens, lengths))
    other_pixels = images.clone()
    other_pixels[0] = 255 - other_pixels[0]
    torch.testing.assert_close(encoder(ProductInputs(other_pixels, has_image, tokens, lengths)), one)
    no_title = encoder(ProductInputs(images, torch.tensor([True, True]), tokens, torch.tensor([0, 4])))
    assert torch.isfinite(no_title).all() and (no_title[0] - one[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="none of the modalities"):
        encoder(ProductInputs(images, has_image, tokens, torch.tensor([0, 4])))


def test_inputs_that_do_not_fit_the_encoder_say_so():
    encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
    with pytest.raises(ValueError, match="reads images, and these inputs have none"):
        encoder(ProductInputs(tokens=torch.ones(2, 3, dtype=torch.int64), lengths=torch.tensor([3, 3])))
    with pytest.raises(ValueError, match="neither cannot be encoded"):
        ProductInputs()
