"""Netlink messages: built of pieces, and read from what a kernel wrote. netlink(7).

A piece may hold what is known only when the program runs: a descriptor, a pid, the number
that a kernel gave to a family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from hostabi.surfaces.slots import Patch, words
from hostabi.syscalls import types
from hostabi.syscalls.builder import Value
from hostabi.syscalls.table import C

HEAD = 16
"""Bytes of a struct nlmsghdr. What follows in a NLMSG_ERROR or NLMSG_DONE is 0 or -errno."""
GENERIC_HEAD = 4
"""Bytes of a struct genlmsghdr."""
_ATTRIBUTE_HEAD = 4
_ATTRIBUTES = 4096
"""Attributes that are read of one place; a kernel's answers have a tenth of that."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a message, and what is put over them just before it is sent."""

    raw: bytes = b""
    late: tuple[Patch, ...] = ()

    def __add__(self, other: Piece) -> Piece:
        start = len(self.raw)
        moved = tuple((start + at, size, value) for at, size, value in other.late)
        return Piece(self.raw + other.raw, self.late + moved)


def joined(pieces: Iterable[Piece]) -> Piece:
    """Pieces one after another."""
    made = Piece()
    for piece in pieces:
        made += piece
    return made


def numbers(size: int, *values: Value) -> Piece:
    """Little-endian numbers of ``size`` bytes each."""
    raw = words(*(each if isinstance(each, int) else 0 for each in values), size=size)
    late = tuple(
        (size * index, size, each) for index, each in enumerate(values) if not isinstance(each, int)
    )
    return Piece(raw, late)


def u8(*values: Value) -> Piece:
    """Numbers of one byte."""
    return numbers(1, *values)


def u16(*values: Value) -> Piece:
    """Numbers of two bytes."""
    return numbers(2, *values)


def u32(*values: Value) -> Piece:
    """Numbers of four bytes."""
    return numbers(4, *values)


def u64(*values: Value) -> Piece:
    """Numbers of eight bytes."""
    return numbers(8, *values)


def be16(value: int) -> Piece:
    """A port, or an EtherType, as it travels."""
    return Piece(value.to_bytes(2, "big"))


def be32(value: int) -> Piece:
    """A number of four bytes as it travels."""
    return Piece(value.to_bytes(4, "big"))


def text(content: str) -> Piece:
    """A string and its NUL."""
    return Piece(content.encode() + b"\0")


def raw(content: bytes) -> Piece:
    """Bytes as they are: an address, a struct."""
    return Piece(content)


def struct(type: str, **fields: object) -> Piece:  # noqa: A002
    """A struct of the kernel's headers; a field that is a struct is given as a dict."""
    return Piece(bytes(types.ffi.buffer(types.ffi.new(f"{types.need(type)} *", fields))))


def attribute(kind: int, *content: Piece) -> Piece:
    """A struct nlattr, padded; without content it is a flag."""
    body = joined(content)
    head = words(_ATTRIBUTE_HEAD + len(body.raw), kind, size=2)
    return Piece(head) + body + Piece(bytes(-len(body.raw) % 4))


def nest(kind: int, *attributes: Piece) -> Piece:
    """An attribute of attributes."""
    return attribute(kind | C.NLA_F_NESTED, *attributes)


def message(kind: Value, flags: int, *body: Piece) -> Piece:
    """A struct nlmsghdr and what follows it."""
    content = joined(body)
    head = u32(HEAD + len(content.raw)) + u16(kind, flags | C.NLM_F_REQUEST) + u32(0, 0)
    return head + content + Piece(bytes(-len(content.raw) % 4))


def generic(family: Value, command: int, *body: Piece, flags: int = 0, version: int = 1) -> Piece:
    """A message to a family of generic netlink, linux/genetlink.h."""
    return message(family, flags, u8(command, version) + u16(0), *body)


def attributes(content: bytes) -> list[tuple[int, bytes]]:
    """(type, content) of each attribute in a row of them; stops at nonsense."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + _ATTRIBUTE_HEAD <= len(content) and len(found) < _ATTRIBUTES:
        size = int.from_bytes(content[at : at + 2], "little")
        kind = int.from_bytes(content[at + 2 : at + 4], "little")
        if not _ATTRIBUTE_HEAD <= size <= len(content) - at:
            break
        found.append((kind & 0x3FFF, content[at + _ATTRIBUTE_HEAD : at + size]))
        at += (size + 3) & ~3
    return found


def content(answer: bytes, head: int) -> bytes:
    """What of an answer's first message follows its header and ``head`` more bytes."""
    length = int.from_bytes(answer[:4], "little")
    return answer[HEAD + head : min(length, len(answer))]


def find(content: bytes, path: Sequence[int]) -> bytes | None:
    """The content of the attribute that ``path`` leads to, one nested in another; None: none."""
    for kind in path:
        content_of = dict(reversed(attributes(content)))
        if kind not in content_of:
            return None
        content = content_of[kind]
    return content
