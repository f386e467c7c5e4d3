"""A recurrent network beside a bag of the same tokens: what the words say together, and which words there are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.title.bag import BagEncoder
from fewshot_prod.encoders.title.recurrent import TitleEncoder


class RecurrentBagEncoder(nn.Module):
    """:class:`TitleEncoder` and :class:`BagEncoder` side by side: Cheng et al. 2016, "Wide & Deep Learning for
    Recommender Systems", arXiv:1606.07792, with the bag as the wide part.

    A recurrent network trained on some categories has little use for the words that name others. A bag keeps such a
    word apart from the rest, which finds titles that share it.

    Args:
        vocab_size: number of token ids; id 0 is padding.
        bag_dim: size of a token's embedding in the bag, where each token has one of its own.
        dropout: of both parts.
        options: of :class:`TitleEncoder`.

    Example:
        >>> encoder = RecurrentBagEncoder(vocab_size=50, bag_dim=8, hidden_size=8)
        >>> encoder(torch.tensor([[7, 3, 0], [5, 0, 0]]), torch.tensor([2, 1])).shape
        torch.Size([2, 24])
    """

    def __init__(self, vocab_size: int, *, bag_dim: int = 256, dropout: float = 0.1, **options: Any) -> None:
        super().__init__()
        self.recurrent = TitleEncoder(vocab_size, dropout=dropout, **options)
        self.bag = BagEncoder(vocab_size, embedding_dim=bag_dim, dropout=dropout)
        self.feature_dim = self.recurrent.feature_dim + bag_dim

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, feature_dim), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        return torch.cat([part(tokens, lengths) for part in (self.recurrent, self.bag)], 1)

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's state and embedding, float (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        (states, mask), (embedded, _) = (part.elements(tokens, lengths) for part in (self.recurrent, self.bag))
        return torch.cat([states, embedded], 2), mask

    def attention_weights(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """How much each token counts, (B, T), in the recurrent part; in the bag all count the same."""
        return self.recurrent.attention_weights(tokens, lengths)
