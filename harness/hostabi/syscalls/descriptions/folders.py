"""Names: directories, links, special files, and what is said of files by their names."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import at, fd, flags, just, path, pick
from hostabi.syscalls.descriptions.files import MODE
from hostabi.syscalls.descriptions.memory import Maybe, Room, raw, struct, text
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.table import C

_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
"""Of include/linux/stat.h of the kernel; the C library has them for users."""
_ANY = (Kind.FILE_NAME, Kind.FOLDER_NAME, Kind.LINK_NAME, Kind.NODE_NAME)
_KNOWN = (Kind.FILE_NAME, Kind.FOLDER_NAME)
_TARGETS = text(
    "oldname", "n1", "n2", ".", "missing", "/proc/self", "missing/../n1", odd=("", "x" * 4096)
)
_TIMES = Maybe(
    raw(
        "utimes",
        b"".join(n.to_bytes(8, "little") for n in (1000000000, 5, 1000000001, 6)),
        b"".join(n.to_bytes(8, "little") for n in (0, _OMIT, 0, _NOW)),
        b"".join(n.to_bytes(8, "little") for n in (1, 1 << 31, 1, 0)),
    )
)
_OWN = pick("user", 0, (1 << 32) - 1, 1000, odd=(1 << 31,))
_GROUP = pick("group", 0, (1 << 32) - 1, 1000, odd=(1 << 31,))
NAMES = frozenset(_ANY) | {Kind.PROGRAM_NAME, Kind.LABELLED, Kind.MOUNTED}
_ACCESS = pick("mode", 4, 2, 1, 0, odd=(8, -1))

DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "mkdirat", at(new=Kind.FOLDER_NAME, path="pathname"), pick("mode", 0o755, 0o700, 0o2770)
    ),
    describe("mkdir", path("pathname", new=Kind.FOLDER_NAME), pick("mode", 0o755, 0o700, 0o1777)),
    describe("rmdir", path("pathname", Kind.FOLDER_NAME, ends=True)),
    describe("unlink", path("pathname", Kind.FILE_NAME, Kind.LINK_NAME, Kind.NODE_NAME, ends=True)),
    describe(
        "unlinkat",
        at(*_ANY[:1], *_ANY[2:], ends=True, path="pathname"),
        flags("flag", "AT_REMOVEDIR"),
    ),
    describe(
        "unlinkat.folder",
        at(Kind.FOLDER_NAME, ends=True, path="pathname"),
        flags("flag", "AT_", usual=(C.AT_REMOVEDIR,)),
    ),
    describe("symlinkat", _TARGETS, at(new=Kind.LINK_NAME, folder="newdfd", path="newname")),
    describe("symlink", _TARGETS, path("newname", new=Kind.LINK_NAME)),
    describe(
        "linkat",
        at(Kind.FILE_NAME, Kind.NODE_NAME, folder="olddfd", path="oldname"),
        at(new=Kind.FILE_NAME, folder="newdfd", path="newname"),
        flags("flags", "AT_", usual=(0, C.AT_SYMLINK_FOLLOW)),
    ),
    describe("link", path("oldname", Kind.FILE_NAME), path("newname", new=Kind.FILE_NAME)),
    describe(
        "renameat2",
        at(Kind.FILE_NAME, ends=True, folder="olddfd", path="oldname"),
        at(new=Kind.FILE_NAME, folder="newdfd", path="newname"),
        flags("flags", "RENAME_", usual=(0, C.RENAME_NOREPLACE)),
    ),
    describe(
        "renameat2.exchange",
        at(*_KNOWN, folder="olddfd", path="oldname"),
        at(*_KNOWN, folder="newdfd", path="newname"),
        flags("flags", "RENAME_", usual=(C.RENAME_EXCHANGE,)),
    ),
    describe(
        "renameat",
        at(Kind.FOLDER_NAME, ends=True, folder="olddfd", path="oldname"),
        at(new=Kind.FOLDER_NAME, folder="newdfd", path="newname"),
    ),
    describe(
        "rename",
        path("oldname", Kind.FILE_NAME, Kind.LINK_NAME, ends=True),
        path("newname", new=Kind.FILE_NAME),
    ),
    describe("readlinkat", at(Kind.LINK_NAME, path="pathname"), Room("buf", "bufsiz")),
    describe("readlink", path("path", Kind.LINK_NAME), Room("buf", "bufsiz")),
    describe(
        "mknodat",
        at(new=Kind.NODE_NAME),
        pick("mode", C.S_IFIFO | 0o600, C.S_IFREG | 0o644, C.S_IFSOCK | 0o600, odd=(0o30000,)),
        just("dev", 0),
    ),
    # nobody has it open for writing, which execve(2) would refuse
    describe(
        "mknodat.program",
        at(new=Kind.PROGRAM_NAME),
        just("mode", C.S_IFREG | 0o755),
        just("dev", 0),
    ),
    describe(
        "mknod",
        path("filename", new=Kind.NODE_NAME),
        pick("mode", C.S_IFIFO | 0o600, C.S_IFSOCK | 0o600, C.S_IFCHR | 0o600, odd=(0o30000,)),
        pick("dev", 0, 0x103),
    ),
    describe(
        "getdents64", fd("fd", Kind.FOLDER), Room("dirent", "count", (4096, 100, 1, 0), kept=False)
    ),
    describe(
        "getdents", fd("fd", Kind.FOLDER), Room("dirent", "count", (4096, 100, 1, 0), kept=False)
    ),
    describe("getcwd", Room("buf", "size", (4096, 1, 0), kept=False)),
    describe("chdir", path("filename", Kind.FOLDER_NAME), forgets=NAMES),
    describe("fchdir", fd("fd", Kind.FOLDER), forgets=NAMES),
    describe("chroot", path("filename", Kind.FOLDER_NAME), privilege="CAP_SYS_CHROOT"),
    describe("umask", pick("mask", 0o022, 0o077, 0, 0o777, odd=(-1,))),
    describe("fchmodat", at(Kind.FILE_NAME, Kind.FOLDER_NAME), MODE),
    describe(
        "fchmodat2",
        at(Kind.FILE_NAME, Kind.FOLDER_NAME),
        MODE,
        flags("flags", "AT_", usual=(0, C.AT_SYMLINK_NOFOLLOW)),
    ),
    describe("chmod", path("filename", *_KNOWN), MODE),
    describe("fchmod", fd("fd", Kind.FILE, Kind.FOLDER, Kind.MEMFD, only=True), MODE),
    describe(
        "fchownat",
        at(*_ANY),
        _OWN,
        _GROUP,
        flags("flag", "AT_", usual=(C.AT_SYMLINK_NOFOLLOW, 0)),
    ),
    describe("chown", path("filename", *_KNOWN), _OWN, _GROUP),
    describe("lchown", path("filename", Kind.LINK_NAME, Kind.FILE_NAME), _OWN, _GROUP),
    describe("fchown", fd("fd", Kind.FILE, Kind.FOLDER, only=True), _OWN, _GROUP),
    describe("faccessat", at(*_KNOWN), _ACCESS),
    describe(
        "faccessat2",
        at(*_KNOWN),
        _ACCESS,
        flags("flags", "AT_", usual=(0, C.AT_EACCESS, C.AT_SYMLINK_NOFOLLOW)),
    ),
    describe("access", path("filename", *_KNOWN), _ACCESS),
    describe(
        "utimensat",
        at(*_KNOWN),
        _TIMES,
        flags("flags", "AT_", usual=(0, C.AT_SYMLINK_NOFOLLOW)),
    ),
    describe("utime", path("filename", *_KNOWN), Maybe(raw("times", bytes(16)))),
    describe("utimes", path("filename", *_KNOWN), Maybe(raw("utimes", bytes(32)))),
    describe("futimesat", at(*_KNOWN), Maybe(raw("utimes", bytes(32)))),
    describe(
        "file_getattr",
        at(*_KNOWN),
        struct("ufattr", "struct file_attr", sized="usize", extensible=True, kept=True),
        flags("at_flags", "AT_", usual=(0, C.AT_SYMLINK_NOFOLLOW)),
    ),
    describe(
        "file_setattr",
        at(*_KNOWN),
        struct(
            "ufattr",
            "struct file_attr",
            sized="usize",
            extensible=True,
            fa_xflags=flags("fa_xflags", "FS_XFLAG_", usual=(0,), width=64),
        ),
        flags("at_flags", "AT_", usual=(0,)),
    ),
)
