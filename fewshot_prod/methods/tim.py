"""TIM: prototypes that maximise the mutual information between queries and their predicted classes."""

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
class TIM:
    r"""M. Boudiaf, I. M. Ziko, J. Rony, J. Dolz, P. Piantanida, I. Ben Ayed, "Transductive Information Maximization for
    Few-Shot Learning", 2020, arXiv:2008.11297: TIM-GD.

    Probabilities are a softmax over :math:`-\tau/2 \, \|w_k - z_i\|^2` (equation 1). From the class means, Adam
    minimises over the prototypes w the support's cross-entropy minus the mutual information of the queries, which is
    the entropy of their mean prediction minus their mean entropy (equations 2 and 3). The first entropy favours equally
    many queries of each class. Transductive.

    Args:
        n_adaptation_steps, lr: of Adam; 100 steps of 1e-3 are as good on fashion's validation classes, to 0.1 points
            where queries are balanced, in a tenth of the time.
        logit_scale: the paper's tau; multiplies, so greater is sharper.
        support_weight: of the cross-entropy, the paper's lambda.
        marginal_weight: of the entropy of the mean prediction; 1 in the paper.
        conditional_weight: of the queries' mean entropy, the paper's alpha.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`; the paper's is L2N.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if the transform is unknown, or CL2N has no center.

    Differs from the paper: features are centred before their norm is divided out, unless ``transform`` is "L2N".
    """

    n_adaptation_steps: int = 1000
    lr: float = 1e-4
    logit_scale: float = 15.0
    support_weight: float = 0.1
    marginal_weight: float = 1.0
    conditional_weight: float = 0.1
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
            support_weight=self.support_weight,
        )
        return solve_in_blocks(transform_features(pool, self.transform, self.center), episodes, solve)

    def slope(self, log_p: Tensor, mean_p: Tensor) -> Tensor:
        """Derivative of minus the mutual information in p: of sum m log m, and of -sum p log p; see ``Slope``."""
        return self.marginal_weight * mean_p.clamp_min(1e-12).log() - self.conditional_weight * log_p
