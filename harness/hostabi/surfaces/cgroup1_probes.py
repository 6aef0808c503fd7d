"""What control groups of version 1 do, found by trying (kernel: admin-guide/cgroup-v1/).

The hierarchies are those that systemd mounts below :data:`TOP`, and a program
that needs a group makes it in there and removes it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children
from hostabi.surfaces.cgroup_asks import ask_text, ask_write, killed, nobody, shows_option
from hostabi.surfaces.cgroup_writes import V1, Table, ask_writes, tell
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.table import C

TOP = "/sys/fs/cgroup"
NAMED = "systemd"
"""The hierarchy without controllers."""
CONTROLLERS = (
    "cpuset",
    "cpu,cpuacct",
    "memory",
    "blkio",
    "devices",
    "freezer",
    "net_cls,net_prio",
    "perf_event",
    "pids",
    "hugetlb",
    "rdma",
    "misc",
    "debug",
)
"""What systemd mounts as one hierarchy each, of all controllers that version 1 knows or knew."""
OPTIONS = (
    "none,name=hostabi",
    "none,name=hostabi,xattr",
    "none,name=hostabi,clone_children",
    "none,name=hostabi,release_agent=/bin/true",
    "none,name=hostabi,noprefix",
    "none,name=hostabi,favordynmods",
    "none,name=hostabi,cpuset_v2_mode",
    "none,name=hostabi,nonsense",
    "none",
    "nonsense",
    "name=hosta/bi,none",
)
"""Options of mount(2), one set a mount, in a hierarchy that is gone afterwards."""

_ARENA = 1 << 18
_MNT_DETACH = 2
"""umount2(2); the C library's, as no header of the kernel has it."""


def mount_probes() -> tuple[Probe, ...]:
    """Hierarchies, sets of options, and the file system type of cpusets (cpusets.rst)."""
    q = Questions(namespaces=C.CLONE_NEWNS, arena=_ARENA, timeout=10.0)
    here = q.string(".")
    wanted = [(f"controller.{names}", "cgroup", names) for names in CONTROLLERS]
    wanted += [(f"mount.{options}", "cgroup", options) for options in OPTIONS]
    wanted += [("mount.type=cpuset", "cpuset", ""), ("mount.all", "cgroup", "all")]
    for key, kind, options in wanted:
        what = q.string(options) if options else 0
        done = q.call("mount", q.string("cgroup"), here, q.string(kind), 0, what)
        room = q.buffer(4096)
        mounts = q.call("openat", C.AT_FDCWD, q.string("/proc/self/mounts"), C.O_RDONLY)
        shown = [option for option in options.split(",") if option not in ("", "none", "all")]
        read = shows_option(shown, room)
        q.ask(key, "read", mounts, room, 4096, needs=(done, mounts), read=read, out=[room])
        q.call("close", mounts)
        # only what was mounted here: an error left the folder as it was
        q.call("umount2", here, _MNT_DETACH)
    return q.probes()


def folder_of(file: str) -> str:
    """The folder of the hierarchy that a file of this name belongs to."""
    if file == "cgroup.event_control":
        return "memory"
    prefix = file.partition(".")[0]
    return next((names for names in CONTROLLERS if prefix in names.split(",")), NAMED)


def write_probes(device: str) -> Iterator[Probe]:
    """What the files of a group accept. ``device`` is the number of a disk."""
    tables: dict[str, Table] = dict.fromkeys((NAMED, *CONTROLLERS), ())
    for file, texts in V1:
        tables[folder_of(file)] += ((file, texts),)
    for folder, table in tables.items():
        if table:
            q = Questions(arena=_ARENA, timeout=10.0)
            path = f"{TOP}/{folder}/hostabi"
            q.need("mkdir", q.string(path), 0o755)
            ask_writes(q, path, table, device=device, needs=())
            q.call("rmdir", q.string(path))
            yield from q.probes()


def probes() -> Iterator[Probe]:
    """What groups do."""
    for make in (_devices, _freezer, _pids, _memory, _structure):
        yield from make()


def _enter(q: Questions, controller: str) -> str:
    """Make a group and go into it; its path."""
    path = f"{TOP}/{controller}/hostabi"
    q.need("mkdir", q.string(path), 0o755)
    tell(q, f"{path}/tasks", "0")
    return path


def _leave(q: Questions, controller: str) -> None:
    tell(q, f"{TOP}/{controller}/tasks", "0")
    q.call("rmdir", q.string(f"{TOP}/{controller}/hostabi"))


def _devices() -> tuple[Probe, ...]:
    """A list of devices decides what can be opened and made (devices.rst)."""
    q = Questions()
    path = _enter(q, "devices")
    tell(q, f"{path}/devices.deny", "a")
    node, null = q.string("node"), q.string("/dev/null")
    q.ask("devices.deny#open", "openat", C.AT_FDCWD, null, C.O_RDWR)
    q.ask("devices.deny#mknod", "mknod", node, C.S_IFCHR | 0o600, 0x103)
    ask_text(q, "devices.list#of-denied", f"{path}/devices.list")
    tell(q, f"{path}/devices.allow", "c 1:3 rw")
    q.ask("devices.allow#open", "openat", C.AT_FDCWD, null, C.O_RDWR)
    q.ask("devices.allow#mknod", "mknod", node, C.S_IFCHR | 0o600, 0x103)
    ask_text(q, "devices.list#of-allowed", f"{path}/devices.list")
    _leave(q, "devices")
    return q.probes()


def _freezer() -> tuple[Probe, ...]:
    """What is frozen does not die (freezer-subsystem.rst)."""
    q = Questions(children=Children.PAUSE)
    path = _enter(q, "freezer")
    child = q.need("fork", opaque=True)
    tell(q, f"{TOP}/freezer/tasks", "0")
    ask_write(q, "freezer.state#of-process", f"{path}/freezer.state", "FROZEN")
    status = q.buffer(4)
    q.call("kill", child, C.SIGKILL)
    q.ask("freezer.state#kill-frozen", "wait4", child, status, C.WNOHANG, 0, read=nobody)
    ask_write(q, "freezer.state#thaw", f"{path}/freezer.state", "THAWED")
    dead = killed(status)
    q.ask("freezer.state#kill-thawed", "wait4", child, status, 0, 0, read=dead, out=[status])
    q.call("rmdir", q.string(path))
    return q.probes()


def _pids() -> tuple[Probe, ...]:
    q = Questions()
    path = _enter(q, "pids")
    tell(q, f"{path}/pids.max", "1")
    q.ask("pids.max#fork-beyond", "fork", opaque=True)
    ask_text(q, "pids.events#of-fork-beyond", f"{path}/pids.events")
    _leave(q, "pids")
    return q.probes()


def _memory() -> tuple[Probe, ...]:
    """Notifications by eventfd (memory.rst, "Memory thresholds", "OOM control")."""
    q = Questions()
    path = f"{TOP}/memory/hostabi"
    q.need("mkdir", q.string(path), 0o755)
    for file, rest in (
        ("memory.usage_in_bytes", " 1048576"),
        ("memory.oom_control", ""),
        ("memory.pressure_level", " low"),
    ):
        # numbered from 3 in a fresh process: the event's, then the file's
        event = q.call("eventfd2", 0, 0)
        watched = q.call("openat", C.AT_FDCWD, q.string(f"{path}/{file}"), C.O_RDONLY)
        control = q.call("openat", C.AT_FDCWD, q.string(f"{path}/cgroup.event_control"), C.O_WRONLY)
        text = f"3 4{rest}"
        needs = (event, watched, control)
        q.ask(f"{file}#eventfd", "write", control, q.string(text), len(text), needs=needs)
        for fd in needs:
            q.call("close", fd)
    q.call("rmdir", q.string(path))
    return q.probes()


def _structure() -> tuple[Probe, ...]:
    """Groups as folders."""
    q = Questions()
    path = _enter(q, NAMED)
    old, new = q.string(path), q.string(f"{TOP}/{NAMED}/hostabi-renamed")
    q.ask("group.rename", "rename", old, new)
    q.call("rename", new, old)
    q.ask("group.rmdir.populated", "rmdir", old)
    ask_text(q, "group.membership", "/proc/self/cgroup", only=f":name={NAMED}:")
    value = q.string("1")
    for name in ("user", "trusted"):
        q.ask(f"group.xattr.{name}", "setxattr", old, q.string(f"{name}.hostabi"), value, 1, 0)
    _leave(q, NAMED)
    return q.probes()
