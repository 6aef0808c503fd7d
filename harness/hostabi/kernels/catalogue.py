"""The lines that are known: kernels/lines.toml, and what rolling suites serve."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi import resources
from hostabi.errors import InputError, PackageError
from hostabi.kernels import candidates
from hostabi.kernels.build import DEFAULT_FLAVOUR

if TYPE_CHECKING:
    from hostabi.packages.context import Packages

SCHEMA = 1


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. ``kind`` is ``lts``, ``stable``, ``mainline`` or ``other``."""

    name: str
    suites: tuple[str, ...]
    kind: str = "other"
    flavours: tuple[str, ...] = (DEFAULT_FLAVOUR, "amd64", "rt-amd64")
    tried: bool = True

    def flavour(self, wanted: str) -> str:
        """The flavour to take when ``wanted`` is asked for; InputError when there is none."""
        if wanted in self.flavours:
            return wanted
        if wanted == DEFAULT_FLAVOUR:
            return self.flavours[0]
        raise InputError(
            f"line {self.name} has no flavour {wanted}",
            advice=f"it has {', '.join(self.flavours)}",
        )


class Remembered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest stable and mainline lines when the catalogue was last edited."""

    stable: str
    mainline: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    rolling: tuple[str, ...]
    elsewhere: tuple[str, ...]
    remembered: Remembered
    line: tuple[Line, ...]


@dataclass(frozen=True)
class Catalogue:
    """The named lines, and the suites whose newest lines are stable and mainline.

    ``elsewhere`` are suites that are searched only for what no other one has.
    """

    named: tuple[Line, ...]
    rolling: tuple[str, ...]
    elsewhere: tuple[str, ...]
    remembered: Remembered

    def line(self, name: str) -> Line:
        """The line ``name``, in the catalogue or else wherever rolling suites serve it."""
        known = next((line for line in self.named if line.name == name), None)
        return known or Line(name, self.rolling)

    def suites(self, name: str, *, exact: bool) -> tuple[str, ...]:
        """Where to look for line ``name``, or for one ``exact`` build of it, in this order."""
        line = self.line(name)
        if line in self.named and not exact:
            return line.suites
        return tuple(dict.fromkeys(line.suites + self.elsewhere))

    @property
    def lts(self) -> tuple[str, ...]:
        """Names of the LTS lines, oldest first."""
        return tuple(
            sorted((line.name for line in self.named if line.kind == "lts"), key=line_order)
        )

    def newest(self, packages: Packages | None) -> Remembered:
        """The newest stable and mainline lines that the rolling suites serve.

        Without ``packages``, or while no index can be had, those that the
        catalogue remembers; the latter is said through its progress.
        """
        if packages is None:
            return self.remembered
        try:
            served = self.served(packages)
        except PackageError as error:
            packages.progress.say(
                f"newest stable and mainline as remembered in lines.toml: {error.message}"
            )
            return self.remembered
        if len(served) < 2:
            return self.remembered
        return Remembered(stable=served[-2], mainline=served[-1])

    def served(self, packages: Packages) -> tuple[str, ...]:
        """Lines of the rolling suites of which a whole build is listed, oldest first.

        Raises PackageError when none of the suites can be read.
        """
        found: set[str] = set()
        failures: list[PackageError] = []
        for suite in self.rolling:
            try:
                listed = candidates.of_suite(packages, suite)
            except PackageError as error:
                failures.append(error)
                continue
            found.update(one.line for one in listed if not one.missing)
        if not found and failures:
            raise failures[0]
        return tuple(sorted(found, key=line_order))


@cache
def catalogue(path: Path | None = None) -> Catalogue:
    """Read kernels/lines.toml (or ``path``); InputError when it is not as it should be."""
    path = path or resources.kernels() / "lines.toml"
    try:
        read = msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise InputError(f"{path}: {error}", advice="restore the file, or install again") from error
    if read.schema != SCHEMA:
        raise InputError(f"{path}: schema {read.schema}; this version reads {SCHEMA}")
    for line in read.line:
        if not re.fullmatch(r"\d+\.\d+", line.name) or not line.suites or not line.flavours:
            raise InputError(f"{path}: line {line.name!r} needs a name X.Y, suites and flavours")
    return Catalogue(read.line, read.rolling, read.elsewhere, read.remembered)


def default_lines(packages: Packages | None = None) -> tuple[str, ...]:
    """The LTS lines, the newest stable and the newest mainline, oldest first.

    With ``packages`` the newest two come from what the suites serve now.
    """
    known = catalogue()
    newest = known.newest(packages)
    return tuple(sorted({*known.lts, newest.stable, newest.mainline}, key=line_order))


def line_order(name: str) -> tuple[int, ...]:
    """Sort key of a line's name: 6.1 before 6.12."""
    return tuple(int(part) for part in name.split("."))
