"""Matching networks: attention over the support by cosine similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import gathered, support_targets
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class Matching:
    r"""O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra, "Matching Networks for One Shot Learning",
    2016, arXiv:1606.04080.

    A query's distribution over the classes is that of the support's labels, weighted by attention,
    :math:`\sum_i a(\hat x, x_i) y_i` (equation 1); attention is the softmax over cosine similarities (section 2.1.1).
    Logits are its logarithm. A class with more shots therefore weighs more. The encoder behind the features is
    trained through this method. Inductive.

    Args:
        logit_scale: multiplies the cosines; greater looks at fewer support items. The default, for encoders that
            were not trained through this method, did best on fashion's validation classes, of 5 to 40 with L2N;
            training starts at 10.
        transform: "CL2N", "L2N" or "UN", see :func:`transform_features`; the last two are the same here.
        center: float32 (D,), mean feature of the *base* classes; needed by CL2N alone.

    Raises:
        ValueError: if logit_scale is not positive, the transform is unknown, or CL2N has no center.

    Example:
        >>> pool = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> support, labels = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
        >>> episodes = EpisodeBatch(support, labels, torch.tensor([[2]]), torch.tensor([[0]]), n_way=2)
        >>> Matching(logit_scale=1.0)(pool, episodes).exp()  # e / (e + 1) and 1 / (e + 1)
        tensor([[[0.7311, 0.2689]]])

    Differs from the paper: no full-context embeddings (section 2.1.2), which read the support in an arbitrary order;
    logit_scale (1 in the paper) and transform are additions. Probabilities are kept above 1e-38.
    """

    logit_scale: float = 40.0
    transform: Transform = "UN"
    center: Tensor | None = None

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False
    learned: ClassVar[tuple[str, ...]] = ("logit_scale",)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Log-probabilities, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        pool = unit_length(transform_features(pool, self.transform, self.center))
        rows, labels = torch.cat([episodes.support, episodes.query], 1), support_targets(episodes, pool.dtype)
        padded = None if episodes.support_mask is None else ~episodes.support_mask[..., None]  # (E, S, 1)
        if torch.is_grad_enabled() and pool.requires_grad:
            votes = self._votes(pool[rows], labels, padded)
        else:
            votes = pool.new_empty(*episodes.query.shape, episodes.n_way)
            for some, items in gathered(pool, rows, 2**22):
                votes[some] = self._votes(items, labels[some], None if padded is None else padded[some])
        return votes.clamp_min_(torch.finfo(pool.dtype).tiny).log_()

    def _votes(self, items: Tensor, labels: Tensor, padded: Tensor | None) -> Tensor:
        """Probabilities, float32 (B, Q, n_way), from the features of support and queries, float32 (B, S + Q, D), and
        the support's one-hot labels, float32 (B, n_way, S)."""
        support, query = items.tensor_split([labels.shape[2]], 1)
        scores = torch.bmm(support, query.mT).mul_(self.logit_scale)  # (B, S, Q)
        if padded is not None:
            scores.masked_fill_(padded, -torch.inf)
        return torch.bmm(labels, scores.softmax(1)).mT
