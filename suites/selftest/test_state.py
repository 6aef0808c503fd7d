"""What a program leaves: told by the real agent, and compared without what is usual."""

from __future__ import annotations

import dataclasses

import pytest
from localagent import agent, shared

from hostabi.agent.client import Agent
from hostabi.agent.program import Program, Report
from hostabi.runs.lockstep import Lockstep
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.state import Usual, left, lines
from hostabi.syscalls.table import C

__all__ = ["agent", "shared"]


def told(agent: Agent, builder: Builder, report: Report = Report.STATE) -> dict[str, str]:
    """The lines that a program leaves beyond the usual, by name."""
    program = dataclasses.replace(builder.build().program, report=report)
    (answers,) = Lockstep({"here": agent}).run([program])
    return dict(line.split(": ", 1) for line in lines(answers["here"].state))


def test_a_program_that_leaves_nothing(agent: Agent) -> None:
    b = Builder()
    fd = b.call("openat", C.AT_FDCWD, b.string("f"), C.O_CREAT | C.O_RDWR, 0o600)
    b.call("close", fd)
    b.call("unlinkat", C.AT_FDCWD, b.string("f"), 0)
    assert told(agent, b, Report.MOUNTS) == {}


def test_nothing_is_told_unless_asked_for(agent: Agent) -> None:
    assert agent.run([Program(calls=())])[0].state == b""
    assert b"mount: " not in agent.run([Program(calls=(), report=Report.STATE)])[0].state
    assert b"\nmount: " in agent.run([Program(calls=(), report=Report.MOUNTS)])[0].state


def test_descriptors(agent: Agent) -> None:
    b = Builder()
    fd = b.call("openat", C.AT_FDCWD, b.string("f"), C.O_CREAT | C.O_RDWR, 0o600)
    b.call("write", fd, b.content(b"four"), 4)
    b.call("pipe2", b.buffer(8), C.O_NONBLOCK)
    b.call("write", 5, b.content(b"abc"), 3)
    b.call("memfd_create", b.string("m"), C.MFD_CLOEXEC)
    b.call("socket", 1, 1, 0)
    b.call("dup2", 0, 900)
    found = told(agent, b)
    assert found["fd 3"].endswith("/cwd/f cloexec=0 flags=0100002 mode=0100600 size=4 at=4 seals=1")
    assert found["fd 4"] == "pipe:[#] cloexec=0 flags=04000 mode=010600 room=65536 waiting=3"
    assert found["fd 6"].startswith("/memfd:m\\040(deleted) cloexec=1 ")
    assert found["fd 7"].endswith("socket=1,1,0,0")
    assert found["fd 900"].startswith("/dev/null ")


def test_files(agent: Agent) -> None:
    b = Builder()
    cwd = C.AT_FDCWD
    b.call("mkdirat", cwd, b.string("d"), 0o711)
    b.call("symlinkat", b.string("to there"), cwd, b.string("d/l"))
    b.call("mknodat", cwd, b.string("d/p"), 0o010640, 0)
    found = told(agent, b)
    assert found["file /d"].startswith("mode=040711 uid=")
    assert "target=to\\040there" in found["file /d/l"]
    assert "mode=010640" in found["file /d/p"]


def test_equal_content_has_an_equal_sum(agent: Agent) -> None:
    b = Builder()
    for name, content in (("a", b"x" * 20), ("b", b"x" * 20), ("c", b"x" * 19 + b"y")):
        fd = b.call("openat", C.AT_FDCWD, b.string(name), C.O_CREAT | C.O_RDWR, 0o600)
        b.call("write", fd, b.content(content), 20)
    found = told(agent, b)
    assert found["file /a"] == found["file /b"] != found["file /c"]


def test_process(agent: Agent) -> None:
    b = Builder()
    b.call("umask", 0o77)
    b.call("prctl", C.PR_SET_NAME, b.string("other"), 0, 0, 0)
    b.call("prctl", C.PR_SET_DUMPABLE, 0, 0, 0, 0)
    mask = b.content((1 << 9).to_bytes(8, "little"))
    b.call("rt_sigprocmask", C.SIG_BLOCK, mask, 0, 8)
    pid = b.call("getpid", opaque=True)
    b.call("kill", pid, 10)
    b.call("prlimit64", 0, C.RLIMIT_NOFILE, b.struct("struct rlimit64", rlim_cur=5, rlim_max=9), 0)
    found = told(agent, b)
    assert found["Umask"] == "0077"
    assert found["name"] == "other"
    assert found["SigBlk"] == "0000000000000200"
    assert found["ShdPnd"] == "0000000000000200"
    assert found["limit 7"] == "5 9"
    assert found["dumpable"] == "0"


def test_a_program_that_does_not_come_to_its_end_tells_of_its_folder_only(agent: Agent) -> None:
    b = Builder()
    b.call("mkdirat", C.AT_FDCWD, b.string("d"), 0o700)
    b.call("exit_group", 3)
    b.call("getpid", opaque=True)
    assert set(told(agent, b)) == {"file ", "file /d"}


def test_a_child_that_ends_at_once_has_ended(agent: Agent) -> None:
    """So that what later calls find of it is the same every time."""
    b = Builder()
    pid = b.call("fork", opaque=True)
    info = b.buffer(128)
    b.call("waitid", 1, pid, info, 4 | C.WNOHANG | C.WNOWAIT, 0, out=[info])
    program = dataclasses.replace(b.build().program, report=Report.STATE)
    for ran in agent.run([program] * 50):
        assert ran.outputs[0][:4] == b"\x11\0\0\0"
        assert b"children: 0" in ran.state


def test_a_folder_above_that_was_closed_is_opened(agent: Agent) -> None:
    b = Builder()
    b.call("fchmodat", C.AT_FDCWD, b.string(".."), 0)
    first = agent.run([b.build().program])[0]
    assert first.values == (0,)
    assert told(agent, Builder()) == {}


@pytest.mark.parametrize("report", [Report.STATE, Report.MOUNTS])
def test_it_is_bounded(agent: Agent, report: Report) -> None:
    b = Builder(arena=1 << 19)
    for index in range(300):
        name = b.string(f"{index:03}" + "n" * 200)
        b.call("openat", C.AT_FDCWD, name, C.O_CREAT, 0o600)
    program = dataclasses.replace(b.build().program, report=report)
    raw = agent.run([program])[0].state
    assert 20_000 < len(raw) <= 1 << 15


def test_only_what_is_not_usual_is_left() -> None:
    usual = Usual.of(b"Umask: 0022\nlimit 6: 1 1\nfd 0: n\nmount: a\nmount: b\n")
    assert left(b"Umask: 0022\nlimit 6: 1 1\nfd 0: n\nmount: a\nmount: b\n", usual) == b""
    raw = b"Umask: 0077\nlimit 6: 1 1\nmount: a\nmount: c\n"
    assert left(raw, usual) == b"Umask: 0077\nmount: c\nno fd 0: n\nno mount: b"
    assert left(b"file /d: x\n", usual) == b"file /d: x"
    assert left(b"", usual) == b""
    assert left(b"io priority: 4", usual) == b""


def test_where_an_agent_has_its_folder_is_not_compared() -> None:
    one = b"mount: /hostabi-8khsdezc/cwd/n1 /dev/shm/hostabi-8khsdezc/cwd/n1 rw - tmpfs tmpfs rw"
    other = one.replace(b"8khsdezc", b"bhld9iq3")
    assert left(one, Usual()) == left(other, Usual()) != b""
    assert left(b"fd 3: /cwd/n1/#12\\040(deleted)", Usual()) == b"fd 3: /cwd/n1/#\\040(deleted)"


def test_how_tmpfs_numbers_its_files_is_not_compared() -> None:
    usual = Usual.of(b"Umask: 0022\nmount: / /s rw - tmpfs tmpfs rw,mode=755,inode64\n")
    raw = b"Umask: 0022\nmount: / /s/a rw - tmpfs none rw,inode64\n"
    assert left(raw, usual) == (
        b"mount: / /s/a rw - tmpfs none rw\nno mount: / /s rw - tmpfs tmpfs rw,mode=755"
    )


def test_whether_a_child_has_ended_is_not_compared() -> None:
    usual = Usual.of(b"Umask: 0022\nShdPnd: 0000000000000000\n")
    assert left(b"Umask: 0022\nShdPnd: 0000000000010000\n", usual) == b""
    assert left(b"Umask: 0022\nShdPnd: 0000000000010200\n", usual) == b"ShdPnd: 0000000000000200"
