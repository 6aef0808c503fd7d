"""Which QEMU runs the machines: the one named, the one installed, or the pinned one.

The pinned one comes from Debian packages unpacked in the cache, started
through their own dynamic loader, so that any host will do.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from hostabi.errors import InputError
from hostabi.packages.context import Packages
from hostabi.packages.tree import tool

PROGRAM = "qemu-system-x86_64"
SUITE = "trixie"
_NAMES = ("qemu-system-x86",)
_OLDEST = (7, 0)
"""Tried from 7.2 on; -action and pvpanic's event need 6.0."""
_DEADLINE = 20.0


@dataclass(frozen=True)
class Emulator:
    """A QEMU. ``command`` starts it, with ``environment`` added; ``version`` as it tells itself.

    ``key`` changes with the program's file, which is finer than the version.
    """

    command: tuple[str, ...]
    version: str
    key: str
    origin: str
    environment: dict[str, str] = field(default_factory=dict, hash=False)


def find(packages: Packages) -> Emulator:
    """HOSTABI_QEMU, else the installed QEMU if it is recent enough, else the pinned one.

    Raises InputError when HOSTABI_QEMU names nothing that works.
    """
    named = os.environ.get("HOSTABI_QEMU")
    if named == "pinned":
        return pinned(packages)
    if named:
        path = shutil.which(named)
        found = installed(Path(path)) if path else None
        if found is None:
            raise InputError(
                f"HOSTABI_QEMU={named}: no QEMU for x86-64 that starts",
                advice=f"name a {PROGRAM}, or unset HOSTABI_QEMU to use the pinned one",
            )
        return found
    path = shutil.which(PROGRAM)
    found = installed(Path(path)) if path else None
    if found is not None and parse_version(found.version) >= _OLDEST:
        return found
    return pinned(packages)


def installed(path: Path) -> Emulator | None:
    """The QEMU at ``path``; None when it does not start."""
    real = path.resolve()
    status = real.stat()
    version = _version((str(path),), (), status.st_mtime_ns)
    if not version:
        return None
    key = f"{real} {status.st_size} {status.st_mtime_ns} {version}"
    return Emulator((str(path),), version, _short(key), "installed")


def pinned(packages: Packages) -> Emulator:
    """The QEMU of Debian's packages, fetched on first use."""
    tree = packages.tree(list(_NAMES), SUITE)
    share = tree.root / "usr" / "share"
    folders = [share / name for name in ("qemu", "seabios")]
    command = (
        *tool(tree, f"usr/bin/{PROGRAM}"),
        *(word for folder in folders if folder.is_dir() for word in ("-L", str(folder))),
    )
    modules = tree.root / "usr" / "lib" / "x86_64-linux-gnu" / "qemu"
    environment = {"QEMU_MODULE_DIR": str(modules)}
    version = _version(command, tuple(environment.items()), 0)
    if not version:
        raise InputError(
            f"the QEMU of {SUITE} does not start on this machine",
            advice=f"install {PROGRAM}, or name one with HOSTABI_QEMU",
        )
    return Emulator(command, version, _short(f"{tree.key} {version}"), "pinned", environment)


def parse_version(text: str) -> tuple[int, int]:
    """``QEMU emulator version 7.2.22 (Debian ...)`` to (7, 2); (0, 0) for anything else."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@functools.cache
def _version(
    command: tuple[str, ...], environment: tuple[tuple[str, str], ...], _changed: int
) -> str:
    """What ``--version`` says behind "version", empty when it cannot be run."""
    try:
        done = subprocess.run(
            [*command, "--version"],
            capture_output=True,
            timeout=_DEADLINE,
            check=False,
            env={**os.environ, **dict(environment)},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout.decode("utf-8", "replace").partition("\n")[0]
    return said.partition("version ")[2].strip() if done.returncode == 0 else ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
