"""Prototypical networks: softmax over squared distances to class means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototypes import squared_distances


@dataclass(frozen=True)
class Prototypical:
    """J. Snell, K. Swersky, R. Zemel, "Prototypical Networks for Few-shot Learning", 2017, arXiv:1703.05175.

    A class is the mean of its support features (equation 1); a query's logits are its negative squared Euclidean
    distances to them (equation 2), times ``logit_scale``. The encoder behind the features is trained through this
    method: with a pool of features that carry gradients, they flow back. Inductive.

    Args:
        logit_scale: multiplies the negative distances; greater is sharper.
        normalise: divide features by their Euclidean norm first; distances then lie in 0..4.
        center: float32 (D,), subtracted from the features before, or None.

    Raises:
        ValueError: if logit_scale is not positive.

    Example:
        >>> import torch
        >>> pool = torch.tensor([[0.0], [4.0], [1.0]])
        >>> support, labels = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, labels, torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> Prototypical()(pool, episodes).tolist()
        [[[-1.0, -9.0]]]

    Differs from the paper: logit_scale, normalise and center are additions; the defaults leave them out.
    """

    logit_scale: float = 1.0
    normalise: bool = False
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ("logit_scale",)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        if self.center is not None:
            pool = pool - self.center.to(pool.device)
        if self.normalise:
            pool = unit_length(pool)
        return -self.logit_scale * squared_distances(pool, episodes)
