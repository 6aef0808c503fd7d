"""How a struct or a union lies in memory, in words that are the same for headers and images.

Only what a program can depend on is told: where each named field is and how long. Whether
a number is signed, and which tag a nested struct has, differs between what the kernel is
built from and what it exports, without any byte being elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hostabi.errors import ImageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind, Member, Type

_FIELDS = 4096
"""Fields a type may have; the largest of the UAPI have some hundred."""
_DEPTH = 16

_FILLER = re.compile(
    r"_*(?:reserved?|rsvd?|resvd?|pad(?:ding)?|spare|unused|fill(?:er)?|hole|glibc_reserved)s?_?\d*"
    r"|_*(?:reserved|pad)_\w+"
    r"|_*(?:res|align)\d*|\w*_(?:reserved|rsvd|padding|pad|unused|spare)\d*",
    re.IGNORECASE,
)
"""Names of fields that only fill space. They shrink, split and go when it is put to use."""


@dataclass(frozen=True, slots=True)
class Field:
    """One named field. ``offset`` in bits; ``size`` in bits for a bit field, else in bytes.

    The size of a struct with a tag is that type's own: 0 here, unless it is an array.
    """

    name: str
    offset: int
    size: int
    form: str
    """``u`` for a number, ``ptr``, ``struct`` or ``bits``, with ``[]`` for an array of them."""

    def __str__(self) -> str:
        place = f"{self.offset // 8}" + (f".{self.offset % 8}" if self.form == "bits" else "")
        size = f":{self.size}" if self.size else ""
        return f"{place} {self.form}{size} {self.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """``size`` in bytes; fields in order of their offsets, without those that fill space."""

    size: int
    fields: tuple[Field, ...]

    @property
    def words(self) -> list[str]:
        """Each field as a text: ``16 u:4 flags`` is a number of 4 bytes at offset 16."""
        return [str(field) for field in self.fields]

    def contradicts(self, other: Layout) -> str:
        """Where ``other`` has the same name elsewhere or another size; empty for nowhere.

        Names that only one of the two has are no contradiction: the kernel hides some
        fields from user space and gives others a name of its own.
        """
        if self.size != other.size:
            return f"{self.size} and {other.size} bytes"
        theirs = {field.name: field for field in other.fields}
        for field in self.fields:
            known = theirs.get(field.name)
            if known is not None and field.size and known.size:
                places = {(field.offset, field.size), (known.offset, known.size)}
                if len(places) > 1:
                    return f"{field} and {known}"
        return ""


def layout(btf: Btf, found: Type) -> Layout:
    """The layout of a struct or a union. Raises ImageError for one without an end."""
    fields: list[Field] = []
    for field in _fields(btf, found, 0, "", 0):
        if len(fields) == _FIELDS:
            raise ImageError(f"BTF: struct {found.name} has more than {_FIELDS} fields")
        fields.append(field)
    named = [field for field in fields if not _FILLER.fullmatch(field.name.rpartition(".")[2])]
    named.sort(key=lambda field: (field.offset, field.name))
    return Layout(found.size, tuple(named))


def _fields(btf: Btf, found: Type, base: int, prefix: str, depth: int) -> Iterator[Field]:
    """Fields, with those of members that have no tag of their own."""
    if depth > _DEPTH:
        raise ImageError(f"BTF: type {found.id} contains itself")
    for member in found.members:
        inner = btf.strip(member.type)
        offset = base + member.offset
        if inner.kind in (Kind.STRUCT, Kind.UNION) and not inner.name:
            below = f"{prefix}{member.name}." if member.name else prefix
            yield from _fields(btf, inner, offset, below, depth + 1)
        elif member.name:
            yield _field(btf, member, f"{prefix}{member.name}", offset)


def _field(btf: Btf, member: Member, name: str, offset: int) -> Field:
    if member.bits:
        return Field(name, offset, member.bits, "bits")
    found = btf.strip(member.type)
    array = ""
    for _ in range(_DEPTH):
        if found.kind is not Kind.ARRAY:
            break
        array = "[]"
        found = btf.strip(found.target)
    form = {Kind.STRUCT: "struct", Kind.UNION: "struct", Kind.POINTER: "ptr"}.get(found.kind, "u")
    size = 0 if form == "struct" and not array else btf.size_of(member.type)
    return Field(name, offset, size, form + array)
