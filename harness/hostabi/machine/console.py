"""What the guest's kernel printed: a log file that QEMU appends to."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

MEMORY = "Out of memory: Killed process"
"""How the kernel tells that the machine, not a cgroup, had no memory left (mm/oom_kill.c)."""

_TAIL = 32 << 10
_LIMIT = 8 << 20
_KEPT = 1 << 20
_PANIC = "Kernel panic - not syncing"
_TROUBLE = re.compile(rf"{_PANIC}|Oops: |BUG: |kernel BUG at |soft lockup")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]")


def tail(path: Path, lines: int = 20, limit: int = _TAIL) -> str:
    """The last ``lines`` lines, at most ``limit`` bytes, cleaned of control characters.

    Where a panic or an oops began further up, its beginning is shown too, in
    place of the oldest of these lines. Empty when nothing was printed or the file is gone.
    """
    kept = _lines(path, limit)
    began = next((i for i, line in enumerate(kept) if _TROUBLE.search(line)), None)
    if began is None or began >= len(kept) - lines:
        return "\n".join(kept[-lines:])
    half = lines // 2
    return "\n".join([*kept[began : began + half], "...", *kept[half + 1 - lines :]])


def _lines(path: Path, limit: int) -> list[str]:
    try:
        with path.open("rb") as log:
            length = log.seek(0, os.SEEK_END)
            log.seek(max(0, length - limit))
            data = log.read(limit)
    except OSError:
        return []
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return [line for line in _CONTROL.sub("", text).splitlines() if line.strip()]


def bound(path: Path, limit: int = _LIMIT, kept: int = _KEPT) -> None:
    """Cut a log longer than ``limit`` bytes down to its last ``kept``; its writer appends."""
    with contextlib.suppress(OSError), path.open("r+b") as log, path.open("ab") as end:
        length = log.seek(0, os.SEEK_END)
        if length <= limit:
            return
        log.seek(length - kept)
        last = log.read(kept)
        log.truncate(0)
        end.write(b"... (the beginning was dropped)\n" + last)


def trouble(path: Path, start: int) -> tuple[str, int]:
    """The first line after ``start`` that tells of a broken kernel, and where to look from next.

    Empty when there is none. A process that exceeds its cgroup's memory is no trouble.
    """
    try:
        with path.open("rb") as log:
            length = log.seek(0, os.SEEK_END)
            start = 0 if length < start else max(start, length - _KEPT)
            log.seek(start)
            data = log.read(_KEPT)
    except OSError:
        return "", start
    whole = data[: data.rfind(b"\n") + 1]
    lines = _CONTROL.sub("", whole.decode("utf-8", "replace")).splitlines()
    found = next((line for line in lines if _TROUBLE.search(line) or MEMORY in line), "")
    return found.strip(), start + len(whole)


def panicked(path: Path) -> bool:
    """Whether the log ends in a panic; only asked where no event can tell."""
    return any(_PANIC in line for line in _lines(path, _TAIL))
