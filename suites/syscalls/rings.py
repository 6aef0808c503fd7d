"""A ring of io_uring, driven by system calls alone: what tests of it share.

The kernel chooses where the rings lie, and a program cannot reckon: lseek(2) on
a file adds, and the file carries bytes into the rings and out of them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory import BOTH, PAGE

from hostabi.agent.program import Pointer, Result, Store
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.cases import Script
from hostabi.syscalls.table import C

ENTRIES = 8
PARAMETERS = 120
"""Bytes of struct io_uring_params; the submission ring's offsets begin at 40, the other's at 80."""
SQE, CQE = 64, 16

Completion = tuple[int, int]
"""What user_data was, and the result."""


@dataclass(frozen=True)
class Entry:
    """One submission, struct io_uring_sqe."""

    opcode: int
    fd: Value = -1
    off: Value = 0
    addr: Value = 0
    length: int = 0
    flags: int = 0
    """Those of the operation."""
    how: int = 0
    """IOSQE_ bits."""
    mark: int = 0
    """user_data."""


class Ring(Script):
    """A ring that completes what is submitted before io_uring_enter returns."""

    def __init__(self) -> None:
        super().__init__(arena=1 << 18)
        self.needs.add("io_uring")
        self.parameters = self.buffer(PARAMETERS)
        self.setup = self.works("io_uring_setup", ENTRIES, self.parameters, out=[self.parameters])
        self.rings, self.sqes = map(self.mapped, (C.IORING_OFF_SQ_RING, C.IORING_OFF_SQES))
        self.carrier = self.works("memfd_create", self.string("carrier"), 0)
        self.tail = self.sum(self.rings, self.parameters.at(44, 4).word())
        order = b"".join(index.to_bytes(4, "little") for index in range(ENTRIES))
        array = self.sum(self.rings, self.parameters.at(64, 4).word())
        self.carry(self.content(order), array)
        self.places: list[Ref] = []
        self.submitted = 0

    def mapped(self, offset: int) -> Ref:
        how = C.MAP_SHARED | C.MAP_POPULATE
        return self.works("mmap", 0, PAGE, BOTH, how, self.setup, offset, opaque=True)

    def sum(self, address: Ref, offset: Value) -> Ref:
        self.works("lseek", self.carrier, address, C.SEEK_SET, opaque=True)
        return self.works("lseek", self.carrier, offset, C.SEEK_CUR, opaque=True)

    def entry_at(self, index: int) -> Ref:
        while len(self.places) <= index:
            self.places.append(self.sum(self.sqes, len(self.places) * SQE))
        return self.places[index]

    def carry(self, slot: Slot, address: Value) -> None:
        self.returns(slot.size, "pwrite64", self.carrier, slot, slot.size, 0)
        self.returns(slot.size, "pread64", self.carrier, address, slot.size, 0)

    def encoded(self, entry: Entry) -> Slot:
        plain = [value if isinstance(value, int) else 0 for value in (entry.off, entry.addr)]
        number = entry.fd if isinstance(entry.fd, int) else 0
        raw = struct.pack(
            "<BBHiQQIIQ", entry.opcode, entry.how, 0, number, *plain, entry.length, entry.flags,
            entry.mark,
        )  # fmt: skip
        slot = self.content(raw.ljust(SQE, b"\0"))
        stores: list[Store] = []
        for at, size, value in ((4, 4, entry.fd), (8, 8, entry.off), (16, 8, entry.addr)):
            if isinstance(value, Ref):
                stores.append(Store(slot.offset + at, Result(value.call), size))
            elif isinstance(value, Slot):
                stores += [Store(slot.offset + at, Pointer(value.offset), size), *value.stores]
        return replace(slot, text=f"entry {entry.mark}", stores=tuple(stores))

    def submit(self, entries: Sequence[Entry], out: Sequence[Slot] = ()) -> Ref:
        """Have them all done; the call after which ``out`` is taken."""
        for index, entry in enumerate(entries):
            self.carry(self.encoded(entry), self.entry_at((self.submitted + index) % ENTRIES))
        self.submitted += len(entries)
        self.carry(self.content(self.submitted.to_bytes(4, "little")), self.tail)
        count = len(entries)
        wait = C.IORING_ENTER_GETEVENTS
        # As none is taken out, all that ever completed are waited for.
        arguments = (self.setup, count, self.submitted, wait, 0, 0)
        return self.returns(count, "io_uring_enter", *arguments, out=out)

    def completions(self) -> tuple[Ref, Slot]:
        seen = self.buffer(PAGE)
        self.returns(PAGE, "pwrite64", self.carrier, self.rings, PAGE, 0)
        return self.returns(PAGE, "pread64", self.carrier, seen, PAGE, 0, out=[seen]), seen

    def completed(self, trace, ref: Ref, seen: Slot) -> list[Completion]:
        """All completions so far, in order."""
        offsets = trace.bytes(self.setup, self.parameters)[80:]
        _, tail, mask, _, _, cqes = struct.unpack_from("<6I", offsets)
        rings = trace.bytes(ref, seen)
        (last,) = struct.unpack_from("<I", rings, tail)
        (within,) = struct.unpack_from("<I", rings, mask)
        places = [cqes + (index & within) * CQE for index in range(min(last, 2 * ENTRIES))]
        return [struct.unpack_from("<Qi", rings, at) for at in places]
