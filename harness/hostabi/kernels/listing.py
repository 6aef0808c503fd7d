"""What `hostabi kernels list` tells, as records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostabi.errors import HostabiError, InputError
from hostabi.kernels.build import DEFAULT_FLAVOUR, line_of
from hostabi.kernels.candidates import Candidate
from hostabi.kernels.catalogue import Line, catalogue, default_lines, line_order
from hostabi.kernels.lock import Lock
from hostabi.kernels.releases import listed
from hostabi.kernels.resolve import FOLDERS, cache_key
from hostabi.packages.version import Version

if TYPE_CHECKING:
    from hostabi.packages.context import Packages


@dataclass(frozen=True)
class ListedBuild:
    """One build that a suite lists. ``size`` is that of its packages, in bytes.

    ``missing`` names packages the suite no longer lists; such a build cannot be had.
    """

    name: str
    abi: str
    version: str
    suite: str
    size: int
    cached: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListedLine:
    """One line, its builds newest first, and what is newer than what is at hand.

    ``kind`` is lts, stable, mainline or other. ``newer_than_lock`` and
    ``newer_than_cached`` name the newest build when it is newer than the
    locked one, or than the newest cached one; else they are empty.
    ``problem`` says why a suite could not be read.
    """

    name: str
    kind: str
    default: bool
    tried: bool
    flavour: str
    builds: tuple[ListedBuild, ...] = ()
    locked: str = ""
    newer_than_lock: str = ""
    newer_than_cached: str = ""
    problem: str = ""

    @property
    def newest(self) -> ListedBuild | None:
        """The newest build that can be had."""
        return next((build for build in self.builds if not build.missing), None)


def list_kernels(
    packages: Packages,
    *,
    names: Sequence[str] = (),
    flavour: str = DEFAULT_FLAVOUR,
    lock: Lock | None = None,
    every: bool = False,
) -> tuple[ListedLine, ...]:
    """All lines of the catalogue and of the rolling suites, or those in ``names``, oldest first.

    ``every`` looks for builds in all suites that may have some; it goes without
    saying for lines in ``names``. A suite that cannot be read makes a ``problem``
    of its lines, not an error. Raises InputError for a name that is no line.
    """
    known = catalogue()
    newest = known.newest(packages)
    default = default_lines(packages)
    try:
        served = known.served(packages)
    except HostabiError:
        served = ()
    lines = {*default, *served, *(line.name for line in known.named)}
    if unknown := [name for name in names if name not in lines and not _is_listed(name, packages)]:
        raise InputError(
            f"unknown line {unknown[0]!r}",
            advice=f"one of: {', '.join(sorted(lines, key=line_order))}",
        )
    kinds = {newest.stable: "stable", newest.mainline: "mainline"}
    listed = (
        _listed(known.line(name), flavour, packages, lock, every=every or bool(names))
        for name in sorted(names or lines, key=line_order)
    )
    return tuple(
        dataclasses.replace(
            line, kind=kinds.get(line.name, line.kind), default=line.name in default
        )
        for line in listed
    )


def _is_listed(name: str, packages: Packages) -> bool:
    return line_of(name) == name and bool(listed(name, packages)[0])


def _listed(
    line: Line, flavour: str, packages: Packages, lock: Lock | None, *, every: bool
) -> ListedLine:
    empty = ListedLine(line.name, line.kind, default=False, tried=line.tried, flavour=flavour)
    try:
        wanted = line.flavour(flavour)
    except InputError as error:
        return dataclasses.replace(empty, problem=error.message)
    found: dict[str, ListedBuild] = {}
    candidates, problems = listed(line.name, packages, every=every)
    for one in candidates:
        if one.flavour == wanted:
            found.setdefault(one.name, _build(one, packages))
    builds = tuple(sorted(found.values(), key=lambda one: Version(one.version), reverse=True))
    usable = [build for build in builds if not build.missing]
    cached = next((build for build in usable if build.cached), None)
    entry = lock.get(line.name, wanted) if lock else None
    top = usable[0] if usable else None
    return dataclasses.replace(
        empty,
        flavour=wanted,
        builds=builds,
        locked=entry.name if entry else "",
        newer_than_lock=_newer(top, entry.version if entry else ""),
        newer_than_cached=_newer(top, cached.version if cached else ""),
        problem="; ".join(problems),
    )


def _newer(top: ListedBuild | None, than: str) -> str:
    return top.name if top and than and Version(top.version) > Version(than) else ""


def _build(one: Candidate, packages: Packages) -> ListedBuild:
    folder = packages.cache.root / FOLDERS / cache_key(one.packages)
    return ListedBuild(
        name=one.name,
        abi=one.abi,
        version=one.version,
        suite=one.suite,
        size=sum(package.size for package in one.packages),
        cached=bool(one.packages) and folder.is_dir(),
        missing=one.missing,
    )
