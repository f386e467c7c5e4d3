"""Timing side by side: the sides take turns, so that what else the machine does slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timed:
    """The rounds of one side, of which the first warmed it up."""

    seconds: list[float]
    """What each took."""
    answers: list[Any]
    """What each returned, so that the sides' answers can be compared when no clock runs."""

    @property
    def median(self) -> float:
        """Seconds of a round: the median without the warm-up."""
        return statistics.median(self.seconds[1:])


def take_turns(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timed]:
    """Run each side once a round, in the order given: a round that warms up, then ``rounds`` that count."""
    timed = {name: Timed([], []) for name in sides}
    for _ in range(rounds + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            answer = run()
            timed[name].seconds.append(time.perf_counter() - started)
            timed[name].answers.append(answer)
    return timed
