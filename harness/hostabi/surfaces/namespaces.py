"""Namespaces (namespaces(7)): who may make and join which, and what holds inside them."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.namespaces_mounts import locked, pivots
from hostabi.surfaces.probing import HOST, USERNS, VIEWS, Probe, ProbeSurface, Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_SIGCHLD = 17
TYPES = ("NEWNS", "NEWCGROUP", "NEWUTS", "NEWIPC", "NEWUSER", "NEWPID", "NEWNET", "NEWTIME")
_FILES = {
    "cgroup": "NEWCGROUP",
    "ipc": "NEWIPC",
    "mnt": "NEWNS",
    "net": "NEWNET",
    "pid": "NEWPID",
    "pid_for_children": "NEWPID",
    "time": "NEWTIME",
    "time_for_children": "NEWTIME",
    "uts": "NEWUTS",
    "user": "NEWUSER",
}
"""Files of /proc/PID/ns and the type of each; those of users last, for they take rights away."""
_LIMITS = {
    "cgroup": "NEWCGROUP",
    "ipc": "NEWIPC",
    "mnt": "NEWNS",
    "net": "NEWNET",
    "pid": "NEWPID",
    "uts": "NEWUTS",
    "time": "NEWTIME",
    "user": "NEWUSER",
}
"""Sysctls user.max_NAME_namespaces, and what each limits."""
_CONTAINER = ("NEWNS", "NEWUTS", "NEWIPC", "NEWPID", "NEWNET", "NEWCGROUP")
_LINES = 340
"""Lines of a map, user_namespaces(7)."""


def for_everybody() -> Iterator[Probe]:
    """Making and joining namespaces."""
    yield from _made()
    yield from _joined()


def for_roots() -> Iterator[Probe]:
    """What root does next, of the machine or of a container."""
    for make in (_joined_child, _maps, _groups, _time, _numbers):
        yield from make()
    yield from pivots()


def for_root() -> Iterator[Probe]:
    """What is asked in a user namespace of its own, and so by one view only."""
    yield from _limits()
    yield from locked()


SURFACE = Joined(
    "namespaces",
    (
        ProbeSurface("namespaces", for_everybody, VIEWS),
        ProbeSurface("namespaces", for_roots, (HOST, USERNS)),
        ProbeSurface("namespaces", for_root, (HOST,)),
    ),
)


def _bits(*names: str) -> int:
    return sum(getattr(C, f"CLONE_{name}") for name in names)


def _made() -> tuple[Probe, ...]:
    """clone(2) and clone3(2) with one flag, with that of users as well, with those of containers.

    clone(2) takes the place of CLONE_NEWTIME for the signal.
    """
    q = Questions(timeout=5.0)
    for name in TYPES:
        bit = _bits(name)
        forms = {f"CLONE_{name}": bit}
        if name != "NEWUSER":
            forms[f"CLONE_{name}-NEWUSER"] = bit | C.CLONE_NEWUSER
        for label, flags in forms.items():
            if name != "NEWTIME":
                q.ask(f"clone.{label}", "clone", flags | _SIGCHLD, 0, 0, 0, 0, opaque=True)
            arguments = q.struct("struct clone_args", flags=flags, exit_signal=_SIGCHLD)
            q.ask(f"clone3.{label}", "clone3", arguments, 88, opaque=True)
    for label, flags in {
        "container": _bits(*_CONTAINER),
        "rootless-container": _bits("NEWUSER", *_CONTAINER),
        "empty-mounts": C.CLONE_EMPTY_MNTNS | C.CLONE_NEWNS,
        "empty-mounts-NEWUSER": C.CLONE_EMPTY_MNTNS | C.CLONE_NEWNS | C.CLONE_NEWUSER,
    }.items():
        arguments = q.struct("struct clone_args", flags=flags, exit_signal=_SIGCHLD)
        q.ask(f"clone3.{label}", "clone3", arguments, 88, opaque=True)
    return q.probes()


def _joined() -> tuple[Probe, ...]:
    """setns(2) of what one is in already, by file and by pidfd."""
    q = Questions()
    itself = q.call("pidfd_open", q.call("getpid", opaque=True), 0)
    for name, kind in _FILES.items():
        fd = q.call("openat", C.AT_FDCWD, q.string(f"/proc/self/ns/{name}"), C.O_RDONLY)
        wrong = _bits("NEWIPC" if name == "uts" else "NEWUTS")
        q.ask(f"setns.file.{name}.wrong-type", "setns", fd, wrong, needs=(fd,))
        q.ask(f"setns.file.{name}.any-type", "setns", fd, 0, needs=(fd,))
        q.ask(f"setns.file.{name}", "setns", fd, _bits(kind), needs=(fd,))
    for kind in sorted(TYPES, key=lambda kind: kind == "NEWUSER"):
        q.ask(f"setns.pidfd.CLONE_{kind}", "setns", itself, _bits(kind), needs=(itself,))
    several = _bits("NEWUTS", "NEWIPC", "NEWNET")
    q.ask("setns.pidfd.several", "setns", itself, several, needs=(itself,))
    for name, flags in (("none", 0), ("unknown", C.CLONE_FILES)):
        q.ask(f"setns.pidfd.{name}", "setns", itself, flags, needs=(itself,))
    other = q.call("openat", C.AT_FDCWD, q.string("/proc/self/status"), C.O_RDONLY)
    q.ask("setns.no-namespace", "setns", other, 0, needs=(other,))
    return q.probes()


def _joined_child() -> Iterator[Probe]:
    """setns(2) into what a child has of its own: one by one, all at once."""
    for users in (False, True):
        q = Questions(children=Children.PAUSE, timeout=5.0)
        kinds = ("NEWUSER", *_CONTAINER) if users else _CONTAINER
        label = "container-with-users" if users else "container"
        room = q.buffer(8)
        q.need("clone", _bits(*kinds) | C.CLONE_PIDFD | _SIGCHLD, 0, room, 0, 0, opaque=True)
        if not users:
            for kind in ("NEWUTS", "NEWIPC", "NEWNET", "NEWCGROUP", "NEWPID"):
                q.ask(f"setns.child.CLONE_{kind}", "setns", room.word(0), _bits(kind))
        q.ask(f"setns.child.{label}", "setns", room.word(0), _bits(*kinds))
        yield from q.probes()


def _own(children: Children = Children.PAUSE) -> Questions:
    """Process 1 of a PID namespace with a proc(5), so that its first child is process 2."""
    spaces = C.CLONE_NEWNS | C.CLONE_NEWPID
    return Questions(
        namespaces=spaces, children=children, own_proc=True, timeout=5.0, arena=1 << 17
    )


def _maps() -> tuple[Probe, ...]:
    """user_namespaces(7), "Defining user and group ID mappings", each in a child of its own."""
    q = _own()
    first = [f"{at} {at} 1" for at in range(_LINES + 1)]
    texts = {
        "root": "0 0 1",
        "root-as-user": "1000 0 1",
        "range": "0 100000 65536",
        "unknown-user": "0 4242 1",
        "two-lines": "0 0 1\n1 100000 1000",
        "overlap": "0 0 1\n0 100000 1",
        "overlap-outside": "0 0 1\n1 0 1",
        "length-0": "0 0 0",
        "too-long": "0 0 4294967295\n",
        "not-a-number": "x 0 1",
        "two-numbers": "0 0",
        f"lines.{_LINES}": "\n".join(first[:_LINES]),
        f"lines.{_LINES + 1}": "\n".join(first),
    }
    for pid, (name, text) in enumerate(texts.items(), 2):
        child = q.call("clone", C.CLONE_NEWUSER | _SIGCHLD, 0, 0, 0, 0, opaque=True)
        for file in ("uid_map", "gid_map"):
            path, line = q.string(f"/proc/{pid}/{file}"), q.string(text)
            fd = q.call("openat", C.AT_FDCWD, path, C.O_WRONLY)
            key = f"{file}.{name}"
            written = q.ask(key, "write", fd, line, len(text), needs=(child, fd))
            q.call("close", fd)
            if name == "root":
                fd = q.call("openat", C.AT_FDCWD, path, C.O_WRONLY)
                needs = (child, fd, written)
                q.ask(f"{file}.twice", "write", fd, line, len(text), needs=needs)
    return q.probes()


def _groups() -> tuple[Probe, ...]:
    """user_namespaces(7), "setgroups": what may still be written, and when."""
    q = _own()
    for pid, name in enumerate(("before", "after", "twice"), 2):
        child = q.call("clone", C.CLONE_NEWUSER | _SIGCHLD, 0, 0, 0, 0, opaque=True)

        def write(file: str, text: str, pid: int = pid) -> tuple[Ref, tuple[Ref, str, int]]:
            fd = q.call("openat", C.AT_FDCWD, q.string(f"/proc/{pid}/{file}"), C.O_WRONLY)
            return fd, (fd, text, len(text))

        if name == "after":
            fd, (_, text, length) = write("gid_map", "0 0 1")
            q.call("write", fd, q.string(text), length)
        for word in ("deny", "allow") if name == "twice" else ("deny",):
            fd, (_, text, length) = write("setgroups", word)
            key = f"setgroups.{name}.{word}"
            q.ask(key, "write", fd, q.string(text), length, needs=(child, fd))
    q.ask("setgroups.call", "setgroups", 0, 0)
    return q.probes()


def _time() -> tuple[Probe, ...]:
    """time_namespaces(7): offsets, before the first process is in it and after."""
    q = Questions(timeout=5.0)
    q.need("unshare", C.CLONE_NEWTIME)
    path = q.string("/proc/self/timens_offsets")
    fd = q.need("openat", C.AT_FDCWD, path, C.O_WRONLY)
    for name, text in (
        ("monotonic", "monotonic 1000 0"),
        ("boottime", "boottime 1000 0"),
        ("by-number", "1 2000 0"),
        ("realtime", "realtime 1000 0"),
        ("negative", "boottime -999999999 0"),
        ("nanoseconds", "monotonic 0 1000000000"),
    ):
        q.ask(f"timens_offsets.{name}", "write", fd, q.string(text), len(text))
    child = q.ask("timens.child", "clone", _SIGCHLD, 0, 0, 0, 0, opaque=True)
    late = "monotonic 5 0"
    q.ask("timens_offsets.after-child", "write", fd, q.string(late), len(late), needs=(child,))
    inside = q.call("openat", C.AT_FDCWD, q.string("/proc/self/ns/time_for_children"), C.O_RDONLY)
    q.ask("timens.enter", "setns", inside, C.CLONE_NEWTIME, needs=(inside,))
    return q.probes()


def _numbers() -> tuple[Probe, ...]:
    """pid_namespaces(7): choosing the number of a child, and what a second namespace does."""
    q = _own(Children.END)
    for name, number in (("free", 77), ("taken", 1), ("too-large", 1 << 30)):
        wanted = q.content(number.to_bytes(8, "little"))
        arguments = q.struct(
            "struct clone_args", exit_signal=_SIGCHLD, set_tid=wanted, set_tid_size=1
        )
        q.ask(f"set_tid.{name}", "clone3", arguments, 88, opaque=True)
    last = q.call("openat", C.AT_FDCWD, q.string("/proc/sys/kernel/ns_last_pid"), C.O_WRONLY)
    q.ask("ns_last_pid", "write", last, q.string("200"), 3, needs=(last,))
    once = q.ask("unshare.pid", "unshare", C.CLONE_NEWPID)
    q.ask("unshare.pid.twice", "unshare", C.CLONE_NEWPID, needs=(once,))
    first = q.ask("unshare.pid.child", "clone", _SIGCHLD, 0, 0, 0, 0, opaque=True, needs=(once,))
    # the first process of that namespace has ended, so there is no other one
    q.call("wait4", first, 0, 0, 0)
    q.ask("unshare.pid.second-child", "clone", _SIGCHLD, 0, 0, 0, 0, opaque=True, needs=(first,))
    return q.probes()


def _limits() -> tuple[Probe, ...]:
    """namespaces(7), "/proc/sys/user": a limit of none, set by the root of a user namespace."""
    q = Questions(namespaces=C.CLONE_NEWUSER)
    for name, kind in _LIMITS.items():
        path = q.string(f"/proc/sys/user/max_{name}_namespaces")
        fd = q.call("openat", C.AT_FDCWD, path, C.O_WRONLY)
        key = f"user.max_{name}_namespaces"
        written = q.ask(f"{key}.write", "write", fd, q.string("0"), 1, needs=(fd,))
        q.ask(f"{key}.0", "unshare", _bits(kind), needs=(fd, written))
        q.call("pwrite64", fd, q.string("9"), 1, 0)
        if name != "user":
            q.ask(f"{key}.9", "unshare", _bits(kind), needs=(fd, written))
    return q.probes()
