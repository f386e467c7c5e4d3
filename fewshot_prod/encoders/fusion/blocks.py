"""What all fusions share: masks, LayerNorm a modality, and, for most, a block of the output for each."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class Fusion(nn.Module):
    """Each modality normalised on its own; what is missing is zero and has no gradient.

    Args:
        dims: features of each modality; the order is that of blocks and weights.
        dim: size of the output.

    Raises:
        ValueError: without a modality, or with less than one output dimension for each.
    """

    reads_elements: ClassVar[bool] = False
    attends: ClassVar[bool] = False  # to modalities, so that it has ``weights``

    def __init__(self, dims: dict[str, int], dim: int) -> None:
        super().__init__()
        if not dims or dim < len(dims):
            raise ValueError(
                f"fusion needs at least one modality and one output dimension each: dims={dims}, dim={dim}"
            )
        self.dims = dict(dims)
        self.feature_dim = dim
        self.norms = nn.ModuleDict({name: nn.LayerNorm(size) for name, size in dims.items()})

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products.

        Args:
            features: (B, dims[m]) of each modality, or (B, P, dims[m]) of its P elements where ``reads_elements``;
                one left out is missing from every product.
            present: bool (B,), or (B, P), of each modality, True where a product has it; one left out is there for
                all.

        Returns:
            (B, dim). Features of a missing modality change neither value nor gradient.

        Raises:
            ValueError: if a product has no modality at all (not checked inside torch.func transforms and compiled
                code, where values cannot be looked at), or for a modality that is not in ``dims``.
        """
        raise NotImplementedError

    @property
    def block_shares(self) -> tuple[tuple[int, float], ...] | None:
        """Of each modality its block's width, and its share of a complete product's squared length, if only roughly.

        None for a fusion whose output is not one block beside the other, each zero where a product lacks the modality.
        """
        return None

    def _normalised(
        self, features: dict[str, Tensor], present: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features after LayerNorm, zero where missing, and masks, for all modalities in the order of ``dims``."""
        unknown = sorted(set(features) - set(self.dims))
        if unknown or not features:
            raise ValueError(f"features of {unknown or 'no modality'}; this fusion knows {list(self.dims)}")
        some = next(iter(features.values()))
        nowhere = (len(some), 1) if self.reads_elements else (len(some),)
        masks, normalised = {}, {}
        for name, size in self.dims.items():
            given = features.get(name, some.new_zeros(*nowhere, size))
            there = torch.full(given.shape[:-1], name in features, dtype=torch.bool, device=some.device)
            masks[name] = present.get(name, there) if name in features else there
            # Before the norm, so that whatever stands in for a missing modality, NaN included, has no gradient.
            normalised[name] = self.norms[name](torch.where(masks[name].unsqueeze(-1), given, 0.0))
        _refuse_empty(masks)
        return normalised, masks


class BlockFusion(Fusion):
    """A fusion whose output has a block for each modality, dim / M dimensions of it, set side by side."""

    def __init__(self, dims: dict[str, int], dim: int) -> None:
        super().__init__(dims, dim)
        whole, rest = divmod(dim, len(dims))
        self.blocks = nn.ModuleDict(
            {name: nn.Linear(size, whole + (i < rest)) for i, (name, size) in enumerate(dims.items())}
        )


def _refuse_empty(masks: dict[str, Tensor]) -> None:
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return
    empty = ~torch.stack([mask.reshape(len(mask), -1).any(1) for mask in masks.values()]).any(0)
    if empty.any():
        raise ValueError(
            f"{int(empty.sum())} of {len(empty)} products have none of the modalities {list(masks)}, the first at "
            f"position {int(empty.nonzero()[0])} of the batch; leave them out"
        )
