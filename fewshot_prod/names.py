"""What to answer to a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_LISTED = 75  # the largest table has 71 rows


def first_few(names: Sequence[str], n: int = 3) -> str:
    """The first of some names, for a message.

    Example:
        >>> first_few(["bed", "desk"]), first_few(["bed", "desk", "mug", "pan"])
        ('bed, desk', 'bed, desk, mug, ...')
    """
    return ", ".join([*names[:n], *(["..."] if len(names) > n else [])])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown ``name``: the nearest right one, if any is near, and all that there are.

    Of more than ``MOST_LISTED`` the nearest ones alone, and how many there are.

    Example:
        >>> unknown_name("method", "protypical", ["maml", "prototypical"])
        "no method 'protypical': did you mean 'prototypical'? There are maml, prototypical"
        >>> unknown_name("method", "xyz", ["maml"])
        "no method 'xyz'. There are maml"
    """
    names = list(known)
    folded = {n.casefold(): n for n in names}
    near = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f": did you mean {folded[near[0]]!r}?" if near else "."
    told = ", ".join(names)
    if len(names) > MOST_LISTED:
        nearest = get_close_matches(str(name).casefold(), folded, n=MOST_LISTED // 3, cutoff=0)
        told = f"{len(names)}, among them {', '.join(folded[n] for n in nearest)}"
    return f"no {kind} {name!r}{hint} There are {told}"


class UnknownName(ValueError):
    """There is nothing of that name; the message is :func:`unknown_name`'s."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(unknown_name(kind, name, known))
