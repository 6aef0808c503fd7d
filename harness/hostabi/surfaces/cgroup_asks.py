"""Questions about the files of control groups, and how their answers are read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hostabi.diff import keys
from hostabi.surfaces.probing import Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

ROOM = 512
"""Bytes read of a short file."""


def ask_write(
    q: Questions,
    key: str,
    path: str,
    text: str,
    *needs: Ref,
    given: Sequence[Ref] = (),
    fine: Collection[str] = (),
) -> Ref:
    """Whether ``text`` can be written to a file."""
    fd = q.call("openat", C.AT_FDCWD, q.string(path), C.O_WRONLY | C.O_CLOEXEC)
    content = q.string(text)
    done = q.ask(key, "write", fd, content, len(text), given=given, needs=(*needs, fd), fine=fine)
    q.call("close", fd)
    return done


def ask_text(q: Questions, key: str, path: str, *, only: str = "") -> Ref:
    """What a short file says, in the lines that contain ``only``."""
    fd = q.call("openat", C.AT_FDCWD, q.string(path), C.O_RDONLY | C.O_CLOEXEC)
    room = q.buffer(ROOM)
    read = text_in(room, only)
    done = q.ask(key, "read", fd, room, ROOM, needs=(fd,), read=read, out=[room])
    q.call("close", fd)
    return done


def text_in(room: Slot, only: str = "") -> Read:
    """The text in ``room``, in one line; of lines that start with a number, what follows it."""

    def read(trace: Trace, ref: Ref) -> str:
        raw = trace.bytes(ref, room)[: trace[ref]].decode(errors="backslashreplace")
        lines = [line for line in raw.splitlines() if only in line]
        # /proc/PID/cgroup begins with the number of a hierarchy, which is the order of mounts
        lines = [line.partition(only)[2] if only else line for line in lines]
        return " ".join(" ".join(lines).split())

    return read


def says(expected: str, room: Slot) -> Read:
    """``ok`` where the text is the one that is expected."""
    text = text_in(room)

    def read(trace: Trace, ref: Ref) -> str:
        said = str(text(trace, ref))
        return keys.OK if said == expected else f"reads {said}"

    return read


def valid(room: Slot) -> Read:
    """Why a partition is none is said in words, which are no interface."""
    text = text_in(room)
    return lambda trace, ref: "invalid" if "invalid" in str(text(trace, ref)) else keys.OK


def shows_option(options: Sequence[str], room: Slot) -> Read:
    """``ok`` where the newest mount in a text of /proc/self/mounts (proc(5)) shows ``options``."""

    def read(trace: Trace, ref: Ref) -> str:
        lines = trace.bytes(ref, room)[: trace[ref]].decode(errors="replace").splitlines()
        fields = lines[-1].split() if lines else []
        shown = fields[3].split(",") if len(fields) > 3 else []
        return keys.OK if set(options) <= set(shown) else "not shown"

    return read


def happened(trace: Trace, ref: Ref) -> str:
    """``ok`` where poll(2) found something."""
    return keys.OK if trace[ref] > 0 else "silent"


def number(room: Slot) -> Read:
    """The number in ``room``."""
    return lambda trace, ref: trace.number(ref, room)


def killed(status: Slot) -> Read:
    """``ok`` where wait4(2) tells of a process that SIGKILL ended."""

    def read(trace: Trace, ref: Ref) -> str:
        return keys.OK if trace.number(ref, status) & 0x7F == C.SIGKILL else "not killed"

    return read


def nobody(trace: Trace, ref: Ref) -> str:
    """Whether wait4(2) with WNOHANG found somebody dead."""
    return "dead" if trace[ref] > 0 else "alive"
