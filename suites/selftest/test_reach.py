"""What is made of the answers to whole tables of syscall numbers."""

from __future__ import annotations

import errno

from hostabi.agent.program import Abi, End, Program, Ran, Sandbox
from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces import reach, reach_gates
from hostabi.syscalls import table

ENOSYS = -errno.ENOSYS


class Kernel:
    """Answers programs: ``kills`` ends its process, ``known`` is implemented."""

    def __init__(self, known: set[int], kills: int | None = None, *, dead: bool = False) -> None:
        self.known, self.kills, self.dead = known, kills, dead
        self.asked: list[int] = []

    def run(self, programs: list[Program], sandbox: Sandbox) -> list[Ran]:
        """One record for each."""
        return [self._ran(program) for program in programs]

    def _ran(self, program: Program) -> Ran:
        values: list[int] = []
        for call in program.calls:
            if call.abi is Abi.NATIVE:
                values.append(0)
                continue
            self.asked.append(call.number)
            if self.dead:
                return Ran(End.SIGNALLED, 11, tuple(values))
            if call.number == self.kills:
                return Ran(End.EXITED, 0, tuple(values))
            values.append(-errno.EFAULT if call.number in self.known else ENOSYS)
        return Ran(End.EXITED, 0, tuple(values))


def found(kernel: Kernel, abi: Abi = Abi.IA32) -> dict[str, Fact]:
    """Facts by key."""
    answers = reach.answers(kernel, abi)  # type: ignore[arg-type]
    return {fact.key: fact for fact in reach._facts(abi, answers)}


def test_each_number_with_a_name_is_asked() -> None:
    known = {table.number("getpid", Abi.IA32), table.number("openat2", Abi.IA32)}
    facts = found(Kernel(known))
    working = {key for key, fact in facts.items() if fact.value == keys.OK}
    assert working == {"ia32", "ia32.getpid", "ia32.openat2"}
    assert len(facts) == len(table.numbers(Abi.IA32)) + 1


def test_what_follows_a_call_that_ends_its_process_is_asked_again() -> None:
    ends = table.number("exit", Abi.IA32)
    kernel = Kernel({table.number("fork", Abi.IA32)}, kills=ends)
    facts = found(kernel)
    assert (facts["ia32.exit"].value, facts["ia32.fork"].value) == (keys.OK, keys.OK)
    assert facts["ia32.read"].value == "ENOSYS"
    assert kernel.asked.count(ends) == 1


def test_a_number_beyond_the_headers_is_told_when_it_answers() -> None:
    last = max(table.numbers(Abi.X32).values())
    facts = found(Kernel({last + 2}), Abi.X32)
    assert facts["x32"].value == keys.OK
    assert facts[f"x32.syscall_{last + 2}"].value == keys.OK
    assert f"x32.syscall_{last + 1}" not in facts


def test_an_entry_that_kills_is_one_fact() -> None:
    facts = found(Kernel(set(), dead=True))
    assert {key: fact.value for key, fact in facts.items()} == {"ia32": "SIGSEGV"}


def test_gates_tell_refusals_only() -> None:
    probes = {probe.key: probe for probe in reach_gates.gates()}
    assert len(probes) > 60
    for probe in probes.values():
        assert "EPERM" not in probe.fine
        assert "ENOSYS" not in probe.fine
        assert "EBADF" in probe.fine


def test_a_number_has_a_reproducer() -> None:
    made = reach.SURFACE.reproducer(Fact("ia32.cachestat", keys.OK))
    assert made is not None
    assert "IA32" in made.text
    assert reach.SURFACE.reproducer(Fact("ia32", keys.OK)) is None
    assert reach.SURFACE.reproducer(Fact("mount#user", "EPERM")) is not None
