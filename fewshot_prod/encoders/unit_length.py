"""Features of unit length, for all that is differentiated twice."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_length(features: Tensor, dim: int = 1) -> Tensor:
    """Features divided by their Euclidean norm along ``dim``, twice differentiable at zero too.

    A picture without any contrast can leave every ReLU at zero, and a missing title is zero. There
    :func:`torch.nn.functional.normalize`, whose values these are down to norms of 1e-12, has a gradient of 1e12 and a
    second derivative of nan, which one such product spreads over the whole meta-gradient; here it is as if zero's norm
    were constant, the root of the number of dimensions.

    Example:
        >>> unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    zero = torch.linalg.vector_norm(features.detach(), dim=dim, keepdim=True) < 1e-12
    return features / torch.linalg.vector_norm(features.masked_fill(zero, 1.0), dim=dim, keepdim=True)
