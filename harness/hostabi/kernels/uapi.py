"""What a build's own headers declare: types, enumerations and constants, by their names.

The headers are those of linux-libc-dev of the same source version, found in the signed
indexes that list the kernel itself. Compiling them takes some seconds, so what was read is
kept by the package's digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi.errors import PackageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind
from hostabi.kernels.build import Build
from hostabi.kernels.catalogue import catalogue
from hostabi.kernels.headers import FOLDERS, Headers, read_headers
from hostabi.kernels.identity import is_listed
from hostabi.kernels.layout import Layout, layout
from hostabi.packages.archives import unpack_deb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostabi.packages.context import Packages
    from hostabi.packages.repository import Package

PACKAGE = "linux-libc-dev"
_FORM = "2"
"""Changes with what is kept, and with how it is read."""
_ARCH = ("usr/include/x86_64-linux-gnu", "usr/include")
_OWN_FOLDERS = (*FOLDERS, "asm-generic")
_KINDS = {"struct": Kind.STRUCT, "union": Kind.UNION}


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


def uapi_of(build: Build, packages: Packages) -> Uapi:
    """What the headers of the build's own version declare.

    Raises PackageError when no index that can be read lists them, and what
    fetching raises.
    """
    package = find_package(build, packages)

    def make(path: Path) -> None:
        with packages.progress.task(f"read the headers of {build.name}"):
            folder = path.with_name("headers")
            unpack_deb(packages.fetch(package), folder)
            headers = read_headers([folder / name for name in _ARCH])
        path.write_bytes(msgspec.msgpack.encode(describe(headers, package.file)))

    kept = packages.cache.file("uapi", f"{package.sha256}-{_FORM}", make)
    return msgspec.msgpack.decode(kept.read_bytes(), type=Uapi)


def find_package(build: Build, packages: Packages) -> Package:
    """The package with the headers of the build's source version.

    Raises PackageError when none is listed, as for a kernel of one's own: it is of no suite.
    """
    suites: tuple[str, ...] = ()
    if is_listed(build.name):
        suites = (build.suite, *catalogue().suites(build.line, exact=True))
    for suite in dict.fromkeys(suites):
        try:
            listed = packages.suite(suite).named(PACKAGE)
        except PackageError:
            continue  # another suite may list it as well
        for package in listed:
            if package.version == build.version:
                return package
    raise PackageError(
        f"{build.name}: no index lists {PACKAGE} {build.version}".rstrip(),
        advice="what its headers declare is then known only as far as its image tells",
    )


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
