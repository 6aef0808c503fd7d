"""Which kernels a suite lists, read from its packages' names and dependencies.

Debian names a kernel's package linux-image-ABI-FLAVOUR. Up to 6.18 it holds
everything; later it depends on linux-binary, linux-modules and linux-base of
the same release. Ubuntu's linux-image (or linux-image-unsigned) depends on
linux-modules. A package of the same form that depends on another linux-image
is a name for the newest one and no kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostabi.kernels.build import DEFAULT_FLAVOUR
from hostabi.packages.version import Version

if TYPE_CHECKING:
    from hostabi.packages.context import Packages
    from hostabi.packages.repository import Package

_KERNELS = re.compile(r"linux-(?:image|binary|modules|base)-.*")
_NAME = re.compile(
    r"linux-image-(?:unsigned-)?"
    r"(?P<abi>(?P<line>\d+\.\d+)(?:[.~+][^-]*)?(?:-\d[^-]*)?)-(?P<flavour>[a-z][a-z0-9-]*)"
)
_PART = re.compile(r"\blinux-(?:binary|modules|modules-extra|base)-\d\S*")


@dataclass(frozen=True)
class Candidate:
    """One kernel that a suite lists. ``packages`` are those that hold its files.

    ``missing`` names packages it needs that the suite does not list: such a
    kernel cannot be had, which happens while a suite is cleaned up.
    """

    line: str
    abi: str
    flavour: str
    version: str
    suite: str
    packages: tuple[Package, ...]
    missing: tuple[str, ...] = ()

    @property
    def release(self) -> str:
        """What ``uname -r`` will say."""
        return f"{self.abi}-{self.flavour}"

    @property
    def name(self) -> str:
        """The build's name: its version, and its flavour unless that is the default one."""
        return build_name(self.version, self.flavour)

    @property
    def upstream(self) -> str:
        """The version without the distribution's revision: ``6.1.192``."""
        return self.version.rpartition("-")[0] or self.version

    @property
    def order(self) -> Version:
        """Sort key: Debian's order of versions."""
        return Version(self.version)


def build_name(version: str, flavour: str) -> str:
    """``6.1.192-2`` for the cloud flavour, ``6.1.192-2-amd64`` for another."""
    return version if flavour == DEFAULT_FLAVOUR else f"{version}-{flavour}"


def of_suite(packages: Packages, suite: str) -> tuple[Candidate, ...]:
    """All kernels that ``suite`` lists, newest first.

    Raises PackageError when its index cannot be had, VerificationError when it
    cannot be trusted.
    """
    return from_packages(packages.suite(suite).matching(_KERNELS), suite)


def from_packages(listed: Iterable[Package], suite: str) -> tuple[Candidate, ...]:
    """The kernels among ``listed``, newest first."""
    known = {(package.name, package.version): package for package in listed}
    found: dict[tuple[str, str], Candidate] = {}
    for package in known.values():
        match = _NAME.fullmatch(package.name)
        if match is None or match["flavour"].endswith(("-unsigned", "-dbg", "-template")):
            continue
        if re.search(r"\blinux-image-\d", package.depends):
            continue
        candidate = _candidate(package, match, known, suite)
        key = (candidate.release, candidate.version)
        # Of a signed and an unsigned package of one kernel, take the signed one.
        if key not in found or "-unsigned-" not in package.name:
            found[key] = candidate
    return tuple(sorted(found.values(), key=lambda one: one.order, reverse=True))


def _candidate(
    package: Package,
    match: re.Match[str],
    known: dict[tuple[str, str], Package],
    suite: str,
) -> Candidate:
    release = f"{match['abi']}-{match['flavour']}"
    parts = [
        name.rstrip(",")
        for name in _PART.findall(package.depends)
        if name.rstrip(",").endswith(release)
    ]
    split = any(name.startswith("linux-binary-") for name in parts)
    if not split:
        # A whole image needs no linux-base of its release; that one has its documents.
        parts = [name for name in parts if not name.startswith("linux-base-")]
    held = [known[key] for name in parts if (key := (name, package.version)) in known]
    return Candidate(
        line=match["line"],
        abi=match["abi"],
        flavour=match["flavour"],
        version=package.version,
        suite=suite,
        packages=tuple(held if split else [package, *held]),
        missing=tuple(name for name in parts if (name, package.version) not in known),
    )
