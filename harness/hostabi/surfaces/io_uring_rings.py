"""One ring of io_uring, driven by system calls alone.

The kernel says where the rings are mapped and where in them a tail lies, and a
program cannot reckon: so lseek(2) on a file adds the two, and what is put into
the rings or taken out of them goes through that file with pread(2) and pwrite(2).
"""

from __future__ import annotations

import dataclasses
import struct

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces.probing import Questions, Read
from hostabi.surfaces.slots import Patch, patched, together, words
from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

PARAMETERS = 120
"""Bytes of struct io_uring_params."""
_SQ_TAIL, _CQ_OFFSETS = 44, 80
"""Where it has the offset of the submission ring's tail, and struct io_cqring_offsets."""
SQ_USER_ADDRESS, CQ_USER_ADDRESS = 72, 112
_PAGE = 4096
_ENTRIES = 8
_CQE, _SQE = 16, 64
_SEEK_SET, _SEEK_CUR = 0, 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """A submission queue entry, struct io_uring_sqe. ``flags`` are those of the operation."""

    opcode: int
    fd: Value = -1
    off: Value = 0
    addr: Value = 0
    length: Value = 0
    flags: int = 0
    sqe_flags: int = 0
    index: int = 0
    """buf_index or buf_group."""
    file_index: Value = 0
    addr3: Value = 0

    def patches(self, user_data: int) -> list[Patch]:
        """What to store where."""
        return [
            (0, 4, self.opcode | self.sqe_flags << 8),
            (4, 4, self.fd),
            (8, 8, self.off),
            (16, 8, self.addr),
            (24, 4, self.length),
            (28, 4, self.flags),
            (32, 8, user_data),
            (40, 4, self.index),
            (44, 4, self.file_index),
            (48, 8, self.addr3),
        ]


class Ring:
    """A ring that a program makes for itself, for at most as many operations as it has places.

    No completion is ever taken away, and the array of the submission ring, which
    is all zeros, names the first entry each time.
    """

    def __init__(self, q: Questions) -> None:
        self._q = q
        self._parameters = q.buffer(PARAMETERS)
        out = [self._parameters]
        self.fd = q.need("io_uring_setup", _ENTRIES, self._parameters, out=out, opaque=True)
        access = C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED | C.MAP_POPULATE, self.fd
        rings = q.need("mmap", 0, _PAGE, *access, C.IORING_OFF_SQ_RING, opaque=True)
        self._sqes = q.need("mmap", 0, _PAGE, *access, C.IORING_OFF_SQES, opaque=True)
        self._rings = rings
        self._file = q.need("memfd_create", q.string("copy"), 0, opaque=True)
        tail = self._parameters.at(_SQ_TAIL, 4).word()
        q.need("lseek", self._file, rings, _SEEK_SET, opaque=True)
        self._tail = q.need("lseek", self._file, tail, _SEEK_CUR, opaque=True)
        self._submitted = 0

    def ask(
        self,
        key: str,
        entry: Entry,
        *points_to: Slot,
        needs: tuple[Ref, ...] = (),
        fine: str = "",
    ) -> Ref:
        """Have an operation done; the fact is how it completed.

        ``fine`` is the errno with which it completes when it is done.
        """
        q = self._q
        self._submitted += 1
        mark = self._submitted
        sqe = patched(q.content(bytes(_SQE)), *entry.patches(mark))
        self._put(together(sqe, *points_to), self._sqes, _SQE)
        self._put(q.content(words(mark)), self._tail, 4)
        wait = C.IORING_ENTER_GETEVENTS
        entered = q.call("io_uring_enter", self.fd, 1, mark, wait, 0, 0)
        seen = q.buffer(_PAGE)
        q.call("pwrite64", self._file, self._rings, _PAGE, 0)
        where = (self._file, seen, _PAGE, 0)
        read = self._completion(seen, mark, fine)
        return q.ask(key, "pread64", *where, needs=(*needs, entered), read=read, out=[seen])

    def _put(self, slot: Slot, where: Ref, size: int) -> None:
        self._q.call("pwrite64", self._file, slot, size, 0)
        self._q.call("pread64", self._file, where, size, 0)

    def _completion(self, seen: Slot, mark: int, fine: str) -> Read:
        def read(trace: Trace, ref: Ref) -> FactValue:
            parameters = trace.bytes(self.fd, self._parameters)[_CQ_OFFSETS:]
            result = completion(trace.bytes(ref, seen), parameters, mark)
            if result is None:
                return "nothing completed"
            name = table.errno_name(-result) if -4095 <= result < 0 else keys.OK
            return keys.OK if name == fine else name

        return read


def completion(rings: bytes, offsets: bytes, mark: int) -> int | None:
    """The result of the first entry with this user data.

    ``offsets`` is a struct io_cqring_offsets; one that lies finds nothing.
    """
    _, tail, mask, _, _, cqes = struct.unpack_from("<6I", offsets)
    last, within = _number(rings, tail), _number(rings, mask)
    for index in range(min(last, 2 * _ENTRIES)):
        at = cqes + (index & within) * _CQE
        entry = rings[at : at + _CQE]
        if len(entry) == _CQE and int.from_bytes(entry[:8], "little") == mark:
            return int.from_bytes(entry[8:12], "little", signed=True)
    return None


def _number(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")
