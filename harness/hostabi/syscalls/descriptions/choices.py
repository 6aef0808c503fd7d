"""A program's choices as bytes: cheap to draw, and made simpler by making bytes smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_ODD, _BOLD = 16, 8
"""One choice in so many is odd, and how many more of a bold call."""


class Choices:
    """Choices read one after another from ``raw``; past its end each is 0, the simplest.

    With ``tame`` nothing is ever odd, so that what is made so can be relied on; with
    ``bold`` half of what may be odd is, so that calls of one argument are refused as well.
    """

    def __init__(self, raw: bytes, *, tame: bool = False, bold: bool = False) -> None:
        self._raw = raw
        self._at = 0
        self.tame = tame
        self._odd = 256 - (_BOLD if bold else 1) * 256 // _ODD
        """The byte from which on a choice is odd."""
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
        if byte >= self._odd and odd and not self.tame:
            self.strange = True
            return self.one(odd)
        return usual[min(byte, self._odd - 1) * len(usual) // self._odd]

    def odd(self) -> bool:
        """True in 1 of 16 cases, and never where all has to be tame."""
        found = self.byte() >= self._odd and not self.tame
        self.strange |= found
        return found

    def often(self) -> bool:
        """True in half of all cases."""
        return self.byte() >= 128
