"""alpha-TIM: TIM for queries whose classes are not equally frequent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewshot_prod.methods.tim import TIM


@dataclass(frozen=True)
class AlphaTIM(TIM):
    r"""O. Veilleux, M. Boudiaf, P. Piantanida, I. Ben Ayed, "Realistic Evaluation of Transductive Few-Shot Learning",
    2021, arXiv:2204.11181.

    TIM with Tsallis's entropies :math:`H_\alpha(p) = (1 - \sum_k p_k^\alpha) / (\alpha - 1)` in the mutual information
    of the queries (section 4),

    .. math::
        I_\alpha = H_\alpha(\bar p) - \frac{1}{|Q|} \sum_{q \in Q} H_\alpha(p_q)
        = \frac{1}{\alpha - 1} \Big(\frac{1}{|Q|} \sum_{q, k} p_{qk}^\alpha - \sum_k \bar p_k^\alpha\Big),
        \qquad \bar p = \frac{1}{|Q|} \sum_q p_q,

    which is subtracted from the loss; the support keeps Shannon's cross-entropy. The entropies' slope at the uniform
    mean prediction is flatter, so that unequal classes cost less. Transductive.

    Args:
        alpha: of the entropies; towards 1 they become Shannon's. The paper chooses it on validation classes: 2 for
            one shot, 7 for five and more.
        n_adaptation_steps, lr, logit_scale, marginal_weight, transform, center: as in :class:`TIM`.
        support_weight, conditional_weight: as in :class:`TIM`, where both are 0.1.

    Raises:
        ValueError: if alpha is not above 1, the transform is unknown, or CL2N has no center.

    Differs from the paper: features are centred before their norm is divided out, unless ``transform`` is "L2N".
    """

    support_weight: float = 1.0
    conditional_weight: float = 1.0
    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}: it must be above 1; for Shannon's entropies use TIM")

    def slope(self, log_p: Tensor, mean_p: Tensor) -> Tensor:
        """Derivative of minus the alpha-mutual information in p; see ``Slope``."""
        power = self.alpha - 1
        marginal, conditional = mean_p.pow(power), (power * log_p).exp()
        return self.alpha / power * (self.marginal_weight * marginal - self.conditional_weight * conditional)
