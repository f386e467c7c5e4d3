"""Attention over modalities whose blocks are centred and have unit length: averaged cosines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax, modality_scores
from fewshot_prod.encoders.fusion.blocks import BlockFusion, Fusion
from fewshot_prod.encoders.unit_length import unit_length


class UnitAttentionFusion(Fusion):
    """Cosine similarities of the modalities, averaged by weights that attention may move by ``spread``.

    For modality m of a product, with x_m its features and c_m the mean of V_m x_m over the training products that have
    the modality (see :class:`Centre`)::

        u_m = (V_m x_m - c_m) / |V_m x_m - c_m|, or 0 if m is missing
        k_m = K_m u_m,    q = mean of the k_m present,    e_m = v . tanh(W q + k_m)     (Bahdanau et al. 2015)
        a_m = (1 - spread) p_m + spread * softmax of e + log p,    p = shares of the modalities present, summing to 1
        output = length * [sqrt(a_1) u_1; ...; sqrt(a_M) u_M]

    Every output has the same length, whatever is missing, and 0 in a missing modality's place is what the average
    product has there. With ``spread`` 0 the dot product of two complete products is the weighted mean of their
    modalities' cosines. Titles that name the training categories tell these apart easily, and new ones less so: hence
    the bound on what attention to one modality may take from the others.

    Args:
        dims: features of each modality; the order is that of blocks and weights.
        dim: size of the output, dim / M for each block. None: blocks keep their width, V_m is the identity, and no
            projection that was trained on the training categories loses what tells new ones apart.
        shares: relative weights of modalities, above 0, where they are not 1; choose them on validation classes.
        spread: 0 (``shares`` alone) to 1 (attention alone).
        length: of each output, so that a linear head starts with logits of a useful size.
        hidden: size of the space in which the attention scores are computed.

    Raises:
        ValueError: for a share that is not above 0 or of a modality that is not in ``dims``, or a spread outside 0..1.

    Example:
        >>> fusion = UnitAttentionFusion({"image": 6, "title": 4}).eval()
        >>> features = {"image": torch.randn(3, 6), "title": torch.randn(3, 4)}
        >>> present = {"image": torch.tensor([True, True, False])}
        >>> [round(length, 3) for length in fusion(features, present).norm(dim=1).tolist()]
        [10.0, 10.0, 10.0]
    """

    attends = True

    def __init__(
        self,
        dims: dict[str, int],
        dim: int | None = None,
        *,
        shares: dict[str, float] | None = None,
        spread: float = 0.3,
        length: float = 10.0,
        hidden: int = 64,
    ) -> None:
        super().__init__(dims, sum(dims.values()) if dim is None else dim)
        for name, share in (shares := shares or {}).items():
            if name not in dims or share <= 0:
                raise ValueError(f"shares has {name!r}: {share}; give numbers above 0 for modalities of {list(dims)}")
        if not 0 <= spread <= 1:
            raise ValueError(f"spread is {spread}: it must be 0 (shares alone) to 1 (attention alone)")
        self.spread, self.length = spread, length
        self.shares = [shares.get(name, 1.0) for name in dims]
        self.norms = nn.ModuleDict({name: nn.Identity() for name in dims})  # length is all that is normalised
        self.blocks = nn.ModuleDict({name: nn.Identity() for name in dims})
        widths = dims
        if dim is not None:
            self.blocks = BlockFusion(dims, dim).blocks
            widths = {name: block.out_features for name, block in self.blocks.items()}
        self.centres = nn.ModuleDict({name: Centre(size) for name, size in widths.items()})
        self.keys = nn.ModuleDict({name: nn.Linear(size, hidden) for name, size in widths.items()})
        self.query = nn.Linear(hidden, hidden, bias=False)  # the keys' biases serve the sum
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse B products, see :meth:`Fusion.forward`."""
        units, mask = self._units(features, present)
        scale = torch.where(mask, self._weights(units, mask), 1.0).sqrt()  # the root of 0 has no finite gradient
        return self.length * torch.cat([u * scale[:, i, None] for i, u in enumerate(units.values())], dim=1)

    @property
    def block_shares(self) -> tuple[tuple[int, float], ...]:
        """See :attr:`Fusion.block_shares`."""
        return tuple((centre.num_features, p) for centre, p in zip(self.centres.values(), self.shares, strict=True))

    def weights(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """What each modality weighs: (B, M) in the order of ``dims``, sums to 1 over those present."""
        return self._weights(*self._units(features, present))

    def _units(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Centred blocks of unit length, zero where missing, and the masks side by side, bool (B, M)."""
        known, masks = self._normalised(features, present)
        units = {}
        for name, x in known.items():
            block, there = self.blocks[name](x), masks[name]
            units[name] = unit_length(self.centres[name](block, there)) * there.unsqueeze(1)
        return units, torch.stack(list(masks.values()), dim=1)

    def _weights(self, units: dict[str, Tensor], mask: Tensor) -> Tensor:
        # a unit vector's entries are small, and tanh would leave their keys as they are
        keys = torch.stack([self.keys[name](self.length * u) for name, u in units.items()], dim=1)  # (B, M, hidden)
        scores = modality_scores(keys, mask, self.query, self.score)
        attention = masked_softmax(scores + scores.new_tensor(self.shares).log(), mask)
        shares = mask * mask.new_tensor(self.shares, dtype=torch.float32)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-6)
        return (1 - self.spread) * shares + self.spread * attention


class Centre(nn.BatchNorm1d):
    """Batch normalisation that only centres: features minus their mean over a batch, or the running mean in use.

    Deviations are put back by their running values, so that what a dimension weighs stays as it is. A batch with less
    than two rows that are there is centred by the running mean.

    Example:
        >>> Centre(2).eval()(torch.ones(3, 2), torch.ones(3, dtype=torch.bool))[0].tolist()
        [1.0, 1.0]
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """``x`` (B, size) centred; rows that are not ``there``, bool (B,), take no part in the mean."""
        if not self.training:
            return x - self.running_mean
        if there.sum() < 2:
            return x - self.running_mean.clone()
        centred = super().forward(x[there]) * (self.running_var + self.eps).sqrt()
        return x.index_put((there.nonzero()[:, 0],), centred.to(x.dtype))
