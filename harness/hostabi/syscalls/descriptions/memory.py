"""Arguments that are addresses: strings, bytes, structs, and room for what a call writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from cffi import FFI

from hostabi.syscalls import types
from hostabi.syscalls.builder import Slot, Value
from hostabi.syscalls.descriptions.model import Argument, Kind, Register, Role
from hostabi.syscalls.descriptions.writer import Writer
from hostabi.syscalls.strategies import PAGE, pattern

SIZES = (8, 1, 100, 0, PAGE, PAGE - 1, PAGE + 1, 3 * PAGE)
"""Byte counts: a few, one, none, a page and its neighbours."""

Field = int | Argument


@dataclass(frozen=True, slots=True)
class Text:
    """A string, one of ``usual``."""

    name: str
    usual: tuple[str | bytes, ...]
    odd: tuple[str | bytes, ...] = ("", "x" * 300)

    @property
    def registers(self) -> tuple[Register, ...]:
        """Its address."""
        return (Register(self.name, Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One of them."""
        return (writer.builder.string(writer.choices.mostly(self.usual, self.odd)),)


def text(name: str, *usual: str | bytes, odd: tuple[str | bytes, ...] = ("", "x" * 300)) -> Text:
    """A string; see :class:`Text`."""
    return Text(name, usual, odd)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Memory that holds one of ``usual``. ``kept``: the call writes what is worth comparing."""

    name: str
    usual: tuple[bytes, ...]
    size: str = ""
    """The name of the argument that follows with its size, if there is one."""
    kept: bool = False
    written: bool = False
    """The call writes there."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """Its address, and its size."""
        size = (Register(self.size, Role.NUMBER),) if self.size else ()
        return (Register(self.name, Role.POINTER), *size)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The memory, and its size."""
        raw = writer.choices.one(self.usual)
        slot = writer.builder.content(raw)
        if self.kept or self.written:
            writer.out(self.name, slot, shown=self.kept)
        return (slot, len(raw)) if self.size else (slot,)


def raw(
    name: str,
    *usual: bytes,
    size: str = "",
    kept: bool = False,
    written: bool = False,
) -> Bytes:
    """Memory with bytes; see :class:`Bytes`."""
    return Bytes(name, usual, size, kept, written)


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes to be written somewhere, and how many: write(2) and its kin."""

    name: str
    size: str
    sizes: tuple[int, ...] = SIZES

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and size."""
        return Register(self.name, Role.POINTER), Register(self.size, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Bytes that tell this call's from those of others."""
        size = writer.choices.one(self.sizes)
        return writer.builder.content(pattern(len(writer.builder), size)), size


@dataclass(frozen=True, slots=True)
class Room:
    """Room for bytes that the call writes, and how many: read(2) and its kin."""

    name: str
    size: str
    sizes: tuple[int, ...] = SIZES
    kept: bool = True

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and size."""
        return Register(self.name, Role.POINTER), Register(self.size, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Zeros."""
        size = writer.choices.one(self.sizes)
        slot = writer.out(self.name, writer.builder.buffer(size), shown=self.kept and size > 0)
        return slot, size


@dataclass(frozen=True, slots=True)
class Out:
    """Room for ``count`` values of one cffi type that the call writes."""

    name: str
    type: str
    count: int = 1
    kept: bool = True
    size: str = ""
    """The name of the argument that follows with the bytes there are, if there is one."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """Its address, and its size."""
        size = (Register(self.size, Role.NUMBER),) if self.size else ()
        return (Register(self.name, Role.POINTER), *size)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Zeros."""
        kind = self.type if self.count == 1 else ""
        slot = writer.builder.buffer(self.count * types.size(self.type), kind)
        writer.out(self.name, slot, shown=self.kept)
        return (slot, slot.size) if self.size else (slot,)


def out(
    name: str,
    type: str,  # noqa: A002
    count: int = 1,
    *,
    kept: bool = True,
    size: str = "",
) -> Out:
    """Room for what the call writes; see :class:`Out`."""
    return Out(name, type, count, kept, size)


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct of a cffi type; a field is a number or an argument of one register.

    ``size`` names the argument that follows with its size. ``extensible``: the kernel's
    may be larger or smaller (openat2(2)). ``written``: the call writes there too, and
    ``kept``: what it writes is worth comparing.
    """

    name: str
    type: str
    fields: tuple[tuple[str, Field], ...] = ()
    size: str = ""
    extensible: bool = False
    written: bool = False
    kept: bool = False
    partial: bool = False
    """Any beginning of it will do, and the rest is zero: no version had a size of its own."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """Its address, and its size."""
        role = Role.SIZE if self.extensible else Role.NUMBER
        size = (Register(self.size, role),) if self.size else ()
        return (Register(self.name, Role.POINTER), *size)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What its fields take."""
        return tuple(
            k for _, value in self.fields if not isinstance(value, int) for k in value.takes
        )

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The struct, and its size."""
        values = filled(writer, self.type, self.fields)
        slot = stored(writer.builder.array(self.type, [values]), values.values())
        if self.written:
            writer.out(self.name, Slot(slot.offset, slot.size, slot.type), shown=self.kept)
        return (slot, slot.size) if self.size else (slot,)


def filled(writer: Writer, type: str, fields: Sequence[tuple[str, Field]]) -> dict[str, Value]:  # noqa: A002
    """The fields' values by name; a number that is too large for its field is cut."""
    made = {}
    for name, value in fields:
        given = value if isinstance(value, int) else value.values(writer)[0]
        made[name] = _cut(type, name, given) if isinstance(given, int) else given
    return made


def stored(slot: Slot, values: Iterable[Value]) -> Slot:
    """``slot`` with what has to be put in place before of the memory it points to."""
    inner = tuple(s for value in values if isinstance(value, Slot) for s in value.stores)
    return replace(slot, stores=(*inner, *slot.stores)) if inner else slot


def _cut(type: str, field: str, value: int) -> int:  # noqa: A002
    kind = _kinds(type)[field]
    return int(types.ffi.cast(kind, value)) if kind.kind == "primitive" else value


@cache
def _kinds(type: str) -> dict[str, FFI.CType]:  # noqa: A002
    found = types.ffi.typeof(types.need(type)).fields or ()
    return {name: info.type for name, info in found}


def struct(
    name: str,
    type: str,  # noqa: A002
    /,
    *,
    sized: str = "",
    extensible: bool = False,
    written: bool = False,
    kept: bool = False,
    **fields: Field,
) -> Struct:
    """A struct; see :class:`Struct`. ``sized`` names the argument with its size."""
    return Struct(name, type, tuple(fields.items()), sized, extensible, written or kept, kept)


@dataclass(frozen=True, slots=True)
class Rows:
    """Up to ``most`` structs one after another, and their count: poll(2), semop(2)."""

    name: str
    count: str
    type: str
    fields: tuple[tuple[str, Field], ...]
    most: int = 3
    kept: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and count."""
        return Register(self.name, Role.POINTER), Register(self.count, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What its fields take."""
        return tuple(
            k for _, value in self.fields if not isinstance(value, int) for k in value.takes
        )

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One at least."""
        count = 1 + writer.choices.below(self.most)
        rows = [filled(writer, self.type, self.fields) for _ in range(count)]
        slot = writer.builder.array(self.type, rows)
        slot = stored(slot, [value for row in rows for value in row.values()])
        if self.kept:
            writer.out(self.name, Slot(slot.offset, slot.size))
        return slot, count


def rows(
    name: str,
    count: str,
    type: str,  # noqa: A002
    /,
    *,
    most: int = 3,
    kept: bool = False,
    **fields: Field,
) -> Rows:
    """Structs one after another; see :class:`Rows`."""
    return Rows(name, count, type, tuple(fields.items()), most, kept)


@dataclass(frozen=True, slots=True)
class Vector:
    """One to three ``struct iovec`` and their count, to write from or with ``into`` to read to."""

    name: str = "vec"
    count: str = "vlen"
    into: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and count."""
        return Register(self.name, Role.POINTER), Register(self.count, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Parts of 1 to 4097 bytes."""
        choices, builder = writer.choices, writer.builder
        rows: list[Mapping[str, Value]] = []
        for _ in range(1 + choices.below(3)):
            size = choices.one(SIZES[:6])
            if self.into:
                part = builder.buffer(size)
                if size:
                    writer.out(f"{self.name}.{len(rows)}", part)
            else:
                part = builder.content(pattern(len(builder) + len(rows), size))
            rows.append({"iov_base": part, "iov_len": size})
        return builder.array("struct iovec", rows), len(rows)


@dataclass(frozen=True, slots=True)
class Maybe:
    """NULL, or in half of all cases what ``argument`` says; ``first`` if NULL is the odd one."""

    argument: Argument
    first: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """Those of the argument, of which pointers may be NULL."""
        return tuple(
            Register(one.name, Role.OPTIONAL) if one.role is Role.POINTER else one
            for one in self.argument.registers
        )

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What the argument takes."""
        return self.argument.takes if self.first else ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Zeros in place of all of the argument's registers, or its values."""
        if writer.choices.often() is self.first:
            return tuple(0 for _ in self.argument.registers)
        return self.argument.values(writer)


@dataclass(frozen=True, slots=True)
class Null:
    """NULL, where a call takes an address that no program gives it."""

    name: str

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.OPTIONAL),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """NULL."""
        return (0,)


@dataclass(frozen=True, slots=True)
class After:
    """``argument``, once there is something of ``kind``, which is not given to the call."""

    kind: Kind
    argument: Argument

    @property
    def registers(self) -> tuple[Register, ...]:
        """Those of the argument."""
        return self.argument.registers

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kind."""
        return (self.kind,)

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Those of the argument."""
        writer.take((self.kind,), "")
        return self.argument.values(writer)


@dataclass(frozen=True, slots=True)
class Mapped:
    """An address of mapped memory and a size: mprotect(2) and its kin. ``ends``: it is unmapped."""

    name: str
    size: str
    kinds: tuple[Kind, ...] = (Kind.MEMORY,)
    ends: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and size; a bad address is no bad pointer there."""
        return Register(self.name, Role.NUMBER), Register(self.size, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kinds."""
        return self.kinds

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """All of it, its first page, or what is no mapped memory."""
        if writer.choices.odd():
            return writer.choices.one((0, 1, -PAGE)), PAGE
        held = writer.take(self.kinds, self.name, ends=self.ends)
        if held is None:
            return 0, PAGE
        sizes = (held.size, held.size) if self.ends else (held.size, PAGE, 1)
        return held.value, writer.choices.mostly(sizes, (0, -1))
