"""Test cases: a program, what must be true of its trace, and what kernel features it needs.

One hypothesis example is a batch of cases (:func:`batches`), because a message
to an agent costs more than a program in it; a failing batch shrinks to the one
case that fails. The same cases run on one kernel (:func:`hold`) and, through
:mod:`hostabi.runs.lockstep`, on many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, TypeVar

from hypothesis import strategies as st

from hostabi.agent.program import Program, Ran, Sandbox, Scratch
from hostabi.syscalls import budget, counting
from hostabi.syscalls.builder import ARENA, Builder, Built, Ref, Role, Slot, Value
from hostabi.syscalls.table import result_name
from hostabi.syscalls.trace import Trace, ran_at_all

BATCH = 16
"""Cases in an average batch."""

Check = Callable[[Trace], None]
"""Raises AssertionError when a trace breaks the property."""

T = TypeVar("T")


class Runner(Protocol):
    """The part of an agent that runs programs."""

    def run(self, programs: Sequence[Program], sandbox: Sandbox = ...) -> list[Ran]:
        """Run each program in a child of its own; one answer for each, in order."""


SCRATCH: ContextVar[Scratch] = ContextVar("scratch", default=Scratch.TMPFS)
"""The file system that programs work on, unless their sandbox names another."""


def plain_sandbox() -> Sandbox:
    """A bare child that works on :data:`SCRATCH`."""
    return Sandbox(scratch=SCRATCH.get())


@dataclass(frozen=True)
class Case:
    """A program and its property. ``needs`` are features (see :mod:`.probes`) it relies on."""

    built: Built
    checks: tuple[Check, ...] = ()
    needs: frozenset[str] = frozenset()
    sandbox: Sandbox = field(default_factory=plain_sandbox)

    def check(self, trace: Trace) -> None:
        """Hold the trace against the property.

        Raises AssertionError, with the whole trace as a note, when it does not hold.
        """
        try:
            for check in self.checks:
                check(trace)
            assert trace.finished, f"ended as {trace.ran.end} {trace.ran.code}"
        except AssertionError as error:
            error.add_note(str(trace))
            raise budget.failed(error, len(self.built.steps)) from None

    def __repr__(self) -> str:
        return f"\n{self.built}\n"


class Script(Builder):
    """A builder whose calls state what they must return."""

    def __init__(self, *, arena: int = ARENA) -> None:
        super().__init__(arena=arena)
        self._checks: list[Check] = []
        self.needs: set[str] = set()

    def returns(
        self,
        value: int,
        name: str,
        *arguments: Value,
        out: Sequence[Slot] = (),
        opaque: bool = False,
        starts: Role = Role(0),  # noqa: B008
    ) -> Ref:
        """A call that must return exactly ``value``; -errno for one that must fail."""
        ref = self.call(name, *arguments, out=out, opaque=opaque, starts=starts)

        def check(trace: Trace) -> None:
            assert trace[ref] == value, (
                f"r{ref.call} is {result_name(trace[ref])}, must be {result_name(value)}"
            )

        self._checks.append(check)
        return ref

    def works(
        self,
        name: str,
        *arguments: Value,
        out: Sequence[Slot] = (),
        opaque: bool = False,
        starts: Role = Role(0),  # noqa: B008
    ) -> Ref:
        """A call that must not fail, whatever it returns."""
        ref = self.call(name, *arguments, out=out, opaque=opaque, starts=starts)

        def check(trace: Trace) -> None:
            assert trace[ref] >= 0, f"r{ref.call} is {result_name(trace[ref])}, must not fail"

        self._checks.append(check)
        return ref

    def holds(self, ref: Ref, slot: Slot, content: bytes) -> None:
        """The slot must hold ``content`` right after the call."""

        def check(trace: Trace) -> None:
            found = trace.bytes(ref, slot)
            assert found == content, f"r{ref.call} left {first_difference(found, content)}"

        self._checks.append(check)

    def fields(self, ref: Ref, slot: Slot, **values: int) -> None:
        """These fields of the struct in ``slot`` must be so right after the call."""

        def check(trace: Trace) -> None:
            seen = trace.struct(ref, slot)
            for name, value in values.items():
                found = int(getattr(seen, name))
                assert found == value, f"r{ref.call}: {name} is {found}, must be {value}"

        self._checks.append(check)

    def ensure(self, check: Check) -> None:
        """Any other property of the trace."""
        self._checks.append(check)

    def play(self, operations: Iterable[Sequence[object]]) -> None:
        """Do each operation, a name and arguments, by the method ``do_NAME``."""
        for name, *arguments in operations:
            getattr(self, f"do_{name}")(*arguments)

    def case(self, sandbox: Sandbox | None = None) -> Case:
        """The case so far."""
        return Case(
            self.build(), tuple(self._checks), frozenset(self.needs), sandbox or plain_sandbox()
        )


def first_difference(found: bytes, meant: bytes) -> str:
    """Where two byte strings begin to differ, in words; whole they may be pages long."""
    pairs = zip(found, meant, strict=False)
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(found), len(meant)))
    place = f"from byte {at} on " if at else ""
    return f"{place}{found[at : at + 16]!r}, must be {meant[at : at + 16]!r}"


def batches(cases: st.SearchStrategy[T], size: int = BATCH) -> st.SearchStrategy[list[T]]:
    """Lists of about ``size`` cases; they shrink to the one that fails."""
    return long_lists(cases, size)


def long_lists(elements: st.SearchStrategy[T], average: int) -> st.SearchStrategy[list[T]]:
    """Lists with about ``average`` elements, up to twice that, that shrink to nothing.

    Several short lists are joined, because hypothesis keeps the average of one
    list near five however long it may be.
    """
    parts = [st.lists(elements, max_size=10)] * max(round(average / 5), 1)
    return st.tuples(*parts).map(lambda lists: list(chain.from_iterable(lists)))


def runnable(cases: Iterable[Case], features: Set[str]) -> list[Case]:
    """The cases whose needs are met."""
    return [case for case in cases if case.needs <= features]


def hold(runner: Runner, cases: Iterable[Case], features: Set[str]) -> int:
    """Run what is runnable of ``cases`` and check each; how many ran.

    Raises AssertionError for the first case whose property does not hold, and
    SandboxError for one that could not be begun.
    """
    budget.check()
    every = list(cases)
    able = runnable(every, features)
    lacking = frozenset().union(*(case.needs - features for case in every))
    counting.note(asked=len(every), ran=len(able), lacking=lacking)
    for sandbox, group in by_sandbox(able):
        answers = runner.run([case.built.program for case in group], sandbox)
        for case, answer in zip(group, answers, strict=True):
            case.check(Trace(case.built, ran_at_all(case.built, answer)))
    return len(able)


def by_sandbox(cases: Iterable[Case]) -> list[tuple[Sandbox, list[Case]]]:
    """The cases grouped by sandbox, as one message has one."""
    groups: list[tuple[Sandbox, list[Case]]] = []
    for case in cases:
        for sandbox, group in groups:
            if sandbox == case.sandbox:
                group.append(case)
                break
        else:
            groups.append((case.sandbox, [case]))
    return groups
