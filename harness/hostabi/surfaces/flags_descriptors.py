"""Flags and commands of calls that make descriptors or are given one."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.answers import returned
from hostabi.surfaces.flag_names import bits, named
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

_FREE = 1 << 29
_PAGE = 4096
_CLOCKS = (
    "REALTIME",
    "MONOTONIC",
    "PROCESS_CPUTIME_ID",
    "THREAD_CPUTIME_ID",
    "MONOTONIC_RAW",
    "REALTIME_COARSE",
    "MONOTONIC_COARSE",
    "BOOTTIME",
    "REALTIME_ALARM",
    "BOOTTIME_ALARM",
    "TAI",
    "AUX",
)
"""Clocks of clock_gettime(2), linux/time.h."""
_SPLICE = {"MOVE": 1, "NONBLOCK": 2, "MORE": 4, "GIFT": 8, "unknown": 1 << 10}
"""splice(2); in no header of the UAPI."""
_SECOND = (1).to_bytes(8, "little") + bytes(8)


def probes() -> Iterator[Probe]:
    """All questions."""
    for make in (_made, _clocks, _watched, _closed, _commands, _owners, _data, _aio, _signals):
        yield from make()


def _made() -> tuple[Probe, ...]:
    """Calls that make descriptors, by their flags."""
    q = Questions()
    pair, mask, name = q.buffer(8), q.buffer(8), q.string("m")
    pid = q.call("getpid", opaque=True)
    fd = q.call("eventfd2", 0, 0)
    tables: tuple[tuple[str, str, dict[str, int]], ...] = (
        ("eventfd2", "EFD_", bits("EFD_")),
        ("signalfd4", "SFD_", bits("SFD_")),
        ("timerfd_create", "TFD_", named("TFD_", "CLOEXEC", "NONBLOCK")),
        ("inotify_init1", "IN_", named("IN_", "CLOEXEC", "NONBLOCK")),
        ("epoll_create1", "EPOLL_", named("EPOLL_", "CLOEXEC")),
        (
            "pipe2",
            "O_",
            named("O_", "CLOEXEC", "NONBLOCK", "DIRECT", "NOTIFICATION_PIPE", "APPEND"),
        ),
        ("dup3", "O_", named("O_", "CLOEXEC", "NONBLOCK")),
        ("pidfd_open", "PIDFD_", named("PIDFD_", "NONBLOCK", "THREAD")),
        ("pidfd_getfd", "", {}),
        ("memfd_create", "MFD_", {}),
        ("memfd_secret", "O_", named("O_", "CLOEXEC")),
        ("userfaultfd", "UFFD_", named("UFFD_", "USER_MODE_ONLY")),
        ("perf_event_open", "PERF_FLAG_", bits("PERF_FLAG_")),
    )
    event = q.content((1).to_bytes(4, "little") + (128).to_bytes(4, "little") + bytes(120))
    itself = q.call("pidfd_open", pid, 0)
    for call, prefix, table in tables:
        for flag, value in ({"none": 0} | table | {"unknown": _FREE}).items():
            forms: dict[str, tuple[Value, ...]] = {
                "eventfd2": (0, value),
                "signalfd4": (-1, mask, 8, value),
                "timerfd_create": (C.CLOCK_MONOTONIC, value),
                "pipe2": (pair, value),
                "dup3": (fd, 200, value),
                "pidfd_open": (pid, value),
                "pidfd_getfd": (itself, fd, value),
                "memfd_create": (name, value),
                "perf_event_open": (event, 0, -1, -1, value),
            }
            arguments = forms.get(call, (value,))
            plain = flag in ("none", "unknown")
            key = f"{call}.{flag}" if plain else f"{call}.{prefix}{flag}"
            made = q.ask(key, call, *arguments)
            if call != "pipe2":
                q.call("close", made)
    return q.probes()


def _clocks() -> tuple[Probe, ...]:
    """Which clocks there are, and for what."""
    q = Questions()
    room, zero = q.buffer(32), q.buffer(32)
    for name in _CLOCKS:
        number = getattr(C, f"CLOCK_{name}")
        q.ask(f"clock_gettime.{name}", "clock_gettime", number, room)
        q.ask(f"clock_nanosleep.{name}", "clock_nanosleep", number, 0, zero, 0)
        made = q.ask(f"timerfd_create.CLOCK_{name}", "timerfd_create", number, 0)
        q.call("close", made)
        q.ask(f"timer_create.{name}", "timer_create", number, 0, q.buffer(8))
    q.ask("clock_gettime.unknown", "clock_gettime", 25, room)
    timer = q.call("timerfd_create", C.CLOCK_REALTIME, 0)
    later = q.content(bytes(16) + (1 << 40).to_bytes(8, "little") + bytes(8))
    flags = named("TFD_", "TIMER_ABSTIME") | {"TIMER_CANCEL_ON_SET": 3, "unknown": 16}
    for name, flag in flags.items():
        q.ask(f"timerfd_settime.{name}", "timerfd_settime", timer, flag, later, 0, needs=(timer,))
    ticks = q.content((1).to_bytes(8, "little"))
    q.ask("TFD_IOC_SET_TICKS", "ioctl", timer, C.TFD_IOC_SET_TICKS, ticks, needs=(timer,))
    return q.probes()


def _watched() -> tuple[Probe, ...]:
    """inotify_add_watch(2) and epoll_ctl(2): what may be waited for, and how."""
    q = Questions()
    q.need("mknod", q.string("file"), C.S_IFREG | 0o600, 0)
    file, watch = q.string("file"), q.need("inotify_init1", 0)
    masks = bits("IN_", ("LOOPBACKNET", "CLASSA_MAX", "CLASSB_MAX", "CLOEXEC", "NONBLOCK"))
    for name, bit in masks.items():
        mask = bit if bit < 0x1000 else bit | C.IN_MODIFY
        path = q.string(".") if name == "ONLYDIR" else file
        q.ask(f"inotify_add_watch.IN_{name}", "inotify_add_watch", watch, path, mask)
    both = C.IN_MASK_ADD | C.IN_MASK_CREATE | C.IN_MODIFY
    q.ask("inotify_add_watch.ADD-CREATE", "inotify_add_watch", watch, file, both)
    instance = q.need("epoll_create1", 0)
    events = bits("EPOLL", ("_CTL_ADD", "_CTL_DEL", "_CLOEXEC", "_IOC_TYPE"))
    for name, bit in events.items():
        fd = q.call("eventfd2", 0, 0)
        event = q.struct("struct epoll_event", events=bit | (0 if bit == C.EPOLLIN else C.EPOLLIN))
        q.ask(f"epoll_ctl.EPOLL{name}", "epoll_ctl", instance, C.EPOLL_CTL_ADD, fd, event)
        q.call("close", fd)
    fd = q.call("eventfd2", 0, 0)
    exclusive = C.EPOLLEXCLUSIVE | C.EPOLLIN
    only = q.struct("struct epoll_event", events=exclusive)
    q.call("epoll_ctl", instance, C.EPOLL_CTL_ADD, fd, only)
    q.ask("epoll_ctl.MOD.EPOLLEXCLUSIVE", "epoll_ctl", instance, C.EPOLL_CTL_MOD, fd, only)
    q.ask("epoll_ctl.unknown", "epoll_ctl", instance, 4, fd, only)
    room, zero = q.buffer(64), q.buffer(16)
    q.ask("epoll_pwait2", "epoll_pwait2", instance, room, 1, zero, 0, 8)
    parameters = q.buffer(8)
    for name in ("EPIOCGPARAMS", "EPIOCSPARAMS"):
        q.ask(name, "ioctl", instance, getattr(C, name), parameters)
    return q.probes()


def _closed() -> tuple[Probe, ...]:
    q = Questions()
    for name, flag in (bits("CLOSE_RANGE_") | {"none": 0, "unknown": 1}).items():
        key = name if name in ("none", "unknown") else f"CLOSE_RANGE_{name}"
        q.ask(f"close_range.{key}", "close_range", 300, 310, flag)
    q.ask("close_range.backwards", "close_range", 310, 300, 0)
    return q.probes()


def _file(q: Questions) -> Ref:
    fd = q.need("openat", C.AT_FDCWD, q.string("file"), C.O_CREAT | C.O_RDWR, 0o600)
    q.need("write", fd, q.buffer(2 * _PAGE), 2 * _PAGE)
    return fd


def _commands() -> tuple[Probe, ...]:
    """fcntl(2), by command; locks and leases are those of the surface ``files``."""
    q = Questions()
    fd = _file(q)
    pair, hint = q.buffer(8), q.content((2).to_bytes(8, "little"))
    q.need("pipe2", pair, 0)
    for name in ("DUPFD", "DUPFD_CLOEXEC", "GETFD", "GETFL", "GETOWN", "GETSIG", "GETLEASE"):
        q.ask(f"fcntl.F_{name}", "fcntl", fd, getattr(C, f"F_{name}"), 0)
    for name in ("GET_RW_HINT", "GET_FILE_RW_HINT"):
        q.ask(f"fcntl.F_{name}", "fcntl", fd, getattr(C, f"F_{name}"), q.buffer(8))
    for name in ("SET_RW_HINT", "SET_FILE_RW_HINT"):
        q.ask(f"fcntl.F_{name}", "fcntl", fd, getattr(C, f"F_{name}"), hint)
    lock = q.struct("struct flock", l_type=C.F_WRLCK, l_len=1)
    for name in ("GETLK", "CANCELLK"):
        q.ask(f"fcntl.F_{name}", "fcntl", fd, getattr(C, f"F_{name}"), lock)
    q.ask("fcntl.F_DUPFD_QUERY", "fcntl", fd, C.F_DUPFD_QUERY, fd, read=returned)
    q.ask("fcntl.F_DUPFD_QUERY.other", "fcntl", fd, C.F_DUPFD_QUERY, pair.word(0), read=returned)
    q.ask("fcntl.F_CREATED_QUERY", "fcntl", fd, C.F_CREATED_QUERY, 0, read=returned)
    q.ask("fcntl.F_GET_SEALS", "fcntl", fd, C.F_GET_SEALS, 0, read=returned)
    q.ask("fcntl.F_GETPIPE_SZ.file", "fcntl", fd, C.F_GETPIPE_SZ, 0)
    for name in ("APPEND", "NONBLOCK", "DIRECT", "NOATIME", "SYNC", "DSYNC"):
        q.ask(f"fcntl.F_SETFL.O_{name}", "fcntl", fd, C.F_SETFL, getattr(C, f"O_{name}"))
    q.ask("fcntl.unknown", "fcntl", fd, 1999, 0)
    return q.probes()


def _owners() -> tuple[Probe, ...]:
    """fcntl(2), "Managing signals"."""
    q = Questions()
    fd = _file(q)
    pid = q.call("getpid", opaque=True)
    for name in ("TID", "PID", "PGRP"):
        fields: dict[str, Value] = {"type": getattr(C, f"F_OWNER_{name}"), "pid": pid}
        owner = q.array("struct f_owner_ex", [fields])
        q.ask(f"fcntl.F_SETOWN_EX.{name}", "fcntl", fd, C.F_SETOWN_EX, owner, fine=("ESRCH",))
    q.ask("fcntl.F_GETOWN_EX", "fcntl", fd, C.F_GETOWN_EX, q.buffer(8))
    q.ask("fcntl.F_GETOWNER_UIDS", "fcntl", fd, C.F_GETOWNER_UIDS, q.buffer(8))
    q.ask("fcntl.F_SETSIG", "fcntl", fd, C.F_SETSIG, 10)
    q.ask("fcntl.F_SETSIG.65", "fcntl", fd, C.F_SETSIG, 65)
    return q.probes()


def _data() -> tuple[Probe, ...]:
    """Moving and preparing data: what flags are taken."""
    q = Questions()
    fd = _file(q)
    pair, other = q.buffer(8), q.buffer(8)
    q.need("pipe2", pair, C.O_NONBLOCK)
    q.need("pipe2", other, C.O_NONBLOCK)
    zero = q.buffer(8)
    vector = q.array("struct iovec", [{"iov_base": q.string("text"), "iov_len": 4}])
    for name, flag in _SPLICE.items():
        q.ask(f"splice.{name}", "splice", fd, zero, pair.word(1), 0, 4, flag)
        q.ask(f"vmsplice.{name}", "vmsplice", pair.word(1), vector, 1, flag)
        q.ask(f"tee.{name}", "tee", pair.word(0), other.word(1), 4, flag)
    for name, flag in (bits("SYNC_FILE_RANGE_") | {"unknown": 8}).items():
        q.ask(f"sync_file_range.{name}", "sync_file_range", fd, 0, _PAGE, flag)
    for name in ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "NOREUSE"):
        q.ask(f"fadvise64.{name}", "fadvise64", fd, 0, 0, getattr(C, f"POSIX_FADV_{name}"))
    q.ask("fadvise64.unknown", "fadvise64", fd, 0, 0, 9)
    q.ask("copy_file_range.unknown", "copy_file_range", fd, zero, fd, zero, 1, 1)
    q.ask("preadv2.unknown", "preadv2", fd, vector, 1, 0, 0, 1 << 20)
    q.ask("pwritev2.unknown", "pwritev2", fd, vector, 1, 0, 0, 1 << 20)
    q.ask("fallocate.unknown", "fallocate", fd, 1 << 20, 0, _PAGE)
    for name in ("SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"):
        q.ask(f"lseek.{name}", "lseek", fd, 0, getattr(C, name))
    q.ask("lseek.unknown", "lseek", fd, 0, 5)
    for name, flag in (bits("GRND_") | {"unknown": 8}).items():
        q.ask(f"getrandom.{name}", "getrandom", q.buffer(8), 8, flag | C.GRND_NONBLOCK)
    both = C.GRND_INSECURE | C.GRND_RANDOM
    q.ask("getrandom.INSECURE-RANDOM", "getrandom", q.buffer(8), 8, both)
    cache = q.content(bytes(8) + (2 * _PAGE).to_bytes(8, "little"))
    for name, flag in (("none", 0), ("unknown", 1)):
        q.ask(f"cachestat.{name}", "cachestat", fd, cache, q.room("struct cachestat"), flag)
    return q.probes()


class _Aio:
    """io_submit(2) of one block at a time, over one file."""

    def __init__(self, q: Questions) -> None:
        self._q = q
        self._fd = _file(q)
        self._context = q.buffer(8)
        self._room = q.buffer(64)
        q.need("io_setup", 8, self._context)

    def ask(self, key: str, command: int, flags: int = 0, rw: int = 0) -> None:
        q, room = self._q, self._room
        vectors = command in (C.IOCB_CMD_PREADV, C.IOCB_CMD_PWRITEV)
        vector = q.array("struct iovec", [{"iov_base": room, "iov_len": 8}])
        fields: dict[str, Value] = {
            "aio_lio_opcode": command,
            "aio_fildes": self._fd,
            "aio_flags": flags,
            "aio_rw_flags": rw,
        }
        if command == C.IOCB_CMD_POLL:
            fields["aio_buf"] = C.POLLIN
        elif vectors:
            fields |= {"aio_buf": vector, "aio_nbytes": 1}
        elif command in (C.IOCB_CMD_PREAD, C.IOCB_CMD_PWRITE):
            fields |= {"aio_buf": room, "aio_nbytes": 8}
        block = q.array("struct iocb", [fields])
        pointers = q.array("struct iovec", [{"iov_base": block}])
        # what the block points at is filled in for a call that is given it
        q.ask(key, "io_submit", self._context.word(0, 8), 1, pointers, block, vector)


def _aio() -> tuple[Probe, ...]:
    """io_submit(2), by command and by flag."""
    q = Questions()
    aio = _Aio(q)
    for name in ("PREAD", "PWRITE", "FSYNC", "FDSYNC", "POLL", "NOOP", "PREADV", "PWRITEV"):
        aio.ask(f"io_submit.IOCB_CMD_{name}", getattr(C, f"IOCB_CMD_{name}"))
    aio.ask("io_submit.unknown", 42)
    aio.ask("io_submit.IOCB_FLAG_IOPRIO", C.IOCB_CMD_PREAD, C.IOCB_FLAG_IOPRIO)
    aio.ask("io_submit.flags.unknown", C.IOCB_CMD_PREAD, 64)
    for name, flag in bits("RWF_").items():
        aio.ask(f"io_submit.RWF_{name}", C.IOCB_CMD_PREAD, 0, flag)
    return q.probes()


def _signals() -> tuple[Probe, ...]:
    """sigaction(2): which flags stay, as SA_UNSUPPORTED is there to tell."""
    q = Questions()
    mask = q.buffer(8)
    for number in (1, 31, 32, 64, 65):
        action = q.struct("struct sigaction", sa_handler=1, sa_flags=0x04000000)
        q.ask(f"rt_sigaction.{number}", "rt_sigaction", number, action, 0, 8)
    for size in (4, 8, 16):
        q.ask(f"rt_sigprocmask.{size}", "rt_sigprocmask", 0, mask, 0, size)
    return q.probes()
