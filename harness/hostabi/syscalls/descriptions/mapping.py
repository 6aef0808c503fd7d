"""Memory: mapped, protected, locked, told about: mmap(2), madvise(2), mlock(2), pkeys(7)."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import Mapped, Maybe, Null, out, raw
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, Makes, describe
from hostabi.syscalls.descriptions.values import Length
from hostabi.syscalls.strategies import PAGE
from hostabi.syscalls.table import C

_READ, _BOTH = C.PROT_READ, C.PROT_READ | C.PROT_WRITE
_PROT = flags("prot", "PROT_", usual=(_BOTH, _READ, 0, _BOTH | C.PROT_EXEC))
_PRIVATE = C.MAP_PRIVATE | C.MAP_ANONYMOUS
_ADVICE = (
    C.MADV_DONTNEED, C.MADV_NORMAL, C.MADV_WILLNEED, C.MADV_FREE, C.MADV_DONTFORK, C.MADV_COLD,
    C.MADV_HUGEPAGE, C.MADV_MERGEABLE, C.MADV_WIPEONFORK, C.MADV_DONTDUMP, C.MADV_POPULATE_READ,
    C.MADV_POPULATE_WRITE, C.MADV_PAGEOUT,
)  # fmt: skip
_SIZES = (4 * PAGE, PAGE, 1, 16 * PAGE)
_NODES: Argument = Maybe(raw("nmask", (1).to_bytes(8, "little"), bytes(8)))
_MODE = pick("mode", C.MPOL_DEFAULT, C.MPOL_PREFERRED, C.MPOL_BIND, C.MPOL_INTERLEAVE, odd=(99,))

DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "mmap.anonymous",
        just("addr", 0),
        Length("len", _SIZES),
        _PROT,
        flags("flags", "MAP_", usual=(_PRIVATE, C.MAP_SHARED | C.MAP_ANONYMOUS), ignored=True),
        just("fd", -1),
        just("off", 0),
        makes=Kind.MEMORY,
        opaque=True,
    ),
    describe(
        "mmap.file",
        just("addr", 0),
        Length("len", _SIZES),
        flags("prot", usual=(_READ, _BOTH)),
        flags("flags", usual=(C.MAP_SHARED, C.MAP_PRIVATE, C.MAP_SHARED_VALIDATE)),
        fd("fd", Kind.FILE, Kind.MEMFD, Kind.SECRET),
        pick("off", 0, PAGE, odd=(1, -1)),
        makes=Kind.MEMORY,
        opaque=True,
    ),
    describe("munmap", Mapped("addr", "len", ends=True)),
    describe("mprotect", Mapped("start", "len"), _PROT),
    describe("madvise", Mapped("start", "len"), pick("behavior", *_ADVICE, odd=(99, -1))),
    describe(
        "msync",
        Mapped("start", "len"),
        flags("flags", usual=(C.MS_SYNC, C.MS_ASYNC, C.MS_INVALIDATE)),
    ),
    describe("mincore", Mapped("start", "len"), out("vec", "uint64_t", 8, kept=False)),
    describe("mlock", Mapped("start", "len")),
    describe(
        "mlock2", Mapped("start", "len"), flags("flags", "MLOCK_", usual=(0, C.MLOCK_ONFAULT))
    ),
    describe("munlock", Mapped("start", "len")),
    describe(
        "mlockall",
        flags("flags", "MCL_", usual=(C.MCL_CURRENT | C.MCL_ONFAULT, C.MCL_FUTURE | C.MCL_ONFAULT)),
    ),
    describe("munlockall"),
    describe(
        "mremap",
        Mapped("addr", "old_len", ends=True),
        pick("new_len", PAGE, 8 * PAGE, 2 * PAGE, odd=(0, -1)),
        flags("flags", "MREMAP_MAYMOVE", usual=(C.MREMAP_MAYMOVE,)),
        just("new_addr", 0),
        opaque=True,
    ),
    describe("brk", just("brk", 0), opaque=True),
    describe(
        "remap_file_pages",
        Mapped("start", "size"),
        just("prot", 0),
        pick("pgoff", 0, 1),
        flags("flags"),
    ),
    describe(
        "mseal",
        Mapped("start", "len", ends=True),
        flags("flags"),
        makes=(Makes(Kind.FENCED, of="start"),),
    ),
    describe(
        "mprotect.sealed",
        Mapped("start", "len", (Kind.FENCED,)),
        _PROT,
        unsuccessful="what is sealed stays as it is: mseal(2)",
    ),
    describe(
        "pkey_alloc",
        flags("flags"),
        flags("init_val", "PKEY_", usual=(0, C.PKEY_DISABLE_WRITE)),
        makes=Kind.PROTECTION,
    ),
    describe(
        "pkey_free",
        takes("pkey", Kind.PROTECTION, ends=True),
    ),
    describe(
        "pkey_mprotect",
        Mapped("start", "len"),
        _PROT,
        takes("pkey", Kind.PROTECTION, also=(-1,), odd=(99,)),
    ),
    describe("set_mempolicy", _MODE, _NODES, pick("maxnode", 64, 0, odd=(-1,))),
    describe(
        "get_mempolicy",
        Maybe(out("policy", "int")),
        Maybe(out("nmask", "uint64_t", 16)),
        pick("maxnode", 1024, 0),
        just("addr", 0),
        flags("flags", "MPOL_F_", usual=(0, C.MPOL_F_MEMS_ALLOWED)),
    ),
    describe(
        "mbind",
        Mapped("start", "len"),
        _MODE,
        _NODES,
        pick("maxnode", 64, 0),
        flags("flags", "MPOL_MF_", usual=(0, C.MPOL_MF_STRICT)),
    ),
    describe(
        "set_mempolicy_home_node",
        Mapped("start", "len"),
        pick("home_node", 0, odd=(99,)),
        flags("flags"),
        unsuccessful="it wants memory that mbind(2) has bound, at the same address",
    ),
    describe(
        "migrate_pages",
        takes("pid", Kind.CHILD, also=(0,), odd=(4194305,)),
        pick("maxnode", 64, 0),
        raw("old_nodes", (1).to_bytes(8, "little")),
        raw("new_nodes", (1).to_bytes(8, "little")),
    ),
    describe(
        "move_pages",
        takes("pid", Kind.CHILD, also=(0,), odd=(4194305,)),
        pick("nr_pages", 1, 0),
        raw("pages", bytes(8)),
        Null("nodes"),
        out("status", "int"),
        flags("flags", "MPOL_MF_", usual=(0, C.MPOL_MF_MOVE)),
    ),
    describe(
        "userfaultfd",
        flags("flags", usual=(C.UFFD_USER_MODE_ONLY | C.O_NONBLOCK, C.O_NONBLOCK | C.O_CLOEXEC)),
        makes=Kind.FAULTS,
    ),
    describe(
        "ioctl.UFFDIO_API",
        fd("fd", Kind.FAULTS),
        just("cmd", C.UFFDIO_API),
        raw("arg", C.UFFD_API.to_bytes(8, "little") + bytes(16), written=True),
    ),
    describe(
        "map_shadow_stack",
        just("addr", 0),
        pick("size", PAGE),
        flags("flags", "SHADOW_STACK_", usual=(0,)),
        opaque=True,
        unsuccessful="emulated processors have no shadow stacks",
    ),
)
