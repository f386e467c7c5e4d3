"""Adam on the prototypes of every episode of a block at once, with gradients written out by hand.

What TIM, alpha-TIM and transductive fine-tuning share. A loss is cross-entropy on the support plus a function of the
queries' probabilities, whose derivative in them is all that a method adds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.methods.episode_blocks import support_means

# From the queries' log-probabilities (B, n_way, Q) and their mean probabilities (B, n_way, 1) to the derivative of
# the queries' loss in each probability, over the query's share in the mean; constants within a query do not matter.
Slope = Callable[[Tensor, Tensor], Tensor]


def descend_prototypes(
    rows: Tensor,
    targets: Tensor,
    share: Tensor,
    slope: Slope,
    *,
    n_steps: int,
    lr: float,
    logit_scale: float,
    support_weight: float = 1.0,
    linear: bool = False,
) -> Tensor:
    """Query logits, float32 (B, n_way, Q), of prototypes that start as the support's class means.

    Adam (Kingma & Ba 2015) with its usual betas 0.9 and 0.999 runs in the feature's own coordinates: its steps leave
    the span of the episode's features, so that a Gram matrix would not do.

    Args:
        rows, targets, share: as :func:`solve_in_blocks` gives them.
        slope: derivative of the queries' loss, see ``Slope``.
        n_steps, lr: of Adam.
        logit_scale: multiplies the logits.
        support_weight: of the support's mean cross-entropy.
        linear: logits are inner products with the prototypes, normalised at the start; otherwise they are half the
            negative squared distances, up to what does not depend on the class.
    """
    n_support = targets.shape[2]
    weights = support_means(rows, targets)
    if linear:
        weights = F.normalize(weights, dim=2)
    adam = torch.optim.Adam([weights], lr=lr, fused=True)
    for _ in range(n_steps):
        weights.grad = loss_gradient(weights, rows, targets, share, slope, logit_scale, support_weight, linear)
        adam.step()
    return _logits(weights, rows[:, n_support:], logit_scale, linear)


def loss_gradient(
    weights: Tensor,
    rows: Tensor,
    targets: Tensor,
    share: Tensor,
    slope: Slope,
    logit_scale: float,
    support_weight: float,
    linear: bool,
) -> Tensor:
    """Gradient (B, n_way, D) of the loss in the prototypes ``weights``, (B, n_way, D); the rest as above."""
    n_support = targets.shape[2]
    log_p = _logits(weights, rows, logit_scale, linear).log_softmax(1)  # (B, n_way, S + Q)
    p = log_p.exp()
    real = targets.sum(1, keepdim=True)  # (B, 1, S)
    p[..., :n_support].mul_(real).sub_(targets).mul_(support_weight / real.sum(2, keepdim=True))
    q, log_q = p[..., n_support:], log_p[..., n_support:]
    c = slope(log_q, (q * share).sum(2, keepdim=True))
    # The derivative in logit k of a query is p_k (c_k - sum_j p_j c_j): softmax's Jacobian.
    q.mul_((c - (q * c).sum(1, keepdim=True)).mul_(share))
    if linear:
        return logit_scale * (p @ rows)
    return torch.baddbmm(weights * p.sum(2, keepdim=True), p, rows, beta=-logit_scale, alpha=logit_scale)


def _logits(weights: Tensor, rows: Tensor, logit_scale: float, linear: bool) -> Tensor:
    """(B, n_way, R), from weights (B, n_way, D) and rows (B, R, D)."""
    if linear:
        return logit_scale * (weights @ rows.mT)
    offset = -0.5 * weights.square().sum(2, keepdim=True)
    return torch.baddbmm(offset, weights, rows.mT, beta=logit_scale, alpha=logit_scale)
