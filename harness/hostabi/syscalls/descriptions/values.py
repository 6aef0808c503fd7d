"""Values of a struct's fields that point somewhere."""

from __future__ import annotations

from dataclasses import dataclass

from hostabi.syscalls.builder import Slot, Value
from hostabi.syscalls.descriptions.model import Kind, Register, Role
from hostabi.syscalls.descriptions.writer import Writer
from hostabi.syscalls.table import C


@dataclass(frozen=True, slots=True)
class Address:
    """The address of memory that holds one of ``usual``."""

    usual: tuple[bytes, ...]

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register("", Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The memory."""
        return (writer.builder.content(writer.choices.one(self.usual)),)


def address(*usual: bytes) -> Address:
    """The address of memory; see :class:`Address`."""
    return Address(usual)


@dataclass(frozen=True, slots=True)
class Space:
    """The address of ``size`` zero bytes, which the call writes; compared if ``kept``."""

    size: int
    name: str = ""
    kept: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The memory."""
        return (writer.out(self.name, writer.builder.buffer(self.size), shown=self.kept),)


@dataclass(frozen=True, slots=True)
class Length:
    """The bytes of the memory that the call maps, which later calls are told of."""

    name: str
    sizes: tuple[int, ...]

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.NUMBER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One of the sizes, or none at all."""
        size = writer.choices.mostly(self.sizes, (0, -1))
        writer.note(size=max(size, 1))
        return (size,)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The address of one ``struct iovec``, of memory that holds ``raw``."""

    raw: bytes

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register("", Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The vector."""
        part = writer.builder.content(self.raw)
        return (writer.builder.struct("struct iovec", iov_base=part, iov_len=part.size),)


@dataclass(frozen=True, slots=True)
class Unix:
    """An address of a unix socket and its size: a new name, or that of one of ``kinds``."""

    name: str
    size: str
    kind: Kind | None = None

    @property
    def registers(self) -> tuple[Register, ...]:
        """Address and size."""
        return Register(self.name, Role.POINTER), Register(self.size, Role.NUMBER)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kind."""
        return (self.kind,) if self.kind else ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The struct sockaddr_un, as long as its name: unix(7)."""
        held = writer.take((self.kind,), self.name) if self.kind else None
        name = held.name if held else writer.fresh_name()
        writer.note(name=name)
        content = C.AF_UNIX.to_bytes(2, "little") + name.encode() + b"\0"
        slot = writer.builder.content(content)
        return slot, writer.choices.mostly((slot.size,), (2, 0, 111))


@dataclass(frozen=True, slots=True)
class Program:
    """The address of a ``struct sock_fprog`` over one of several filters: seccomp(2)."""

    name: str
    filters: tuple[bytes, ...]

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The struct."""
        code = writer.builder.content(writer.choices.one(self.filters))
        return (writer.builder.struct("struct sock_fprog", len=code.size // 8, filter=code),)


@dataclass(frozen=True, slots=True)
class Control:
    """The address of the address of a ``struct iocb`` that writes to a file: io_submit(2)."""

    name: str

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.POINTER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """A file."""
        return (Kind.FILE,)

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """An array of one."""
        held = writer.take((Kind.FILE,), self.name)
        operation = writer.choices.one((C.IOCB_CMD_PWRITE, C.IOCB_CMD_PREAD, C.IOCB_CMD_FSYNC))
        sync = operation == C.IOCB_CMD_FSYNC
        control = writer.builder.struct(
            "struct iocb",
            aio_lio_opcode=operation,
            aio_fildes=held.value if held else -1,
            aio_buf=0 if sync else writer.builder.content(b"x" * 64),
            aio_nbytes=0 if sync else 64,
        )
        row = writer.builder.struct("struct iovec", iov_base=control)
        return (Slot(row.offset, row.size, "", row.text, (*control.stores, *row.stores)),)
