"""Flags, modes and advice of calls about memory."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.model import Kind
from hostabi.surfaces.flag_names import bits, named
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C, constants

_PAGE = 4096
_PRIVATE = C.MAP_PRIVATE | C.MAP_ANONYMOUS
_WRITABLE = C.PROT_READ | C.PROT_WRITE
_AT = 0x300000000000
"""A place where nothing is mapped, above the arena."""
_HUGE = ("HUGE_2MB", "HUGE_1GB")
_HUGE_PAGE = 1 << 21


def for_containers() -> Iterator[Probe]:
    """What the root of a user namespace may be refused."""
    yield from _advised_from_outside()
    yield from _policies()


def for_root() -> Iterator[Probe]:
    """What is the same for everybody, or for root only."""
    for make in (_mapped, _protected, _advised, _remapped, _locked, _faults, _shared):
        yield from make()


def _map(q: Questions, pages: int = 4, flags: int = _PRIVATE, protection: int = _WRITABLE) -> Ref:
    return q.call("mmap", 0, pages * _PAGE, protection, flags, -1, 0, opaque=True)


def _mapped() -> tuple[Probe, ...]:
    """mmap(2): of unknown flags only MAP_SHARED_VALIDATE speaks."""
    q = Questions()
    fd = q.need("openat", C.AT_FDCWD, q.string("file"), C.O_CREAT | C.O_RDWR, 0o600)
    q.need("ftruncate", fd, 4 * _PAGE)
    skipped = ("PRIVATE", "SHARED", "ANONYMOUS", "HUGETLB", "DROPPABLE", "FIXED", "TYPE")
    flags = {
        name: value
        for name, value in bits("MAP_", skipped).items()
        if not name.startswith("HUGE") or name == "HUGETLB"
    }
    for name, flag in (flags | {"unknown": 1 << 25}).items():
        at = _AT if name == "FIXED_NOREPLACE" else 0
        one = (at, _PAGE, _WRITABLE, _PRIVATE | flag, -1, 0)
        label = name if name == "unknown" else f"MAP_{name}"
        q.ask(f"mmap.{label}", "mmap", *one, opaque=True)
        whole = (at, _PAGE, _WRITABLE, C.MAP_SHARED_VALIDATE | flag, fd, 0)
        q.ask(f"mmap.MAP_SHARED_VALIDATE.{label}", "mmap", *whole, opaque=True)
    for name, kind in (
        ("MAP_SHARED", C.MAP_SHARED),
        ("MAP_SHARED_VALIDATE", C.MAP_SHARED_VALIDATE),
        ("MAP_DROPPABLE", C.MAP_DROPPABLE),
    ):
        one = (0, _PAGE, _WRITABLE, kind | C.MAP_ANONYMOUS, -1, 0)
        q.ask(f"mmap.{name}", "mmap", *one, opaque=True)
    for name in _HUGE:
        size = getattr(C, f"MAP_{name}")
        one = (0, 1 << 21, _WRITABLE, _PRIVATE | C.MAP_HUGETLB | size, -1, 0)
        key = f"mmap.MAP_HUGETLB.{name}"
        # pages of that size may be the kernel's, and yet there is none
        q.ask(key, "mmap", *one, opaque=True, kind=Kind.HARDWARE, fine=("ENOMEM",))
    taken = (_AT, _PAGE, _WRITABLE, _PRIVATE | C.MAP_FIXED_NOREPLACE, -1, 0)
    q.ask("mmap.MAP_FIXED_NOREPLACE.taken", "mmap", *taken, opaque=True)
    q.ask("mmap.at-0", "mmap", 0, _PAGE, _WRITABLE, _PRIVATE | C.MAP_FIXED, -1, 0)
    for key, size, token in (("none", 0, 0), ("SET_TOKEN", _PAGE, 1), ("unknown", _PAGE, 8)):
        q.ask(f"map_shadow_stack.{key}", "map_shadow_stack", 0, size, token, kind=Kind.HARDWARE)
    return q.probes()


def _protected() -> tuple[Probe, ...]:
    """mprotect(2), protection keys, mseal(2)."""
    q = Questions()
    memory = _map(q)
    for name, value in (bits("PROT_") | {"NONE": 0, "unknown": 1 << 12}).items():
        q.ask(f"mprotect.{name}", "mprotect", memory, _PAGE, value, needs=(memory,))
    both = C.PROT_WRITE | C.PROT_EXEC
    q.ask("mprotect.WRITE-EXEC", "mprotect", memory, _PAGE, both, needs=(memory,))
    for name, rights in (("DISABLE_ACCESS", 1), ("DISABLE_WRITE", 2), ("unknown", 16)):
        # protection keys are the processor's
        q.ask(f"pkey_alloc.{name}", "pkey_alloc", 0, rights, kind=Kind.HARDWARE)
    q.ask("pkey_mprotect.none", "pkey_mprotect", memory, _PAGE, _WRITABLE, -1, needs=(memory,))
    for name, flag in {"ASYNC": 1, "INVALIDATE": 2, "SYNC": 4, "unknown": 8}.items():
        q.ask(f"msync.{name}", "msync", memory, _PAGE, flag, needs=(memory,))
    sealed = q.ask("mseal", "mseal", memory, _PAGE, 0, needs=(memory,))
    q.ask("mseal.unknown", "mseal", memory, _PAGE, 1, needs=(memory,))
    needs = (memory, sealed)
    q.ask("mseal.mprotect", "mprotect", memory, _PAGE, C.PROT_READ, needs=needs)
    q.ask("mseal.munmap", "munmap", memory, _PAGE, needs=needs)
    q.ask("mseal.madvise", "madvise", memory, _PAGE, C.MADV_DONTNEED, needs=needs)
    return q.probes()


def _advised() -> tuple[Probe, ...]:
    """madvise(2), of private memory and of a file's."""
    q = Questions()
    fd = q.need("openat", C.AT_FDCWD, q.string("file"), C.O_CREAT | C.O_RDWR, 0o600)
    q.need("ftruncate", fd, 4 * _PAGE)
    for label, value in _advice().items():
        if label == "MADV_COLLAPSE":
            continue
        memory = _map(q)
        q.ask(f"madvise.{label}", "madvise", memory, _PAGE, value, needs=(memory,))
        mapped = (0, _PAGE, _WRITABLE, C.MAP_SHARED, fd, 0)
        of_file = q.call("mmap", *mapped, opaque=True)
        key = f"madvise.file.{label}"
        q.ask(key, "madvise", of_file, _PAGE, value, needs=(of_file,))
    _collapsed(q)
    return q.probes()


def _collapsed(q: Questions) -> None:
    """Pages that could become a huge one; whether memory for one is free is another matter."""
    flags = _PRIVATE | C.MAP_FIXED_NOREPLACE
    memory = q.call("mmap", _AT, _HUGE_PAGE, _WRITABLE, flags, -1, 0, opaque=True)
    touched = q.call("getrandom", memory, 8, 0)
    way = (memory, _HUGE_PAGE, C.MADV_COLLAPSE)
    fine = ("EAGAIN", "ENOMEM")
    q.ask("madvise.MADV_COLLAPSE", "madvise", *way, needs=(memory, touched), fine=fine)


def _advice() -> dict[str, int]:
    """All advice but that which tells the machine that its memory is bad."""
    harmful = ("MADV_HWPOISON", "MADV_SOFT_OFFLINE")
    known = {name: value for name, value in constants("MADV_").items() if name not in harmful}
    return dict(sorted(known.items())) | {"unknown": 200}


def _advised_from_outside() -> tuple[Probe, ...]:
    """process_madvise(2), of oneself."""
    q = Questions()
    itself = q.need("pidfd_open", q.call("getpid", opaque=True), 0)
    for label, value in _advice().items():
        if label == "MADV_COLLAPSE":
            continue
        memory = _map(q)
        vector = q.array("struct iovec", [{"iov_base": memory, "iov_len": _PAGE}])
        way = (itself, vector, 1, value, 0)
        q.ask(f"process_madvise.{label}", "process_madvise", *way, needs=(memory,))
    q.ask("process_madvise.flags.unknown", "process_madvise", itself, 0, 0, C.MADV_COLD, 1)
    q.ask("process_mrelease.unknown", "process_mrelease", itself, 1)
    return q.probes()


def _remapped() -> tuple[Probe, ...]:
    q = Questions()
    place = _AT + (1 << 30)
    for name, flag in (bits("MREMAP_") | {"none": 0, "unknown": 8}).items():
        memory = _map(q)
        moves = C.MREMAP_MAYMOVE if name in ("FIXED", "DONTUNMAP") else 0
        way = (memory, _PAGE, _PAGE, flag | moves, place)
        label = name if name in ("none", "unknown") else f"MREMAP_{name}"
        q.ask(f"mremap.{label}", "mremap", *way, needs=(memory,), opaque=True)
    file = q.call("memfd_create", q.string("m"), 0)
    q.call("ftruncate", file, 4 * _PAGE)
    shared = q.call("mmap", 0, 4 * _PAGE, _WRITABLE, C.MAP_SHARED, file, 0, opaque=True)
    dont = C.MREMAP_MAYMOVE | C.MREMAP_DONTUNMAP
    way = (shared, _PAGE, _PAGE, dont, 0)
    q.ask("mremap.MREMAP_DONTUNMAP.shared", "mremap", *way, needs=(shared,), opaque=True)
    q.ask("remap_file_pages", "remap_file_pages", shared, _PAGE, 0, 1, 0, needs=(shared,))
    return q.probes()


def _locked() -> tuple[Probe, ...]:
    q = Questions()
    memory = _map(q)
    for name, flag in {"none": 0, "MLOCK_ONFAULT": C.MLOCK_ONFAULT, "unknown": 2}.items():
        q.ask(f"mlock2.{name}", "mlock2", memory, _PAGE, flag, needs=(memory,))
    # without ONFAULT all there is is brought in, which takes long
    whole = C.MCL_CURRENT | C.MCL_ONFAULT
    flags = {"CURRENT-ONFAULT": whole, "FUTURE": C.MCL_FUTURE, "ONFAULT": C.MCL_ONFAULT}
    for name, flag in (flags | {"unknown": 8}).items():
        # what is locked counts against a limit that an ordinary user has
        q.ask(f"mlockall.{name}", "mlockall", flag, fine=("ENOMEM",))
        q.call("munlockall")
    return q.probes()


def _policies() -> tuple[Probe, ...]:
    """set_mempolicy(2) and mbind(2), by mode and flag; on one node."""
    q = Questions()
    node = q.content((1).to_bytes(8, "little"))
    nodes = ("PREFERRED", "BIND", "INTERLEAVE", "PREFERRED_MANY", "WEIGHTED_INTERLEAVE")
    modes = named("MPOL_", "DEFAULT", "LOCAL", *nodes) | {"unknown": 30}
    flags = {"STATIC_NODES": 1 << 15, "RELATIVE_NODES": 1 << 14, "NUMA_BALANCING": 1 << 13}
    for name, mode in modes.items():
        mask, most = (node, 64) if name in nodes else (0, 0)
        q.ask(f"set_mempolicy.{name}", "set_mempolicy", mode, mask, most)
        memory = _map(q)
        q.ask(f"mbind.{name}", "mbind", memory, _PAGE, mode, mask, most, 0, needs=(memory,))
    for name, flag in (flags | {"unknown-flag": 1 << 12}).items():
        q.ask(f"set_mempolicy.BIND.{name}", "set_mempolicy", C.MPOL_BIND | flag, node, 64)
    memory = _map(q)
    for name, flag in {"STRICT": 1, "MOVE": 2, "MOVE_ALL": 4, "LAZY": 8, "unknown": 32}.items():
        way = (memory, _PAGE, C.MPOL_BIND, node, 64, flag)
        q.ask(f"mbind.flags.{name}", "mbind", *way, needs=(memory,))
    for name, flag in {"none": 0, "MEMS_ALLOWED": 4, "unknown": 8}.items():
        room = q.buffer(128)
        q.ask(f"get_mempolicy.{name}", "get_mempolicy", 0, room, 1024, 0, flag)
    q.ask(
        "set_mempolicy_home_node", "set_mempolicy_home_node", memory, _PAGE, 0, 0, needs=(memory,)
    )
    page = q.array("struct iovec", [{"iov_base": memory}])
    for name, flag in {"MOVE": 2, "MOVE_ALL": 4, "unknown": 16}.items():
        q.ask(f"move_pages.{name}", "move_pages", 0, 1, page, 0, q.buffer(8), flag)
    return q.probes()


def _faults() -> tuple[Probe, ...]:
    """userfaultfd(2): UFFDIO_API with each feature, UFFDIO_REGISTER with each mode."""
    q = Questions()
    for name, bit in (bits("UFFD_FEATURE_") | {"unknown": 1 << 40}).items():
        fd = q.call("userfaultfd", C.O_NONBLOCK)
        api = q.struct("struct uffdio_api", api=C.UFFD_API, features=bit)
        label = f"UFFD_FEATURE_{name}"
        q.ask(f"userfaultfd.{label}", "ioctl", fd, C.UFFDIO_API, api, needs=(fd,))
        q.call("close", fd)
    fd = q.call("userfaultfd", C.O_NONBLOCK)
    api = q.struct("struct uffdio_api", api=C.UFFD_API, features=0)
    q.call("ioctl", fd, C.UFFDIO_API, api)
    for name, bit in (bits("UFFDIO_REGISTER_MODE_") | {"unknown": 1 << 20}).items():
        memory = _map(q)
        # struct uffdio_register: a range, the mode, what may be done
        words: list[dict[str, Value]] = [
            {"iov_base": memory, "iov_len": _PAGE},
            {"iov_base": bit},
        ]
        wanted = q.array("struct iovec", words)
        key = f"userfaultfd.UFFDIO_REGISTER.{name}"
        q.ask(key, "ioctl", fd, C.UFFDIO_REGISTER, wanted, needs=(fd, memory))
    return q.probes()


def _shared() -> tuple[Probe, ...]:
    """System V shared memory, semaphores and queues: flags and commands."""
    q = Questions(namespaces=C.CLONE_NEWIPC)
    flags = {"none": 0, "SHM_HUGETLB": C.SHM_HUGETLB, "SHM_NORESERVE": C.SHM_NORESERVE}
    for name, flag in (flags | {"unknown": 1 << 20}).items():
        kind = Kind.HARDWARE if name == "SHM_HUGETLB" else Kind.VALUE
        way = (0, _PAGE, C.IPC_CREAT | flag | 0o600)
        q.ask(f"shmget.{name}", "shmget", *way, opaque=True, kind=kind, fine=("ENOMEM",))
    made = q.need("shmget", 0, _PAGE, C.IPC_CREAT | 0o600, opaque=True)
    room = q.buffer(512)
    for name, flag in (named("SHM_", "RDONLY", "RND", "REMAP", "EXEC") | {"unknown": 1}).items():
        place = _AT + (1 << 32) if name == "REMAP" else 0
        q.ask(f"shmat.{name}", "shmat", made, place, flag, opaque=True)
    commands = named("", "IPC_STAT", "IPC_INFO", "SHM_INFO", "SHM_STAT_ANY", "SHM_LOCK")
    for name, number in (commands | {"unknown": 40}).items():
        subject: int | Ref = 0 if "INFO" in name or "STAT_ANY" in name else made
        q.ask(f"shmctl.{name}", "shmctl", subject, number, room)
    semaphores = q.need("semget", 0, 1, C.IPC_CREAT | 0o600, opaque=True)
    for name, number in (
        named("", "IPC_STAT", "SEM_INFO", "SEM_STAT_ANY", "GETVAL") | {"unknown": 40}
    ).items():
        subject = 0 if "INFO" in name or "STAT_ANY" in name else semaphores
        q.ask(f"semctl.{name}", "semctl", subject, 0, number, room)
    queue = q.need("msgget", 0, C.IPC_CREAT | 0o600, opaque=True)
    for name, number in (
        named("", "IPC_STAT", "MSG_INFO", "MSG_STAT_ANY") | {"unknown": 40}
    ).items():
        subject = 0 if "INFO" in name or "STAT_ANY" in name else queue
        q.ask(f"msgctl.{name}", "msgctl", subject, number, room)
    for name, flag in (
        named("", "MSG_NOERROR", "MSG_EXCEPT", "MSG_COPY") | {"unknown": 1 << 20}
    ).items():
        flags_of = flag | C.IPC_NOWAIT
        q.ask(f"msgrcv.{name}", "msgrcv", queue, room, 8, 0, flags_of, fine=("ENOMSG",))
    return q.probes()
