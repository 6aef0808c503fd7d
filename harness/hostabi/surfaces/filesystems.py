"""File systems that can be mounted, by mount(2) and by the newer calls, and with which options.

``TYPE`` and ``TYPE.OPTION`` are mounts made by mount(2); with ``.fsmount`` at the
end they are made by fsopen(2), fsconfig(2) and fsmount(2). ``idmap.TYPE`` is a mount
whose owners are mapped anew. An option counts when there is a mount that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Fact
from hostabi.model import Value as FactValue
from hostabi.surfaces.filesystems_idmap import idmapped
from hostabi.surfaces.filesystems_overlay import overlay
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.mounting import Mounter, Way, mounting
from hostabi.surfaces.probing import HOST, USERNS, Probe, ProbeSurface, Questions, Read
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Builder, Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_BINFMT = "binfmt_misc"
MODULES = ("overlay", "fuse", _BINFMT)
"""File systems that the kernel would load by itself for a container that mounts them. What
others there are tell the surfaces ``modules`` and ``config``."""

_PLAIN = (
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "mqueue",
    "hugetlbfs",
    "bpf",
    "binfmt_misc",
    "debugfs",
    "tracefs",
    "securityfs",
    "fusectl",
    "pstore",
)
"""Types that need neither a device nor an option."""
_OF_DEVICES = ("ext2", "ext3", "ext4", "fuseblk")

OPTIONS = {
    "tmpfs": (
        "size=1m",
        "size=50%",
        "size=0",
        "nr_blocks=64",
        "nr_inodes=64",
        "mode=1777",
        "uid=0",
        "gid=0",
        "uid=1",
        "huge=never",
        "huge=always",
        "huge=advise",
        "huge=within_size",
        "inode32",
        "inode64",
        "noswap",
        "quota",
        "usrquota",
        "grpquota",
        "usrquota_block_hardlimit=1m",
        "mpol=default",
        "mpol=local",
        "mpol=prefer:0",
        "mpol=bind:0",
        "mpol=interleave:0",
        "casefold",
        "casefold=utf8-12.1.0",
        "strict_encoding",
        "nosuch",
    ),
    "ramfs": ("mode=700", "nosuch"),
    "proc": (
        "hidepid=0",
        "hidepid=1",
        "hidepid=2",
        "hidepid=4",
        "hidepid=off",
        "hidepid=noaccess",
        "hidepid=invisible",
        "hidepid=ptraceable",
        "gid=0",
        "subset=pid",
        "pidns=/proc/self/ns/pid",
        "nosuch",
    ),
    "sysfs": ("nosuch",),
    "devpts": (
        "newinstance",
        "ptmxmode=666",
        "mode=620",
        "uid=0",
        "gid=0",
        "gid=5",
        "max=10",
        "nosuch",
    ),
    "mqueue": ("nosuch",),
    "hugetlbfs": (
        "size=2m",
        "min_size=0",
        "nr_inodes=16",
        "pagesize=2M",
        "mode=700",
        "uid=0",
        "gid=0",
        "nosuch",
    ),
    "bpf": ("mode=700", "nosuch"),
    "binfmt_misc": ("nosuch",),
}
"""Options that each type is mounted with, one at a time."""
_GENERAL = ("ro", "rw", "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "iversion")
"""Parameters that the kernel knows for every type, of fsconfig(2) only."""
_MOUNTS = 8192
"""Bytes of mountinfo that are looked at; proc_pid_mountinfo(5)."""
_DELEGATED = ("delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs")
"""Options of a file system that takes any; what it took, it shows (kernel: bpf/fs)."""
_FUSE_OPTIONS = (
    "",
    "allow_other",
    "default_permissions",
    "max_read=4096",
    "blksize=4096",
    "subtype=a",
    "nosuch",
)


def everywhere() -> Iterator[Probe]:
    """What the root of the machine is asked, and of a user namespace."""
    for way in Way:
        m = mounting(way)
        _types(m)
        _options(m)
        if way is Way.FSMOUNT:
            _general(m)
            _texts(m)
        yield from m.q.probes()
    yield from overlay()
    yield from idmapped()


def for_root() -> Iterator[Probe]:
    """What needs a device that belongs to root, or can be asked by root only."""
    for way in Way:
        m = mounting(way)
        _fuse(m)
        yield from m.q.probes()
    yield from _delegated()


class Filesystems(Joined):
    """Options, of types that can be mounted."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes, and take away the module that no other surface loads."""
        agent = source.live
        had = _has_module(agent, _BINFMT)
        facts = super().capture(source)
        if not had and agent.hello.euid == 0 and _has_module(agent, _BINFMT):
            b = Builder()
            b.call("delete_module", b.string(_BINFMT), C.O_NONBLOCK)
            agent.run([b.build().program])
        return determined(facts)


def _has_module(agent: Agent, name: str) -> bool:
    try:
        lines = agent.read("/proc/modules", limit=1 << 20).decode(errors="replace").splitlines()
    except CallError:
        return False
    return any(line.split(" ")[0] == name for line in lines)


def determined(facts: Sequence[Fact]) -> list[Fact]:
    """What fails says nothing about what is added to it: a type's options, an option's forms."""
    lost = {fact.key for fact in facts if keys.failed(fact.value)}

    def told(fact: Fact) -> Fact:
        whole = next((key for key in _wholes(fact.key) if key in lost), "")
        if not whole:
            return fact
        return msgspec.structs.replace(fact, value=None, detail=f"{whole} fails")

    return [told(fact) for fact in facts]


def _wholes(key: str) -> Iterator[str]:
    """What a fact is a part of, mounted in the same way by the same view."""
    named, *view = key.split("#")
    subject = named.removeprefix("idmap.")
    way = Way.FSMOUNT if subject.endswith(Way.FSMOUNT) else Way.MOUNT
    parts = subject.removesuffix(way).split(".")
    counts = range(1, len(parts) + (subject != named))
    for count in counts:
        yield "#".join([".".join(parts[:count]) + way, *view])


SURFACE = Filesystems(
    "filesystems",
    (
        ProbeSurface("filesystems", everywhere, (HOST, USERNS), MODULES),
        ProbeSurface("filesystems", for_root, (HOST,), MODULES),
    ),
)


def _types(m: Mounter) -> None:
    """Which types there are. One of a device is known by what it says of a folder instead."""
    for kind in _PLAIN:
        m.ask(kind, kind)
    for kind in _OF_DEVICES:
        m.ask(kind, kind, [("source", ".")], fine=("ENOTBLK",))


def _options(m: Mounter) -> None:
    for kind, options in OPTIONS.items():
        for option in options:
            m.ask(f"{kind}.{option}", kind, parameters(option))


def parameters(options: str) -> list[tuple[str, str | None]]:
    """Names and values of options with commas between them; one without a value is a flag."""
    pairs = (each.partition("=") for each in options.split(",") if each)
    return [(name, value if equals else None) for name, equals, value in pairs]


def _fuse(m: Mounter) -> None:
    """fuse(4); a descriptor serves one mount only. The first of a fresh process is 3."""
    q = m.q
    for _ in _FUSE_OPTIONS:
        q.need("openat", C.AT_FDCWD, q.string("/dev/fuse"), C.O_RDWR)
    for fd, option in enumerate(_FUSE_OPTIONS, 3):
        own = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
        m.ask(f"fuse.{option}" if option else "fuse", "fuse", parameters(f"{own},{option}"))


def _delegated() -> tuple[Probe, ...]:
    q = Questions(namespaces=C.CLONE_NEWNS, timeout=5.0)
    kind, here = q.string("bpf"), q.string("bpf")
    q.need("mkdir", here, 0o755)
    every = q.string(",".join(f"{name}=any" for name in _DELEGATED))
    q.need("mount", kind, here, kind, 0, every)
    mounts = q.need("openat", C.AT_FDCWD, q.string("/proc/self/mountinfo"), C.O_RDONLY)
    room = q.buffer(_MOUNTS)
    for name in _DELEGATED:
        read = _shown(room, name)
        q.ask(f"bpf.{name}", "pread64", mounts, room, _MOUNTS, 0, read=read, out=[room])
    return q.probes()


def _shown(room: Slot, option: str) -> Read:
    def read(trace: Trace, ref: Ref) -> FactValue:
        text = trace.bytes(ref, room)[: trace[ref]]
        return keys.OK if option.encode() in text else "without effect"

    return read


def _general(m: Mounter) -> None:
    for option in _GENERAL:
        m.ask(f"any.{option}", "tmpfs", [(option, None)])
    m.ask("any.source", "tmpfs", [("source", "x")])
    m.ask("any.source-twice", "tmpfs", [("source", "x"), ("source", "y")])
    m.ask("any.no-value", "tmpfs", [("size", None)])


def _texts(m: Mounter) -> None:
    """How long names and values may be that fsconfig(2) takes: "size=0...01m" is long enough."""
    q = m.q
    for length in (255, 256):
        m.ask(f"fsconfig.value.{length}", "tmpfs", [("size", "1m".rjust(length, "0"))])
    fs = q.call("fsopen", q.string("tmpfs"), 0)
    nothing = q.string("")
    for length in (255, 256):
        # a name that is too long is refused in another way than one that nobody knows
        name = q.string("n" * length)
        key = f"fsconfig.name.{length}"
        q.ask(key, "fsconfig", fs, C.FSCONFIG_SET_FLAG, name, 0, 0, needs=(fs,))
    size = q.string("size")
    q.ask("fsconfig.value.empty", "fsconfig", fs, C.FSCONFIG_SET_STRING, size, nothing, 0)
    for command in ("SET_BINARY", "SET_PATH", "SET_PATH_EMPTY", "SET_FD"):
        value = getattr(C, f"FSCONFIG_{command}")
        q.ask(f"fsconfig.{command}.for-text", "fsconfig", fs, value, size, nothing, 1)
    once = q.call("fsconfig", fs, C.FSCONFIG_CMD_CREATE, 0, 0, 0)
    q.ask("fsconfig.CMD_CREATE.twice", "fsconfig", fs, C.FSCONFIG_CMD_CREATE, 0, 0, 0)
    q.call("fsmount", fs, 0, 0)
    mode = q.string("1m")
    needs = (fs, once)
    q.ask("fsconfig.after-mount", "fsconfig", fs, 1, size, mode, 0, needs=needs)
    q.ask("fsconfig.CMD_RECONFIGURE", "fsconfig", fs, C.FSCONFIG_CMD_RECONFIGURE, 0, 0, 0)
    alone = q.call("fsopen", q.string("tmpfs"), 0)
    exclusive = C.FSCONFIG_CMD_CREATE_EXCL
    q.ask("fsconfig.CMD_CREATE_EXCL", "fsconfig", alone, exclusive, 0, 0, 0, needs=(alone,))
    _messages(q)


def _messages(q: Questions) -> None:
    """What read(2) of an fsopen(2) descriptor tells after a failure; ENODATA where nothing."""
    fs = q.call("fsopen", q.string("tmpfs"), 0)
    name = q.string("nosuchoption")
    q.call("fsconfig", fs, C.FSCONFIG_SET_FLAG, name, 0, 0)
    q.ask("fsopen.read", "read", fs, q.buffer(256), 256, needs=(fs,))
