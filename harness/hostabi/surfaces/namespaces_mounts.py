"""Mount namespaces: another root, and what a user namespace may not undo (mount_namespaces(7))."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.table import C

_DETACH = 2
"""MNT_DETACH of umount2(2); in no header of the UAPI."""


def pivots() -> Iterator[Probe]:
    """pivot_root(2) and chroot(2)."""
    for make in (_pivot, _pivot_here, _refused, _chroot):
        yield from make()


def locked() -> Iterator[Probe]:
    """Mounts that came from a more privileged namespace, and mounts of what one does not own."""
    for make in (_inherited, _not_owned):
        yield from make()


def _root(q: Questions) -> tuple[Slot, Slot]:
    """A tmpfs that could be a root, with a folder for the old one; both names."""
    kind, new, old = q.string("tmpfs"), q.string("new"), q.string("new/old")
    q.need("mount", 0, q.string("/"), 0, C.MS_REC | C.MS_PRIVATE, 0)
    q.need("mkdir", new, 0o755)
    q.need("mount", kind, new, kind, 0, 0)
    q.need("mkdir", old, 0o755)
    return new, old


def _questions() -> Questions:
    return Questions(namespaces=C.CLONE_NEWNS, timeout=5.0)


def _pivot() -> tuple[Probe, ...]:
    """With a folder for the old root."""
    q = _questions()
    new, old = _root(q)
    turned = q.ask("pivot_root", "pivot_root", new, old)
    q.ask("pivot_root.umount-old", "umount2", q.string("/old"), _DETACH, needs=(turned,))
    q.ask("pivot_root.unshare-users", "unshare", C.CLONE_NEWUSER, needs=(turned,))
    return q.probes()


def _pivot_here() -> tuple[Probe, ...]:
    """pivot_root(2), ``pivot_root(".", ".")``: how runtimes do it."""
    q = _questions()
    new, _ = _root(q)
    q.need("chdir", new)
    here = q.string(".")
    turned = q.ask("pivot_root.here", "pivot_root", here, here)
    q.ask("pivot_root.here.umount-old", "umount2", here, _DETACH, needs=(turned,))
    q.ask("pivot_root.here.chdir", "chdir", q.string("/old"), needs=(turned,))
    return q.probes()


def _refused() -> tuple[Probe, ...]:
    q = _questions()
    new, old = _root(q)
    q.call("mkdir", q.string("plain"), 0o755)
    q.call("mkdir", q.string("plain/old"), 0o755)
    q.ask("pivot_root.no-mount", "pivot_root", q.string("plain"), q.string("plain/old"))
    q.ask("pivot_root.old-outside", "pivot_root", new, q.string("plain"))
    shared = q.call("mount", 0, new, 0, C.MS_SHARED, 0)
    q.ask("pivot_root.shared-new", "pivot_root", new, old, needs=(shared,))
    shared = q.call("mount", 0, q.string("/"), 0, C.MS_SHARED, 0)
    q.ask("pivot_root.shared-root", "pivot_root", new, old, needs=(shared,))
    moved = (new, q.string("/"), 0, C.MS_MOVE, 0)
    q.ask("mount.MS_MOVE.to-root", "mount", *moved)
    return q.probes()


def _chroot() -> tuple[Probe, ...]:
    """user_namespaces(7): whoever is in a chroot does not get one."""
    q = _questions()
    q.need("mkdir", q.string("plain"), 0o755)
    inside = q.ask("chroot", "chroot", q.string("plain"))
    q.ask("chroot.unshare-mounts", "unshare", C.CLONE_NEWNS, needs=(inside,))
    q.ask("chroot.unshare-users", "unshare", C.CLONE_NEWUSER, needs=(inside,))
    return q.probes()


def _inherited() -> tuple[Probe, ...]:
    """mount_namespaces(7), "Restrictions on mount namespaces"."""
    q = Questions(namespaces=C.CLONE_NEWNS, timeout=5.0)
    kind, here = q.string("tmpfs"), q.string("at")
    flags = C.MS_NOSUID | C.MS_NODEV | C.MS_NOEXEC | C.MS_RDONLY | C.MS_NOATIME
    q.need("mkdir", here, 0o755)
    q.need("mount", 0, q.string("/"), 0, C.MS_REC | C.MS_SHARED, 0)
    q.need("mount", kind, here, kind, flags, 0)
    q.need("unshare", C.CLONE_NEWUSER | C.CLONE_NEWNS)
    q.ask("locked.umount", "umount2", here, 0)
    q.ask("locked.umount.MNT_DETACH", "umount2", here, _DETACH)
    remount = C.MS_REMOUNT | C.MS_BIND
    q.ask("locked.remount.same", "mount", 0, here, 0, remount | flags, 0)
    for name in ("NOSUID", "NODEV", "NOEXEC", "RDONLY", "NOATIME"):
        less = flags & ~getattr(C, f"MS_{name}")
        q.ask(f"locked.remount.without-{name}", "mount", 0, here, 0, remount | less, 0)
    more = flags | C.MS_NOSYMFOLLOW
    q.ask("locked.remount.more", "mount", 0, here, 0, remount | more, 0)
    q.call("mkdir", q.string("to"), 0o755)
    root, to = q.string("/"), q.string("to")
    q.ask("locked.bind", "mount", root, to, 0, C.MS_BIND, 0)
    q.ask("locked.bind-recursive", "mount", root, to, 0, C.MS_BIND | C.MS_REC, 0)
    q.ask("locked.move", "mount", here, to, 0, C.MS_MOVE, 0)
    q.ask("locked.MS_PRIVATE", "mount", 0, root, 0, C.MS_REC | C.MS_PRIVATE, 0)
    q.ask("locked.MS_SHARED", "mount", 0, root, 0, C.MS_REC | C.MS_SHARED, 0)
    q.ask("locked.open_tree", "open_tree", C.AT_FDCWD, root, C.OPEN_TREE_CLONE)
    whole = C.OPEN_TREE_CLONE | C.AT_RECURSIVE
    q.ask("locked.open_tree-recursive", "open_tree", C.AT_FDCWD, root, whole)
    return q.probes()


def _not_owned() -> tuple[Probe, ...]:
    """Mounts that show a namespace, by the root of a user namespace that does not own it."""
    q = Questions(namespaces=C.CLONE_NEWUSER | C.CLONE_NEWNS, timeout=5.0)
    q.need("mkdir", q.string("at"), 0o755)
    for name in ("proc", "sysfs", "mqueue", "cgroup2", "tmpfs", "devpts"):
        kind = q.string(name)
        q.ask(f"not-owned.{name}", "mount", kind, q.string("at"), kind, 0, 0)
    return q.probes()
