"""Co-attention: which regions of the picture matter depends on the title, and which words on the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax
from fewshot_prod.encoders.fusion.blocks import BlockFusion


class CoAttentionFusion(BlockFusion):
    """J. Lu, J. Yang, D. Batra, D. Parikh, "Hierarchical Question-Image Co-Attention for Visual Question Answering",
    2016, arXiv:1606.00061: parallel co-attention (section 3.3), over the elements of any number of modalities.

    Elements are a title's token states and the positions of a picture's last feature map. With x_mp element p of
    modality m after LayerNorm, and sums over the elements present::

        k_mp = K_m x_mp,    C_pr = tanh(k_mp . k_jr / sqrt(hidden))                 (equation 3, of modalities m and j)
        h_mp = tanh(k_mp + sum_{j != m} mean_r C_pr G_j x_jr)                       (equation 4)
        a_m = softmax of v_m . h_mp over p,    y_m = sum_p a_mp x_mp                (equation 5)
        output = [V_1 y_1 + b_1; ...; V_M y_M + b_M], a block being 0 where its modality is missing

    Args:
        dims, dim: see :class:`Fusion`.
        hidden: size of the space in which elements are compared.

    Example:
        >>> fusion = CoAttentionFusion({"image": 6, "title": 4}, dim=8)
        >>> elements = {"image": torch.randn(2, 9, 6), "title": torch.randn(2, 5, 4)}
        >>> present = {"title": torch.tensor([[True] * 5, [False] * 5])}
        >>> fusion(elements, present).shape, [a.shape[1] for a in fusion.weights(elements, present).values()]
        (torch.Size([2, 8]), [9, 5])

    Differs from the paper: the affinity's matrix W_b is factorised into both modalities' keys, scaled as in dot-product
    attention; guidance is averaged instead of summed over elements, so that long titles do not saturate it; one level
    (tokens in context) instead of three; blocks side by side instead of a network on sums.
    """

    reads_elements = True

    def __init__(self, dims: dict[str, int], dim: int, *, hidden: int = 64) -> None:
        super().__init__(dims, dim)
        self.keys = nn.ModuleDict({name: nn.Linear(size, hidden) for name, size in dims.items()})
        self.guides = nn.ModuleDict({name: nn.Linear(size, hidden, bias=False) for name, size in dims.items()})
        self.scores = nn.ModuleDict({name: nn.Linear(hidden, 1, bias=False) for name in dims})

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        elements, masks = self._normalised(features, present)
        weights = self._weights(elements, masks)
        blocks = []
        for name, x in elements.items():
            pooled = (weights[name].unsqueeze(-1) * x).sum(1)
            blocks.append(self.blocks[name](pooled) * masks[name].any(1, keepdim=True))
        return torch.cat(blocks, dim=1)

    def weights(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """The attention paid to each element, (B, P) a modality; rows sum to 1, or to 0 where it is missing."""
        return self._weights(*self._normalised(features, present))

    def _weights(self, elements: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
        keys = {name: self.keys[name](x) for name, x in elements.items()}  # (B, P, hidden)
        guides = {}
        for name, x in elements.items():  # missing elements guide nothing; the others by their mean
            share = masks[name] / masks[name].sum(1, keepdim=True).clamp(min=1)
            guides[name] = self.guides[name](x) * share.unsqueeze(-1)
        weights = {}
        for name, key in keys.items():
            guided = key
            for other in (o for o in keys if o != name):
                affinity = torch.tanh(key @ keys[other].mT / key.shape[-1] ** 0.5)  # (B, P, R)
                guided = guided + affinity @ guides[other]
            weights[name] = masked_softmax(self.scores[name](torch.tanh(guided)).squeeze(-1), masks[name])
        return weights
