"""What cffi is told of structs and numbers, held against the types that a kernel's image has.

The declarations come from the newest headers (:mod:`hostabi.syscalls.generate`), and a
kernel of another version may know less: a struct that grew is shorter there. But what it
has lies where cffi says, and has the size that cffi says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cffi import FFI

from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind
from hostabi.kernels.layout import Field, Layout, layout
from hostabi.syscalls import table, types

_BTYPES = {"struct": Kind.STRUCT, "union": Kind.UNION}


def told(name: str) -> Layout:
    """The layout of a struct or a union as cffi has it."""
    kind = types.ffi.typeof(types.need(name))
    fields = sorted(_fields(kind, 0, ""), key=lambda field: (field.offset, field.name))
    return Layout(types.size(name), tuple(fields))


def known_types() -> list[str]:
    """Every struct and union that cffi can be asked for, by its name in the kernel."""
    names = {*types.HEADERS, *types.declared()}
    return sorted(name for name in names if name.partition(" ")[0] in _BTYPES)


def images(btf: Btf, name: str) -> list[Layout]:
    """The layouts that an image has of a type with this name."""
    spelt, _, tag = name.partition(" ")
    seen = [layout(btf, btf.type(number)) for number in btf.named(_BTYPES[spelt], tag)]
    return [each for each in seen if each.size]


def mismatches(btf: Btf, names: Iterable[str]) -> dict[str, str]:
    """The types of ``names`` of which the image has another layout, and how it differs.

    Where the image has several types of a name, one that agrees is enough: the kernel may
    have another one for itself.
    """
    found = {}
    for name in names:
        said = [_differs(told(name), each) for each in images(btf, name)]
        if said and all(said):
            found[name] = min(said)
    return found


def numbers(btf: Btf) -> dict[str, tuple[int, int]]:
    """Enumerators that have another value in the image: that of the table, and that."""
    known = table.tables().constants
    found: dict[str, set[int]] = {}
    for number in btf.ids(Kind.ENUM, Kind.ENUM64):
        for name, value in btf.type(number).values:
            if name in known:
                found.setdefault(name, set()).add(value)
    return {
        name: (known[name], min(values))
        for name, values in found.items()
        if not any(_same(known[name], value) for value in values)
    }


def _same(one: int, other: int) -> bool:
    """Whether both are one number: before pahole 1.24 enumerators had no sign."""
    return one == other or one & 0xFFFFFFFF == other & 0xFFFFFFFF


def _differs(ours: Layout, seen: Layout) -> str:
    """Where a kernel's layout contradicts ours; empty if it is ours, or the beginning of it."""
    theirs = {field.name: field for field in seen.fields}
    for field in ours.fields:
        known = theirs.get(field.name)
        if known is None or not field.size or not known.size:
            continue  # structs in a struct have sizes of their own
        if (field.offset, field.size) != (known.offset, known.size):
            return f"{field} here, {known} in the image"
    if seen.size > ours.size:
        return f"{ours.size} bytes here, {seen.size} in the image"
    if seen.size < ours.size and any(f.offset >= 8 * seen.size for f in seen.fields):
        return f"{ours.size} bytes here, {seen.size} in the image"
    return ""


def _fields(kind: FFI.CType, base: int, prefix: str) -> Iterator[Field]:
    for name, info in kind.fields or ():
        offset = base + 8 * info.offset
        inner = info.type
        if info.bitsize >= 0:
            yield Field(f"{prefix}{name}", offset + info.bitshift, info.bitsize, "bits")
        elif inner.kind in ("struct", "union") and (not name or "$" in inner.cname):
            below = f"{prefix}{name}." if name else prefix
            yield from _fields(inner, offset, below)
        else:
            size = 0 if inner.kind == "array" and not inner.length else types.ffi.sizeof(info.type)
            yield _field(inner, f"{prefix}{name}", offset, size)


def _field(kind: FFI.CType, name: str, offset: int, size: int) -> Field:
    array = ""
    while kind.kind == "array":
        array, kind = "[]", kind.item
    form = {"struct": "struct", "union": "struct", "pointer": "ptr"}.get(kind.kind, "u")
    return Field(name, offset, 0 if form == "struct" and not array else size, form + array)
