"""Reachability of syscalls: by which table, and for whom.

Which native calls there are is the surface ``syscalls``. Here is what is let
in of those that need privileges, and what the two other tables of x86_64 have.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Call, End, Pointer, Program, Ran, Sandbox, Store
from hostabi.diff import keys
from hostabi.errors import HostabiError
from hostabi.model import Certainty, Fact, Variant
from hostabi.surfaces.probing import ProbeSurface
from hostabi.surfaces.reach_gates import gates
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.surfaces.syscalls import ARGUMENTS, MICROSECONDS, NONSENSE, WAITS, numbered
from hostabi.syscalls import table

BEYOND = 24
"""How many numbers after the last one with a name are tried too."""

_TOGETHER = 24
"""Numbers that one child asks for, one after the other."""
_ROUNDS = 40
"""How often children are asked for what those before them, having ended, left open."""
_TIMEOUT = 1.0
"""Seconds that one child has; none of its calls waits, unless it is new and unknown."""

_GATES = ProbeSurface("reach", gates)


class Reach:
    """Facts about calls that exist for some and not for others.

    ``NAME`` is ``ok`` where the call gets past its check for privileges, from
    each view; arguments are such that nothing happens. ``ia32.NAME`` and
    ``x32.NAME`` say whether the number is implemented by the entry of 32-bit
    programs (``int $0x80``) and in the table of x32. ``ia32`` and ``x32`` say
    whether the entry works at all.
    """

    name = "reach"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Try the gates from every view and each number of both tables."""
        facts = _GATES.capture(source)
        for abi in (Abi.IA32, Abi.X32):
            facts += _facts(abi, answers(source.live, abi))
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A C program that makes one call."""
        prefix, _, name = fact.key.partition(".")
        if prefix not in (Abi.IA32, Abi.X32):
            return _GATES.reproducer(fact, agent)
        return numbered(Abi(prefix), name, fact, agent)


SURFACE = Reach()


def answers(agent: Agent, abi: Abi) -> dict[int, str]:
    """``ok`` or ENOSYS for each number with a name and some beyond; a signal if the entry kills.

    Arguments are those that no call accepts for anything it could do. A call
    that blocks, kills or ends its process is implemented, and the numbers that
    were to follow it are asked of another child.
    """
    last = max(table.numbers(abi).values())
    named = sorted(table.numbers(abi).values())
    numbers = sorted({*named, *range(last + 1, last + 1 + BEYOND)})
    waiting = [number for number in numbers if table.name(number, abi) in WAITS]
    groups = _split([number for number in numbers if number not in waiting])
    groups += [[number] for number in waiting]
    found: dict[int, str] = {}
    for _ in range(_ROUNDS):
        if not groups:
            break
        programs = [
            Program(tuple(call for number in group for call in _calls(abi, number)))
            for group in groups
        ]
        left: list[list[int]] = []
        for group, ran in zip(groups, agent.run(programs, Sandbox(timeout=_TIMEOUT)), strict=True):
            left.append(_take(abi, group, ran, found))
        groups = [group for group in left if group]
    return dict(sorted(found.items()))


def _split(numbers: Sequence[int]) -> list[list[int]]:
    return [list(numbers[at : at + _TOGETHER]) for at in range(0, len(numbers), _TOGETHER)]


def _calls(abi: Abi, number: int) -> tuple[Call, ...]:
    """The calls that try one number; the last one is it."""
    name = table.name(number, abi)
    call = Call(number, ARGUMENTS.get(name, NONSENSE), abi=abi)
    if name not in WAITS:
        return (call,)
    # it_value.tv_usec of struct itimerval is at byte 24
    store = Store(24, MICROSECONDS)
    return Call(table.number("setitimer"), (0, Pointer(0), 0), stores=(store,)), call


def _take(abi: Abi, group: Sequence[int], ran: Ran, found: dict[int, str]) -> list[int]:
    """Note what a child found; the numbers of its group that it did not come to."""
    if ran.end is End.REFUSED:
        raise HostabiError(
            f"{abi} syscalls could not be probed: {ran.detail or errno.errorcode.get(ran.code)}",
            advice="see the agent's message above; the kernel was not asked",
        )
    at = 0
    for index, number in enumerate(group):
        at += len(_calls(abi, number))
        if at > len(ran.values):
            killed = ran.end is End.SIGNALLED and ran.code == signal.SIGSEGV and not index
            found[number] = "SIGSEGV" if killed else keys.OK
            return list(group[index + 1 :])
        found[number] = "ENOSYS" if ran.values[at - 1] == -errno.ENOSYS else keys.OK
    return []


def _facts(abi: Abi, found: dict[int, str]) -> list[Fact]:
    values = set(found.values())
    works = next((value for value in (keys.OK, "ENOSYS") if value in values), "SIGSEGV")
    facts = [Fact(str(abi), works, how="probe", certainty=Certainty.PROBED)]
    named = set(table.numbers(abi).values())
    for number, value in found.items():
        if works != "SIGSEGV" and (number in named or value == keys.OK):
            # a call that only kills its process where others answer is there (rt_sigreturn)
            told = keys.OK if value == "SIGSEGV" else value
            key, detail = f"{abi}.{table.name(number, abi)}", f"number {number}"
            facts.append(Fact(key, told, how="probe", certainty=Certainty.PROBED, detail=detail))
    return facts
