"""The catalogue of container engines: kernels/engines.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.errors import InputError

MOUNT = "/engines"
"""Where the disk with the engines' trees is mounted in a guest."""

IMAGE = "image"
"""The folder beside those trees that holds an image as an OCI layout."""

FAMILIES = ("containerd", "podman")
"""Command lines that are known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine and where it comes from.

    ``binary`` is its path within its tree; ``packages`` of ``suite`` and what they depend on,
    but for the ``excluded``, make that tree.
    """

    name: str
    family: str
    suite: str
    packages: tuple[str, ...]
    binary: str
    default: bool
    excluded: tuple[str, ...]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    family: str
    suite: str
    packages: tuple[str, ...]
    binary: str
    default: bool = False


class _Excluded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    packages: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: tuple[_Row, ...]
    excluded: _Excluded


@cache
def _load(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the engines in {path}: {error}") from error


def catalogue() -> dict[str, Entry]:
    """Every engine by name, in the file's order. Raises InputError."""
    file = _load(resources.kernels() / "engines.toml")
    return {
        row.name: Entry(
            row.name,
            row.family,
            row.suite,
            row.packages,
            row.binary,
            row.default,
            file.excluded.packages,
        )
        for row in file.engine
    }


def default_names() -> tuple[str, ...]:
    """The engines used when none is named."""
    return tuple(name for name, entry in catalogue().items() if entry.default)


def find(name: str) -> Entry:
    """The engine called ``name``. Raises InputError."""
    entries = catalogue()
    if name not in entries:
        raise InputError(f"no engine is called {name!r}", advice=f"one of {', '.join(entries)}")
    return entries[name]
