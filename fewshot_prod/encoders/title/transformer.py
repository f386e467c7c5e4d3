"""A small Transformer encoder over the tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.attention import masked_softmax
from fewshot_prod.encoders.title.padding import token_mask, uniform_weights


class SelfAttentionBlock(nn.Module):
    """Multi-head self-attention and a two-layer network, both behind a LayerNorm and beside a residual connection.

    The attention is written out, because PyTorch's fused ones have no second derivative on the CPU, which MAML needs.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.projections, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.network = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States (B, T, dim) to states, attending to the tokens where ``mask``, bool (B, T), holds."""
        heads = self.projections(self.norm1(x)).unflatten(2, (3, self.n_heads, -1))
        query, key, value = heads.transpose(1, 3).unbind(2)  # each (B, heads, T, dim / heads)
        scores = query @ key.mT / key.shape[-1] ** 0.5
        weights = masked_softmax(scores, mask[:, None, None].expand_as(scores))
        x = x + self.dropout(self.out((weights @ value).transpose(1, 2).flatten(2)))
        return x + self.dropout(self.network(self.norm2(x)))


class TransformerEncoder(nn.Module):
    """Embeddings of tokens and positions, blocks of self-attention, and the mean over the tokens.

    Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3, the encoder.

    Args:
        vocab_size: number of token ids; id 0 is padding.
        dim: size of embeddings, states and the feature; a multiple of ``n_heads``.
        n_layers, n_heads: blocks, and heads in each.
        max_length: tokens of the longest title.
        dropout: probability of zeroing, on the embeddings, in each residual branch and on the feature.

    Raises:
        ValueError: if ``dim`` is no multiple of ``n_heads``, and later for a longer title.

    Example:
        >>> encoder = TransformerEncoder(vocab_size=50, dim=8, n_heads=2)
        >>> encoder(torch.tensor([[7, 3, 0], [5, 0, 0]]), torch.tensor([2, 1])).shape
        torch.Size([2, 8])

    Differs from the paper: LayerNorm first (Xiong et al. 2020), learned positions, GELU.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        dim: int = 256,
        n_layers: int = 2,
        n_heads: int = 4,
        max_length: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"dim={dim} is no multiple of n_heads={n_heads}: change one of them")
        self.feature_dim = dim
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        self.positions = nn.Parameter(0.02 * torch.randn(max_length, dim))
        self.blocks = nn.ModuleList(SelfAttentionBlock(dim, n_heads, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, feature_dim), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        states, mask = self._states(tokens, lengths)
        return self.dropout((states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1).clamp(min=1))

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The state at each token, float (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        states, mask = self._states(tokens, lengths)
        return self.dropout(states), mask

    attention_weights = staticmethod(uniform_weights)

    def _states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if tokens.shape[1] > len(self.positions):
            raise ValueError(f"a title has {tokens.shape[1]} tokens and max_length is {len(self.positions)}: raise it")
        mask = token_mask(tokens, lengths)
        x = self.dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask
