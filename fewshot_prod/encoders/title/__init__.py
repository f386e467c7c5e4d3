"""Title encoders, one kind a file: token ids to one feature vector a title.

Add one by writing its file and its line here. A kind is built by ``kind(vocab_size, **options)`` and has
``feature_dim``; ``encoder(tokens, lengths)``, float (B, feature_dim), zero for a missing title; ``elements(tokens,
lengths)``, float (B, T, feature_dim) and bool (B, T), for fusions that read tokens; and ``attention_weights(tokens,
lengths)``, float (B, T), how much each token counts. What stands in the padding makes no difference to any of them.
A kind that :func:`torch.func.vmap` cannot run has ``vectorises = False``.

Pretrained kinds, ``PRETRAINED``, come with their vocabulary: ``kind(**options)``, and ``encoder.tokenizer``, whose
``encode(titles)`` gives tokens and lengths. One that is read from a folder has ``arguments``, with which it is built
without that folder.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fewshot_prod.encoders.title.bag import BagEncoder
from fewshot_prod.encoders.title.cnn import CNNEncoder
from fewshot_prod.encoders.title.huggingface import HuggingFaceEncoder
from fewshot_prod.encoders.title.recurrent import TitleEncoder
from fewshot_prod.encoders.title.recurrent_bag import RecurrentBagEncoder
from fewshot_prod.encoders.title.transformer import TransformerEncoder
from fewshot_prod.encoders.title.universal_sentence import UniversalSentenceEncoder

TITLE_ENCODERS: dict[str, type[nn.Module]] = {
    "recurrent": TitleEncoder,
    "bag": BagEncoder,
    "cnn": CNNEncoder,
    "transformer": TransformerEncoder,
    "recurrent_bag": RecurrentBagEncoder,
}


PRETRAINED: dict[str, type[nn.Module]] = {
    "huggingface": HuggingFaceEncoder,
    "universal_sentence": UniversalSentenceEncoder,
}


def title_encoder(vocab_size: int | None = None, *, kind: str = "recurrent", **options: Any) -> nn.Module:
    """The title encoder called ``kind``; a pretrained one has its own vocabulary.

    Raises:
        ValueError: for an unknown kind, or a vocabulary size that is missing or too much.

    Example:
        >>> title_encoder(50, kind="bag", embedding_dim=16).feature_dim
        16
    """
    if kind not in TITLE_ENCODERS | PRETRAINED:
        raise ValueError(f"title encoder is {kind!r}; choose one of {', '.join(TITLE_ENCODERS | PRETRAINED)}")
    if (vocab_size is None) != (kind in PRETRAINED):
        need = "has its own vocabulary: leave vocab_size out" if kind in PRETRAINED else "needs vocab_size"
        raise ValueError(f"title encoder {kind!r} {need}")
    return PRETRAINED[kind](**options) if kind in PRETRAINED else TITLE_ENCODERS[kind](vocab_size, **options)


__all__ = [
    "PRETRAINED",
    "TITLE_ENCODERS",
    "BagEncoder",
    "CNNEncoder",
    "HuggingFaceEncoder",
    "RecurrentBagEncoder",
    "TitleEncoder",
    "TransformerEncoder",
    "UniversalSentenceEncoder",
    "title_encoder",
]
