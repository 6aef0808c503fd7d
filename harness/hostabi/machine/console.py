"""What the guest's kernel printed: a log file that QEMU appends to."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TAIL = 16 << 10
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]")


def tail(path: Path, lines: int = 20, limit: int = _TAIL) -> str:
    """The last ``lines`` lines, at most ``limit`` bytes, cleaned of control characters.

    Empty when nothing was printed or the file is gone.
    """
    try:
        with path.open("rb") as log:
            length = log.seek(0, os.SEEK_END)
            log.seek(max(0, length - limit))
            data = log.read(limit)
    except OSError:
        return ""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    kept = [line for line in _CONTROL.sub("", text).splitlines() if line.strip()]
    return "\n".join(kept[-lines:])


def panicked(path: Path) -> bool:
    """Whether the log ends in a panic; only asked where no event can tell."""
    return "Kernel panic - not syncing" in tail(path, lines=200)
