"""Nearest centroid where products lack modalities: each query is compared by those that it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototypes import class_means, linear_logits
from fewshot_prod.methods.transforms import Transform


@dataclass(frozen=True)
class PartialDistance:
    """J. K. Dixon, "Pattern Recognition with Partly Missing Data", IEEE Transactions on Systems, Man, and Cybernetics
    9 (10), 1979, 617-621: distances over the features that are there.

    Features are a block for each modality, zero where a product lacks it, as fusions with ``block_shares`` leave them.
    With c_km the mean of block m over the class's support products that have it (zero, the average product, if none
    does), and present(x) the modalities of the query x::

        logit_k = - sum over m in present(x) of |x_m - c_km|^2

    so that what the class looks like does not count against a query without an image. With nothing missing this is
    :class:`NearestCentroid`. Inductive.

    Args:
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`. A product without some modality gets the
            length that its other blocks have in a complete product, the root of their shares.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.
        blocks: (width, share) of each modality, see ``Fusion.block_shares``; None: one block of all features.

    Raises:
        ValueError: if the transform is unknown, CL2N has no center, a share is not above 0, or the widths do not add
            up to D.

    Example:
        >>> pool = torch.tensor([[1.0, 0.2, 0.0, 1.0], [0.0, 0.2, 1.0, 0.0], [0.0, 0.0, 0.1, 0.9]])  # no image
        >>> support, labels = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, labels, torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> PartialDistance("L2N", blocks=((2, 1.0), (2, 1.0)))(pool, episodes).argmax(-1).tolist()
        [[0]]

    Differs from the paper: whole modalities are missing, not single features; distances are not divided by the share
    of features that they are over, which all classes of a query have in common.
    """

    transform: Transform = "CL2N"
    center: Tensor | None = None
    blocks: tuple[tuple[int, float], ...] | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)
        if self.blocks is not None and min(share for _, share in self.blocks) <= 0:
            raise ValueError(f"blocks={self.blocks}: shares must be above 0")

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        widths, shares = zip(*self.blocks or ((pool.shape[1], 1.0),), strict=True)
        if sum(widths) != pool.shape[1]:
            raise ValueError(f"blocks={self.blocks}: widths add up to {sum(widths)}, and features have {pool.shape[1]}")
        features, present = self._known(pool, widths, pool.new_tensor(shares))
        rows = torch.cat([features, present], dim=1)  # masks ride along: their class means are shares of the support

        def head(part: EpisodeBatch) -> tuple[Tensor, None]:
            sums, shown = class_means(rows, part).split([features.shape[1], len(widths)], dim=2)
            means = [block / shown[..., m, None].clamp(min=1e-6) for m, block in enumerate(sums.split(widths, dim=2))]
            squares = torch.stack([block.square().sum(2) for block in means], dim=2)
            return torch.cat([2 * torch.cat(means, dim=2), -squares], dim=2), None

        squares = torch.linalg.vector_norm(features, dim=1).square()[episodes.query][..., None]  # (E, Q, 1)
        return linear_logits(rows, episodes, head) - squares

    def _known(self, pool: Tensor, widths: tuple[int, ...], shares: Tensor) -> tuple[Tensor, Tensor]:
        """Transformed features (N, D), zero where missing, and 1.0 or 0.0 for each modality (N, M)."""
        present = torch.stack([(block != 0).any(1) for block in pool.split(widths, dim=1)], dim=1).to(pool.dtype)
        if self.transform == "UN":
            return pool, present
        if self.transform == "CL2N":
            there = present.repeat_interleave(torch.tensor(widths, device=pool.device), dim=1)
            pool = (pool - self.center.to(pool.device)) * there
        lengths = (present @ (shares / shares.sum())).sqrt()
        return F.normalize(pool, dim=1) * lengths[:, None], present
