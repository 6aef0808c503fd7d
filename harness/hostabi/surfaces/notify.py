"""What tells of changes to files and of ready descriptors: inotify(7), fanotify(7), epoll(7).

``inotify.MASK`` is a watch that was made and the event that came of it,
``fanotify.CLASS.FLAG`` a group, ``fanotify.mark.KIND.MASK`` a mark. Marks and
watches are gone with their group.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Scratch
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

_CHANGES = ("CREATE", "DELETE", "DELETE_SELF", "MOVED_FROM", "MOVED_TO", "MOVE_SELF", "ATTRIB")
_USES = ("ACCESS", "MODIFY", "OPEN", "CLOSE_WRITE", "CLOSE_NOWRITE")
_CLASSES = ("NOTIF", "CONTENT", "PRE_CONTENT")
_INIT = (
    ("CLOEXEC", 0),
    ("NONBLOCK", 0),
    ("UNLIMITED_QUEUE", 0),
    ("UNLIMITED_MARKS", 0),
    ("ENABLE_AUDIT", 0),
    ("REPORT_PIDFD", 0),
    ("REPORT_TID", 0),
    ("REPORT_FID", 0),
    ("REPORT_DIR_FID", 0),
    ("REPORT_NAME", C.FAN_REPORT_DIR_FID),
    ("REPORT_DFID_NAME", 0),
    ("REPORT_TARGET_FID", C.FAN_REPORT_DFID_NAME | C.FAN_REPORT_FID),
    ("REPORT_FD_ERROR", 0),
    ("REPORT_MNT", 0),
)
"""Flags of fanotify_init(2), and what they only work with."""
_PLAIN = ("ACCESS", "MODIFY", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "OPEN_EXEC")
_NAMED = (
    *_PLAIN,
    "ATTRIB",
    "CREATE",
    "DELETE",
    "DELETE_SELF",
    "MOVED_FROM",
    "MOVED_TO",
    "MOVE_SELF",
    "RENAME",
    "FS_ERROR",
)
_ASKING = ("OPEN_PERM", "OPEN_EXEC_PERM", "ACCESS_PERM")
_MARKS = ("INODE", "MOUNT", "FILESYSTEM")
_MARK_FLAGS = (
    ("DONT_FOLLOW", C.FAN_MARK_DONT_FOLLOW),
    ("ONLYDIR", C.FAN_MARK_ONLYDIR),
    ("IGNORED_MASK", C.FAN_MARK_IGNORED_MASK),
    ("IGNORED_SURV_MODIFY", C.FAN_MARK_IGNORED_MASK | C.FAN_MARK_IGNORED_SURV_MODIFY),
    ("EVICTABLE", C.FAN_MARK_EVICTABLE),
    ("IGNORE", C.FAN_MARK_IGNORE | C.FAN_MARK_IGNORED_SURV_MODIFY),
    ("unknown", 0x8000),
)
_ROOM = 512


def _everybody() -> Iterator[Probe]:
    yield from _watches()
    yield from _groups()
    yield from _marks()
    yield from _mark_flags()
    for scratch in Scratch:
        yield from _identified(scratch)
    yield from _epoll()


def _watches() -> tuple[Probe, ...]:
    """An event of each kind; what is read is the event."""
    q = Questions()
    here, file, other = q.string("."), q.string("file"), q.string("other")
    text, room = q.string("text"), q.buffer(_ROOM)
    for name in (*_CHANGES, *_USES):
        made = q.call("openat", C.AT_FDCWD, file, C.O_CREAT | C.O_RDWR, 0o644, opaque=True)
        q.call("write", made, text, 4)
        q.call("close", made)
        fd = q.call("inotify_init1", C.IN_NONBLOCK, opaque=True)
        where = file if name.endswith("_SELF") else here
        mask = getattr(C, f"IN_{name}")
        watch = q.call("inotify_add_watch", fd, where, mask, opaque=True)
        used = q.call("openat", C.AT_FDCWD, file, C.O_RDWR, opaque=True)
        q.call("read", used, room, 1)
        q.call("write", used, text, 1)
        q.call("fchmod", used, 0o600)
        q.call("close", used)
        q.call("close", q.call("openat", C.AT_FDCWD, file, C.O_RDONLY, opaque=True))
        q.call("mkdir", q.string(f"folder-{name}"), 0o700)
        q.call("rename", file, other)
        q.call("unlink", other)
        needs = (fd, watch)
        q.ask(f"inotify.IN_{name}", "read", fd, room, _ROOM, needs=needs, opaque=True)
        q.call("close", fd)
    fd = q.call("inotify_init1", 0, opaque=True)
    next_watch = (fd, C.INOTIFY_IOC_SETNEXTWD, 7)
    q.ask("inotify.INOTIFY_IOC_SETNEXTWD", "ioctl", *next_watch, needs=(fd,))
    watch = q.call("inotify_add_watch", fd, here, C.IN_CREATE)
    q.ask("inotify_rm_watch", "inotify_rm_watch", fd, watch, needs=(watch,))
    return q.probes()


def _groups() -> tuple[Probe, ...]:
    """fanotify_init(2): classes, flags, and flags of the descriptors that events bring."""
    q = Questions()
    for name in _CLASSES:
        kind = getattr(C, f"FAN_CLASS_{name}")
        group = q.ask(f"fanotify.FAN_CLASS_{name}", "fanotify_init", kind, 0, opaque=True)
        q.call("close", group)
        for flag, others in _INIT:
            number = kind | others | getattr(C, f"FAN_{flag}")
            key = f"fanotify.FAN_CLASS_{name}.FAN_{flag}"
            q.call("close", q.ask(key, "fanotify_init", number, 0, opaque=True))
    for name in ("RDWR", "CLOEXEC", "NOATIME", "PATH"):
        opened = getattr(C, f"O_{name}")
        group = q.ask(f"fanotify.event.O_{name}", "fanotify_init", 0, opened, opaque=True)
        q.call("close", group)
    return q.probes()


def _group(q: Questions, flags: int, event_flags: int = 0) -> Ref:
    return q.call("fanotify_init", flags | C.FAN_NONBLOCK, event_flags, opaque=True)


def _file(q: Questions) -> Value:
    name = q.string("file")
    q.call("close", q.call("openat", C.AT_FDCWD, name, C.O_CREAT | C.O_RDWR, 0o644, opaque=True))
    return name


def _marks() -> Iterator[Probe]:
    """fanotify_mark(2): what can be watched, of a file, a mount and a file system.

    Events that ask for permission are watched of one file only, which nobody opens.
    """
    for kind in _MARKS:
        q = Questions(namespaces=C.CLONE_NEWNS)
        name = _file(q)
        flags = C.FAN_MARK_ADD | getattr(C, f"FAN_MARK_{kind}")
        group = _group(q, C.FAN_CLASS_NOTIF)
        for mask in _PLAIN:
            number = getattr(C, f"FAN_{mask}")
            key = f"fanotify.mark.FAN_MARK_{kind}.FAN_{mask}"
            where = (group, flags, number, C.AT_FDCWD, name)
            q.ask(key, "fanotify_mark", *where, needs=(group,))
        if kind == "INODE":
            _permissions(q, flags, name)
        yield from q.probes()


def _permissions(q: Questions, flags: int, name: Value) -> None:
    for kind, masks in (("CONTENT", _ASKING), ("PRE_CONTENT", (*_ASKING, "PRE_ACCESS"))):
        group = _group(q, getattr(C, f"FAN_CLASS_{kind}"))
        for mask in masks:
            number = getattr(C, f"FAN_{mask}")
            key = f"fanotify.mark.FAN_CLASS_{kind}.FAN_{mask}"
            where = (group, flags, number, C.AT_FDCWD, name)
            q.ask(key, "fanotify_mark", *where, needs=(group,))
        q.call("close", group)


def _mark_flags() -> tuple[Probe, ...]:
    q = Questions()
    here = q.string(".")
    for name, flag in _MARK_FLAGS:
        group = _group(q, C.FAN_CLASS_NOTIF)
        where = (group, C.FAN_MARK_ADD | flag, C.FAN_OPEN, C.AT_FDCWD, here)
        q.ask(f"fanotify.mark.flag.FAN_MARK_{name}", "fanotify_mark", *where, needs=(group,))
        q.call("close", group)
    group = _group(q, C.FAN_CLASS_NOTIF)
    q.ask("fanotify.mark.FAN_MARK_FLUSH", "fanotify_mark", group, C.FAN_MARK_FLUSH, 0, -1, 0)
    for name in ("ONDIR", "EVENT_ON_CHILD"):
        mask = C.FAN_OPEN | getattr(C, f"FAN_{name}")
        where = (group, C.FAN_MARK_ADD, mask, C.AT_FDCWD, here)
        q.ask(f"fanotify.mark.FAN_{name}", "fanotify_mark", *where, needs=(group,))
    mounts = _group(q, C.FAN_REPORT_MNT)
    namespace = q.call("openat", C.AT_FDCWD, q.string("/proc/self/ns/mnt"), C.O_RDONLY)
    for name in ("MNT_ATTACH", "MNT_DETACH"):
        change = (mounts, C.FAN_MARK_ADD | C.FAN_MARK_MNTNS, getattr(C, f"FAN_{name}"))
        key = f"fanotify.mark.FAN_MARK_MNTNS.FAN_{name}"
        q.ask(key, "fanotify_mark", *change, namespace, 0, needs=(mounts, namespace))
    return q.probes()


def _identified(scratch: Scratch) -> tuple[Probe, ...]:
    """Groups that name files by handles, which a file system has to have."""
    q = Questions(scratch=scratch)
    here = q.string(".")
    group = _group(q, C.FAN_REPORT_FID | C.FAN_REPORT_DFID_NAME)
    masks = ("CREATE",) if scratch is Scratch.OVERLAY else _NAMED
    for kind in ("INODE", "FILESYSTEM"):
        for mask in masks:
            number = getattr(C, f"FAN_{mask}")
            flags = C.FAN_MARK_ADD | getattr(C, f"FAN_MARK_{kind}")
            key = f"fanotify.{scratch}.FAN_REPORT_DFID_NAME.FAN_MARK_{kind}.FAN_{mask}"
            where = (group, flags, number, C.AT_FDCWD, here)
            q.ask(key, "fanotify_mark", *where, needs=(group,))
    marked = q.call("fanotify_mark", group, C.FAN_MARK_ADD, C.FAN_CREATE, C.AT_FDCWD, here)
    _file(q)
    room = q.buffer(_ROOM)
    key = f"fanotify.{scratch}.FAN_CREATE.event"
    q.ask(key, "read", group, room, _ROOM, needs=(group, marked), opaque=True)
    return q.probes()


def _epoll() -> tuple[Probe, ...]:
    """epoll_pwait2(2), and what polls busily: ioctl_eventpoll(2)."""
    q = Questions()
    fd = q.need("epoll_create1", C.EPOLL_CLOEXEC, opaque=True)
    moment = q.struct("struct __kernel_timespec", tv_nsec=1)
    q.ask("epoll_pwait2", "epoll_pwait2", fd, q.buffer(64), 1, moment, 0, 8)
    busy = q.struct("struct epoll_params", busy_poll_usecs=10, busy_poll_budget=8)
    for name in ("EPIOCSPARAMS", "EPIOCGPARAMS"):
        q.ask(f"epoll.{name}", "ioctl", fd, getattr(C, name), busy)
    return q.probes()


def _queues() -> Iterator[Probe]:
    """Pipes that the kernel writes notifications to: core-api/watch_queue.rst."""
    q = Questions()
    pair = q.buffer(8)
    made = q.ask("watch_queue.O_NOTIFICATION_PIPE", "pipe2", pair, C.O_EXCL)
    sized = (pair.word(0), C.IOC_WATCH_QUEUE_SET_SIZE, 8)
    q.ask("watch_queue.IOC_WATCH_QUEUE_SET_SIZE", "ioctl", *sized, needs=(made,))
    yield from q.probes()


# Debian's kernels are tainted by permission events (linux changelog: "fanotify: Taint on use of
# FANOTIFY_ACCESS_PERMISSIONS"), and kernel.tainted is a fact of another surface.
SURFACE = Joined(
    "notify",
    (ProbeSurface("notify", _everybody), ProbeSurface("notify", _queues, (HOST,))),
    loads=True,
)
