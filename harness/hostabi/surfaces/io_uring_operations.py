"""Operations of io_uring that are really done: io_uring_enter(2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hostabi.surfaces.io_uring_rings import Entry, Ring
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import inout, message, words
from hostabi.syscalls.builder import Number, Ref, Slot
from hostabi.syscalls.table import C

_HERE = words(C.AF_INET, 0, size=2) + bytes((127, 0, 0, 1)) + bytes(8)
_FUTEX_32 = 2
_FUTEX_ALL = 0xFFFFFFFF
_P_PID = 1
_WEXITED_NOHANG = 4 | 1
_NO_ATTRIBUTES = "EOPNOTSUPP"
"""The operation is done, and it is the file system that has none: xattr(7) on tmpfs."""


def operations() -> Iterator[Probe]:
    """All questions; a program for each kind of thing that is worked on."""
    for make in _KINDS:
        q = Questions(arena=1 << 17, timeout=5.0)
        make(q, Ring(q))
        yield from q.probes()


def _plain(q: Questions, ring: Ring) -> None:
    ring.ask("NOP", Entry(C.IORING_OP_NOP))
    nanosecond = q.content(words(0, 1, size=8))
    ring.ask("TIMEOUT", Entry(C.IORING_OP_TIMEOUT, addr=nanosecond, length=1), fine="ETIME")
    # nothing has this number
    ring.ask("TIMEOUT_REMOVE", Entry(C.IORING_OP_TIMEOUT_REMOVE, addr=99), fine="ENOENT")
    ring.ask("ASYNC_CANCEL", Entry(C.IORING_OP_ASYNC_CANCEL, addr=99), fine="ENOENT")
    ring.ask("POLL_REMOVE", Entry(C.IORING_OP_POLL_REMOVE, addr=99), fine="ENOENT")
    ring.ask("MSG_RING", Entry(C.IORING_OP_MSG_RING, fd=ring.fd, length=7, off=4242))
    update = Entry(C.IORING_OP_FILES_UPDATE, addr=q.content(bytes(4)), length=1)
    ring.ask("FILES_UPDATE", update, fine="ENXIO")
    ring.ask("no-such-operation", Entry(254))


def _open(q: Questions, name: str) -> Ref:
    path = q.string(name)
    return q.need("openat", C.AT_FDCWD, path, C.O_CREAT | C.O_RDWR, 0o644, opaque=True)


def _vector(q: Questions, room: Slot) -> Slot:
    return q.array("struct iovec", [{"iov_base": room, "iov_len": 8}])


def _files(q: Questions, ring: Ring) -> None:
    """What is done to an open file."""
    fd, room = _open(q, "file"), q.buffer(64)
    vector = _vector(q, room)
    for name, entry in (
        ("WRITE", Entry(C.IORING_OP_WRITE, fd=fd, addr=room, length=8)),
        ("READ", Entry(C.IORING_OP_READ, fd=fd, addr=room, length=8)),
        ("WRITEV", Entry(C.IORING_OP_WRITEV, fd=fd, addr=vector, length=1)),
        ("READV", Entry(C.IORING_OP_READV, fd=fd, addr=vector, length=1)),
        ("FSYNC", Entry(C.IORING_OP_FSYNC, fd=fd)),
        ("FSYNC.DATASYNC", Entry(C.IORING_OP_FSYNC, fd=fd, flags=C.IORING_FSYNC_DATASYNC)),
        ("SYNC_FILE_RANGE", Entry(C.IORING_OP_SYNC_FILE_RANGE, fd=fd, length=8)),
        ("FALLOCATE", Entry(C.IORING_OP_FALLOCATE, fd=fd, addr=4096)),
        ("FTRUNCATE", Entry(C.IORING_OP_FTRUNCATE, fd=fd, off=16)),
        ("FADVISE", Entry(C.IORING_OP_FADVISE, fd=fd, length=8)),
        ("MADVISE", Entry(C.IORING_OP_MADVISE, addr=0x200000000000, length=4096)),
    ):
        ring.ask(name, entry, vector)
    install = Entry(C.IORING_OP_FIXED_FD_INSTALL, fd=0, sqe_flags=C.IOSQE_FIXED_FILE)
    ring.ask("FIXED_FD_INSTALL", install, fine="EBADF")
    key, value = q.string("user.a"), q.string("b")
    give = Entry(C.IORING_OP_FSETXATTR, fd=fd, addr=key, off=value, length=1)
    ring.ask("FSETXATTR", give, fine=_NO_ATTRIBUTES)
    take = Entry(C.IORING_OP_FGETXATTR, fd=fd, addr=key, off=room, length=8)
    ring.ask("FGETXATTR", take, fine=_NO_ATTRIBUTES)


def _paths(q: Questions, ring: Ring) -> None:
    """What is done by path."""
    here, cwd, room = q.string("."), C.AT_FDCWD, q.buffer(256)
    name, other, link = q.string("made"), q.string("other"), q.string("link")
    q.call("mkdir", name, 0o700)
    q.call("symlink", here, link)
    how = q.struct("struct open_how", flags=C.O_RDONLY)
    value = q.string("user.a")
    for key, entry in (
        ("OPENAT", Entry(C.IORING_OP_OPENAT, fd=cwd, addr=here, flags=C.O_RDONLY)),
        ("OPENAT2", Entry(C.IORING_OP_OPENAT2, fd=cwd, addr=here, off=how, length=24)),
        ("STATX", Entry(C.IORING_OP_STATX, fd=cwd, addr=here, off=room, length=0xFFF)),
        ("MKDIRAT", Entry(C.IORING_OP_MKDIRAT, fd=cwd, addr=q.string("new"), length=0o700)),
        ("RENAMEAT", Entry(C.IORING_OP_RENAMEAT, fd=cwd, addr=name, off=other, length=cwd)),
        (
            "UNLINKAT",
            Entry(C.IORING_OP_UNLINKAT, fd=cwd, addr=other, flags=C.AT_REMOVEDIR),
        ),
        ("SYMLINKAT", Entry(C.IORING_OP_SYMLINKAT, fd=cwd, addr=here, off=q.string("link2"))),
        (
            "LINKAT",
            Entry(C.IORING_OP_LINKAT, fd=cwd, addr=link, off=q.string("hard"), length=cwd),
        ),
    ):
        ring.ask(key, entry)
    give = Entry(C.IORING_OP_SETXATTR, addr=value, off=value, length=1, addr3=here)
    ring.ask("SETXATTR", give, fine=_NO_ATTRIBUTES)
    take = Entry(C.IORING_OP_GETXATTR, addr=value, off=room, length=8, addr3=here)
    ring.ask("GETXATTR", take, fine=_NO_ATTRIBUTES)
    fd = q.call("openat", C.AT_FDCWD, here, C.O_RDONLY)
    ring.ask("CLOSE", Entry(C.IORING_OP_CLOSE, fd=fd), needs=(fd,))


def _pipes(q: Questions, ring: Ring) -> None:
    ends, others = q.buffer(8), q.buffer(8)
    for each in (ends, others):
        q.need("pipe2", each, C.O_NONBLOCK)
    q.call("write", ends.word(1), q.string("ab"), 2)
    tee = Entry(C.IORING_OP_TEE, fd=others.word(1), file_index=ends.word(0), length=1)
    ring.ask("TEE", tee)
    ring.ask("SPLICE", replace(tee, opcode=C.IORING_OP_SPLICE, off=-1, addr=-1))
    ring.ask("PIPE", Entry(C.IORING_OP_PIPE, fd=0, addr=q.buffer(8)))
    epoll = q.call("epoll_create1", 0)
    event = q.struct("struct epoll_event", events=C.EPOLLOUT)
    add = Entry(C.IORING_OP_EPOLL_CTL, fd=epoll, addr=event, off=ends.word(1))
    ring.ask("EPOLL_CTL", replace(add, length=C.EPOLL_CTL_ADD))
    room = q.buffer(64)
    ring.ask("EPOLL_WAIT", Entry(C.IORING_OP_EPOLL_WAIT, fd=epoll, addr=room, length=1))
    ready = Entry(C.IORING_OP_POLL_ADD, fd=ends.word(1), flags=C.EPOLLOUT)
    ring.ask("POLL_ADD", ready)


def _pair(q: Questions) -> tuple[Number, Number]:
    pair = q.buffer(8)
    q.need("socketpair", C.AF_UNIX, C.SOCK_STREAM, 0, pair)
    return pair.word(0), pair.word(1)


def _sockets(q: Questions, ring: Ring) -> None:
    """What is done to a connected socket."""
    one, other = _pair(q)
    text, room = q.string("abcd"), q.buffer(64)
    sent, got = message(q, text, 2), message(q, room, 2)
    for key, entry in (
        ("SEND", Entry(C.IORING_OP_SEND, fd=one, addr=text, length=4)),
        ("RECV", Entry(C.IORING_OP_RECV, fd=other, addr=room, length=1)),
        ("SENDMSG", Entry(C.IORING_OP_SENDMSG, fd=one, addr=sent, length=1)),
        ("RECVMSG", Entry(C.IORING_OP_RECVMSG, fd=other, addr=got, length=1)),
        ("SHUTDOWN", Entry(C.IORING_OP_SHUTDOWN, fd=one, length=2)),
    ):
        ring.ask(key, entry, sent, got)


def _datagrams(q: Questions, ring: Ring) -> None:
    """What only sockets of networks do; this one talks to itself."""
    fd = q.need("socket", C.AF_INET, C.SOCK_DGRAM | C.SOCK_NONBLOCK, 0, opaque=True)
    loopback = b"lo".ljust(16, b"\0") + words(C.IFF_UP, size=2) + bytes(22)
    q.call("ioctl", fd, C.SIOCSIFFLAGS, q.content(loopback))
    q.need("bind", fd, q.content(_HERE), 16)
    name = q.buffer(16)
    q.need("getsockname", fd, name, inout(q, 16))
    q.need("connect", fd, name, 16)
    text = q.string("abcd")
    sent = message(q, text, 2)
    for key, entry in (
        ("URING_CMD.SIOCINQ", Entry(C.IORING_OP_URING_CMD, fd=fd)),
        ("SEND_ZC", Entry(C.IORING_OP_SEND_ZC, fd=fd, addr=text, length=1)),
        ("SENDMSG_ZC", Entry(C.IORING_OP_SENDMSG_ZC, fd=fd, addr=sent, length=1)),
    ):
        ring.ask(key, entry, sent)


def _listening(q: Questions, ring: Ring) -> None:
    """From no socket to an accepted one; a connection that is refused completes as well."""
    stream = Entry(C.IORING_OP_SOCKET, fd=C.AF_INET, off=C.SOCK_STREAM)
    ring.ask("SOCKET", stream)
    fd = q.need("socket", C.AF_INET, C.SOCK_STREAM | C.SOCK_NONBLOCK, 0, opaque=True)
    address = q.content(_HERE)
    ring.ask("BIND", Entry(C.IORING_OP_BIND, fd=fd, addr=address, off=16))
    q.call("bind", fd, address, 16)
    ring.ask("LISTEN", Entry(C.IORING_OP_LISTEN, fd=fd, length=1))
    path = q.content(words(C.AF_UNIX, size=2) + b"\0hostabi-ring")
    heard = q.call("socket", C.AF_UNIX, C.SOCK_STREAM | C.SOCK_NONBLOCK, 0, opaque=True)
    bound = q.call("bind", heard, path, path.size)
    q.call("listen", heard, 1)
    caller = q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0, opaque=True)
    connect = Entry(C.IORING_OP_CONNECT, fd=caller, addr=path, off=path.size)
    ring.ask("CONNECT", connect, needs=(bound,))
    ring.ask("ACCEPT", Entry(C.IORING_OP_ACCEPT, fd=heard), needs=(bound,))


def _waiting(q: Questions, ring: Ring) -> None:
    """Futexes and children, of which there are none to wait for."""
    word = q.content(words(1))
    wake = Entry(C.IORING_OP_FUTEX_WAKE, fd=_FUTEX_32, addr=word, off=1, addr3=_FUTEX_ALL)
    ring.ask("FUTEX_WAKE", wake)
    wait = replace(wake, opcode=C.IORING_OP_FUTEX_WAIT, off=2)
    ring.ask("FUTEX_WAIT", wait, fine="EAGAIN")
    waiter = q.struct("struct futex_waitv", val=2, uaddr=word, flags=_FUTEX_32)
    several = Entry(C.IORING_OP_FUTEX_WAITV, fd=0, addr=waiter, length=1)
    ring.ask("FUTEX_WAITV", several, waiter, fine="EAGAIN")
    waited = Entry(C.IORING_OP_WAITID, fd=1, length=_P_PID, file_index=_WEXITED_NOHANG)
    ring.ask("WAITID", waited, fine="ECHILD")


def _buffers(q: Questions, ring: Ring) -> None:
    """Memory and files that are registered beforehand."""
    fd, room = _open(q, "file"), q.buffer(4096)
    vector = q.array("struct iovec", [{"iov_base": room, "iov_len": 4096}])
    registered = q.call("io_uring_register", ring.fd, C.IORING_REGISTER_BUFFERS, vector, 1)
    write = Entry(C.IORING_OP_WRITE_FIXED, fd=fd, addr=room, length=8)
    ring.ask("WRITE_FIXED", write, needs=(registered,))
    read = replace(write, opcode=C.IORING_OP_READ_FIXED)
    ring.ask("READ_FIXED", read, needs=(registered,))
    short = _vector(q, room)
    write = Entry(C.IORING_OP_WRITEV_FIXED, fd=fd, addr=short, length=1)
    ring.ask("WRITEV_FIXED", write, short, needs=(registered,))
    read = replace(write, opcode=C.IORING_OP_READV_FIXED)
    ring.ask("READV_FIXED", read, short, needs=(registered,))
    provide = Entry(C.IORING_OP_PROVIDE_BUFFERS, fd=2, addr=room, length=64, index=5)
    ring.ask("PROVIDE_BUFFERS", provide)
    ends = q.buffer(8)
    q.call("pipe2", ends, C.O_NONBLOCK)
    q.call("write", ends.word(1), q.string("ab"), 2)
    q.call("close", ends.word(1))
    selected = C.IOSQE_BUFFER_SELECT
    read = Entry(C.IORING_OP_READ, fd=ends.word(0), length=1, index=5, sqe_flags=selected)
    ring.ask("READ.IOSQE_BUFFER_SELECT", read)
    ring.ask("READ_MULTISHOT", replace(read, opcode=C.IORING_OP_READ_MULTISHOT, length=0))
    ring.ask("REMOVE_BUFFERS", Entry(C.IORING_OP_REMOVE_BUFFERS, fd=1, index=5))


def _flags(q: Questions, ring: Ring) -> None:
    """IOSQE_* flags on an operation that does nothing."""
    for name in ("IO_DRAIN", "IO_LINK", "IO_HARDLINK", "ASYNC", "FIXED_FILE"):
        flag = getattr(C, f"IOSQE_{name}")
        ring.ask(f"NOP.IOSQE_{name}", Entry(C.IORING_OP_NOP, sqe_flags=flag))
    ring.ask("NOP.sqe-flag-0x80", Entry(C.IORING_OP_NOP, sqe_flags=0x80))


_KINDS = (
    _plain,
    _files,
    _paths,
    _pipes,
    _sockets,
    _datagrams,
    _listening,
    _waiting,
    _buffers,
    _flags,
)
