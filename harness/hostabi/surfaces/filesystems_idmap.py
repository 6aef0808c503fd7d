"""ID-mapped mounts (mount_setattr(2), MOUNT_ATTR_IDMAP), by the type of the file system."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children, Scratch
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_TYPES = (
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "cgroup2",
    "devpts",
    "mqueue",
    "hugetlbfs",
    "bpf",
    "binfmt_misc",
)


def idmapped() -> Iterator[Probe]:
    """All questions."""
    yield from _types()
    yield from _of_ext4()
    yield from _of_overlay()


def _begin(scratch: Scratch = Scratch.TMPFS) -> tuple[Questions, Ref]:
    """A child that waits in a user namespace of its own, and that namespace's descriptor.

    The program is process 1 of a PID namespace, so that its child is process 2.
    """
    q = Questions(
        namespaces=C.CLONE_NEWNS | C.CLONE_NEWPID,
        scratch=scratch,
        timeout=5.0,
        children=Children.PAUSE,
        own_proc=True,
    )
    q.need("clone", C.CLONE_NEWUSER | C.SIGCHLD, 0, 0, 0, 0)
    for file in ("uid_map", "gid_map"):
        fd = q.need("openat", C.AT_FDCWD, q.string(f"/proc/2/{file}"), C.O_WRONLY)
        # root of the machine has many numbers to give away, that of a container one
        q.call("write", fd, q.string("0 0 1"), 5)
    return q, q.need("openat", C.AT_FDCWD, q.string("/proc/2/ns/user"), C.O_RDONLY)


def _mapped(q: Questions, users: Ref, key: str, tree: Ref, *needs: Ref) -> Ref:
    wanted = q.struct("struct mount_attr", attr_set=C.MOUNT_ATTR_IDMAP, userns_fd=users)
    way = (tree, q.string(""), C.AT_EMPTY_PATH, wanted, 32)
    return q.ask(key, "mount_setattr", *way, needs=(*needs, tree))


def _tree(q: Questions, path: str) -> Ref:
    """A mount of its own of what lies there, attached to nothing."""
    return q.call("open_tree", C.AT_FDCWD, q.string(path), C.OPEN_TREE_CLONE)


def _types() -> tuple[Probe, ...]:
    q, users = _begin()
    for kind in _TYPES:
        q.call("mkdir", q.string(kind), 0o755)
        mounted = q.call("mount", q.string(kind), q.string(kind), q.string(kind), 0, 0)
        _mapped(q, users, f"idmap.{kind}", _tree(q, kind), mounted)
    tree = _tree(q, "tmpfs")
    done = _mapped(q, users, "idmap.again", tree)
    own = q.call("openat", C.AT_FDCWD, q.string("/proc/self/ns/user"), C.O_RDONLY)
    _mapped(q, own, "idmap.by-own-namespace", _tree(q, "tmpfs"), own)
    _mapped(q, users, "idmap.attached", q.call("openat", C.AT_FDCWD, q.string("tmpfs"), C.O_PATH))
    gone = q.struct("struct mount_attr", attr_clr=C.MOUNT_ATTR_IDMAP)
    way = (tree, q.string(""), C.AT_EMPTY_PATH, gone, 32)
    q.ask("idmap.cleared", "mount_setattr", *way, needs=(tree, done))
    attr = q.struct("struct mount_attr", attr_set=C.MOUNT_ATTR_IDMAP, userns_fd=users)
    at_once = (C.AT_FDCWD, q.string("tmpfs"), C.OPEN_TREE_CLONE, attr, 32)
    q.ask("idmap.open_tree_attr", "open_tree_attr", *at_once)
    return q.probes()


def _of_overlay() -> tuple[Probe, ...]:
    q, users = _begin(Scratch.OVERLAY)
    _mapped(q, users, "idmap.overlay", _tree(q, "."))
    return q.probes()


def _of_ext4() -> tuple[Probe, ...]:
    """A file system with a device, also as a layer of an overlay."""
    q, users = _begin(Scratch.EXT4)
    for name in ("lower", "at", "upper", "work", "merged"):
        q.need("mkdir", q.string(name), 0o755)
    tree = _tree(q, "lower")
    mapped = _mapped(q, users, "idmap.ext4", tree)
    way = (tree, q.string(""), C.AT_FDCWD, q.string("at"), C.MOVE_MOUNT_F_EMPTY_PATH)
    moved = q.call("move_mount", *way)
    kind, options = q.string("overlay"), q.string("lowerdir=at,upperdir=upper,workdir=work")
    needs = (tree, mapped, moved)
    q.ask("idmap.layer", "mount", kind, q.string("merged"), kind, 0, options, needs=needs)
    return q.probes()
