"""Gated fusion: for every output dimension, how much each modality has to say."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax
from fewshot_prod.encoders.fusion.blocks import Fusion


class GatedFusion(Fusion):
    """J. Arevalo, T. Solorio, M. Montes-y-Gomez, F. A. Gonzalez, "Gated Multimodal Units for Information Fusion", 2017,
    arXiv:1702.01992.

    For a product with normalised features x_m (LayerNorm), zero where missing, as in section 3.1::

        h_m = tanh(W_m x_m + b_m),    s_m = Z_m [x_1; ...; x_M] + c_m
        output = sum_m z_m * h_m,     z = softmax of s over the modalities present, dimension by dimension

    Args:
        dims, dim: see :class:`Fusion`.

    Example:
        >>> fusion = GatedFusion({"image": 6, "title": 4}, dim=8)
        >>> fusion({"image": torch.randn(3, 6)}, {}).shape
        torch.Size([3, 8])

    Differs from the paper: its two modalities share one sigmoid gate, z and 1 - z, which is the softmax of two; that
    also serves more modalities, where the paper's gates are independent, and missing ones, which it leaves out.
    LayerNorm and biases are additions.
    """

    def __init__(self, dims: dict[str, int], dim: int) -> None:
        super().__init__(dims, dim)
        self.values = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in dims.items()})
        self.gates = nn.ModuleDict({name: nn.Linear(sum(dims.values()), dim) for name in dims})

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        normalised, masks = self._normalised(features, present)
        known = torch.cat([x * masks[name].unsqueeze(1) for name, x in normalised.items()], dim=1)
        values = torch.stack([self.values[name](x).tanh() for name, x in normalised.items()], dim=2)
        scores = torch.stack([self.gates[name](known) for name in self.dims], dim=2)  # (B, dim, M)
        mask = torch.stack(list(masks.values()), dim=1).unsqueeze(1).expand_as(scores)
        return (masked_softmax(scores, mask) * values).sum(2)
