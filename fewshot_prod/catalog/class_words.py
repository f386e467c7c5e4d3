"""The phrases in which a title names a category: deleting them, and how often they occur."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fewshot_prod.catalog.titles import normalise_title

# Scripts written without blanks between words, as the inside of a character class
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_NOT_WITHIN_WORD = (rf"(?<![^\W_{_CJK}])", rf"(?![^\W_{_CJK}])")  # no letter or digit of a spaced script beside
_IRREGULAR = {"child": "children", "foot": "feet", "tooth": "teeth", "goose": "geese", "mouse": "mice"}
_IRREGULAR |= {"person": "people", "shelf": "shelves"}
_IRREGULAR |= {plural: singular for singular, plural in _IRREGULAR.items()}
_APOSTROPHE = "['\u2018\u2019\u02bc`]"
_GAP = r"(?:\s?[\-\u2010-\u2015]\s?|[\s.·/_'\u2018\u2019\u02bc`])?"


def class_word_masker(categories: Iterable[str]) -> Callable[[str], str]:
    """A function that deletes from a title every phrase that names any of ``categories``.

    What names a category, matched in normalised titles (see :func:`normalise_title`):

    - the category's whole name, each word in singular or plural ("Flip Flops": "flip flop"), its words apart,
      hyphenated or joined ("flip-flops", "flipflops"), "and" also as "&";
    - of a name joined by "and", "or", "&", "+", "/", ",", ";", "、", or by 和, 与, 及, 或 between two characters and
      more, also each side on its own: "Kajal and Eyeliner" is named by "kajal" and by "eyeliner". Other parts do not
      count: "shoe" does not name "Sports Shoes";
    - a word of six letters or more also with a hyphen, blank or dot inside ("Tshirts": "t-shirt", "t shirt"), and any
      with blanks where its script changes ("T恤": "t 恤");
    - whole words only ("ring" is not in "earring"), except beside Chinese or Japanese characters, which have no
      blanks between words: there any substring counts ("衬衫" in "男士衬衫蓝色").

    Plurals follow English spelling rules, and an apostrophe of any kind may be there or not ("Women's Shoes": "womens
    shoes", "women shoes"). A deletion that brings a new phrase together is followed by another.

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
    sides = re.split(r"\b(?:and|or)\b|\s\+\s|[&/,;、]|(?<=\w\w)\s*[和与與及或]\s*(?=\w\w)", whole)
    return [name for name in dict.fromkeys([whole, *(side.strip() for side in sides)]) if name]


def _naming_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Finds the first of ``names``. Names with the same kind of border share one guard, which is much faster."""
    borders: dict[tuple[str, str], list[str]] = {}
    for name in names:
        words = re.findall(rf"&|(?:[^\W_]|{_APOSTROPHE})+", name)
        words = [word for word in words if re.sub(f"{_APOSTROPHE}s?", "", word)]  # not an apostrophe by itself
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
    if re.search(f"[{_CJK}]", word):
        return re.sub(rf"(?<=[{_CJK}])(?=[^{_CJK}])|(?<=[^{_CJK}])(?=[{_CJK}])", lambda _: r"\s*", word)
    stem = re.sub(_APOSTROPHE, "", word)
    gap = _GAP if len(stem) >= 6 else f"{_APOSTROPHE}?" if stem != word else ""
    owner = re.sub(_APOSTROPHE, "", re.sub(f"{_APOSTROPHE}s$", "", word))  # whose it is: "women" of "women's"
    forms = sorted(_number_forms(stem) | _number_forms(owner), key=lambda form: (-len(form), form))
    # Their common beginning is written once, or compiling takes much longer.
    shared = os.path.commonprefix([form[:-1] for form in forms])  # noqa: RUF071 (letters, not paths)
    return gap.join(map(re.escape, shared)) + "(?:" + "|".join(_ending(form, len(shared), gap) for form in forms) + ")"


def _ending(form: str, start: int, gap: str) -> str:
    """The pattern of a form from letter ``start`` on.

    There is no gap before the last letter, so that a size stays: "cap s" is not "caps".
    """
    last = f"{_APOSTROPHE}?s{_APOSTROPHE}?" if form.endswith("s") else re.escape(form[-1])
    inner = list(map(re.escape, form[start:-1]))
    return (gap if inner and start else "") + gap.join(inner) + last


def _number_forms(word: str) -> set[str]:
    """An English word with its singular and plural spellings, wrong ones included where the rules leave a choice."""
    singulars = {word, _IRREGULAR.get(word, word)}
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        singulars.add(word[:-1])
        if word.endswith("ies"):
            singulars.add(word[:-3] + "y")
        if word.endswith("ves"):
            singulars |= {word[:-3] + "f", word[:-3] + "fe"}
        if re.search(r"(?:[sxz]|ch|sh|\w\wo)es$", word):
            singulars.add(word[:-2])
        if word.endswith("zzes"):
            singulars.add(word[:-3])
    singulars |= {word[:-3] + {"man": "men", "men": "man"}[word[-3:]]} if word.endswith(("man", "men")) else set()
    plurals = set()
    for singular in singulars:
        if re.search(r"(?:[sxz]|ch|sh|[^aeiou]o)$", singular):
            plurals |= {singular + "es", singular + ("zes" if singular.endswith("z") else "s")}
        elif re.search(r"[^aeiou]y$", singular):
            plurals.add(singular[:-1] + "ies")
        else:
            plurals.add(singular + "s")
        if re.search(r"[^f]fe?$", singular):
            plurals.add(re.sub(r"fe?$", "ves", singular))
    return singulars | plurals
