"""How deep things may lie in each other: user namespaces, epoll instances; options of mounts."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.table import C

_ARENA = 1 << 18


def nested() -> Iterator[Probe]:
    """All questions."""
    yield from _user_namespaces()
    yield from _epolls()
    yield from _mount_options()


def _user_namespaces() -> tuple[Probe, ...]:
    """user_namespaces(7): 32 levels. Who makes one has to have a number in its parent."""
    q = Questions(arena=_ARENA, timeout=10.0)
    maps = ["0 0 1", "0 1000 1"]
    for depth in range(1, 35):
        if depth in (1, 2, 31, 32, 33, 34):
            q.ask(f"userns.depth.{depth}", "unshare", C.CLONE_NEWUSER)
        else:
            q.call("unshare", C.CLONE_NEWUSER)
        # the first is made by root or by an ordinary user, all others by their own root
        for file, texts in (("setgroups", ["deny"]), ("uid_map", maps), ("gid_map", maps)):
            fd = q.call("openat", C.AT_FDCWD, q.string(f"/proc/self/{file}"), C.O_WRONLY)
            for text in texts:
                q.call("write", fd, q.string(text), len(text))
            q.call("close", fd)
        maps = ["0 0 1"]
    return q.probes()


def _epolls() -> tuple[Probe, ...]:
    """epoll_ctl(2), ELOOP: instances that watch each other in a row, and in a circle."""
    q = Questions()
    event = q.struct("struct epoll_event", events=C.POLLIN)
    inner = first = q.need("epoll_create1", 0)
    for depth in range(2, 7):
        outer = q.call("epoll_create1", 0)
        add = (outer, C.EPOLL_CTL_ADD, inner, event)
        q.ask(f"epoll.nested.{depth}", "epoll_ctl", *add, needs=(outer,))
        inner = outer
    q.ask("epoll.itself", "epoll_ctl", first, C.EPOLL_CTL_ADD, first, event)
    return q.probes()


def _mount_options() -> tuple[Probe, ...]:
    """mount(2), "data": options of a page and of more."""
    q = Questions(namespaces=C.CLONE_NEWNS, timeout=10.0)
    kind, here = q.string("tmpfs"), q.string(".")
    for length in (4095, 4096):
        options = q.string("size=1m".ljust(length, ","))
        q.ask(f"mount.options.{length}", "mount", kind, here, kind, 0, options)
    return q.probes()
