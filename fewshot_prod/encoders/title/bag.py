"""Bag of tokens: the order of words is lost."""

from __future__ import annotations

from torch import Tensor, nn

from fewshot_prod.encoders.title.padding import token_mask, uniform_weights


class BagEncoder(nn.Module):
    """The mean of the tokens' embeddings: Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification",
    arXiv:1607.01759, over subword tokens.

    Args:
        vocab_size: number of token ids; id 0 is padding.
        embedding_dim: size of a token's embedding and of the feature.
        dropout: probability of zeroing, on the embeddings and on the feature.

    Example:
        >>> import torch
        >>> BagEncoder(vocab_size=50, embedding_dim=8)(torch.tensor([[7, 3, 0], [5, 0, 0]]), torch.tensor([2, 1])).shape
        torch.Size([2, 8])
    """

    def __init__(self, vocab_size: int, *, embedding_dim: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.feature_dim = embedding_dim
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, feature_dim), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        embedded, _ = self.elements(tokens, lengths)
        return self.dropout((embedded * self.attention_weights(tokens, lengths).unsqueeze(-1)).sum(1))

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's embedding, (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        return self.dropout(self.embedding(tokens)), token_mask(tokens, lengths)

    attention_weights = staticmethod(uniform_weights)
