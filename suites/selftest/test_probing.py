"""Probes: what a program did becomes a fact."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hostabi.agent.client import Agent
from hostabi.agent.program import End, Program, Ran, Sandbox
from hostabi.model import Fact
from hostabi.surfaces import probing
from hostabi.surfaces.probing import HOST, USER, USERNS, ProbeSurface, Questions, ask
from hostabi.surfaces.source import Source
from hostabi.syscalls.table import C


class Kernel:
    """An agent that answers every program alike, and remembers the sandboxes."""

    def __init__(self, *values: int, euid: int = 0, end: End = End.EXITED, code: int = 0) -> None:
        self.hello = SimpleNamespace(euid=euid)
        self._ran = Ran(end, code, values)
        self.asked: list[tuple[int, Sandbox]] = []

    def command(self, argv: list[str]) -> None:
        """Modules are loaded at once."""

    def run(self, programs: list[Program], sandbox: Sandbox) -> list[Ran]:
        self.asked.append((len(programs), sandbox))
        return [self._ran] * len(programs)


def agent(kernel: Any) -> Agent:
    return cast(Agent, kernel)


def questions() -> Questions:
    q = Questions(namespaces=C.CLONE_NEWUTS)
    fd = q.need("eventfd2", 0, 0)
    q.ask("first", "fchmod", fd, 0)
    q.ask("second", "fchown", fd, 0, 0, fine=("EBADF",))
    q.ask("number", "lseek", fd, 0, 0, read=lambda trace, ref: trace[ref] + 1)
    return q


def values(kernel: Kernel, *views: probing.View) -> dict[str, object]:
    return {f.key: f.value for f in ask(agent(kernel), questions().probes(), views or (HOST,))}


def test_one_program_answers_all_its_questions():
    kernel = Kernel(3, 0, -errno.EBADF, 41)
    assert values(kernel) == {"first": "ok", "second": "ok", "number": 42}
    assert [count for count, _ in kernel.asked] == [1]


def test_a_form_of_what_fails_is_not_told():
    q = Questions()
    whole = q.ask("whole", "eventfd2", 0, 0)
    q.ask("form", "eventfd2", 0, 1, given=(whole,))
    for answers, told in (
        ((3, 4), {"whole": "ok", "form": "ok"}),
        ((3, -errno.EINVAL), {"whole": "ok", "form": "EINVAL"}),
        ((-errno.ENOSYS, -errno.ENOSYS), {"whole": "ENOSYS", "form": None}),
    ):
        facts = ask(agent(Kernel(*answers)), q.probes(), (HOST,))
        assert {fact.key: fact.value for fact in facts} == told
    assert facts[0].detail == "ENOSYS at eventfd2(0, 0)"


def test_an_errno_is_a_value():
    assert values(Kernel(3, -errno.EPERM, -errno.EINVAL, -errno.ESPIPE)) == {
        "first": "EPERM",
        "second": "EINVAL",
        "number": "ESPIPE",
    }


def test_what_is_needed_decides_when_it_fails():
    facts = ask(agent(Kernel(-errno.ENOSYS, 0, 0, 0)), questions().probes(), (HOST,))
    assert {fact.value for fact in facts} == {"ENOSYS"}
    assert "at eventfd2(0, 0)" in facts[0].detail


@pytest.mark.parametrize(
    ("end", "code", "value"),
    [(End.SIGNALLED, 11, "SIGSEGV"), (End.TIMED_OUT, 0, "hangs"), (End.EXITED, 0, None)],
)
def test_the_call_that_ends_a_program_is_told_from_those_after_it(end, code, value):
    found = values(Kernel(3, 0, end=end, code=code))
    assert found == {"first": "ok", "second": value, "number": None}


def test_a_sandbox_that_is_refused_determines_nothing():
    facts = ask(agent(Kernel(end=End.REFUSED, code=errno.ENOSPC)), questions().probes(), (USERNS,))
    assert {fact.value for fact in facts} == {None}
    assert "ENOSPC" in facts[0].detail


def test_views_are_aspects_with_their_own_sandbox():
    kernel = Kernel(3, 0, 0, 0)
    assert "first" in values(kernel, HOST, USERNS, USER)
    assert {"first#userns", "first#user"} <= values(kernel, HOST, USERNS, USER).keys()
    host, userns, user = (sandbox for _, sandbox in kernel.asked[:3])
    assert (host.uid, host.namespaces, host.no_new_privs) == (0, C.CLONE_NEWUTS, False)
    assert (userns.uid, userns.namespaces) == (1000, probing.OWN_NAMESPACES)
    assert (user.uid, user.namespaces, user.no_new_privs) == (1000, C.CLONE_NEWUTS, True)


def test_an_agent_without_privileges_leaves_root_undetermined():
    kernel = Kernel(3, 0, 0, 0, euid=1000)
    found = values(kernel, HOST, USER)
    assert found["first"] is None
    assert found["first#user"] == "ok"
    assert [sandbox.uid for _, sandbox in kernel.asked] == [0]


def test_a_key_that_is_asked_twice_is_refused():
    surface = ProbeSurface("twice", lambda: (*questions().probes(), *questions().probes()))
    with pytest.raises(ValueError, match="first is asked twice"):
        surface.capture(Source(agent(Kernel(3)), None))


def test_a_fact_has_a_program_that_shows_it():
    surface = ProbeSurface("example", lambda: questions().probes(), modules=("tun",))
    shown = surface.reproducer(Fact("second#user", "EPERM"))
    assert shown is not None
    assert "static const int chain[] = { 0, 1, -1 };" in shown.text
    assert "expect = FAILS;" in shown.text
    assert "#define UID 1000" in shown.text
    assert shown.modules == ("tun",)
    assert surface.reproducer(Fact("third", "EPERM")) is None
    assert surface.reproducer(Fact("number", 42)) is None
    assert surface.reproducer(Fact("number", 42), agent(Kernel(3, 0, 0, 7))) is None
    seen = surface.reproducer(Fact("number", 42), agent(Kernel(3, 0, 0, 41)))
    assert seen is not None
    assert "expect = SEEN;" in seen.text
