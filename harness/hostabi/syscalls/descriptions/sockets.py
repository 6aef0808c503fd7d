"""Sockets of all families that containers use; none of them waits.

Those that have a name in the network are made in a network namespace of the program's own.
"""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick
from hostabi.syscalls.descriptions.memory import (
    After,
    Data,
    Field,
    Maybe,
    Null,
    Room,
    Struct,
    out,
    raw,
)
from hostabi.syscalls.descriptions.model import (
    SOCKETS,
    Argument,
    Description,
    Kind,
    Makes,
    describe,
)
from hostabi.syscalls.descriptions.values import Space, Spoken, Unix
from hostabi.syscalls.table import C

_NB = C.SOCK_NONBLOCK
_UNIX = pick("type", C.SOCK_STREAM | _NB, C.SOCK_SEQPACKET | _NB)
_TYPE = pick("type", C.SOCK_DGRAM | _NB, C.SOCK_DGRAM | _NB | C.SOCK_CLOEXEC)
_WORKS = C.MSG_DONTWAIT | C.MSG_NOSIGNAL
_SEND = flags("flags", usual=(_WORKS, _WORKS | C.MSG_EOR, _WORKS | C.MSG_MORE), known=("MSG_",))
_RECEIVE = flags(
    "flags",
    usual=(C.MSG_DONTWAIT, C.MSG_DONTWAIT | C.MSG_PEEK, C.MSG_DONTWAIT | C.MSG_TRUNC),
    known=("MSG_",),
)
_LOOPBACK = (
    packing.pack("<H", C.AF_INET) + packing.pack(">H", 5000) + bytes((127, 0, 0, 1)) + bytes(8)
)
_LOOPBACK6 = (
    packing.pack("<H", C.AF_INET6) + packing.pack(">HI", 5001, 0) + bytes(15) + b"\1" + bytes(4)
)
_ROUTE = packing.pack("<HHII", C.AF_NETLINK, 0, 0, 0)
_LINK = packing.pack("<HHiHBB8s", C.AF_PACKET, 0, 1, 0, 0, 0, b"")
_VM = packing.pack("<HHII4s", C.AF_VSOCK, 0, 5000, 1, b"")
_NET = C.CLONE_NEWNET
_INT = packing.pack("<i", 1)
_OPTIONS: tuple[tuple[str, str, tuple[Kind, ...]], ...] = (
    ("SOL_SOCKET", "SO_REUSEADDR", SOCKETS),
    ("SOL_SOCKET", "SO_KEEPALIVE", SOCKETS),
    ("SOL_SOCKET", "SO_BROADCAST", SOCKETS),
    ("SOL_SOCKET", "SO_PRIORITY", SOCKETS),
    ("SOL_SOCKET", "SO_PASSCRED", (Kind.PAIRED, Kind.STREAM)),
    ("SOL_SOCKET", "SO_REUSEPORT", (Kind.INTERNET,)),
    ("SOL_SOCKET", "SO_TIMESTAMP", SOCKETS),
    ("SOL_SOCKET", "SO_RCVLOWAT", SOCKETS),
    ("SOL_SOCKET", "SO_OOBINLINE", SOCKETS),
    ("SOL_IP", "IP_TTL", (Kind.INTERNET,)),
    ("SOL_IP", "IP_TOS", (Kind.INTERNET,)),
    ("SOL_IP", "IP_RECVERR", (Kind.INTERNET,)),
    ("SOL_TCP", "TCP_NODELAY", (Kind.INTERNET,)),
    ("SOL_TCP", "TCP_KEEPIDLE", (Kind.INTERNET,)),
    ("SOL_NETLINK", "NETLINK_EXT_ACK", (Kind.NETLINK,)),
    ("SOL_NETLINK", "NETLINK_CAP_ACK", (Kind.NETLINK,)),
)
_READ_ONLY = (
    "SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ERROR", "SO_ACCEPTCONN",
)  # fmt: skip
_LENGTH = raw("optlen", (4).to_bytes(4, "little"), (8).to_bytes(4, "little"), bytes(4), kept=True)


def _set(level: str, name: str, kinds: tuple[Kind, ...]) -> Description:
    return describe(
        f"setsockopt.{name}",
        fd("fd", *kinds),
        just("level", getattr(C, level)),
        just("optname", getattr(C, name)),
        raw("optval", _INT, bytes(4), (64).to_bytes(4, "little"), size="optlen"),
    )


def _get(level: str, name: str, kinds: tuple[Kind, ...], *, opaque: bool = False) -> Description:
    return describe(
        f"getsockopt.{name}",
        fd("fd", *kinds),
        just("level", getattr(C, level)),
        just("optname", getattr(C, name)),
        out("optval", "int", 2, kept=not opaque),
        _LENGTH,
    )


def _socket(
    form: str, family: int, kind: Argument, protocol: int, makes: Kind, **more: str
) -> Description:
    return describe(
        f"socket.{form}",
        just("family", family),
        kind,
        just("protocol", protocol),
        makes=makes,
        privilege=more.get("privilege", ""),
    )


_MESSAGE: tuple[tuple[str, Field], ...] = (
    ("msg_iov", Spoken(b"a message")),
    ("msg_iovlen", 1),
)
_ANSWER: tuple[tuple[str, Field], ...] = (
    ("msg_iov", Spoken(bytes(64))),
    ("msg_iovlen", 1),
    ("msg_control", Space(128)),
    ("msg_controllen", 128),
)
_RAW = pick("type", C.SOCK_RAW | _NB, C.SOCK_DGRAM | _NB)

DESCRIPTIONS: tuple[Description, ...] = (
    _socket("unix", C.AF_UNIX, _UNIX, 0, Kind.STREAM),
    _socket("unix-datagram", C.AF_UNIX, _TYPE, 0, Kind.DATAGRAM),
    _socket("inet", C.AF_INET, pick("type", C.SOCK_STREAM | _NB), 0, Kind.INTERNET),
    _socket("inet-datagram", C.AF_INET, _TYPE, 0, Kind.INTERNET),
    _socket(
        "inet6", C.AF_INET6, pick("type", C.SOCK_STREAM | _NB, C.SOCK_DGRAM | _NB), 0, Kind.INTERNET
    ),
    _socket("netlink", C.AF_NETLINK, _RAW, C.NETLINK_ROUTE, Kind.NETLINK),
    _socket("packet", C.AF_PACKET, _RAW, 0, Kind.PACKET, privilege="CAP_NET_RAW"),
    _socket("vsock", C.AF_VSOCK, pick("type", C.SOCK_STREAM | _NB), 0, Kind.VSOCK),
    describe(
        "socket",
        pick("family", *range(1, 46), odd=(-1, 99)),
        pick("type", *(n | _NB for n in (1, 2, 3, 5)), odd=(0, 15)),
        pick("protocol", 0, 1, 6, 17, odd=(255, -1)),
    ),
    describe(
        "socketpair",
        just("family", C.AF_UNIX),
        pick("type", C.SOCK_STREAM | _NB, C.SOCK_DGRAM | _NB, C.SOCK_SEQPACKET | _NB, odd=(3, 0)),
        pick("protocol", 0, odd=(1,)),
        out("usockvec", "int", 2),
        makes=(Makes(Kind.PAIRED, out="usockvec"), Makes(Kind.PAIRED, out="usockvec", index=1)),
    ),
    describe(
        "bind.unix",
        fd("fd", Kind.STREAM),
        Unix("umyaddr", "addrlen"),
        makes=(Makes(Kind.BOUND, of="fd"),),
    ),
    describe(
        "bind.inet",
        fd("fd", Kind.INTERNET),
        raw("umyaddr", _LOOPBACK, _LOOPBACK6, size="addrlen"),
        fresh=_NET,
    ),
    describe("bind.netlink", fd("fd", Kind.NETLINK), raw("umyaddr", _ROUTE, size="addrlen")),
    describe(
        "bind.packet", fd("fd", Kind.PACKET), raw("umyaddr", _LINK, size="addrlen"), fresh=_NET
    ),
    describe(
        "bind.vsock",
        fd("fd", Kind.VSOCK),
        raw("umyaddr", _VM, size="addrlen"),
        fresh=C.CLONE_NEWNET,
    ),
    describe(
        "listen",
        fd("fd", Kind.BOUND),
        pick("backlog", 5, 0, 1, odd=(-1,)),
        makes=(Makes(Kind.LISTENING, of="fd"),),
    ),
    describe(
        "connect.unix",
        fd("fd", Kind.STREAM, ends=True),
        Unix("uservaddr", "addrlen", Kind.LISTENING),
        makes=(Makes(Kind.AWAITED, of="uservaddr"), Makes(Kind.PAIRED, of="fd")),
    ),
    describe(
        "ioctl.SIOCSIFFLAGS",
        fd("fd", Kind.INTERNET, Kind.DATAGRAM),
        just("cmd", C.SIOCSIFFLAGS),
        raw("arg", b"lo".ljust(16, b"\0") + packing.pack("<H", C.IFF_UP).ljust(24, b"\0")),
        makes=Kind.LOOPBACK,
        fresh=_NET,
        privilege="CAP_NET_ADMIN",
    ),
    describe(
        "connect.inet",
        After(Kind.LOOPBACK, fd("fd", Kind.INTERNET)),
        raw("uservaddr", _LOOPBACK, _LOOPBACK6, bytes(16), size="addrlen"),
        fresh=_NET,
    ),
    describe("connect.netlink", fd("fd", Kind.NETLINK), raw("uservaddr", _ROUTE, size="addrlen")),
    describe(
        "accept4",
        fd("fd", Kind.AWAITED, Kind.LISTENING),
        Null("upeer_sockaddr"),
        Null("upeer_addrlen"),
        flags("flags", "SOCK_NONBLOCK", "SOCK_CLOEXEC", usual=(_NB, _NB | C.SOCK_CLOEXEC)),
        makes=Kind.PAIRED,
    ),
    describe(
        "accept",
        fd("fd", Kind.AWAITED, Kind.LISTENING),
        Maybe(out("upeer_sockaddr", "struct sockaddr_un")),
        Maybe(raw("upeer_addrlen", (110).to_bytes(4, "little"), written=True), first=True),
    ),
    describe(
        "getsockname",
        fd("fd", Kind.BOUND, Kind.STREAM, Kind.PAIRED),
        out("usockaddr", "struct sockaddr_un"),
        raw("usockaddr_len", (110).to_bytes(4, "little"), (4).to_bytes(4, "little"), kept=True),
    ),
    describe(
        "getpeername",
        fd("fd", Kind.PAIRED),
        out("usockaddr", "struct sockaddr_un"),
        raw("usockaddr_len", (110).to_bytes(4, "little"), (4).to_bytes(4, "little"), kept=True),
    ),
    *(_set(*option) for option in _OPTIONS),
    *(_get(*option) for option in _OPTIONS),
    *(_get("SOL_SOCKET", name, SOCKETS) for name in _READ_ONLY),
    describe(
        "sendto",
        fd("fd", Kind.PAIRED),
        Data("buff", "len"),
        _SEND,
        Null("addr"),
        just("addr_len", 0),
    ),
    describe(
        "sendto.address",
        After(Kind.LOOPBACK, fd("fd", Kind.INTERNET)),
        Data("buff", "len", (8, 100, 0)),
        _SEND,
        raw("addr", _LOOPBACK, _LOOPBACK6, size="addr_len"),
        fresh=_NET,
    ),
    describe(
        "recvfrom",
        fd("fd", Kind.PAIRED, Kind.DATAGRAM),
        Room("ubuf", "size"),
        _RECEIVE,
        Null("addr"),
        Null("addr_len"),
    ),
    describe("sendmsg", fd("fd", Kind.PAIRED), Struct("msg", "struct msghdr", _MESSAGE), _SEND),
    describe(
        "recvmsg",
        fd("fd", Kind.PAIRED),
        Struct("msg", "struct msghdr", _ANSWER, written=True),
        _RECEIVE,
    ),
    describe(
        "sendmmsg",
        fd("fd", Kind.PAIRED),
        Struct("mmsg", "struct msghdr", _MESSAGE),
        pick("vlen", 1, 0),
        _SEND,
    ),
    describe(
        "recvmmsg",
        fd("fd", Kind.PAIRED),
        Struct("mmsg", "struct msghdr", _ANSWER, written=True),
        pick("vlen", 1, 0),
        _RECEIVE,
        Null("timeout"),
    ),
    describe("shutdown", fd("fd", Kind.PAIRED), pick("how", 0, 1, 2, odd=(3, -1))),
)
