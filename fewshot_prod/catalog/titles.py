"""Titles: one normal form, and subword tokens for any script."""

from __future__ import annotations

import functools
import json
import logging
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fewshot_prod.errors import MissingPackage

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

_BYTES = [f"<0x{value:02X}>" for value in range(256)]  # the names that `tokenizers` gives fallback bytes
PAD = "<pad>"
_CHINESE_RUN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
# Variation selectors, which ask for a coloured or a plain picture of an emoji; soft hyphens; blanks of no width
_INVISIBLE = re.compile("[\ufe00-\ufe0f\u00ad\u200b\u2060\ufeff]")
LENGTHS = (24, 64)  # the least and the greatest number of tokens behind which titles are cut

Chinese = Literal["characters", "words", "subwords"]


def normalise_title(title: str) -> str:
    """Compatibility characters unified (NFKC, so full width too), case folded, runs of white space made one blank.

    Characters that nobody sees go (soft hyphens, an emoji's variation selectors), so that one thing has one spelling.

    Example:
        >>> normalise_title(" ＮＩＫＥ  Air\u3000跑步鞋 ")
        'nike air 跑步鞋'
    """
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", title)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())  # folding can undo NFKC


class TitleTokenizer:
    """Byte-pair encoding with byte fallback (Sennrich et al. 2016; Kudo & Richardson 2018), trained on titles.

    A title is normalised by :func:`normalise_title` and cut at blanks and at punctuation. That leaves a Chinese title
    in one piece, hence one of three further cuts, ``chinese``:

    - "characters": around every Chinese character, each of which is a token;
    - "words": between the words that jieba finds (Sun 2012, github.com/fxsjy/jieba, the extra ``chinese``). Frequent
      words are tokens, others are put together of shorter pieces;
    - "subwords": around every run of Chinese characters, within which frequent ones are merged into tokens.

    Characters outside the vocabulary become their UTF-8 bytes, so no title has an unknown token. Id 0 is padding.
    Training is deterministic. Titles are cut behind ``max_length`` tokens: 24, or as many as 99 % of the titles of the
    training have, but at most 64.

    Example:
        >>> tokenizer = TitleTokenizer.train(["red shoe", "red shoes", "红色 跑步鞋", "红色 鞋"], vocab_size=300)
        >>> tokens, lengths = tokenizer.encode(["Red SHOE", None, "红鞋🎁"])
        >>> lengths.tolist(), tokens[1].tolist(), tokenizer.pieces("Red SHOE")
        ([2, 0, 6], [0, 0, 0, 0, 0, 0], ['red', 'shoe'])
    """

    def __init__(self, tokenizer: Tokenizer, *, words: bool = False, max_length: int = LENGTHS[0]) -> None:
        self._tokenizer, self._words, self.max_length = tokenizer, words, max_length

    @classmethod
    def train(
        cls, titles: Iterable[str | None], vocab_size: int = 4000, *, chinese: Chinese = "characters"
    ) -> TitleTokenizer:
        """Learn a vocabulary of at most ``vocab_size`` tokens: padding, 256 bytes, characters, merged pieces.

        At most half of what the bytes leave goes to single characters, the most frequent ones; characters seen
        once are left to the bytes.

        Raises:
            ValueError: if ``vocab_size`` leaves no room beside padding and bytes, or for an unknown cut of Chinese.
            MissingPackage: if "words" are wanted and jieba is not installed.
        """
        if chinese not in get_args(Chinese):
            raise ValueError(f"chinese={chinese!r} is not one of {', '.join(map(repr, get_args(Chinese)))}")
        if vocab_size <= 1 + len(_BYTES):
            raise ValueError(f"vocab_size={vocab_size} must exceed {1 + len(_BYTES)}: padding and one token a byte")
        from tokenizers import models, trainers

        words = chinese == "words"
        texts = [_text(title, words) for title in titles if title]
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
        learner = _pipeline(models.BPE(), chinese)
        learner.train_from_iterator(texts, trainer)
        model = json.loads(learner.to_str())["model"]
        # A fresh pipeline without special tokens: a title that spells "<pad>" or "<0x00>" is plain text.
        merges = [tuple(merge) for merge in model["merges"]]
        tokenizer = _pipeline(models.BPE(vocab=model["vocab"], merges=merges, byte_fallback=True), chinese)
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
        most = int(np.quantile(lengths, 0.99, method="higher")) if lengths else 0
        return cls(tokenizer, words=words, max_length=min(max(most, LENGTHS[0]), LENGTHS[1]))

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, titles: Sequence[str | None], max_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids of N titles.

        Args:
            titles: None, "" and white space count as missing.
            max_length: titles are cut behind so many tokens; None for the tokenizer's own.

        Returns:
            tokens, int64 (N, T), padded with 0, T the longest length (at least 1); lengths, int64 (N,), 0 for a
            missing title.
        """
        texts = [_text(title, self._words) if title else "" for title in titles]
        max_length = max_length or self.max_length
        return padded([encoding.ids[:max_length] for encoding in self._tokenizer.encode_batch(texts)])

    def pieces(self, title: str, max_length: int | None = None) -> list[str]:
        """The tokens of one title as text, as many as :meth:`encode` keeps; a fallback byte reads "<0xF0>"."""
        return self._tokenizer.encode(_text(title, self._words)).tokens[: max_length or self.max_length]

    def to_json(self) -> str:
        own = {"chinese": "words"} if self._words else {}
        own |= {"max_length": self.max_length} if self.max_length != LENGTHS[0] else {}
        text = self._tokenizer.to_str()
        return json.dumps({**own, **json.loads(text)}, ensure_ascii=False) if own else text

    @classmethod
    def from_json(cls, text: str) -> TitleTokenizer:
        """The tokenizer that :meth:`to_json` wrote.

        Raises:
            ValueError: if the text is not such a tokenizer.
        """
        from tokenizers import Tokenizer

        try:
            settings = json.loads(text)
            words, max_length = settings.pop("chinese", None) == "words", settings.pop("max_length", LENGTHS[0])
            tokenizer = Tokenizer.from_str(json.dumps(settings))
        except Exception as error:  # `tokenizers` raises plain Exception
            raise ValueError(f"not a tokenizer's JSON: {error}") from error
        if tokenizer.token_to_id(PAD) != 0:
            raise ValueError(f"this tokenizer has no {PAD!r} at id 0; use one that TitleTokenizer.train made")
        return cls(tokenizer, words=words, max_length=max_length)


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


def _text(title: str, words: bool) -> str:
    """The normalised title, with blanks between Chinese words if ``words``."""
    text = normalise_title(title)
    return _CHINESE_RUN.sub(lambda run: f" {' '.join(_jieba().cut(run[0]))} ", text).strip() if words else text


@functools.cache
def _jieba() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for pkg_resources and has unusual escapes
            import jieba
    except ImportError:
        raise MissingPackage(
            "chinese='words' needs the package 'jieba': pip install 'fewshot_prod[chinese]', or choose 'characters'"
        ) from None
    jieba.setLogLevel(logging.WARNING)
    return jieba


def _pipeline(model: object, chinese: Chinese) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(r"\p{Han}" if chinese == "characters" else r"\p{Han}+"), "isolated"),
        ]
    )
    return tokenizer
