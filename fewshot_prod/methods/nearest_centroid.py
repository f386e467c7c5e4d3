"""Nearest centroid on transformed features: SimpleShot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototypes import squared_distances
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class NearestCentroid:
    """Y. Wang, W.-L. Chao, K. Weinberger, L. van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor
    Classification for Few-Shot Learning", 2019, arXiv:1911.04623.

    A query belongs to the class whose mean support feature is nearest (equation 1), after a transform of the
    features (section 2.2). Inductive.

    Args:
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
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

    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return -squared_distances(transform_features(pool, self.transform, self.center), episodes)
