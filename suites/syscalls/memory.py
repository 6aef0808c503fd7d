"""A program that looks at memory: what tests of mappings share."""

from __future__ import annotations

import errno

from hostabi.syscalls.builder import Value
from hostabi.syscalls.cases import Script
from hostabi.syscalls.table import C

PAGE = 4096
BASE = 0x210000000000
"""Where nothing is mapped on any kernel."""
READ, BOTH = C.PROT_READ, C.PROT_READ | C.PROT_WRITE
ANONYMOUS = C.MAP_PRIVATE | C.MAP_ANONYMOUS


class Touch(Script):
    """Looks into memory through a pipe, and writes to it from a file: EFAULT for what may not be.

    A program has no instructions of its own, but a kernel that copies to and from
    a user's memory obeys its protection.
    """

    def __init__(self) -> None:
        super().__init__()
        ends = self.buffer(8)
        self.returns(0, "pipe2", ends, C.O_NONBLOCK)
        self.out, self.into = ends.word(0), ends.word(1)
        self.values = self.works(
            "openat", C.AT_FDCWD, self.string("values"), C.O_RDWR | C.O_CREAT, 0o600
        )
        every = self.content(bytes(range(256)))
        self.returns(256, "write", self.values, every, 256)

    def peek(self, address: Value, value: int | None) -> None:
        """The byte that lies there; None where nothing may be read."""
        if value is None:
            self.returns(-errno.EFAULT, "write", self.into, address, 1)
            return
        self.returns(1, "write", self.into, address, 1)
        seen = self.buffer(1)
        ref = self.returns(1, "read", self.out, seen, 1, out=[seen])
        self.holds(ref, seen, bytes([value]))

    def poke(self, address: Value, value: int, *, works: bool = True) -> None:
        result = 1 if works else -errno.EFAULT
        self.returns(result, "pread64", self.values, address, 1, value)
