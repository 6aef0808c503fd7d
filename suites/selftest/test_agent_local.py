"""The real agent as a process on this kernel: who it is, its commands, files and walks, its end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

from hostabi import resources
from hostabi.agent import local
from hostabi.agent.build import binary
from hostabi.agent.client import Agent
from hostabi.agent.local import NOBODY, local_agent
from hostabi.agent.program import End, Sandbox
from hostabi.agent.wire import ffi
from hostabi.errors import AgentLostError, CallError
from hostabi.packages.cache import Cache

__all__ = ["agent", "shared"]

GETPID, GETUID = 39, 102  # arch/x86/entry/syscalls/syscall_64.tbl
CLONE_NEWUSER, CLONE_NEWUTS = 0x10000000, 0x04000000


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


def test_a_command_that_forks_without_end_is_ended(agent: Agent) -> None:
    ended = agent.command(["sh", "-c", "b() { b | b & }; (b); exec sleep 60"], timeout=1)
    assert ended.timed_out
    agent.reset()
    assert children_of(agent_pid(agent)) == []
    assert run(agent, call(GETPID)).end is End.EXITED


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


def test_a_command_that_does_not_even_begin_has_its_deadline(agent: Agent) -> None:
    """Whoever opens a file on which another has a lease waits for it, fcntl(2)."""
    with tempfile.TemporaryDirectory() as folder, ignored(signal.SIGIO):
        Path(folder).chmod(0o755)
        script = Path(folder) / "script"
        script.write_text("#!/bin/sh\necho began\n")
        script.chmod(0o755)
        with script.open("rb") as leased:
            try:
                fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as error:
                pytest.skip(f"{folder} takes no leases: {error.strerror}")
            began = time.monotonic()
            late = agent.command([str(script)], timeout=1)
            took = time.monotonic() - began
            fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        assert late.timed_out
        assert late.stdout == b""
        # the kernel would take the lease away after 45 s (/proc/sys/fs/lease-break-time)
        assert 1 <= took < 20
        assert agent.command([str(script)], timeout=20).stdout == b"began\n"


@contextmanager
def ignored(number: int) -> Iterator[None]:
    """Ignore a signal for a while."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


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
    assert b"sleep\000876" not in b"".join(command_lines())


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


def test_a_walk_stops_at_its_depth_and_passes_over_numbers(agent: Agent) -> None:
    script = "d=$(mktemp -d); echo $d; cd $d; mkdir -p a/b/c 12 3x; touch a/b/f 45"
    folder = agent.command(["sh", "-c", script]).stdout.decode().strip()

    def names(**how: int) -> list[str]:
        return [each.path.removeprefix(folder) for each in agent.walk(folder, **how)][1:]

    assert names(depth=1) == ["/12", "/3x", "/45", "/a"]
    assert names(depth=2, skip_numbers=True) == ["/3x", "/a", "/a/b"]
    assert names(skip_numbers=True) == ["/3x", "/a", "/a/b", "/a/b/c", "/a/b/f"]
    agent.command(["rm", "-r", folder])
