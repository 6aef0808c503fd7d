"""Errnos by rules that all calls share: what a call says to an argument that cannot be right.

Derived from :mod:`hostabi.syscalls.descriptions`: each call is made as its description says,
but for one argument.

``CALL#fd:NAME`` gives a descriptor that is not open, ``CALL#pointer:NAME`` an address where
nothing is, ``CALL#flags:NAME`` a bit that no header names (``NAME.FIELD`` in a struct,
``:high`` for one above the lower 32).
``CALL#size:NAME:small`` gives fewer bytes of an extensible struct than any version has,
``:zeros`` more than the newest, which are zero, ``:tail`` more, which are not.
``CALL#privilege`` is the call as its description says, of what takes a capability.
Requests of a multiplexer are calls of their own: ``fcntl.F_GETLK#pointer:arg``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache

import msgspec

from hostabi.agent.program import Sandbox
from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.descriptions.arguments import Flags, just
from hostabi.syscalls.descriptions.groups import all_descriptions
from hostabi.syscalls.descriptions.memory import Struct
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, Role
from hostabi.syscalls.descriptions.programs import allowed
from hostabi.syscalls.descriptions.writer import Writer, makers
from hostabi.syscalls.table import C

NOT_OPEN = 999
"""A descriptor that a program does not have."""
NOWHERE = 8
"""An address of the first page, where nothing is ever mapped: mmap_min_addr."""
_SMALL = 4
"""Bytes that no extensible struct ever made do with."""
_MORE = 8
_ARENA = 1 << 17
_RACING = frozenset(("wait4", "waitid"))
"""What these say depends on whether a child has ended yet."""


def probes() -> Iterator[Probe]:
    """Every argument of every call that a rule speaks of."""
    for name, description in subjects().items():
        yield from _Rules(description).asked(name)
        yield from _apart(name, description)


def privileged() -> Iterator[Probe]:
    """Calls that take a capability, as they are meant to be made.

    Those that need first what another one of them makes tell of that one alone.
    """
    for name, description in subjects().items():
        if description.privilege and not _needs_privileged(description):
            rules = _Rules(description)
            values = rules.writer.arguments(description)
            rules.told(f"{name}#privilege", *values)
            yield from rules.probes()


@cache
def subjects() -> dict[str, Description]:
    """What is asked about: a call once, and each request of a multiplexer."""
    found: dict[str, Description] = {}
    for each in all_descriptions():
        request = each.form if each.form.upper() == each.form else ""
        name = f"{each.call}.{request}" if request else each.call
        if not each.last and each.call not in _RACING:
            found.setdefault(name, each)
    return found


class _Rules(Questions):
    """One call, with one argument after the other that cannot be right."""

    def __init__(self, description: Description) -> None:
        super().__init__(namespaces=description.fresh, arena=_ARENA)
        self._before: list[Ref] = []
        self.writer = Writer(self, _makers(description.fresh), make=self._prepare)
        self._description = description
        self._call = description.call

    def told(self, key: str, *values: Value) -> None:
        """Make the call. Where what it needs cannot be had there is nothing to tell."""
        self.ask(key, self._call, *values, given=self._before, opaque=True)

    def _prepare(
        self, name: str, *values: Value, out: Sequence[Slot] = (), opaque: bool = False
    ) -> Ref:
        self._before.append(self.call(name, *values, out=out, opaque=opaque))
        return self._before[-1]

    def asked(self, name: str) -> tuple[Probe, ...]:
        """What has to be refused, all in one program."""
        values = self.writer.arguments(self._description)
        self._fill()
        for index, register in enumerate(self._description.registers):
            role, key = register.role, f"{name}#{_ASPECTS.get(register.role, '')}:{register.name}"
            if role in (Role.DESCRIPTOR, Role.FOLDER):
                self._with(key, values, index, NOT_OPEN)
            elif role is Role.POINTER:
                self._with(key, values, index, NOWHERE)
            elif role is Role.FLAGS and register.unknown:
                plain = values[index]
                assert isinstance(plain, int)
                for word, bit in _strange(register.unknown):
                    self._with(f"{key}{word}", values, index, plain | bit)
        for argument in self._description.arguments:
            if isinstance(argument, Struct):
                self._fields(name, argument)
        for at, struct in _extensible(self._description):
            self._sizes(f"{name}#size:{struct.name}", at, struct)
        return self.probes()

    def pointer(self, key: str, at: int) -> tuple[Probe, ...]:
        """An address where nothing is, of what may be NULL."""
        values = self.writer.arguments(self._description)
        self._fill()
        self._with(key, values, at, NOWHERE)
        return self.probes()

    def larger(self, key: str, at: int) -> tuple[Probe, ...]:
        """A struct that is larger than any kernel's, and ends in zeros."""
        self._longer(key, at, 0)
        return self.probes()

    def _fill(self) -> None:
        """Have something to read in files and sockets: who reads nothing writes nowhere."""
        for kind in (Kind.FILE, Kind.PAIRED):
            for held in self.writer.held.get(kind, ()):
                self.call("write", held.value, self.content(b"something"), 9)
                if kind is Kind.FILE:
                    self.call("lseek", held.value, 0, C.SEEK_SET)

    def _with(self, key: str, values: tuple[Value, ...], index: int, value: Value) -> None:
        self.told(key, *values[:index], value, *values[index + 1 :])

    def _fields(self, name: str, struct: Struct) -> None:
        """Bits that nobody knows in fields of a struct."""
        for index, (field, value) in enumerate(struct.fields):
            if not isinstance(value, Flags) or value.ignored:
                continue
            for word, bit in _strange(value.unknown):
                odd = just(field, value.usual[0] | bit)
                fields = (*struct.fields[:index], (field, odd), *struct.fields[index + 1 :])
                other = dataclasses.replace(struct, fields=fields)
                values = self.writer.arguments(self._instead(struct, other))
                key = f"{name}#flags:{struct.name}.{field}{word}"
                self.told(key, *values)

    def _instead(self, old: Argument, new: Argument) -> Description:
        arguments = tuple(new if each is old else each for each in self._description.arguments)
        return dataclasses.replace(self._description, arguments=arguments)

    def _sizes(self, key: str, at: int, struct: Struct) -> None:
        """Less and more of a struct at register ``at``, whose size is in the next one."""
        if not struct.partial:
            values = self.writer.arguments(self._description)
            self._with(f"{key}:small", values, at + 1, _SMALL)
        self._longer(f"{key}:tail", at, 0x80)

    def _longer(self, key: str, at: int, filled: int) -> None:
        values = self.writer.arguments(self._description)
        slot = values[at]
        assert isinstance(slot, Slot)
        # what is laid out next lies right behind it, but for what aligns it
        rest = self.content(bytes((filled,)) * _MORE)
        self._with(key, values, at + 1, rest.offset + _MORE - slot.offset)


_ASPECTS = {
    Role.DESCRIPTOR: "fd",
    Role.FOLDER: "fd",
    Role.POINTER: "pointer",
    Role.OPTIONAL: "pointer",
    Role.FLAGS: "flags",
}


def _apart(name: str, description: Description) -> Iterator[Probe]:
    """What may work, each in a program of its own.

    It would leave something to other questions, and they to it: a message taken, a map frozen.
    """
    for at, register in enumerate(description.registers):
        if register.role is Role.OPTIONAL:
            yield from _Rules(description).pointer(f"{name}#pointer:{register.name}", at)
    for at, struct in _extensible(description):
        yield from _Rules(description).larger(f"{name}#size:{struct.name}:zeros", at)


def _extensible(description: Description) -> Iterator[tuple[int, Struct]]:
    """Extensible structs, each with the number of the register that has its address."""
    at = 0
    for argument in description.arguments:
        if isinstance(argument, Struct) and argument.extensible:
            yield at, argument
        at += len(argument.registers)


def _strange(unknown: int) -> Iterator[tuple[str, int]]:
    """The highest of those bits that is no number's sign, of either half of the word."""
    for word, first, end in (("", 0, 31), (":high", 32, 63)):
        bits = [1 << bit for bit in range(first, end) if unknown >> bit & 1]
        if bits:
            yield word, bits[-1]


def _needs_privileged(description: Description) -> bool:
    known = _makers(description.fresh)
    usual = (known[argument.takes[0]] for argument in description.arguments if argument.takes)
    return any(each[0].privilege for each in usual)


@cache
def _makers(fresh: int) -> dict[Kind, list[Description]]:
    box = Sandbox(namespaces=fresh)
    return makers(each for each in all_descriptions() if allowed(each, box))


class _Table(ProbeSurface):
    """Errnos, of calls that are there."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        return determined(super().capture(source))


def determined(facts: list[Fact]) -> list[Fact]:
    """That a call is not there is told once: its arguments say no more about it."""
    absent: set[str] = set()

    def told(fact: Fact) -> Fact:
        subject = keys.subject(fact.key)
        if fact.value != "ENOSYS":
            return fact
        if subject not in absent:
            absent.add(subject)
            return fact
        return msgspec.structs.replace(fact, value=None)

    return [told(fact) for fact in facts]


SURFACE = Joined(
    "errnos",
    (_Table("errnos", probes, (HOST,)), ProbeSurface("errnos", privileged)),
)
