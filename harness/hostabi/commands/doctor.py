"""``hostabi doctor``: what is here, what is missing, and what would be used."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from tabulate import tabulate

from hostabi import __version__, resources
from hostabi.commands.context import Context, Parsers, command
from hostabi.errors import HostabiError

EXAMPLES = """\
  hostabi doctor                       looks, fetches nothing
  hostabi doctor --kvm                 also boots a kernel to see whether KVM works
"""

_ROOM = 4 << 30
"""Bytes that a run of the default lines takes in the cache, rounded up."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``fatal``: nothing works without it."""

    what: str
    good: bool
    found: str
    fatal: bool = True


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "doctor",
        run,
        summary="tell what is here, what is missing, and what would be used",
        examples=EXAMPLES,
    )
    parser.add_argument("--kvm", action="store_true", help="try KVM by booting a kernel")


def run(options: argparse.Namespace, context: Context) -> int:
    """Print the table; 2 when something is missing that everything needs."""
    looks: list[Callable[[], Finding]] = [
        _python,
        partial(_mirror, context),
        _keys,
        _compiler,
        partial(_emulator, context),
        partial(_kvm, context, try_it=options.kvm),
        _cache,
        partial(_kernels, context),
        _results,
        _memory,
    ]
    from hostabi.results import terminal

    findings = [_guarded(look) for look in looks]
    rows = [
        ["ok" if found.good else "MISSING" if found.fatal else "note", found.what, found.found]
        for found in findings
    ]
    room = max(terminal.width() - sum(max(len(row[at]) + 2 for row in rows) for at in (0, 1)), 30)
    table = tabulate(rows, tablefmt="plain", maxcolwidths=[None, None, room], disable_numparse=True)
    sys.stdout.write(f"hostabi {__version__}\n\n{table}\n")
    return 2 if any(found.fatal and not found.good for found in findings) else 0


def _guarded(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (HostabiError, OSError) as error:
        name = getattr(look, "func", look).__name__.strip("_")
        if isinstance(error, OSError):
            return Finding(name, False, f"{error.filename}: {error.strerror}")
        advice = f"; {error.advice}" if error.advice else ""
        return Finding(name, False, f"{error.message}{advice}")


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()} at {sys.executable}")


def _mirror(context: Context) -> Finding:
    from hostabi.packages.sources import Mirror

    try:
        mirror = Mirror(context.mirror)
        guessed = " (guessed from its sibling)" if mirror.security_guessed else ""
        return Finding("mirror", True, f"{mirror.main}; security: {mirror.security}{guessed}")
    except HostabiError as error:
        return Finding("mirror", False, f"{error.message}; {error.advice}")


def _keys() -> Finding:
    keys = sorted(path.name for path in (resources.kernels() / "keys").glob("*.*"))
    return Finding("keys", bool(keys), ", ".join(keys) or "none in kernels/keys")


def _compiler() -> Finding:
    try:
        return Finding(
            "compiler", True, f"zig {metadata.version('ziglang')} (in Python's packages)"
        )
    except metadata.PackageNotFoundError:
        return Finding(
            "compiler", False, "the ziglang wheel is not installed; install hostabi anew"
        )


def _emulator(context: Context) -> Finding:
    from hostabi.machine import emulator

    named = os.environ.get("HOSTABI_QEMU", "")
    path = shutil.which(emulator.PROGRAM)
    found = emulator.installed(Path(path)) if path and not named else None
    if found is not None:
        return Finding("QEMU", True, f"{found.version}, installed")
    if named and named != "pinned":
        return Finding("QEMU", True, emulator.find(context.packages).version)
    return Finding("QEMU", True, f"none used; {emulator.SUITE}'s is fetched into the cache")


def _kvm(context: Context, *, try_it: bool) -> Finding:
    device = Path("/dev/kvm")
    if not device.exists():
        return Finding("KVM", False, "no /dev/kvm: guests are emulated, slower", fatal=False)
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding(
            "KVM", False, "/dev/kvm is not ours to open (group kvm): guests are emulated", False
        )
    if not try_it:
        return Finding("KVM", True, "/dev/kvm opens; whether it works is tried at the first boot")
    from hostabi.runs.guests import Guests

    with (
        Guests(context.packages, accel="auto", jobs=1, progress=context.progress) as guests,
        guests.machine("6.1") as machine,
    ):
        works = machine.accelerator == "kvm"
    verdict = "boots a kernel" if works else "/dev/kvm opens but boots no kernel: emulated"
    return Finding("KVM", works, verdict, fatal=False)


def _cache() -> Finding:
    from hostabi.packages.cache import Cache

    root = resources.cache()
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{root}: {Cache(root).size() / 1e9:.1f} GB used, {free / 1e9:.1f} GB free"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("cache", False, f"{place} cannot be written; name another with --cache")
    if free < _ROOM:
        text += f"; a run may need {_ROOM / 1e9:.0f}"
    return Finding("cache", free >= _ROOM, text, fatal=False)


def _kernels(context: Context) -> Finding:
    from hostabi.kernels.listing import list_kernels

    if context.packages.cache.size() == 0:
        return Finding("kernels", True, "none cached yet; `hostabi kernels fetch`", fatal=False)
    lines = list_kernels(context.packages)
    cached = [build.name for line in lines for build in line.builds if build.cached]
    return Finding("kernels", True, f"cached: {', '.join(cached) or 'none'}", fatal=False)


def _results() -> Finding:
    folder = resources.results()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    good = os.access(place, os.W_OK)
    return Finding("results", good, f"{folder}" if good else f"{place} cannot be written", False)


def _memory() -> Finding:
    from hostabi.runs.guests import available_memory, default_jobs

    cores = len(os.sched_getaffinity(0))
    return Finding(
        "guests", True, f"{default_jobs()} at a time: {cores} cores, {available_memory()} MiB free"
    )
