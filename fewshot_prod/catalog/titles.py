"""Titles: one normal form, subword tokens for any script, and the phrases in which a title names a category."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

# Scripts written without blanks between words, as the inside of a character class
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
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
        import torch  # catalogs are read without it

        texts = [normalise_title(title) if title else "" for title in titles]
        ids = [encoding.ids[:max_length] for encoding in self._tokenizer.encode_batch(texts)]
        lengths = np.array([len(row) for row in ids], np.int64)
        tokens = np.zeros((len(ids), max(1, lengths.max(initial=0))), np.int64)
        for row, values in zip(tokens, ids, strict=True):
            row[: len(values)] = values
        return torch.from_numpy(tokens), torch.from_numpy(lengths)

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


# --- naming a category -------------------------------------------------------------------------------------------

_NOT_WITHIN_WORD = (rf"(?<![^\W_{_CJK}])", rf"(?![^\W_{_CJK}])")  # no letter or digit of a spaced script beside
_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "foot": "feet", "shelf": "shelves"}
_IRREGULAR |= {plural: singular for singular, plural in _IRREGULAR.items()}


def class_word_masker(categories: Iterable[str]) -> Callable[[str], str]:
    """A function that deletes from a title every phrase that names any of ``categories``.

    What names a category, matched in normalised titles (see :func:`normalise_title`):

    - the category's whole name, each word in singular or plural ("Flip Flops": "flip flop"), its words apart,
      hyphenated or joined ("flip-flops", "flipflops"), "and" also as "&";
    - of a name joined by "and", "&", "/", "," or "、" also each side on its own: "Kajal and Eyeliner" is named by
      "kajal" and by "eyeliner". Other parts do not count: "shoe" does not name "Sports Shoes";
    - a word of six letters or more also with a hyphen or blank inside ("Tshirts": "t-shirt", "t shirt");
    - whole words only ("ring" is not in "earring"), except beside Chinese or Japanese characters, which have no
      blanks between words: there any substring counts ("衬衫" in "男士衬衫蓝色").

    Plurals follow English spelling rules. A deletion that brings a new phrase together is followed by another.

    Returns:
        A function from a title to its normalised form without those phrases; "" if nothing is left.

    Example:
        >>> mask = class_word_masker(["Tshirts", "Sports Shoes", "Kajal and Eyeliner", "衬衫"])
        >>> mask("Nike Men Blue T-shirt"), mask("Puma sport-shoe bag"), mask("Lakme Eyeliner"), mask("男士衬衫 蓝色")
        ('nike men blue', 'puma bag', 'lakme', '男士 蓝色')
    """
    names = {name for category in categories for name in _names(category)}
    # The longest first: "sports shoes" has to win over "sports" where both are categories.
    pattern = _naming_pattern(sorted(names, key=lambda name: (-len(name), name)))

    def mask(title: str) -> str:
        text, deletions = pattern.subn(" ", normalise_title(title))
        while deletions:
            text, deletions = pattern.subn(" ", " ".join(text.split()))
        return text

    return mask


def naming_rate(titles: Sequence[str | None], categories: Sequence[str]) -> float:
    """Share of titles that contain a phrase naming their own category, as :func:`class_word_masker` defines it.

    Args:
        titles: N titles; missing ones are left out of the share.
        categories: N category names, one a title.

    Example:
        >>> naming_rate(["Blue watch", "Blue strap", None], ["Watches", "Watches", "Watches"])
        0.5
    """
    patterns = {category: _naming_pattern(_names(category)) for category in set(categories)}
    named = [
        patterns[category].search(normalise_title(title)) is not None
        for title, category in zip(titles, categories, strict=True)
        if title
    ]
    return float(np.mean(named)) if named else 0.0


def _names(category: str) -> list[str]:
    """The normalised names of a category: the whole one and, if it is a conjunction, its sides."""
    whole = normalise_title(category)
    sides = [side.strip() for side in re.split(r"\band\b|[&/,、]", whole)]
    return [name for name in dict.fromkeys([whole, *sides]) if name]


def _naming_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Finds the first of ``names``. Names with the same kind of border share one guard, which is much faster."""
    borders: dict[tuple[str, str], list[str]] = {}
    for name in names:
        words = re.findall(r"&|(?:[^\W_]|['’])+", name)
        if words:
            ends = (words[0][0], words[-1][-1])
            guards = [
                "" if re.fullmatch(f"[{_CJK}]", end) else guard
                for end, guard in zip(ends, _NOT_WITHIN_WORD, strict=True)
            ]
            borders.setdefault(tuple(guards), []).append(r"(?:[^\w&]|_)*".join(map(_word_pattern, words)))
        else:  # symbols, emoji
            borders.setdefault(("", ""), []).append(re.escape(name))
    groups = [f"{before}(?:{'|'.join(patterns)}){after}" for (before, after), patterns in borders.items()]
    return re.compile("|".join(groups) or "(?!)")


def _word_pattern(word: str) -> str:
    if word in ("and", "&"):
        return "(?:and|&)"
    if not word.isascii():
        return re.escape(word)
    gap = r"[\s\-]?" if len(word) >= 6 else ""
    forms = sorted(_number_forms(word), key=lambda form: (-len(form), form))
    # No gap before the last letter, so that a size stays: "cap s" is not "caps".
    return "(?:" + "|".join(gap.join(map(re.escape, form[:-1])) + re.escape(form[-1]) for form in forms) + ")"


def _number_forms(word: str) -> set[str]:
    """An English word with its singular and plural spellings, wrong ones included where the rules leave a choice."""
    singulars = {word, _IRREGULAR.get(word, word)}
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        singulars.add(word[:-1])
        if word.endswith("ies"):
            singulars.add(word[:-3] + "y")
        if word.endswith("ves"):
            singulars |= {word[:-3] + "f", word[:-3] + "fe"}
        if re.search(r"(?:[sxz]|ch|sh|o)es$", word):
            singulars.add(word[:-2])
    plurals = set()
    for singular in singulars:
        if re.search(r"(?:[sxz]|ch|sh)$", singular):
            plurals.add(singular + "es")
        elif re.search(r"[^aeiou]y$", singular):
            plurals.add(singular[:-1] + "ies")
        else:
            plurals.add(singular + "s")
        if re.search(r"[^f]fe?$", singular):
            plurals.add(re.sub(r"fe?$", "ves", singular))
    return singulars | plurals
