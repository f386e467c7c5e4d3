"""Attention over the modalities that a product has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax, modality_scores
from fewshot_prod.encoders.fusion.blocks import BlockFusion


class AttentionFusion(BlockFusion):
    """Additive attention over the modalities that a product has; its weights scale the modalities' blocks.

    For modality m of a product, with x_m its normalised features (LayerNorm) and n the number of modalities it has::

        k_m = K_m x_m,    q = mean of the k_m present,    e_m = v . tanh(W q + k_m)    (Bahdanau et al. 2015)
        alpha = softmax of e over the modalities present
        output = [s_1 (V_1 x_1 + b_1); ...; s_M (V_M x_M + b_M)],    s_m = (1 + n alpha_m) / 2, or 0 if m is missing

    The blocks are set side by side, dim / M dimensions each, so that what image and title say cannot cancel as it can
    in the usual sum; and half of a modality's scale is its own, so that one which tells the training categories apart
    easily (a title that names them) cannot silence the other, on which new categories may depend. Equal weights
    leave the blocks as they are: plain concatenation (:class:`ConcatFusion`) is the special case v = 0, and a
    product with a single modality keeps that block's scale.

    Args:
        dims: features of each modality; the order is that of blocks and weights.
        dim: size of the output.
        hidden: size of the space in which the attention scores are computed.

    Example:
        >>> fusion = AttentionFusion({"image": 6, "title": 4}, dim=8)
        >>> features = {"image": torch.randn(3, 6), "title": torch.randn(3, 4)}
        >>> present = {"image": torch.tensor([True, True, False]), "title": torch.tensor([True, False, True])}
        >>> fusion(features, present).shape, fusion.weights(features, present)[1:].tolist()
        (torch.Size([3, 8]), [[1.0, 0.0], [0.0, 1.0]])
    """

    attends = True

    def __init__(self, dims: dict[str, int], dim: int, *, hidden: int = 64) -> None:
        super().__init__(dims, dim)
        self.keys = nn.ModuleDict({name: nn.Linear(size, hidden) for name, size in dims.items()})
        self.query = nn.Linear(hidden, hidden, bias=False)  # the keys' biases serve the sum
        self.score = nn.Linear(hidden, 1, bias=False)

    @property
    def block_shares(self) -> tuple[tuple[int, float], ...]:
        """See :attr:`Fusion.block_shares`."""
        return tuple((block.out_features, 1.0) for block in self.blocks.values())

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        normalised, masks = self._normalised(features, present)
        mask = torch.stack(list(masks.values()), dim=1)  # (B, M)
        scale = mask * (1 + mask.sum(1, keepdim=True) * self._weights(normalised, masks)) / 2
        blocks = [self.blocks[name](x) * scale[:, i : i + 1] for i, (name, x) in enumerate(normalised.items())]
        return torch.cat(blocks, dim=1)

    def weights(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """The attention paid to each modality: (B, M) in the order of ``dims``, sums to 1 over those present."""
        return self._weights(*self._normalised(features, present))

    def _weights(self, normalised: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        keys = torch.stack([self.keys[name](x) for name, x in normalised.items()], dim=1)  # (B, M, hidden)
        mask = torch.stack(list(masks.values()), dim=1)  # (B, M)
        return masked_softmax(modality_scores(keys, mask, self.query, self.score), mask)
