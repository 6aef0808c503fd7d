"""Regular files: opened, read, written, cut and copied."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import at, fd, flags, just, path, pick
from hostabi.syscalls.descriptions.memory import (
    Data,
    Maybe,
    Room,
    Vector,
    out,
    raw,
    struct,
    text,
)
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.strategies import PAGE
from hostabi.syscalls.table import C

MODE = pick("mode", 0o600, 0o644, 0o755, 0o4711, 0, odd=(0o1777, 0o170000, -1))
SEEKABLE = (Kind.FILE, Kind.MEMFD)
READABLE = (*SEEKABLE, Kind.READER, Kind.EVENT, Kind.TIMER, Kind.PAIRED)
WRITABLE = (*SEEKABLE, Kind.WRITER, Kind.PAIRED, Kind.EVENT)
OFFSET = pick("pos", 0, 5, PAGE, 2 * PAGE - 1, 1 << 20, odd=(-1, 1 << 62))
LENGTH = pick("len", PAGE, 1, 100, 3 * PAGE, 0, odd=(-1, 1 << 62))
WRITE, CREATE = C.O_RDWR, C.O_RDWR | C.O_CREAT
_FOLDER_OPEN = C.O_RDONLY | C.O_DIRECTORY
_RESOLVE = (0, C.RESOLVE_NO_SYMLINKS, C.RESOLVE_BENEATH, C.RESOLVE_IN_ROOT, C.RESOLVE_NO_XDEV)
_RWF = flags("flags", "RWF_", usual=(0, C.RWF_HIPRI, C.RWF_DSYNC, C.RWF_NOWAIT))
_HOLES = (
    0,
    C.FALLOC_FL_KEEP_SIZE,
    C.FALLOC_FL_KEEP_SIZE | C.FALLOC_FL_PUNCH_HOLE,
    C.FALLOC_FL_ZERO_RANGE,
)
_STATX = (C.AT_SYMLINK_NOFOLLOW, 0, C.AT_STATX_FORCE_SYNC, C.AT_NO_AUTOMOUNT)


DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "openat.create",
        at(new=Kind.FILE_NAME),
        flags("flags", "O_", usual=(CREATE, CREATE | C.O_EXCL, CREATE | C.O_CLOEXEC), width=23),
        MODE,
        makes=Kind.FILE,
    ),
    describe(
        "openat.file",
        at(Kind.FILE_NAME),
        flags("flags", "O_", usual=(WRITE, WRITE | C.O_APPEND, WRITE | C.O_TRUNC), width=23),
        MODE,
        makes=Kind.FILE,
    ),
    describe(
        "openat.folder",
        at(Kind.FOLDER_NAME),
        flags("flags", "O_", usual=(C.O_DIRECTORY, C.O_DIRECTORY | C.O_CLOEXEC), width=23),
        MODE,
        makes=Kind.FOLDER,
    ),
    describe(
        "openat.path",
        at(Kind.FILE_NAME, Kind.FOLDER_NAME, Kind.LINK_NAME),
        flags("flags", "O_", usual=(C.O_PATH | C.O_NOFOLLOW, C.O_PATH), width=23),
        MODE,
        makes=Kind.PATH,
    ),
    describe(
        "openat.unnamed",
        at(Kind.FOLDER_NAME),
        flags("flags", usual=(C.O_TMPFILE | C.O_RDWR, C.O_TMPFILE | C.O_RDWR | C.O_EXCL)),
        MODE,
        makes=Kind.FILE,
    ),
    describe(
        "open",
        path("filename", new=Kind.FILE_NAME),
        flags("flags", "O_", usual=(CREATE, CREATE | C.O_SYNC), width=23),
        MODE,
        makes=Kind.FILE,
    ),
    describe("creat", path("pathname", new=Kind.FILE_NAME), MODE),
    describe(
        "openat2.create",
        at(new=Kind.FILE_NAME),
        struct(
            "how",
            "struct open_how",
            sized="usize",
            extensible=True,
            flags=flags("flags", "O_", usual=(CREATE, CREATE | C.O_CLOEXEC), width=64),
            mode=pick("mode", 0o600, 0o755, odd=(0o10000,)),
            resolve=flags("resolve", "RESOLVE_", usual=_RESOLVE, width=64),
        ),
        makes=Kind.FILE,
    ),
    describe(
        "openat2.folder",
        at(Kind.FOLDER_NAME),
        struct(
            "how",
            "struct open_how",
            sized="usize",
            extensible=True,
            flags=flags("flags", "O_", usual=(_FOLDER_OPEN, C.O_PATH), width=64),
            resolve=flags("resolve", "RESOLVE_", usual=_RESOLVE, width=64),
        ),
        makes=Kind.FOLDER,
    ),
    describe("read", fd("fd", *READABLE), Room("buf", "count")),
    describe("write", fd("fd", *WRITABLE), Data("buf", "count")),
    describe("pread64", fd("fd", *SEEKABLE), Room("buf", "count"), OFFSET),
    describe("pwrite64", fd("fd", *SEEKABLE), Data("buf", "count"), OFFSET),
    describe("readv", fd("fd", *READABLE), Vector(into=True)),
    describe("writev", fd("fd", *WRITABLE), Vector()),
    describe("preadv", fd("fd", *SEEKABLE), Vector(into=True), OFFSET, just("pos_h", 0)),
    describe("pwritev", fd("fd", *SEEKABLE), Vector(), OFFSET, just("pos_h", 0)),
    describe("preadv2", fd("fd", *SEEKABLE), Vector(into=True), OFFSET, just("pos_h", 0), _RWF),
    describe("pwritev2", fd("fd", *SEEKABLE), Vector(), OFFSET, just("pos_h", 0), _RWF),
    describe(
        "lseek",
        fd("fd", *SEEKABLE, Kind.FOLDER),
        pick("offset", 0, 1, 100, PAGE, odd=(-1, 1 << 62)),
        pick("whence", C.SEEK_SET, C.SEEK_CUR, C.SEEK_END, C.SEEK_DATA, C.SEEK_HOLE, odd=(5, -1)),
    ),
    describe("truncate", path("path", Kind.FILE_NAME), LENGTH),
    describe("ftruncate", fd("fd", *SEEKABLE), LENGTH),
    describe(
        "fallocate",
        fd("fd", *SEEKABLE),
        flags("mode", "FALLOC_FL_", usual=_HOLES),
        pick("offset", 0, 100, PAGE, odd=(-1,)),
        pick("len", PAGE, 1, 3 * PAGE, odd=(0, -1)),
    ),
    describe("fsync", fd("fd", *SEEKABLE, Kind.FOLDER)),
    describe("fdatasync", fd("fd", *SEEKABLE, Kind.FOLDER)),
    describe("syncfs", fd("fd", *SEEKABLE, Kind.FOLDER)),
    describe(
        "sync_file_range",
        fd("fd", *SEEKABLE),
        pick("offset", 0, PAGE, odd=(-1,)),
        pick("nbytes", 0, PAGE, odd=(-1,)),
        flags("flags", "SYNC_FILE_RANGE_", usual=(C.SYNC_FILE_RANGE_WRITE, 0)),
    ),
    describe(
        "fadvise64",
        fd("fd", *SEEKABLE),
        pick("offset", 0, PAGE),
        pick("len", 0, PAGE, odd=(-1,)),
        pick("advice", 0, 1, 2, 3, 4, 5, odd=(6, -1)),
    ),
    describe("readahead", fd("fd", Kind.FILE), pick("offset", 0, PAGE), pick("count", PAGE, 0)),
    describe(
        "copy_file_range",
        fd("fd_in", Kind.FILE),
        Maybe(raw("off_in", bytes(8), (5).to_bytes(8, "little"), kept=True)),
        fd("fd_out", Kind.FILE),
        Maybe(raw("off_out", bytes(8), (PAGE).to_bytes(8, "little"), kept=True)),
        pick("len", PAGE, 1, 3 * PAGE, 0, odd=(-1,)),
        flags("flags"),
    ),
    describe(
        "sendfile",
        fd("out_fd", *WRITABLE[:4]),
        fd("in_fd", *SEEKABLE),
        Maybe(raw("offset", bytes(8), (5).to_bytes(8, "little"), kept=True)),
        pick("count", PAGE, 1, 0, odd=(-1,)),
    ),
    describe(
        "newfstatat",
        at(Kind.FILE_NAME, Kind.FOLDER_NAME, Kind.LINK_NAME, Kind.NODE_NAME),
        out("statbuf", "struct stat"),
        flags("flag", "AT_", usual=(C.AT_SYMLINK_NOFOLLOW, 0)),
    ),
    describe("stat", path("filename", Kind.FILE_NAME, Kind.FOLDER_NAME), out("buf", "struct stat")),
    describe("lstat", path("filename", Kind.LINK_NAME, Kind.FILE_NAME), out("buf", "struct stat")),
    describe("fstat", fd("fd"), out("statbuf", "struct stat")),
    describe(
        "statx",
        at(Kind.FILE_NAME, Kind.FOLDER_NAME, Kind.LINK_NAME, Kind.NODE_NAME),
        flags("flags", "AT_", usual=_STATX),
        flags("mask", "STATX_", usual=(C.STATX_BASIC_STATS, C.STATX_ALL, 0), ignored=True),
        out("buffer", "struct statx"),
    ),
    describe(
        "statx.descriptor",
        fd("dfd"),
        text("filename", ""),
        flags("flags", usual=(C.AT_EMPTY_PATH,)),
        flags("mask", "STATX_", usual=(C.STATX_BASIC_STATS,), ignored=True),
        out("buffer", "struct statx"),
    ),
    describe(
        "statfs", path("pathname", Kind.FILE_NAME, Kind.FOLDER_NAME), out("buf", "struct statfs")
    ),
    describe("fstatfs", fd("fd"), out("buf", "struct statfs")),
    describe(
        "name_to_handle_at",
        at(Kind.FILE_NAME, Kind.FOLDER_NAME, path="name"),
        raw("handle", (120).to_bytes(8, "little") + bytes(120), bytes(128), written=True),
        out("mnt_id", "int", kept=False),
        flags("flag", "AT_HANDLE_", usual=(0,)),
        makes=(),
    ),
    describe(
        "flock",
        fd("fd", Kind.FILE, Kind.FOLDER),
        pick("cmd", 2 | 4, 1 | 4, 8 | 4, 8, odd=(0, 32)),
    ),
)
