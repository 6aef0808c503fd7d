"""A program's choices as bytes: cheap to draw, and made simpler by making bytes smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Choices read one after another from ``raw``; past its end each is 0, the simplest.

    With ``tame`` nothing is ever odd, so that what is made so can be relied on.
    """

    def __init__(self, raw: bytes, *, tame: bool = False) -> None:
        self._raw = raw
        self._at = 0
        self.tame = tame
        self.strange = False
        """Whether something odd was chosen."""

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        self._at = at + 1
        return self._raw[at] if at < len(self._raw) else 0

    def below(self, count: int) -> int:
        """A number from 0 to ``count`` - 1; smaller bytes choose smaller numbers."""
        if count <= 1:
            return 0
        if count <= 256:
            return self.byte() * count >> 8
        return (self.byte() << 8 | self.byte()) * count >> 16

    def one(self, of: Sequence[T]) -> T:
        """One of several, of which the first is the simplest."""
        return of[self.below(len(of))]

    def mostly(self, usual: Sequence[T], odd: Sequence[T]) -> T:
        """One of ``usual``, or now and then (1 in 16) one of ``odd``."""
        byte = self.byte()
        if byte >= 240 and odd and not self.tame:
            self.strange = True
            return self.one(odd)
        return usual[min(byte, 239) * len(usual) // 240]

    def odd(self, times: int = 1) -> bool:
        """True in ``times`` of 16 cases, and never where all has to be tame."""
        found = self.byte() >= 256 - 16 * times and not self.tame
        self.strange |= found
        return found

    def often(self) -> bool:
        """True in half of all cases."""
        return self.byte() >= 128
