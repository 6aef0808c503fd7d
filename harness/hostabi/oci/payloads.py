"""Payloads: the user space that a container brings along, by generation.

kernels/payloads.toml lists them. All of them lie on one read-only disk, each a root
file system with the probe at /probe, on which nothing but /proc, /sys and tmpfs
can be written to.
"""

from __future__ import annotations

import hashlib
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from hostabi import resources
from hostabi.agent.build import binary
from hostabi.errors import InputError, PackageError
from hostabi.guest.disk import Disk, Entry, below, ext4_image, folder_entries
from hostabi.oci import bundle, disk
from hostabi.oci.actions import Action
from hostabi.oci.records import Config, Mount, Root
from hostabi.oci.seen import Deed, ProbeOutputError
from hostabi.packages.context import Packages
from hostabi.packages.tree import Tree, tool
from hostabi.syscalls import table

MOUNT = "/work/payloads"
"""Where the disk is mounted in a guest: below /work, which a runtime sees in its own tree too."""

_VERSION = 2
"""Of this disk's layout; a part of its key."""

# The sources have another time on the disk, so no time is looked at.
_COMPILE = """
import os, py_compile, sys
tree, work = sys.argv[1:]
for folder, _, names in os.walk(tree + "/usr/lib"):
    made = work + folder[len(tree):] + "/__pycache__"
    for name in names:
        if name.endswith(".py"):
            os.makedirs(made, exist_ok=True)
            compiled = "%s/%s.%s.pyc" % (made, name[:-3], sys.implementation.cache_tag)
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            source = folder + "/" + name
            py_compile.compile(source, compiled, source[len(tree):], True, invalidation_mode=mode)
"""
_COMPILING = 300.0
"""Seconds for the library of one Python; it takes a few."""
_KEPT_ERRORS = 2000

_SHELL, _PYTHON = "/bin/sh", "/usr/bin/python3"
_MOUNTS = tuple(
    Mount(
        destination=place,
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "nodev", "mode=1777", "size=65536k"),
    )
    for place in ("/tmp", "/run")  # noqa: S108
)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    suite: str


class _Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    packages: tuple[str, ...]
    exclude: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: tuple[_Row, ...]
    tree: _Tree


@cache
def _load(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the payloads in {path}: {error}") from error


def _file() -> _File:
    return _load(resources.kernels() / "payloads.toml")


def names() -> tuple[str, ...]:
    """All payloads, the oldest first. Raises InputError."""
    return tuple(row.name for row in _file().payload)


def payloads_disk(packages: Packages) -> Disk:
    """The disk with all payloads, made once and kept in the cache. Raises PackageError."""
    catalogue = _file()
    wanted, exclude = catalogue.tree.packages, catalogue.tree.exclude
    trees = {
        row.name: packages.tree(wanted, row.suite, exclude=exclude) for row in catalogue.payload
    }
    probe = binary("probe", packages.cache)

    def entries(work: Path) -> Iterator[Entry]:
        for name, tree in trees.items():
            yield Entry(name, stat.S_IFDIR | 0o755)
            yield from (below(name, entry) for entry in root_entries(tree, probe))
            yield from (below(name, entry) for entry in _compiled(tree, work / name))

    digest = hashlib.sha256(repr((_VERSION, *(tree.key for tree in trees.values()))).encode())
    digest.update(probe.read_bytes())
    image = ext4_image(packages, entries, key=digest.hexdigest(), label="payloads")
    return Disk("payloads", image, MOUNT)


def root_entries(tree: Tree, probe: Path) -> Iterator[Entry]:
    """A payload's root file system: the packages' files, and what else a container has."""
    found = {entry.name: entry for entry in folder_entries(tree.root)}
    kept = {name: entry for name, entry in found.items() if not name.startswith(disk.UNUSED)}
    yield from kept.values()
    yield from (entry for entry in disk.frame_entries(probe) if entry.name not in kept)


def _compiled(tree: Tree, work: Path) -> Iterator[Entry]:
    """Python's library compiled by that very Python, as its package does when installed.

    Without them each start would compile what it imports, which takes seconds when emulated.
    """
    work.mkdir()
    argv = [*tool(tree, "usr/bin/python3"), "-I", "-B", "-c", _COMPILE, str(tree.root), str(work)]
    done = subprocess.run(argv, capture_output=True, timeout=_COMPILING, check=False, env={})
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-_KEPT_ERRORS:].strip()
        raise PackageError(f"cannot compile the Python library of the tree {tree.root}: {said}")
    known = {entry.name for entry in folder_entries(tree.root)}
    yield from (entry for entry in folder_entries(work) if entry.name not in known)


def config(name: str) -> Config:
    """A bundle whose container has the payload ``name`` as its root file system."""
    base = bundle.mounted(bundle.base(), *_MOUNTS)
    return replace(base, root=Root(path=f"{MOUNT}/{name}", readonly=True))


def shell(script: str) -> Action:
    """The payload's shell runs ``script``, and its system calls are told: :func:`calls`."""
    return Action(("calls", _SHELL, "-c", script))


def python(script: str) -> Action:
    """As :func:`shell`, for the payload's Python, which reads nothing of its environment."""
    return Action(("calls", _PYTHON, "-I", "-B", "-c", script))


Calls = Mapping[str, Mapping[str, int]]
"""System calls by name; for each, how often it ended in which way: an errno's name, or ``ok``."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How a program ended, and the calls that it and all its children made."""

    status: int
    signal: int
    calls: Calls


def followed(deed: Deed) -> Followed:
    """What the probe's ``calls`` tells. Raises ProbeOutputError when it is not all."""
    if deed.errno:
        raise ProbeOutputError(f"not all system calls were seen: {deed.error}")
    found: dict[str, dict[str, int]] = {}
    for line in deed.data.splitlines():
        try:
            number, error, count = map(int, line.split())
        except ValueError as problem:
            raise ProbeOutputError(f"no system call and its end: {line[:200]!r}") from problem
        end = table.errno_name(error) if error else "ok"
        found.setdefault(table.name(number), {})[end] = count
    return Followed(deed.value, deed.signal, found)


def ended(calls: Calls, *ends: str) -> dict[str, tuple[str, ...]]:
    """The calls that ended in one of these ways, with the ways, sorted."""
    kept = {name: tuple(sorted(set(ends).intersection(counts))) for name, counts in calls.items()}
    return {name: kept[name] for name in sorted(kept) if kept[name]}


def text(found: Mapping[str, Sequence[str]]) -> str:
    """``clone3=ENOSYS faccessat2=ENOSYS,ok``: for a table and a record."""
    return " ".join(f"{name}={','.join(ends)}" for name, ends in found.items())


def parse(line: str) -> dict[str, tuple[str, ...]]:
    """What :func:`text` wrote."""
    found = (each.partition("=") for each in line.split())
    return {name: tuple(ends.split(",")) for name, _, ends in found}
