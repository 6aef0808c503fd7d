"""Names of sockets: ports that are privileged, local names, addresses of others."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.table import C

_HERE, _ELSEWHERE = bytes((127, 0, 0, 1)), bytes((192, 0, 2, 1))


def binding() -> Iterator[Probe]:
    """All questions."""
    yield from _ports()
    yield from _local()
    yield from _others()


def _inet(q: Questions, address: bytes, port: int) -> Slot:
    raw = words(C.AF_INET, size=2) + port.to_bytes(2, "big") + address + bytes(8)
    return q.content(raw)


def _ports() -> tuple[Probe, ...]:
    """ip(7): ports below net.ipv4.ip_unprivileged_port_start; addresses that are not ours."""
    q = Questions()
    for kind, name in ((C.SOCK_STREAM, "tcp"), (C.SOCK_DGRAM, "udp")):
        for port in (1, 80, 1023, 1024):
            fd = q.call("socket", C.AF_INET, kind, 0, opaque=True)
            q.ask(f"bind.{name}.{port}", "bind", fd, _inet(q, _HERE, port), 16, needs=(fd,))
            q.call("close", fd)
    fd = q.call("socket", C.AF_INET, C.SOCK_DGRAM, 0, opaque=True)
    q.ask("bind.elsewhere", "bind", fd, _inet(q, _ELSEWHERE, 4000), 16, needs=(fd,))
    one = q.content(words(1))
    free = q.call("setsockopt", fd, C.SOL_IP, C.IP_FREEBIND, one, 4)
    where = (fd, _inet(q, _ELSEWHERE, 4000), 16)
    q.ask("bind.elsewhere.IP_FREEBIND", "bind", *where, needs=(fd, free))
    ping = q.call("socket", C.AF_INET, C.SOCK_DGRAM, C.IPPROTO_ICMP, opaque=True)
    q.ask("bind.ping", "bind", ping, _inet(q, _HERE, 0), 16, needs=(ping,))
    return q.probes()


def _local() -> tuple[Probe, ...]:
    """unix(7): names in the file system, abstract names, and names that the kernel makes."""
    q = Questions()
    family = words(C.AF_UNIX, size=2)
    for key, name in (
        ("path", b"socket\0"),
        ("path.107", b"s" * 107 + b"\0"),
        ("path.108", b"s" * 108),
        ("abstract", b"\0hostabi"),
        ("abstract.107", b"\0" + b"h" * 107),
        ("autobind", b""),
    ):
        fd = q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0, opaque=True)
        raw = q.content(family + name)
        q.ask(f"bind.unix.{key}", "bind", fd, raw, raw.size, needs=(fd,))
        if key in ("path", "abstract"):
            heard = q.call("listen", fd, 1)
            caller = q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0, opaque=True)
            needs = (fd, heard, caller)
            q.ask(f"connect.unix.{key}", "connect", caller, raw, raw.size, needs=needs)
            q.ask(f"accept.unix.{key}", "accept4", fd, 0, 0, C.SOCK_NONBLOCK, needs=needs)
    return q.probes()


def _others() -> tuple[Probe, ...]:
    """vsock(7), packet(7), and dissolving a connection with AF_UNSPEC, connect(2)."""
    q = Questions()
    for key, port in (("bind.vsock", 5000), ("bind.vsock.80", 80)):
        vsock = q.call("socket", C.AF_VSOCK, C.SOCK_STREAM, 0, opaque=True)
        raw = words(C.AF_VSOCK, 0, size=2) + words(port, C.VMADDR_CID_ANY) + bytes(4)
        q.ask(key, "bind", vsock, q.content(raw), 16, needs=(vsock,))
    packet = q.call("socket", C.AF_PACKET, C.SOCK_RAW, 0, opaque=True)
    device = q.content(words(C.AF_PACKET, 0x0300, size=2) + words(1) + bytes(12))
    q.ask("bind.packet", "bind", packet, device, 20, needs=(packet,))
    udp = q.call("socket", C.AF_INET, C.SOCK_DGRAM, 0, opaque=True)
    q.ask("connect.udp.AF_UNSPEC", "connect", udp, q.content(bytes(16)), 16, needs=(udp,))
    six = q.call("socket", C.AF_INET6, C.SOCK_STREAM, 0, opaque=True)
    unspecified = q.content(words(C.AF_INET6, 0, size=2) + bytes(24))
    q.ask("bind.tcp6", "bind", six, unspecified, 28, needs=(six,))
    return q.probes()
