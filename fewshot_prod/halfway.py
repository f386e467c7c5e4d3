"""Halfway back to where training went on from: the mean of both weights. Wortsman et al. 2022 (WiSE-FT).

What goes on from an encoder in episodes learns to tell classes apart by few products, and forgets some of what it
knew. Weights between both keep more of either than a longer or a shorter training does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_prod.encoders.product import ProductEncoder


def halfway(start: ProductEncoder, trained: ProductEncoder) -> dict[str, Tensor]:
    """Weights in the middle between those of ``trained`` and of ``start``, which it was trained on from.

    Running statistics are weights like others here; whole numbers (batches counted) are ``trained``'s.

    Returns:
        A state dict of either encoder.

    Raises:
        ValueError: if the encoders are not of the same shape.

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> start, trained = (build_encoder({"image": {"name": "conv4", "width": 16}}) for _ in range(2))
        >>> middle = halfway(start, trained)["image.blocks.0.0.weight"]
        >>> weights = [encoder.state_dict()["image.blocks.0.0.weight"] for encoder in (start, trained)]
        >>> bool((middle - sum(weights) / 2).abs().max() < 1e-7)
        True
    """
    ours, theirs = start.state_dict(), trained.state_dict()
    shapes = [{name: tensor.shape for name, tensor in weights.items()} for weights in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError("weights halfway between two encoders need encoders of the same parts and sizes")
    return {
        name: torch.lerp(ours[name], end, 0.5) if end.is_floating_point() else end.clone()
        for name, end in theirs.items()
    }
