"""The catalogue of OCI runtimes: kernels/runtimes.toml, and local binaries."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import msgspec

from hostabi import resources
from hostabi.errors import InputError

MOUNT = "/runtimes"
"""Where the disk with the runtimes' trees is mounted in a guest."""

ROOTFS = "rootfs"
"""The folder beside those trees that is copied to be a container's root."""

SUFFIX = " (rootless)"
"""What a runtime's name ends with when an ordinary user calls it: :mod:`hostabi.oci.rootless`."""

FAMILIES = ("runc", "crun")
"""Command lines that are known; a local binary's is told from its name."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    family: str
    suite: str
    packages: tuple[str, ...]
    binary: str
    default: bool = False
    quick: bool = False


class _Local(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    suite: str
    packages: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    runtime: tuple[_Row, ...]
    local: _Local


@dataclass(frozen=True, slots=True)
class Entry:
    """A runtime and where it comes from. A short pass takes only those that are ``quick``.

    ``binary`` is its path within its tree; ``packages`` of ``suite`` and what they depend
    on make that tree. ``local`` is a binary of the user, put into the tree.
    """

    name: str
    family: str
    suite: str
    packages: tuple[str, ...]
    binary: str
    default: bool = False
    quick: bool = False
    local: Path | None = None

    @property
    def root(self) -> str:
        """Its tree in a guest."""
        return f"{MOUNT}/{self.name}"

    @property
    def program(self) -> str:
        """Where it is called in its tree: a sealed copy, see harness/agent/seal.c."""
        return f"/{PurePosixPath(self.binary).name}"


@cache
def _load(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the runtimes in {path}: {error}") from error


def catalogue() -> dict[str, Entry]:
    """Every runtime of the catalogue by name, in the file's order. Raises InputError."""
    rows = _load(resources.kernels() / "runtimes.toml").runtime
    return {
        row.name: Entry(
            row.name, row.family, row.suite, row.packages, row.binary, row.default, row.quick
        )
        for row in rows
    }


def default_names(*, short: bool = False) -> tuple[str, ...]:
    """The runtimes used when none is named; in a ``short`` pass only the quick ones."""
    return tuple(
        name for name, entry in catalogue().items() if entry.default and (entry.quick or not short)
    )


def anonymous(text: str, name: str) -> str:
    """``text`` without the name of the runtime and the numbers of its containers.

    So that what several runtimes say alike is equal.
    """
    text = re.sub(rf"\b{re.escape(name)}-\d+\b", "ID", text)
    return re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "the runtime", text)


def split(name: str) -> tuple[str, bool]:
    """The runtime's name without its mode, and whether that is the rootless one."""
    return name.removesuffix(SUFFIX), name.endswith(SUFFIX)


def find(spec: str) -> Entry:
    """The runtime called ``spec``, in whatever mode, or the binary at that path. InputError."""
    spec = split(spec)[0]
    entries = catalogue()
    if spec in entries:
        return entries[spec]
    path = Path(spec)
    if path.is_file():
        return _local(path.resolve())
    raise InputError(
        f"no runtime is called {spec!r}, and there is no such file",
        advice=f"one of {', '.join(entries)}, or the path of a binary",
    )


def _local(path: Path) -> Entry:
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise InputError(
                f"{path} is no ELF program",
                advice="name the runtime's binary itself, not a script around it",
            )
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    family = next((name for name in FAMILIES if name in path.name), "")
    if not family:
        raise InputError(
            f"cannot tell from its name what command line {path.name} takes",
            advice=f"give it a name with {' or '.join(FAMILIES)} in it",
        )
    local = _load(resources.kernels() / "runtimes.toml").local
    return Entry(
        name=f"{path.name}-{digest}",
        family=family,
        suite=local.suite,
        packages=local.packages,
        binary=f"usr/local/bin/{path.name}",
        local=path,
    )
