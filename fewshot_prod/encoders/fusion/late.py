"""Late fusion: modalities meet only in the average of their logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot_prod.encoders.fusion.blocks import BlockFusion


class LateFusion(BlockFusion):
    """Features of unit length side by side, divided by the number of modalities present: averaged logits.

    For modality m of a product, with x_m its normalised features (LayerNorm) and n the number of modalities it has::

        u_m = (V_m x_m + b_m) / |V_m x_m + b_m|, or 0 if m is missing,    output = [u_1; ...; u_M] / n

    No modality sees another. A linear head W = [W_1 ... W_M] on that gives the mean of W_m u_m over the modalities
    present, the average of their logits (Snoek, Worring, Smeulders 2005, "Early versus late fusion in semantic video
    analysis"); squared distances to class means, too, are the sum of each modality's own where all are present.

    Example:
        >>> fusion = LateFusion({"image": 6, "title": 4}, dim=8)
        >>> [round(length, 4) for length in fusion({"image": torch.randn(2, 6)}, {}).norm(dim=1).tolist()]
        [1.0, 1.0]
    """

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        normalised, masks = self._normalised(features, present)
        mask = torch.stack(list(masks.values()), dim=1)  # (B, M)
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        blocks = [
            normalize(self.blocks[name](x), dim=1) * share[:, i, None] for i, (name, x) in enumerate(normalised.items())
        ]
        return torch.cat(blocks, dim=1)
