"""Fusion of the features of several modalities, any of which a product may lack."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax


class _Blocks(nn.Module):
    """What both fusions share: each modality normalised and projected to its own block of the output."""

    def __init__(self, dims: dict[str, int], dim: int) -> None:
        super().__init__()
        if not dims or dim < len(dims):
            raise ValueError(
                f"fusion needs at least one modality and one output dimension each: dims={dims}, dim={dim}"
            )
        self.dims = dict(dims)
        self.feature_dim = dim
        self.norms = nn.ModuleDict({name: nn.LayerNorm(size) for name, size in dims.items()})
        whole, rest = divmod(dim, len(dims))
        self.blocks = nn.ModuleDict(
            {name: nn.Linear(size, whole + (i < rest)) for i, (name, size) in enumerate(dims.items())}
        )

    def _normalised(
        self, features: dict[str, Tensor], present: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features after LayerNorm, zero where missing, and masks, for all modalities in the order of ``dims``."""
        unknown = sorted(set(features) - set(self.dims))
        if unknown or not features:
            raise ValueError(f"features of {unknown or 'no modality'}; this fusion knows {list(self.dims)}")
        some = next(iter(features.values()))
        absent = torch.zeros(some.shape[0], dtype=torch.bool, device=some.device)
        masks = {name: present.get(name, ~absent) if name in features else absent for name in self.dims}
        _refuse_empty(masks)
        normalised = {}
        for name, size in self.dims.items():
            given = features.get(name, some.new_zeros(some.shape[0], size))
            # Before the norm, so that whatever stands in for a missing modality, NaN included, has no gradient.
            normalised[name] = self.norms[name](torch.where(masks[name].unsqueeze(1), given, 0.0))
        return normalised, masks


class AttentionFusion(_Blocks):
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

    def __init__(self, dims: dict[str, int], dim: int, *, hidden: int = 64) -> None:
        super().__init__(dims, dim)
        self.keys = nn.ModuleDict({name: nn.Linear(size, hidden) for name, size in dims.items()})
        self.query = nn.Linear(hidden, hidden, bias=False)  # the keys' biases serve the sum
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products.

        Args:
            features: (B, dims[m]) of each modality; one left out is missing from every product.
            present: bool (B,) of each modality, True where a product has it; one left out is there for all.

        Returns:
            (B, dim). Features of a missing modality change neither value nor gradient.

        Raises:
            ValueError: if a product has no modality at all (not checked inside torch.func transforms and compiled
                code, where values cannot be looked at).
        """
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
        query = (keys * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        scores = self.score(torch.tanh(self.query(query).unsqueeze(1) + keys)).squeeze(-1)
        return masked_softmax(scores, mask)  # over the M modalities


class ConcatFusion(_Blocks):
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
        """Fuse B products; arguments, result and errors as in :meth:`AttentionFusion.forward`."""
        normalised, masks = self._normalised(features, present)
        blocks = [
            torch.where(masks[name].unsqueeze(1), self.blocks[name](x), self.missing[name])
            for name, x in normalised.items()
        ]
        return torch.cat(blocks, dim=1)


def _refuse_empty(masks: dict[str, Tensor]) -> None:
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return
    empty = ~torch.stack(list(masks.values())).any(0)
    if empty.any():
        raise ValueError(
            f"{int(empty.sum())} of {len(empty)} products have none of the modalities {list(masks)}, the first at "
            f"position {int(empty.nonzero()[0])} of the batch; leave them out"
        )
