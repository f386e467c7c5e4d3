"""Learning rates of an inner loop, one for each weight, kept and saved with the encoder that they were learned for."""

from __future__ import annotations

import torch
from torch import nn


class InnerRates(nn.Module):
    """A rate for each number in an encoder, and for a head of any number of ways.

    Args:
        encoder: has ``feature_dim``.
        inner_lr: where every rate starts.

    Attributes:
        encoder: the rates of ``encoder.parameters()``, in that order and those shapes.
        head_weight: (1, D), the same for all classes.
        head_bias: (1,).
    """

    def __init__(self, encoder: nn.Module, inner_lr: float) -> None:
        super().__init__()
        weights = [p for name, p in encoder.named_parameters() if not name.startswith("inner_rates.")]
        self.encoder = nn.ParameterList([torch.full_like(p, inner_lr) for p in weights])
        self.head_weight = nn.Parameter(weights[0].new_full((1, encoder.feature_dim), inner_lr))
        self.head_bias = nn.Parameter(weights[0].new_full((1,), inner_lr))


def attach_inner_rates(encoder: nn.Module, inner_lr: float) -> None:
    """Give ``encoder`` the module ``inner_rates``, unless it has it, and note it in its configuration for checkpoints.

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> attach_inner_rates(encoder, 0.1)
        >>> build_encoder(encoder.config).inner_rates.head_weight.shape
        torch.Size([1, 16])
    """
    if getattr(encoder, "inner_rates", None) is not None:  # trained before: training goes on from these
        return
    encoder.inner_rates = InnerRates(encoder, inner_lr)
    if hasattr(encoder, "config"):
        encoder.config = {**encoder.config, "inner_rates": True}
