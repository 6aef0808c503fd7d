"""Which archives are known and which keys may sign them: kernels/repositories.toml.

An archive is known by name and by the names of its suites, never by an
address: addresses come from the machine (see :mod:`hostabi.packages.sources`).
``HOSTABI_REPOSITORIES`` may name one more file of the same form, so that any
signed apt repository can be used.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.errors import InputError

FILE = "repositories.toml"


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[str]
    suites: dict[str, str]
    components: tuple[str, ...] = ("main",)
    sibling: str = ""


@dataclass(frozen=True)
class Archive:
    """One archive: a set of suites below one base address, signed by ``keys``."""

    name: str
    keys: tuple[Path, ...]
    suites: dict[str, str]
    """The name to ask for, and the Codename that its Release file must carry."""
    components: tuple[str, ...]
    sibling: str
    """Another archive that mirrors usually keep beside this one, or ""."""


@dataclass(frozen=True)
class Trust:
    """The known archives."""

    archives: dict[str, Archive]

    def archive(self, name: str) -> Archive:
        """The archive called ``name``; :class:`InputError` when it is not known."""
        if name not in self.archives:
            raise InputError(
                f"archive {name!r} is not known", advice=f"one of: {', '.join(self.archives)}"
            )
        return self.archives[name]

    def of_suite(self, suite: str) -> Archive:
        """The archive that holds ``suite``; :class:`InputError` when none does."""
        for archive in self.archives.values():
            if suite in archive.suites:
                return archive
        known = ", ".join(suite for archive in self.archives.values() for suite in archive.suites)
        raise InputError(f"suite {suite!r} is not known", advice=f"one of: {known}")


def load(*files: Path) -> Trust:
    """Read ``files``, by default the one that ships and ``HOSTABI_REPOSITORIES``.

    Keys are looked up beside each file, in ``keys/``. Raises :class:`InputError`.
    """
    named = os.environ.get("HOSTABI_REPOSITORIES")
    files = files or (resources.kernels() / FILE, *([Path(named)] if named else []))
    archives = {}
    for file in files:
        try:
            entries = msgspec.convert(tomllib.loads(file.read_text()), dict[str, _Entry])
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {file}: {error}") from error
        for name, entry in entries.items():
            archives[name] = Archive(
                name,
                tuple(file.parent / "keys" / key for key in entry.keys),
                entry.suites,
                entry.components,
                entry.sibling,
            )
    return Trust(archives)
