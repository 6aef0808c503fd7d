"""Programs of the real agent on this kernel: what they mean, and what is left of them."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from pathlib import Path

import pytest
from localagent import (
    agent,
    agent_pid,
    call,
    children_of,
    command_lines,
    run,
    shared,
    user_namespaces,
)

from hostabi.agent.client import Agent
from hostabi.agent.local import local_agent
from hostabi.agent.program import (
    Abi,
    Call,
    Children,
    End,
    Output,
    Pointer,
    Program,
    Result,
    Sandbox,
    Scratch,
    Store,
    Word,
)
from hostabi.agent.wire import constants, pack
from hostabi.errors import AgentLostError, CallError

__all__ = ["agent", "shared"]

# System calls of x86_64, arch/x86/entry/syscalls/syscall_64.tbl.
READ, WRITE, OPEN, CLOSE, MMAP, MPROTECT, MUNMAP = 0, 1, 2, 3, 9, 10, 11
PIPE, PAUSE, GETPID, FORK, VFORK, EXECVE, EXIT = 22, 34, 39, 57, 58, 59, 60
WAIT4, KILL, FCNTL, MKDIR, GETUID, SETSID, PRCTL = 61, 62, 72, 83, 102, 112, 157
CHDIR, ARCH_PRCTL, GETDENTS64, EXIT_GROUP, OPENAT, CLONE = 80, 158, 217, 231, 257, 56
CLONE_VM, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWUTS = 0x100, 0x10000000, 0x20000000, 0x04000000
O_CREAT_RDWR = os.O_CREAT | os.O_RDWR
ARENA: int = constants.WIRE_ARENA


def test_a_value_refers_to_an_earlier_one(agent: Agent) -> None:
    ran = run(
        agent,
        call(OPENAT, -100, Pointer(0), O_CREAT_RDWR, 0o600),
        call(WRITE, Result(0), Pointer(0), 4),
        call(PIPE, Pointer(16)),
        call(WRITE, Word(20), Pointer(0), Result(1)),
        call(READ, Word(16), Pointer(32), 100),
        data=b"file\0",
        outputs=(Output(4, 32, 4), Output(0, 32, 4)),
    )
    assert ran.values == (3, 4, 0, 4, 4)
    assert ran.outputs == (b"file", b"\0\0\0\0")


def test_words_are_signed_and_of_every_size(agent: Agent) -> None:
    data = struct.pack("<qiihb", -5, -6, 7, -8, -9)
    words = [Word(0, 8), Word(8), Word(12), Word(16, 2), Word(18, 1)]
    stores = tuple(Store(64 + 8 * i, word) for i, word in enumerate(words))
    ran = run(
        agent,
        call(GETPID, stores=(*stores, Store(104, Pointer(3)), Store(112, -1, 2))),
        data=data,
        outputs=(Output(0, 64, 56),),
    )
    assert struct.unpack("<7q", ran.outputs[0]) == (-5, -6, 7, -8, -9, ARENA + 3, 0xFFFF)


def test_outputs_are_as_they_were_then(agent: Agent) -> None:
    ran = run(
        agent,
        call(GETPID, stores=(Store(0, 1, 1),)),
        call(GETPID, stores=(Store(0, 2, 1),)),
        call(EXIT_GROUP, 7),
        call(GETPID),
        outputs=(Output(1, 0, 1), Output(0, 0, 1), Output(3, 0, 1)),
    )
    assert (ran.end, ran.code) == (End.EXITED, 7)
    assert ran.outputs == (b"\2", b"\1", b"")
    assert len(ran.values) == 2


def test_an_error_is_minus_errno(agent: Agent) -> None:
    assert run(agent, call(CLOSE, 99), call(99999)).values == (-errno.EBADF, -errno.ENOSYS)


def test_descriptors_start_at_three_and_do_not_leak(agent: Agent) -> None:
    opens = [call(OPENAT, -100, Pointer(0), O_CREAT_RDWR, 0o600)] * 3
    closed = [call(FCNTL, fd, 1) for fd in range(3, 64)]
    nonblocking = [call(FCNTL, 0, 4, os.O_NONBLOCK)]
    program = Program((*closed, call(FCNTL, 0, 3), *opens, *nonblocking), data=b"f\0")
    for ran in agent.run([program] * 3):
        assert ran.values[:61] == (-errno.EBADF,) * 61
        assert not ran.values[61] & os.O_NONBLOCK
        assert ran.values[62:] == (3, 4, 5, 0)


def test_scratch_is_empty_each_time(agent: Agent) -> None:
    data = b"d\0......d/f\0....\0.\0"
    program = Program(
        (
            call(OPENAT, -100, Pointer(17), os.O_RDONLY),
            call(GETDENTS64, Result(0), Pointer(1024), 4096),
            call(MKDIR, Pointer(0), 0),
            call(90, Pointer(0), 0o700),
            call(OPENAT, -100, Pointer(8), O_CREAT_RDWR, 0o600),
            call(90, Pointer(0), 0),
        ),
        data=data,
    )
    records = agent.run([program] * 3)
    assert len({ran.values for ran in records}) == 1
    assert records[0].values[1] == 48, "only . and .."
    assert records[0].values[4] >= 0


def test_scratch_deeper_than_a_path_is_removed(agent: Agent) -> None:
    down = [call(MKDIR, Pointer(0), 0o700), call(CHDIR, Pointer(0))] * 1200
    deep = Program(tuple(down), data=b"d" * 20 + b"\0")
    first, second = agent.run([deep, deep], Sandbox(timeout=20))
    assert first.values == second.values == (0,) * 2400


def test_a_program_that_never_ends_is_ended(agent: Agent) -> None:
    waiting = Program((call(GETPID), call(PAUSE)))
    slow, after = agent.run([waiting, Program((call(GETPID),))], Sandbox(timeout=0.2))
    assert slow.end is End.TIMED_OUT
    assert len(slow.values) == 1
    assert after.end is End.EXITED


@pytest.mark.parametrize(
    "damage",
    [
        call(MUNMAP, ARENA, 65536),
        call(MPROTECT, ARENA, 65536, 0),
        call(MUNMAP, 4096, (1 << 47) - 8192),
        call(ARCH_PRCTL, 0x1002, 1),
        call(KILL, 0, signal.SIGSEGV),
    ],
    ids=["no arena", "sealed arena", "no memory at all", "no thread pointer", "signal"],
)
def test_damage_done_to_itself_is_its_own(agent: Agent, damage: Call) -> None:
    hurt = Program((call(GETPID), damage, call(PIPE, Pointer(0))), outputs=(Output(2, 0, 4),))
    ran, after = agent.run([hurt, Program((call(GETUID),))])
    assert ran.values[0] > 0
    if damage.number == ARCH_PRCTL:
        assert ran.values == (ran.values[0], 0, 0), "nothing of the C library is in the way"
    else:
        assert ran.end is End.SIGNALLED
        assert ran.code in {signal.SIGSEGV, signal.SIGBUS}
    assert after.values == (agent.hello.euid,)


@pytest.mark.parametrize(
    "fork",
    [call(FORK), call(VFORK), call(CLONE, signal.SIGCHLD), call(CLONE, CLONE_VM | signal.SIGCHLD)],
    ids=["fork", "vfork", "clone", "clone with shared memory"],
)
def test_the_child_of_a_fork_ends_and_is_waited_for(agent: Agent, fork: Call) -> None:
    ran = run(
        agent,
        fork,
        call(WAIT4, Result(0), Pointer(0), 0, 0),
        call(GETPID),
        outputs=(Output(1, 0, 4),),
    )
    assert ran.end is End.EXITED
    assert ran.values[0] == ran.values[1] > 1
    assert ran.outputs == (b"\0\0\0\0",)


def test_many_programs_leave_no_process(agent: Agent) -> None:
    pid = agent_pid(agent)
    forks = Program((call(SETSID), *[call(FORK)] * 3))
    records = agent.run([forks] * 1000)
    assert all(ran.end is End.EXITED for ran in records)
    assert children_of(pid) == []
    assert len(list(Path(f"/proc/{pid}/fd").iterdir() if os.geteuid() == 0 else [])) < 10


def test_what_a_program_executed_is_killed_with_it(agent: Agent) -> None:
    # The new image starts a process of a session of its own and waits.
    strings = b"/bin/sh\0-c\0setsid sleep 987 & sleep 987\0"
    argv = tuple(Store(128 + 8 * i, Pointer(at)) for i, at in enumerate((0, 8, 11)))
    execute = call(EXECVE, Pointer(0), Pointer(128), Pointer(152), stores=argv)
    ran = run(agent, execute, data=strings, sandbox=Sandbox(timeout=0.5))
    assert ran.end is End.TIMED_OUT
    assert children_of(agent_pid(agent)) == []
    assert b"sleep\000987" not in b"".join(command_lines())


@pytest.mark.skipif(not user_namespaces(), reason="this machine refuses user namespaces")
def test_namespaces_and_identities(agent: Agent) -> None:
    root = Sandbox(namespaces=CLONE_NEWUSER | CLONE_NEWPID)
    assert run(agent, call(GETUID), call(GETPID), sandbox=root).values == (0, 1)
    same = Sandbox(namespaces=CLONE_NEWUSER, map_root=False)
    assert run(agent, call(GETUID), sandbox=same).values == (agent.hello.euid,)


def test_a_refused_sandbox_names_the_step(agent: Agent) -> None:
    ran = run(agent, call(GETPID), sandbox=Sandbox(namespaces=CLONE_NEWUTS))
    assert (ran.end, ran.code, ran.detail) == (End.REFUSED, errno.EPERM, "clone")
    ran = run(agent, call(GETPID), sandbox=Sandbox(uid=4242))
    assert ran.end is End.REFUSED
    ran = run(agent, call(GETPID), sandbox=Sandbox(scratch=Scratch.EXT4))
    assert (ran.end, ran.detail) == (End.REFUSED, "scratch")
    ran = run(agent, call(GETPID), sandbox=Sandbox(seccomp=bytes(8)))
    assert (ran.end, ran.detail) == (End.REFUSED, "seccomp")


def test_a_filter_is_in_force(agent: Agent) -> None:
    # seccomp(2): allow everything but getuid, which gives EPERM.
    filters = (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, GETUID),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000),
    )
    code = b"".join(struct.pack("<HBBI", *line) for line in filters)
    ran = run(agent, call(GETUID), call(GETPID), sandbox=Sandbox(seccomp=code))
    assert ran.values[0] == -errno.EPERM
    assert ran.values[1] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("calls", 1000), ("stores", 1), ("outputs", 1), ("data", 70000), ("arena", 1 << 30)],
)
def test_the_agent_checks_what_it_is_sent(agent: Agent, field: str, value: int) -> None:
    fields = {"calls": 0, "stores": 0, "outputs": 0, "data": 0, "arena": 65536, field: value}
    payload = pack("wire_run", sandbox={"timeout": 1000}, programs=1) + pack(
        "wire_program", **fields
    )
    with pytest.raises(CallError) as caught:
        agent._request(constants.WIRE_RUN, payload)
    assert caught.value.errno == errno.EBADMSG


def test_a_call_cannot_claim_stores_that_are_not_there(agent: Agent) -> None:
    head = pack("wire_run", sandbox={"timeout": 1000}, programs=1) + pack(
        "wire_program", calls=1, arena=4096
    )
    for field, value in (("stores", 5), ("arguments", 7)):
        with pytest.raises(CallError) as caught:
            agent._request(
                constants.WIRE_RUN, head + pack("wire_call", number=GETPID, **{field: value})
            )
        assert caught.value.errno == errno.EBADMSG


def test_arguments_outside_the_program_are_refused(agent: Agent) -> None:
    for bad in (Result(1), Word(65533), Word(0, 9), Word(1 << 40)):
        with pytest.raises(CallError):
            run(agent, call(GETPID, bad))
    with pytest.raises(CallError):
        run(agent, call(GETPID, stores=(Store(65530, 0),)))
    with pytest.raises(CallError):
        run(agent, call(GETPID), outputs=(Output(1, 0, 1),))


def test_another_abi_has_numbers_of_its_own(agent: Agent) -> None:
    # getpid is 20 by int $0x80, and write(2) takes 32 bits of its arguments there.
    program = Program(
        (
            call(GETPID),
            call(20, abi=Abi.IA32),
            call(4, -1, 0, 0, abi=Abi.IA32),
            call(999, abi=Abi.IA32),
            call(GETPID, abi=Abi.X32),
        )
    )
    (ran,) = agent.run([program])
    if ran.end is End.SIGNALLED:
        pytest.skip("this kernel has no ia32 entry")
    pid, same, closed, none, other = ran.values
    assert (same, closed, none) == (pid, -errno.EBADF, -errno.ENOSYS)
    assert other in {pid, -errno.ENOSYS}


def test_an_unknown_abi_is_refused(agent: Agent) -> None:
    payload = pack("wire_run", sandbox={"timeout": 1000}, programs=1)
    payload += pack("wire_program", calls=1, arena=4096) + pack("wire_call", number=GETPID, abi=4)
    with pytest.raises(CallError) as caught:
        agent._request(constants.WIRE_RUN, payload)
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize("fork", [call(FORK), call(2, abi=Abi.IA32)], ids=["fork", "ia32 fork"])
def test_a_child_that_pauses_lives_as_long_as_its_program(agent: Agent, fork: Call) -> None:
    nohang, untraced = 1, 2
    ran = run(
        agent,
        fork,
        call(WAIT4, Result(0), 0, nohang, 0),
        call(KILL, Result(0), signal.SIGSTOP),
        call(WAIT4, Result(0), Pointer(0), untraced, 0),
        call(KILL, Result(0), signal.SIGCONT),
        call(KILL, Result(0), 0),
        outputs=(Output(3, 0, 4),),
        children=Children.PAUSE,
    )
    if ran.end is End.SIGNALLED:
        pytest.skip("this kernel has no ia32 entry")
    assert ran.end is End.EXITED
    assert ran.values == (ran.values[0], 0, 0, ran.values[0], 0, 0)
    assert ran.outputs == (struct.pack("<I", signal.SIGSTOP << 8 | 0x7F),)
    assert children_of(agent_pid(agent)) == []


def test_a_child_that_pauses_dies_with_its_parent() -> None:
    pause = Program((call(FORK), call(PAUSE)), children=Children.PAUSE)
    before = set(children_of(os.getpid()))
    deadline = time.monotonic() + 10
    with local_agent() as own:
        (pid,) = map(int, set(children_of(os.getpid())) - before)
        pending = own.submit([pause], Sandbox(timeout=20))
        while len(family := [pid, *_below(pid)]) < 3 or _state(family[-1]) != "S":
            assert time.monotonic() < deadline
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(AgentLostError):
            own.collect(pending)
    while any(_state(each) not in "ZX" for each in family):
        assert time.monotonic() < deadline


def _state(pid: int) -> str:
    """The letter of a process's state, proc(5); X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _below(pid: int) -> list[int]:
    found = [int(each) for each in children_of(pid)]
    return found + [deeper for each in found for deeper in _below(each)]


def test_mounts_of_its_own_need_a_mount_namespace(agent: Agent) -> None:
    ran = run(agent, call(GETPID), sandbox=Sandbox(own_proc=True))
    assert (ran.end, ran.code) == (End.REFUSED, errno.EINVAL)
