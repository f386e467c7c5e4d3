"""Reptile: move the encoder towards the weights to which each task's plain gradient descent leads.

Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999), algorithm 2.
Inductive, unless ``norm="batch"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Learner, inner_loop
from fewshot_prod.methods.maml import MAML


@dataclass(frozen=True)
class Reptile(MAML):
    """In use the same gradient steps as :class:`MAML`; only meta-training differs, see :meth:`outer_gradient`.

    Args and Raises are :class:`MAML`'s; there is no learn2learn engine. ``first_order`` has no meaning here: nothing is
    differentiated twice.

    Differs from the paper: the head is not meta-learned but starts each task at zeros (or prototypes), see
    :class:`MAML`; the inner optimiser is plain SGD where the paper's experiments take Adam without momentum; outside,
    any optimiser of :func:`fewshot_prod.metatrain.metatrain` takes the place of the step size epsilon (section 2 allows
    for it).
    """

    first_order: bool = True

    engines: ClassVar[tuple[str, ...]] = ("torch.func",)
    partial: ClassVar[bool] = False

    def outer_gradient(
        self, learner: Learner, products: ProductInputs, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        r"""What stands for a task's meta-gradient: :math:`(\phi - W) / \alpha`, the sum of the k inner gradients.

        W is what :math:`\phi` becomes by one pass over the task, in ``n_adaptation_steps`` minibatches that share no
        product. That the minibatches differ is what makes Reptile more than joint training (section 5.1): the
        expected sum then rewards gradients of different minibatches that point the same way.

        Args:
            products: S + Q products of one task, in random order.
            labels: int64 (S + Q,).

        Returns:
            The gradient of each of ``learner``'s parameters that are the encoder's, by the learner's names, and the
            mean loss of the minibatches, each before its step.

        Raises:
            ValueError: if there are more steps than products, or none, or steps of length 0.
        """
        for name, value in (("inner_lr", self.inner_lr), ("n_adaptation_steps", self.n_adaptation_steps)):
            if value == 0:  # in use that adapts nothing
                raise ValueError(f"{name} is {value}: it must be above 0, Reptile learns from where its steps lead")
        if self.n_adaptation_steps > len(labels):
            raise ValueError(
                f"n_adaptation_steps={self.n_adaptation_steps} minibatches cannot be made of {len(labels)} products: "
                "lower it, or raise n_shot or n_query"
            )
        start = dict(learner.named_parameters())
        weights = start | {f"head.{name}": value for name, value in learner.initial_head(products, labels).items()}
        losses = []
        for part in torch.arange(len(labels)).tensor_split(self.n_adaptation_steps):

            def loss_of(parameters: dict[str, Tensor], part: Tensor = part) -> Tensor:
                loss = cross_entropy(functional_call(learner, parameters, (products[part],)), labels[part])
                losses.append(loss.detach())
                return loss

            weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
            weights = inner_loop(loss_of, weights, inner_lr=self.inner_lr, n_steps=1, first_order=True)
        moved = {
            name: (p - weights[name]).detach() / self.inner_lr
            for name, p in start.items()
            if name.startswith("encoder.")
        }
        return moved, torch.stack(losses).mean()
