"""Nearest centroid on transformed features: SimpleShot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.prototypes import squared_distances


@dataclass(frozen=True)
class NearestCentroid:
    """Y. Wang, W.-L. Chao, K. Weinberger, L. van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor
    Classification for Few-Shot Learning", 2019, arXiv:1911.04623.

    A query belongs to the class whose mean support feature is nearest (equation 1), after a transform of the
    features (section 2.2): UN, none; L2N, division by the Euclidean norm; CL2N, subtraction of the mean feature of
    the base classes, then L2N. Inductive.

    Args:
        transform: "CL2N", "L2N" or "UN".
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if the transform is unknown, or CL2N has no center.

    Example:
        >>> import torch
        >>> pool = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.5]])
        >>> support, labels = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, labels, torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> NearestCentroid(transform="L2N")(pool, episodes).argmax(-1).tolist()
        [[0]]

    Differs from the paper: logits are the negative *squared* distances, which rank classes the same way.
    """

    transform: Literal["CL2N", "L2N", "UN"] = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.transform not in ("CL2N", "L2N", "UN"):
            raise ValueError(f"transform is {self.transform!r}: give 'CL2N', 'L2N' or 'UN'")
        if self.transform == "CL2N" and self.center is None:
            raise ValueError("CL2N needs center, the mean feature of the base classes: give it, or choose 'L2N'")

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        if self.transform == "CL2N":
            pool = pool - self.center.to(pool.device)
        if self.transform != "UN":
            pool = F.normalize(pool, dim=1)
        return -squared_distances(pool, episodes)
