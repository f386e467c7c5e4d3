"""Which tokens of a padded batch of titles exist, and their share in a mean."""

from __future__ import annotations

import torch
from torch import Tensor


def token_mask(tokens: Tensor, lengths: Tensor) -> Tensor:
    """bool (B, T): which tokens exist.

    Example:
        >>> token_mask(torch.zeros(2, 3, dtype=torch.long), torch.tensor([2, 0])).tolist()
        [[True, True, False], [False, False, False]]
    """
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)


def uniform_weights(tokens: Tensor, lengths: Tensor) -> Tensor:
    """float (B, T): how much each token counts in a mean over a title's tokens; 0 where there is none.

    Example:
        >>> uniform_weights(torch.zeros(2, 3, dtype=torch.long), torch.tensor([2, 0])).tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    return token_mask(tokens, lengths) / lengths.unsqueeze(1).clamp(min=1)
