"""Ridge regression onto one-hot labels in closed form: R2-D2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.support_span import head_logits
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class Ridge:
    r"""L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi, "Meta-learning with differentiable closed-form
    solvers", 2019, arXiv:1805.08136: R2-D2.

    Each episode's head is :math:`W = X^T (X X^T + \lambda I)^{-1} Y`, by the Woodbury identity a system of the
    support's size, not of the features' (equation 6); X has a column of ones, so that the bias is penalised as the
    weights are: scikit-learn's ``Ridge(alpha=penalty, fit_intercept=False)``. A query's logits are
    :math:`\alpha x W` (equation 7). The encoder, :math:`\lambda` and :math:`\alpha` are trained through this
    method. Inductive.

    Args:
        penalty: :math:`\lambda`; above 0.
        logit_scale: :math:`\alpha`; predictions of one-hot labels would otherwise give soft probabilities.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if penalty or logit_scale is not positive, the transform is unknown, or CL2N has no center.

    Penalty and transform are those that did best on fashion's validation classes, of 0.1 to 10 and of L2N and CL2N.

    Differs from the paper: no learned constant beside :math:`\alpha`, which softmax cancels; transform is an
    addition ("UN" is the paper's).
    """

    penalty: float = 0.1
    logit_scale: float = 10.0
    transform: Transform = "L2N"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ("penalty", "logit_scale")

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return head_logits(transform_features(pool, self.transform, self.center), episodes, self._solve)

    def _solve(self, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        real = targets.sum(2)  # (E, S), 0 where padded
        gram = (gram + 1) * real[:, :, None] * real[:, None]  # + 1: the column of ones
        system = gram + self.penalty * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        a = self.logit_scale * torch.cholesky_solve(targets, torch.linalg.cholesky(system))
        return a, a.sum(1, keepdim=True)
