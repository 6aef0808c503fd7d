"""What an agent answers, as records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hello:
    """Who the agent is. ``memory`` in bytes; ``missing`` lists what the initramfs lost.

    ``failed`` lists what a guest must have and its kernel did not do: a disk, a module, cgroups.
    """

    release: str
    machine: str
    pid1: bool
    euid: int
    cpus: int
    memory: int
    missing: tuple[str, ...]
    failed: tuple[str, ...]
    features: frozenset[str]
    """Of cgroup2, cgroup1, tracefs, debugfs, modules: what PID 1 could mount."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command's end. ``status`` is -1 when a signal ended it, ``signal`` else 0."""

    status: int
    signal: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a walked tree, as lstat(2) sees it.

    ``kind`` is one of f, d, l, c, b, p, s, or ? when it cannot be told.
    ``rdev`` is a device's number (see os.major). ``content`` is the start of a
    regular file when asked for; ``writable`` then says whether it could be
    opened for writing. ``error`` is the errno of looking at or reading it, or 0.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    rdev: int
    target: str
    content: bytes | None
    error: int
    writable: bool | None
