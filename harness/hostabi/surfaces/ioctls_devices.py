"""Requests on devices that containers are given: terminals, tun, fuse, loop, mapped blocks."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.answers import returned
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.table import C

_NODES = ("fuse", "net/tun", "loop-control", "mapper/control", "kvm", "vhost-net", "uinput", "ptmx")
"""Nodes in /dev that runtimes and rootless engines hand on."""
_TUN_FLAGS = ("NO_PI", "VNET_HDR", "MULTI_QUEUE", "NAPI", "TUN_EXCL", "NO_CARRIER")
"""IFF_* of linux/if_tun.h that come with IFF_TUN."""


def devices() -> Iterator[Probe]:
    """All questions."""
    yield from _nodes()
    yield from _fuse()
    yield from _tun()
    yield from _terminals()


def _nodes() -> tuple[Probe, ...]:
    q = Questions()
    for name in _NODES:
        path = q.string(f"/dev/{name}")
        q.ask(f"dev.{name}", "openat", C.AT_FDCWD, path, C.O_RDWR | C.O_NONBLOCK | C.O_NOCTTY)
    return q.probes()


def _fuse() -> tuple[Probe, ...]:
    """A descriptor of its own, cloned to one that is not connected: EINVAL where it is known."""
    q = Questions()
    path = q.string("/dev/fuse")
    fd = q.need("openat", C.AT_FDCWD, path, C.O_RDWR)
    other = q.content(b"\xff\xff\xff\xff")
    fine = ("EBADF", "EINVAL", "EPERM")
    for name in ("FUSE_DEV_IOC_CLONE", "FUSE_DEV_IOC_BACKING_OPEN", "FUSE_DEV_IOC_BACKING_CLOSE"):
        q.ask(name, "ioctl", fd, getattr(C, name), other)
    q.ask("FUSE_DEV_IOC_SYNC_INIT", "ioctl", fd, C.FUSE_DEV_IOC_SYNC_INIT, fine=fine)
    return q.probes()


def _tun() -> Iterator[Probe]:
    """TUNSETIFF as linux/if_tun.h has it: as the machine's root, and in a user namespace.

    The node is one of our own that everybody may open, as udev and runtimes make it.
    """
    every, root = C.CLONE_NEWNET | C.CLONE_NEWUSER, C.CLONE_NEWNET
    for view, namespaces, flags in (("", root, _TUN_FLAGS), (".userns", every, ("VNET_HDR",))):
        q = Questions()
        path = q.string("tun")
        q.need("mknod", path, C.S_IFCHR | 0o666, 10 << 8 | 200)
        q.need("chmod", path, 0o666)
        q.need("unshare", namespaces)
        kinds = {f"TUN.{flag}": C.IFF_TUN | getattr(C, f"IFF_{flag}") for flag in flags}
        for kind, bits in {"TUN": C.IFF_TUN, "TAP": C.IFF_TAP, **kinds}.items():
            fd = q.call("openat", C.AT_FDCWD, path, C.O_RDWR)
            request = q.content(bytes(16) + (bits & 0xFFFF).to_bytes(2, "little") + bytes(22))
            q.ask(f"TUNSETIFF{view}.{kind}", "ioctl", fd, C.TUNSETIFF, request, needs=(fd,))
        offload = (fd, C.TUNSETOFFLOAD, C.TUN_F_CSUM)
        q.ask(f"TUNSETIFF{view}.TUNSETOFFLOAD", "ioctl", *offload, needs=(fd,))
        yield from q.probes()


def _terminals() -> tuple[Probe, ...]:
    """ioctl_tty(2) on a pseudoterminal of a devpts of one's own."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    kind = q.string("devpts")
    place = q.string("pts")
    q.need("mkdir", place, 0o755)
    q.need("mount", kind, place, kind, 0, q.string("newinstance,ptmxmode=0666"))
    master = q.need("openat", C.AT_FDCWD, q.string("pts/ptmx"), C.O_RDWR | C.O_NOCTTY)
    number = q.content(bytes(4))
    q.ask("TIOCSPTLCK", "ioctl", master, C.TIOCSPTLCK, number)
    for name in ("TIOCGPTN", "TIOCGPTLCK", "TIOCGPKT", "TIOCGEXCL", "TIOCGDEV"):
        q.ask(name, "ioctl", master, getattr(C, name), q.buffer(4))
    q.ask("TIOCPKT", "ioctl", master, C.TIOCPKT, q.content(b"\1\0\0\0"))
    peer = q.ask("TIOCGPTPEER", "ioctl", master, C.TIOCGPTPEER, C.O_RDWR | C.O_NOCTTY)
    needs = (peer,)
    sizes = q.content(bytes([24, 0, 80, 0, 0, 0, 0, 0]))
    q.ask("TIOCSWINSZ", "ioctl", peer, C.TIOCSWINSZ, sizes, needs=needs)
    q.call("setsid", opaque=True)
    q.ask("TIOCSTI.other", "ioctl", peer, C.TIOCSTI, q.string("x"), needs=needs)
    session = q.ask("TIOCSCTTY", "ioctl", peer, C.TIOCSCTTY, 0, needs=needs)
    controlled = (peer, session)
    for name in ("TIOCGSID", "TIOCGPGRP"):
        q.ask(name, "ioctl", peer, getattr(C, name), q.buffer(4), needs=controlled)
    q.ask("TIOCSTI", "ioctl", peer, C.TIOCSTI, q.string("x"), needs=controlled)
    q.ask("TIOCEXCL", "ioctl", peer, C.TIOCEXCL, needs=needs)
    q.ask("TIOCNXCL", "ioctl", peer, C.TIOCNXCL, needs=needs)
    q.call("rt_sigprocmask", C.SIG_BLOCK, q.content(b"\xff" * 8), 0, 8)
    q.ask("TIOCNOTTY", "ioctl", peer, C.TIOCNOTTY, needs=controlled)
    q.ask("TIOCLINUX", "ioctl", peer, C.TIOCLINUX, q.content(b"\6"), needs=needs, read=returned)
    return q.probes()
