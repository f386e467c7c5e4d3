"""Fine-tuning the head alone, on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.support_span import head_logits, residual
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class FinetuneHead:
    r"""W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang, J.-B. Huang, "A Closer Look at Few-shot Classification", 2019,
    arXiv:1904.04232: the Baseline.

    A linear head is trained on the support's frozen features by SGD with momentum (section 3.2), in every episode
    of a batch at once. It starts from the class means c_k (Qi et al. 2018, "Low-shot learning with imprinted
    weights"), so that no step is nearest centroid:

    .. math::
        \mathrm{logit}_k(x) = s (w_k^T x + b_k), \quad w_k = c_k, \; b_k = -\|c_k\|^2 / 2 \text{ at the start}, \quad
        L = -\frac{1}{|S|} \sum_{(x, y) \in S} \log \mathrm{softmax}_y(\mathrm{logit}(x)),

    and each step is :math:`v \leftarrow \mu v + \nabla L + \delta \theta`, :math:`\theta \leftarrow \theta - \eta v` of
    the weights and biases :math:`\theta`, with ``logit_scale`` s, ``momentum`` :math:`\mu`, ``weight_decay``
    :math:`\delta` and ``lr`` :math:`\eta`. Inductive.

    Args:
        n_adaptation_steps: full-batch steps.
        lr: step size, for the mean cross-entropy over the support.
        momentum, weight_decay: as in torch.optim.SGD; the bias decays too.
        logit_scale: multiplies the head's output; features of norm 1 would otherwise give soft probabilities.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if the transform is unknown, or CL2N has no center.

    Differs from the paper: batches of the whole support instead of 4, hence no randomness; imprinted instead of random
    weights; transformed features with a logit scale; no dampening.
    """

    n_adaptation_steps: int = 100
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.001
    logit_scale: float = 5.0
    transform: Transform = "CL2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return head_logits(transform_features(pool, self.transform, self.center), episodes, self._solve)

    def _solve(self, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        scale, n = self.logit_scale, targets.sum((1, 2))[:, None, None]  # n: support items
        a = targets / targets.sum(1, keepdim=True)  # W = X^T a: class means
        # -|x - c|^2 / 2 = x c - |c|^2 / 2 up to a constant of x: the bias that makes step 0 nearest centroid
        b = -0.5 * (a * (gram @ a)).sum(1, keepdim=True)
        speed_a, speed_b = torch.zeros_like(a), torch.zeros_like(b)
        for _ in range(self.n_adaptation_steps):
            error = residual(scale * (gram @ a + b), targets) * scale / n
            speed_a = self.momentum * speed_a + error + self.weight_decay * a
            speed_b = self.momentum * speed_b + error.sum(1, keepdim=True) + self.weight_decay * b
            a, b = a - self.lr * speed_a, b - self.lr * speed_b
        return scale * a, scale * b
