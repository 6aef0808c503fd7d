"""kernels/lock.toml: which builds a line stood for, so that a run can be repeated.

It names package files, their sizes and SHA-256, never a host: the mirror is
the machine's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi import resources
from hostabi.errors import InputError, PackageError
from hostabi.kernels import candidates
from hostabi.kernels.build import DEFAULT_FLAVOUR
from hostabi.kernels.candidates import Candidate
from hostabi.kernels.catalogue import catalogue
from hostabi.packages.cache import storage_errors
from hostabi.packages.repository import Package

if TYPE_CHECKING:
    from hostabi.packages.context import Packages

SCHEMA = 1
_LIMIT = 4 << 20


class LockedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One package file: its path in the archive, size in bytes and SHA-256."""

    name: str
    filename: str
    size: int
    sha256: str


class LockedBuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The build that a line stood for."""

    line: str
    flavour: str
    version: str
    abi: str
    suite: str
    package: tuple[LockedPackage, ...]

    @property
    def name(self) -> str:
        """The build's name."""
        return candidates.build_name(self.version, self.flavour)

    def candidate(self, packages: Packages) -> Candidate:
        """What to fetch, from wherever the archive of its suite is now."""
        archive = packages.mirror.trusted.of_suite(self.suite)
        base = packages.mirror.base(archive.name)
        return Candidate(
            line=self.line,
            abi=self.abi,
            flavour=self.flavour,
            version=self.version,
            suite=self.suite,
            packages=tuple(
                Package(
                    name=one.name,
                    version=self.version,
                    architecture="amd64",
                    filename=one.filename,
                    size=one.size,
                    sha256=one.sha256,
                    depends="",
                    pre_depends="",
                    provides="",
                    source="",
                    suite=self.suite,
                    base=base,
                )
                for one in self.package
            ),
        )


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lock file. ``written`` is the UTC date it was made on."""

    schema: int
    written: str = ""
    build: tuple[LockedBuild, ...] = ()

    def get(self, line: str, flavour: str = DEFAULT_FLAVOUR) -> LockedBuild | None:
        """The build locked for ``line``, or None."""
        return next((one for one in self.build if (one.line, one.flavour) == (line, flavour)), None)

    def find(self, line: str, flavour: str = DEFAULT_FLAVOUR) -> LockedBuild:
        """The build locked for ``line``; InputError when there is none."""
        found = self.get(line, flavour)
        if found is None:
            raise InputError(
                f"line {line} ({flavour}) is not in the lock file",
                advice=f"add it with `hostabi kernels lock --kernel {line}`, or run without it",
            )
        return found


def lock_file() -> Path:
    """Where the lock file that travels with the project is."""
    return resources.kernels() / "lock.toml"


def read_lock(path: Path | None = None) -> Lock | None:
    """The lock in ``path``, None when there is no such file; InputError when it is damaged."""
    path = path or lock_file()
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError("too large for a lock file")
        read = msgspec.toml.decode(path.read_bytes(), type=Lock)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise InputError(
            f"{path}: not a lock file: {error}", advice="write it anew: hostabi kernels lock"
        ) from error
    if read.schema != SCHEMA:
        raise InputError(
            f"{path}: schema {read.schema}; this version reads {SCHEMA}",
            advice="write it anew: hostabi kernels lock",
        )
    return read


def make_lock(
    lines: Iterable[str],
    packages: Packages,
    *,
    written: str,
    flavour: str = DEFAULT_FLAVOUR,
    keep: Lock | None = None,
) -> Lock:
    """Lock the newest build of each line; nothing is fetched but indexes.

    Builds of other lines and flavours in ``keep`` stay as they are. Raises
    InputError for a line that no suite serves, PackageError as fetching does.
    """
    fresh = [_newest(name, flavour, packages) for name in lines]
    replaced = {(one.line, one.flavour) for one in fresh}
    kept = [one for one in (keep.build if keep else ()) if (one.line, one.flavour) not in replaced]
    return Lock(SCHEMA, written, tuple(sorted((*kept, *fresh), key=_order)))


def write_lock(lock: Lock, path: Path | None = None) -> Path:
    """Write ``lock``; StorageError when the folder cannot be written."""
    path = path or lock_file()
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path.parent):
        partial.write_text(render(lock), "utf-8")
        partial.replace(path)
    return path


def render(lock: Lock) -> str:
    """``lock`` as TOML."""
    lines = [
        "# Written by `hostabi kernels lock`; edit nothing here.",
        f"schema = {lock.schema}",
        f"written = {json.dumps(lock.written)}",
    ]
    for build in lock.build:
        lines += ["", "[[build]]"]
        lines += [
            f"{field} = {json.dumps(getattr(build, field))}"
            for field in ("line", "flavour", "version", "abi", "suite")
        ]
        for package in build.package:
            lines += ["", "[[build.package]]"]
            lines += [
                f"{field} = {json.dumps(getattr(package, field))}"
                for field in ("name", "filename", "size", "sha256")
            ]
    return "\n".join(lines) + "\n"


def _newest(name: str, flavour: str, packages: Packages) -> LockedBuild:
    line = catalogue().line(name)
    wanted = line.flavour(flavour)
    failures: list[PackageError] = []
    for suite in line.suites:
        try:
            listed = candidates.of_suite(packages, suite)
        except PackageError as error:
            failures.append(error)
            packages.progress.say(f"{suite} cannot be read: {error.message}")
            continue
        for one in listed:
            if one.line == name and one.flavour == wanted and not one.missing:
                return LockedBuild(
                    line=name,
                    flavour=wanted,
                    version=one.version,
                    abi=one.abi,
                    suite=suite,
                    package=tuple(
                        LockedPackage(package.name, package.filename, package.size, package.sha256)
                        for package in one.packages
                    ),
                )
    if len(failures) == len(line.suites):
        raise failures[0]
    raise InputError(
        f"line {name} ({wanted}): none of {', '.join(line.suites)} serves it",
        advice="`hostabi kernels list` shows what there is",
    )


def _order(build: LockedBuild) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in build.line.split(".")), build.flavour
