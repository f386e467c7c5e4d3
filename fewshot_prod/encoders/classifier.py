"""The full supervised model: product encoder (image, title, fusion) and a classifier over known categories."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_prod.inputs import ProductInputs


class CosineHead(nn.Module):
    """Cosine classifier: ``logits = logit_scale * cos(feature, class weight)``.

    Gidaris & Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting" (CVPR 2018), equation 4; called
    Baseline++ by Chen et al., "A Closer Look at Few-shot Classification" (ICLR 2019).

    Args:
        in_features: size of a feature.
        n_classes: number of classes.
        logit_scale: multiplies the cosines; where learning of it starts.

    Example:
        >>> CosineHead(4, 3)(torch.randn(2, 4)).abs().max() <= 10
        tensor(True)
    """

    def __init__(self, in_features: int, n_classes: int, logit_scale: float = 10.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_classes, in_features))
        nn.init.normal_(self.weight)  # only the direction counts: uniform over the sphere
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, n_classes) of features (B, in_features)."""
        return self.logit_scale * functional.linear(
            functional.normalize(features, dim=-1), functional.normalize(self.weight, dim=-1)
        )


class ProductClassifier(nn.Module):
    """Image encoder, title encoder and attention fusion (all in ``encoder``), then a classifier: one model.

    Args:
        encoder: maps :class:`ProductInputs` to features (B, encoder.feature_dim), as ``build_encoder`` makes it.
        n_classes: number of categories to tell apart.
        head: "linear", or "cosine" (see :class:`CosineHead`).

    Example:
        >>> from fewshot_prod.encoders.product import build_encoder
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> model = ProductClassifier(encoder, n_classes=5)
        >>> model(ProductInputs(images=torch.zeros(2, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([2, 5])
    """

    def __init__(self, encoder: nn.Module, n_classes: int, head: Literal["linear", "cosine"] = "linear") -> None:
        super().__init__()
        heads = {"linear": nn.Linear, "cosine": CosineHead}
        if head not in heads:
            raise ValueError(f"head is {head!r}; choose one of {list(heads)}")
        self.encoder = encoder
        self.head = heads[head](encoder.feature_dim, n_classes)

    def forward(self, inputs: ProductInputs) -> Tensor:
        """Logits, float (B, n_classes)."""
        return self.head(self.encoder(inputs))
