"""What /proc/PID/fd and /proc/PID/fdinfo tell of each kind of descriptor (proc_pid_fdinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostabi.model import Kind
from hostabi.surfaces.probing import HOST, USER, Probe, ProbeSurface, Questions, Read
from hostabi.surfaces.shapes import shape_of
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_FD = 100
"""The descriptor looked at, well above those that programs get by themselves."""
_ROOM = 1024
_DIGITS = re.compile(r"\d+")


def _probes() -> Iterator[Probe]:
    for kind, number, arguments in _kinds():
        q = Questions()
        values = [_argument(q, value) for value in arguments]
        fd: Value
        if kind == "pipe":
            pair = q.buffer(8)
            q.need(number, pair, 0)
            fd = pair.word(0)
        else:
            fd = q.need(number, *values)
        _fill(q, kind, fd)
        q.need("dup3", fd, _FD, 0)
        info = q.need("openat", C.AT_FDCWD, q.string(f"/proc/self/fdinfo/{_FD}"), C.O_RDONLY)
        text = q.buffer(_ROOM)
        where = q.string(f"/proc/self/fd/{_FD}")
        names = _names(text)
        q.ask(
            f"fd.{kind}#fdinfo",
            "read",
            info,
            text,
            _ROOM,
            read=names,
            kind=Kind.MEMBERS,
            out=(text,),
            opaque=True,
        )
        target = q.buffer(_ROOM)
        q.ask(
            f"fd.{kind}",
            "readlinkat",
            C.AT_FDCWD,
            where,
            target,
            _ROOM,
            read=_target(target),
            out=(target,),
            opaque=True,
        )
        yield from q.probes()


def _kinds() -> Iterator[tuple[str, str, tuple[int | str | bytes, ...]]]:
    yield "pipe", "pipe2", ()
    yield "eventfd", "eventfd2", (0, 0)
    yield "epoll", "epoll_create1", (0,)
    yield "inotify", "inotify_init1", (0,)
    yield "fanotify", "fanotify_init", (C.FAN_CLASS_NOTIF | C.FAN_REPORT_FID, 0)
    yield "timerfd", "timerfd_create", (1, 0)
    yield "memfd", "memfd_create", ("m", 0)
    yield "secretmem", "memfd_secret", (0,)
    yield "pidfd", "pidfd_open", (1, 0)
    yield "socket", "socket", (1, 1, 0)
    yield "userfaultfd", "userfaultfd", (C.UFFD_USER_MODE_ONLY,)
    yield "file", "openat", (C.AT_FDCWD, "f", C.O_CREAT | C.O_RDWR, 0o600)
    yield "directory", "openat", (C.AT_FDCWD, ".", C.O_RDONLY, 0)
    yield "namespace", "openat", (C.AT_FDCWD, "/proc/self/ns/mnt", C.O_RDONLY, 0)
    yield "null", "openat", (C.AT_FDCWD, "/dev/null", C.O_RDWR, 0)
    yield "fscontext", "fsopen", ("tmpfs", 0)
    yield "landlock", "landlock_create_ruleset", ((1).to_bytes(8, "little"), 8, 0)


def _argument(q: Questions, value: int | str | bytes) -> Value:
    if isinstance(value, int):
        return value
    return q.string(value) if isinstance(value, str) else q.content(value)


def _fill(q: Questions, kind: str, fd: Value) -> None:
    """Something to tell, for a kind whose lines are about what was added to it."""
    if kind == "epoll":
        other = q.need("eventfd2", 0, 0)
        q.need("epoll_ctl", fd, C.EPOLL_CTL_ADD, other, q.content(bytes(12)))
    elif kind == "inotify":
        q.need("inotify_add_watch", fd, q.string("."), C.IN_CREATE)
    elif kind == "fanotify":
        q.need("fanotify_mark", fd, C.FAN_MARK_ADD, C.FAN_OPEN, C.AT_FDCWD, q.string("."))


def _names(slot: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> list[str]:
        text = trace.bytes(ref, slot)[: max(trace[ref], 0)]
        names = list(shape_of(text).names)
        for line in text.decode(errors="replace").splitlines():
            words = line.split()
            names += [word.partition(":")[0] for word in words[1:] if re.match(r"[a-z-]+:", word)]
        return sorted(set(names))

    return read


def _target(slot: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> str:
        text = trace.bytes(ref, slot)[: max(trace[ref], 0)].decode(errors="replace")
        # a path ends in a folder that is the machine's own
        return "path" if text.startswith("/") and ":" not in text else _DIGITS.sub("N", text)

    return read


DESCRIPTORS = ProbeSurface("procfs", _probes, (HOST, USER))
"""Facts ``fd.KIND``, what its link says, and ``fd.KIND#fdinfo``, the names in its fdinfo."""
