"""Titles: one normal form, and subword tokens for any script."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

_BYTES = [f"<0x{value:02X}>" for value in range(256)]  # the names that `tokenizers` gives fallback bytes
PAD = "<pad>"


def normalise_title(title: str) -> str:
    """Compatibility characters unified (NFKC, so full width too), case folded, runs of white space made one blank.

    Example:
        >>> normalise_title(" ＮＩＫＥ  Air\u3000跑步鞋 ")
        'nike air 跑步鞋'
    """
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())  # folding can undo NFKC


class TitleTokenizer:
    """Byte-pair encoding with byte fallback (Sennrich et al. 2016; Kudo & Richardson 2018), trained on titles.

    A title is normalised by :func:`normalise_title` and cut at blanks, at punctuation and around every Chinese
    character, since otherwise a Chinese title would be a single word. Characters outside the vocabulary become
    their UTF-8 bytes, so no title has an unknown token. Id 0 is padding. Training is deterministic.

    Example:
        >>> tokenizer = TitleTokenizer.train(["red shoe", "red shoes", "红色 跑步鞋", "红色 鞋"], vocab_size=300)
        >>> tokens, lengths = tokenizer.encode(["Red SHOE", None, "红鞋🎁"])
        >>> lengths.tolist(), tokens[1].tolist(), tokenizer.pieces("Red SHOE")
        ([2, 0, 6], [0, 0, 0, 0, 0, 0], ['red', 'shoe'])
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, titles: Iterable[str | None], vocab_size: int = 4000) -> TitleTokenizer:
        """Learn a vocabulary of at most ``vocab_size`` tokens: padding, 256 bytes, characters, merged pieces.

        At most half of what the bytes leave goes to single characters, the most frequent ones; characters seen
        once are left to the bytes.

        Raises:
            ValueError: if ``vocab_size`` leaves no room beside padding and bytes.
        """
        if vocab_size <= 1 + len(_BYTES):
            raise ValueError(f"vocab_size={vocab_size} must exceed {1 + len(_BYTES)}: padding and one token a byte")
        from tokenizers import models, trainers

        texts = [normalise_title(title) for title in titles if title]
        counts = Counter(character for text in texts for character in text if not character.isspace())
        frequent = sorted((c for c in counts if counts[c] > 1), key=lambda c: (-counts[c], c))
        alphabet = frequent[: (vocab_size - 1 - len(_BYTES)) // 2]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[PAD, *_BYTES],
            # Given as a whole, since the trainer's own choice among equally frequent characters is random.
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        learner = _pipeline(models.BPE())
        learner.train_from_iterator(texts, trainer)
        model = json.loads(learner.to_str())["model"]
        # A fresh pipeline without special tokens: a title that spells "<pad>" or "<0x00>" is plain text.
        merges = [tuple(merge) for merge in model["merges"]]
        return cls(_pipeline(models.BPE(vocab=model["vocab"], merges=merges, byte_fallback=True)))

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, titles: Sequence[str | None], max_length: int = 24) -> tuple[Tensor, Tensor]:
        """Token ids of N titles.

        Args:
            titles: None, "" and white space count as missing.
            max_length: titles are cut behind so many tokens.

        Returns:
            tokens, int64 (N, T), padded with 0, T the longest length (at least 1); lengths, int64 (N,), 0 for a
            missing title.
        """
        texts = [normalise_title(title) if title else "" for title in titles]
        return padded([encoding.ids[:max_length] for encoding in self._tokenizer.encode_batch(texts)])

    def pieces(self, title: str) -> list[str]:
        """The tokens of one title as text; a fallback byte reads "<0xF0>"."""
        return self._tokenizer.encode(normalise_title(title)).tokens

    def to_json(self) -> str:
        return self._tokenizer.to_str()

    @classmethod
    def from_json(cls, text: str) -> TitleTokenizer:
        """The tokenizer that :meth:`to_json` wrote.

        Raises:
            ValueError: if the text is not such a tokenizer.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # `tokenizers` raises plain Exception
            raise ValueError(f"not a tokenizer's JSON: {error}") from error
        if tokenizer.token_to_id(PAD) != 0:
            raise ValueError(f"this tokenizer has no {PAD!r} at id 0; use one that TitleTokenizer.train made")
        return cls(tokenizer)


def padded(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids as tokens, int64 (N, T), padded with 0, T at least 1; and their lengths, int64 (N,).

    Example:
        >>> padded([[7, 3], []])[0].tolist()
        [[7, 3], [0, 0]]
    """
    import torch  # catalogs are read without it

    lengths = np.array([len(row) for row in ids], np.int64)
    tokens = np.zeros((len(ids), max(1, lengths.max(initial=0))), np.int64)
    for row, values in zip(tokens, ids, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def _pipeline(model: object) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
        ]
    )
    return tokenizer
