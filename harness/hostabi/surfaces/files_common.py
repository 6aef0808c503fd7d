"""Files whatever they lie on: copies between file systems, pipes, descriptors, files in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces.answers import field_hex, field_octal
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_NUMBER = re.compile(r"\d+")
_CAPABILITIES = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of capget(2)."""
_SEALS = ("SHRINK", "GROW", "FUTURE_WRITE", "WRITE", "EXEC", "SEAL")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts")


def common() -> Iterator[Probe]:
    """All questions."""
    for make in (_copies, _pipes, _kinds, _busy, _memory, _namespaces, _root_mapping):
        yield from make()


def _copies() -> tuple[Probe, ...]:
    """copy_file_range(2) and sendfile(2) between file systems, and from the kernel's own."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    kind, here = q.string("tmpfs"), q.string("mounted")
    q.call("mkdir", here, 0o755)
    mounted = q.call("mount", kind, here, kind, 0, 0)
    file = q.call("openat", C.AT_FDCWD, q.string("file"), C.O_CREAT | C.O_RDWR, 0o644)
    q.call("write", file, q.buffer(4096), 4096)
    away = q.call("openat", C.AT_FDCWD, q.string("mounted/file"), C.O_CREAT | C.O_RDWR, 0o644)
    version = q.call("openat", C.AT_FDCWD, q.string("/proc/version"), C.O_RDONLY)
    attribute = q.call("openat", C.AT_FDCWD, q.string("/sys/kernel/mm"), C.O_RDONLY)
    zero = q.call("openat", C.AT_FDCWD, q.string("/dev/zero"), C.O_RDONLY)
    append = q.call("openat", C.AT_FDCWD, q.string("file"), C.O_WRONLY | C.O_APPEND)
    start = q.buffer(8)
    for name, source, target, needs in (
        ("other-filesystem", file, away, (mounted, file, away)),
        ("proc", version, file, (version, file)),
        ("folder", attribute, file, (attribute, file)),
        ("device", zero, file, (zero, file)),
        ("append", file, append, (file, append)),
        ("itself", file, file, (file,)),
    ):
        copy = (source, start, target, 0, 512, 0)
        q.ask(f"copy_file_range.{name}", "copy_file_range", *copy, needs=needs)
        q.ask(f"sendfile.{name}", "sendfile", target, source, start, 512, needs=needs)
    return q.probes()


def _pipes() -> tuple[Probe, ...]:
    """splice(2), tee(2), vmsplice(2): which files give to a pipe, and take from it."""
    q = Questions()
    pair, other = q.buffer(8), q.buffer(8)
    q.need("pipe2", pair, C.O_NONBLOCK)
    q.need("pipe2", other, C.O_NONBLOCK)
    reads, writes = pair.word(0), pair.word(1)
    for name, path, flags in (
        ("file", "file", C.O_CREAT | C.O_RDWR),
        ("append", "file", C.O_WRONLY | C.O_APPEND),
        ("proc", "/proc/version", C.O_RDONLY),
        ("proc-file", "/proc/self/status", C.O_RDONLY),
        ("sysctl", "/proc/sys/kernel/ostype", C.O_RDONLY),
        ("sysfs", "/sys/kernel/mm/transparent_hugepage/enabled", C.O_RDONLY),
        ("cgroup", "/sys/fs/cgroup/cgroup.controllers", C.O_RDONLY),
        ("zero", "/dev/zero", C.O_RDWR),
        ("null", "/dev/null", C.O_RDWR),
        ("urandom", "/dev/urandom", C.O_RDONLY),
        ("terminal", "/dev/ptmx", C.O_RDWR),
    ):
        fd = q.call("openat", C.AT_FDCWD, q.string(path), flags | C.O_NOCTTY, 0o644)
        q.call("write", fd, q.string("text"), 4)
        if flags & 3 != C.O_WRONLY:
            q.call("lseek", fd, 0, 0)
            fine = ("EAGAIN",) if name == "terminal" else ()
            way = (fd, 0, writes, 0, 4, 2)
            q.ask(f"splice.from.{name}", "splice", *way, needs=(fd,), fine=fine)
        if flags & 3:
            q.call("write", writes, q.string("more"), 4)
            q.ask(f"splice.to.{name}", "splice", reads, 0, fd, 0, 4, 2, needs=(fd,))
        q.call("read", reads, q.buffer(64), 64)
    q.call("write", writes, q.string("more"), 4)
    q.ask("tee", "tee", reads, other.word(1), 4, 2)
    vector = q.array("struct iovec", [{"iov_base": q.string("text"), "iov_len": 4}])
    q.ask("vmsplice", "vmsplice", writes, vector, 1, 0)
    event = q.call("eventfd2", 1, C.O_NONBLOCK)
    q.ask("splice.from.eventfd", "splice", event, 0, writes, 0, 8, 2, needs=(event,))
    return q.probes()


def _kinds() -> tuple[Probe, ...]:
    """What descriptors are: the type of their file system, and how /proc/PID/fd shows them."""
    q = Questions()
    pair = q.buffer(8)
    q.call("pipe2", pair, 0)
    sockets = q.buffer(8)
    q.call("socketpair", C.AF_UNIX, C.SOCK_STREAM, 0, sockets)
    pid = q.call("getpid", opaque=True)
    made = {
        "eventfd": q.call("eventfd2", 0, 0),
        "epoll": q.call("epoll_create1", 0),
        "inotify": q.call("inotify_init1", 0),
        "memfd": q.call("memfd_create", q.string("name"), 0),
        "pidfd": q.call("pidfd_open", pid, 0),
        "signalfd": q.call("signalfd4", -1, q.buffer(8), 8, 0),
        "timerfd": q.call("timerfd_create", C.CLOCK_MONOTONIC, 0),
        "userfaultfd": q.call("userfaultfd", 1),
        "namespace": q.call("openat", C.AT_FDCWD, q.string("/proc/self/ns/mnt"), C.O_RDONLY),
        "proc": q.call("openat", C.AT_FDCWD, q.string("/proc/self/status"), C.O_RDONLY),
        "pipe": q.call("dup", pair.word(0)),
        "socket": q.call("dup", sockets.word(0)),
    }
    about, text = q.room("struct statfs"), q.buffer(128)
    path = q.string("/proc/self/fd/200")
    for name, fd in made.items():
        kind = field_hex(about, "f_type")
        q.ask(f"fd.{name}#f_type", "fstatfs", fd, about, needs=(fd,), read=kind, out=[about])
        status = q.room("struct stat")
        mode = field_octal(status, "st_mode")
        q.ask(f"fd.{name}#mode", "fstat", fd, status, needs=(fd,), read=mode, out=[status])
        at = q.call("dup3", fd, 200, 0)
        shown = _text_of(text)
        q.ask(f"fd.{name}", "readlink", path, text, 128, needs=(fd, at), read=shown, out=[text])
        key = f"fd.{name}#reopen"
        opened = q.ask(key, "openat", C.AT_FDCWD, path, C.O_RDONLY | C.O_NONBLOCK, needs=(fd, at))
        q.call("close", opened)
    return q.probes()


def _busy() -> tuple[Probe, ...]:
    """ETXTBSY: who executes a file that others write, who writes a file that is executed."""
    q = Questions()
    own, file = q.string("/proc/self/exe"), q.string("file")
    q.ask("exe.open-for-writing", "openat", C.AT_FDCWD, own, C.O_WRONLY)
    q.ask("exe.open", "openat", C.AT_FDCWD, own, C.O_RDONLY)
    q.call("openat", C.AT_FDCWD, file, C.O_CREAT | C.O_WRONLY, 0o755)
    # nothing that can be executed, which is found out later than that it is written
    q.ask("execve.of-written", "execve", file, 0, 0, fine=("ENOEXEC",))
    return q.probes()


def _memory() -> tuple[Probe, ...]:
    """memfd_create(2) and the seals of fcntl(2), and what they do."""
    q = Questions()
    fd = q.need("memfd_create", q.string("sealed"), C.MFD_ALLOW_SEALING)
    q.need("ftruncate", fd, 8192)
    for name in _SEALS:
        done = q.ask(f"memfd.seal.{name}", "fcntl", fd, C.F_ADD_SEALS, getattr(C, f"F_SEAL_{name}"))
        if name == "SHRINK":
            q.ask("memfd.sealed.shrink", "ftruncate", fd, 4096, needs=(done,))
        if name == "GROW":
            q.ask("memfd.sealed.grow", "ftruncate", fd, 16384, needs=(done,))
        if name == "WRITE":
            q.ask("memfd.sealed.write", "write", fd, q.string("x"), 1, needs=(done,))
        if name == "EXEC":
            q.ask("memfd.sealed.chmod", "fchmod", fd, 0o700, needs=(done,))
    q.ask("memfd.seal.after-seal", "fcntl", fd, C.F_ADD_SEALS, C.F_SEAL_SHRINK)
    q.ask("memfd.execveat", "execveat", fd, q.string(""), 0, 0, C.AT_EMPTY_PATH, fine=("ENOEXEC",))
    for name in ("CLOEXEC", "ALLOW_SEALING", "HUGETLB", "NOEXEC_SEAL", "EXEC"):
        flag = getattr(C, f"MFD_{name}")
        q.ask(f"memfd.{name}", "memfd_create", q.string(name), flag)
    closed = q.call("memfd_create", q.string("noexec"), C.MFD_NOEXEC_SEAL)
    way = (closed, q.string(""), 0, 0, C.AT_EMPTY_PATH)
    q.ask("memfd.NOEXEC_SEAL.execveat", "execveat", *way, needs=(closed,), fine=("ENOEXEC",))
    secret = q.ask("memfd_secret", "memfd_secret", 0)
    q.ask("memfd_secret.ftruncate", "ftruncate", secret, 4096, needs=(secret,))
    return q.probes()


def _namespaces() -> tuple[Probe, ...]:
    """Files of /proc/PID/ns: how they show, and whether they can be mounted (namespaces(7))."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    text = q.buffer(64)
    q.call("mknod", q.string("file"), C.S_IFREG | 0o600, 0)
    for name in _NAMESPACES:
        path = q.string(f"/proc/self/ns/{name}")
        shown = _text_of(text)
        q.ask(f"ns.{name}", "readlink", path, text, 64, read=shown, out=[text])
    for name in ("net", "uts", "mnt"):
        path, file = q.string(f"/proc/self/ns/{name}"), q.string("file")
        q.ask(f"ns.{name}#bind-mount", "mount", path, file, 0, C.MS_BIND, 0)
    return q.probes()


def _root_mapping() -> tuple[Probe, ...]:
    """Only who has CAP_SETFCAP can map its own root (user_namespaces(7))."""
    q = Questions()
    head = q.struct("struct __user_cap_header_struct", version=_CAPABILITIES)
    kept = (1 << (C.CAP_CHECKPOINT_RESTORE + 1)) - 1 & ~(1 << C.CAP_SETFCAP)
    rows = [_row(kept & 0xFFFFFFFF), _row(kept >> 32)]
    lost = q.call("capset", head, q.array("struct __user_cap_data_struct", rows))
    made = q.call("unshare", C.CLONE_NEWUSER)
    fd = q.call("openat", C.AT_FDCWD, q.string("/proc/self/uid_map"), C.O_WRONLY)
    needs = (lost, made, fd)
    q.ask("uid_map.root.without-setfcap", "write", fd, q.string("0 0 1"), 5, needs=needs)
    return q.probes()


def _row(bits: int) -> dict[str, Value]:
    return {"effective": bits, "permitted": bits}


def _text_of(room: Slot) -> Read:
    """A text without its numbers, which are those of inodes."""

    def read(trace: Trace, ref: Ref) -> FactValue:
        raw = trace.bytes(ref, room)[: trace[ref]].decode(errors="backslashreplace")
        return _NUMBER.sub("#", raw) or keys.OK

    return read
