"""Meta-SGD: MAML that learns, beside the start, how far and which way to step, one rate a weight.

Li, Zhou, Chen, Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning" (arXiv 1707.09835), algorithm 1.
Inductive, unless ``norm="batch"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Adapted, Learner, adapt
from fewshot_prod.methods.maml import MAML


@dataclass(frozen=True)
class MetaSGD(MAML):
    r""":math:`\theta' = \theta - \alpha \circ \nabla_\theta L(\theta)` (equation 2), with :math:`\alpha` learned.

    The rates are the encoder's module ``inner_rates``: :func:`fewshot_prod.metatrain.metatrain` with
    ``algorithm="meta_sgd"`` attaches them, trains them with the encoder, and checkpoints hold them. A rate may
    become negative. Args are :class:`MAML`'s, but ``inner_lr`` is only where the rates started; there is no
    learn2learn engine.

    Raises:
        ValueError: for an encoder without rates; and as :class:`MAML`.

    Differs from the paper: the head starts at zeros (or prototypes) and its rates are shared by the classes, so that
    training and use may have different numbers of ways; rates start equal where the paper draws them from
    [0.005, 0.1]; more than the paper's single step is possible, all with the same rates.
    """

    n_adaptation_steps: int = 1

    engines: ClassVar[tuple[str, ...]] = ("torch.func",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.encoder, "inner_rates"):
            raise ValueError(
                "the encoder has no inner_rates: meta-train it with algorithm='meta_sgd', or attach_inner_rates"
            )

    def learner(self, encoder: nn.Module, n_way: int, *, vectorised: bool = False) -> Learner:
        """As MAML's, with ``rates``: the rate of each of its parameters, by the learner's own names."""
        learner, rates = super().learner(encoder, n_way, vectorised=vectorised), encoder.inner_rates
        weights = (p for name, p in encoder.named_parameters() if not name.startswith("inner_rates."))
        of = {id(p): rate for p, rate in zip(weights, rates.encoder, strict=True)}
        of |= {id(learner.head.weight): rates.head_weight, id(learner.head.bias): rates.head_bias}
        learner.rates = {name: of[id(p)] for name, p in learner.named_parameters()}
        return learner

    def adapt(self, learner: Learner, support: ProductInputs, labels: Tensor, **options: bool) -> Adapted:
        """Adapt to one episode, differentiable in the encoder and in its rates."""
        settings = {"n_steps": self.n_adaptation_steps, "first_order": self.first_order, "parts": self.parts}
        return adapt(learner, support, labels, inner_lr=learner.rates, **settings, **options)
