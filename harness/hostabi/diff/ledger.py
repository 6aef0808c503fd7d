"""The ledger: expected deltas, each reviewed, with a reason and a citation.

    [[cause]]
    boundary = "6.1 -> 6.12"            # lines or builds, on either side
    reason = "removed with the EEVDF scheduler"
    citation = "commit 0123456789ab (\\"sched: ...\\")"
    surface = "sysctls"                 # of each fact that names no other
    facts = [
      { key = "kernel.sched_child_runs_first", old = "file" },   # a side left out: not there
      { surface = "config", key = "CONFIG_SCHED_DEBUG", old = "y", new = "n" },
    ]

Each fact is pinned by name, by both its values and by the boundary. There are no
patterns: what changes once more has to be looked at once more.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.diff import keys
from hostabi.diff.compare import members
from hostabi.diff.data import read_toml
from hostabi.errors import InputError
from hostabi.model import Capture, Delta, Fact, Kind, Value

_CITATION = re.compile(
    r"commit [0-9a-f]{12,40} \(\"[^\"]+\"\)"  # upstream, findable by hash and by subject
    r"|https://\S+"
    r"|Documentation/[\w./-]+"  # a document of the kernel's own tree
    r"|[a-z0-9.+-]+ changelog, [^,]+"  # a distribution's changelog, at a version
    r"|\S+/\S+ \S+ at [0-9a-f]{7,40}"  # a file of a repository at a commit
)
_BOUNDARY = re.compile(r"(\S+) -> (\S+)")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One expected delta, and what caused it."""

    surface: str
    key: str
    boundary: str
    """``OLD -> NEW``, each a line (``6.1``) or a build's name (``6.1.192-2``)."""
    reason: str
    citation: str
    old: Value = None
    new: Value = None

    @property
    def sides(self) -> tuple[str, str]:
        """The two ends of the boundary."""
        match = _BOUNDARY.fullmatch(self.boundary)
        return (match[1], match[2]) if match else ("", "")


class _Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    old: Value = None
    new: Value = None
    surface: str = ""


class _Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one change of the kernel did to one or more facts."""

    boundary: str
    reason: str
    citation: str
    facts: tuple[_Expected, ...]
    surface: str = ""

    def entries(self) -> Iterable[Entry]:
        """One for each fact."""
        for fact in self.facts:
            yield Entry(
                surface=fact.surface or self.surface,
                key=fact.key,
                boundary=self.boundary,
                reason=self.reason,
                citation=self.citation,
                old=fact.old,
                new=fact.new,
            )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cause: tuple[_Cause, ...] = ()


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Entries of one or more files."""

    entries: tuple[Entry, ...] = ()

    @functools.cached_property
    def _by_fact(self) -> dict[tuple[str, str], tuple[Entry, ...]]:
        table: dict[tuple[str, str], tuple[Entry, ...]] = {}
        for entry in self.entries:
            where = (entry.surface, entry.key)
            table[where] = (*table.get(where, ()), entry)
        return table

    def with_own(self, paths: Iterable[Path]) -> Ledger:
        """These entries and those of a user's own files. Raises InputError as reading does."""
        return Ledger(self.entries + read_ledger(paths).entries)

    def entry_for(self, delta: Delta, old: Capture, new: Capture) -> Entry | None:
        """The entry that expects exactly this delta at exactly this boundary."""
        for entry in self._by_fact.get((delta.surface, delta.key), ()):
            if (
                _at_boundary(entry, old, new)
                and _same(delta.old, entry.old)
                and _same(delta.new, entry.new)
            ):
                return entry
        return None

    def stale(self, deltas: Sequence[Delta], old: Capture, new: Capture) -> list[Entry]:
        """Entries for this boundary that no delta matches any more.

        Of a surface that a side does not know whole, none is told.
        """
        seen = {id(self.entry_for(delta, old, new)) for delta in deltas}
        whole = _whole(old) & _whole(new)
        return [
            entry
            for entry in self.entries
            if _at_boundary(entry, old, new) and entry.surface in whole and id(entry) not in seen
        ]


def read_ledger(paths: Iterable[Path]) -> Ledger:
    """Read ledger files; a folder stands for the ``*.toml`` in it.

    Raises InputError, naming file and entry, for anything that is not of this form.
    """
    entries: list[Entry] = []
    for path in paths:
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        for file in files:
            entries += _read(file)
    return Ledger(tuple(entries))


@functools.cache
def shipped() -> Ledger:
    """The ledger that travels with hostabi."""
    return read_ledger([resources.kernels() / "ledger"])


def _read(path: Path) -> tuple[Entry, ...]:
    content = read_toml(
        path, _File, what="ledger", advice="see the head of hostabi/diff/ledger.py for its form"
    )
    entries = tuple(entry for cause in content.cause for entry in cause.entries())
    for entry in entries:
        problems = list(_problems(entry))
        if problems:
            raise InputError(f"{path}: entry for {entry.key!r}: {'; '.join(problems)}")
    return entries


def citable(citation: str) -> bool:
    """Whether a citation is one that can be looked up: a commit with its subject, a document."""
    return _CITATION.fullmatch(citation) is not None


def _problems(entry: Entry) -> Iterable[str]:
    if not _BOUNDARY.fullmatch(entry.boundary):
        yield f"boundary {entry.boundary!r} is not of the form 'OLD -> NEW'"
    if not entry.surface:
        yield "no surface is named, neither with the fact nor with its cause"
    if "*" in entry.key:
        yield "a pattern as key: name the fact itself"
    if entry.old == entry.new:
        yield "old and new are the same"
    if len(entry.reason) < 15:
        yield "the reason is too short to tell anything"
    if not citable(entry.citation):
        yield f"citation {entry.citation!r} cannot be looked up (commit with subject, address, ...)"


def _at_boundary(entry: Entry, old: Capture, new: Capture) -> bool:
    before, after = entry.sides
    return before in (old.line, old.build) and after in (new.line, new.build)


def _whole(capture: Capture) -> set[str]:
    """The capture's surfaces, without those that say that facts are missing."""
    return {
        name
        for name, facts in capture.surfaces.items()
        if all(fact.key != keys.INCOMPLETE for fact in facts)
    }


def _same(fact: Fact | None, value: Value) -> bool:
    if fact is None:
        return value is None
    if fact.kind is Kind.MEMBERS:
        return value is not None and members(fact.value) == members(value)
    return fact.value == value
