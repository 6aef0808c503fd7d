"""Programs in which kernels differ become smaller, call by call and number by number."""

from __future__ import annotations

from hostabi.agent.program import End, Ran, Sandbox
from hostabi.runs.fuzz.causes import spot
from hostabi.runs.fuzz.shrinker import Shrinker
from hostabi.syscalls import smaller
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.table import number


def ran(*values: int) -> Ran:
    return Ran(End.EXITED, 0, values, (), "", b"")


def test_a_program_without_a_call_renumbers_the_others():
    b = Builder()
    first = b.call("dup", 0)
    second = b.call("dup", 1)
    b.call("dup2", second, first)
    room = b.buffer(8)
    b.call("pipe2", room, 0, out=[room])
    built = smaller.without(b.build(), {0})
    assert str(built) == "0: dup(1)\n1: dup2(r0, -1)\n2: pipe2(" + str(room.text) + ", 0)"
    assert built.program.outputs[0].call == 2
    assert smaller.needed(b.build(), 2) == {0, 1, 2}


def test_numbers_become_plainer_one_by_one():
    b = Builder()
    how = b.struct("struct open_how", flags=5, resolve=8)
    b.call("openat2", 0, b.string("f"), how, 24)
    built = b.build()
    shown = {str(smaller.edited(built, [edit])) for edit in smaller.edits(built)}
    assert '0: openat2(0, "f", {resolve=0x8}, 24)' in shown
    assert '0: openat2(0, "f", {flags=0x4, resolve=0x8}, 24)' in shown
    assert any(text.endswith(", 16)") for text in shown)
    every = str(smaller.edited(built, smaller.edits(built)))
    assert every == '0: openat2(0, "f", {}, 0)'


class Pretended:
    """Kernels that differ in programs of which ``differs`` says so; it counts messages."""

    def __init__(self, differs) -> None:
        self.differs = differs
        self.messages = 0

    def run(self, programs, _sandbox, _on):
        self.messages += 1
        return [self.one([call.number for call in each.calls], each) for each in programs]

    def one(self, numbers, program):
        other = [1 if call == number("umask") else 0 for call in numbers]
        seen = other if self.differs(numbers, program) else [0] * len(numbers)
        return {"a": ran(*[0] * len(numbers)), "b": ran(*seen)}


def test_two_calls_go_together_that_cannot_go_alone():
    def differs(numbers, _):
        left = {number(name) for name in ("getpid", "getppid", "umask")} <= set(numbers)
        return left and (number("dup") in numbers) == (number("close") in numbers)

    b = Builder()
    for name in ("dup", "getpid", "getppid", "close", "umask"):
        b.call(name)
    kernels = Pretended(differs)
    built = b.build()
    (rans,) = kernels.run([built.program], Sandbox(), None)
    small, _ = Shrinker(kernels, Sandbox()).shrink(built, spot(built, rans))
    assert [step.name for step in small.steps] == ["getpid", "getppid", "umask"]


def test_what_can_go_alone_goes_together():
    b = Builder()
    for index in range(12):
        b.call("prctl", 0x5555 + index, 0x7FFF, -1, 77, 1 << 40)
    b.call("umask", 0o777, 5, 5)
    kernels = Pretended(lambda numbers, _: number("umask") in numbers)
    built = b.build()
    (rans,) = kernels.run([built.program], Sandbox(), None)
    shrinker = Shrinker(kernels, Sandbox())
    small, _ = shrinker.shrink(built, spot(built, rans))
    assert str(small) == "0: umask(0, 0, 0)"
    needs = Pretended(lambda _, each: bool(each.calls) and each.calls[-1].arguments[0] & 18 == 18)
    small, _ = Shrinker(needs, Sandbox()).shrink(built, spot(built, rans))
    assert str(small) == "0: umask(18, 0, 0)"
    assert needs.messages < 12
