"""MAML's inner loop by learn2learn (Arnold et al. 2020, arXiv 2008.12284), behind ``inner_loop.adapt``'s interface."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from fewshot_prod.errors import MissingPackage
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Adapted, Learner

try:
    from learn2learn.algorithms import MAML
except ImportError as error:
    raise MissingPackage(
        "engine='learn2learn' needs learn2learn, which is not installed: run `make learn2learn` (it takes a C "
        "compiler), or use engine='torch.func'"
    ) from error


def adapt(
    learner: Learner, support: ProductInputs, labels: Tensor, *, inner_lr: float, n_steps: int, first_order: bool
) -> Adapted:
    """The adapted classifier of one episode, see :func:`fewshot_prod.methods.inner_loop.adapt`."""
    clone = MAML(learner, lr=inner_lr, first_order=first_order, allow_unused=True).clone()
    # a clone's parameters are tensors computed from the original's, and so is the head that starts the episode
    clone.module.head._parameters |= learner.initial_head(support, labels)
    for _ in range(n_steps):
        clone.adapt(cross_entropy(clone(support), labels))
    return lambda inputs: clone(inputs, support)
