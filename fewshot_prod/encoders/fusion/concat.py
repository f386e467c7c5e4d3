"""Plain concatenation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.fusion.blocks import BlockFusion


class ConcatFusion(BlockFusion):
    """Plain concatenation, the baseline of :class:`AttentionFusion`: the same blocks, all with weight 1.

    A missing modality's block is a learned vector, zero at the start.

    Example:
        >>> fusion = ConcatFusion({"image": 6, "title": 4}, dim=8)
        >>> fusion({"image": torch.randn(3, 6)}, {}).shape
        torch.Size([3, 8])
    """

    def __init__(self, dims: dict[str, int], dim: int) -> None:
        super().__init__(dims, dim)
        self.missing = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(block.out_features)) for name, block in self.blocks.items()}
        )

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        normalised, masks = self._normalised(features, present)
        blocks = [
            torch.where(masks[name].unsqueeze(1), self.blocks[name](x), self.missing[name])
            for name, x in normalised.items()
        ]
        return torch.cat(blocks, dim=1)
