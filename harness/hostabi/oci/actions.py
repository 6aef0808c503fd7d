"""What the probe can be asked to do inside a container, as typed words for its command line.

The deeds themselves are described in harness/agent/probe_deeds.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hostabi.syscalls import table

SEPARATOR = ","
"""Stands between two actions on the probe's command line."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action: its name and arguments."""

    words: tuple[str, ...]


def command(actions: Iterable[Action]) -> tuple[str, ...]:
    """The probe's command line for these actions, in this order."""
    words: list[str] = []
    for action in actions:
        if words:
            words.append(SEPARATOR)
        words.extend(action.words)
    return ("/probe", *words)


def _action(*words: object) -> Action:
    return Action(tuple(str(word) for word in words))


REPORT = _action("report")
"""Everything the process sees: decoded as :class:`hostabi.oci.seen.Report`."""


def read(path: str, limit: int = 4096) -> Action:
    """Read up to ``limit`` bytes."""
    return _action("read", path, limit)


def write(path: str, text: str, *, create: bool = False) -> Action:
    """Write ``text``; to a file that exists unless ``create``."""
    return _action("write", path, text, "wc" if create else "w")


def opened(path: str, mode: str = "r") -> Action:
    """Open and close; ``mode`` of r, w, + (both), c (create), x (only new), d (folder)."""
    return _action("open", path, mode)


def listed(path: str) -> Action:
    """The names in a folder, joined by "/"; the value is their count."""
    return _action("list", path)


def stat(path: str) -> Action:
    """lstat(2): "mode uid gid major minor size", the mode in octal with the type's bits."""
    return _action("stat", path)


def copy(source: str, target: str, mode: int) -> Action:
    """Copy a file and set its mode, set-uid bits included."""
    return _action("copy", source, target, f"{mode:o}")


def touch(mebibytes: int) -> Action:
    """A child writes to that much memory; the value is how much it got."""
    return _action("touch", mebibytes)


def lock(mebibytes: int) -> Action:
    """A child locks that much memory (mlock(2))."""
    return _action("lock", mebibytes)


def fork(count: int, uid: int | None = None) -> Action:
    """Have ``count`` children at once (as ``uid``); the value is how many came to be."""
    return _action("fork", count) if uid is None else _action("fork", count, uid)


def descriptors(count: int) -> Action:
    """A child opens ``count`` more descriptors; the value is how many it got."""
    return _action("descriptors", count)


def fill(path: str, size: int) -> Action:
    """A child writes a file of ``size`` bytes; the value is how far it came."""
    return _action("fill", path, size)


def spin(milliseconds: int) -> Action:
    """A child uses that much processor time."""
    return _action("spin", milliseconds)


def pace(milliseconds: int) -> Action:
    """A child uses that much processor time; the value is how many milliseconds that took."""
    return _action("pace", milliseconds)


def hold(mebibytes: int) -> Action:
    """The probe itself takes that much memory and keeps it."""
    return _action("hold", mebibytes)


def huge(pages: int) -> Action:
    """A child maps and writes huge pages one by one; the value is how many it got."""
    return _action("huge", pages)


def pull(path: str, size: int) -> Action:
    """A child reads ``size`` bytes of a disk past the cache; the value is the milliseconds."""
    return _action("pull", path, size)


def _call(verb: str, name: str, arguments: tuple[int | str, ...]) -> Action:
    words = (f"={word}" if isinstance(word, str) else str(word) for word in arguments)
    return _action(verb, table.number(name), *words)


def call(name: str, *arguments: int | str) -> Action:
    """A system call of the probe itself, so that its effect lasts; a str is passed by address."""
    return _call("call", name, arguments)


def attempt(name: str, *arguments: int | str) -> Action:
    """A system call in a child, so that it leaves nothing behind and a signal can be told."""
    return _call("try", name, arguments)


def in_thread(name: str, *arguments: int | str) -> Action:
    """A system call in a second thread: the value is 1 when that thread was killed, 2 when not."""
    return _call("thread", name, arguments)


def trapped(name: str, *arguments: int | str) -> Action:
    """A system call with a handler for SIGSYS: the value is the call's number that it was told."""
    return _call("trap", name, arguments)


def traced(name: str, *arguments: int | str) -> Action:
    """A system call under a tracer: the value is the message of its seccomp event, or -1."""
    return _call("trace", name, arguments)


def interrupted(name: str, *arguments: int | str) -> Action:
    """A system call that SIGUSR1 may interrupt."""
    return _call("interrupt", name, arguments)


def compat(number: int) -> Action:
    """A system call of the 32-bit architecture, by its number there."""
    return _action("compat", number)


def execute(path: str, *arguments: str, uid: int = 0) -> Action:
    """Run a program in a child as ``uid``; the value stays 0, its output joins the probe's."""
    return _action("exec", uid, path, *arguments)


def identity() -> Action:
    """The effective user id, as the value."""
    return _action("identity")


def signal() -> Action:
    """Say that it is ready through the fifo /ready, then wait for a signal: the value."""
    return _action("signal", "/ready")


def into(path: str) -> Action:
    """Append the answers to this and all further actions to a file."""
    return _action("into", path)


def stdin(label: str = "") -> Action:
    """All of the standard input, as the data; the label tells several answers apart."""
    return _action("stdin", label)


def leave(status: int) -> Action:
    """End the probe at once with that status; there is no answer."""
    return _action("exit", status)


def clock(number: int) -> Action:
    """The clock of that number in milliseconds (clock_gettime(2)), as the value."""
    return _action("clock", number)


WINDOW = _action("window")
"""The terminal on the standard input: "rows columns own", own being 1 for a controlling one."""

SCHEDULER = _action("scheduler")
"""sched_getattr(2): "policy flags nice priority runtime deadline period", times in nanoseconds."""
