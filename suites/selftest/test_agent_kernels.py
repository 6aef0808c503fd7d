"""The agent as PID 1 of a real guest: scratch space, sandboxes, roots, the shell and the end."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from hostabi.agent.client import Agent
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
)
from hostabi.kernels.resolve import resolve
from hostabi.machine.machine import Machine, start
from hostabi.packages.context import Packages

pytestmark = pytest.mark.kernels

SPEC = os.environ.get("HOSTABI_SELFTEST_KERNEL", "6.12")

# System calls of x86_64, arch/x86/entry/syscalls/syscall_64.tbl.
WRITE, IOCTL, GETPID, EXECVE, MKDIR, READLINK, GETUID = 1, 16, 39, 59, 83, 89, 102
GETGID, STATFS, MOUNT, GETDENTS64, OPENAT = 104, 137, 165, 217, 257
CLONE_NEWUSER, CLONE_NEWTIME = 0x10000000, 0x00000080
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_BIND, NS_GET_OWNER_UID = 4096, 0xB704
AT_FDCWD = -100
MAGIC = {Scratch.TMPFS: 0x01021994, Scratch.EXT4: 0xEF53, Scratch.OVERLAY: 0x794C7630}
"""f_type of statfs(2)."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Machine]:
    packages = Packages.open()
    with start(resolve(SPEC, packages), packages, accel="tcg") as machine:
        yield machine


@pytest.fixture
def agent(shared: Machine) -> Agent:
    shared.agent.reset()
    return shared.agent


@pytest.fixture
def machine() -> Iterator[Machine]:
    """One of our own, to be switched off."""
    packages = Packages.open()
    with start(resolve(SPEC, packages), packages, accel="tcg") as machine:
        yield machine


def call(number: int, *arguments: Argument, stores: tuple[Store, ...] = ()) -> Call:
    return Call(number, arguments, stores)


def run(agent: Agent, *calls: Call, sandbox: Sandbox = Sandbox(), **rest: object) -> Ran:
    return agent.run([Program(calls, **rest)], sandbox)[0]  # type: ignore[arg-type]


def sh(agent: Agent, text: str) -> str:
    return agent.command(["/bin/sh", "-c", text]).stdout.decode().strip()


def contents(agent: Agent, sandbox: Sandbox) -> list[int]:
    """Length of the listing of the program's folder, and the values of making it non-empty."""
    data = b".\0left\0sub\0"
    ran = run(
        agent,
        call(OPENAT, AT_FDCWD, Pointer(0), os.O_RDONLY),
        call(GETDENTS64, Result(0), Pointer(1024), 1024),
        call(OPENAT, AT_FDCWD, Pointer(2), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600),
        call(WRITE, Result(2), Pointer(0), 1),
        call(MKDIR, Pointer(7), 0o700),
        call(STATFS, Pointer(0), Pointer(4096)),
        data=data,
        outputs=(Output(5, 4096, 8),),
        sandbox=sandbox,
    )
    assert ran.end is End.EXITED, ran
    assert struct.unpack("<q", ran.outputs[0])[0] == MAGIC[sandbox.scratch]
    return list(ran.values[1:5])


@pytest.mark.parametrize("kind", list(Scratch))
@pytest.mark.parametrize("uid", [0, 1234])
def test_scratch_of_each_kind_is_empty_each_time(agent: Agent, kind: Scratch, uid: int) -> None:
    for _ in range(3):  # "." and "..", and everything can be made again
        assert contents(agent, Sandbox(scratch=kind, uid=uid, gid=uid)) == [48, 4, 1, 0]


@pytest.mark.parametrize("kind", list(Scratch))
@pytest.mark.parametrize("source", ["/var/precious", "/", "tmpfs"])
def test_what_was_mounted_in_scratch_is_not_removed(
    agent: Agent, kind: Scratch, source: str
) -> None:
    """A program of root without a mount namespace mounts the machine's own folders in its own."""
    sh(agent, "mkdir -p /var/precious; echo gold > /var/precious/file")
    texts = f"tmpfs\0here\0{source}\0".encode()
    ran = run(
        agent,
        call(MKDIR, Pointer(6), 0o700),
        call(MOUNT, Pointer(11), Pointer(6), Pointer(0), 0 if source == "tmpfs" else MS_BIND, 0),
        data=texts,
        sandbox=Sandbox(scratch=kind),
    )
    assert ran.values == (0, 0)
    assert sh(agent, "cat /var/precious/file; ls -d /tmp /root") == "gold\n/root\n/tmp"
    assert contents(agent, Sandbox(scratch=kind)) == [48, 4, 1, 0]
    assert sh(agent, "grep -c '/here ' /proc/mounts") == "0"


def test_a_program_of_another_user(agent: Agent) -> None:
    who = (call(GETUID), call(GETGID))
    assert run(agent, *who, sandbox=Sandbox(uid=1234, gid=4321)).values == (1234, 4321)
    box = Sandbox(namespaces=CLONE_NEWUSER, uid=1234, gid=4321)
    assert run(agent, *who, sandbox=box).values == (0, 0)
    box = Sandbox(namespaces=CLONE_NEWUSER, uid=1234, gid=4321, map_root=False)
    assert run(agent, *who, sandbox=box).values == (1234, 4321)


def test_a_user_namespace_belongs_to_the_user(agent: Agent) -> None:
    """Who may be refused one that root would be given, user_namespaces(7)."""
    box = Sandbox(namespaces=CLONE_NEWUSER, uid=1234, gid=4321, map_root=False)
    owner = (
        call(OPENAT, AT_FDCWD, Pointer(0), os.O_RDONLY),
        call(IOCTL, Result(0), NS_GET_OWNER_UID, Pointer(64)),
    )
    how = {"data": b"/proc/self/ns/user\0", "outputs": (Output(1, 64, 4),)}
    # The namespace it is in is asked about from inside, where 1234 is mapped to itself.
    assert struct.unpack("<I", run(agent, *owner, sandbox=box, **how).outputs[0]) == (1234,)
    switch = "/proc/sys/kernel/unprivileged_userns_clone"  # of Debian's kernels only
    if sh(agent, f"cat {switch}") == "1":
        sh(agent, f"echo 0 > {switch}")
        refused = run(agent, call(GETUID), sandbox=box)
        sh(agent, f"echo 1 > {switch}")
        assert (refused.end, refused.detail) == (End.REFUSED, "clone")
    assert run(agent, call(GETUID), sandbox=box).values == (1234,)


def test_a_proc_and_a_sysfs_of_its_own(agent: Agent) -> None:
    spaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET
    box = Sandbox(namespaces=spaces, uid=1000, gid=1000, own_proc=True, own_sys=True)

    def processes(sandbox: Sandbox) -> list[str]:
        found = agent.walk("/proc", depth=1, sandbox=sandbox)
        return [each.path.removeprefix("/proc/") for each in found if each.path[6:].isdigit()]

    assert processes(box) == ["1"]
    assert len(processes(Sandbox())) > 1
    devices = agent.walk("/sys/class/net", depth=1, sandbox=box)
    assert [each.path for each in devices] == ["/sys/class/net", "/sys/class/net/lo"]


def test_a_time_namespace(agent: Agent) -> None:
    look = call(READLINK, Pointer(0), Pointer(64), 64)

    def seen(sandbox: Sandbox) -> bytes:
        ran = run(
            agent, look, data=b"/proc/self/ns/time\0", outputs=(Output(0, 64, 64),), sandbox=sandbox
        )
        assert ran.end is End.EXITED, ran
        return ran.outputs[0][: ran.values[0]]

    plain = seen(Sandbox())
    assert plain.startswith(b"time:[")
    other = seen(Sandbox(namespaces=CLONE_NEWTIME))
    assert other.startswith(b"time:[")
    assert other != plain


def leave_a_process(agent: Agent) -> None:
    """A program becomes a shell that starts a process in a session of its own, and ends."""
    strings = b"/bin/sh\0-c\0busybox setsid busybox sleep 987 & busybox sleep 0.3\0"
    argv = tuple(Store(128 + 8 * i, Pointer(at)) for i, at in enumerate((0, 8, 11)))
    execute = call(EXECVE, Pointer(0), Pointer(128), Pointer(152), stores=argv)
    assert run(agent, execute, data=strings, sandbox=Sandbox(timeout=5)).end is End.EXITED


def sleepers(agent: Agent) -> int:
    return int(sh(agent, "ps | grep -c 'sleep [9]87'"))


def test_leftovers_are_found_without_a_list_of_children(agent: Agent) -> None:
    """As on a kernel without CONFIG_PROC_CHILDREN, see proc(5) on /proc/pid/task/tid/children."""
    sh(agent, "mount -t tmpfs none /proc/1/task")
    try:
        leave_a_process(agent)
        assert sleepers(agent) == 0
    finally:
        sh(agent, "umount /proc/1/task")
    leave_a_process(agent)
    assert sleepers(agent) == 0


def test_a_reset_kills_and_empties(agent: Agent) -> None:
    sh(agent, "busybox setsid busybox sleep 987 > /dev/null 2>&1 &")
    assert sleepers(agent) == 1
    agent.reset()
    assert sleepers(agent) == 0
    assert agent.ping() < 5


def test_a_tree_as_root(agent: Agent) -> None:
    """Entered by pivot_root: a process in a chroot may not make a user namespace."""
    tree = "/work/tree"
    sh(agent, f"mkdir -p {tree}/bin {tree}/etc; cp /bin/busybox {tree}/bin; ln -s bin {tree}/sbin")
    agent.write(f"{tree}/etc/mark", b"mine")

    def inside(*argv: str) -> str:
        done = agent.command(["/bin/busybox", *argv], root=tree)
        assert (done.status, done.stderr) == (0, b"")
        return done.stdout.decode().strip()

    assert inside("cat", "/etc/mark") == "mine"
    assert inside("ls", "/").split() == [
        "bin",
        "dev",
        "etc",
        "proc",
        "run",
        "sbin",
        "sys",
        "tmp",
        "work",
    ]
    assert inside("ls", "/etc") == "mark"
    assert inside("readlink", "/sbin") == "bin"
    assert inside("unshare", "-U", "-r", "/bin/busybox", "id", "-u") == "0"
    assert sh(agent, "ls /etc/hostname; grep -c scratch/root /proc/mounts") == "/etc/hostname\n0"


def test_an_orderly_end(machine: Machine) -> None:
    sh(machine.agent, "echo x > /work/x")
    machine.agent.power_off()
    assert machine.run.process.wait(60) == 0
    assert machine.run.reason == "guest-shutdown"


def heard(line: socket.socket, until: bytes) -> bytes:
    """What came over the line up to ``until``, or, when that is empty, up to its end."""
    line.settimeout(60)
    got = b""
    while not until or until not in got:
        part = line.recv(4096)
        if not part:
            assert not until, got
            break
        got += part
    return got


def test_the_end_of_a_shell_ends_the_machine(machine: Machine) -> None:
    machine.agent.shell()
    line = machine.shell_socket
    line.sendall(b"echo $((40+2))-$(tty)\n")
    assert b"42-/dev/ttyS1" in heard(line, b"42-/dev/ttyS1")
    line.sendall(b"exit\n")
    heard(line, b"")
    assert machine.run.process.wait(60) == 0
