"""What control groups of version 2 do, found by trying (kernel: admin-guide/cgroup-v2.rst).

Every program makes its group below :data:`PARENT` and removes it again, so that
each can be run alone, as root, on a machine where version 2 is mounted at :data:`TOP`.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children
from hostabi.model import Kind
from hostabi.surfaces.cgroup_asks import (
    ROOM,
    ask_text,
    ask_write,
    happened,
    killed,
    number,
    says,
    shows_option,
    valid,
)
from hostabi.surfaces.cgroup_writes import PRESSURE_V2, ROOT_V2, V2, ask_writes, tell
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.table import C

TOP = "/sys/fs/cgroup"
PARENT = f"{TOP}/hostabi"
USER = 1000
CONTROLLERS = (
    "cpuset",
    "cpu",
    "io",
    "memory",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    "dmem",
    "perf_event",
    "debug",
)
"""All controllers that any kernel's version 2 knows or knew."""
OPTIONS = (
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
)
"""Options of the file system, cgroup-v2.rst, "Mounting"."""

_MNT_DETACH = 2
"""umount2(2); the C library's, as no header of the kernel has it."""
_ARENA = 1 << 18
_WAIT = 1000
"""Milliseconds that something which comes by itself may take."""


def group(q: Questions, name: str) -> str:
    """Make a group with all controllers; its path."""
    q.call("mkdir", q.string(PARENT), 0o755)
    for folder in (TOP, PARENT):
        for controller in CONTROLLERS:
            tell(q, f"{folder}/cgroup.subtree_control", f"+{controller}")
    path = f"{PARENT}/{name}"
    q.need("mkdir", q.string(path), 0o755)
    return path


def remove(q: Questions, *paths: str) -> None:
    """Leave the groups, and remove them and the parent."""
    tell(q, f"{TOP}/cgroup.procs", "0")
    for path in (*paths, PARENT):
        q.call("rmdir", q.string(path))


def write_probes(device: str) -> tuple[Probe, ...]:
    """What the files of a group accept. ``device`` is the number of a disk."""
    q = Questions(arena=_ARENA, timeout=10.0)
    path = group(q, "writes")
    ask_writes(q, path, V2, device=device, needs=())
    remove(q, path)
    return q.probes()


def pressure_probes() -> tuple[Probe, ...]:
    """What the files of pressure accept, psi.rst."""
    q = Questions(arena=_ARENA, timeout=10.0)
    path = group(q, "pressure")
    ask_writes(q, path, PRESSURE_V2, device="", needs=())
    remove(q, path)
    return q.probes()


def root_write_probes() -> tuple[Probe, ...]:
    """What the files of the root group accept."""
    q = Questions(arena=_ARENA, timeout=10.0)
    ask_writes(q, TOP, ROOT_V2, device="", prefix="root/", needs=())
    return q.probes()


def mount_probes() -> tuple[Probe, ...]:
    """Options of mount(2); one that takes effect is shown by the mount (proc(5), mounts)."""
    q = Questions(namespaces=C.CLONE_NEWNS, timeout=10.0)
    kind, here = q.string("cgroup2"), q.string(".")
    for option in ("", *OPTIONS, "nonsense"):
        what = q.string(option) if option else 0
        done = q.call("mount", kind, here, kind, 0, what)
        room = q.buffer(4096)
        mounts = q.call("openat", C.AT_FDCWD, q.string("/proc/self/mounts"), C.O_RDONLY)
        key = f"mount.{option}" if option else "mount"
        shown = shows_option([option] if option else [], room)
        q.ask(key, "read", mounts, room, 4096, needs=(done, mounts), read=shown, out=[room])
        q.call("close", mounts)
        q.call("umount2", here, _MNT_DETACH)
    # a mount without options takes away what the others set, for it is one file system
    q.call("mount", kind, here, kind, 0, 0)
    return q.probes()


def for_root() -> Iterator[Probe]:
    """All that only the machine's root is asked."""
    for make in (
        pressure_probes,
        root_write_probes,
        _controllers,
        _threaded,
        _events,
        _limits,
        _partition,
        _structure,
        _frozen,
        _clone_into,
        _namespace,
        _delegation,
        _attributes,
    ):
        yield from make()


def _controllers() -> tuple[Probe, ...]:
    q = Questions()
    path = group(q, "controllers")
    for name in CONTROLLERS:
        fd = q.call("openat", C.AT_FDCWD, q.string(f"{path}/cgroup.subtree_control"), C.O_WRONLY)
        word = f"+{name}"
        q.ask(f"controller.{name}", "write", fd, q.string(word), len(word), needs=(fd,))
    remove(q, path)
    return q.probes()


def _threaded() -> tuple[Probe, ...]:
    q = Questions()
    path = group(q, "threaded")
    inner = f"{path}/inner"
    q.need("mkdir", q.string(inner), 0o755)
    ask_write(q, "cgroup.type#accepts:threaded", f"{inner}/cgroup.type", "threaded")
    ask_text(q, "cgroup.type#of-threaded", f"{inner}/cgroup.type")
    ask_text(q, "cgroup.type#of-its-parent", f"{path}/cgroup.type")
    for name in CONTROLLERS:
        control, word = "cgroup.subtree_control", f"+{name}"
        known = tell(q, f"{PARENT}/{control}", word)
        ask_write(q, f"controller.{name}#threaded", f"{path}/{control}", word, given=(known,))
    tell(q, f"{path}/cgroup.procs", "0")
    ask_write(q, "cgroup.threads#within-domain", f"{inner}/cgroup.threads", "0")
    remove(q, inner, path)
    return q.probes()


def _events() -> tuple[Probe, ...]:
    """A process comes: what tells that the group is populated (inotify(7), poll(2))."""
    q = Questions()
    path = group(q, "events")
    events = q.string(f"{path}/cgroup.events")
    watch = q.call("inotify_init1", C.IN_NONBLOCK)
    watched = q.call("inotify_add_watch", watch, events, C.IN_MODIFY)
    fd = q.call("openat", C.AT_FDCWD, events, C.O_RDONLY)
    room = q.buffer(ROOM)
    q.call("read", fd, room, ROOM)
    ask_write(q, "cgroup.procs#accepts:0", f"{path}/cgroup.procs", "0")
    for key, what, bit, needs in (
        ("inotify", watch, C.POLLIN, (watch, watched)),
        ("poll", fd, C.POLLPRI, (fd,)),
    ):
        polled = q.struct("struct pollfd", fd=what, events=bit)
        q.ask(f"cgroup.events#{key}", "poll", polled, 1, _WAIT, needs=needs, read=happened)
    ask_text(q, "cgroup.events#populated", f"{path}/cgroup.events")
    ask_text(q, "group.membership", "/proc/self/cgroup", only="0::")
    q.ask("group.rmdir.populated", "rmdir", q.string(path))
    ask_write(q, "cgroup.subtree_control#of-populated", f"{path}/cgroup.subtree_control", "+pids")
    remove(q, path)
    return q.probes()


def _limits() -> tuple[Probe, ...]:
    """Limits that stop something."""
    q = Questions()
    path = group(q, "limits")
    tell(q, f"{path}/cgroup.procs", "0")
    tell(q, f"{path}/pids.max", "1")
    q.ask("pids.max#fork-beyond", "fork", opaque=True)
    ask_text(q, "pids.events#of-fork-beyond", f"{path}/pids.events")
    tell(q, f"{path}/cpuset.cpus", "0")
    room = q.buffer(8)
    affinity = number(room)
    q.ask("cpuset.cpus#affinity", "sched_getaffinity", 0, 8, room, read=affinity, out=[room])
    tell(q, f"{TOP}/cgroup.procs", "0")
    tell(q, f"{path}/cgroup.max.descendants", "0")
    q.ask("cgroup.max.descendants#mkdir-beyond", "mkdir", q.string(f"{path}/x"), 0o755)
    tell(q, f"{path}/cgroup.max.descendants", "max")
    tell(q, f"{path}/cgroup.max.depth", "0")
    q.ask("cgroup.max.depth#mkdir-beyond", "mkdir", q.string(f"{path}/x"), 0o755)
    remove(q, f"{path}/x", path)
    return q.probes()


def _partition() -> tuple[Probe, ...]:
    """A group right below the root takes a CPU for itself; another must be left."""
    q = Questions(timeout=10.0)
    path = f"{TOP}/hostabi-partition"
    tell(q, f"{TOP}/cgroup.subtree_control", "+cpuset")
    q.need("mkdir", q.string(path), 0o755)
    tell(q, f"{path}/cpuset.cpus", "0")
    for kind in ("root", "isolated"):
        file = f"{path}/cpuset.cpus.partition"
        tell(q, file, "member")
        fd = q.call("openat", C.AT_FDCWD, q.string(file), C.O_RDWR)
        done = q.call("write", fd, q.string(kind), len(kind))
        room = q.buffer(ROOM)
        q.ask(
            f"cpuset.cpus.partition#accepts:{kind}",
            "pread64",
            fd,
            room,
            ROOM,
            0,
            needs=(fd, done),
            read=valid(room),
            kind=Kind.HARDWARE,
            out=[room],
        )
        q.call("close", fd)
    tell(q, f"{path}/cpuset.cpus.partition", "member")
    q.call("rmdir", q.string(path))
    return q.probes()


def _structure() -> tuple[Probe, ...]:
    """Groups as folders."""
    q = Questions()
    path = group(q, "structure")
    old, new = q.string(path), q.string(f"{PARENT}/renamed")
    q.ask("group.rename", "rename", old, new)
    q.call("rename", new, old)
    q.ask("group.mkdir.newline", "mkdir", q.string(f"{path}/a\nb"), 0o755)
    q.ask("group.create", "mknod", q.string(f"{path}/file"), C.S_IFREG | 0o644, 0)
    q.ask("group.unlink", "unlink", q.string(f"{path}/cgroup.procs"))
    q.ask("group.chmod", "chmod", q.string(f"{path}/cgroup.procs"), 0o666)
    q.ask("group.chown", "chown", q.string(f"{path}/cgroup.procs"), USER, USER)
    q.ask("group.symlink", "symlink", old, q.string(f"{path}/link"))
    remove(q, path)
    return q.probes()


def _frozen() -> tuple[Probe, ...]:
    """A process is frozen, and killed while it is."""
    q = Questions(children=Children.PAUSE)
    path = group(q, "frozen")
    tell(q, f"{path}/cgroup.procs", "0")
    child = q.need("fork", opaque=True)
    tell(q, f"{TOP}/cgroup.procs", "0")
    fd = q.need("openat", C.AT_FDCWD, q.string(f"{path}/cgroup.events"), C.O_RDONLY)
    room = q.buffer(ROOM)
    q.call("read", fd, room, ROOM)
    ask_write(q, "cgroup.freeze#of-process", f"{path}/cgroup.freeze", "1")
    polled = q.struct("struct pollfd", fd=fd, events=C.POLLPRI)
    q.call("poll", polled, 1, _WAIT)
    ask_text(q, "cgroup.events#frozen", f"{path}/cgroup.events")
    kill = ask_write(q, "cgroup.kill#of-frozen", f"{path}/cgroup.kill", "1")
    tell(q, f"{path}/cgroup.freeze", "0")
    # whom the group did not kill, this does; the first signal is what its parent is told
    q.call("kill", child, C.SIGUSR1)
    status = q.buffer(4)
    dead = killed(status)
    q.ask("cgroup.kill#kills", "wait4", child, status, 0, 0, needs=(kill,), read=dead, out=[status])
    remove(q, path)
    return q.probes()


def _clone_into() -> tuple[Probe, ...]:
    """A process is born into a group (clone3(2), CLONE_INTO_CGROUP)."""
    q = Questions(children=Children.PAUSE)
    path = group(q, "clone")
    fd = q.need("openat", C.AT_FDCWD, q.string(path), C.O_RDONLY | C.O_DIRECTORY)
    arguments = q.struct(
        "struct clone_args", flags=C.CLONE_INTO_CGROUP, exit_signal=C.SIGCHLD, cgroup=fd
    )
    child = q.call("clone3", arguments, arguments.size, opaque=True)
    events = q.call("openat", C.AT_FDCWD, q.string(f"{path}/cgroup.events"), C.O_RDONLY)
    room = q.buffer(ROOM)
    born = says("populated 1 frozen 0", room)
    needs = (child, events)
    q.ask("clone-into", "read", events, room, ROOM, needs=needs, read=born, out=[room])
    tell(q, f"{path}/cgroup.freeze", "1")
    frozen = q.call("clone3", arguments, arguments.size, opaque=True)
    q.ask("clone-into.frozen", "kill", frozen, 0, needs=(frozen,))
    tell(q, f"{path}/cgroup.freeze", "0")
    tell(q, f"{path}/cgroup.type", "threaded")
    for each in (child, frozen):
        q.call("kill", each, C.SIGKILL)
        q.call("wait4", each, 0, 0, 0)
    remove(q, path)
    return q.probes()


def _namespace() -> tuple[Probe, ...]:
    """A group as root of a cgroup namespace (cgroup_namespaces(7))."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    path = group(q, "namespace")
    tell(q, f"{path}/cgroup.procs", "0")
    q.ask("cgroupns", "unshare", C.CLONE_NEWCGROUP)
    ask_text(q, "cgroupns.membership", "/proc/self/cgroup", only="0::")
    kind, here = q.string("cgroup2"), q.string("mounted")
    q.call("mkdir", here, 0o755)
    mounted = q.ask("cgroupns.mount", "mount", kind, here, kind, 0, 0)
    for name in ("cgroup.procs", "cgroup.type", "memory.max", "cgroup.kill"):
        q.ask(f"cgroupns.shows.{name}", "access", q.string(f"mounted/{name}"), 0, needs=(mounted,))
    ask_write(q, "cgroupns.sets.memory.max", "mounted/memory.max", "max", mounted)
    ask_write(q, "cgroupns.enables.pids", "mounted/cgroup.subtree_control", "-pids", mounted)
    q.ask("cgroupns.mkdir", "mkdir", q.string("mounted/inner"), 0o755, needs=(mounted,))
    ask_write(q, "cgroupns.moves", "mounted/inner/cgroup.procs", "0", mounted)
    ask_text(q, "cgroupns.membership.inner", "/proc/self/cgroup", only="0::")
    ask_write(q, "cgroupns.leaves", f"{TOP}/cgroup.procs", "0", mounted)
    ask_text(q, "cgroupns.membership.outside", "/proc/self/cgroup", only="0::")
    q.call("umount2", here, _MNT_DETACH)
    remove(q, f"{path}/inner", path)
    return q.probes()


def _delegation() -> tuple[Probe, ...]:
    """A group is given to a user, who makes a rootless container of it; "Delegation" there."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    path = group(q, "delegation")
    for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
        q.call("chown", q.string(path + name), USER, USER)
    inner = f"{path}/inner"
    tell(q, f"{path}/cgroup.procs", "0")
    out = q.need("openat", C.AT_FDCWD, q.string(f"{TOP}/cgroup.procs"), C.O_WRONLY)
    q.need("setresuid", USER, USER, USER)
    q.call("prctl", C.PR_SET_DUMPABLE, 1, 0, 0, 0)
    q.ask("delegation.mkdir", "mkdir", q.string(inner), 0o755)
    ask_write(q, "delegation.moves", f"{inner}/cgroup.procs", "0")
    ask_write(q, "delegation.enables", f"{path}/cgroup.subtree_control", "+pids +memory")
    ask_write(q, "delegation.sets-inner", f"{inner}/pids.max", "100")
    ask_write(q, "delegation.sets-own", f"{path}/pids.max", "100")
    ask_write(q, "delegation.leaves", f"{TOP}/cgroup.procs", "0")
    # opened by root, written by the user: who opened it decides (CVE-2021-4197)
    q.ask("delegation.leaves-by-descriptor", "write", out, q.string("0"), 1)
    ask_write(q, "delegation.pressure", f"{inner}/memory.pressure", "some 1000000 2000000")
    ask_write(
        q, "delegation.pressure.short-window", f"{inner}/memory.pressure", "some 150000 1000000"
    )
    every = C.CLONE_NEWUSER | C.CLONE_NEWCGROUP | C.CLONE_NEWNS
    made = q.ask("delegation.namespaces", "unshare", every)
    kind, here = q.string("cgroup2"), q.string(".")
    q.ask("delegation.mount", "mount", kind, here, kind, 0, 0, needs=(made,))
    # it may, and 0 is no way to: so it lives on
    ask_write(q, "delegation.kills", f"{inner}/cgroup.kill", "0", fine=("ERANGE",))
    return q.probes()


def _attributes() -> tuple[Probe, ...]:
    """Extended attributes, by which systemd marks groups (xattr(7))."""
    q = Questions()
    path = group(q, "attributes")
    folder, file, value = q.string(path), q.string(f"{path}/cgroup.procs"), q.string("1")
    for name in ("user", "trusted", "security"):
        attribute = q.string(f"{name}.hostabi")
        q.ask(f"group.xattr.{name}", "setxattr", folder, attribute, value, 1, 0)
        q.ask(f"group.xattr.{name}.file", "setxattr", file, attribute, value, 1, 0)
    remove(q, path)
    return q.probes()
