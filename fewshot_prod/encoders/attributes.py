"""Attribute encoder: categorical facts about a product, such as its colour and gender, as embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AttributeEncoder(nn.Module):
    """One embedding a value; a product is the mean of those that are known.

    Args:
        sizes: number of values of each attribute.
        dim: size of an embedding and of the feature.

    Example:
        >>> encoder = AttributeEncoder([3, 2], dim=4)
        >>> encoder(torch.tensor([[3, 1], [0, 2], [0, 0]])).shape
        torch.Size([3, 4])
    """

    def __init__(self, sizes: Sequence[int], dim: int = 32) -> None:
        super().__init__()
        self.feature_dim = dim
        self.values = nn.ModuleList(nn.Embedding(size + 1, dim, padding_idx=0) for size in sizes)

    def forward(self, attributes: Tensor) -> Tensor:
        """Features (B, dim) of attributes, int64 (B, A), 0 where unknown; zero where all are."""
        embedded, known = self.elements(attributes)
        return embedded.sum(1) / known.sum(1, keepdim=True).clamp(min=1)

    def elements(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding of each attribute, (B, A, dim), zero where unknown, and bool (B, A) saying which are known."""
        if attributes.shape[1] != len(self.values):
            raise ValueError(f"{attributes.shape[1]} attributes a product; this encoder knows {len(self.values)}")
        known = attributes > 0
        embedded = torch.stack(
            [embed(column) for embed, column in zip(self.values, attributes.unbind(1), strict=True)], 1
        )
        return embedded * known.unsqueeze(-1), known
