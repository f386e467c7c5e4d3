"""Classification losses: torch's cross-entropy, which has label smoothing, and others for noise and long tails.

All take logits, float (B, C), and targets, int64 (B,), and return a scalar, the mean over the batch. Class weights,
where accepted, weight that mean as torch's cross-entropy does: ``sum_i w[y_i] l_i / sum_i w[y_i]``;
with label smoothing, what that gives to a class is weighted by the class too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, weight: Tensor | None = None) -> Tensor:
    """Focal loss, ``-(1 - p_y)^gamma log p_y``: examples already classified well count less.

    Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5 (with ``weight`` for alpha),
    over a softmax instead of the paper's sigmoids.

    Args:
        gamma: 0 gives cross-entropy.
        weight: float (C,), a class's weight in the mean.

    Example:
        >>> round(focal_loss(torch.zeros(1, 2), torch.tensor([0])).item(), 4)  # 0.5 ** 2 * log 2
        0.1733
    """
    log_p = -cross_entropy(logits, targets, reduction="none")
    wrong = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).eps)  # 1 - p_y; at 0, gamma < 1 has no gradient
    return _weighted_mean(-(wrong**gamma) * log_p, targets, weight)


def class_balanced_weights(counts: Tensor, *, beta: float = 0.999) -> Tensor:
    """Class weights by effective number of samples, ``(1 - beta) / (1 - beta^n_c)``, scaled to the mean 1.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), equations 2 and 3.

    Args:
        counts: (C,) number of training products of each class, at least 1.
        beta: in [0, 1); 0 weights all classes equally, towards 1 a class counts by 1 / n_c.

    Returns:
        float32 (C,).

    Raises:
        ValueError: for a class without products, or another beta.

    Example:
        >>> [round(w, 3) for w in class_balanced_weights(torch.tensor([10, 10, 1000])).tolist()]
        [1.488, 1.488, 0.023]
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be in [0, 1)")
    if (counts < 1).any():
        raise ValueError(f"class {int((counts < 1).nonzero()[0])} has no products, so no weight; leave it out")
    raw = (1 - beta) / (1 - beta ** counts.double())
    return (raw / raw.mean()).float()


def generalised_cross_entropy(
    logits: Tensor, targets: Tensor, *, q: float = 0.7, weight: Tensor | None = None
) -> Tensor:
    """Generalised cross-entropy, ``(1 - p_y^q) / q``: between cross-entropy (q to 0) and absolute error (q = 1).

    Bounded by 1 / q, so a wrong label pulls less than under cross-entropy. Zhang & Sabuncu, "Generalized Cross Entropy
    Loss for Training Deep Neural Networks with Noisy Labels" (NeurIPS 2018), equation 6, without truncation.

    Args:
        q: in (0, 1].
        weight: float (C,), a class's weight in the mean.

    Raises:
        ValueError: for another q.

    Example:
        >>> generalised_cross_entropy(torch.zeros(1, 4), torch.tensor([2]), q=1.0).item()
        0.75
    """
    if not 0 < q <= 1:
        raise ValueError(f"q is {q}; it must be in (0, 1]")
    log_p = -cross_entropy(logits, targets, reduction="none")
    return _weighted_mean(-torch.expm1(q * log_p) / q, targets, weight)  # expm1: exact where p is near 1


def supervised_contrastive(features: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss: pull products of a class together, push all others away.

    Khosla et al., "Supervised Contrastive Learning" (NeurIPS 2020), equation 2 (the sum over positives outside of the
    logarithm), as the mean over the anchors that have a positive in the batch. For anchor i with positives P(i), all
    others A(i) and unit-length features z::

        s_ij = z_i . z_j / temperature,  L_i = -1 / |P(i)| sum_{p in P(i)} log( exp(s_ip) / sum_{a in A(i)} exp(s_ia) )

    Args:
        features: float (B, D), normalised to unit length here; several views of a product are rows with one label.
        labels: int64 (B,).
        temperature: divides the cosines.

    Returns:
        Scalar; 0, with zero gradient, if no class occurs twice.

    Example:
        >>> apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
        >>> loss = supervised_contrastive(apart, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4), round(supervised_contrastive(apart, torch.tensor([0, 1, 0, 1])).item(), 4)
        (0.0, 20.0)
    """
    unit = normalize(features, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positive = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    # The lowest finite number, since -inf times a positive count of 0 would be NaN.
    similarity = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(unit.dtype).min)
    log_p = torch.where(positive, log_softmax(similarity, dim=1), 0.0)
    n_positive = positive.sum(1)
    per_anchor = -log_p.sum(1) / n_positive.clamp(min=1)
    return per_anchor.sum() / (n_positive > 0).sum().clamp(min=1)


def _weighted_mean(losses: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses.mean()
    return (losses * weight[targets]).sum() / weight[targets].sum()


LOSSES = {  # by the name that ``pretrain(loss=...)`` takes
    "cross_entropy": cross_entropy,
    "focal": focal_loss,
    "generalised_cross_entropy": generalised_cross_entropy,
}
