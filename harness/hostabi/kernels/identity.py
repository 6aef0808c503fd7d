"""What tells a kernel from another one of the same release.

A build of the catalogue is named by its package's version. A kernel that is
built again, or a machine that is booted again, keeps its release, so that its
name has a digest of what it is made from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

RUNNING = "running"
"""How the kernel we are on is named by a user; its build's name begins so."""

_LOCAL = "local"
_DIGITS = 8
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def is_running(name: str) -> bool:
    """Whether a spec or a build's name means the kernel we are on."""
    return name == RUNNING or name.startswith(f"{RUNNING}-")


def is_listed(name: str) -> bool:
    """Whether a build's name is that of a package some index lists, not of one's own kernel."""
    return not name.startswith((f"{RUNNING}-", f"{_LOCAL}-"))


def running_name(release: str, version: str) -> str:
    """``running-8HEX``: another one after each boot, which may change any setting (random(4))."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = ""
    return f"{RUNNING}-{_digest([release, version, boot])}"


def local_name(
    release: str, image_digest: str, config: Path | None = None, modules: Path | None = None
) -> str:
    """``local-RELEASE-8HEX`` of image, configuration and every module."""
    parts = [image_digest]
    parts.append(_of_file(config) if config else "")
    for folder, folders, names in os.walk(modules) if modules else ():
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                parts += [str(path.relative_to(modules or folder)), _of_file(path)]
    return f"{_LOCAL}-{release}-{_digest(parts)}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
