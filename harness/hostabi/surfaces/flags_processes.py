"""Flags of calls about processes: making them, waiting, scheduling, futexes, pidfds."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.flag_names import bits, named
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C, constants

_SIGCHLD = 17
_COMPANIONS = {
    "SIGHAND": C.CLONE_VM,
    "THREAD": C.CLONE_VM | C.CLONE_SIGHAND,
    "PIDFD_AUTOKILL": C.CLONE_PIDFD | C.CLONE_AUTOREAP,
    "EMPTY_MNTNS": C.CLONE_NEWNS,
    "CLEAR_SIGHAND": 0,
}
"""Flags without which another one is refused, clone(2)."""
_QUIET = ("THREAD", "AUTOREAP", "PIDFD_AUTOKILL", "PARENT")
"""What has no signal of its own at its end."""
_WAIT = {"__WNOTHREAD": 1 << 29, "__WALL": 1 << 30, "__WCLONE": 1 << 31}
"""wait4(2); linux/wait.h."""
_NAMESPACES = (
    "NEWNS",
    "NEWCGROUP",
    "NEWUTS",
    "NEWIPC",
    "NEWUSER",
    "NEWPID",
    "NEWNET",
    "NEWTIME",
    "EMPTY_MNTNS",
)


def for_containers() -> Iterator[Probe]:
    """What the root of a user namespace may be refused."""
    yield from _scheduling()


def for_root() -> Iterator[Probe]:
    """What is the same for everybody."""
    for make in (_clone, _clone3, _unshare, _waiting, _pidfds, _futexes, _futex2, _barriers):
        yield from make()
    yield from _looking()


def _flags() -> dict[str, int]:
    """Flags of clone3(2) that do not make a namespace."""
    return {
        name: bit
        for name, bit in bits("CLONE_").items()
        if name not in _NAMESPACES and not name.startswith("ARGS_")
    }


def _clone() -> tuple[Probe, ...]:
    """clone(2): 32 bits, of which those without a name are passed over."""
    q = Questions(arena=1 << 17)
    room = q.buffer(16)
    for name, flag in _flags().items():
        if flag < 1 << 32:
            signal = 0 if name == "THREAD" else _SIGCHLD
            wanted = flag | _COMPANIONS.get(name, 0) | signal
            q.ask(f"clone.CLONE_{name}", "clone", wanted, 0, room, room, 0, opaque=True)
    both = C.CLONE_PIDFD | C.CLONE_PARENT_SETTID | _SIGCHLD
    q.ask("clone.PIDFD-PARENT_SETTID", "clone", both, 0, room, 0, 0, opaque=True)
    both = C.CLONE_NEWNS | C.CLONE_FS | _SIGCHLD
    q.ask("clone.NEWNS-FS", "clone", both, 0, 0, 0, 0, opaque=True)
    return q.probes()


def _clone3() -> tuple[Probe, ...]:
    """clone3(2): 64 bits, of which those without a name are refused."""
    q = Questions(arena=1 << 17)
    group = q.call("openat", C.AT_FDCWD, q.string("/sys/fs/cgroup"), C.O_RDONLY | C.O_DIRECTORY)
    for name, flag in (_flags() | {"unknown": 1 << 62}).items():
        fields: dict[str, Value] = {
            "flags": flag | _COMPANIONS.get(name, 0),
            "exit_signal": 0 if name in _QUIET else _SIGCHLD,
        }
        needs: tuple[Ref, ...] = ()
        for field in ("pidfd", "child_tid", "parent_tid"):
            fields[field] = q.buffer(8)
        if name == "INTO_CGROUP":
            fields["cgroup"], needs = group, (group,)
        label = name if name == "unknown" else f"CLONE_{name}"
        arguments = q.struct("struct clone_args", **fields)
        q.ask(f"clone3.{label}", "clone3", arguments, 88, needs=needs, opaque=True)
    others: dict[str, dict[str, Value]] = {
        "exit_signal.65": {"exit_signal": 65},
        "stack-without-size": {"exit_signal": _SIGCHLD, "stack": q.buffer(4096)},
        "set_tid.0": {"exit_signal": _SIGCHLD, "set_tid": q.buffer(8), "set_tid_size": 1},
    }
    for name, own in others.items():
        arguments = q.struct("struct clone_args", **own)
        q.ask(f"clone3.{name}", "clone3", arguments, 88, opaque=True)
    both = C.CLONE_SIGHAND | C.CLONE_VM | C.CLONE_CLEAR_SIGHAND
    arguments = q.struct("struct clone_args", flags=both, exit_signal=_SIGCHLD)
    q.ask("clone3.SIGHAND-CLEAR_SIGHAND", "clone3", arguments, 88, opaque=True)
    return q.probes()


def _unshare() -> tuple[Probe, ...]:
    """unshare(2): what is not a namespace."""
    q = Questions()
    for name in ("FS", "FILES", "SYSVSEM", "VM", "SIGHAND", "THREAD", "VFORK", "PARENT"):
        q.ask(f"unshare.CLONE_{name}", "unshare", getattr(C, f"CLONE_{name}"))
    q.ask("unshare.unknown", "unshare", 1 << 6)
    q.ask("unshare.none", "unshare", 0)
    return q.probes()


def _waiting() -> tuple[Probe, ...]:
    """wait4(2), waitid(2): whom one can wait for, and how."""
    q = Questions()
    pidfd = q.buffer(8)
    child = q.need("clone", C.CLONE_PIDFD | _SIGCHLD, 0, pidfd, 0, 0, opaque=True)
    room, ends = q.buffer(128), C.WEXITED | C.WNOWAIT
    kinds = named("P_", "ALL", "PID", "PGID", "PIDFD")
    for name, kind in (kinds | {"unknown": 9}).items():
        whom: Value = pidfd.word(0) if name == "PIDFD" else 0 if name in ("ALL", "PGID") else child
        q.ask(f"waitid.P_{name}", "waitid", kind, whom, room, ends, 0)
    flags = named("", "WSTOPPED", "WCONTINUED") | _WAIT
    for name, bit in flags.items():
        q.ask(f"waitid.{name}", "waitid", C.P_ALL, 0, room, ends | bit | C.WNOHANG, 0)
    q.ask("waitid.unknown", "waitid", C.P_ALL, 0, room, ends | C.WNOHANG | 64, 0)
    q.ask("waitid.nothing", "waitid", C.P_ALL, 0, room, C.WNOHANG, 0)
    for name, bit in (named("", "WUNTRACED", "WCONTINUED") | _WAIT).items():
        q.ask(f"wait4.{name}", "wait4", child, 0, C.WNOHANG | bit, 0, fine=("ECHILD",))
    q.ask("wait4.unknown", "wait4", child, 0, C.WNOHANG | 64, 0)
    return q.probes()


def _pidfds() -> tuple[Probe, ...]:
    """pidfd_send_signal(2), and the numbers that stand for oneself."""
    q = Questions()
    itself = q.need("pidfd_open", q.call("getpid", opaque=True), 0)
    info = q.buffer(8)
    flags = bits("PIDFD_SIGNAL_") | {"none": 0, "unknown": 8}
    for name, flag in flags.items():
        label = name if name in ("none", "unknown") else f"PIDFD_SIGNAL_{name}"
        q.ask(f"pidfd_send_signal.{label}", "pidfd_send_signal", itself, 0, 0, flag)
    both = C.PIDFD_SIGNAL_THREAD | C.PIDFD_SIGNAL_THREAD_GROUP
    q.ask("pidfd_send_signal.THREAD-GROUP", "pidfd_send_signal", itself, 0, 0, both)
    for name in ("SELF_THREAD", "SELF_THREAD_GROUP"):
        number = getattr(C, f"PIDFD_{name}")
        q.ask(f"pidfd_send_signal.{name}", "pidfd_send_signal", number, 0, 0, 0)
        memory = q.array("struct iovec", [{"iov_base": info, "iov_len": 8}])
        advice = (number, memory, 1, C.MADV_COLD, 0)
        # the arena's own pages: whether the advice is taken, not for which memory
        q.ask(f"process_madvise.{name}", "process_madvise", *advice, fine=("EINVAL",))
    folder = q.call("openat", C.AT_FDCWD, q.string("/proc/self"), C.O_RDONLY | C.O_DIRECTORY)
    q.ask("pidfd_send_signal.proc", "pidfd_send_signal", folder, 0, 0, 0, needs=(folder,))
    q.ask("pidfd_getfd.itself", "pidfd_getfd", itself, itself, 0)
    q.ask("pidfd_getfd.bad", "pidfd_getfd", itself, 999, 0)
    return q.probes()


def _futexes() -> tuple[Probe, ...]:
    """futex(2), by operation: on words that nobody else uses, and never waiting."""
    q = Questions()
    zero = q.buffer(16)
    waits = ("WAIT", "WAIT_BITSET", "WAIT_REQUEUE_PI")
    known = {
        name.removeprefix("FUTEX_"): value
        for name, value in constants("FUTEX_").items()
        if 0 <= value < 16 and not name.startswith(("FUTEX_OP_", "FUTEX_CMD", "FUTEX_32"))
    }
    skipped = ("ROBUST_MOD_MASK", "ROBUST_MOD_PI")
    for name, operation in sorted(known.items()):
        if name in skipped:
            continue
        word, other = q.buffer(8), q.buffer(8)
        value = 1 if name in waits else 0
        arguments: tuple[Value, ...] = (word, operation, value, zero, other, 1)
        if "REQUEUE" in name and name not in waits:
            arguments = (word, operation, 1 if name.endswith("PI") else 0, 0, other, 0)
        elif name in ("LOCK_PI", "LOCK_PI2"):
            arguments = (word, operation, 0, 0)
        fine = ("EAGAIN", "ETIMEDOUT", "EPERM")
        q.ask(f"futex.FUTEX_{name}", "futex", *arguments, fine=fine)
    for name, flag in (("PRIVATE_FLAG", 128), ("CLOCK_REALTIME", 256), ("unknown", 1 << 20)):
        operation = C.FUTEX_WAIT_BITSET | flag
        way = (q.buffer(8), operation, 1, zero, 0, 1)
        q.ask(f"futex.{name}", "futex", *way, fine=("EAGAIN",))
    q.ask("futex.unknown-operation", "futex", q.buffer(8), 100, 0, 0, 0, 0)
    return q.probes()


def _futex2() -> tuple[Probe, ...]:
    """futex_wake(2) and its like, and futex_waitv(2)."""
    q = Questions()
    sizes = named("FUTEX2_", "SIZE_U8", "SIZE_U16", "SIZE_U32", "SIZE_U64")
    flags = {name: C.FUTEX2_SIZE_U32 | bit for name, bit in bits("FUTEX2_").items() if bit > 3}
    for name, flag in (sizes | flags | {"unknown": 66}).items():
        label = name if name == "unknown" else f"FUTEX2_{name}"
        word = q.buffer(64)
        q.ask(f"futex_wake.{label}", "futex_wake", word, 1, 1, flag)
        wait = (word, 1, 1, flag, 0, C.CLOCK_MONOTONIC)
        q.ask(f"futex_wait.{label}", "futex_wait", *wait, fine=("EAGAIN",))
        waiter = q.struct("struct futex_waitv", val=1, uaddr=word, flags=flag)
        # the deadline is long gone
        vector = (waiter, 1, 0, q.buffer(16), C.CLOCK_MONOTONIC, word)
        q.ask(f"futex_waitv.{label}", "futex_waitv", *vector, fine=("EAGAIN", "ETIMEDOUT"))
    waiter = q.struct("struct futex_waitv", val=1, uaddr=q.buffer(8), flags=C.FUTEX_32)
    q.ask("futex_waitv.flags.unknown", "futex_waitv", waiter, 1, 1, 0, C.CLOCK_MONOTONIC)
    return q.probes()


def _scheduling() -> tuple[Probe, ...]:
    """sched_setscheduler(2), sched_setattr(2): policies and flags."""
    q = Questions()
    policies = named("SCHED_", "NORMAL", "BATCH", "IDLE", "FIFO", "RR", "DEADLINE", "EXT")
    plain = ("NORMAL", "BATCH", "IDLE", "EXT")
    for name, number in (policies | {"unknown": 30}).items():
        label = name if name == "unknown" else f"SCHED_{name}"
        priority = q.content((0 if name in plain else 1).to_bytes(8, "little"))
        q.ask(f"sched_setscheduler.{label}", "sched_setscheduler", 0, number, priority)
        again = q.content(bytes(8))
        q.call("sched_setscheduler", 0, 0, again)
        fields = {"size": 56, "sched_policy": number}
        if name in ("FIFO", "RR"):
            fields["sched_priority"] = 1
        if name == "DEADLINE":
            fields |= {"sched_runtime": 10**6, "sched_deadline": 10**8, "sched_period": 10**8}
        attributes = q.struct("struct sched_attr", **fields)
        q.ask(f"sched_setattr.{label}", "sched_setattr", 0, attributes, 0)
        q.call("sched_setscheduler", 0, 0, again)
    for name, flag in (bits("SCHED_FLAG_") | {"unknown": 1 << 40}).items():
        label = name if name == "unknown" else f"SCHED_FLAG_{name}"
        attributes = q.struct("struct sched_attr", size=56, sched_flags=flag, sched_util_max=1024)
        q.ask(f"sched_setattr.flags.{label}", "sched_setattr", 0, attributes, 0)
        q.call("sched_setscheduler", 0, 0, q.content(bytes(8)))
    attributes = q.struct("struct sched_attr", size=56)
    q.ask("sched_setattr.unknown-flags", "sched_setattr", 0, attributes, 1)
    room = q.buffer(64)
    for name, flag in (bits("SCHED_GETATTR_FLAG_") | {"unknown": 1 << 10}).items():
        q.ask(f"sched_getattr.{name}", "sched_getattr", 0, room, 56, flag)
    for name, value in (("RT", 1 << 13), ("BE", 2 << 13), ("IDLE", 3 << 13), ("unknown", 5 << 13)):
        q.ask(f"ioprio_set.{name}", "ioprio_set", 1, 0, value)
    q.ask("ioprio_set.hint", "ioprio_set", 1, 0, 2 << 13 | 1 << 3)
    return q.probes()


def _barriers() -> tuple[Probe, ...]:
    """membarrier(2), rseq(2)."""
    q = Questions()
    known = {
        name.removeprefix("MEMBARRIER_CMD_"): value
        for name, value in constants("MEMBARRIER_CMD_").items()
        if name not in ("MEMBARRIER_CMD_FLAG_CPU", "MEMBARRIER_CMD_SHARED")
    }
    registrations = [name for name in known if name.startswith("REGISTER")]
    for name in (*sorted(registrations), *sorted(known.keys() - set(registrations)), "unknown"):
        number = known.get(name, 1 << 30)
        q.ask(f"membarrier.{name}", "membarrier", number, 0, 0)
    q.ask("membarrier.flags.unknown", "membarrier", 0, 8, 0)
    area = _aligned(q)
    signature = 0x53053053
    for name, flag in (("none", 0), ("SLICE_EXT_DEFAULT_ON", 2), ("unknown", 8)):
        q.ask(f"rseq.{name}", "rseq", area, 32, flag, signature)
        q.call("rseq", area, 32, C.RSEQ_FLAG_UNREGISTER, signature)
    return q.probes()


def _aligned(q: Questions) -> Slot:
    """32 bytes where rseq(2) takes them: on a multiple of that, and of more where it has grown."""
    room = q.buffer(512)
    return room.at(-room.offset % 256, 64)


def _looking() -> tuple[Probe, ...]:
    """kcmp(2), process_vm_readv(2), seccomp(2) of nothing, and others that look at processes."""
    q = Questions()
    pid = q.call("getpid", opaque=True)
    for name in ("FILE", "VM", "FILES", "FS", "SIGHAND", "IO", "SYSVSEM"):
        q.ask(f"kcmp.KCMP_{name}", "kcmp", pid, pid, getattr(C, f"KCMP_{name}"), 0, 0)
    q.ask("kcmp.unknown", "kcmp", pid, pid, 30, 0, 0)
    vector = q.array("struct iovec", [{"iov_base": q.buffer(8), "iov_len": 8}])
    for call in ("process_vm_readv", "process_vm_writev"):
        q.ask(call, call, pid, vector, 1, vector, 1, 0)
        q.ask(f"{call}.unknown", call, pid, vector, 1, vector, 1, 1)
    return q.probes()
