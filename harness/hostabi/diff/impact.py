"""Who depends on what, with the evidence: read from kernels/impact.toml.

[sources]
runc-check = "opencontainers/runc script/check-config.sh at 76d9cf5da5"

[[entry]]
surface = "config"
keys = ["CONFIG_OVERLAY_FS"]
who = ["engine: docker"]
needed = true
evidence = ["runc-check"]
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.diff import keys
from hostabi.diff.data import read_toml
from hostabi.errors import InputError

CATEGORIES = ("runtime", "engine", "init system", "libc", "workload")
"""Who can be hit, those on whom most hangs first; each ``who`` starts with one and a colon."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of evidence. ``keys`` are subjects; ``*`` and ``?`` stand for any characters."""

    surface: str | tuple[str, ...]
    """One, or several that know the subjects by the same names."""
    keys: tuple[str, ...]
    who: tuple[str, ...]
    evidence: tuple[str, ...]
    """Names from ``sources``, or addresses."""
    needed: bool = False
    """Losing the switch breaks those in ``who``."""
    gates: bool = False
    """A feature they used without this switch moved behind it."""
    refusal: bool = False
    """They count on its being refused, where it is."""
    superseded_by: tuple[str, ...] = ()
    """Subjects of the same surface that take its place."""

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Every surface it speaks of."""
        return (self.surface,) if isinstance(self.surface, str) else self.surface


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, str] = {}
    entry: tuple[Entry, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dependence:
    """What all entries together say of one fact's subject."""

    who: tuple[str, ...] = ()
    needed: bool = False
    gates: bool = False
    refusal: bool = False
    superseded_by: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


_NOBODY = Dependence()


@dataclasses.dataclass(frozen=True)
class Impact:
    """Entries by the subject they name, and those with wildcards apart."""

    sources: Mapping[str, str]
    exact: Mapping[tuple[str, str], tuple[Entry, ...]]
    wild: tuple[tuple[str, str, Entry], ...]

    def on(self, surface: str, key: str) -> Dependence:
        """Who depends on the subject of ``key``; nobody known is an empty record."""
        thing = keys.subject(key)
        found = list(self.exact.get((surface, thing), ()))
        found += [
            entry
            for where, pattern, entry in self.wild
            if where == surface and fnmatch.fnmatchcase(thing, pattern)
        ]
        if not found:
            return _NOBODY
        return Dependence(
            who=tuple(sorted(_joined(entry.who for entry in found), key=category)),
            needed=any(entry.needed for entry in found),
            gates=any(entry.gates for entry in found),
            refusal=any(entry.refusal for entry in found),
            superseded_by=_joined(entry.superseded_by for entry in found),
            evidence=tuple(
                self.sources.get(name, name) for name in _joined(entry.evidence for entry in found)
            ),
        )


def category(who: str) -> int:
    """The rank of somebody who is hit: 0 for a runtime, on which most hangs."""
    return CATEGORIES.index(who.partition(":")[0])


def read_impact(path: Path) -> Impact:
    """Read one file of evidence.

    Raises InputError, naming the file, for anything that is not of this form.
    """
    content = read_toml(
        path,
        _File,
        what="file of evidence",
        advice="see the head of hostabi/diff/impact.py for its form",
    )
    exact: dict[tuple[str, str], tuple[Entry, ...]] = {}
    wild: list[tuple[str, str, Entry]] = []
    for entry in content.entry:
        _check(path, entry, content.sources)
        for surface, key in itertools.product(entry.surfaces, entry.keys):
            if "*" in key or "?" in key:
                wild.append((surface, key, entry))
            else:
                exact[surface, key] = (*exact.get((surface, key), ()), entry)
    return Impact(content.sources, exact, tuple(wild))


@functools.cache
def shipped() -> Impact:
    """The evidence that travels with hostabi."""
    return read_impact(resources.kernels() / "impact.toml")


NONE = Impact({}, {}, ())
"""No evidence at all."""


def _check(path: Path, entry: Entry, sources: Mapping[str, str]) -> None:
    problems = [
        f"{who!r} does not start with one of: {', '.join(CATEGORIES)}"
        for who in entry.who
        if who.partition(":")[0] not in CATEGORIES
    ]
    problems += [
        f"evidence {name!r} is neither in [sources] nor an address"
        for name in entry.evidence
        if name not in sources and not name.startswith("https://")
    ]
    for field in ("keys", "who", "evidence"):
        if not getattr(entry, field):
            problems.append(f"{field} is empty")
    if problems:
        raise InputError(f"{path}: entry for {', '.join(entry.keys)}: {'; '.join(problems)}")


def _joined(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All names in their first order, each once."""
    return tuple(dict.fromkeys(name for part in parts for name in part))
