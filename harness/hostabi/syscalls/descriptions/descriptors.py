"""Descriptors: copied, closed, asked and told by fcntl(2) and ioctl(2); files without a name."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import out, raw, text
from hostabi.syscalls.descriptions.model import DESCRIPTORS, Argument, Description, Kind, describe
from hostabi.syscalls.table import C

_FLOCK = (
    packing.pack("<hhixxxxqqixxxx", C.F_WRLCK, 0, 0, 0, 0, 0)[:32],
    packing.pack("<hhixxxxqqixxxx", C.F_RDLCK, 0, 0, 10, 5, 0)[:32],
    packing.pack("<hhixxxxqqixxxx", C.F_UNLCK, 1, 0, 0, 0, 0)[:32],
)
_SEALS = (C.F_SEAL_GROW, C.F_SEAL_SHRINK, C.F_SEAL_WRITE, C.F_SEAL_FUTURE_WRITE, C.F_SEAL_SEAL)
_MEMFD = (C.MFD_ALLOW_SEALING, 0, C.MFD_CLOEXEC, C.MFD_CLOEXEC | C.MFD_ALLOW_SEALING)
_HIGH = pick("newfd", 60, 61, 62, 3, 4, odd=(-1, 4096))
_STATUS = (C.O_NONBLOCK, 0, C.O_APPEND | C.O_NONBLOCK, C.O_NONBLOCK | C.O_DIRECT)
_HINT = raw("arg", bytes(8), (2).to_bytes(8, "little"))
_RANGE = packing.pack("<2Q", 0, 0), packing.pack("<2Q", 4096, 4096)


def _fcntl(
    command: str,
    *kinds: Kind,
    argument: Argument | None = None,
    unsuccessful: str = "",
    only: bool = False,
) -> Description:
    """One command of fcntl(2), named by its constant."""
    rest = () if argument is None else (argument,)
    own, number = fd("fd", *kinds, only=only), just("cmd", getattr(C, command))
    return describe(f"fcntl.{command}", own, number, *rest, unsuccessful=unsuccessful)


def _ioctl(
    request: str, *kinds: Kind, argument: Argument | None = None, unsuccessful: str = ""
) -> Description:
    """One request of ioctl(2), named by its constant."""
    rest = () if argument is None else (argument,)
    number: int = getattr(C, request)
    return describe(
        f"ioctl.{request}", fd("fd", *kinds), just("cmd", number), *rest, unsuccessful=unsuccessful
    )


_CONTROL = (
    _fcntl("F_GETFD"),
    _fcntl("F_SETFD", argument=flags("arg", "FD_CLOEXEC", usual=(C.FD_CLOEXEC, 0), ignored=True)),
    _fcntl("F_GETFL"),
    _fcntl("F_SETFL", argument=flags("arg", "O_", usual=_STATUS, ignored=True)),
    _fcntl("F_GETLK", Kind.FILE, argument=raw("arg", *_FLOCK[:2], kept=True)),
    _fcntl("F_SETLK", Kind.FILE, argument=raw("arg", *_FLOCK)),
    _fcntl("F_OFD_GETLK", Kind.FILE, argument=raw("arg", *_FLOCK[:2], kept=True)),
    _fcntl("F_OFD_SETLK", Kind.FILE, argument=raw("arg", *_FLOCK)),
    _fcntl("F_SETLEASE", Kind.FILE, argument=pick("arg", C.F_UNLCK, C.F_WRLCK, C.F_RDLCK)),
    _fcntl("F_GETLEASE", Kind.FILE, Kind.FOLDER),
    _fcntl(
        "F_SETPIPE_SZ", Kind.READER, Kind.WRITER, argument=pick("arg", 4096, 65536, 1, odd=(-1,))
    ),
    _fcntl("F_GETPIPE_SZ", Kind.READER, Kind.WRITER),
    _fcntl("F_ADD_SEALS", Kind.MEMFD, argument=flags("arg", "F_SEAL_", usual=_SEALS)),
    _fcntl("F_GET_SEALS", Kind.MEMFD),
    _fcntl("F_SETOWN", *DESCRIPTORS, argument=takes("arg", Kind.CHILD, also=(0,), odd=(1 << 30,))),
    describe("fcntl.F_GETOWN", fd("fd"), just("cmd", C.F_GETOWN), pid=True),
    _fcntl("F_SETSIG", argument=pick("arg", 0, 10, 29, odd=(65, -1))),
    _fcntl("F_GETSIG"),
    _fcntl("F_NOTIFY", Kind.FOLDER, argument=flags("arg", "DN_", usual=(0, C.DN_CREATE))),
    _fcntl("F_GET_RW_HINT", Kind.FILE, argument=out("arg", "uint64_t")),
    _fcntl("F_SET_RW_HINT", Kind.FILE, argument=_HINT, only=True),
    _fcntl("F_DUPFD_QUERY", argument=fd("arg")),
    _ioctl("FIONREAD", Kind.FILE, Kind.READER, Kind.PAIRED, argument=out("arg", "int")),
    _ioctl("FIONBIO", argument=raw("arg", (1).to_bytes(4, "little"))),
    _ioctl("FIOCLEX"),
    _ioctl("FIONCLEX"),
    _ioctl("FIOASYNC", Kind.READER, Kind.PAIRED, argument=raw("arg", bytes(4), b"\1\0\0\0")),
    _ioctl("FIGETBSZ", Kind.FILE, Kind.FOLDER, argument=out("arg", "int")),
    _ioctl("FS_IOC_GETFLAGS", Kind.FILE, Kind.FOLDER, argument=out("arg", "int")),
    _ioctl("FS_IOC_SETFLAGS", Kind.FILE, Kind.FOLDER, argument=raw("arg", bytes(4), b"\x80\0\0\0")),
    _ioctl("FS_IOC_FSGETXATTR", Kind.FILE, Kind.FOLDER, argument=out("arg", "struct fsxattr")),
    _ioctl(
        "FICLONE",
        Kind.FILE,
        argument=fd("arg", Kind.FILE),
        unsuccessful="no file system of the guest shares blocks",
    ),
    _ioctl(
        "TCGETS",
        argument=out("arg", "struct termios", kept=False),
        unsuccessful="a program has no terminal",
    ),
)

DESCRIPTIONS: tuple[Description, ...] = (
    describe("close", fd("fd", ends=True)),
    describe("dup", fd("fildes", Kind.FILE), makes=Kind.FILE),
    describe("dup2", fd("oldfd", Kind.FILE), _HIGH, makes=Kind.FILE),
    describe(
        "dup3",
        fd("oldfd", Kind.FILE),
        _HIGH,
        flags("flags", "O_CLOEXEC", usual=(0, C.O_CLOEXEC)),
        makes=Kind.FILE,
    ),
    describe(
        "fcntl.F_DUPFD",
        fd("fd", Kind.FILE),
        just("cmd", C.F_DUPFD),
        pick("arg", 40, 0, 10, odd=(-1,)),
        makes=Kind.FILE,
    ),
    describe(
        "fcntl.F_DUPFD_CLOEXEC",
        fd("fd", Kind.FOLDER),
        just("cmd", C.F_DUPFD_CLOEXEC),
        pick("arg", 40, 0, 10, odd=(-1,)),
        makes=Kind.FOLDER,
    ),
    *_CONTROL,
    describe(
        "close_range",
        pick("fd", 60, 40, 100),
        pick("max_fd", 70, 100, (1 << 32) - 1, odd=(0,)),
        flags("flags", "CLOSE_RANGE_", usual=(0, C.CLOSE_RANGE_CLOEXEC, C.CLOSE_RANGE_UNSHARE)),
    ),
    describe(
        "memfd_create",
        text("uname", "m", "", odd=("x" * 250,)),
        flags("flags", "MFD_", usual=_MEMFD),
        makes=Kind.MEMFD,
    ),
    describe(
        "memfd_secret",
        flags("flags", "O_CLOEXEC", usual=(0, C.O_CLOEXEC)),
        makes=Kind.SECRET,
    ),
    describe("eventfd", pick("count", 0, 1, 5), makes=()),
    describe(
        "eventfd2",
        pick("count", 1, 0, 5),
        flags("flags", "EFD_", usual=(C.EFD_NONBLOCK, C.EFD_NONBLOCK | C.EFD_SEMAPHORE)),
        makes=Kind.EVENT,
    ),
    describe(
        "cachestat",
        fd("fd", Kind.FILE, Kind.MEMFD),
        raw("cstat_range", *_RANGE),
        out("cstat", "struct cachestat", kept=False),
        flags("flags"),
    ),
    describe(
        "kcmp.KCMP_FILE",
        takes("pid1", Kind.CHILD, odd=(1 << 30,)),
        takes("pid2", Kind.CHILD, odd=(1 << 30,)),
        just("type", C.KCMP_FILE),
        fd("idx1"),
        fd("idx2"),
        opaque=True,
    ),
    describe(
        "kcmp",
        takes("pid1", Kind.CHILD, odd=(1 << 30,)),
        takes("pid2", Kind.CHILD, odd=(1 << 30,)),
        pick("type", C.KCMP_VM, C.KCMP_FILES, C.KCMP_FS, C.KCMP_SIGHAND, odd=(99,)),
        just("idx1", 0),
        just("idx2", 0),
        opaque=True,
    ),
)
