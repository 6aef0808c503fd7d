"""One fact told whole: where it is seen, what changed when, who is hit, and what is known of it."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec
from tabulate import tabulate

from hostabi.diff import documented, impact, keys
from hostabi.diff.classify import meaning
from hostabi.diff.groups import describe, show
from hostabi.diff.ledger import Ledger
from hostabi.diff.shallow import Shallow
from hostabi.diff.verdict import Verdict, judge
from hostabi.errors import InputError
from hostabi.model import Capture, Class, Fact, Finding
from hostabi.results.reproducers import Measured

_LISTED = 40
"""Facts that a list names."""
_VALUE = 24
"""Characters of a value in a column of its own."""

Name = tuple[str, str]
"""Surface, and subject of a key or a whole key."""


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one capture says of a key; ``fact`` is None where it is not there."""

    build: str
    line: str
    captured: bool
    """Whether the capture has the surface at all."""
    fact: Fact | None = None


class Step(msgspec.Struct, frozen=True):
    """One change from a capture to the next."""

    boundary: str
    key: str
    finding: Finding
    reason: str = ""
    citation: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """All that is known of one subject. ``seen`` is by key, in the order of the captures."""

    surface: str
    subject: str
    seen: dict[str, tuple[Seen, ...]]
    steps: tuple[Step, ...]
    impact: tuple[str, ...]
    evidence: tuple[str, ...]
    documented: tuple[documented.Documented, ...]
    reproducers: tuple[Measured, ...] = ()
    """What programs that show it exited with, where that was measured."""


@dataclasses.dataclass(frozen=True)
class Library:
    """Captures to look facts up in, oldest build first."""

    captures: tuple[Shallow, ...]

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """All that any of them holds."""
        return tuple(sorted(frozenset[str]().union(*(one.surfaces for one in self.captures))))

    def find(self, what: str) -> list[Name]:
        """What ``what`` may mean: a fact exactly, else those that begin with it, or have it inside.

        It is a key or a subject, with its surface before it or without.
        Raises InputError when nothing has such a name.
        """
        surface, colon, key = what.partition(":")
        where = (surface,) if colon and surface in self.surfaces else self.surfaces
        key = key if colon and surface in self.surfaces else what
        found = [(name, fact) for name in where for fact in self._keys(name, key)]
        exact = [(name, key) for name, fact in found if fact == key or keys.subject(fact) == key]
        if exact:
            return list(dict.fromkeys(exact))
        subjects = list(dict.fromkeys((name, keys.subject(fact)) for name, fact in found))
        begins = [(name, thing) for name, thing in subjects if thing.startswith(key)]
        if not subjects:
            raise InputError(
                f"no fact in these captures is called {what!r}",
                advice=f"a key, its beginning or a part of it, after one of: "
                f"{', '.join(self.surfaces)} and a colon",
            )
        return begins or subjects

    def explain(self, name: Name, ledger: Ledger | None = None) -> Explanation:
        """Everything about one of what :meth:`find` gives."""
        surface, key = name
        thing = keys.subject(key)
        dependence = impact.shipped().on(surface, key)
        wanted = {thing, *dependence.superseded_by}
        small = [one.only(surface, wanted) for one in self.captures]
        facts = [
            {fact.key: fact for fact in one.surfaces.get(surface, []) if _is_about(fact.key, key)}
            for one in small
        ]
        names = sorted({fact for table in facts for fact in table}, key=_subject_first)
        verdicts = [judge(old, new, ledger=ledger) for old, new in itertools.pairwise(small)]
        return Explanation(
            surface=surface,
            subject=key,
            seen={
                fact: tuple(
                    Seen(
                        one.build, one.line, _looked(whole, surface, fact in table), table.get(fact)
                    )
                    for one, whole, table in zip(self.captures, small, facts, strict=True)
                )
                for fact in names
            },
            steps=tuple(_steps(verdicts, key)),
            impact=dependence.who,
            evidence=dependence.evidence,
            documented=documented.about(documented.shipped(), surface, key),
        )

    def _keys(self, surface: str, text: str) -> list[str]:
        """Keys of a surface that have ``text`` in them, in any capture."""
        found: dict[str, None] = {}
        for one in self.captures:
            if one.mentions(surface, text):
                found.update((fact.key, None) for fact in one.facts(surface) if text in fact.key)
        return list(found)


def text(told: Explanation, width: int = 100) -> str:
    """An explanation for a terminal."""
    table = _seen_table(told, width)
    parts = [f"{told.surface}:{told.subject}", "", table, ""]
    parts += [f"{_since(seen)}" for _, seen in itertools.islice(told.seen.items(), 1)]
    for step in told.steps:
        finding = step.finding
        parts += ["", f"{step.boundary}  {finding.grade}: {_aspect(step.key)}{describe(finding)}"]
        parts.append(f"  {finding.rule}: {meaning(finding.rule)}")
        if step.reason:
            parts += [f"  known: {step.reason}", f"  see {step.citation}"]
        elif finding.grade is Class.BREAK:
            parts.append("  open: the ledger does not expect it")
    if told.impact:
        parts += ["", "who depends on it", *(f"  {who}" for who in told.impact)]
        parts += [f"  see {source}" for source in told.evidence]
    for entry in told.documented:
        parts += ["", f"documented break {entry.id}: {entry.summary}"]
        parts += [f"  changed in {entry.changed}", *(f"  hit {who}" for who in entry.hits)]
        parts += [f"  see {source}" for source in entry.sources]
    parts += [line for each in told.reproducers for line in _reproduced(each)]
    told_apart = [line if line == table else "\n".join(_wrapped(line, width)) for line in parts]
    return "\n".join(told_apart) + "\n"


def _reproduced(each: Measured) -> list[str]:
    """A program's exits, by what it exits with."""
    by_code = {
        code: [build for build, got in each.exits.items() if got == code]
        for code in sorted(set(each.exits.values()))
    }
    exits = "; ".join(f"{code} on {', '.join(builds)}" for code, builds in by_code.items())
    lines = ["", f"{_aspect(each.key)}reproducer for {each.value}: exits {exits}"]
    lines += [f"  see {each.file}"] if each.file else []
    if each.disagreeing:
        lines.append(f"  which the captures of {', '.join(each.disagreeing)} do not say")
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    """A line of prose within the terminal; an address stays whole."""
    return textwrap.wrap(
        line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    ) or [""]


def listing(library: Library, names: Sequence[Name], *, every: bool = False) -> str:
    """Several facts, one a line, with their value in each capture."""
    shown = names if every else names[:_LISTED]
    tables = {
        surface: [{fact.key: fact for fact in one.facts(surface)} for one in library.captures]
        for surface in {surface for surface, _ in shown}
    }
    rows = [
        [f"{surface}:{thing}", *(_short(table.get(thing)) for table in tables[surface])]
        for surface, thing in shown
    ]
    headers = ["fact", *(one.line for one in library.captures)]
    lines = [tabulate(rows, headers=headers, disable_numparse=True)]
    if len(names) > len(shown):
        lines.append(f"... and {len(names) - len(shown)} more (--all)")
    return "\n".join(lines) + "\n"


def _looked(capture: Capture, surface: str, found: bool) -> bool:
    """Whether a key that is not found is not there, or was not looked for."""
    facts = capture.surfaces.get(surface)
    if facts is None:
        return False
    return found or all(fact.key != keys.INCOMPLETE for fact in facts)


def _is_about(key: str, wanted: str) -> bool:
    """Whether ``key`` is ``wanted``, or says something about it where that is a subject."""
    return key == wanted or keys.subject(key) == wanted


def is_about(told: Explanation, each: Measured) -> bool:
    """Whether a reproducer shows something of what is explained."""
    return each.surface == told.surface and _is_about(each.key, told.subject)


def _subject_first(key: str) -> tuple[bool, str]:
    return "#" in key, key


def _steps(verdicts: Iterable[Verdict], key: str) -> Iterable[Step]:
    for verdict in verdicts:
        for finding in verdict.findings:
            if _is_about(finding.delta.key, key):
                entry = verdict.entry(finding)
                yield Step(
                    verdict.label,
                    finding.delta.key,
                    finding,
                    entry.reason if entry else "",
                    entry.citation if entry else "",
                )


def _aspect(key: str) -> str:
    aspect = key.partition("#")[2]
    return f"#{aspect} " if aspect else ""


def _seen_table(told: Explanation, width: int) -> str:
    """Keys down, captures across; the other way round where that does not fit."""
    first = next(iter(told.seen.values()), ())
    builds = [seen.line if _unique(first) else seen.build for seen in first]
    how = {key: _witness(seen) for key, seen in told.seen.items()}
    rows = [
        [_aspect(key).strip() or "(itself)", *(_value(one) for one in seen), how[key]]
        for key, seen in told.seen.items()
    ]
    across = tabulate(rows, headers=["", *builds, "known by"], disable_numparse=True)
    if max(map(len, across.splitlines())) <= width:
        return across
    columns = list(zip(*[row[:-1] for row in rows], strict=True))
    down = [[build, *column] for build, column in zip(builds, columns[1:], strict=True)]
    room = max((width - 20) // len(rows), 12)
    return tabulate(
        down,
        headers=["build", *columns[0]],
        disable_numparse=True,
        maxcolwidths=[16, *[room] * len(rows)],
    )


def _unique(seen: Sequence[Seen]) -> bool:
    return len({one.line for one in seen}) == len(seen)


def _witness(seen: Sequence[Seen]) -> str:
    told = dict.fromkeys(
        f"{one.fact.how or 'reading'} ({one.fact.certainty})" for one in seen if one.fact
    )
    return ", ".join(told)


def _value(seen: Seen) -> str:
    if not seen.captured:
        return "?"
    return _short(seen.fact)


def _short(fact: Fact | None) -> str:
    return "-" if fact is None else show(fact.value, _VALUE)


def _since(seen: Sequence[Seen]) -> str:
    """How long each value lasted among these kernels: ``ok from 6.1 to 6.12; gone since 6.18``."""
    known = [one for one in seen if one.captured]
    runs = [list(run) for _, run in itertools.groupby(known, key=_state)]
    told = []
    for run in runs:
        first, last = run[0].line, run[-1].line
        value = "not there" if run[0].fact is None else show(run[0].fact.value)
        span = f"in {first}" if first == last else f"from {first} to {last}"
        told.append(f"{value} {f'since {first}' if run is runs[-1] and len(runs) > 1 else span}")
    return "; ".join(told)


def _state(seen: Seen) -> tuple[bool, str]:
    return seen.fact is not None, str(seen.fact.value) if seen.fact else ""
