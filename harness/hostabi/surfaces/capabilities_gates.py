"""What a capability opens: an operation without it and all others, and with it alone.

``OPERATION.without.CAP`` and ``OPERATION.with.CAP``. An operation that is let in
does no harm, or is done in namespaces of the program's own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.reach_gates import LET_IN
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C

_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3."""
_SIZE_BUFFER, _READ_ALL = 10, 3
"""Actions of syslog(2)."""
_OTHER = 4242
"""A user that nobody is."""
_TID = 30000
"""A number that no process of a fresh machine has reached."""
_OWN = C.CLONE_NEWNS | C.CLONE_NEWUTS | C.CLONE_NEWNET

Gate = tuple[str, str, str, tuple[Value, ...]]
"""The capability, the key, the call, its arguments."""


def gates() -> Iterator[Probe]:
    """What a user namespace has as well."""
    for make in (_files, _machine, _network, _tasks):
        yield from _asked(make)


def gates_to_others() -> Iterator[Probe]:
    """What takes another user, whom a fresh user namespace has no number for."""
    yield from _asked(_others)


def _asked(make: Callable[[_Gates], list[Gate]]) -> tuple[Probe, ...]:
    # a program gives up nothing for good, and can ask many
    q = _Gates(namespaces=_OWN)
    for gate in make(q):
        q.gate(*gate)
    return q.probes()


class _Gates(Questions):
    """Questions that are asked with some capabilities in effect and others not."""

    def gate(self, name: str, key: str, call: str, arguments: tuple[Value, ...]) -> None:
        """Ask without the capability ``name`` first: what it opens may then be open for good."""
        bit = 1 << getattr(C, name)
        for word, effective in (("without", _ALL & ~bit), ("with", bit)):
            done = self.effective(effective)
            ready = (done,)
            self.ask(f"{key}.{word}.{name}", call, *arguments, needs=ready, fine=_FINE, opaque=True)
        self.effective(_ALL)

    def effective(self, bits: int) -> Ref:
        """Put capabilities in effect, of those that are permitted, which stay."""
        head = self.struct("struct __user_cap_header_struct", version=_VERSION)
        low, high = bits & 0xFFFFFFFF, bits >> 32
        row = struct.pack("<6I", low, _ALL & 0xFFFFFFFF, 0, high, _ALL >> 32, 0)
        return self.call("capset", head, self.content(row))


_ALL = (1 << (C.CAP_LAST_CAP + 1)) - 1
_FINE = LET_IN - {"ENOMEM"}
"""ENOMEM is how mlock(2) refuses."""


def _others(q: _Gates) -> list[Gate]:
    """Files that are another's, and becoming another."""
    cwd, own, other = C.AT_FDCWD, q.string("own"), q.string("other")
    for name in (own, other):
        q.need("mknodat", cwd, name, C.S_IFREG | 0o600, 0)
    q.need("fchownat", cwd, other, _OTHER, _OTHER, 0)
    fd = q.need("openat", cwd, other, C.O_RDONLY)
    keep = -1 & 0xFFFFFFFF
    return [
        ("CAP_CHOWN", "chown", "fchownat", (cwd, own, _OTHER, _OTHER, 0)),
        ("CAP_DAC_OVERRIDE", "open.other", "openat", (cwd, other, C.O_WRONLY)),
        ("CAP_FOWNER", "chmod.other", "fchmodat", (cwd, other, 0o600)),
        ("CAP_LEASE", "lease.other", "fcntl", (fd, C.F_SETLEASE, C.F_RDLCK)),
        ("CAP_SETUID", "setresuid", "setresuid", (keep, keep, _OTHER)),
    ]


def _files(q: _Gates) -> list[Gate]:
    """Files, devices and mounts."""
    cwd, own = C.AT_FDCWD, q.string("own")
    q.need("mknodat", cwd, own, C.S_IFREG | 0o600, 0)
    handle = q.content(struct.pack("<Ii", 120, 0) + bytes(120))
    q.call("name_to_handle_at", cwd, own, handle, q.buffer(8), 0)
    two = struct.pack("<5I", C.VFS_CAP_REVISION_2, 1, 0, 0, 0)
    attribute = (own, q.string("security.capability"), q.content(two), len(two), 0)
    tmpfs, here = q.string("tmpfs"), q.string(".")
    return [
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at", "open_by_handle_at", (cwd, handle, 0)),
        ("CAP_MKNOD", "mknod", "mknodat", (cwd, q.string("null"), C.S_IFCHR | 0o600, 0x103)),
        ("CAP_SETFCAP", "security.capability", "setxattr", attribute),
        ("CAP_SYS_ADMIN", "trusted", "setxattr", (own, q.string("trusted.x"), own, 1, 0)),
        ("CAP_SYS_ADMIN", "mount", "mount", (tmpfs, here, tmpfs, 0, 0)),
        ("CAP_SYS_ADMIN", "fsopen", "fsopen", (tmpfs, 0)),
        ("CAP_SYS_CHROOT", "chroot", "chroot", (here,)),
    ]


def _machine(q: _Gates) -> list[Gate]:
    """The machine's name, clock, log, power, modules, ports; programs in the kernel."""
    array = struct.pack("<4I", C.BPF_MAP_TYPE_ARRAY, 4, 4, 1).ljust(128, b"\0")
    # apart, for what is left in one of the log's text is an argument bpf(2) does not take
    room, zeros = q.buffer(64), q.buffer(64)
    return [
        ("CAP_SYS_ADMIN", "sethostname", "sethostname", (q.string("x"), 1)),
        ("CAP_SYS_BOOT", "reboot", "reboot", (0, 0, 0, 0)),
        ("CAP_SYS_MODULE", "init_module", "init_module", (0, 0, q.string(""))),
        ("CAP_SYS_PACCT", "acct", "acct", (0,)),
        ("CAP_SYS_RAWIO", "iopl", "iopl", (3,)),
        ("CAP_SYS_TIME", "settimeofday", "settimeofday", (0, 0)),
        ("CAP_SYS_TTY_CONFIG", "vhangup", "vhangup", ()),
        ("CAP_SYSLOG", "syslog.READ_ALL", "syslog", (_READ_ALL, room, 64)),
        ("CAP_SYSLOG", "syslog.SIZE_BUFFER", "syslog", (_SIZE_BUFFER, 0, 0)),
        ("CAP_WAKE_ALARM", "timerfd.alarm", "timerfd_create", (C.CLOCK_BOOTTIME_ALARM, 0)),
        ("CAP_BPF", "bpf.MAP_CREATE", "bpf", (C.BPF_MAP_CREATE, q.content(array), 128)),
        ("CAP_SYS_ADMIN", "bpf.PROG_GET_NEXT_ID", "bpf", (C.BPF_PROG_GET_NEXT_ID, zeros, 64)),
        ("CAP_PERFMON", "perf_event_open", "perf_event_open", (_software(q), -1, 0, -1, 0)),
    ]


def _software(q: _Gates) -> Slot:
    """A counter of the whole processor, struct perf_event_attr: PERF_TYPE_SOFTWARE."""
    return q.content(struct.pack("<II", 1, 64).ljust(64, b"\0"))


def _network(q: _Gates) -> list[Gate]:
    """Sockets, in a network of their own."""
    low = q.content(struct.pack("<HHI", C.AF_INET, 80 << 8, 0) + bytes(8))
    tcp = q.need("socket", C.AF_INET, C.SOCK_STREAM, 0)
    mark = (tcp, C.SOL_SOCKET, C.SO_MARK, q.content(b"\1\0\0\0"), 4)
    urgent = (tcp, C.SOL_SOCKET, C.SO_PRIORITY, q.content(b"\7\0\0\0"), 4)
    force = (tcp, C.SOL_SOCKET, C.SO_RCVBUFFORCE, q.content(b"\0\0\1\0"), 4)
    up = q.content(b"lo".ljust(16, b"\0") + struct.pack("<H", C.IFF_UP).ljust(24, b"\0"))
    return [
        ("CAP_NET_ADMIN", "SIOCSIFFLAGS", "ioctl", (tcp, C.SIOCSIFFLAGS, up)),
        ("CAP_NET_ADMIN", "SO_MARK", "setsockopt", mark),
        ("CAP_NET_RAW", "SO_MARK", "setsockopt", mark),
        ("CAP_NET_ADMIN", "SO_PRIORITY", "setsockopt", urgent),
        ("CAP_NET_ADMIN", "SO_RCVBUFFORCE", "setsockopt", force),
        ("CAP_NET_BIND_SERVICE", "bind.80", "bind", (tcp, low, 16)),
        ("CAP_NET_RAW", "socket.raw", "socket", (C.AF_INET, C.SOCK_RAW, C.IPPROTO_ICMP)),
        ("CAP_NET_RAW", "socket.packet", "socket", (C.AF_PACKET, C.SOCK_RAW, 0)),
    ]


def _tasks(q: _Gates) -> list[Gate]:
    """Processes: identity, priority, memory, limits, namespaces."""
    none = q.content(struct.pack("<2Q", 0, 0))
    q.need("prlimit64", 0, C.RLIMIT_CORE, none, 0)
    q.need("prlimit64", 0, C.RLIMIT_MEMLOCK, none, 0)
    one = q.content(struct.pack("<2Q", 0, 1))
    tid = q.content(struct.pack("<i", _TID))
    chosen = q.struct("struct clone_args", exit_signal=17, set_tid=tid, set_tid_size=1)
    fifo = q.content(struct.pack("<i", 1))
    environment = (C.AT_FDCWD, q.string("/proc/1/environ"), C.O_RDONLY)
    return [
        ("CAP_IPC_LOCK", "mlock", "mlock", (q.buffer(16), 1)),
        ("CAP_SETGID", "setgroups", "setgroups", (0, 0)),
        ("CAP_SETPCAP", "PR_CAPBSET_DROP", "prctl", (C.PR_CAPBSET_DROP, C.CAP_AUDIT_READ)),
        ("CAP_SETPCAP", "PR_SET_SECUREBITS", "prctl", (C.PR_SET_SECUREBITS, 0)),
        ("CAP_SYS_NICE", "setpriority", "setpriority", (C.PRIO_PROCESS, 0, -5)),
        ("CAP_SYS_NICE", "sched_setscheduler", "sched_setscheduler", (0, C.SCHED_FIFO, fifo)),
        ("CAP_SYS_PTRACE", "environ.1", "openat", environment),
        ("CAP_SYS_RESOURCE", "prlimit.raise", "prlimit64", (0, C.RLIMIT_CORE, one, 0)),
        ("CAP_SYS_ADMIN", "unshare.CLONE_NEWUTS", "unshare", (C.CLONE_NEWUTS,)),
        ("CAP_CHECKPOINT_RESTORE", "clone3.set_tid", "clone3", (chosen, chosen.size)),
    ]
