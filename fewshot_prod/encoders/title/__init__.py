"""Title encoders, one kind a file: token ids to one feature vector a title.

Add one by writing its file and its line here. A kind is built by ``kind(vocab_size, **options)`` and has
``feature_dim``; ``encoder(tokens, lengths)``, float (B, feature_dim), zero for a missing title; ``elements(tokens,
lengths)``, float (B, T, feature_dim) and bool (B, T), for fusions that read tokens; and ``attention_weights(tokens,
lengths)``, float (B, T), how much each token counts. What stands in the padding makes no difference to any of them.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fewshot_prod.encoders.title.bag import BagEncoder
from fewshot_prod.encoders.title.cnn import CNNEncoder
from fewshot_prod.encoders.title.recurrent import TitleEncoder
from fewshot_prod.encoders.title.transformer import TransformerEncoder

TITLE_ENCODERS: dict[str, type[nn.Module]] = {
    "recurrent": TitleEncoder,
    "bag": BagEncoder,
    "cnn": CNNEncoder,
    "transformer": TransformerEncoder,
}


def title_encoder(vocab_size: int, *, kind: str = "recurrent", **options: Any) -> nn.Module:
    """The title encoder called ``kind``.

    Raises:
        ValueError: for an unknown kind.

    Example:
        >>> title_encoder(50, kind="bag", embedding_dim=16).feature_dim
        16
    """
    if kind not in TITLE_ENCODERS:
        raise ValueError(f"title encoder is {kind!r}; choose one of {', '.join(TITLE_ENCODERS)}")
    return TITLE_ENCODERS[kind](vocab_size, **options)


__all__ = ["TITLE_ENCODERS", "BagEncoder", "CNNEncoder", "TitleEncoder", "TransformerEncoder", "title_encoder"]
