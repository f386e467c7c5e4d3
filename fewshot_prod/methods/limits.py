"""What options methods may be given, by the names that they share."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fewshot_prod.devices import PRECISIONS

# A scale of 0 makes all logits equal, and below it far classes win; without a penalty a separable support has no
# solution. Rates and numbers of steps may be 0: then nothing is adapted.
ABOVE_ZERO = ("logit_scale", "cosine_scale", "cost_scale", "penalty", "l2", "power", "step_size", "batch_size")


def check_options(method: Any) -> None:
    """Refuse numbers, of all options of a method (a dataclass), that are below 0, or 0 in ``ABOVE_ZERO``, or NaN; and
    an unknown precision.

    Raises:
        ValueError: naming the option, its value and the limit.

    Example:
        >>> from fewshot_prod.methods import METHODS
        >>> METHODS["prototypical"](logit_scale=-1.0)
        Traceback (most recent call last):
        ValueError: logit_scale is -1.0: it must be above 0
    """
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name == "precision" and value not in PRECISIONS:
            raise ValueError(f"precision is {value!r}: it must be one of {', '.join(PRECISIONS)}")
        if not isinstance(value, (int, float)):
            continue
        above = field.name in ABOVE_ZERO
        if not (value > 0 if above else value >= 0):
            raise ValueError(f"{field.name} is {value}: it must be {'above 0' if above else '0 or above'}")
