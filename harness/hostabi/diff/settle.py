"""Looks at one build under other hardware in, facts whose kind says what moves out.

The first look and its twin differ in RAM, CPUs and the order of the surfaces.
A third one has the hardware of the first, but is another boot. What the third
tells as the first did, and the twin otherwise, follows the hardware; what the
third tells otherwise as well moves by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from hostabi.diff import keys
from hostabi.diff.compare import by_key, close, differs, looseness, looser
from hostabi.model import Fact, Kind

_MOVES = "looks at several boots of this build differ"


@dataclasses.dataclass(frozen=True)
class Settled:
    """The facts of the first look, with kinds that are as loose as the looks show."""

    facts: list[Fact]
    moving: dict[str, Kind]
    """Keys whose presence moves, whether among the facts or not, as in a capture."""


def doubtful(first: Iterable[Fact], twin: Iterable[Fact]) -> bool:
    """Whether the two differ in a way that only a third look can settle."""
    ours, theirs = by_key(first), by_key(twin)
    if any(not _declared(key, ours, theirs) for key in ours.keys() ^ theirs.keys()):
        return True
    both = ours.keys() & theirs.keys()
    return any(differs(ours[key], theirs[key], hardware=False) for key in both)


def settle(
    first: Sequence[Fact], twin: Sequence[Fact], third: Sequence[Fact] | None, *, twin_is: str = ""
) -> Settled:
    """Tell for each key what its value and its presence follow.

    ``twin_is`` describes the twin's hardware; it becomes part of a fact's detail.
    Without a ``third`` look all that differs is said to move by itself. Raises
    InputError when a look has a key twice.
    """
    ours, theirs = by_key(first), by_key(twin)
    again = None if third is None else by_key(third)
    facts: list[Fact] = []
    moving: dict[str, Kind] = {}
    for key in sorted(ours.keys() | theirs.keys() | (again or {}).keys()):
        fact, other = ours.get(key), theirs.get(key)
        presence = _presence(key, ours, theirs, again)
        # Aspects that move as their subject does are told by it.
        if presence is not Kind.VALUE and moving.get(keys.subject(key)) is not presence:
            moving[key] = presence
        if fact is not None:
            facts.append(_settled(fact, other, (again or {}).get(key), twin_is))
    return Settled(facts, moving)


def _presence(
    key: str, ours: dict[str, Fact], theirs: dict[str, Fact], again: dict[str, Fact] | None
) -> Kind:
    here, there = key in ours, key in theirs
    if again is not None and (key in again) != here:
        return Kind.VOLATILE
    if here == there:
        return Kind.VALUE
    settled = again is not None or _declared(key, ours, theirs)
    return Kind.HARDWARE if settled else Kind.VOLATILE


def _declared(key: str, ours: dict[str, Fact], theirs: dict[str, Fact]) -> bool:
    """Whether the surface itself says that the thing is only there on some hardware."""
    found = [side.get(name) for side in (ours, theirs) for name in (key, keys.subject(key))]
    return any(fact is not None and fact.kind is Kind.HARDWARE for fact in found)


def _settled(fact: Fact, twin: Fact | None, third: Fact | None, twin_is: str) -> Fact:
    """``fact`` with the loosest kind that any of the looks shows."""
    kind = fact.kind if twin is None else looser(fact, twin)
    if third is not None:
        kind = max(kind, third.kind, key=looseness)
    if kind is Kind.VOLATILE or (third is not None and _apart(fact, third, twin)):
        return _volatile(fact)
    if kind is Kind.HARDWARE:
        return fact if fact.kind is kind else replace(fact, kind=kind)
    if twin is None or not differs(fact, twin, hardware=True):
        return fact
    if third is None:
        return _volatile(fact)
    return replace(fact, kind=Kind.HARDWARE, detail=_more(fact, f"another one with {twin_is}"))


def _apart(fact: Fact, third: Fact, twin: Fact | None) -> bool:
    """Whether two looks on equal hardware differ by more than an amount derived from it may.

    Such an amount is never quite the same, but its twin's is far away.
    """
    if not differs(fact, third, hardware=True):
        return False
    declared = Kind.HARDWARE in (fact.kind, third.kind)
    followed = twin is not None and twin.value is not None and not close(fact.value, twin.value)
    return not close(fact.value, third.value) or not (declared or followed)


def _volatile(fact: Fact) -> Fact:
    if fact.kind is Kind.VOLATILE:
        return fact
    return replace(fact, value=None, kind=Kind.VOLATILE, detail=_more(fact, _MOVES))


def _more(fact: Fact, reason: str) -> str:
    return f"{fact.detail}; {reason}" if fact.detail else reason
