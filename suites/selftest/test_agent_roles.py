"""Programs of several roles, by the real agent on this kernel: processes, threads and images."""

from __future__ import annotations

import os
import signal

import pytest
from localagent import agent, agent_pid, children_of, shared

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Call, End, Program, Result, Sandbox, Until
from hostabi.errors import CallError, InputError
from hostabi.syscalls import printers
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

__all__ = ["agent", "shared"]


def run(agent: Agent, builder: Builder, *, timeout: float = 5.0) -> Trace:
    built = builder.build()
    (ran,) = agent.run([built.program], Sandbox(timeout=timeout))
    return Trace(built, ran)


def test_a_child_makes_calls_of_its_own(agent: Agent) -> None:
    b = Builder()
    child, pipe, room, status = b.role(), b.buffer(8), b.buffer(4), b.buffer(4)
    b.call("pipe2", pipe, 0)
    mine = b.call("getpid")
    fork = b.call("fork", starts=child)
    with b.by(child):
        its = b.call("getpid")
        parent = b.call("getppid")
        read = b.call("read", pipe.word(0), room, 4, out=[room])
        b.call("exit", 7)
    b.call("write", pipe.word(1), b.content(b"word"), 4)
    wait = b.call("wait4", fork, status, 0, 0, out=[status])
    trace = run(agent, b)
    assert trace.finished, str(trace)
    assert (trace[its], trace[parent]) == (trace[fork], trace[mine])
    assert trace.bytes(read, room) == b"word"
    assert trace[wait] == trace[fork]
    assert trace.number(wait, status) == 7 << 8


@pytest.mark.parametrize("shares", [0, C.CLONE_VM, C.CLONE_VM | C.CLONE_VFORK])
def test_a_child_has_a_stack_of_its_own(agent: Agent, shares: int) -> None:
    b = Builder()
    children = [b.role() for _ in range(3)]
    forks = [b.call("clone", shares | signal.SIGCHLD, 0, 0, 0, 0, starts=c) for c in children]
    pids = []
    for child in children:
        with b.by(child):
            pids.append([b.call("getpid") for _ in range(20)])
    waits = [b.call("wait4", fork, 0, 0, 0) for fork in forks]
    trace = run(agent, b)
    assert trace.finished, str(trace)
    for fork, wait, seen in zip(forks, waits, pids, strict=True):
        assert trace[wait] == trace[fork]
        assert {trace[pid] for pid in seen} == {trace[fork]}


THREAD = C.CLONE_VM | C.CLONE_FS | C.CLONE_FILES | C.CLONE_SIGHAND | C.CLONE_THREAD


def test_threads_wait_for_each_other(agent: Agent) -> None:
    b = Builder()
    thread, word = b.role(), b.content(bytes(4))
    b.call("clone", THREAD, 0, 0, 0, 0, starts=thread)
    pid = b.call("getpid")
    with b.by(thread):
        same, tid = b.call("getpid"), b.call("gettid")
        sleeps = b.call("futex", word, C.FUTEX_WAIT, 0, 0)
    b.wait_for(sleeps, Until.ASLEEP)
    wake = b.call("futex", word, C.FUTEX_WAKE, 1)
    b.wait_for(sleeps)
    trace = run(agent, b)
    assert trace.finished, str(trace)
    assert trace[same] == trace[pid] != trace[tid]
    assert (trace[wake], trace[sleeps]) == (1, 0)


@pytest.mark.parametrize("how", ["execve", "execveat"])
def test_a_program_goes_on_in_another_image(agent: Agent, how: str) -> None:
    b = Builder()
    after, room = b.role(), b.buffer(4)
    path, argv, none = b.string("/proc/self/exe"), b.image(after), b.vector()
    before = b.call("getpid")
    kept = b.call("openat", C.AT_FDCWD, b.string("f"), C.O_RDWR | C.O_CREAT, 0o600)
    lost = b.call("fcntl", kept, C.F_DUPFD_CLOEXEC, 0)
    b.call("write", kept, b.content(b"word"), 4)
    if how == "execve":
        done = b.call(how, path, argv, none, starts=after)
    else:
        exe = b.call("openat", C.AT_FDCWD, path, C.O_RDONLY | C.O_CLOEXEC, 0)
        done = b.call(how, exe, b.string(""), argv, none, C.AT_EMPTY_PATH, starts=after)
    with b.by(after):
        pid = b.call("getpid")
        read = b.call("pread64", kept, room, 4, 0, out=[room])
        closed = b.call("fcntl", lost, C.F_GETFD)
    trace = run(agent, b)
    assert trace.finished, str(trace)
    assert (trace[done], trace[pid], trace[closed]) == (0, trace[before], -9)
    assert trace.bytes(read, room) == b"word"


def test_an_execution_that_fails_goes_on(agent: Agent) -> None:
    b = Builder()
    after = b.role()
    failed = b.call("execve", b.string("nothing"), b.image(after), b.vector(), starts=after)
    last = b.call("getpid")
    trace = run(agent, b)
    assert trace.finished, str(trace)
    assert (trace[failed], trace[last] > 0) == (-2, True)


def test_what_was_not_reached_is_told(agent: Agent) -> None:
    b = Builder()
    child = b.role()
    fork = b.call("fork", starts=child)
    with b.by(child):
        b.call("exit", 3)
        never = b.call("getpid")
    b.call("wait4", fork, 0, 0, 0)
    trace = run(agent, b)
    assert trace.finished, "the first process did"
    with pytest.raises(AssertionError, match="not reached"):
        trace[never]


def test_nothing_is_left_of_roles(agent: Agent) -> None:
    b = Builder()
    roles = [b.role() for _ in range(4)]
    for role in roles:
        b.call("fork", starts=role)
        with b.by(role):
            b.call("setsid")
            b.call("pause")
    hanging = b.build()
    records = agent.run([hanging.program] * 20)
    assert {ran.end for ran in records} == {End.EXITED}
    assert children_of(agent_pid(agent)) == []
    b = Builder()
    b.wait_for(b.call("getpid"))
    assert run(agent, b).finished


def test_a_wait_for_what_never_comes_is_bounded(agent: Agent) -> None:
    b = Builder()
    role = b.role()
    b.call("fork", starts=role)
    with b.by(role):
        hangs = b.call("pause")
    b.wait_for(hangs)
    assert run(agent, b, timeout=0.3).ran.end is End.TIMED_OUT
    assert children_of(agent_pid(agent)) == []


@pytest.mark.parametrize("wrong", [{"role": 70}, {"starts": 70}, {"role": 64}])
def test_roles_are_bounded(agent: Agent, wrong: dict[str, int]) -> None:
    with pytest.raises(CallError):
        agent.run([Program((Call(39, **wrong),))])
    assert agent.run([Program((Call(39), Call(1, (Result(0),), abi=Abi.DEED)))])[0].values[1] < 0
    assert os.getpid() not in map(int, children_of(agent_pid(agent)))


def test_roles_read_as_python_but_not_as_c() -> None:
    b = Builder()
    child = b.role()
    b.call("fork", starts=child)
    with b.by(child):
        b.wait_for(b.call("getpid"))
    built, found = b.build(), {}
    exec(printers.to_python(built.program), found)
    assert found["program"] == built.program
    assert str(built).splitlines() == [
        "0: fork() starts [1]",
        "1: [1] getpid()",
        "2: [1] deed:await(1, 0)",
    ]
    with pytest.raises(InputError):
        printers.to_c(built)
