"""Baseline++: a cosine classifier trained on the support, on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.support_span import head_logits, residual
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class BaselinePlusPlus:
    r"""W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang, J.-B. Huang, "A Closer Look at Few-shot Classification", 2019,
    arXiv:1904.04232: the Baseline++.

    A classifier of one weight vector a class, whose logits are scaled cosine similarities to the features (section
    3.2), is trained on the support's frozen features by SGD with momentum, in every episode of a batch at once. It
    starts from the class means (Qi et al. 2018, "Low-shot learning with imprinted weights"):

    .. math::
        \mathrm{logit}_k(x) = s \, \frac{w_k^T x}{\|w_k\| \|x\|}, \qquad
        L = -\frac{1}{|S|} \sum_{(x, y) \in S} \log \mathrm{softmax}_y(\mathrm{logit}(x)), \qquad
        v \leftarrow \mu v + \nabla_w L + \delta w, \quad w \leftarrow w - \eta v,

    with ``logit_scale`` s, ``momentum`` :math:`\mu`, ``weight_decay`` :math:`\delta` and ``lr`` :math:`\eta`.
    Inductive.

    Args:
        n_adaptation_steps: full-batch steps.
        lr: step size, for the mean cross-entropy over the support.
        momentum, weight_decay: as in torch.optim.SGD.
        logit_scale: multiplies the cosines.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`; the last two are the same here.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if the transform is unknown, or CL2N has no center.

    The step size, logit_scale and transform did best on fashion's validation classes, of 0.01 and 0.1, of 5, 10 and 20,
    and of L2N and CL2N.

    Differs from the paper: batches of the whole support instead of 4, hence no randomness; imprinted instead of random
    weights; no dampening.
    """

    n_adaptation_steps: int = 100
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.001
    logit_scale: float = 10.0
    transform: Transform = "L2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        pool = F.normalize(transform_features(pool, self.transform, self.center), dim=1)
        return head_logits(pool, episodes, self._solve)

    def _solve(self, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        n = targets.sum((1, 2))[:, None, None]  # support items
        a = targets / targets.sum(1, keepdim=True)  # W = X^T a: class means
        speed = torch.zeros_like(a)
        for _ in range(self.n_adaptation_steps):
            norm, cosines = self._cosines(gram, a)
            error = residual(self.logit_scale * cosines, targets) * self.logit_scale / n
            # d cos(x, w) / dw = (x - cos(x, w) w / |w|) / |w|, with x = X^T e_i and w = X^T a
            gradient = (error - (error * cosines).sum(1, keepdim=True) * a / norm) / norm
            speed = self.momentum * speed + gradient + self.weight_decay * a
            a = a - self.lr * speed
        norm, _ = self._cosines(gram, a)
        return self.logit_scale * a / norm, torch.zeros_like(norm)

    def _cosines(self, gram: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Norms (E, 1, n_way) of the weights and cosines (E, S, n_way), of features of norm 1."""
        products = gram @ a
        norm = (a * products).sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        return norm, products / norm
