"""Embed a catalog once: features in memory, and on disk keyed by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot_prod.catalog.decoding import DECODING_VERSION
from fewshot_prod.checkpoints import encoder_hash
from fewshot_prod.devices import autocast
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.storage import cache_folder, write_whole


@torch.no_grad()
def embed(
    encoder: ProductEncoder,
    inputs: ProductInputs,
    *,
    batch_size: int = 256,
    flip: bool = True,
    precision: str = "32-true",
) -> Tensor:
    """Features of all products in eval mode.

    Args:
        flip: average the features of each image and of its mirror image (products have no left and right).
        precision: "32-true" or "bf16-mixed".

    Returns:
        float32 (N, D) on the CPU.

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> embed(encoder, ProductInputs(images=torch.zeros(3, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([3, 16])
    """
    if not len(inputs):  # as of validation classes, where a small catalog has none
        return torch.zeros(0, encoder.feature_dim)
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval().to(memory_format=torch.channels_last)
    rows = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[torch.arange(start, min(start + batch_size, len(inputs)))].to(device)
        views = [batch]
        if flip and batch.images is not None:
            views.append(replace(batch, images=batch.images.flip(2)))
        with autocast(device, precision):
            rows.append(torch.stack([encoder(view).float() for view in views]).mean(0).cpu())
    encoder.train(was_training)
    return torch.cat(rows)


def cached_features(
    encoder: ProductEncoder,
    inputs: ProductInputs,
    *,
    inputs_key: str,
    cache_dir: Path | None = None,
    flip: bool = True,
    precision: str = "32-true",
) -> Tensor:
    """:func:`embed`, computed once for each (encoder, inputs, flip, precision) and kept on disk.

    Args:
        inputs_key: what the images were made from, the catalog's fingerprint and their size. Tokens and attributes,
            which follow from the code that reads titles and from columns that the fingerprint leaves out, are told
            apart by their values; and so is which images are missing.
    """
    made_of = [encoder_hash(encoder), inputs_key, flip, precision, len(inputs)]
    for numbers in (inputs.tokens, inputs.lengths, inputs.attributes):
        if numbers is not None:
            made_of.append(hashlib.sha256(numbers.numpy().tobytes()).hexdigest())
    if inputs.has_image is not None and not inputs.has_image.all():
        made_of.append(hashlib.sha256(inputs.has_image.numpy().tobytes()).hexdigest())
    made_of += [DECODING_VERSION] if DECODING_VERSION > 1 else []
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:24]
    path = (cache_dir or cache_folder()) / "features" / f"{name}.safetensors"
    with suppress(FileNotFoundError, SafetensorError):  # damaged: computed again
        return load_file(path)["features"]
    features = embed(encoder, inputs, flip=flip, precision=precision)
    try:
        write_whole(path, partial(save_file, {"features": features}))
    except OSError as error:
        warnings.warn(f"features are not kept, {path.parent} cannot be written: {error}", stacklevel=2)
    return features


def image_part(encoder: ProductEncoder) -> ProductEncoder:
    """An encoder of images alone around the image part of ``encoder``, whose weights it shares.

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> image_part(build_encoder({"image": {"name": "conv4", "width": 16}})).modality
        'image'
    """
    alone = build_encoder({"image": encoder.config["image"], "title": None, "fusion": None})
    alone.image = encoder.image
    return alone.to(encoder.device).train(encoder.training)


def with_image_features(inputs: ProductInputs, encoder: ProductEncoder, **options: Any) -> ProductInputs:
    """``inputs`` with what the image part of ``encoder`` makes of the images in place of these.

    Args:
        options: of :func:`cached_features`, which computes them once.
    """
    images = ProductInputs(inputs.images, inputs.has_image)
    features = cached_features(image_part(encoder), images, **options)
    return replace(inputs, images=None, image_features=features)
