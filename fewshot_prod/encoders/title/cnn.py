"""One-dimensional convolutions over the tokens: phrases, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.title.padding import token_mask


class CNNEncoder(nn.Module):
    """Convolutions of several widths and the largest value of each over the title: Kim 2014, "Convolutional Neural
    Networks for Sentence Classification", arXiv:1408.5882, section 2.

    Args:
        vocab_size: number of token ids; id 0 is padding.
        embedding_dim: size of a token's embedding.
        channels: feature maps of each width; the feature has ``channels * len(widths)`` dimensions.
        widths: tokens that a window spans, odd numbers.
        dropout: probability of zeroing, on the embeddings and on the feature.

    Raises:
        ValueError: for an even width.

    Example:
        >>> encoder = CNNEncoder(vocab_size=50, channels=4)
        >>> encoder(torch.tensor([[7, 3, 0], [5, 0, 0]]), torch.tensor([2, 1])).shape
        torch.Size([2, 12])

    Differs from the paper: odd widths, padded, so that a window stands around each token and titles shorter than a
    window have features too; embeddings start at random.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_dim: int = 128,
        channels: int = 86,
        widths: Sequence[int] = (1, 3, 5),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if any(width % 2 == 0 for width in widths):
            raise ValueError(f"widths are {tuple(widths)}: give odd ones, a window stands around its token")
        self.feature_dim = channels * len(widths)
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding_dim, channels, width, padding=width // 2) for width in widths
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, feature_dim), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        return self.dropout(self._maps(tokens, lengths).amax(1))

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The maps at each token, float (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        return self.dropout(self._maps(tokens, lengths)), token_mask(tokens, lengths)

    def attention_weights(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """How much each token counts, (B, T): its share of the feature's sum, as the middle of the largest windows."""
        maps = self._maps(tokens, lengths)
        largest = nn.functional.one_hot(maps.argmax(1), tokens.shape[1]).mT * maps.amax(1, keepdim=True)
        counts = largest.sum(2)
        return counts / counts.sum(1, keepdim=True).clamp(min=torch.finfo(counts.dtype).tiny)

    def _maps(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = token_mask(tokens, lengths).unsqueeze(1)  # (B, 1, T)
        embedded = self.dropout(self.embedding(tokens)).mT * mask
        maps = torch.cat([convolve(embedded) for convolve in self.convolutions], dim=1).relu()
        return (maps * mask).mT  # (B, T, feature_dim); nowhere below 0, so padding is never the largest
