"""Calls that not everybody may make, each with arguments that do no harm where it is let in.

What stands before the kernel's check for privileges (a look-up, a copy from
user space) is given what it accepts, so that the check is reached.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls import table
from hostabi.syscalls.builder import Value
from hostabi.syscalls.table import C

GATED = frozenset({"ENOSYS", "EPERM", "EACCES"})
"""What says that a call is not there, or not for us; any other errno came after that check."""
LET_IN = table.errno_names() - GATED

_SYSLOG_READ_ALL, _SYSLOG_SIZE_BUFFER = 3, 10
"""syslog(2); no header of the kernel's user interface has them."""
_PERF_TYPE_SOFTWARE = 1
_IOPRIO_CLASS_RT = 1 << 13
_OTHER_USER = 4242
_PORT_80 = 0x80
"""I/O port of diagnostic codes, to which any value may be written."""


class _Gates(Questions):
    """Questions for which only the errnos in :data:`GATED` are a refusal."""

    def gate(self, key: str, *arguments: Value) -> None:
        """The call is named by the key up to its first dot."""
        self.ask(key, key.partition(".")[0], *arguments, fine=LET_IN)


def gates() -> Iterator[Probe]:
    """All calls behind a check for privileges; one fact each."""
    for make in (_machine, _modules, _mounts, _watching, _identity, _scheduling, _roots):
        q = make()
        yield from q.probes()


def _machine() -> _Gates:
    """The machine's clock, name, power, swap and ports: capabilities(7)."""
    q = _Gates(namespaces=C.CLONE_NEWUTS)
    q.gate("settimeofday", 0, 0)
    q.gate("sethostname", q.string("x"), 1)
    q.gate("setdomainname", q.string("x"), 1)
    q.gate("reboot", 0, 0, 0, 0)
    q.gate("swapon", q.string("none"), 0)
    q.gate("swapoff", q.string("none"))
    q.gate("acct", 0)
    q.gate("vhangup")
    q.gate("ioperm", _PORT_80, 1, 1)
    q.gate("iopl", 3)
    q.gate("kexec_load", 0, 0, 0, 0)
    q.gate("kexec_file_load", -1, -1, 0, 0, 0)
    q.gate("syslog.SYSLOG_ACTION_READ_ALL", _SYSLOG_READ_ALL, q.buffer(64), 64)
    q.gate("syslog.SYSLOG_ACTION_SIZE_BUFFER", _SYSLOG_SIZE_BUFFER, 0, 0)
    q.gate("quotactl_fd", -1, 0, 0, 0)
    return q


def _modules() -> _Gates:
    q = _Gates()
    q.gate("init_module", 0, 0, q.string(""))
    q.gate("finit_module", -1, q.string(""), 0)
    q.gate("delete_module", q.string("none"), 0)
    return q


def _mounts() -> _Gates:
    q = _Gates(namespaces=C.CLONE_NEWNS)
    here = q.string(".")
    q.gate("mount", here, here, 0, C.MS_BIND, 0)
    q.gate("umount2", here, 0)
    q.gate("pivot_root", here, here)
    q.gate("fsopen", q.string("tmpfs"), 0)
    q.gate("fsmount", -1, 0, 0)
    q.gate("fspick", C.AT_FDCWD, here, 0)
    q.gate("open_tree", C.AT_FDCWD, here, 0)
    q.gate("open_tree.OPEN_TREE_CLONE", C.AT_FDCWD, here, C.OPEN_TREE_CLONE)
    q.gate("move_mount", -1, here, -1, here, 0)
    q.gate("mount_setattr", -1, here, 0, q.content(struct.pack("<4Q", 1, 0, 0, 0)), 32)
    handle = q.content(struct.pack("<Ii", 8, 1) + bytes(8))
    q.gate("open_by_handle_at", C.AT_FDCWD, handle, 0)
    q.gate("name_to_handle_at", C.AT_FDCWD, here, q.content(bytes(16)), q.buffer(8), 0)
    q.gate("chroot", here)
    return q


def _watching() -> _Gates:
    """What looks at others, at the kernel, or at what happens to memory and files."""
    q = _Gates()
    attr = q.content(struct.pack("<I", _PERF_TYPE_SOFTWARE).ljust(128, b"\0"))
    array = struct.pack("<4I", C.BPF_MAP_TYPE_ARRAY, 4, 4, 1).ljust(128, b"\0")
    q.gate("bpf.BPF_MAP_CREATE", C.BPF_MAP_CREATE, q.content(array), 128)
    q.gate("bpf.BPF_PROG_LOAD", C.BPF_PROG_LOAD, q.content(bytes(128)), 128)
    q.gate("perf_event_open", attr, 0, -1, -1, 0)
    q.gate("userfaultfd", 0)
    q.gate("userfaultfd.UFFD_USER_MODE_ONLY", C.UFFD_USER_MODE_ONLY)
    q.gate("fanotify_init", C.FAN_CLASS_NOTIF, 0)
    q.gate("fanotify_init.FAN_CLASS_CONTENT", C.FAN_CLASS_CONTENT, 0)
    q.gate("io_uring_setup", 1, q.content(bytes(256)))
    q.gate("landlock_create_ruleset", 0, 0, C.LANDLOCK_CREATE_RULESET_VERSION)
    q.gate("memfd_secret", 0)
    q.gate("kcmp", 1, 1, C.KCMP_FILE, 0, 0)
    q.gate("pidfd_open", 1, 0)
    q.gate("keyctl.KEYCTL_GET_KEYRING_ID", C.KEYCTL_GET_KEYRING_ID, -4, 0)
    q.gate("personality", 0xFFFFFFFF)
    q.gate("modify_ldt", 0, 0, 0)
    q.gate("ptrace.PTRACE_TRACEME", C.PTRACE_TRACEME, 0, 0, 0)
    return q


def _identity() -> _Gates:
    q = _Gates()
    name = q.string("f")
    q.call("mknodat", C.AT_FDCWD, name, C.S_IFREG | 0o600, 0)
    q.gate("mknodat.S_IFCHR", C.AT_FDCWD, q.string("null"), C.S_IFCHR | 0o600, 0x103)
    q.gate("mknodat.whiteout", C.AT_FDCWD, q.string("gone"), C.S_IFCHR, 0)
    q.gate("fchownat", C.AT_FDCWD, name, _OTHER_USER, _OTHER_USER, 0)
    q.gate("setxattr.trusted", name, q.string("trusted.x"), name, 1, 0)
    q.gate("setxattr.security", name, q.string("security.x"), name, 1, 0)
    q.gate("prlimit64.raise", 0, C.RLIMIT_CORE, q.content(struct.pack("<2Q", 0, 1)), 0)
    q.gate("setgroups", 0, 0)
    q.gate("setresgid", _OTHER_USER, _OTHER_USER, _OTHER_USER)
    q.gate("setresuid", _OTHER_USER, _OTHER_USER, _OTHER_USER)
    return q


def _scheduling() -> _Gates:
    q = _Gates()
    q.gate("mlock", q.buffer(16), 1)
    q.gate("mlockall", C.MCL_FUTURE)
    q.gate("setpriority", C.PRIO_PROCESS, 0, -5)
    q.gate("ioprio_set", C.IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_RT)
    q.gate("sched_setscheduler", 0, C.SCHED_FIFO, q.content(struct.pack("<I", 1)))
    return q


def _roots() -> _Gates:
    """Namespaces of one's own, one after the other: namespaces(7)."""
    q = _Gates()
    for name in ("UTS", "IPC", "NET", "CGROUP", "PID", "NS", "TIME"):
        q.gate(f"unshare.CLONE_NEW{name}", C.__getattr__(f"CLONE_NEW{name}"))
    q.gate("unshare.CLONE_NEWUSER", C.CLONE_NEWUSER)
    return q
