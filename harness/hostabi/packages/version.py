"""The order of Debian package versions (deb-version(7))."""

from __future__ import annotations

import re
from functools import cached_property, total_ordering

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")

_Part = tuple[tuple[int, ...], int]
_Key = tuple[int, tuple[_Part, ...], tuple[_Part, ...]]


def _weight(char: str) -> int:
    """A tilde sorts before the end of the string, letters before everything else."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _parts(text: str) -> tuple[_Part, ...]:
    # The closing zero stands for "the end of this run of characters", so that
    # "1.0~rc1" sorts before "1.0" and "1.0" before "1.0+b1".
    runs = (
        ((*map(_weight, other), 0), int(digits or 0))
        for other, digits in _PARTS.findall(text)
        if other or digits
    )
    return (*runs, ((0,), 0))


@total_ordering
class Version:
    """One version, comparable with others: ``[epoch:]upstream[-revision]``."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def _key(self) -> _Key:
        epoch, colon, rest = self.text.partition(":")
        if not colon or not epoch.isdecimal():
            epoch, rest = "0", self.text
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
        return int(epoch), _parts(upstream), _parts(revision)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"
