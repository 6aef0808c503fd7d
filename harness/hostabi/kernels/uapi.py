"""What a build's own headers declare: types, enumerations and constants, by their names.

The headers are those of linux-libc-dev of the same source version, found in the signed
indexes that list the kernel itself. Indexes drop that package sooner than the kernel: then
they are made from the kernel's own headers, or else from its upstream source, as the kernel's
build makes them (:mod:`.exported`). Compiling them takes some seconds, so what was read is kept
by the packages' digests.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from hostabi.errors import PackageError
from hostabi.kernels import exported
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind
from hostabi.kernels.build import Build
from hostabi.kernels.catalogue import catalogue
from hostabi.kernels.headers import FOLDERS, Headers, read_headers
from hostabi.kernels.identity import is_listed
from hostabi.kernels.layout import Layout, layout
from hostabi.packages.archives import unpack_deb, unpack_tar
from hostabi.packages.tree import dependencies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hostabi.packages.context import Packages
    from hostabi.packages.repository import Package, Repository

PACKAGE = "linux-libc-dev"
_OWN = "linux-headers"
"""Begins the names of packages with a kernel's own headers: one of a flavour, which depends on
one (``-common``) that all flavours share."""
_SOURCE = "linux"
"""The source package; of a line that a suite has beside its own one, with the line's name."""
_FORM = "3"
"""Changes with what is kept, and with how it is read."""
_ARCH = ("usr/include/x86_64-linux-gnu", "usr/include")
_EXPORTED = "exported"
_LEFT_OUT = "/drm/"
"""Older packages leave these headers to libdrm-dev, so what includes them is left out of all."""
_OWN_FOLDERS = (*FOLDERS, "asm-generic")
_KINDS = {"struct": Kind.STRUCT, "union": Kind.UNION}


Way: TypeAlias = "Callable[[Build, Packages, str], tuple[Package, ...]]"
"""Looks in a suite for the packages with a build's headers; they are none when it lists none."""


@dataclass(frozen=True)
class Origin:
    """Where a build's headers come from.

    ``raw`` are the kernel's own, of one or several ``packages`` that make up a tree; others
    are ready for user space.
    """

    packages: tuple[Package, ...]
    raw: bool = False

    @property
    def names(self) -> str:
        """The packages' files."""
        return ", ".join(package.file for package in self.packages)


class Uapi(msgspec.Struct, frozen=True):
    """Declarations of one version. Names of types are spelt as in C: ``struct open_how``."""

    package: str
    types: dict[str, Layout]
    enums: dict[str, dict[str, int]]
    """With macros that give an enumerator a second name, often its older one."""
    constants: dict[str, int]
    """Macros, and the enumerators of enumerations that have no name."""
    derived: frozenset[str]
    """Those of the constants that others make up."""
    places: dict[str, str]
    """The header of each type, enumeration and constant."""
    left_out: tuple[str, ...]
    """Headers that do not compile beside the others."""


def uapi_of(build: Build, packages: Packages, origin: Origin | None = None) -> Uapi:
    """What the headers of the build's own version declare; ``origin`` is found when not given.

    Raises PackageError when no index that can be read lists them, and what
    fetching raises.
    """
    found = origin or find_headers(build, packages)

    def make(path: Path) -> None:
        with packages.progress.task(f"read the headers of {build.name}"):
            folder = path.with_name("headers")
            headers = read_headers(_unpacked(found, packages, folder))
        path.write_bytes(msgspec.msgpack.encode(describe(headers, found.names)))

    key = "-".join(package.sha256 for package in found.packages)
    kept = packages.cache.file("uapi", f"{key}-{_FORM}", make)
    return msgspec.msgpack.decode(kept.read_bytes(), type=Uapi)


def include_of(build: Build, packages: Packages) -> list[Path]:
    """The folders to include of the build's headers, unpacked and kept. Raises as uapi_of does."""
    found = find_headers(build, packages)
    key = "-".join(package.sha256 for package in found.packages)
    folder = packages.cache.folder("headers", key, lambda path: _keep(found, packages, path))
    return [folder / _EXPORTED] if found.raw else [folder / name for name in _ARCH]


def _keep(origin: Origin, packages: Packages, folder: Path) -> None:
    _unpacked(origin, packages, folder)
    for unneeded in folder.iterdir() if origin.raw else ():
        if unneeded.name != _EXPORTED:
            shutil.rmtree(unneeded)


def find_headers(build: Build, packages: Packages, ways: Sequence[Way] = ()) -> Origin:
    """The packages with the headers of the build's source version.

    The first of ``ways`` that finds them is taken; by default they are :data:`WAYS`. Raises
    PackageError when none is listed, as for a kernel of one's own: it is of no suite.
    """
    suites: tuple[str, ...] = ()
    if is_listed(build.name):
        suites = (build.suite, *catalogue().suites(build.line, exact=True))
    for look in ways or WAYS:
        for suite in dict.fromkeys(suites):
            with suppress(PackageError):  # another suite may list it as well
                if found := look(build, packages, suite):
                    return Origin(found, raw=look is not installed)
    raise PackageError(
        f"{build.name}: no index lists {PACKAGE} {build.version}, nor its source".rstrip(),
        advice="what its headers declare is then known only as far as its image tells",
    )


def installed(build: Build, packages: Packages, suite: str) -> tuple[Package, ...]:
    """What programs are built with, if ``suite`` lists it."""
    return _exactly(PACKAGE, build, packages.suite(suite))


def own(build: Build, packages: Packages, suite: str) -> tuple[Package, ...]:
    """What modules are built with: numbers of syscalls lie in the flavour's own package."""
    listed = packages.suite(suite)
    flavour = _exactly(f"{_OWN}-{build.release}", build, listed)
    common = [
        package
        for one in flavour
        for names in dependencies(one.depends)
        for name in names
        if name.startswith(f"{_OWN}-")
        for package in _exactly(name, build, listed)
    ]
    return (*common[:1], *flavour) if common else ()


def source(build: Build, packages: Packages, suite: str) -> tuple[Package, ...]:
    """The upstream source, where a distribution's changes lie apart from it (dpkg-source(1)).

    They are not applied: of what they change, next to nothing is in headers for user space.
    """
    listed = packages.sources(suite)
    upstream = build.version.rpartition("-")[0]
    for name in (_SOURCE, f"{_SOURCE}-{build.line}"):
        files = [package for package in listed.named(name) if package.version == build.version]
        whole = [one for one in files if f"_{upstream}.orig.tar." in one.file]
        if whole and any(".debian.tar." in one.file for one in files):
            return tuple(whole[:1])
    return ()


WAYS: tuple[Way, ...] = (installed, own, source)


def _exactly(name: str, build: Build, listed: Repository) -> tuple[Package, ...]:
    return tuple(one for one in listed.named(name) if one.version == build.version)[:1]


def _unpacked(origin: Origin, packages: Packages, folder: Path) -> list[Path]:
    """The folders to include of the headers that ``origin`` has."""
    if not origin.raw:
        for package in origin.packages:
            unpack_deb(packages.fetch(package), folder, members=lambda path: _LEFT_OUT not in path)
        return [folder / name for name in _ARCH]
    trees = [
        tree
        for package in origin.packages
        for tree in _trees(package, packages.fetch(package), folder / package.name)
    ]
    return [exported.export(trees, folder / _EXPORTED)]


def _trees(package: Package, file: Path, folder: Path) -> list[Path]:
    """The tree of a kernel's source that a package holds, or nothing."""
    if package.architecture == "source":
        unpack_tar(file, folder, members=_in_tree)
        return list(folder.iterdir())
    unpack_deb(file, folder, members=_in_tree)
    return list((folder / "usr/src").iterdir())


def _in_tree(path: str) -> bool:
    inside = path.removeprefix("usr/src/").partition("/")[2]
    return exported.wanted(inside) and _LEFT_OUT not in inside


def describe(headers: Headers, package: str = "") -> Uapi:
    """Put what was read into words, without what headers of other folders bring along."""
    places = {
        name: header
        for name, header in headers.places.items()
        if header.partition("/")[0] in _OWN_FOLDERS
    }
    enums = {spelt: values for spelt, values in _enums(headers) if spelt in places}
    named = {name for values in enums.values() for name in values}
    types = {}
    for spelt in headers.types:
        kind, _, name = spelt.partition(" ")
        if kind in _KINDS and spelt in places:
            for number in headers.btf.named(_KINDS[kind], name)[:1]:
                types[spelt] = layout(headers.btf, headers.btf.type(number))
    constants = {
        name: value
        for name, value in headers.values.items()
        if name in places and name not in named
    }
    return Uapi(
        package=package,
        types=types,
        enums=enums,
        constants=constants,
        derived=headers.derived & constants.keys(),
        places={name: places[name] for name in (*types, *enums, *constants)},
        left_out=headers.left_out,
    )


def enumerators(btf: Btf, name: str) -> list[dict[str, int]]:
    """The enumerations called ``name``: several when they differ."""
    numbers = (*btf.named(Kind.ENUM, name), *btf.named(Kind.ENUM64, name))
    return [dict(btf.type(number).values) for number in numbers]


def _enums(headers: Headers) -> Iterator[tuple[str, dict[str, int]]]:
    for spelt in headers.types:
        if spelt.startswith("enum "):
            for values in enumerators(headers.btf, spelt.removeprefix("enum "))[:1]:
                yield spelt, values | _second_names(headers, values)


def _second_names(headers: Headers, values: dict[str, int]) -> dict[str, int]:
    return {
        name: values[to]
        for name, to in headers.aliases.items()
        # all flags that there are may be a single one, as long as there is no other
        if to in values and not name.endswith("_MASK")
    }
