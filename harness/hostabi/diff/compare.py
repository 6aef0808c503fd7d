"""Two captures in, the facts that differ out. How two values compare is their kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hostabi.diff import keys
from hostabi.errors import InputError
from hostabi.model import Capture, Delta, Fact, Kind, Value

_SHARE = 1 / 8
"""How far two values derived from equal hardware may be apart, as a share of the larger."""
_SMALL = 64
"""Numbers up to this one are counts of CPUs and the like: they are equal or they are not."""

_OCTAL = re.compile(r"0[0-7]+")
"""Permission bits: no amount, whatever they are derived from."""

_LOOSENESS = (Kind.VALUE, Kind.DEFAULT, Kind.MEMBERS, Kind.HARDWARE, Kind.VOLATILE)


def compare(old: Capture, new: Capture) -> list[Delta]:
    """The facts that differ, by surface and key.

    Only surfaces that both captures hold are compared (see :func:`missing`).
    Aspects of a thing that came or went as a whole are not told again. A fact
    with the value None was not determined and differs from nothing, and so does what
    is absent where a capture says that it is not the whole (:data:`keys.INCOMPLETE`).
    """
    hardware = equal_hardware(old, new)
    return [
        delta
        for delta in _pairs(old, new)
        if _tells(delta, hardware, max(_moves(old, delta), _moves(new, delta), key=looseness))
    ]


def incomparable(old: Capture, new: Capture) -> list[Delta]:
    """Facts whose values differ but say nothing, because the captures' hardware differs."""
    if equal_hardware(old, new):
        return []
    return [
        delta
        for delta in _pairs(old, new)
        if delta.old is not None
        and delta.new is not None
        and looser(delta.old, delta.new) is Kind.HARDWARE
        and not close(delta.old.value, delta.new.value)
    ]


def missing(old: Capture, new: Capture) -> list[str]:
    """Surfaces that only one of the two captures holds, so nothing is said about them."""
    return sorted(old.surfaces.keys() ^ new.surfaces.keys())


def equal_hardware(old: Capture, new: Capture) -> bool:
    """Whether values that the kernel derives from RAM and CPUs may be compared."""
    return (old.variant.cpus, old.variant.memory) == (new.variant.cpus, new.variant.memory)


def by_key(facts: Iterable[Fact], *, where: str = "") -> dict[str, Fact]:
    """Facts by key.

    Raises InputError when a key occurs twice, for one of the two would be lost.
    """
    table: dict[str, Fact] = {}
    for fact in facts:
        if fact.key in table:
            raise InputError(
                f"{where or 'surface'}: fact {fact.key!r} is there twice",
                advice="take the capture again",
            )
        table[fact.key] = fact
    return table


def members(value: Value) -> frozenset[str]:
    """The names in a value: a list as it is, a text as one name."""
    if isinstance(value, list):
        return frozenset(value)
    return frozenset() if value in (None, "") else frozenset((str(value),))


def _pairs(old: Capture, new: Capture) -> Iterator[Delta]:
    """The facts that are not the same on both sides, of which more has to be asked.

    Equal values say the same, whatever their kind: most of some 60,000 facts end here.
    """
    for surface in sorted(old.surfaces.keys() & new.surfaces.keys()):
        before = by_key(old.surfaces[surface], where=f"{old.build}, surface {surface}")
        after = by_key(new.surfaces[surface], where=f"{new.build}, surface {surface}")
        for key in sorted(
            key for key in before.keys() | after.keys() if _unlike(key, before, after)
        ):
            delta = Delta(surface, key, before.get(key), after.get(key))
            one_sided = delta.old is None or delta.new is None
            if one_sided and (
                _told_by_subject(key, before, after)
                or key == keys.INCOMPLETE
                or keys.INCOMPLETE in (before if delta.old is None else after)
            ):
                continue
            yield delta


def _unlike(key: str, before: dict[str, Fact], after: dict[str, Fact]) -> bool:
    old, new = before.get(key), after.get(key)
    return old is None or new is None or old.value != new.value


def _told_by_subject(key: str, before: dict[str, Fact], after: dict[str, Fact]) -> bool:
    """Whether an aspect is one-sided only because its whole subject is."""
    thing = keys.subject(key)
    return thing != key and (thing in before) != (thing in after)


def looseness(kind: Kind) -> int:
    """The less a kind compares, the more."""
    return _LOOSENESS.index(kind)


def looser(old: Fact, new: Fact) -> Kind:
    """How two facts compare: as the one of which less can be said."""
    return max(old.kind, new.kind, key=looseness)


def _moves(capture: Capture, delta: Delta) -> Kind:
    return capture.moving.get(delta.surface, {}).get(delta.key, Kind.VALUE)


def _tells(delta: Delta, hardware: bool, presence: Kind) -> bool:
    if delta.old is not None and delta.new is not None:
        return differs(delta.old, delta.new, hardware=hardware)
    if presence is Kind.VOLATILE:
        return False
    side = delta.new if delta.old is None else delta.old
    derived = presence is Kind.HARDWARE or (side is not None and side.kind is Kind.HARDWARE)
    return hardware or not derived


def close(old: Value, new: Value) -> bool:
    """Whether two derived values are one default: as many numbers, each about as large.

    What the kernel derives from RAM starts from what its own image leaves of it,
    and images differ by some percent.
    """
    if isinstance(old, list) or isinstance(new, list):
        return members(old) == members(new)
    pairs = list(zip(str(old).split(), str(new).split(), strict=False))
    if old == new or len(str(old).split()) != len(str(new).split()):
        return old == new
    return all(_near(one, other) for one, other in pairs)


def _near(one: str, other: str) -> bool:
    if one == other or _OCTAL.fullmatch(one) or _OCTAL.fullmatch(other):
        return one == other
    try:
        low, high = sorted((int(one), int(other)))
    except ValueError:
        return False
    return low == high or (low > _SMALL and high - low <= high * _SHARE)


def differs(old: Fact, new: Fact, *, hardware: bool) -> bool:
    """Whether two facts of one key say different things; ``hardware``: their hardware is equal."""
    if old.value is None or new.value is None:
        return False
    kind = looser(old, new)
    if kind is Kind.VOLATILE or (kind is Kind.HARDWARE and not hardware):
        return False
    if kind is Kind.HARDWARE:
        return not close(old.value, new.value)
    if kind is Kind.MEMBERS:
        return members(old.value) != members(new.value)
    return old.value != new.value
