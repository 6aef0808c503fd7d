"""Namespaces: made, entered and asked. Those that are entered are the program's own."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import out, struct, text
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.table import C

_NAMESPACES: tuple[int, ...] = (
    C.CLONE_NEWUTS,
    C.CLONE_NEWIPC,
    C.CLONE_NEWNS,
    C.CLONE_NEWUSER,
    C.CLONE_NEWPID,
    C.CLONE_NEWCGROUP,
    C.CLONE_NEWNET,
)
_ADMIN = "CAP_SYS_ADMIN"
_FILES = tuple(
    f"/proc/self/ns/{name}"
    for name in ("uts", "ipc", "mnt", "user", "pid", "cgroup", "net", "time")
)
_TYPES = (0, *_NAMESPACES, C.CLONE_NEWTIME)

DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "unshare",
        flags("unshare_flags", "CLONE_NEW", usual=(*_NAMESPACES, C.CLONE_FILES, C.CLONE_FS, 0)),
        privilege=_ADMIN,
    ),
    describe(
        "openat.namespace",
        just("dfd", C.AT_FDCWD),
        text("filename", *_FILES, odd=("/proc/self/ns/none",)),
        flags("flags", usual=(C.O_RDONLY, C.O_RDONLY | C.O_CLOEXEC)),
        just("mode", 0),
        makes=Kind.NAMESPACE,
    ),
    describe("setns", fd("fd", Kind.NAMESPACE), pick("flags", *_TYPES), privilege=_ADMIN),
    describe(
        "setns.process",
        fd("fd", Kind.OWN, Kind.PROCESS),
        pick("flags", *_NAMESPACES),
        privilege=_ADMIN,
    ),
    describe(
        "ioctl.NS_GET_USERNS",
        fd("fd", Kind.NAMESPACE),
        just("cmd", C.NS_GET_USERNS),
        makes=Kind.NAMESPACE,
    ),
    describe("ioctl.NS_GET_NSTYPE", fd("fd", Kind.NAMESPACE), just("cmd", C.NS_GET_NSTYPE)),
    describe(
        "ioctl.NS_GET_PARENT",
        fd("fd", Kind.NAMESPACE),
        just("cmd", C.NS_GET_PARENT),
        unsuccessful="the parents of a program's namespaces are outside of its reach",
    ),
    describe(
        "ioctl.NS_GET_OWNER_UID",
        fd("fd", Kind.NAMESPACE),
        just("cmd", C.NS_GET_OWNER_UID),
        out("arg", "unsigned int"),
    ),
    describe(
        "ioctl.PIDFD_GET_UTS_NAMESPACE",
        fd("fd", Kind.OWN, Kind.PROCESS),
        just("cmd", C.PIDFD_GET_UTS_NAMESPACE),
        just("arg", 0),
        makes=Kind.NAMESPACE,
    ),
    describe(
        "sethostname",
        text("name", "one", "two.example", odd=("x" * 65,)),
        pick("len", 3, 0, 1, odd=(65, -1)),
        fresh=C.CLONE_NEWUTS,
        privilege=_ADMIN,
    ),
    describe(
        "setdomainname",
        text("name", "one", "two.example", odd=("x" * 65,)),
        pick("len", 3, 0, 1, odd=(65, -1)),
        fresh=C.CLONE_NEWUTS,
        privilege=_ADMIN,
    ),
    describe("uname", out("name", "struct new_utsname")),
    describe(
        "listns",
        struct("req", "struct ns_id_req", size=C.NS_ID_REQ_SIZE_VER0),
        out("ns_ids", "uint64_t", 64, kept=False),
        just("nr_ns_ids", 64),
        flags("flags"),
        opaque=True,
    ),
    describe(
        "pidfd_getfd",
        fd("pidfd", Kind.OWN, Kind.PROCESS),
        pick("fd", 0, 1, 2, odd=(999, -1)),
        flags("flags"),
    ),
    describe(
        "process_madvise",
        fd("pidfd", Kind.OWN, Kind.PROCESS),
        out("vec", "struct iovec", kept=False),
        pick("vlen", 1, 0, odd=(2000,)),
        pick("behavior", C.MADV_COLD, C.MADV_PAGEOUT, C.MADV_WILLNEED, odd=(99,)),
        flags("flags"),
    ),
    describe(
        "process_mrelease",
        fd("pidfd", Kind.PROCESS),
        flags("flags"),
        unsuccessful="a child has ended before the next call, and its memory is gone",
    ),
    describe("getpgid", takes("pid", Kind.CHILD, also=(0,)), pid=True),
)
