"""Programs made of descriptions: hypothesis strategies, and what makes a program of bytes.

A program is one short record of bytes for each call: a record that is left out leaves the
others valid, and a byte that is made smaller chooses something simpler. hypothesis draws
the number that the records of many programs come from: drawn one by one they cost more
than all else, and it leans to few and to equal ones, so that some calls hardly ever came.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from hypothesis import strategies as st

from hostabi.agent.program import Sandbox
from hostabi.errors import InputError
from hostabi.syscalls.cases import Case, Script
from hostabi.syscalls.descriptions.choices import Choices
from hostabi.syscalls.descriptions.groups import all_descriptions, grouped
from hostabi.syscalls.descriptions.model import Description, Kind
from hostabi.syscalls.descriptions.writer import Writer, makers
from hostabi.syscalls.table import C

RECORD = 24
"""Bytes of choices that a call has; what it needs beyond them is chosen as simple as can be."""
_TIMID = 224
"""The first byte of a record from which on its call is bold: 1 in 8."""
CALLS = 10
_SEED = 16
"""Bytes that programs' records come from: enough that no two are alike."""
_ARENA = 1 << 17
_ROOM = _ARENA // 2
"""Bytes of the arena that are kept free for one call and for what it needs."""


@dataclass(frozen=True)
class Described(Case):
    """A program and the description of each of its calls, in order."""

    descriptions: tuple[Description, ...] = ()

    __repr__ = Case.__repr__


@dataclass(frozen=True)
class Composer:
    """Makes programs of some descriptions, for one sandbox.

    ``descriptions`` are those that may be chosen; what a call needs is made by any
    description that the sandbox allows.
    """

    descriptions: tuple[Description, ...]
    sandbox: Sandbox = Sandbox()

    @classmethod
    def of(cls, groups: Collection[str] = (), sandbox: Sandbox = Sandbox()) -> Composer:
        """All of some groups that the sandbox allows. Raises InputError where there are none."""
        chosen = tuple(each for each in grouped(groups) if allowed(each, sandbox))
        if not chosen:
            raise InputError(
                f"nothing of {', '.join(groups)} may be done in this sandbox",
                advice="give it more namespaces",
            )
        return cls(chosen, sandbox)

    @cached_property
    def makers(self) -> dict[Kind, list[Description]]:
        """What makes each kind."""
        return makers(each for each in all_descriptions() if allowed(each, self.sandbox))

    @cached_property
    def users(self) -> dict[Kind, list[Description]]:
        """What may be chosen that takes a kind."""
        found: dict[Kind, list[Description]] = {}
        for each in self._chosen:
            for kind in each.takes:
                found.setdefault(kind, []).append(each)
        return found

    def compose(
        self, records: Sequence[bytes], calls: int = CALLS, last: Description | None = None
    ) -> Described:
        """A program of about ``calls`` calls: a record chooses one, and how it is made.

        What a call needs and is not at hand comes before it, and counts as well. ``last``
        is added at the end, with nothing odd about it.
        """
        script = Script(arena=_ARENA)
        own = bool(self.sandbox.namespaces & C.CLONE_NEWPID)
        writer = Writer(script, self.makers, pids=own)
        for record in records:
            if len(script) >= calls or script.free < _ROOM:
                break
            choices = Choices(record[1:], bold=record[0] >= _TIMID)
            writer.add(self._next(writer, choices), choices)
        if last is not None:
            writer.add(last, Choices(records[-1] if records else b"", tame=True))
        return Described(script.build(), sandbox=self.sandbox, descriptions=tuple(writer.written))

    def _next(self, writer: Writer, choices: Choices) -> Description:
        """One that takes what is at hand, in most cases; else any."""
        if choices.byte() < 160:
            hand = [kind for kind, held in reversed(writer.held.items()) if held]
            kinds = [kind for kind in hand if kind in self.users]
            if kinds:
                return choices.one(self.users[choices.one(kinds)])
        return self._chosen[(choices.byte() << 8 | choices.byte()) * len(self._chosen) >> 16]

    @cached_property
    def _chosen(self) -> tuple[Description, ...]:
        return tuple(each for each in self.descriptions if not each.last)


def allowed(description: Description, sandbox: Sandbox) -> bool:
    """Whether a description may be tried there: all namespaces that it has to own are fresh."""
    return description.fresh & ~sandbox.namespaces == 0


def records(seed: bytes, calls: int = CALLS) -> list[bytes]:
    """The choices of ``calls`` calls; each byte is as likely as any other."""
    raw = random.Random(seed).randbytes(RECORD * calls)  # noqa: S311 - not a secret
    return [raw[at : at + RECORD] for at in range(0, len(raw), RECORD)]


def programs(
    groups: Collection[str] = (),
    *,
    calls: int = CALLS,
    together: int = 32,
    sandbox: Sandbox = Sandbox(),
) -> st.SearchStrategy[list[Described]]:
    """``together`` programs of about ``calls`` calls of some groups (all where none is named).

    They run in ``sandbox``; what it does not keep to itself is not done.
    """
    composer = Composer.of(groups, sandbox)

    def made(seed: bytes) -> list[Described]:
        every = records(seed, calls * together)
        return [
            composer.compose(every[at : at + calls], calls) for at in range(0, len(every), calls)
        ]

    return st.binary(min_size=_SEED, max_size=_SEED).map(made)
