"""The agent beside others: whatever its programs try, nobody else notices, also when root calls."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from localagent import agent, shared, user_namespaces

from hostabi.agent.client import Agent
from hostabi.agent.program import End, Ran, Sandbox
from hostabi.runs.fuzz.drawing import draw
from hostabi.runs.fuzz.sandboxes import OWN, SANDBOXES
from hostabi.syscalls.builder import Builder, Ref
from hostabi.syscalls.descriptions.programs import programs
from hostabi.syscalls.table import C

__all__ = ["agent", "shared"]

MNT_DETACH = 2  # include/linux/fs.h
BARE = Sandbox()
INSIDE = Sandbox(namespaces=OWN | C.CLONE_NEWUSER | C.CLONE_NEWNET)
"""Root of its own namespaces, as far as anybody is."""
SETTINGS = (
    "kernel/panic",
    "kernel/core_pattern",
    "vm/swappiness",
    "kernel/hostname",
    "fs/file-max",
)
needs_namespaces = pytest.mark.skipif(not user_namespaces(), reason="no user namespaces here")
SANDBOXED = [
    pytest.param(BARE, id="bare"),
    pytest.param(INSIDE, id="inside", marks=needs_namespaces),
]


@pytest.fixture
def victim() -> Iterator[int]:
    """A process of another user, when root calls; where we are that user ourselves, none."""
    if os.geteuid() != 0:
        pytest.skip("only root can have a process of another user")
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """What must be as it was, whatever a test does."""
    before = look()
    yield
    assert look() == before


def look() -> dict[str, str]:
    found = {name: Path("/proc/sys", name).read_text() for name in SETTINGS}
    found["mounts"] = Path("/proc/self/mountinfo").read_text()
    found["forward"] = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return found


def ask(agent: Agent, b: Builder, sandbox: Sandbox) -> Ran:
    (ran,) = agent.run([b.build().program], sandbox)
    assert ran.end is not End.REFUSED, ran.detail
    return ran


@pytest.mark.parametrize("sandbox", SANDBOXED)
def test_it_kills_nobody(agent, victim, sandbox):
    b = Builder()
    info = b.buffer(128)
    room = b.struct("struct iovec", iov_base=b.buffer(8), iov_len=8)
    for call in (
        ("kill", victim, 9),
        ("kill", -victim, 9),
        ("tkill", victim, 9),
        ("tgkill", victim, victim, 9),
        ("rt_sigqueueinfo", victim, 9, info),
        ("ptrace", C.PTRACE_ATTACH, victim, 0, 0),
        ("process_vm_readv", victim, room, 1, room, 1, 0),
        ("setpriority", C.PRIO_PROCESS, victim, 19),
        ("sched_setaffinity", victim, 8, b.content(b"\1" + bytes(7))),
        ("prlimit64", victim, C.RLIMIT_NOFILE, b.struct("struct rlimit64"), 0),
    ):
        b.call(*call)
    fd = b.call("pidfd_open", victim, 0)
    b.call("pidfd_send_signal", fd, 9, 0, 0)
    b.call("pidfd_getfd", fd, 0, 0)
    ran = ask(agent, b, sandbox)
    refused = {-errno.EPERM, -errno.ESRCH, -errno.EBADF, -errno.ENOSYS, -errno.EACCES}
    values = list(ran.values)
    # a pidfd of another user's process may be had; nothing may be done with it
    values.pop(-3)
    assert set(values) <= refused
    assert len(values) == 12


@needs_namespaces
def test_inside_a_pid_namespace_all_that_can_be_killed_is_its_own(agent, victim):
    b = Builder()
    b.call("kill", -1, 9)
    ran = ask(agent, b, INSIDE)
    assert ran.end is End.EXITED
    assert agent.ping() > 0


@pytest.mark.parametrize("sandbox", SANDBOXED)
def test_it_writes_no_setting(agent, sandbox):
    b = Builder()
    opened = [
        b.call("openat", C.AT_FDCWD, b.string(f"/proc/sys/{name}"), C.O_WRONLY, 0)
        for name in (*SETTINGS[:3], SETTINGS[4])
    ]
    for fd in opened:
        b.call("write", fd, b.content(b"1\n"), 2)
    b.call("syslog", 5, 0, 0)
    ran = ask(agent, b, sandbox)
    for ref in opened:
        assert value(ran, ref) in {-errno.EACCES, -errno.EPERM, -errno.EROFS}, ref


@pytest.mark.parametrize("sandbox", SANDBOXED)
def test_it_changes_nothing_of_the_machine(agent, sandbox):
    b = Builder()
    own = sandbox.namespaces & C.CLONE_NEWUTS
    name = b.call("sethostname", b.string("elsewhere"), 9)
    others = [
        b.call("settimeofday", b.content(bytes(16)), 0),
        b.call("reboot", 0xFEE1DEAD, 672274793, 0x89ABCDEF, 0),
        b.call("swapoff", b.string("/swap")),
        b.call("init_module", b.content(b"x"), 1, b.string("")),
        b.call("delete_module", b.string("overlay"), 0),
        b.call("kexec_load", 0, 0, 0, 0),
        b.call("acct", b.string("f")),
    ]
    ran = ask(agent, b, sandbox)
    assert value(ran, name) == (0 if own else -errno.EPERM)
    # EINVAL is what reboot(2) says of that in a PID namespace
    refused = {-errno.EPERM, -errno.ENOSYS, -errno.EINVAL}
    assert {value(ran, ref) for ref in others} <= refused


@pytest.mark.parametrize("sandbox", SANDBOXED)
def test_what_it_mounts_is_its_own(agent, sandbox):
    own = sandbox.namespaces & C.CLONE_NEWNS
    b = Builder()
    b.call("mkdirat", C.AT_FDCWD, b.string("d"), 0o700)
    mounted = b.call("mount", b.string("t"), b.string("d"), b.string("tmpfs"), 0, 0)
    b.call("mount", b.string("d"), b.string("/tmp"), 0, C.MS_BIND, 0)
    remounted = b.call("mount", 0, b.string("/"), 0, C.MS_REMOUNT | C.MS_RDONLY, 0)
    b.call("umount2", b.string("/proc"), MNT_DETACH)
    b.call("mount", 0, b.string("/"), 0, C.MS_REC | C.MS_SHARED, 0)
    ran = ask(agent, b, sandbox)
    assert value(ran, mounted) == (0 if own else -errno.EPERM)
    assert value(ran, remounted) == -errno.EPERM


def test_privilege_is_not_to_be_had(agent):
    """No set-user-id program gives any: execve(2) with no_new_privs."""
    su = next(path for path in ("/bin/su", "/usr/bin/su", "/usr/bin/passwd") if Path(path).exists())
    done = agent.command(["cat", "/proc/self/status"]).stdout.decode()
    assert re.search(r"CapPrm:\s+0+\n", done)
    assert re.search(r"NoNewPrivs:\s+1\n", done)
    b = Builder()
    b.call("setresuid", 0, 0, 0)
    b.call("setresgid", 0, 0, 0)
    b.call("prctl", C.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
    b.call("chown", b.string(su), 0, 0)
    assert set(ask(agent, b, BARE).values) <= {-errno.EPERM, -errno.EINVAL, -errno.EROFS}


@needs_namespaces
def test_random_programs_leave_the_machine_as_it_was(agent, victim):
    box = SANDBOXES["user"]
    own = Sandbox(namespaces=box.namespaces, timeout=box.timeout)
    cases = draw(programs(sandbox=own), 11, 200)
    rans = agent.run([case.built.program for case in cases], own)
    assert sum(ran.end is End.EXITED for ran in rans) > 150


def value(ran: Ran, ref: Ref) -> int:
    return ran.values[ref.call]
