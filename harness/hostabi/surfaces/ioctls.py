"""Calls on handles of processes and of namespaces: ptrace(2), pidfd_open(2), ioctl_nsfs(2)."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children
from hostabi.model import Value as FactValue
from hostabi.surfaces.ioctls_devices import devices
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

_NAMESPACES = (
    "CGROUP",
    "IPC",
    "MNT",
    "NET",
    "PID_FOR_CHILDREN",
    "PID",
    "TIME_FOR_CHILDREN",
    "TIME",
    "USER",
    "UTS",
)
"""PIDFD_GET_*_NAMESPACE of linux/pidfd.h."""
_LINKS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
"""Names in /proc/PID/ns."""
_REGSETS = {
    "NT_PRSTATUS": 4096,
    "NT_PRFPREG": 4096,
    "NT_386_TLS": 4096,
    "NT_386_IOPERM": 8192,
    "NT_X86_XSTATE": 16384,
    "NT_X86_SHSTK": 8,
}
"""Register sets that x86 has (arch/x86/kernel/ptrace.c), and room for them in bytes."""
_SUPPORTED_MASK = 80
"""Where a struct pidfd_info has its supported_mask; zeros where a kernel's struct is shorter."""
_SIZES = (0, 8, 56, 64, 72, 80, 88, 96, 128)
"""Sizes of struct pidfd_info, in bytes: of its versions, and on both sides of them."""


def everything() -> Iterator[Probe]:
    """Questions that all views ask."""
    yield from _pidfd("pidfd", 0)
    yield from _pidfd("pidfd.THREAD", C.PIDFD_THREAD)
    yield from _info()
    yield from _namespaces_of_pidfd()
    yield from _nsfs()
    yield from _ptrace()


SURFACE = Joined(
    "ioctls",
    (
        ProbeSurface("ioctls", everything),
        ProbeSurface("ioctls", devices, (HOST,), modules=("loop", "fuse", "tun")),
    ),
    loads=True,
)


def _child(q: Questions) -> Ref:
    """A living child that may be looked at; who changes identity is not dumpable, prctl(2)."""
    q.need("prctl", C.PR_SET_DUMPABLE, 1)
    return q.need("fork", opaque=True)


def _pidfd(name: str, flags: int) -> tuple[Probe, ...]:
    """pidfd_open(2) and what takes its descriptor."""
    q = Questions(children=Children.PAUSE)
    child = _child(q)
    fd = q.ask(name, "pidfd_open", child, flags)
    needs = (fd,)
    q.ask(f"{name}.NONBLOCK", "pidfd_open", child, flags | C.PIDFD_NONBLOCK, needs=needs)
    q.ask(f"{name}.pidfd_getfd", "pidfd_getfd", fd, 0, 0, needs=needs, fine=("EBADF",))
    q.ask(f"{name}.signal", "pidfd_send_signal", fd, 0, 0, 0, needs=needs)
    wait = (C.P_PIDFD, fd, 0, C.WEXITED | C.WNOHANG)
    q.ask(f"{name}.waitid", "waitid", *wait, needs=needs, fine=("EAGAIN",))
    if not flags:
        _of_process(q, name, fd)
    return q.probes()


def _of_process(q: Questions, name: str, fd: Ref) -> None:
    """What is the same for a descriptor of a thread, and asked for one of a process."""
    needs, nothing = (fd,), q.string("")
    for scope in ("THREAD", "THREAD_GROUP", "PROCESS_GROUP"):
        flag = getattr(C, f"PIDFD_SIGNAL_{scope}")
        q.ask(f"{name}.signal.{scope}", "pidfd_send_signal", fd, 0, 0, flag, needs=needs)
    advice = q.array("struct iovec", [{"iov_base": 0, "iov_len": 0}])
    cold = (fd, advice, 1, C.MADV_COLD, 0)
    q.ask(f"{name}.process_madvise", "process_madvise", *cold, needs=needs)
    q.ask(f"{name}.process_mrelease", "process_mrelease", fd, 0, needs=needs, fine=("EINVAL",))
    handle = q.content((120).to_bytes(4, "little") + bytes(124))
    mount = q.buffer(8)
    way = (fd, nothing, handle, mount, C.AT_EMPTY_PATH)
    made = q.ask(f"{name}.name_to_handle_at", "name_to_handle_at", *way, needs=needs)
    again = (fd, handle, C.O_RDWR)
    q.ask(f"{name}.open_by_handle_at", "open_by_handle_at", *again, needs=(fd, made))
    value = (q.string("trusted.a"), q.string("1"), 1, 0)
    q.ask(f"{name}.fsetxattr.trusted", "fsetxattr", fd, *value, needs=needs)


def _info() -> tuple[Probe, ...]:
    """PIDFD_GET_INFO: each size, and each bit of ``mask`` that is answered."""
    q = Questions(children=Children.PAUSE)
    child = _child(q)
    fd = q.need("pidfd_open", child, 0)
    known = (q.ask("PIDFD_GET_INFO", "ioctl", fd, C.PIDFD_GET_INFO, q.buffer(128)),)
    direction = C.PIDFD_GET_INFO & ~(0x3FFF << 16)
    for size in _SIZES:
        sized = (fd, direction | size << 16, q.buffer(128))
        q.ask(f"PIDFD_GET_INFO.{size}", "ioctl", *sized, given=known)
    for name, bit in constants("PIDFD_INFO_").items():
        if name.startswith("PIDFD_INFO_SIZE_"):
            continue
        info = q.content(bit.to_bytes(8, "little") + bytes(120)).at(0, 8)
        get = (fd, C.PIDFD_GET_INFO, info)
        q.ask(name, "ioctl", *get, given=known, out=[info], read=_has(info, bit))
        every = q.struct("struct pidfd_info", mask=C.PIDFD_INFO_SUPPORTED_MASK)
        place = every.at(_SUPPORTED_MASK, 8)
        get, read = (fd, C.PIDFD_GET_INFO, every), _has(place, bit)
        q.ask(f"{name}#supported", "ioctl", *get, given=known, out=[place], read=read)
    return q.probes()


def _has(room: Slot, bit: int) -> Read:
    return lambda trace, ref: bool(trace.number(ref, room) & bit)


def _namespaces_of_pidfd() -> tuple[Probe, ...]:
    """PIDFD_GET_*_NAMESPACE, and setns(2) with a pidfd."""
    q = Questions(children=Children.PAUSE)
    child = _child(q)
    fd = q.need("pidfd_open", child, 0)
    for name in _NAMESPACES:
        q.ask(f"PIDFD_GET_{name}_NAMESPACE", "ioctl", fd, getattr(C, f"PIDFD_GET_{name}_NAMESPACE"))
    for name in ("CGROUP", "IPC", "NET", "UTS", "TIME", "PID", "NS", "USER"):
        q.ask(f"setns.pidfd.CLONE_NEW{name}", "setns", fd, getattr(C, f"CLONE_NEW{name}"))
    every = C.CLONE_NEWIPC | C.CLONE_NEWNET | C.CLONE_NEWUTS
    q.ask("setns.pidfd.several", "setns", fd, every)
    return q.probes()


def _nsfs() -> tuple[Probe, ...]:
    """ioctl_nsfs(2) on each namespace of the asking process."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    for link in _LINKS:
        path = q.string(f"/proc/self/ns/{link}")
        fd = q.call("openat", C.AT_FDCWD, path, C.O_RDONLY | C.O_CLOEXEC)
        key, needs = f"nsfs.{link}", (fd,)
        for name in ("NS_GET_USERNS", "NS_GET_PARENT"):
            q.ask(f"{key}.{name}", "ioctl", fd, getattr(C, name), needs=needs)
        kind = (fd, C.NS_GET_NSTYPE)
        q.ask(f"{key}.NS_GET_NSTYPE", "ioctl", *kind, needs=needs, read=_hexadecimal)
        q.ask(f"{key}.NS_GET_ID", "ioctl", fd, C.NS_GET_ID, q.buffer(8), needs=needs)
        handle = q.content((120).to_bytes(4, "little") + bytes(124))
        way = (fd, q.string(""), handle, q.buffer(8), C.AT_EMPTY_PATH)
        made = q.ask(f"{key}.name_to_handle_at", "name_to_handle_at", *way, needs=needs)
        again = (fd, handle, C.O_RDONLY)
        q.ask(f"{key}.open_by_handle_at", "open_by_handle_at", *again, needs=(fd, made))
        _nsfs_of_one_type(q, link, fd)
    return q.probes()


def _nsfs_of_one_type(q: Questions, link: str, fd: Ref) -> None:
    needs = (fd,)
    if link == "user":
        owner = (fd, C.NS_GET_OWNER_UID, q.buffer(4))
        q.ask("nsfs.user.NS_GET_OWNER_UID", "ioctl", *owner, needs=needs)
    if link == "pid":
        for way in ("PID_FROM", "TGID_FROM", "PID_IN", "TGID_IN"):
            name = f"NS_GET_{way}_PIDNS"
            q.ask(f"nsfs.pid.{name}", "ioctl", fd, getattr(C, name), 1, needs=needs)
    if link == "mnt":
        identity = (fd, C.NS_GET_MNTNS_ID, q.buffer(8))
        q.ask("nsfs.mnt.NS_GET_MNTNS_ID", "ioctl", *identity, needs=needs)
        for name in ("NS_MNT_GET_INFO", "NS_MNT_GET_NEXT", "NS_MNT_GET_PREV"):
            # the namespace may be the first or the last that there is
            request = (fd, getattr(C, name), q.room("struct mnt_ns_info"))
            q.ask(f"nsfs.mnt.{name}", "ioctl", *request, needs=needs, fine=("ENOENT",))


def _hexadecimal(trace: Trace, ref: Ref) -> FactValue:
    return f"{trace[ref]:#010x}"


def _ptrace() -> tuple[Probe, ...]:
    """ptrace(2) requests on a child that is stopped."""
    q = Questions(children=Children.PAUSE, arena=1 << 18)
    child = _child(q)
    q.ask("ptrace.SEIZE", "ptrace", C.PTRACE_SEIZE, child, 0, C.PTRACE_O_TRACESYSGOOD)
    stop = q.ask("ptrace.INTERRUPT", "ptrace", C.PTRACE_INTERRUPT, child, 0, 0)
    seen = q.call("wait4", child, q.buffer(4), C.WUNTRACED | 0x40000000, 0, opaque=True)
    needs, room = (stop, seen), q.buffer(4096)
    for name in ("GETREGS", "GETFPREGS", "GETSIGINFO", "GETEVENTMSG", "PEEKUSR"):
        q.ask(f"ptrace.{name}", "ptrace", getattr(C, f"PTRACE_{name}"), child, 0, room, needs=needs)
    q.ask("ptrace.GETSIGMASK", "ptrace", C.PTRACE_GETSIGMASK, child, 8, room, needs=needs)
    for name, size in _REGSETS.items():
        vector = q.array("struct iovec", [{"iov_base": q.buffer(size), "iov_len": size}])
        regset = (C.PTRACE_GETREGSET, child, getattr(C, name), vector)
        q.ask(f"ptrace.GETREGSET.{name}", "ptrace", *regset, needs=needs)
    info = q.room("struct ptrace_syscall_info")
    sized = (child, info.size, info)
    q.ask("ptrace.GET_SYSCALL_INFO", "ptrace", C.PTRACE_GET_SYSCALL_INFO, *sized, needs=needs)
    # the child is not in a call: EINVAL, where the request is known
    change = (C.PTRACE_SET_SYSCALL_INFO, *sized)
    q.ask("ptrace.SET_SYSCALL_INFO", "ptrace", *change, needs=needs, fine=("EINVAL",))
    for name, kind in (
        ("GET_RSEQ_CONFIGURATION", "struct ptrace_rseq_configuration"),
        ("GET_SYSCALL_USER_DISPATCH_CONFIG", "struct ptrace_sud_config"),
        ("SET_SYSCALL_USER_DISPATCH_CONFIG", "struct ptrace_sud_config"),
    ):
        space = q.room(kind)
        request = (getattr(C, f"PTRACE_{name}"), child, space.size, space)
        key = f"ptrace.{name}"
        q.ask(key, "ptrace", *request, needs=needs)
    filters = (C.PTRACE_SECCOMP_GET_FILTER, child, 0, 0)
    q.ask("ptrace.SECCOMP_GET_FILTER", "ptrace", *filters, needs=needs)
    about = q.content(bytes(16))
    metadata = (C.PTRACE_SECCOMP_GET_METADATA, child, 16, about)
    q.ask("ptrace.SECCOMP_GET_METADATA", "ptrace", *metadata, needs=needs)
    peek = q.array("struct iovec", [{"iov_base": 0, "iov_len": 1 << 32}])
    q.ask("ptrace.PEEKSIGINFO", "ptrace", C.PTRACE_PEEKSIGINFO, child, peek, room, needs=needs)
    for name, bit in constants("PTRACE_O_").items():
        if name != "PTRACE_O_MASK":
            q.ask(f"ptrace.{name}", "ptrace", C.PTRACE_SETOPTIONS, child, 0, bit, needs=needs)
    q.ask("ptrace.LISTEN", "ptrace", C.PTRACE_LISTEN, child, 0, 0, needs=needs)
    return q.probes()
