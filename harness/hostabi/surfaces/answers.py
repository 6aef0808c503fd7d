"""Ways to read what a probe's call returned and wrote."""

from __future__ import annotations

from hostabi.model import Value
from hostabi.surfaces.probing import Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.trace import Trace


def field(trace: Trace, ref: Ref, room: Slot, name: str) -> int:
    """A number in the struct that ``room`` held right after the call."""
    return int(getattr(trace.struct(ref, room), name))


def returned(trace: Trace, ref: Ref) -> Value:
    """What the call returned."""
    return str(trace[ref])


def field_text(room: Slot, name: str) -> Read:
    """A number in a struct."""
    return lambda trace, ref: str(field(trace, ref, room, name))


def field_hex(room: Slot, name: str, digits: int = 8) -> Read:
    """A number in a struct, as headers write magic numbers."""
    return lambda trace, ref: f"{field(trace, ref, room, name):#0{digits + 2}x}"


def field_octal(room: Slot, name: str) -> Read:
    """A file's mode in a struct, with the bits of its type."""
    return lambda trace, ref: f"{field(trace, ref, room, name):06o}"


def field_has(room: Slot, name: str, bit: int) -> Read:
    """Whether a bit is set in a number of a struct."""
    return lambda trace, ref: bool(field(trace, ref, room, name) & bit)
