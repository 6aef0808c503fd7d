"""What the guest's kernel printed: a log file that QEMU appends to."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TAIL = 32 << 10
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


def panicked(path: Path) -> bool:
    """Whether the log ends in a panic; only asked where no event can tell."""
    return any(_PANIC in line for line in _lines(path, _TAIL))
