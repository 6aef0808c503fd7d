"""A program in which kernels differ, made as small as it can be and still differ so.

All ways to make it smaller by one step go out in one message, to one kernel of each
side: a round costs little more than one program does. The next one takes all steps
together that were right alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Generic, TypeVar

from hostabi.agent.program import End, Ran
from hostabi.runs.fuzz.causes import Spot, spot
from hostabi.syscalls import smaller
from hostabi.syscalls.builder import Built
from hostabi.syscalls.smaller import Edit

if TYPE_CHECKING:
    from hostabi.agent.program import Sandbox
    from hostabi.runs.lockstep import Lockstep

T = TypeVar("T")

SMALL = 3
"""Calls of a program that is small enough."""
SECONDS = 20.0
"""What making one difference smaller may take."""
_ROUND = 48
"""Programs of one message."""
_PAIRS = 10
"""Calls of a program of which each two are left out together: those are 45 programs."""


@dataclass(frozen=True)
class _Steps(Generic[T]):
    """One kind of step: those that a program offers, and the program after some of them."""

    ways: Callable[[Built], Sequence[T]]
    taken: Callable[[Built, Sequence[T]], Built]


def _single(built: Built) -> list[frozenset[int]]:
    """Each call, the last one first; not the only one."""
    count = len(built.steps)
    return [frozenset({index}) for index in reversed(range(count))] if count > 1 else []


def _pairs(built: Built) -> list[frozenset[int]]:
    """Two calls that only together can go, such as one that makes and one that ends."""
    count = len(built.steps)
    return list(map(frozenset, combinations(range(count), 2))) if SMALL < count <= _PAIRS else []


def _without(built: Built, gone: Sequence[frozenset[int]]) -> Built:
    return smaller.without(built, frozenset().union(*gone))


_ONE_CALL: _Steps[frozenset[int]] = _Steps(_single, _without)
_TWO_CALLS: _Steps[frozenset[int]] = _Steps(_pairs, _without)
_NUMBERS: _Steps[Edit] = _Steps(lambda built: list(smaller.edits(built)), smaller.edited)


def sides(found: Spot) -> tuple[str, ...]:
    """One kernel for each outcome, those of the first two."""
    first: dict[str, str] = {}
    for name, outcome in found.outcomes.items():
        first.setdefault(outcome, name)
    return tuple(first.values())[:2]


class Shrinker:
    """Makes programs smaller for as long as ``seconds`` last."""

    def __init__(self, lockstep: Lockstep, sandbox: Sandbox, *, seconds: float = SECONDS) -> None:
        self._lockstep = lockstep
        self._sandbox = sandbox
        self._until = time.monotonic() + seconds
        self.tried = 0

    def shrink(self, built: Built, found: Spot) -> tuple[Built, Spot]:
        """The smallest program that was found to differ in the same way, and where it does."""
        best, place = built, found
        if found.call is not None:
            whole = smaller.upto(built, found.call)
            gone = set(range(found.call)) - smaller.needed(built, found.call)
            best, place = self._first([smaller.without(whole, gone), whole], found) or (best, place)
        best, place = self._rounds(best, place, _ONE_CALL)
        best, place = self._rounds(best, place, _TWO_CALLS)
        best, place = self._rounds(best, place, _NUMBERS)
        best, place = self._rounds(best, place, _ONE_CALL)
        return self._first([smaller.tidy(best)], place) or (best, place)

    def _rounds(self, best: Built, place: Spot, steps: _Steps[T]) -> tuple[Built, Spot]:
        """All steps are tried by themselves, then those that are right together."""
        while time.monotonic() < self._until:
            ways = steps.ways(best)
            right = self._right([steps.taken(best, [way]) for way in ways], place)
            if not right:
                break
            fine = [ways[number] for number in right]
            half = len(fine) // 2
            joint = [fine, fine[:half], fine[half:]] if half else []
            tried = [steps.taken(best, part) for part in joint if part]
            only = right[min(right)]
            best, place = self._first(tried, place) or only
        return best, place

    def _first(self, candidates: Sequence[Built], wanted: Spot) -> tuple[Built, Spot] | None:
        """The first of the candidates that differs as is wanted."""
        return next(iter(self._right(candidates, wanted).values()), None)

    def _right(self, candidates: Sequence[Built], wanted: Spot) -> dict[int, tuple[Built, Spot]]:
        """Those of the candidates that differ as is wanted, by number, in order."""
        right: dict[int, tuple[Built, Spot]] = {}
        names = frozenset(sides(wanted))
        for start in range(0, len(candidates), _ROUND):
            if time.monotonic() > self._until:
                break
            part = candidates[start : start + _ROUND]
            self.tried += len(part)
            rans = self._lockstep.run(
                [built.program for built in part], self._sandbox, [names] * len(part)
            )
            for number, (built, each) in enumerate(zip(part, rans, strict=True), start):
                place = None if refused(each.values()) else spot(built, each)
                if place is not None and place.same_as(_only(wanted, names)):
                    right[number] = built, place
        return right


def refused(rans: Iterable[Ran]) -> bool:
    """Whether one of them had no sandbox, which tells nothing."""
    return any(ran.end is End.REFUSED for ran in rans)


def _only(found: Spot, names: frozenset[str]) -> Spot:
    outcomes = {name: seen for name, seen in found.outcomes.items() if name in names}
    return Spot(found.kind, found.call, found.syscall, outcomes, found.item)
