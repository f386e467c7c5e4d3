"""Transductive fine-tuning of a linear head: the queries' entropy joins the loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import solve_in_blocks
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototype_descent import descend_prototypes
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class TransductiveFinetuning:
    """G. S. Dhillon, P. Chaudhari, A. Ravichandran, S. Soatto, "A Baseline for Few-Shot Image Classification", 2020,
    arXiv:1909.02729.

    A linear head starts from the normalised class means (support-based initialisation, section 3.1). Adam then
    minimises the mean cross-entropy of the support plus the mean Shannon entropy of the queries' predictions
    (equation 8). Transductive.

    Args:
        n_adaptation_steps, lr: of Adam.
        logit_scale: multiplies the head's output; features of norm 1 would otherwise give soft probabilities.
        entropy_weight: of the queries' mean entropy; 1 in the paper, 0 leaves an inductive fine-tuning.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if the transform is unknown, or CL2N has no center.

    Differs from the paper: the head alone is trained, on frozen features, and with it falls the paper's second head on
    top of the base classes' logits; no bias (the paper's starts at 0); a fixed logit scale on transformed features;
    full batches of the support. The paper's 25 epochs at 5e-5 barely move a head alone: these steps, lr and logit
    scale do as well as any tried on fashion's validation classes.
    """

    n_adaptation_steps: int = 50
    lr: float = 1e-3
    logit_scale: float = 10.0
    entropy_weight: float = 1.0
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        solve = partial(
            descend_prototypes,
            slope=self.slope,
            n_steps=self.n_adaptation_steps,
            lr=self.lr,
            logit_scale=self.logit_scale,
            linear=True,
        )
        return solve_in_blocks(transform_features(pool, self.transform, self.center), episodes, solve)

    def slope(self, log_p: Tensor, mean_p: Tensor) -> Tensor:
        """Derivative of the entropy -sum p log p in p; see ``Slope``."""
        return -self.entropy_weight * log_p
