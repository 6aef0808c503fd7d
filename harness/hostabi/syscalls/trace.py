"""What a program did on one kernel, read back by call and by slot."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

from hostabi.agent.program import BEGUN, UNMADE, End, Ran
from hostabi.errors import SandboxError
from hostabi.syscalls import state, table, types
from hostabi.syscalls.builder import Built, Ref, Slot
from hostabi.syscalls.table import C


@dataclass(frozen=True, slots=True)
class Trace:
    """A built program and how it ran."""

    built: Built
    ran: Ran

    def __getitem__(self, ref: Ref) -> int:
        """What the call returned; -errno for an error.

        Raises AssertionError when the program did not get that far.
        """
        if ref.call >= len(self.ran.values) or self.ran.values[ref.call] == UNMADE:
            raise AssertionError(f"call {ref.call} was not reached\n{self}")
        return self.ran.values[ref.call]

    def bytes(self, ref: Ref, slot: Slot) -> bytes:
        """The bytes of ``slot`` right after the call; the slot must be in the call's ``out``."""
        for output, raw in zip(self.built.program.outputs, self.ran.outputs, strict=False):
            if (output.call, output.offset, output.length) == (ref.call, slot.offset, slot.size):
                return raw
        raise AssertionError(f"no output of call {ref.call} at {slot.offset}\n{self}")

    def struct(self, ref: Ref, slot: Slot) -> types.Struct:
        """The struct in ``slot`` right after the call."""
        return types.decode(slot.type, self.bytes(ref, slot))

    def number(self, ref: Ref, slot: Slot) -> int:
        """The little-endian unsigned number in ``slot`` right after the call."""
        return int.from_bytes(self.bytes(ref, slot), "little")

    @property
    def finished(self) -> bool:
        """Whether the first process made every call and left by itself.

        Other roles may be killed half way; who asks for what they returned is told.
        """
        made = chain(self.ran.values, repeat(UNMADE))
        steps = zip(self.built.steps, made, strict=False)
        done = all(value != UNMADE for step, value in steps if not step.role)
        return done and self.ran.end is End.EXITED and self.ran.code == 0

    def lines(self) -> Iterator[str]:
        """The program as strace would show it, then how it ended."""
        for index, step in enumerate(self.built.steps):
            if index < len(self.ran.values) and self.ran.values[index] != UNMADE:
                yield f"r{index} = {step} = {table.result_name(self.ran.values[index])}"
            else:
                yield f"r{index} = {step} was not reached"
        detail = f" ({self.ran.detail})" if self.ran.detail else ""
        yield f"{self.ran.end} {self.ran.code}{detail}"
        yield from state.lines(self.ran.state)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def ran_at_all(built: Built, ran: Ran) -> Ran:
    """``ran``, of a program that was begun. Raises SandboxError for one that was not."""
    if ran.end is not End.REFUSED:
        return ran
    why = errno.errorcode.get(ran.code, str(ran.code))
    raise SandboxError(
        f"no sandbox for a program: {ran.detail or 'a step'} failed with {why}\n{built}",
        advice="this tells nothing about the kernel's answers; see the guest's memory and limits",
    )


class View(NamedTuple):
    """What must be equal on every kernel; of an opaque value 0 stands for "no error"."""

    end: End
    code: int
    values: tuple[int, ...]
    outputs: tuple[bytes, ...]
    state: bytes = b""


_GIVE_UP = {C.KEYCTL_INVALIDATE, C.KEYCTL_UNLINK, C.KEYCTL_CLEAR, C.KEYCTL_MOVE}
"""The requests after which nothing may hold a key any longer."""
_ON_KEYS = {"keyctl", "request_key"}
_UNORDERED = {"listxattr", "llistxattr", "flistxattr", "listxattrat"}
"""Calls that tell names as a table has them, since Linux 7.1 by a number drawn at random."""


def normalised(built: Built, ran: Ran) -> View:
    """A run without what is the machine's own: opaque values, volatile fields, texts for people."""
    late = _late(built)
    values = tuple(
        0
        if value not in (UNMADE, BEGUN)
        and (index in late or (step.opaque and not -4095 <= value < 0))
        else value
        for index, (step, value) in enumerate(zip(built.steps, ran.values, strict=False))
    )
    outputs = tuple(
        b"" if output.call in late else _told(built.steps[output.call].name, kind, raw)
        for output, kind, raw in zip(built.program.outputs, built.types, ran.outputs, strict=False)
    )
    return View(ran.end, ran.code, values, outputs, ran.state)


def _told(call: str, kind: str, raw: bytes) -> bytes:
    """What a call wrote, without the machine's own and in an order that all kernels have."""
    if kind in types.VOLATILE:
        return types.normalised(kind, raw)
    if call in _UNORDERED:
        return b"\0".join(sorted(raw.rstrip(b"\0").split(b"\0"))).ljust(len(raw), b"\0")
    return raw


def _late(built: Built) -> frozenset[int]:
    """The calls on keys once one was given up: the kernel takes it away some time after that."""
    since = next(
        (
            index
            for index, step in enumerate(built.steps)
            if step.name == "keyctl" and step.values and step.values[0] in _GIVE_UP
        ),
        len(built.steps),
    )
    return frozenset(
        index for index, step in enumerate(built.steps) if index > since and step.name in _ON_KEYS
    )
