"""Random choices for the synthetic catalog that are the same on every machine and with every NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """A stream of integer draws that depends on ``key`` alone.

    NumPy promises that the raw words of PCG64 and SeedSequence never change, but not what its Generator makes of
    them; and floats can round differently on another processor. So all draws are integers made from raw words.

    Args:
        key: non-negative integers, e.g. (seed, category number, product number).

    Example:
        >>> dice = Dice(0, 7)
        >>> [dice.between(1, 6) for _ in range(8)]
        [1, 5, 5, 3, 6, 6, 1, 4]
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def between(self, low: int, high: int) -> int:
        """An integer in low..high, both ends included."""
        return low + ((self._bits.random_raw() >> 32) * (high - low + 1) >> 32)

    def chance(self, probability: float) -> bool:
        return (self._bits.random_raw() >> 11) < int(probability * 2**53)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.between(0, len(items) - 1)]

    def order(self, n: int) -> list[int]:
        """A random order of 0..n-1 (Fisher-Yates)."""
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.between(0, i)
            order[i], order[j] = order[j], order[i]
        return order

    def noise(self, n: int) -> np.ndarray:
        """int16 (n,): sums of four bytes less their mean, near normal with a standard deviation of 148."""
        words = self._bits.random_raw(-(-n // 2)).astype("<u8").view(np.uint8).reshape(-1, 4)
        return words.sum(axis=1, dtype=np.int16)[:n] - np.int16(510)
