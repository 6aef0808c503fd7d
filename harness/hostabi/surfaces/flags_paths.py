"""Flags of calls that are given a path: openat(2), openat2(2), statx(2), and the AT_* ones."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.flag_names import bits, named
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Slot, Value
from hostabi.syscalls.table import C

_FREE = 1 << 30
"""A bit that no header gives to these calls."""
_AT = named(
    "AT_",
    "SYMLINK_NOFOLLOW",
    "SYMLINK_FOLLOW",
    "EACCESS",
    "NO_AUTOMOUNT",
    "EMPTY_PATH",
    "STATX_FORCE_SYNC",
    "STATX_DONT_SYNC",
    "RECURSIVE",
    "EXECVE_CHECK",
) | {"unknown": _FREE}
_ALONE = named(
    "O_",
    "APPEND",
    "CLOEXEC",
    "CREAT",
    "DIRECTORY",
    "DSYNC",
    "EMPTYPATH",
    "EXCL",
    "LARGEFILE",
    "NOATIME",
    "NOCTTY",
    "NOFOLLOW",
    "NONBLOCK",
    "PATH",
    "SYNC",
    "TMPFILE",
    "TRUNC",
)


def probes() -> Iterator[Probe]:
    """All questions."""
    for make in (_open, _open_structs, _resolve, _at, _rename):
        yield from make()


def _files(q: Questions) -> Slot:
    """A file, a folder, and links to both; the file's name."""
    file = q.string("file")
    q.need("mknod", file, C.S_IFREG | 0o700, 0)
    q.need("mkdir", q.string("folder"), 0o755)
    q.need("symlink", file, q.string("link"))
    q.need("symlink", q.string("/"), q.string("absolute"))
    return file


def _target(name: str) -> str:
    """What is there to be opened with that flag."""
    if name == "EMPTYPATH":
        return ""
    return "folder" if name in ("DIRECTORY", "TMPFILE") else "file"


def _access(name: str) -> int:
    return C.O_RDWR if name in ("TMPFILE", "TRUNC") else C.O_RDONLY


def _open() -> tuple[Probe, ...]:
    """open(2): flags that it does not know are passed over."""
    q = Questions()
    _files(q)
    here = q.need("openat", C.AT_FDCWD, q.string("file"), C.O_RDONLY)
    for name, flag in (_ALONE | {"unknown": _FREE}).items():
        path = q.string(_target(name))
        start: Value = here if name == "EMPTYPATH" else C.AT_FDCWD
        path = q.string("new") if name == "EXCL" else path
        flags = flag | _access(name) | (C.O_CREAT if name == "EXCL" else 0)
        fd = q.ask(f"openat.O_{name}", "openat", start, path, flags, 0o600)
        q.call("close", fd)
    both = C.O_DIRECTORY | C.O_CREAT
    q.ask("openat.O_DIRECTORY-O_CREAT", "openat", C.AT_FDCWD, q.string("other"), both, 0o600)
    there = (C.AT_FDCWD, q.string("folder"), both, 0o600)
    q.ask("openat.O_DIRECTORY-O_CREAT.there", "openat", *there)
    many = C.O_PATH | C.O_RDWR | C.O_TRUNC
    q.ask("openat.O_PATH-O_TRUNC", "openat", C.AT_FDCWD, q.string("file"), many)
    return q.probes()


def _open_structs() -> tuple[Probe, ...]:
    """openat2(2): flags that it does not know are refused."""
    q = Questions()
    _files(q)
    here = q.need("openat", C.AT_FDCWD, q.string("file"), C.O_RDONLY)
    for name, flag in (_ALONE | {"unknown": _FREE, "unknown-64": 1 << 40}).items():
        creates = name in ("EXCL", "CREAT", "TMPFILE")
        path = q.string("new2") if name == "EXCL" else q.string(_target(name))
        flags = flag | _access(name) | (C.O_CREAT if name == "EXCL" else 0)
        how = q.struct("struct open_how", flags=flags, mode=0o600 if creates else 0)
        start: Value = here if name == "EMPTYPATH" else C.AT_FDCWD
        fd = q.ask(f"openat2.flags.O_{name}", "openat2", start, path, how, 24)
        q.call("close", fd)
    for key, flags, mode in (
        ("mode-without-O_CREAT", C.O_RDONLY, 0o600),
        ("mode.unknown", C.O_CREAT, 1 << 20),
        ("O_PATH-O_TRUNC", C.O_PATH | C.O_TRUNC, 0),
    ):
        how = q.struct("struct open_how", flags=flags, mode=mode)
        q.ask(f"openat2.{key}", "openat2", C.AT_FDCWD, q.string("file"), how, 24)
    return q.probes()


def _resolve() -> tuple[Probe, ...]:
    """openat2(2), "resolve", and what each of its flags refuses."""
    q = Questions()
    _files(q)
    resolve = bits("RESOLVE_")

    def asked(key: str, path: str, flag: int) -> None:
        how = q.struct("struct open_how", resolve=flag)
        fd = q.ask(f"openat2.resolve.{key}", "openat2", C.AT_FDCWD, q.string(path), how, 24)
        q.call("close", fd)

    for name, flag in resolve.items():
        asked(f"RESOLVE_{name}", "file", flag)
        if name == "CACHED":
            # what is cached is a matter of chance, but for what was just made
            continue
        asked(f"RESOLVE_{name}.link", "link", flag)
        asked(f"RESOLVE_{name}.absolute-link", "absolute", flag)
        asked(f"RESOLVE_{name}.up", "folder/../..", flag)
        asked(f"RESOLVE_{name}.other-mount", "/proc/version", flag)
        asked(f"RESOLVE_{name}.magic-link", "/proc/self/cwd", flag)
    asked("unknown", "file", 1 << 32)
    asked("BENEATH-IN_ROOT", "file", C.RESOLVE_BENEATH | C.RESOLVE_IN_ROOT)
    return q.probes()


def _at() -> tuple[Probe, ...]:
    """Which of the AT_* flags each call takes. To some, the number of AT_EACCESS is another."""
    q = Questions()
    file, link, cwd = _files(q), q.string("link"), C.AT_FDCWD
    room, handle = q.room("struct statx"), q.content((128).to_bytes(8, "little") + bytes(128))
    size = q.room("struct file_attr")
    for name, flag in _AT.items():
        label = f"AT_{name}" if name != "unknown" else name
        q.ask(f"statx.{label}", "statx", cwd, file, flag, C.STATX_BASIC_STATS, room)
        q.ask(f"newfstatat.{label}", "newfstatat", cwd, file, q.room("struct stat"), flag)
        q.ask(f"faccessat2.{label}", "faccessat2", cwd, file, 0, flag)
        q.ask(f"fchmodat2.{label}", "fchmodat2", cwd, file, 0o700, flag)
        q.ask(f"fchownat.{label}", "fchownat", cwd, file, -1, -1, flag)
        q.ask(f"utimensat.{label}", "utimensat", cwd, file, 0, flag)
        if name != "EACCESS":
            key = f"name_to_handle_at.{label}"
            q.ask(key, "name_to_handle_at", cwd, file, handle, q.buffer(8), flag)
        q.ask(f"linkat.{label}", "linkat", cwd, link, cwd, q.string(f"l-{name}"), flag)
        gone = q.string("folder" if name == "EACCESS" else f"l-{name}")
        meant = "AT_REMOVEDIR" if name == "EACCESS" else label
        q.ask(f"unlinkat.{meant}", "unlinkat", cwd, gone, flag, fine=("ENOENT",))
        # what is executed is no program, which is found out last
        q.ask(f"execveat.{label}", "execveat", cwd, file, 0, 0, flag, fine=("ENOEXEC",))
        key = f"open_tree.{label}"
        q.ask(key, "open_tree", cwd, file, flag)
        q.ask(f"file_getattr.{label}", "file_getattr", cwd, file, size, size.size, flag)
        value = q.struct("struct xattr_args", value=q.string("x"), size=1)
        for call in ("setxattrat", "getxattrat"):
            q.ask(f"{call}.{label}", call, cwd, file, flag, q.string("trusted.a"), value, 16)
    for name, mask in (("STATX__RESERVED", C.STATX__RESERVED), ("unknown-mask", 1 << 29)):
        q.ask(f"statx.{name}", "statx", cwd, file, 0, mask, room)
    both = C.AT_STATX_FORCE_SYNC | C.AT_STATX_DONT_SYNC
    q.ask("statx.AT_STATX_SYNC_TYPE", "statx", cwd, file, both, C.STATX_BASIC_STATS, room)
    empty = q.string("")
    fd = q.call("openat", cwd, file, C.O_RDONLY)
    whole = C.STATX_BASIC_STATS
    q.ask("statx.empty-path", "statx", fd, empty, C.AT_EMPTY_PATH, whole, room, needs=(fd,))
    q.ask("statx.no-path", "statx", fd, 0, C.AT_EMPTY_PATH, whole, room, needs=(fd,))
    q.ask("newfstatat.no-path", "newfstatat", fd, 0, room, C.AT_EMPTY_PATH, needs=(fd,))
    return q.probes()


def _rename() -> tuple[Probe, ...]:
    q = Questions()
    _files(q)
    cwd, file, new = C.AT_FDCWD, q.string("file"), q.string("new")
    way = (cwd, file, cwd, new)
    q.ask("renameat2.unknown", "renameat2", *way, 1 << 5)
    q.ask("renameat2.NOREPLACE-EXCHANGE", "renameat2", *way, 3)
    q.ask("renameat2.EXCHANGE-WHITEOUT", "renameat2", *way, 6)
    q.ask("renameat2.EXCHANGE.missing", "renameat2", *way, C.RENAME_EXCHANGE)
    q.ask("symlinkat.dirfd", "symlinkat", q.string("to"), cwd, q.string("s"))
    q.ask("mkdirat", "mkdirat", cwd, q.string("d"), 0o1777)
    return q.probes()
