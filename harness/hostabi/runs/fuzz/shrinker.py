"""A program in which kernels differ, made as small as it can be and still differ so.

All ways to make it smaller by one step go out in one message, to one kernel of each
side: a round costs little more than one program does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from hostabi.agent.program import End, Ran
from hostabi.runs.fuzz.causes import END, STATE, Spot, spot
from hostabi.syscalls import smaller
from hostabi.syscalls.builder import Built

if TYPE_CHECKING:
    from hostabi.agent.program import Sandbox
    from hostabi.runs.lockstep import Lockstep

SECONDS = 20.0
"""What making one difference smaller may take."""
_ROUND = 48
"""Programs of one message."""


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
        best, place = self._rounds(best, place, _shorter)
        best, place = self._rounds(best, place, lambda each: list(smaller.plainer(each)))
        best, place = self._rounds(best, place, _shorter)
        return self._first([smaller.tidy(best)], place) or (best, place)

    def _rounds(
        self, best: Built, place: Spot, ways: Callable[[Built], list[Built]]
    ) -> tuple[Built, Spot]:
        while time.monotonic() < self._until:
            better = self._first(ways(best), place)
            if better is None:
                break
            best, place = better
        return best, place

    def _first(self, candidates: Sequence[Built], wanted: Spot) -> tuple[Built, Spot] | None:
        """The first of the candidates that differs as is wanted."""
        names = frozenset(sides(wanted))
        for start in range(0, len(candidates), _ROUND):
            if time.monotonic() > self._until:
                return None
            part = candidates[start : start + _ROUND]
            self.tried += len(part)
            rans = self._lockstep.run(
                [built.program for built in part], self._sandbox, [names] * len(part)
            )
            for built, each in zip(part, rans, strict=True):
                if refused(each.values()):
                    continue
                place = spot(built, each)
                if place is not None and place.same_as(_only(wanted, names)):
                    return built, place
        return None


def refused(rans: Iterable[Ran]) -> bool:
    """Whether one of them had no sandbox, which tells nothing."""
    return any(ran.end is End.REFUSED for ran in rans)


def _only(found: Spot, names: frozenset[str]) -> Spot:
    outcomes = {name: seen for name, seen in found.outcomes.items() if name in names}
    return Spot(found.kind, found.call, found.syscall, outcomes, found.item)


def _shorter(built: Built) -> list[Built]:
    """Without half of the calls, then without a single one; the last one first."""
    count = len(built.steps)
    halves = [range(count // 2), range(count // 2, count)] if count > 3 else []
    gone = [set(each) for each in halves] + [{index} for index in reversed(range(count))]
    return [smaller.without(built, each) for each in gone if len(each) < count]


def loose(found: Spot) -> bool:
    """Whether it is seen only once the whole program has run."""
    return found.kind in {END, STATE}
