"""Which features a kernel has, found by trying them.

A case names the features it needs; on a kernel that lacks one it is not run.
Never a version number: distributions backport, and local kernels lie.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hostabi.agent.program import End, Sandbox
from hostabi.errors import GuestHangError
from hostabi.syscalls.builder import Builder, Ref
from hostabi.syscalls.cases import Runner, plain_sandbox
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace, ran_at_all


@dataclass(frozen=True)
class Probe:
    """A feature and the program whose last call works where the kernel has it.

    ``fine`` are errnos that only a kernel gives that has it.
    """

    name: str
    build: Callable[[Builder], Ref]
    fine: tuple[int, ...] = ()


def _openat2(b: Builder) -> Ref:
    how = b.struct("struct open_how", flags=C.O_PATH, resolve=C.RESOLVE_BENEATH)
    return b.call("openat2", C.AT_FDCWD, b.string("."), how, how.size)


def _openat2_cached(b: Builder) -> Ref:
    how = b.struct("struct open_how", flags=C.O_PATH, resolve=C.RESOLVE_CACHED)
    return b.call("openat2", C.AT_FDCWD, b.string("."), how, how.size)


def _close_range(b: Builder) -> Ref:
    return b.call("close_range", 100, 200, 0)


def _close_range_cloexec(b: Builder) -> Ref:
    return b.call("close_range", 100, 200, C.CLOSE_RANGE_CLOEXEC)


def _memfd_noexec(b: Builder) -> Ref:
    return b.call("memfd_create", b.string("m"), C.MFD_NOEXEC_SEAL)


def _memfd_map_sealed(b: Builder) -> Ref:
    fd = b.call("memfd_create", b.string("m"), C.MFD_ALLOW_SEALING)
    b.call("ftruncate", fd, 4096)
    b.call("fcntl", fd, C.F_ADD_SEALS, C.F_SEAL_WRITE)
    return b.call("mmap", 0, 4096, C.PROT_READ, C.MAP_SHARED, fd, 0, opaque=True)


def _memfd_exec_seal_refuses(b: Builder) -> Ref:
    """F_SEAL_EXEC implies F_SEAL_WRITE, which nobody gets who has the file mapped to write.

    Since "memfd: deny writeable mappings when implying SEAL_WRITE" (3b041514cb6e). Where it
    is refused the file can still be written to.
    """
    fd = b.call("memfd_create", b.string("m"), C.MFD_EXEC | C.MFD_ALLOW_SEALING)
    b.call("ftruncate", fd, 4096)
    b.call("mmap", 0, 4096, C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED, fd, 0, opaque=True)
    b.call("fcntl", fd, C.F_ADD_SEALS, C.F_SEAL_EXEC)
    return b.call("write", fd, b.content(b"x"), 1)


def _fallocate(mode: int) -> Callable[[Builder], Ref]:
    def build(b: Builder) -> Ref:
        fd = b.call("openat", C.AT_FDCWD, b.string("f"), C.O_RDWR | C.O_CREAT, 0o600)
        return b.call("fallocate", fd, mode, 0, 4096)

    return build


def _exchange(b: Builder) -> Ref:
    for name in ("a", "b"):
        b.call("mkdirat", C.AT_FDCWD, b.string(name), 0o700)
    names = b.string("a"), b.string("b")
    cwd = C.AT_FDCWD
    return b.call("renameat2", cwd, names[0], cwd, names[1], C.RENAME_EXCHANGE)


def _eventfd_long_write(b: Builder) -> Ref:
    fd = b.call("eventfd2", 0, C.EFD_NONBLOCK)
    return b.call("write", fd, b.content(bytes(16)), 16)


def _noappend(b: Builder) -> Ref:
    fd = b.call("openat", C.AT_FDCWD, b.string("f"), C.O_RDWR | C.O_CREAT | C.O_APPEND, 0o600)
    row = b.array("struct iovec", [{"iov_base": b.string("x"), "iov_len": 1}])
    return b.call("pwritev2", fd, row, 1, 0, 0, C.RWF_NOAPPEND)


def _user_attributes(b: Builder) -> Ref:
    b.call("openat", C.AT_FDCWD, b.string("f"), C.O_RDWR | C.O_CREAT, 0o600)
    return b.call("setxattr", b.string("f"), b.string("user.a"), b.string("x"), 1, 0)


def _setxattrat(b: Builder) -> Ref:
    b.call("openat", C.AT_FDCWD, b.string("f"), C.O_RDWR | C.O_CREAT, 0o600)
    args = b.struct("struct xattr_args", value=b.string("x"), size=1)
    name = b.string("trusted.a")
    return b.call("setxattrat", C.AT_FDCWD, b.string("f"), 0, name, args, args.size)


def _link_empty_path(b: Builder) -> Ref:
    """Needs CAP_DAC_READ_SEARCH or, since 42bd2af59504, the credentials of the opener."""
    fd = b.call("openat", C.AT_FDCWD, b.string("."), C.O_TMPFILE | C.O_RDWR, 0o600)
    return b.call("linkat", fd, b.string(""), C.AT_FDCWD, b.string("f"), C.AT_EMPTY_PATH)


def _userfaultfd(b: Builder) -> Ref:
    fd = b.call("userfaultfd", C.O_NONBLOCK)
    api = b.struct("struct uffdio_api", api=C.UFFD_API, features=C.UFFD_FEATURE_SIGBUS)
    return b.call("ioctl", fd, C.UFFDIO_API, api)


def _pkeys(b: Builder) -> Ref:
    return b.call("pkey_alloc", 0, 0)


def _fanotify(b: Builder) -> Ref:
    fd = b.call("fanotify_init", C.FAN_CLASS_NOTIF, C.O_RDONLY)
    where = b.string(".")
    return b.call("fanotify_mark", fd, C.FAN_MARK_ADD, C.FAN_CLOSE_WRITE, C.AT_FDCWD, where)


def _mqueue(b: Builder) -> Ref:
    attributes = b.struct("struct mq_attr", mq_maxmsg=1, mq_msgsize=1)
    name = b.string("hostabi")
    fd = b.call("mq_open", name, C.O_CREAT | C.O_RDWR, 0o600, attributes)
    b.call("mq_unlink", name)
    return b.call("mq_getsetattr", fd, 0, attributes)


def _bpf(b: Builder) -> Ref:
    words = (C.BPF_MAP_TYPE_HASH, 4, 4, 1)
    raw = b"".join(word.to_bytes(4, "little") for word in words)
    return b.call("bpf", C.BPF_MAP_CREATE, b.content(raw), len(raw))


def _io_uring(b: Builder) -> Ref:
    return b.call("io_uring_setup", 1, b.buffer(120))  # struct io_uring_params


def _futex_waitv(b: Builder) -> Ref:
    """Waits until a moment that is past."""
    word = b.content(bytes(4))
    waiter = b.struct("struct futex_waitv", uaddr=word, flags=C.FUTEX2_SIZE_U32)
    past = b.struct("struct __kernel_timespec", tv_nsec=1)
    return b.call("futex_waitv", waiter, 1, 0, past, C.CLOCK_MONOTONIC)


def _futex2(b: Builder) -> Ref:
    return b.call("futex_wake", b.content(bytes(4)), 1, 1, C.FUTEX2_SIZE_U32)


def _bpf_cgroup(b: Builder) -> Ref:
    """A control group of version 2 that says which programs are attached to it."""
    fd = b.call("openat", C.AT_FDCWD, b.string("/sys/fs/cgroup"), C.O_RDONLY | C.O_DIRECTORY, 0)
    b.call("dup2", fd, 0)  # target_fd of all zeros
    return b.call("bpf", C.BPF_PROG_QUERY, b.buffer(64), 64)


def _root(b: Builder) -> Ref:
    """Programs that become other users; those of ``--kernel running`` cannot."""
    return b.call("setresuid", 1, 1, 1)


def _orphans(b: Builder) -> Ref:
    """Processes that outlive the one that made them; those of ``--kernel running`` do not.

    Beside other people's processes an agent asks for a signal when the parent ends, by
    PR_SET_PDEATHSIG(2const). What it asked for is a number of files to look for at NULL.
    """
    told, role = b.content(bytes(8)), b.role()
    pid = b.call("clone", C.SIGCHLD, 0, 0, 0, 0, opaque=True, starts=role)
    with b.by(role):
        b.call("prctl", C.PR_GET_PDEATHSIG, told)
        found = b.call("poll", 0, told.word(), 0)
    b.call("wait4", pid, b.buffer(4), 0x40000000, 0, opaque=True)  # __WALL of linux/wait.h
    return found


def _mount_setattr(b: Builder) -> Ref:
    b.call("unshare", C.CLONE_NEWNS)
    attributes = b.struct("struct mount_attr", propagation=C.MS_PRIVATE)
    return b.call("mount_setattr", C.AT_FDCWD, b.string("/"), 0, attributes, attributes.size)


def _kcmp(b: Builder) -> Ref:
    pid = b.call("getpid", opaque=True)
    return b.call("kcmp", pid, pid, C.KCMP_VM, 0, 0)


def _memory_merge(b: Builder) -> Ref:
    return b.call("prctl", C.PR_SET_MEMORY_MERGE, 0, 0, 0, 0)


def _mdwe(b: Builder) -> Ref:
    return b.call("prctl", C.PR_SET_MDWE, C.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


def _landlock(b: Builder) -> Ref:
    ruleset = b.struct("struct landlock_ruleset_attr", handled_access_fs=1)
    return b.call("landlock_create_ruleset", ruleset, 8, 0)


def _time_namespace(b: Builder) -> Ref:
    return b.call("unshare", C.CLONE_NEWTIME)


def _no_change_resets_fsuid(b: Builder) -> Ref:
    """setresuid(2) sets the file system id always, also where no other id changes.

    Since "kernel/sys.c: fix and improve control flow in __sys_setres[ug]id()", which went to the
    stable lines too, a call that changes none of the three returns before. The id that is left
    is a number of files to look for at NULL.
    """
    b.call("setfsuid", 1)
    b.call("setresuid", -1, -1, -1)
    found = b.call("setfsuid", -1)
    return b.call("poll", 0, found, 0)


PROBES: tuple[Probe, ...] = (
    Probe("openat2", _openat2),
    Probe("openat2:cached", _openat2_cached),
    Probe("close_range", _close_range),
    Probe("close_range:cloexec", _close_range_cloexec),
    Probe("memfd:noexec", _memfd_noexec),
    Probe("memfd:map-sealed", _memfd_map_sealed),
    Probe("memfd:exec-seal-refuses", _memfd_exec_seal_refuses),
    Probe("fallocate", _fallocate(0)),
    Probe("fallocate:keep", _fallocate(C.FALLOC_FL_KEEP_SIZE)),
    Probe("fallocate:punch", _fallocate(C.FALLOC_FL_KEEP_SIZE | C.FALLOC_FL_PUNCH_HOLE)),
    Probe("fallocate:zero", _fallocate(C.FALLOC_FL_ZERO_RANGE)),
    Probe("rename:exchange", _exchange),
    Probe("eventfd:long-write", _eventfd_long_write),
    Probe("setresuid:no-change-resets-fsuid", _no_change_resets_fsuid),
    Probe("mount_setattr", _mount_setattr),
    Probe("kcmp", _kcmp),
    Probe("landlock", _landlock),
    Probe("prctl:memory-merge", _memory_merge),
    Probe("prctl:mdwe", _mdwe),
    Probe("namespace:time", _time_namespace),
    Probe("pwritev2:noappend", _noappend),
    Probe("setxattrat", _setxattrat),
    Probe("linkat:empty-path", _link_empty_path),
    Probe("userfaultfd", _userfaultfd),
    Probe("pkeys", _pkeys),
    Probe("fanotify", _fanotify),
    Probe("mqueue", _mqueue),
    Probe("bpf", _bpf),
    Probe("io_uring", _io_uring),
    Probe("futex:waitv", _futex_waitv, (errno.ETIMEDOUT,)),
    Probe("futex2", _futex2),
    Probe("bpf:cgroup", _bpf_cgroup),
    Probe("root", _root),
    Probe("orphans", _orphans),
    Probe("attributes:user", _user_attributes),
)
"""Every feature the suites ask for."""


def features(
    runner: Runner, probes: Sequence[Probe] = PROBES, sandbox: Sandbox | None = None
) -> frozenset[str]:
    """The names of the probes that work on the runner's kernel, by default in a bare child.

    Raises SandboxError for a probe that was not begun, and GuestHangError for
    one that did not end: whether the kernel has the feature is not known then.
    """
    built = []
    for probe in probes:
        builder = Builder()
        ref = probe.build(builder)
        built.append((probe, builder.build(), ref))
    programs = [program.program for _, program, _ in built]
    answers = runner.run(programs, sandbox or plain_sandbox())
    found = list(zip(built, answers, strict=True))
    for (probe, program, _), ran in found:
        if ran_at_all(program, ran).end is End.TIMED_OUT:
            raise GuestHangError(f"the probe for {probe.name} did not end\n{Trace(program, ran)}")
    return frozenset(
        probe.name
        for (probe, program, ref), ran in found
        if len(ran.values) > ref.call and _works(Trace(program, ran)[ref], probe)
    )


def _works(value: int, probe: Probe) -> bool:
    return value >= 0 or -value in probe.fine
