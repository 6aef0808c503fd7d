"""Places in a program's memory that need more than a fixed content."""

from __future__ import annotations

import dataclasses

from hostabi.agent.program import Argument, Pointer, Result, Store, Word
from hostabi.syscalls.builder import Builder, Number, Ref, Slot, Value

Patch = tuple[int, int, Value]
"""Offset in a slot, bytes, and what is put there just before each call that is given the slot."""


def patched(slot: Slot, *patches: Patch) -> Slot:
    """``slot`` with what is known only when the program runs: a descriptor, an address."""
    made = tuple(Store(slot.offset + at, _argument(value), size) for at, size, value in patches)
    return dataclasses.replace(slot, stores=(*slot.stores, *made))


def together(slot: Slot, *others: Slot) -> Slot:
    """``slot``, which points to ``others``: what is put into those is put there as well."""
    stores = (store for other in others for store in other.stores)
    return dataclasses.replace(slot, stores=(*slot.stores, *stores))


def inout(b: Builder, value: int, size: int = 4) -> Slot:
    """A number that a call reads and overwrites; each call finds ``value`` again."""
    return patched(b.buffer(size), (0, size, value))


def message(
    b: Builder,
    content: Slot,
    length: int,
    *,
    control: Slot | None = None,
    name: Slot | None = None,
) -> Slot:
    """A struct msghdr with one piece of data; recvmsg(2) finds the same room again each time."""
    vector = b.array("struct iovec", [{"iov_base": content, "iov_len": length}])
    head = b.struct(
        "struct msghdr",
        msg_name=name or 0,
        msg_namelen=name.size if name else 0,
        msg_iov=vector,
        msg_iovlen=1,
        msg_control=control or 0,
        msg_controllen=control.size if control else 0,
    )
    again: list[Patch] = [(8, 4, name.size if name else 0), (40, 8, control.size if control else 0)]
    return patched(together(head, vector, content, *([control] if control else [])), *again)


def control(b: Builder, level: int, kind: int, data: bytes, *patches: Patch) -> Slot:
    """One control message, cmsg(3); ``patches`` are relative to its data."""
    head = (16 + len(data)).to_bytes(8, "little") + level.to_bytes(4, "little")
    raw = head + kind.to_bytes(4, "little") + data
    slot = b.content(raw.ljust((len(raw) + 7) & ~7, b"\0"))
    return patched(slot, *((16 + at, size, value) for at, size, value in patches))


def controls(raw: bytes, length: int) -> list[tuple[int, int, bytes]]:
    """(level, type, data) of each control message in what recvmsg(2) wrote; stops at nonsense."""
    found: list[tuple[int, int, bytes]] = []
    at, end = 0, min(length, len(raw))
    while at + 16 <= end:
        size = int.from_bytes(raw[at : at + 8], "little")
        if not 16 <= size <= end - at:
            break
        level = int.from_bytes(raw[at + 8 : at + 12], "little", signed=True)
        kind = int.from_bytes(raw[at + 12 : at + 16], "little", signed=True)
        found.append((level, kind, raw[at + 16 : at + size]))
        at += (size + 7) & ~7
    return found


def words(*values: int, size: int = 4) -> bytes:
    """Numbers one after another."""
    mask = (1 << 8 * size) - 1
    return b"".join((value & mask).to_bytes(size, "little") for value in values)


def _argument(value: Value) -> Argument:
    match value:
        case Ref(call):
            return Result(call)
        case Slot():
            return Pointer(value.offset)
        case Number(word):
            return Word(word.offset, word.size)
    return int(value)
