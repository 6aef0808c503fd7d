"""What a program left behind, beside what one that makes no call leaves.

The agent tells lines ``NAME: VALUE`` (harness/agent/state.c, tree.c). Most are what
every program of its sandbox leaves on that kernel: a :class:`Usual` knows them, and
:func:`left` keeps the rest, which is what may be compared between kernels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PROCESS = b"Umask"
"""A line that is there exactly when the process itself could tell."""
_MOUNT = b"mount"
_BY_CHANCE = b"io priority:"
"""On 5.10 it was 4 in one guest and 0 in the next, whatever the program had done."""
_CHILD = 1 << 16
"""SIGCHLD in a mask of signals: whether a child has ended yet is a matter of time."""
_PENDING = re.compile(rb"(SigPnd|ShdPnd): ([0-9a-f]{1,16})")

_UNNAMED = re.compile(rb"/#\d+")
"""A file of O_TMPFILE is called by its inode's number."""

_LOCAL = re.compile(rb"(?:/dev/shm|/tmp)?/hostabi-[a-z0-9_]{8}")
"""The scratch folder of an agent beside others, as mountinfo has it."""
_CONFIGURED = b",inode64"
"""An option that tmpfs has where CONFIG_TMPFS_INODE64 is set, in Debian since after 5.10."""


@dataclass(frozen=True)
class Usual:
    """The lines that an empty program leaves."""

    lines: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, raw: bytes) -> Usual:
        """Of the text that such a program left."""
        return cls(frozenset(_lines(raw)))


def left(raw: bytes, usual: Usual) -> bytes:
    """The lines that are not usual, and those that lack, which begin with ``no``."""
    if not raw:
        return b""
    told = _lines(raw)
    # nearly all lines are usual as they are, and need not be looked at closely
    other = [_steady(line) for line in told if line not in usual.lines]
    found = [line for line in other if line not in usual.lines]
    gone = usual.lines.difference(told, other)
    if gone:
        names = {_name(line) for line in (*usual.lines.intersection(told), *other)}
        if _PROCESS in names:
            names.discard(_MOUNT)
            found += [b"no " + _steady(line) for line in sorted(gone) if _name(line) not in names]
    return b"\n".join(found)


def lines(reduced: bytes) -> tuple[str, ...]:
    """The lines of a text as people read it."""
    return tuple(line.decode("ascii", "replace") for line in _lines(reduced))


def _lines(raw: bytes) -> list[bytes]:
    return [line for line in raw.split(b"\n") if line and not line.startswith(_BY_CHANCE)]


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _steady(line: bytes) -> bytes:
    """A line without what is a matter of time, of what ran before or of a kernel's build."""
    if line.startswith(b"mount:"):
        return _LOCAL.sub(b"/scratch", line).replace(_CONFIGURED, b"")
    if b"/#" in line:
        return _UNNAMED.sub(b"/#", line)
    match = _PENDING.fullmatch(line)
    if match is None:
        return line
    return b"%s: %016x" % (match[1], int(match[2], 16) & ~_CHILD)
