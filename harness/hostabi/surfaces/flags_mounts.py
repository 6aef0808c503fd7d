"""Flags of calls about mounts: mount(2), umount2(2) and the newer ones."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.surfaces.flag_names import bits, named
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C

_FREE = 1 << 30
_MS = (
    "RDONLY",
    "NOSUID",
    "NODEV",
    "NOEXEC",
    "SYNCHRONOUS",
    "MANDLOCK",
    "DIRSYNC",
    "NOSYMFOLLOW",
    "NOATIME",
    "NODIRATIME",
    "SILENT",
    "POSIXACL",
    "RELATIME",
    "KERNMOUNT",
    "I_VERSION",
    "STRICTATIME",
    "LAZYTIME",
    "SUBMOUNT",
    "NOREMOTELOCK",
    "NOSEC",
    "BORN",
    "ACTIVE",
)
_PROPAGATION = ("SHARED", "PRIVATE", "SLAVE", "UNBINDABLE")
_UMOUNT = {"MNT_FORCE": 1, "MNT_DETACH": 2, "MNT_EXPIRE": 4, "UMOUNT_NOFOLLOW": 8, "unknown": 16}
"""umount2(2); in no header of the UAPI."""


def for_containers() -> Iterator[Probe]:
    """What the root of a user namespace may be refused."""
    yield from _mount()
    yield from _attributes()


def for_root() -> Iterator[Probe]:
    """What is the same for whoever may mount."""
    for make in (_umount, _trees, _moves, _contexts, _told):
        yield from make()


def _begin() -> Questions:
    """A folder that is a mount of its own, and shared with nobody."""
    q = Questions(namespaces=C.CLONE_NEWNS, timeout=5.0)
    kind = q.string("tmpfs")
    q.need("mkdir", q.string("at"), 0o755)
    q.need("mount", kind, q.string("at"), kind, 0, 0)
    for name in ("at/a", "at/b", "at/c"):
        q.need("mkdir", q.string(name), 0o755)
    q.need("mount", 0, q.string("at"), 0, C.MS_PRIVATE, 0)
    return q


def _mount() -> tuple[Probe, ...]:
    """mount(2), "mountflags": of a new mount, of one that is changed, of a bind."""
    q = _begin()
    kind, here, at = q.string("tmpfs"), q.string("at/a"), q.string("at")
    for name, flag in (named("MS_", *_MS) | {"NOUSER": 1 << 31}).items():
        made = q.ask(f"mount.MS_{name}", "mount", kind, here, kind, flag, 0)
        change = (0, here, 0, C.MS_REMOUNT | flag, 0)
        q.ask(f"mount.MS_REMOUNT.MS_{name}", "mount", *change, needs=(made,))
        change = (0, here, 0, C.MS_REMOUNT | C.MS_BIND | flag, 0)
        q.ask(f"mount.MS_REMOUNT-MS_BIND.MS_{name}", "mount", *change, needs=(made,))
        q.call("umount2", here, 2)
    bind = q.ask("mount.MS_BIND", "mount", at, here, 0, C.MS_BIND, 0)
    q.ask("mount.MS_BIND-MS_REC", "mount", at, q.string("at/b"), 0, C.MS_BIND | C.MS_REC, 0)
    q.ask("mount.MS_MOVE", "mount", here, q.string("at/c"), 0, C.MS_MOVE, 0, needs=(bind,))
    for name in _PROPAGATION:
        flag = getattr(C, f"MS_{name}")
        q.ask(f"mount.MS_{name}", "mount", 0, at, 0, flag, 0)
        q.ask(f"mount.MS_{name}-MS_REC", "mount", 0, at, 0, flag | C.MS_REC, 0)
    q.ask("mount.MS_SHARED-MS_SLAVE", "mount", 0, at, 0, C.MS_SHARED | C.MS_SLAVE, 0)
    q.ask("mount.of-unbindable", "mount", at, here, 0, C.MS_BIND, 0)
    return q.probes()


def _umount() -> tuple[Probe, ...]:
    q = _begin()
    kind, here = q.string("tmpfs"), q.string("at/a")
    for name, flag in _UMOUNT.items():
        q.call("mount", kind, here, kind, 0, 0)
        # to mark it takes one call, to unmount what is marked another one
        q.ask(f"umount2.{name}", "umount2", here, flag, fine=("EAGAIN",))
    q.ask("umount2.EXPIRE-DETACH", "umount2", here, 6)
    q.ask("umount2.no-mount", "umount2", q.string("at/b"), 0)
    return q.probes()


def _set(q: Questions, key: str, tree: Ref, flags: int = C.AT_EMPTY_PATH, **fields: Value) -> Ref:
    attributes = q.struct("struct mount_attr", **fields)
    return q.ask(key, "mount_setattr", tree, q.string(""), flags, attributes, 32, needs=(tree,))


def _attributes() -> tuple[Probe, ...]:
    """mount_setattr(2); MOUNT_ATTR_IDMAP is asked by the surface ``filesystems``."""
    q = _begin()
    times = ("NOATIME", "STRICTATIME")
    wanted = bits("MOUNT_ATTR_", ("IDMAP", "SIZE_VER0")) | {"RELATIME": 0, "unknown": 1 << 40}
    for name, bit in wanted.items():
        tree = q.call("open_tree", C.AT_FDCWD, q.string("at"), C.OPEN_TREE_CLONE)
        label = name if name == "unknown" else f"MOUNT_ATTR_{name}"
        clears = C.MOUNT_ATTR__ATIME if name in times or name == "RELATIME" else 0
        _set(q, f"mount_setattr.set.{label}", tree, attr_set=bit, attr_clr=clears)
        if bit and name not in times:
            _set(q, f"mount_setattr.clear.{label}", tree, attr_clr=bit)
    tree = q.call("open_tree", C.AT_FDCWD, q.string("at"), C.OPEN_TREE_CLONE)
    _set(q, "mount_setattr.atime-not-cleared", tree, attr_set=C.MOUNT_ATTR_NOATIME)
    at = q.call("openat", C.AT_FDCWD, q.string("at"), C.O_PATH)
    for name in _PROPAGATION:
        _set(q, f"mount_setattr.propagation.MS_{name}", at, propagation=getattr(C, f"MS_{name}"))
    _set(q, "mount_setattr.propagation.unknown", at, propagation=1)
    for name in ("RECURSIVE", "SYMLINK_NOFOLLOW", "NO_AUTOMOUNT"):
        flags = C.AT_EMPTY_PATH | getattr(C, f"AT_{name}")
        _set(q, f"mount_setattr.AT_{name}", at, flags, attr_set=C.MOUNT_ATTR_NODEV)
    _set(q, "mount_setattr.AT_unknown", at, C.AT_EMPTY_PATH | _FREE, attr_set=4)
    return q.probes()


def _trees() -> tuple[Probe, ...]:
    """open_tree(2), open_tree_attr(2)."""
    q = _begin()
    at, none = q.string("at"), q.room("struct mount_attr")
    flags = {f"OPEN_TREE_{name}": bit for name, bit in bits("OPEN_TREE_").items()}
    flags["CLONE-AT_RECURSIVE"] = C.OPEN_TREE_CLONE | C.AT_RECURSIVE
    flags["CLONE-NAMESPACE"] = C.OPEN_TREE_CLONE | C.OPEN_TREE_NAMESPACE
    for name, flag in flags.items():
        q.ask(f"open_tree.{name}", "open_tree", C.AT_FDCWD, at, flag)
        q.ask(f"open_tree_attr.{name}", "open_tree_attr", C.AT_FDCWD, at, flag, none, 32)
    q.ask("open_tree_attr.unknown", "open_tree_attr", C.AT_FDCWD, at, _FREE, none, 32)
    # what nobody has mounted can be opened without being copied
    tree = q.call("open_tree", C.AT_FDCWD, at, C.OPEN_TREE_CLONE)
    again = (tree, q.string(""), C.OPEN_TREE_CLONE | C.AT_EMPTY_PATH)
    q.ask("open_tree.of-tree", "open_tree", *again, needs=(tree,))
    return q.probes()


def _moves() -> tuple[Probe, ...]:
    """move_mount(2), by flag."""
    q = _begin()
    empty, cwd = q.string(""), C.AT_FDCWD

    def tree() -> Ref:
        return q.call("open_tree", cwd, q.string("at"), C.OPEN_TREE_CLONE)

    for name, bit in (bits("MOVE_MOUNT_", ("F_EMPTY_PATH",)) | {"unknown": _FREE}).items():
        source = tree()
        label = name if name == "unknown" else f"MOVE_MOUNT_{name}"
        flags = C.MOVE_MOUNT_F_EMPTY_PATH | bit
        target: tuple[Value, Slot] = (cwd, q.string("at/b"))
        needs = [source]
        if name == "T_EMPTY_PATH":
            fd = q.call("openat", cwd, q.string("at/b"), C.O_PATH)
            target, needs = (fd, empty), [source, fd]
        if name == "BENEATH":
            # beneath a mount, of which there has to be one
            needs.append(q.call("mount", q.string("tmpfs"), q.string("at/c"), q.string("tmpfs")))
            target = (cwd, q.string("at/c"))
        q.ask(f"move_mount.{label}", "move_mount", source, empty, *target, flags, needs=needs)
        q.call("umount2", q.string("at/b"), 2)
    source = tree()
    plain = (source, empty, cwd, q.string("at/a"), C.MOVE_MOUNT_F_EMPTY_PATH)
    moved = q.ask("move_mount.F_EMPTY_PATH", "move_mount", *plain, needs=(source,))
    again = (cwd, q.string("at/a"), cwd, q.string("at/b"), 0)
    q.ask("move_mount.attached", "move_mount", *again, needs=(moved,))
    return q.probes()


def _contexts() -> tuple[Probe, ...]:
    """fsopen(2), fsmount(2), fspick(2)."""
    q = _begin()
    kind, at = q.string("tmpfs"), q.string("at")
    for name, flag in (("none", 0), ("FSOPEN_CLOEXEC", C.FSOPEN_CLOEXEC), ("unknown", _FREE)):
        q.ask(f"fsopen.{name}", "fsopen", kind, flag)
    for name, flag in (bits("FSPICK_") | {"unknown": _FREE}).items():
        label = name if name == "unknown" else f"FSPICK_{name}"
        q.ask(f"fspick.{label}", "fspick", C.AT_FDCWD, at, flag)
    picked = q.call("fspick", C.AT_FDCWD, at, 0)
    change = (picked, C.FSCONFIG_CMD_RECONFIGURE, 0, 0, 0)
    q.ask("fspick.reconfigure", "fsconfig", *change, needs=(picked,))
    for name, flag in (bits("FSMOUNT_") | {"none": 0, "unknown": _FREE}).items():
        label = name if name in ("none", "unknown") else f"FSMOUNT_{name}"
        _fsmount(q, f"fsmount.{label}", flag, 0)
    attributes = bits("MOUNT_ATTR_", ("SIZE_VER0",)) | {"unknown": 1 << 28}
    for name, bit in attributes.items():
        label = name if name == "unknown" else f"MOUNT_ATTR_{name}"
        _fsmount(q, f"fsmount.attributes.{label}", 0, bit)
    fs = q.call("fsopen", kind, 0)
    q.ask("fsconfig.unknown", "fsconfig", fs, 50, 0, 0, 0, needs=(fs,))
    return q.probes()


def _fsmount(q: Questions, key: str, flags: int, attributes: int) -> None:
    fs = q.call("fsopen", q.string("tmpfs"), 0)
    made = q.call("fsconfig", fs, C.FSCONFIG_CMD_CREATE, 0, 0, 0)
    q.ask(key, "fsmount", fs, flags, attributes, needs=(fs, made))


def _answers(told: Slot, bit: int) -> Read:
    """Whether ``told``, the mask of struct statmount, says that it was answered."""
    return lambda trace, ref: keys.OK if trace.number(ref, told) & bit else "not told"


def _told() -> tuple[Probe, ...]:
    """statmount(2), listmount(2)."""
    q = _begin()
    about = q.room("struct statx")
    q.need("statx", C.AT_FDCWD, q.string("at"), 0, C.STATX_MNT_ID_UNIQUE, about)
    number = about.at(0x90, 8).word(0, 8)
    room = q.buffer(4096)
    masks = bits("STATMOUNT_", ("BY_FD",)) | {"unknown": 1 << 50}
    told = room.at(8, 8)
    for name, bit in masks.items():
        label = name if name == "unknown" else f"STATMOUNT_{name}"
        request = q.struct("struct mnt_id_req", size=24, mnt_id=number, param=bit)
        way = (request, room, 4096, 0)
        q.ask(f"statmount.{label}", "statmount", *way, read=_answers(told, bit), out=[told])
    request = q.struct("struct mnt_id_req", size=24, mnt_id=number)
    q.ask("statmount.none", "statmount", request, room, 4096, 0)
    fd = q.call("openat", C.AT_FDCWD, q.string("at"), C.O_PATH)
    request = q.struct("struct mnt_id_req", size=32, mnt_fd=fd, param=1)
    q.ask("statmount.STATMOUNT_BY_FD", "statmount", request, room, 4096, C.STATMOUNT_BY_FD)
    request = q.struct("struct mnt_id_req", size=24, mnt_id=number, param=1)
    q.ask("statmount.flags.unknown", "statmount", request, room, 4096, _FREE)
    q.ask("statmount.small", "statmount", request, room, 16, 0)
    everything = q.struct("struct mnt_id_req", size=24, mnt_id=(1 << 64) - 1)
    for name, flag in (bits("LISTMOUNT_") | {"none": 0, "unknown": _FREE}).items():
        q.ask(f"listmount.{name}", "listmount", everything, room, 8, flag)
    below = q.struct("struct mnt_id_req", size=24, mnt_id=number)
    q.ask("listmount.below", "listmount", below, room, 8, 0)
    return q.probes()
