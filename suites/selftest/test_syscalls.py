"""Tables, types, the builder and the printers: syscalls by name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hostabi.agent.program import (
    Children,
    End,
    Pointer,
    Program,
    Ran,
    Result,
    Sandbox,
    Scratch,
    Store,
    Word,
)
from hostabi.errors import InputError
from hostabi.kernels.headers import read_headers
from hostabi.syscalls import generate, names, printers, table, types
from hostabi.syscalls.builder import Builder, Built
from hostabi.syscalls.cases import SCRATCH, Script
from hostabi.syscalls.probes import features
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace, normalised


def test_numbers_and_constants_are_the_kernels():
    assert table.number("read") == 0
    assert table.number("openat2") == 437
    assert table.name(437) == "openat2"
    assert table.name(9999) == "syscall_9999"
    assert (C.O_CREAT, C.AT_FDCWD, C.EPOLLET) == (os.O_CREAT, -100, 1 << 31)
    with pytest.raises(InputError, match="no native syscall is called 'opneat'"):
        table.number("opneat")
    with pytest.raises(AttributeError, match="O_NOTHING"):
        _ = C.O_NOTHING


def test_constants_agree_with_pythons():
    ours = table.tables().constants
    for name in (name for name in dir(os) if name.startswith(("O_", "SEEK_", "MFD_", "CLONE_NEW"))):
        # O_LARGEFILE is 0 in a 64-bit C library and not in the kernel.
        if name in ours and name not in ("O_LARGEFILE",):
            assert ours[name] == getattr(os, name), name


def test_errno_names():
    assert table.errno_name(errno.EINVAL) == "EINVAL"
    assert table.errno_name(errno.EDEADLK) == "EDEADLK"
    assert table.errno_name(512) == "ERESTARTSYS"
    assert table.result_name(-errno.ENOENT) == "-ENOENT"
    assert table.result_name(3) == "3"


def test_layouts_are_what_a_compiler_sees():
    """Against the kernel headers that the compiler brings along; the data's own were checked
    when it was made."""
    folder = Path(__import__("ziglang").__file__).parent / "lib/libc/include"
    names = sorted({header for header, _ in types.HEADERS.values()})
    headers = read_headers([folder / "x86-linux-any", folder / "any-linux-any"], names)
    generate.check_layouts(headers)
    assert headers.values["O_CLOEXEC"] == C.O_CLOEXEC
    moved = dict.fromkeys(["struct stat"], ("asm/poll.h", "struct pollfd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(types, "HEADERS", moved)
        with pytest.raises(InputError, match="struct stat: not of the size"):
            generate.check_layouts(headers)


def test_types_from_the_headers():
    assert types.size("struct mount_attr") == C.MOUNT_ATTR_SIZE_VER0
    assert types.size("union bpf_attr") > 100
    assert types.fields("struct sock_filter") == [
        ("code", 0, 2), ("jt", 2, 1), ("jf", 3, 1), ("k", 4, 4),
    ]  # fmt: skip
    slot = Builder().struct("struct sockaddr_nl", nl_family=C.AF_NETLINK, nl_groups=1)
    assert slot.size == 12


def test_numbers_of_other_abis():
    assert table.tables().ia32["socketcall"] == 102
    assert table.tables().x32["rt_sigaction"] == 0x40000000 + 512


def test_a_struct_carries_descriptors_and_pointers():
    b = Builder()
    fd = b.call("eventfd2", 0, 0)
    data = b.content(b"hello")
    vector = b.array("struct iovec", [{"iov_base": data, "iov_len": 5}])
    polled = b.struct("struct pollfd", fd=fd, events=1)
    b.call("writev", fd, vector, 1)
    b.call("poll", polled, 1, 0)
    writev, poll = b.build().program.calls[1:]
    assert writev.stores == (Store(vector.offset, Pointer(data.offset), 8),)
    assert poll.stores == (Store(polled.offset, Result(0), 4),)
    assert str(b.build()) == (
        "0: eventfd2(0, 0)\n"
        '1: writev(r0, {iov_base="hello", iov_len=5}, 1)\n'
        "2: poll({fd=r0, events=1}, 1, 0)"
    )


def test_words_of_a_buffer_become_arguments():
    b = Builder()
    ends = b.buffer(8)
    b.call("pipe2", ends, 0)
    b.call("close", ends.word(1))
    assert b.build().program.calls[1].arguments == (Word(ends.offset + 4, 4),)


def test_what_does_not_fit_is_refused():
    b = Builder(arena=64)
    b.content(bytes(40))
    with pytest.raises(InputError, match="arena of 64 bytes is full"):
        b.buffer(32)
    with pytest.raises(InputError, match="takes six"):
        b.call("read", *range(7))
    with pytest.raises(InputError, match="outside a slot"):
        b.string("ab").at(2, 2)


def test_flags_read_as_names():
    assert names.argument("openat", 2, C.O_RDWR | C.O_CREAT | C.O_CLOEXEC) == (
        "O_RDWR|O_CREAT|O_CLOEXEC"
    )
    assert names.argument("renameat2", 4, C.RENAME_EXCHANGE | 1 << 20) == "RENAME_EXCHANGE|0x100000"
    assert names.argument("fcntl", 1, C.F_SETFD) == "F_SETFD"
    assert names.c_string(b'a"\\\n1?') == r'"a\042\134\0121\077"'


def test_a_trace_reads_back():
    b = Builder()
    stat = b.room("struct stat")
    ref = b.call("fstat", 0, stat, out=[stat])
    late = b.call("close", 0)
    written = types.ffi.new("struct stat *", {"st_size": 42, "st_ino": 7})
    raw = bytes(types.ffi.buffer(written))
    trace = Trace(b.build(), Ran(End.SIGNALLED, 9, (0,), (raw,)))
    assert trace.struct(ref, stat).st_size == 42
    assert not trace.finished
    assert "close(0) was not reached" in str(trace)
    with pytest.raises(AssertionError, match="call 1 was not reached"):
        _ = trace[late]


def test_what_is_the_machines_own_is_not_compared():
    b = Builder()
    stat = b.room("struct stat")
    b.call("fstat", 0, stat, out=[stat])
    b.call("getpid", opaque=True)
    built = b.build()

    def ran(pid: int, **fields: int) -> Ran:
        raw = bytes(types.ffi.buffer(types.ffi.new("struct stat *", fields)))
        return Ran(End.EXITED, 0, (0, pid), (raw,))

    first = normalised(built, ran(100, st_ino=1, st_mtime=5, st_size=3))
    assert first == normalised(built, ran(200, st_ino=2, st_mtime=9, st_size=3))
    assert first != normalised(built, ran(100, st_ino=1, st_mtime=5, st_size=4))
    assert first != normalised(built, ran(-errno.EPERM, st_ino=1, st_size=3))


@pytest.mark.parametrize("request_number", [9, 21])
def test_when_a_key_that_was_given_up_goes_is_not_compared(request_number):
    b = Builder()
    text = b.buffer(8)
    b.call("keyctl", 6, 5, text, 8, out=[text])
    plain = b.build()
    b = Builder()
    text = b.buffer(8)
    b.call("keyctl", request_number, 5, -1)
    b.call("keyctl", 6, 5, text, 8, out=[text])
    built = b.build()
    late, soon = ((8, b"user;0;0"), (-errno.ENOKEY, bytes(8)))

    def same(built: Built, *before: int) -> bool:
        views = {normalised(built, Ran(End.EXITED, 0, (*before, n), (s,))) for n, s in (late, soon)}
        return len(views) == 1

    assert same(built, 0)
    assert not same(plain)


def test_the_order_of_attributes_is_not_compared():
    b = Builder()
    names = b.buffer(32)
    b.call("listxattr", b.string("f"), names, 32, out=[names])
    built = b.build()

    def told(*texts: bytes):
        raw = b"".join(text + b"\0" for text in texts).ljust(32, b"\0")
        return normalised(built, Ran(End.EXITED, 0, (27,), (raw,)))

    assert told(b"user.a", b"security.capability") == told(b"security.capability", b"user.a")
    assert told(b"user.a") != told(b"user.b")


@pytest.fixture
def sample():
    b = Builder()
    ends, into = b.buffer(8), b.buffer(8)
    b.call("pipe2", ends, C.O_CLOEXEC)
    b.call("write", ends.word(1), b.content(b'\xc4"\\x'), 4)
    b.call("read", ends.word(0), into, 8, out=[into])
    b.call("close", 77)
    b.call("getpid", opaque=True)
    return b.build()


SEEN = (0, 4, 4, -errno.EBADF, 4711)
OUTPUT = (b'\xc4"\\x\0\0\0\0',)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ((SEEN, OUTPUT), ((*SEEN[:3], 0, 1), OUTPUT), 0),
        (((*SEEN[:3], 0, 1), OUTPUT), (SEEN, OUTPUT), 1),
        (((0, 4, 3, -9, 1), OUTPUT), (SEEN, (b"other\0\0\0",)), 2),
        (((*SEEN[:4], -errno.EPERM), OUTPUT), (SEEN[:3], (b"",)), 2),
    ],
)
def test_the_c_reproducer_tells_two_kernels_apart(sample, tmp_path, first, second, status):
    sides = [
        (name, Ran(End.EXITED, 0, values, outputs))
        for name, (values, outputs) in (("6.1", first), ("6.*/12", second))
    ]
    source = printers.to_c(sample, sides=sides)
    assert run_c(source, tmp_path).returncode == status


def test_the_c_program_prints_what_it_saw(sample, tmp_path):
    done = run_c(printers.to_c(sample), tmp_path)
    assert done.returncode == 0
    assert "r3 close = -9 Bad file descriptor" in done.stdout


@pytest.mark.parametrize(
    ("chain", "value", "fine", "status"),
    [
        ((0, 1), "ok", (), 0),
        ((0, 3), "ok", (), 1),
        ((0, 3), "EBADF", (), 0),
        ((0, 3), "ok", ("EBADF",), 0),
        ((3, 1), "EBADF", (), 0),
        ((0, 2), None, (), 0),
        ((0, 6), "SIGSYS", (), 0),
        ((0, 6), "SIGKILL", (), 1),
        ((0, 7), "ok", (), 3),
    ],
)
def test_the_c_program_checks_what_is_expected(tmp_path, chain, value, fine, status):
    b = Builder(children=Children.PAUSE)
    ends, into = b.buffer(8), b.buffer(8)
    b.call("pipe2", ends, C.O_CLOEXEC)
    b.call("write", ends.word(1), b.content(b"data"), 4)
    b.call("read", ends.word(0), into, 8, out=[into])
    b.call("close", 77)
    child = b.call("fork", opaque=True)
    filtered = b.array("struct sock_filter", [{"code": 6, "k": C.SECCOMP_RET_KILL_PROCESS}])
    b.call(
        "seccomp",
        C.SECCOMP_SET_MODE_FILTER,
        0,
        b.struct("struct sock_fprog", len=1, filter=filtered),
    )
    b.call("kill", child, 0)
    b.call("getpid")
    built = b.build()
    sides = [("a kernel", Ran(End.EXITED, 0, (0, 4, 4), (b"data\0\0\0\0",)))]
    expected = printers.Expected(chain, value, frozenset(fine))
    box = Sandbox(no_new_privs=True)
    source = printers.to_c(built, sandbox=box, sides=sides, expected=expected)
    assert run_c(source, tmp_path).returncode == status


def test_a_child_that_pauses_ends_by_itself_when_its_parent_cannot_end_it(tmp_path):
    """The signal at its parent's end comes only to who could ask for it, prctl(2)."""
    b = Builder(children=Children.PAUSE)
    b.call("fork", opaque=True)
    refused = (
        (0x20, 0, 0, 0),  # the syscall's number
        (0x15, 0, 1, table.number("prctl")),
        (0x06, 0, 0, C.SECCOMP_RET_ERRNO | errno.EPERM),
        (0x06, 0, 0, C.SECCOMP_RET_ALLOW),
    )
    filtered = b"".join(
        code.to_bytes(2, "little") + bytes((true, false)) + value.to_bytes(4, "little")
        for code, true, false, value in refused
    )
    box = Sandbox(no_new_privs=True, timeout=0.1, seccomp=filtered)
    done = run_c(printers.to_c(b.build(), sandbox=box), tmp_path)
    child = int(done.stdout.split("r0 fork = ")[1].split()[0])
    assert Path(f"/proc/{child}").exists()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def run_c(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "reproducer.c").write_text(source)
    flags = ["-target", "x86_64-linux-musl", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *flags, "-o", "reproducer", "reproducer.c"],
        cwd=folder,
        check=True,
    )
    return subprocess.run([folder / "reproducer"], capture_output=True, text=True, check=False)


def test_python_source_makes_the_same_program(sample):
    found: dict[str, Program] = {}
    exec(printers.to_python(sample.program), found)
    assert found["program"] == sample.program


def test_programs_and_probes_work_where_the_suite_says():
    """``--scratch`` names the file system for whatever names no sandbox of its own."""

    class Recording:
        used: list[Sandbox] = []  # noqa: RUF012

        def run(self, programs, sandbox=Sandbox()):
            self.used.append(sandbox)
            return [Ran(End.EXITED, 0, ()) for _ in programs]

    token = SCRATCH.set(Scratch.OVERLAY)
    try:
        assert Script().case().sandbox.scratch is Scratch.OVERLAY
        features(Recording())
    finally:
        SCRATCH.reset(token)
    assert [sandbox.scratch for sandbox in Recording.used] == [Scratch.OVERLAY]
    assert Script().case().sandbox.scratch is Scratch.TMPFS
