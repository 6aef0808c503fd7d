"""protocol.h through cffi: the structs of the wire, and safe ways to fill and read them.

The header is the one definition of the wire. cffi reads it here, the C
compiler reads it for the agent, and :func:`layout` is what both must agree on.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import cffi

from hostabi import resources
from hostabi.errors import ProtocolError

HEADER = "protocol.h"


def _load(header: Path) -> cffi.FFI:
    # cffi reads declarations and plain #defines, but no other directives.
    text = re.sub(r"^#(?!define[ \t]+\w+[ \t]+\S).*$", "", header.read_text(), flags=re.MULTILINE)
    loaded = cffi.FFI()
    loaded.cdef(text)
    return loaded


ffi = _load(resources.agent_sources() / HEADER)
constants: Any = ffi.dlopen(None)
"""Names of protocol.h as attributes: ``constants.WIRE_PING``."""

FRAME = ffi.sizeof("struct wire_frame")
LIMIT: int = constants.WIRE_LIMIT
"""The longest payload in bytes, in both directions."""
VERSION: int = constants.WIRE_VERSION


@cache
def layout() -> dict[str, tuple[int, int]]:
    """Offset and size of each struct (``wire_frame``) and field (``wire_frame.id``)."""
    found: dict[str, tuple[int, int]] = {}
    for name in sorted(ffi.list_types()[1]):
        struct = ffi.typeof(f"struct {name}")
        found[name] = (0, ffi.sizeof(f"struct {name}"))
        for field, place in struct.fields:
            found[f"{name}.{field}"] = (place.offset, ffi.sizeof(place.type))
    return found


def layout_rows() -> str:
    """The same names for the C compiler, which fills in its own offsets and sizes."""
    rows = []
    for name in layout():
        struct, _, field = name.partition(".")
        if field:
            rows.append(
                f'{{ "{name}", offsetof(struct {struct}, {field}), '
                f"sizeof(((struct {struct} *)0)->{field}) }},"
            )
        else:
            rows.append(f'{{ "{name}", 0, sizeof(struct {struct}) }},')
    return "\n".join(rows) + "\n"


def padded(size: int) -> int:
    """``size`` rounded up to a multiple of 8."""
    return (size + 7) & ~7


def pad(data: bytes) -> bytes:
    """``data`` with zeros up to a multiple of 8."""
    return data + bytes(-len(data) % 8)


def pack(struct: str, **fields: object) -> bytes:
    """The bytes of one struct, named without ``struct``.

    Raises OverflowError for a number that its field cannot hold.
    """
    return bytes(ffi.buffer(ffi.new(f"struct {struct} *", fields)))


class Reader:
    """A payload from the guest, read from front to back, never past its end.

    Everything in it is hostile: each method raises ProtocolError for what the
    payload does not hold.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._view = ffi.from_buffer(payload)
        self._at = 0

    def _advance(self, size: int, what: str) -> int:
        at = self._at
        if size < 0 or size > len(self._payload) - at:
            left = len(self._payload) - at
            raise ProtocolError(
                f"an answer claims {size} bytes of {what} but only {left} are left",
                advice="the guest's agent is broken or of another build; start a fresh machine",
            )
        self._at = at + size
        return at

    def struct(self, name: str) -> Any:
        """The next struct, valid as long as this reader."""
        at = self._advance(ffi.sizeof(f"struct {name}"), name)
        return ffi.cast(f"struct {name} *", self._view + at)

    def array(self, kind: str, count: int) -> list[int]:
        """``count`` numbers of a C type such as ``int64_t``."""
        at = self._advance(ffi.sizeof(kind) * count, kind)
        if not count:
            return []
        pointer: Any = ffi.cast(f"{kind} *", self._view + at)
        return list(map(int, ffi.unpack(pointer, count)))

    def bytes(self, size: int, what: str = "data") -> bytes:
        """The next ``size`` bytes."""
        at = self._advance(size, what)
        return self._payload[at : at + size]

    def align(self) -> None:
        """Skip to the next multiple of 8."""
        self._advance(-self._at % 8, "padding")

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._payload) - self._at


def text(field: Any) -> str:
    """A char array's text up to its NUL."""
    return bytes(ffi.buffer(field)).partition(b"\0")[0].decode(errors="replace")
