"""Proto-MAML: MAML whose head starts as a prototypical network.

Triantafillou et al. 2020, "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples"
(arXiv 1903.03096), section 3. Inductive, unless ``norm="batch"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot_prod.methods.maml import MAML


@dataclass(frozen=True)
class ProtoMAML(MAML):
    r"""Adapt encoder and head from the class means of the support's features.

    The squared Euclidean distance of a query's feature f to a prototype :math:`c_k` is, up to :math:`\|f\|^2` which
    softmax cancels, a linear layer (the paper's equation 1): :math:`w_k = 2 c_k`, :math:`b_k = -\|c_k\|^2`. With no
    steps this is a prototypical network; meta-gradients flow through the prototypes as well. Args and Raises are
    :class:`MAML`'s, except that ``head`` is "prototypes".

    Differs from the paper: second order unless ``first_order=True`` (they report first order, fo-Proto-MAML);
    ``normalise`` and ``logit_scale`` are additions; features of any norm lead to steps of any size, so that
    ``inner_lr`` should be small (0.01 with ``normalise=True, logit_scale=10``).
    """

    head: str = "prototypes"

    heads: ClassVar[tuple[str, ...]] = ("prototypes",)
