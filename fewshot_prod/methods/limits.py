"""What options methods may be given, by the names that they share."""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from fewshot_prod.devices import PRECISIONS
from fewshot_prod.methods.transforms import check_transform

# A scale of 0 makes all logits equal, and below it far classes win; without a penalty a separable support has no
# solution. Rates and numbers of steps may be 0: then nothing is adapted.
ABOVE_ZERO = ("logit_scale", "cosine_scale", "cost_scale", "penalty", "l2", "power", "step_size", "batch_size")


# Beside those whose name begins with n_.
WHOLE = ("batch_size", "seed")


def check_options(method: Any) -> None:
    """:func:`check_option` for all options of a method, a dataclass, and :func:`check_transform` where it has one.

    Raises:
        ValueError: naming the option, its value and the limit.

    Example:
        >>> from fewshot_prod.methods import METHODS
        >>> METHODS["prototypical"](logit_scale=-1.0)
        Traceback (most recent call last):
        ValueError: logit_scale is -1.0: it must be above 0 and finite
    """
    for field in fields(method):
        check_option(field.name, getattr(method, field.name))
    if hasattr(method, "transform"):
        check_transform(method.transform, method.center)


def check_option(name: str, value: Any) -> None:
    """Refuse a number that is below 0, or 0 in ``ABOVE_ZERO``, or not finite, or not whole where it counts something;
    and an unknown precision.

    Raises:
        ValueError: naming the option, its value and the limit.
    """
    if name == "precision" and value not in PRECISIONS:
        raise ValueError(f"precision is {value!r}: it must be one of {', '.join(PRECISIONS)}")
    if not isinstance(value, Real):
        return
    above, whole = name in ABOVE_ZERO, name.startswith("n_") or name in WHOLE
    large_enough = value > 0 if above else value >= 0
    if not (large_enough and (isinstance(value, Integral) if whole else math.isfinite(value))):
        limit = f"{'above 0' if above else '0 or above'} and {'whole' if whole else 'finite'}"
        raise ValueError(f"{name} is {value}: it must be {limit}")
