"""Read BTF: the kernel's own account of its functions and types.

The format is that of Documentation/bpf/btf.rst. One pass finds where each
type begins; a type is decoded when it is asked for, as a kernel has some
150,000. Every offset and id is checked, since the bytes may come from any
file: what is wrong raises ImageError and nothing else.
"""

from __future__ import annotations

import io
import struct
import sys
from array import array
from collections.abc import Iterator
from functools import cached_property

from elftools.elf.elffile import ELFFile

from hostabi.errors import ImageError
from hostabi.kernels.btf_types import Kind, Member, Parameter, Syscall, Type

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_FIXED = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VARIABLE: 1, Kind.DECL_TAG: 1}
"""Words that follow the three which each type has."""
_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.PROTOTYPE: 2,
    Kind.SECTION: 3,
    Kind.ENUM64: 3,
}
"""Words for each of a type's ``vlen`` parts."""
_SIZED = {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.SECTION}
_MODIFIERS = {Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPEDEF, Kind.TYPE_TAG}
_QUALIFIERS = {Kind.VOLATILE: "volatile", Kind.CONST: "const", Kind.RESTRICT: "restrict"}
_TAGS = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}
_DEPTH = 64
"""Longest chain of types followed; a longer one is a loop."""
_SPELLING = 1 << 14
"""Longest spelling of a type: prototypes of prototypes grow with each level."""
_STEPS = tuple(_FIXED.get(Kind(k), 0) if k <= max(Kind) else 0 for k in range(128))
_PER_PART = tuple(_EACH.get(Kind(k), 0) if k <= max(Kind) else 0 for k in range(128))


def btf_section(elf: bytes, name: str = "the image") -> bytes:
    """The ``.BTF`` section of a vmlinux or a module; ImageError when it has none."""
    stream = io.BytesIO(elf)
    try:
        section = ELFFile(stream).get_section_by_name(".BTF")
        data: bytes = section.data() if section is not None else b""
    except Exception as error:  # pyelftools lets whatever its parser trips over through
        raise ImageError(
            f"{name}: its ELF headers are corrupt near byte {stream.tell()} ({error!r})"
        ) from error
    if not data:
        raise ImageError(
            f"{name}: no .BTF section in its {len(elf)} bytes",
            advice="the kernel needs CONFIG_DEBUG_INFO_BTF=y for what is read without booting",
        )
    return data


class Btf:
    """The types and functions of one kernel, or of one module on top of its ``base``."""

    def __init__(
        self, words: array[int], strings: bytes, base: Btf | None, name: str, place: int
    ) -> None:
        self._file, self._place = name, place
        self._words = words
        self._strings = strings
        self._base = base
        self._first = base.count if base else 1
        self._first_string = base.string_end if base else 0
        self._starts, self._kinds = _index(words, name, place)
        self._spelt: dict[int, str] = {}
        self._names: dict[Kind, dict[str, tuple[int, ...]]] = {}

    @classmethod
    def parse(cls, data: bytes, base: Btf | None = None, *, name: str = "BTF") -> Btf:
        """Check and index ``data``. A module's split BTF needs the kernel's as ``base``.

        ``name`` is the file that errors name. Raises ImageError when the data is
        truncated, corrupt, of another byte order than little endian, or split and no base
        was given.
        """
        if len(data) < _HEADER.size:
            raise ImageError(f"{name}: truncated within the header of BTF, after {len(data)} bytes")
        magic, version, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(
            data
        )
        if magic == 0x9FEB:
            raise ImageError(
                f"{name}: BTF at byte 0: big endian, so of another machine than x86-64"
            )
        if magic != _MAGIC or version != 1:
            raise ImageError(
                f"{name}: byte 0: not BTF version 1 (magic {magic:#x}, version {version})"
            )
        if (
            header < _HEADER.size
            or header + type_at + type_size > len(data)
            or header + string_at + string_size > len(data)
            or type_size % 4
        ):
            raise ImageError(f"{name}: the BTF header points beyond its {len(data)} bytes")
        strings = data[header + string_at : header + string_at + string_size]
        if not strings or strings[-1] != 0:
            raise ImageError(f"{name}: BTF strings, from byte {header + string_at} on, are cut off")
        if base is None and strings[0] != 0:
            raise ImageError(
                f"{name}: byte {header + string_at}: split BTF of a module;"
                " it needs its kernel's BTF"
            )
        words = array("I")
        words.frombytes(data[header + type_at : header + type_at + type_size])
        if sys.byteorder == "big":
            words.byteswap()
        return cls(words, strings, base, name, header + type_at)

    @property
    def count(self) -> int:
        """One more than the highest type id."""
        return self._first + len(self._starts)

    @property
    def string_end(self) -> int:
        """Where a module's strings would go on from."""
        return self._first_string + len(self._strings)

    def ids(self, *kinds: Kind) -> Iterator[int]:
        """Ids of all types of these kinds, without those of the base."""
        first = self._first
        return (first + i for i, kind in enumerate(self._kinds) if kind in kinds)

    def name(self, number: int) -> str:
        """The name of type ``number``, empty when it has none."""
        if number == 0:
            return "void"
        if number < self._first and self._base:
            return self._base.name(number)
        return self._string(self._words[self._start(number)])

    def type(self, number: int) -> Type:
        """Decode type ``number``; ImageError when there is none or it is corrupt."""
        if number == 0:
            return Type(0, Kind.VOID, "void")
        if number < self._first and self._base:
            return self._base.type(number)
        try:
            return self._decode(number, self._start(number))
        except (IndexError, struct.error) as error:
            raise self._fault(number, "is cut off") from error

    def functions(self) -> dict[str, int]:
        """Names of functions with the id of one of that name."""
        return {name: found[0] for name, found in self._named(Kind.FUNCTION).items()}

    def named(self, kind: Kind, name: str) -> tuple[int, ...]:
        """Ids of the types of ``kind`` called ``name``; several when layouts differ."""
        return self._named(kind).get(name, ())

    def names(self, kind: Kind) -> tuple[str, ...]:
        """All names of ``kind``, in the order of the file."""
        return tuple(self._named(kind))

    def struct(self, name: str) -> Type | None:
        """The struct called ``name`` (the first when there are several), or None."""
        found = self.named(Kind.STRUCT, name)
        return self.type(found[0]) if found else None

    def prototype(self, function: str) -> Type | None:
        """The prototype of ``function``, or None when BTF does not name it."""
        number = self._named(Kind.FUNCTION).get(function)
        if number is None:
            return None
        found = self.type(self.type(number[0]).target)
        if found.kind is not Kind.PROTOTYPE:
            raise self._fault(number[0], f"{function} has a {found.kind.name} as prototype")
        return found

    def syscalls(self) -> dict[str, Syscall]:
        """Syscall entry points by the kernel's name for them, sorted.

        A native x86-64 entry is ``__x64_sys_NAME`` and takes ``pt_regs``
        (arch/x86/include/asm/syscall_wrapper.h). That of a call without arguments is an
        alias of ``__do_sys_NAME``, so only the latter is named. ``ni_syscall``
        is the one for numbers that are not implemented and is left out.
        """
        functions = self._named(Kind.FUNCTION)
        found = {}
        for prefix in ("__do_sys_", "__x64_sys_"):
            for entry in functions:
                name = entry.removeprefix(prefix)
                if name in (entry, "ni_syscall"):
                    continue
                typed = self.prototype(f"__do_sys_{name}")
                parameters = None
                if typed is not None:
                    parameters = tuple(
                        (part.name, self.spell(part.type)) for part in typed.parameters
                    )
                found[name] = Syscall(name, entry, parameters)
        return dict(sorted(found.items()))

    def strip(self, number: int) -> Type:
        """Type ``number`` without typedefs, qualifiers and tags."""
        for _ in range(_DEPTH):
            found = self.type(number)
            if found.kind not in _MODIFIERS:
                return found
            number = found.target
        raise self._fault(number, "refers to itself")

    def size_of(self, number: int) -> int:
        """Bytes that type ``number`` takes, 0 for void and functions."""
        count = 1
        for _ in range(_DEPTH):
            found = self.strip(number)
            if found.kind is Kind.POINTER:
                return 8 * count
            if found.kind is not Kind.ARRAY:
                return found.size * count if found.kind in _SIZED else 0
            count *= found.count
            number = found.target
        raise self._fault(number, "refers to itself")

    def spell(self, number: int, depth: int = 0) -> str:
        """Type ``number`` as C would write it, without a declared name."""
        if depth > _DEPTH:
            raise self._fault(number, "refers to itself")
        known = self._spelt.get(number)
        if known is not None:
            return known
        found = self.type(number)
        below = depth + 1
        if found.kind is Kind.POINTER:
            text = self._spell_pointer(found.target, below)
        elif found.kind in _QUALIFIERS:
            text = self.spell(found.target, below)
            qualifier = _QUALIFIERS[found.kind]
            text = f"{text} {qualifier}" if text.endswith("*") else f"{qualifier} {text}"
        elif found.kind is Kind.TYPE_TAG:
            text = self.spell(found.target, below)
        elif found.kind is Kind.ARRAY:
            text = f"{self.spell(found.target, below)}[{found.count}]"
        elif found.kind is Kind.PROTOTYPE:
            text = self._spell_prototype(found, "", below)
        else:
            tag = _TAGS.get(found.kind, "")
            if found.kind is Kind.FORWARD:
                tag = "union " if found.flag else "struct "
            text = f"{tag}{found.name or '(anonymous)'}"
        if len(text) > _SPELLING:
            raise self._fault(number, f"takes more than {_SPELLING} characters")
        self._spelt[number] = text
        return text

    def _spell_pointer(self, target: int, depth: int) -> str:
        inner = self.type(target)
        if inner.kind is Kind.PROTOTYPE:
            return self._spell_prototype(inner, "(*)", depth)
        text = self.spell(target, depth)
        return f"{text}*" if text.endswith("*") else f"{text} *"

    def _spell_prototype(self, found: Type, middle: str, depth: int) -> str:
        if depth > _DEPTH:
            raise self._fault(found.id, "refers to itself")
        parts = [
            self.spell(parameter.type, depth) if parameter.type or parameter.name else "..."
            for parameter in found.parameters
        ]
        return f"{self.spell(found.target, depth)} {middle}({', '.join(parts) or 'void'})"

    def _fault(self, number: int, text: str) -> ImageError:
        """An error about a type, with the place where it begins."""
        inside = self._first <= number < self.count
        place = f" at byte {self._place + 4 * self._start(number)}" if inside else ""
        return ImageError(f"{self._file}: BTF type {number}{place} {text}")

    def _named(self, kind: Kind) -> dict[str, tuple[int, ...]]:
        known = self._names.get(kind)
        if known is not None:
            return known
        found: dict[str, tuple[int, ...]] = {}
        for number in self.ids(kind):
            name = self.name(number)
            if name:
                found[name] = (*found.get(name, ()), number)
        self._names[kind] = found
        return found

    @cached_property
    def _enums_tell_sign(self) -> bool:
        # Before pahole 1.24 kind_flag was never set on enums, and values were signed.
        return any(
            self._words[self._start(number) + 1] >> 31
            for number in self.ids(Kind.ENUM, Kind.ENUM64)
        )

    def _start(self, number: int) -> int:
        if not self._first <= number < self.count:
            raise ImageError(
                f"{self._file}: no type {number} among the {len(self._starts)} of BTF"
                f" from byte {self._place} on"
            )
        return self._starts[number - self._first]

    def _string(self, offset: int) -> str:
        if offset < self._first_string and self._base:
            return self._base._string(offset)
        offset -= self._first_string
        if not 0 <= offset < len(self._strings):
            raise ImageError(
                f"{self._file}: a name at byte {offset} lies outside the strings of BTF"
            )
        return self._strings[offset : self._strings.index(0, offset)].decode("utf-8", "replace")

    def _decode(self, number: int, at: int) -> Type:
        words = self._words
        name, info, size = words[at : at + 3]
        kind, parts, flag = Kind(info >> 24 & 0x7F), info & 0xFFFFFF, bool(info >> 31)
        body = at + 3
        target, encoding, count = (0, 0, 0) if kind in _SIZED else (size, 0, 0)
        members: tuple[Member, ...] = ()
        values: tuple[tuple[str, int], ...] = ()
        parameters: tuple[Parameter, ...] = ()
        if kind is Kind.INT:
            encoding = words[body] >> 24 & 0xF
        elif kind is Kind.ARRAY:
            target, count = words[body], words[body + 2]
        elif kind in (Kind.STRUCT, Kind.UNION):
            members = self._members(body, parts, flag)
        elif kind in (Kind.ENUM, Kind.ENUM64):
            values = self._values(kind, body, parts, flag)
        elif kind is Kind.PROTOTYPE:
            parameters = tuple(
                Parameter(self._string(words[i]), words[i + 1])
                for i in range(body, body + 2 * parts, 2)
            )
        return Type(
            number,
            kind,
            self._string(name),
            size=size if kind in _SIZED else 0,
            target=target,
            count=count,
            encoding=encoding,
            flag=flag,
            members=members,
            values=values,
            parameters=parameters,
        )

    def _members(self, body: int, parts: int, flag: bool) -> tuple[Member, ...]:
        words = self._words
        found = []
        for i in range(body, body + 3 * parts, 3):
            offset = words[i + 2]
            # With kind_flag the upper byte is the bit field's size.
            place = (offset & 0xFFFFFF, offset >> 24) if flag else (offset, 0)
            found.append(Member(self._string(words[i]), words[i + 1], *place))
        return tuple(found)

    def _values(self, kind: Kind, body: int, parts: int, flag: bool) -> tuple[tuple[str, int], ...]:
        words = self._words
        signed = flag or not self._enums_tell_sign
        width, bits = (2, 32) if kind is Kind.ENUM else (3, 64)
        found = []
        for i in range(body, body + width * parts, width):
            value = words[i + 1] | (words[i + 2] << 32 if width == 3 else 0)
            if signed and value >> (bits - 1):
                value -= 1 << bits
            found.append((self._string(words[i]), value))
        return tuple(found)


def _index(words: array[int], name: str, place: int) -> tuple[array[int], bytearray]:
    """Where each type begins, and its kind."""
    starts = array("I")
    kinds = bytearray()
    add_start, add_kind = starts.append, kinds.append
    last = max(Kind)
    at, end = 0, len(words)
    try:
        while at < end:
            info = words[at + 1]
            # vlen and kind had 16 and 5 bits at first; their neighbours were kept zero.
            kind = info >> 24 & 0x7F
            if kind == 0 or kind > last:
                raise ImageError(
                    f"{name}: BTF type {len(starts) + 1} at byte {place + 4 * at} is of the"
                    f" unknown kind {kind}"
                )
            add_start(at)
            add_kind(kind)
            at += 3 + _STEPS[kind] + _PER_PART[kind] * (info & 0xFFFFFF)
    except IndexError:
        at = end + 1
    if at != end:
        raise ImageError(f"{name}: the last BTF type, up to byte {place + 4 * end}, is cut off")
    return starts, kinds
