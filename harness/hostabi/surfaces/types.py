"""Types and constants of the UAPI: what programs are compiled with, and what the kernel has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import msgspec

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.errors import HostabiError, ImageError, PackageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind as Btype
from hostabi.kernels.layout import Layout, layout
from hostabi.kernels.static import Static
from hostabi.kernels.uapi import Uapi, enumerators
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.surfaces import type_declarations
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.syscalls.generate import LEFT_OUT

ROOTS = Path(__file__).with_name("types.json")
"""Names to look for in an image whose headers cannot be had: see :mod:`.type_roots`."""

_BTYPES = {"struct": Btype.STRUCT, "union": Btype.UNION}

_BOUND = re.compile(
    r"(?:MAX|MAX_SHIFT|(?:^|_)(?:LAST|NUM|NR|COUNT|CNT|END|SENTINEL|SUPPORTED)|NUMHOOKS|NBITS)$"
    r"|^(?:MAX|NUM|NR)_|_(?:MAX|NR)_[A-Z]+S$|_VECTOR_SIZE_|^NSIG[A-Z]+$"
)
"""Names that often say how many others there are, so that each addition moves them."""
_MOVING = re.compile(
    r"_(?:(?:SUB)?VERSION|VERSION_(?:MAJOR|MINOR|PATCHLEVEL|SUBLEVEL|CODE)|MASK|FEATURES|RESERVED(?:_BITS)?)$"
)
"""Names whose very purpose is to have another value some day."""
_PRIVATE = "__"
"""Begins the names of enumerators that are not for users."""


class Types:
    """Facts: ``struct open_how`` has its fields as a list, each with its offset and size.

    ``struct open_how#size`` are its bytes. ``enum NAME`` has its enumerators with
    their values. A macro, or an enumerator of an enumeration without a name, is a number:
    ``MFD_CLOEXEC``. Constants of headers of single devices are left out, and so are those
    that only count others.

    The headers of the build's own version tell; the image's BTF is a second witness of
    layouts. Where there are no headers, BTF tells of what is known to be in it as headers
    have it, and the fact :data:`keys.INCOMPLETE` says so.
    """

    name = "types"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A build whose version is known, or whose BTF is at hand."""
        return source.static is not None

    def capture(self, source: Source) -> list[Fact]:
        """Ask the headers, else the image."""
        if source.static is None:
            raise HostabiError("no build is known, so no headers and no BTF", advice="name a build")
        static = source.static
        btf = _btf(static)
        try:
            return declared(static.uapi, btf)
        except PackageError as error:
            if btf is None:
                raise
            return from_image(btf, error.message.removeprefix(f"{static.build.name}: "))

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """Declarations that compile where a kernel's headers have it.

        None for a fact whose detail does not name the header.
        """
        return type_declarations.reproducer(fact)


SURFACE = Types()


def declared(uapi: Uapi, btf: Btf | None) -> list[Fact]:
    """Facts of what headers declare, with BTF as a second witness of layouts."""
    facts: list[Fact] = []
    for spelt, described in uapi.types.items():
        how, sure, detail = keys.HEADERS, Certainty.DERIVED, uapi.places[spelt]
        seen = layouts(btf, spelt) if btf is not None else []
        if seen:
            how += "+btf"
            contradictions = [described.contradicts(one) for one in seen]
            if all(contradictions):
                sure = Certainty.CONTRADICTED
                detail += f": the image says otherwise: {contradictions[0]}"
        facts += _type_facts(spelt, described, how, sure, detail)
    for spelt, values in uapi.enums.items():
        facts.append(_enum_fact(spelt, values, keys.HEADERS, uapi.places[spelt]))
    facts += _constants(uapi)
    return sorted(facts, key=lambda fact: fact.key)


def from_image(btf: Btf, why: str) -> list[Fact]:
    """Facts of those types that an image is known to have as headers have them."""
    facts = [Fact(keys.INCOMPLETE, None, certainty=Certainty.DERIVED, detail=why)]
    for spelt in roots():
        if spelt.startswith("enum "):
            enums = enumerators(btf, spelt.removeprefix("enum "))
            if len(enums) == 1:
                facts.append(_enum_fact(spelt, enums[0], keys.IMAGE_TYPES, ""))
        else:
            seen = layouts(btf, spelt)
            if len(seen) == 1:
                facts += _type_facts(spelt, seen[0], keys.IMAGE_TYPES, Certainty.DERIVED, "")
    return sorted(facts, key=lambda fact: fact.key)


@cache
def roots() -> tuple[str, ...]:
    """Names of types that images have exactly as headers have them."""
    return tuple(msgspec.json.decode(ROOTS.read_bytes(), type=list[str]))


def _btf(static: Static) -> Btf | None:
    try:
        return static.btf
    except ImageError:
        return None  # a kernel without CONFIG_DEBUG_INFO_BTF


def layouts(btf: Btf, spelt: str) -> list[Layout]:
    """The layouts that an image has of types with this name, each once."""
    kind, _, name = spelt.partition(" ")
    found: list[Layout] = []
    for number in btf.named(_BTYPES[kind], name):
        one = layout(btf, btf.type(number))
        if one not in found:
            found.append(one)
    return found


def _type_facts(
    spelt: str, found: Layout, how: str, sure: Certainty, detail: str
) -> Iterator[Fact]:
    yield Fact(spelt, found.words, Kind.MEMBERS, how, sure, detail)
    yield Fact(f"{spelt}#{keys.SIZE}", found.size, Kind.VALUE, how, sure)


def _enum_fact(spelt: str, values: dict[str, int], how: str, detail: str) -> Fact:
    bounds = _bounds(values)
    words = [f"{name} = {value}" for name, value in values.items() if name not in bounds]
    return Fact(spelt, words, Kind.MEMBERS, how, Certainty.DERIVED, detail)


def _bounds(values: dict[str, int]) -> frozenset[str]:
    """Enumerators that only tell where the others end, or are private."""
    ends = {name for name in values if _BOUND.search(name)}
    others = {value for name, value in values.items() if name not in ends}
    return frozenset(
        name
        for name, value in values.items()
        if name.startswith(_PRIVATE) or (name in ends and value + 1 not in others)
    )


def _constants(uapi: Uapi) -> Iterator[Fact]:
    for name, value in uapi.constants.items():
        header, bound = uapi.places[name], _BOUND.search(name)
        computed = name in uapi.derived
        if _is_of_devices(header) or (bound and (computed or name.startswith(_PRIVATE))):
            continue
        kind = Kind.DEFAULT if bound or computed or _MOVING.search(name) else Kind.VALUE
        yield Fact(name, value, kind, keys.HEADERS, Certainty.DERIVED, header)


@cache
def _is_of_devices(header: str) -> bool:
    return any(fnmatchcase(header, pattern) for pattern in LEFT_OUT)
