"""Meta-Baseline: nearest centroid by cosine similarity with a learned scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototypes import cosines
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class MetaBaseline:
    r"""Y. Chen, Z. Liu, H. Xu, T. Darrell, X. Wang, "Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot
    Learning", 2021, arXiv:2003.04390.

    A class is the mean of its support features (equation 1); its logit is
    :math:`\tau \langle f(x), w_c \rangle` with the cosine similarity (equation 2). On an encoder that was trained
    as a classifier this is the paper's Classifier-Baseline; trained further through this method, with
    :math:`\tau` learned, it is its Meta-Baseline. Inductive.

    Args:
        logit_scale: :math:`\tau`; training starts it at 10.
        transform: "CL2N", "L2N" or "UN" before the means are taken, see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if logit_scale is not positive, the transform is unknown, or CL2N has no center.

    Example:
        >>> import torch
        >>> pool = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> support, labels = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, labels, torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> MetaBaseline()(pool, episodes).tolist()
        [[[10.0, 0.0]]]

    Differs from the paper: transform is an addition, and the default leaves features as they are; metatrain, unless
    told otherwise, takes the means of normalised features ("L2N").
    """

    logit_scale: float = 10.0
    transform: Transform = "UN"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ("logit_scale",)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return self.logit_scale * cosines(transform_features(pool, self.transform, self.center), episodes)
