"""The real agent as a process on this kernel: what programs and commands mean, and what is left."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostabi import resources
from hostabi.agent import local
from hostabi.agent.build import binary
from hostabi.agent.client import Agent
from hostabi.agent.local import NOBODY, local_agent
from hostabi.agent.program import (
    Argument,
    Call,
    End,
    Output,
    Pointer,
    Program,
    Ran,
    Result,
    Sandbox,
    Scratch,
    Store,
    Word,
)
from hostabi.agent.wire import constants, ffi, pack
from hostabi.errors import AgentLostError, CallError
from hostabi.packages.cache import Cache

# System calls of x86_64, arch/x86/entry/syscalls/syscall_64.tbl.
READ, WRITE, OPEN, CLOSE, MMAP, MPROTECT, MUNMAP = 0, 1, 2, 3, 9, 10, 11
PIPE, PAUSE, GETPID, FORK, VFORK, EXECVE, EXIT = 22, 34, 39, 57, 58, 59, 60
WAIT4, KILL, FCNTL, MKDIR, GETUID, SETSID, PRCTL = 61, 62, 72, 83, 102, 112, 157
CHDIR, ARCH_PRCTL, GETDENTS64, EXIT_GROUP, OPENAT, CLONE = 80, 158, 217, 231, 257, 56
CLONE_VM, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWUTS = 0x100, 0x10000000, 0x20000000, 0x04000000
O_CREAT_RDWR = os.O_CREAT | os.O_RDWR
ARENA: int = constants.WIRE_ARENA


@pytest.fixture(scope="module")
def shared() -> Iterator[Agent]:
    with local_agent() as agent:
        yield agent


@pytest.fixture
def agent(shared: Agent) -> Agent:
    shared.reset()
    return shared


def call(number: int, *arguments: Argument, stores: tuple[Store, ...] = ()) -> Call:
    return Call(number, arguments, stores)


def run(agent: Agent, *calls: Call, sandbox: Sandbox = Sandbox(), **rest: object) -> Ran:
    return agent.run([Program(calls, **rest)], sandbox)[0]  # type: ignore[arg-type]


def children_of(pid: int) -> list[str]:
    """Processes below a process, however deep: each agent is a subreaper."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return text.split()


def agent_pid(agent: Agent) -> int:
    return int(agent.command(["sh", "-c", "echo $PPID"]).stdout)


def test_it_is_nobody_and_cannot_become_more(agent: Agent) -> None:
    own = os.geteuid() or NOBODY
    assert not agent.hello.pid1
    assert agent.hello.euid == own
    assert agent.hello.release == os.uname().release
    assert run(agent, call(GETUID)).values == (own,)
    status = agent.command(["cat", "/proc/self/status"]).stdout.decode()
    assert "NoNewPrivs:\t1" in status
    assert f"Uid:\t{own}\t{own}" in status
    assert "SigBlk:\t0000000000000000" in status


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_refuses_to_serve_as_root() -> None:
    program = binary("agent", Cache(resources.cache()))
    ours, its = socket.socketpair()
    with ours, its:
        argv = [program, "--channel", str(its.fileno()), "--scratch", "/tmp", "--tasks", "9"]
        done = subprocess.run(argv, pass_fds=[its.fileno()], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"root" in done.stderr


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
    assert b"sleep\000987" not in b"".join(_command_lines())


def _command_lines() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:
            continue


def test_a_command_that_forks_without_end_is_ended(agent: Agent) -> None:
    ended = agent.command(["sh", "-c", "b() { b | b & }; b; sleep 60"], timeout=1)
    assert ended.timed_out
    agent.reset()
    assert children_of(agent_pid(agent)) == []
    assert run(agent, call(GETPID)).end is End.EXITED


def user_namespaces() -> bool:
    return subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode == 0  # noqa: PLW1510


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


def test_a_command_gets_what_it_is_given(agent: Agent) -> None:
    done = agent.command(
        ["sh", "-c", 'cat; pwd; echo "$A" >&2; exit 3'],
        env={"A": "ä", "PATH": os.environ["PATH"]},
        stdin=b"x" * 300_000,
        cwd="/proc",
    )
    assert done.stdout == b"x" * 300_000 + b"/proc\n"
    assert done.stderr == "ä\n".encode()
    assert (done.status, done.signal, done.timed_out, done.truncated) == (3, 0, False, False)


def test_a_command_ended_by_a_signal(agent: Agent) -> None:
    done = agent.command(["sh", "-c", "kill -9 $$"])
    assert (done.status, done.signal) == (-1, 9)


def test_output_beyond_the_limit_is_dropped(agent: Agent) -> None:
    done = agent.command(["sh", "-c", "head -c 1000000 /dev/zero; echo end >&2"], limit=1000)
    assert done.stdout == bytes(1000)
    assert done.stderr == b"end\n"
    assert done.truncated


def test_a_flood_ends_at_the_deadline(agent: Agent) -> None:
    done = agent.command(["sh", "-c", "while :; do echo x; done"], limit=100, timeout=1)
    assert done.timed_out
    assert done.truncated


def test_a_process_left_behind_does_not_hold_up_the_answer(agent: Agent) -> None:
    done = agent.command(["sh", "-c", "sleep 60 & echo done"], timeout=20)
    assert done.stdout == b"done\n"
    pid = agent_pid(agent)
    assert len(children_of(pid)) >= 1
    agent.reset()
    assert children_of(agent_pid(agent)) == []


def test_a_command_that_is_not_there(agent: Agent) -> None:
    with pytest.raises(CallError, match="nonesuch") as caught:
        agent.command(["nonesuch"])
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(CallError, match="chdir"):
        agent.command(["true"], cwd="/nonesuch")


def test_files_are_written_and_read(agent: Agent) -> None:
    folder = Path(agent.command(["mktemp", "-d"]).stdout.decode().strip())
    path = f"{folder}/f"
    data = os.urandom(9 << 20)
    agent.write(path, data, mode=0o640)
    assert agent.read(path) == data
    assert agent.read(path, limit=10) == data[:10]
    agent.write(path, b"")
    assert agent.read(path) == b""
    with pytest.raises(CallError) as caught:
        agent.write(f"{folder}/g", b"", create=False)
    assert caught.value.errno == errno.ENOENT
    agent.command(["rm", "-r", str(folder)])


def test_only_what_was_made_gets_the_mode(agent: Agent) -> None:
    folder = agent.command(["mktemp", "-d"]).stdout.decode().strip()
    agent.command(["sh", "-c", f"umask 077; echo old > {folder}/old"])
    for name in ("old", "new"):
        agent.write(f"{folder}/{name}", b"x", mode=0o666)
    modes = {each.path.removeprefix(folder): each.mode for each in agent.walk(folder)}
    assert (modes["/old"], modes["/new"]) == (0o600, 0o666)
    agent.command(["rm", "-r", folder])


def test_a_fork_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # With one task allowed, and that is the agent itself, every fork fails.
    monkeypatch.setattr(local, "_SPARE_TASKS", 0)
    monkeypatch.setattr(local, "_tasks_of", lambda _: 1)
    before = set(children_of(os.getpid()))
    with local_agent() as agent:
        (pid,) = set(children_of(os.getpid())) - before
        start = time.monotonic()
        counts = []
        for _ in range(5):
            with pytest.raises(CallError, match="fork") as caught:
                agent.command(["true"])
            assert caught.value.errno == errno.EAGAIN
            counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        assert time.monotonic() - start < 2
        assert counts == counts[:1] * 5


def test_files_of_the_kernel_are_read(agent: Agent) -> None:
    # A sysctl refuses a buffer of 4 MiB or more with ENOMEM.
    assert agent.read("/proc/sys/kernel/ostype") == b"Linux\n"
    assert b"Linux version" in agent.read("/proc/version")


def test_a_walk_tells_kinds_in_order_and_does_not_follow(agent: Agent) -> None:
    script = """set -e; d=$(mktemp -d); echo $d; cd $d; mkdir b b/c; echo hello > b/f
    ln -s / a; mkfifo p; chmod 4751 b/f; : > b/c/secret; chmod 0 b/c/secret"""
    folder = agent.command(["sh", "-c", script]).stdout.decode().strip()
    entries = agent.walk(folder, contents=3)
    names = [entry.path.removeprefix(folder) for entry in entries]
    assert names == ["", "/a", "/b", "/b/c", "/b/c/secret", "/b/f", "/p"]
    assert "".join(entry.kind for entry in entries) == "dlddffp"
    by_name = dict(zip(names, entries, strict=True))
    assert by_name["/a"].target == "/"
    file = by_name["/b/f"]
    assert (file.mode, file.size, file.content, file.writable) == (0o4751, 6, b"hel", True)
    secret = by_name["/b/c/secret"]
    assert (secret.error, secret.content, secret.writable) == (errno.EACCES, None, False)
    assert by_name["/p"].content is None
    agent.command(["rm", "-r", folder])


def test_a_walk_beyond_its_limit_says_so(agent: Agent) -> None:
    with pytest.raises(CallError) as caught:
        agent.walk("/proc/sys/kernel", limit=5)
    assert caught.value.errno == errno.EOVERFLOW
    with pytest.raises(CallError):
        agent.walk("/nonesuch")


def test_a_walk_says_which_folder_it_could_not_read(agent: Agent) -> None:
    script = "d=$(mktemp -d); echo $d; cd $d; mkdir closed open; touch closed/f; chmod 0 closed"
    folder = agent.command(["sh", "-c", script]).stdout.decode().strip()
    entries = {each.path.removeprefix(folder): each.error for each in agent.walk(folder)}
    assert entries == {"": 0, "/closed": errno.EACCES, "/open": 0}
    agent.command(["sh", "-c", f"chmod 700 {folder}/closed; rm -r {folder}"])


def test_a_walk_that_does_not_go_to_the_ground_says_so(agent: Agent) -> None:
    script = "d=$(mktemp -d); echo $d; cd $d; for i in $(seq {}); do mkdir d; cd d; done"
    for depth, whole in ((60, True), (70, False)):
        folder = agent.command(["sh", "-c", script.format(depth)]).stdout.decode().strip()
        if whole:
            assert len(agent.walk(folder)) == depth + 1
        else:
            with pytest.raises(CallError) as caught:
                agent.walk(folder)
            assert caught.value.errno == errno.EOVERFLOW
        agent.command(["rm", "-r", folder])


@pytest.mark.skipif(not user_namespaces(), reason="this machine refuses user namespaces")
def test_a_walk_inside_a_sandbox_sees_it(agent: Agent) -> None:
    box = Sandbox(namespaces=CLONE_NEWUSER | CLONE_NEWUTS, timeout=20)
    outside = agent.walk("/proc/sys/kernel/hostname", contents=64)[0]
    inside = agent.walk("/proc/sys/kernel/hostname", contents=64, sandbox=box)[0]
    assert outside.writable is False
    assert inside.uid in {0, NOBODY}
    assert inside.content == outside.content


def test_what_only_a_guest_may_do_is_refused(agent: Agent) -> None:
    for ask in (agent.power_off, agent.shell, lambda: agent.set_clock_and_entropy(0, b"")):
        with pytest.raises(CallError) as caught:
            ask()
        assert caught.value.errno == errno.EPERM


def test_nothing_is_left_when_it_is_over() -> None:
    before = set(Path("/dev/shm").glob("hostabi-*"))
    with local_agent() as agent:
        agent.command(["sh", "-c", "sleep 876 &"])
    assert set(Path("/dev/shm").glob("hostabi-*")) <= before
    assert b"sleep\000876" not in b"".join(_command_lines())


def test_an_agent_that_was_killed_is_lost() -> None:
    with local_agent() as agent:
        with pytest.raises(AgentLostError):
            agent.command(["sh", "-c", "kill -9 $PPID; sleep 5"])
        with pytest.raises(AgentLostError):
            agent.ping()


def test_garbage_from_the_host_ends_the_agent() -> None:
    with local_agent() as agent:
        agent._channel.send(bytes(ffi.sizeof("struct wire_frame")))
        with pytest.raises(AgentLostError):
            agent.ping()
