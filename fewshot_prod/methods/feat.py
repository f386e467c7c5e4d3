"""FEAT: class prototypes that a transformer adapts to one another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.prototypes import class_means, squared_distances


@dataclass(frozen=True)
class FEAT:
    r"""H.-J. Ye, H. Hu, D.-C. Zhan, F. Sha, "Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions",
    2020, arXiv:1812.03664.

    The class means of an episode, as a set, pass through self-attention (section 4), which makes them fit the task;
    a query's logits are its negative squared distances to the adapted ones, times ``logit_scale``. With :math:`c_k`
    the mean support feature of class k, D its size and :math:`s` the scale,

    .. math::
        c'_k = \mathrm{LayerNorm}\Big(c_k + W_O \sum_j a_{kj} W_V c_j\Big), \qquad
        a_k = \mathrm{softmax}_j \big((W_Q c_k)^T W_K c_j / \sqrt D\big), \qquad
        \mathrm{logit}_k(x) = -s \, \|x - c'_k\|^2.

    Training adds, with weight ``contrastive_weight``, the loss of classifying every item x of support and query by
    class centers that are adapted within their class (section 4.3): the same logits, with the mean of what the same
    attention makes of all of class k's items in the place of :math:`c'_k`. Inductive: queries are not adapted.

    Args:
        module: from a set (E, n_way, D) to the adapted set; a
            :class:`fewshot_prod.encoders.heads.SetAttention` that :func:`fewshot_prod.metatrain.metatrain` trained
            with ``algorithm="feat"`` and left as the encoder's ``head``.
        logit_scale: multiplies the negative distances.
        normalise: divide features, and adapted prototypes, by their Euclidean norm; distances then lie in 0..4.
        contrastive_weight: of the auxiliary loss, in training alone.

    Raises:
        ValueError: if logit_scale is not positive.

    Differs from the paper: no dropout; the attention's output layer starts near zero, and training at prototypical
    networks; normalise is an addition; both losses have the same, learned scale (the paper: two fixed
    temperatures).
    """

    module: nn.Module
    logit_scale: float = 1.0
    normalise: bool = False
    contrastive_weight: float = 0.1

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ("logit_scale",)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        return -self.logit_scale * squared_distances(self._unit(pool), episodes, self._prototypes)

    def loss(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Cross-entropy of the queries plus the weighted contrastive term, for episodes without padding."""
        loss = F.cross_entropy(self(pool, episodes).flatten(0, 1), episodes.query_labels.flatten())
        return loss + self.contrastive_weight * self.contrastive_loss(pool, episodes)

    def contrastive_loss(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Cross-entropy of all items, unadapted, among the means of items adapted to those of their own class."""
        labels = torch.cat([episodes.support_labels, episodes.query_labels], 1)  # (E, n)
        items = self._unit(pool)[torch.cat([episodes.support, episodes.query], 1)]  # (E, n, D)
        adapted = self.module(items, labels[:, :, None] == labels[:, None])
        places = torch.arange(labels.numel(), device=labels.device).view_as(labels)
        everyone = replace(episodes, support=places, support_labels=labels)
        centers = self._unit(class_means(adapted.flatten(0, 1), everyone))  # (E, n_way, D)
        products = items @ centers.mT  # (E, n, n_way)
        # -|x - c|^2 without |x|^2, which softmax cancels
        logits = self.logit_scale * (2 * products - centers.square().sum(2)[:, None])
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def _prototypes(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        return self._unit(self.module(class_means(pool, episodes)))

    def _unit(self, vectors: Tensor) -> Tensor:
        return unit_length(vectors, dim=-1) if self.normalise else vectors
