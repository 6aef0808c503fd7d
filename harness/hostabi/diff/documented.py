"""Breaks that people met and wrote about, and where captures and their diff must show them.

    [[break]]
    id = "udplite-removed"
    summary = "UDP-Lite was removed: socket(2) with IPPROTO_UDPLITE fails"
    changed = "7.1"
    hits = ["workload: CRIU checkpoint"]
    sources = ["https://github.com/checkpoint-restore/criu/issues/3002"]

    [[break.expect]]
    surface = "sockets"
    key = "inet.dgram.udplite"
    boundary = "6.18 -> 7.2"
    grade = "break"

What is one way on every kernel here is ``silent`` with its value; what no kernel
here can show says why in ``unseen``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.diff import keys
from hostabi.diff.data import read_toml
from hostabi.errors import InputError
from hostabi.model import Class, Value


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding that the diff of two lines must have."""

    surface: str
    key: str
    boundary: str
    """``OLD -> NEW``, each a line."""
    grade: Class


class Silent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fact that must be there, and the same on every kernel."""

    surface: str
    key: str
    value: Value


class Documented(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One break, in the words of those whom it hit."""

    id: str
    summary: str
    changed: str
    """The kernel version that brought it, as the sources say."""
    hits: tuple[str, ...]
    sources: tuple[str, ...]
    expect: tuple[Expected, ...] = ()
    silent: tuple[Silent, ...] = ()
    unseen: str = ""
    """Why no kernel here shows it, or not all of it."""

    def facts(self) -> Iterator[tuple[str, str]]:
        """Surface and key of every fact that it is about."""
        for one in self.expect:
            yield one.surface, one.key
        for other in self.silent:
            yield other.surface, other.key


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entries: tuple[Documented, ...] = msgspec.field(name="break")


def read_documented(path: Path) -> tuple[Documented, ...]:
    """All entries of a file. Raises InputError, naming file and entry, for one of bad form."""
    content = read_toml(
        path,
        _File,
        what="list of documented breaks",
        advice="see the head of hostabi/diff/documented.py for its form",
    )
    seen: set[str] = set()
    for entry in content.entries:
        problems = list(_problems(entry))
        if entry.id in seen:
            problems.append("is there twice")
        if problems:
            raise InputError(f"{path}: {entry.id}: {'; '.join(problems)}")
        seen.add(entry.id)
    return content.entries


@functools.cache
def shipped() -> tuple[Documented, ...]:
    """The breaks that travel with the suites."""
    return read_documented(resources.suites() / "surfaces" / "known_breaks.toml")


def about(entries: tuple[Documented, ...], surface: str, key: str) -> tuple[Documented, ...]:
    """The breaks that speak of the subject of ``key``."""
    thing = keys.subject(key)
    return tuple(
        entry
        for entry in entries
        if any(where == surface and keys.subject(what) == thing for where, what in entry.facts())
    )


def _problems(entry: Documented) -> Iterator[str]:
    if not entry.sources or not all(source.startswith("https://") for source in entry.sources):
        yield "sources must be addresses"
    if not (entry.expect or entry.silent or entry.unseen):
        yield "says neither what is expected nor why nothing can be seen"
    for one in entry.expect:
        old, arrow, new = one.boundary.partition(" -> ")
        if not (old and arrow and new):
            yield f"boundary {one.boundary!r} is not of the form 'OLD -> NEW'"
