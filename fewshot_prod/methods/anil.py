"""ANIL: the inner loop adapts the head alone, the encoder is reused as meta-training left it.

Raghu, Raghu, Bengio, Vinyals 2020, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML"
(arXiv 1909.09157), section 4. Inductive, unless ``norm="batch"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Adapted, Learner, inner_loop
from fewshot_prod.methods.maml import MAML


@dataclass(frozen=True)
class ANIL(MAML):
    r"""MAML whose gradient steps change the head only: products are encoded as often whatever the number of steps.

    The update of the paper's section 4.1, theirs for the last layer and the identity for all others: head w and
    encoder :math:`\theta` become :math:`w_{k+1} = w_k - \alpha \nabla_{w_k} L(\theta, w_k)` and :math:`\theta`.
    Args and Raises are :class:`MAML`'s; there is no learn2learn engine.

    Differs from the paper: the head starts at zeros (or prototypes) where theirs is meta-learned, see :class:`MAML`.
    """

    engines: ClassVar[tuple[str, ...]] = ("torch.func",)
    partial: ClassVar[bool] = False

    def adapt(self, learner: Learner, support: ProductInputs, labels: Tensor, *, vectorised: bool = False) -> Adapted:
        """Adapt the head to one episode; see :func:`fewshot_prod.methods.inner_loop.adapt`."""

        def logits(features: Tensor, head: dict[str, Tensor]) -> Tensor:
            return learner.logit_scale * linear(features, head["weight"], head["bias"])

        features = learner.features(support)
        if self.first_order:  # the head's gradients are constants, in the features too
            features = features.detach()
        head = inner_loop(
            lambda p: cross_entropy(logits(features, p), labels),
            learner.initial_head(support, labels),
            inner_lr=self.inner_lr,
            n_steps=self.n_adaptation_steps,
            first_order=self.first_order,
            vectorised=vectorised,
        )
        return lambda inputs: logits(learner.features(inputs, support), head)
