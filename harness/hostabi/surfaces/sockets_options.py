"""Options of sockets, each read and set on a socket that it fits.

The tables name options as their headers do. An option that is no plain number
has the bytes to set it with; one whose value is a struct tells its size.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping

from hostabi.diff import keys
from hostabi.model import Kind
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.surfaces.slots import inout, words
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.table import C, constants

_LOOPBACK = 1
"""Index of the loopback device in each network namespace."""
_GROUP = ipaddress.IPv4Address("224.0.0.251").packed
_OTHER_GROUP = ipaddress.IPv4Address("224.0.0.252").packed
_GROUP6 = ipaddress.IPv6Address("ff02::fb").packed
_ACCEPT_ALL = words(6, 0xFFFF)
"""One instruction of classic BPF: return at most 65535 bytes."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of one kind of socket at one level.

    ``both`` are plain numbers, read and set; ``only_get`` and ``only_set`` too; ``structs``
    are read, and of ``sized`` ones the size is told; ``given`` are set with these bytes.
    """

    socket: str
    made: tuple[int, int, int]
    level: int
    both: str = ""
    only_get: str = ""
    only_set: str = ""
    structs: str = ""
    sized: str = ""
    given: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    ones: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Plain numbers for which 1 is no value, and one that is."""
    exact: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Bytes of room to read what is refused with more."""


TCP = (C.AF_INET, C.SOCK_STREAM, C.IPPROTO_TCP)
UDP = (C.AF_INET, C.SOCK_DGRAM, C.IPPROTO_UDP)
UDP6 = (C.AF_INET6, C.SOCK_DGRAM, C.IPPROTO_UDP)
RAW = (C.AF_INET, C.SOCK_RAW, C.IPPROTO_ICMP)
RAW6 = (C.AF_INET6, C.SOCK_RAW, C.IPPROTO_ICMPV6)
RAW6_UDP = (C.AF_INET6, C.SOCK_RAW, C.IPPROTO_UDP)
PACKET = (C.AF_PACKET, C.SOCK_RAW, 0)
VSOCK = (C.AF_VSOCK, C.SOCK_STREAM, 0)
MPTCP = (C.AF_INET, C.SOCK_STREAM, C.IPPROTO_MPTCP)
XDP = (C.AF_XDP, C.SOCK_RAW, 0)

_SOCKET = Options(
    "socket",
    TCP,
    C.SOL_SOCKET,
    both="SO_DEBUG SO_REUSEADDR SO_REUSEPORT SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF "
    "SO_KEEPALIVE SO_OOBINLINE SO_NO_CHECK SO_PRIORITY SO_PASSCRED SO_PASSSEC SO_PASSPIDFD "
    "SO_PASSRIGHTS SO_RCVLOWAT SO_TIMESTAMP_OLD SO_TIMESTAMP_NEW SO_TIMESTAMPNS_OLD "
    "SO_TIMESTAMPNS_NEW SO_MARK SO_RXQ_OVFL SO_WIFI_STATUS SO_PEEK_OFF SO_NOFCS "
    "SO_SELECT_ERR_QUEUE SO_BUSY_POLL SO_PREFER_BUSY_POLL SO_BUSY_POLL_BUDGET SO_ZEROCOPY "
    "SO_BINDTOIFINDEX SO_BUF_LOCK SO_RESERVE_MEM SO_TXREHASH SO_RCVMARK SO_RCVPRIORITY SO_INQ "
    "SO_INCOMING_CPU",
    only_get="SO_TYPE SO_ERROR SO_SNDLOWAT SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN "
    "SO_BPF_EXTENSIONS SO_BSDCOMPAT",
    only_set="SO_SNDBUFFORCE SO_RCVBUFFORCE SO_CNX_ADVICE SO_DETACH_FILTER "
    "SO_DETACH_REUSEPORT_BPF SO_DEVMEM_DONTNEED",
    structs="SO_LINGER SO_RCVTIMEO_OLD SO_RCVTIMEO_NEW SO_SNDTIMEO_OLD SO_SNDTIMEO_NEW "
    "SO_COOKIE SO_NETNS_COOKIE SO_TIMESTAMPING_OLD SO_TIMESTAMPING_NEW SO_TXTIME "
    "SO_MAX_PACING_RATE SO_BINDTODEVICE SO_GET_FILTER SO_INCOMING_NAPI_ID",
    sized="SO_MEMINFO",
    given={
        "SO_LINGER": words(1, 1),
        "SO_RCVTIMEO_OLD": words(1, 0, size=8),
        "SO_RCVTIMEO_NEW": words(1, 0, size=8),
        "SO_SNDTIMEO_OLD": words(1, 0, size=8),
        "SO_SNDTIMEO_NEW": words(1, 0, size=8),
        "SO_TXTIME": words(C.CLOCK_MONOTONIC, 0),
        "SO_MAX_PACING_RATE": words(1 << 33, size=8),
        "SO_BINDTODEVICE": b"lo\0",
    },
    ones={"SO_BINDTOIFINDEX": _LOOPBACK, "SO_SNDBUF": 8192},
    exact={"SO_NETNS_COOKIE": 8},
)
_TCP = Options(
    "tcp",
    TCP,
    C.SOL_TCP,
    both="TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT "
    "TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_QUICKACK TCP_THIN_LINEAR_TIMEOUTS "
    "TCP_THIN_DUPACK TCP_USER_TIMEOUT TCP_FASTOPEN TCP_NOTSENT_LOWAT TCP_SAVE_SYN "
    "TCP_FASTOPEN_CONNECT TCP_FASTOPEN_NO_COOKIE TCP_INQ TCP_TX_DELAY TCP_RTO_MAX_MS "
    "TCP_RTO_MIN_US TCP_DELACK_MAX_US TCP_REPAIR",
    only_get="TCP_IS_MPTCP",
    structs="TCP_CONGESTION TCP_ULP TCP_FASTOPEN_KEY TCP_SAVED_SYN",
    sized="TCP_INFO",
    given={
        "TCP_FASTOPEN_KEY": bytes(range(16)),
        "TCP_MD5SIG": (
            words(C.AF_INET, 0x5000, size=2)
            + bytes((127, 0, 0, 1)).ljust(124, b"\0")
            + words(0, 3, 0, 0, size=2)
            + b"key".ljust(80, b"\0")
        ),
    },
    ones={
        "TCP_MAXSEG": 1000,
        "TCP_RTO_MAX_MS": 10000,
        "TCP_RTO_MIN_US": 20000,
        "TCP_DELACK_MAX_US": 20000,
        "TCP_WINDOW_CLAMP": 65535,
    },
)
_IP = Options(
    "udp",
    UDP,
    C.SOL_IP,
    both="IP_TOS IP_TTL IP_OPTIONS IP_RECVOPTS IP_RETOPTS IP_PKTINFO IP_MTU_DISCOVER IP_RECVERR "
    "IP_RECVTTL IP_RECVTOS IP_FREEBIND IP_PASSSEC IP_TRANSPARENT IP_RECVORIGDSTADDR IP_MINTTL "
    "IP_CHECKSUM IP_BIND_ADDRESS_NO_PORT IP_RECVFRAGSIZE IP_RECVERR_RFC4884 "
    "IP_MULTICAST_IF IP_MULTICAST_TTL IP_MULTICAST_LOOP IP_MULTICAST_ALL IP_UNICAST_IF "
    "IP_LOCAL_PORT_RANGE",
    only_get="IP_PROTOCOL",
    given={
        "IP_OPTIONS": b"",
        "IP_MULTICAST_IF": bytes(4),
        "IP_ADD_MEMBERSHIP": _GROUP + bytes(4) + words(_LOOPBACK),
        "IP_DROP_MEMBERSHIP": _GROUP + bytes(4) + words(_LOOPBACK),
        "IP_ADD_SOURCE_MEMBERSHIP": _GROUP + bytes((127, 0, 0, 1)) * 2,
        "MCAST_JOIN_GROUP": words(_LOOPBACK, 0)
        + (words(C.AF_INET, 0, size=2) + _OTHER_GROUP).ljust(128, b"\0"),
    },
    ones={"IP_UNICAST_IF": 0, "IP_LOCAL_PORT_RANGE": 50000 << 16 | 40000},
)
_IPV6 = Options(
    "udp6",
    UDP6,
    C.SOL_IPV6,
    both="IPV6_V6ONLY IPV6_RECVPKTINFO IPV6_2292PKTINFO IPV6_RECVHOPLIMIT IPV6_2292HOPLIMIT "
    "IPV6_RECVRTHDR IPV6_2292RTHDR IPV6_RECVHOPOPTS IPV6_2292HOPOPTS IPV6_RECVDSTOPTS "
    "IPV6_2292DSTOPTS IPV6_TCLASS IPV6_RECVTCLASS IPV6_FLOWINFO IPV6_RECVPATHMTU IPV6_TRANSPARENT "
    "IPV6_FREEBIND IPV6_RECVORIGDSTADDR IPV6_UNICAST_HOPS IPV6_MULTICAST_HOPS IPV6_MULTICAST_LOOP "
    "IPV6_MULTICAST_IF IPV6_MULTICAST_ALL IPV6_UNICAST_IF IPV6_MTU_DISCOVER IPV6_RECVERR "
    "IPV6_RECVERR_RFC4884 IPV6_FLOWINFO_SEND IPV6_ADDR_PREFERENCES IPV6_MINHOPCOUNT "
    "IPV6_DONTFRAG IPV6_AUTOFLOWLABEL IPV6_RECVFRAGSIZE",
    given={
        "IPV6_PKTINFO": bytes(16) + words(_LOOPBACK),
        "IPV6_ADD_MEMBERSHIP": _GROUP6 + words(_LOOPBACK),
        "IPV6_DROP_MEMBERSHIP": _GROUP6 + words(_LOOPBACK),
    },
    ones={
        "IPV6_ADDR_PREFERENCES": 2,
        "IPV6_MULTICAST_IF": 0,
        "IPV6_UNICAST_IF": 0,
        "IPV6_UNICAST_HOPS": 64,
    },
)
_OTHERS = (
    Options(
        "udp",
        UDP,
        C.SOL_UDP,
        both="UDP_CORK UDP_NO_CHECK6_TX UDP_NO_CHECK6_RX UDP_SEGMENT UDP_GRO UDP_ENCAP",
        ones={"UDP_ENCAP": C.UDP_ENCAP_ESPINUDP, "UDP_CORK": 0},
    ),
    Options("raw", RAW, C.SOL_IP, both="IP_HDRINCL IP_NODEFRAG"),
    Options("raw", RAW, C.SOL_RAW, both="ICMP_FILTER"),
    Options("raw6", RAW6, C.SOL_IPV6, both="IPV6_HDRINCL IPV6_ROUTER_ALERT_ISOLATE"),
    Options("raw6", RAW6_UDP, C.SOL_IPV6, both="IPV6_CHECKSUM", ones={"IPV6_CHECKSUM": 2}),
    Options(
        "packet",
        PACKET,
        C.SOL_PACKET,
        both="PACKET_AUXDATA PACKET_ORIGDEV PACKET_VERSION PACKET_RESERVE PACKET_LOSS "
        "PACKET_VNET_HDR PACKET_VNET_HDR_SZ PACKET_TIMESTAMP PACKET_TX_HAS_OFF "
        "PACKET_QDISC_BYPASS PACKET_IGNORE_OUTGOING PACKET_COPY_THRESH",
        only_get="PACKET_FANOUT",
        sized="PACKET_STATISTICS",
        given={
            "PACKET_ADD_MEMBERSHIP": words(_LOOPBACK)
            + words(C.PACKET_MR_PROMISC, 0, size=2)
            + bytes(8),
            "PACKET_RX_RING": words(4096, 1, 2048, 2),
        },
        ones={"PACKET_VNET_HDR_SZ": 12, "PACKET_RESERVE": 16},
    ),
    Options(
        "vsock",
        VSOCK,
        C.AF_VSOCK,
        structs="SO_VM_SOCKETS_BUFFER_SIZE SO_VM_SOCKETS_BUFFER_MIN_SIZE "
        "SO_VM_SOCKETS_BUFFER_MAX_SIZE SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW",
        given={
            "SO_VM_SOCKETS_BUFFER_SIZE": words(65536, size=8),
            "SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW": words(1, 0, size=8),
        },
    ),
    Options("vsock", VSOCK, C.SOL_SOCKET, both="SO_ZEROCOPY"),
    Options("mptcp", MPTCP, C.SOL_MPTCP, sized="MPTCP_INFO"),
    Options(
        "mptcp",
        MPTCP,
        C.SOL_TCP,
        both="TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_INQ "
        "TCP_NOTSENT_LOWAT TCP_DEFER_ACCEPT TCP_FASTOPEN TCP_FASTOPEN_CONNECT TCP_USER_TIMEOUT",
        only_get="TCP_IS_MPTCP",
        structs="TCP_CONGESTION TCP_ULP",
        sized="TCP_INFO",
        ones={"TCP_MAXSEG": 1000},
    ),
    Options("xdp", XDP, C.SOL_XDP, sized="XDP_OPTIONS XDP_MMAP_OFFSETS XDP_STATISTICS"),
)
TABLES = (_SOCKET, _TCP, _IP, _IPV6, *_OTHERS)

_CONGESTION = ("reno", "cubic", "bbr", "dctcp", "vegas", "westwood", "htcp")
_ENCAPSULATIONS = ("ESPINUDP", "ESPINUDP_NON_IKE", "L2TPINUDP", "GTP0", "GTP1U")
_MTU_DISCOVERY = ("DONT", "WANT", "DO", "PROBE", "INTERFACE", "OMIT")
_FANOUTS = ("HASH", "LB", "CPU", "ROLLOVER", "RND", "QM", "CBPF", "EBPF")
_ETH_P_ALL = 0x0300
"""In the order of bytes that packets have."""
_MOST = 1024
DEFAULT = "default"
"""Aspect of an option: its setting on a fresh socket."""


def options() -> Iterator[Probe]:
    """What can be read, set and chosen; one program each."""
    reads, sets, choices = (Questions(timeout=10.0) for _ in range(3))
    for table in TABLES:
        _read(reads, table)
        _set(sets, table)
    for ask in (_congestion, _encapsulations, _packets, _filters, _timestamping, _unix):
        ask(choices)
    for q in (reads, sets, choices):
        yield from q.probes()


def defaults() -> Iterator[Probe]:
    """Settings of fresh sockets, and how large structs are; whoever asks."""
    q = Questions(timeout=10.0)
    for table in TABLES:
        _tell(q, table)
    yield from q.probes()


def _read(q: Questions, table: Options) -> None:
    fd = q.call("socket", *table.made, opaque=True)
    room = q.buffer(_MOST)
    for name in f"{table.both} {table.only_get} {table.structs} {table.sized}".split():
        length = inout(q, table.exact.get(name, _MOST))
        where = (fd, table.level, getattr(C, name), room, length)
        q.ask(f"{table.socket}.{name}.get", "getsockopt", *where, given=(fd,))


def _tell(q: Questions, table: Options) -> None:
    fd = q.call("socket", *table.made, opaque=True)
    room, length = q.buffer(_MOST), inout(q, _MOST)
    number = room.at(0, 4)
    tellings: tuple[tuple[str, str, Kind, Read, Slot], ...] = (
        (f"{table.both} {table.only_get}", DEFAULT, Kind.DEFAULT, _number(number), number),
        (table.sized, keys.SIZE, Kind.VALUE, _length(length), length),
    )
    for names, aspect, kind, read, out in tellings:
        for name in names.split():
            key = f"{table.socket}.{name}.get#{aspect}"
            where = (fd, table.level, getattr(C, name), room, length)
            q.ask(key, "getsockopt", *where, needs=(fd,), read=read, kind=kind, out=[out])


def _set(q: Questions, table: Options) -> None:
    fd = q.call("socket", *table.made, opaque=True)
    plain = [*table.both.split(), *table.only_set.split()]
    for name in (*plain, *(name for name in table.given if name not in plain)):
        value = table.given.get(name, words(table.ones.get(name, 1)))
        where = (fd, table.level, getattr(C, name), q.content(value), len(value))
        q.ask(f"{table.socket}.{name}.set", "setsockopt", *where, given=(fd,))


def _length(length: Slot) -> Read:
    """How much of a struct the kernel knows, in bytes."""
    return lambda trace, ref: trace.number(ref, length)


def _number(room: Slot) -> Read:
    """The setting of a fresh socket."""
    return lambda trace, ref: str(int.from_bytes(trace.bytes(ref, room), "little", signed=True))


def _choose(
    q: Questions, key: str, made: tuple[int, int, int], option: tuple[int, int], value: int
) -> None:
    """Set one value on a socket of its own; ``option`` has its level first."""
    fd = q.call("socket", *made, opaque=True)
    q.ask(key, "setsockopt", fd, *option, q.content(words(value)), 4, given=(fd,))
    q.call("close", fd)


def _congestion(q: Questions) -> None:
    """tcp(7): what has a module brings it along for root only."""
    fd = q.call("socket", *TCP, opaque=True)
    for name in _CONGESTION:
        where = (fd, C.SOL_TCP, C.TCP_CONGESTION, q.string(name), len(name))
        q.ask(f"tcp.TCP_CONGESTION.{name}", "setsockopt", *where, needs=(fd,))


def _encapsulations(q: Questions) -> None:
    """udp(7), and what IP_MTU_DISCOVER of ip(7) and its like of ipv6(7) know."""
    for name in _ENCAPSULATIONS:
        value = getattr(C, f"UDP_ENCAP_{name}")
        _choose(q, f"udp.UDP_ENCAP.UDP_ENCAP_{name}", UDP, (C.SOL_UDP, C.UDP_ENCAP), value)
    for name in _MTU_DISCOVERY:
        value, key = getattr(C, f"IP_PMTUDISC_{name}"), f"udp.IP_MTU_DISCOVER.IP_PMTUDISC_{name}"
        _choose(q, key, UDP, (C.SOL_IP, C.IP_MTU_DISCOVER), value)
        value = getattr(C, f"IPV6_PMTUDISC_{name}")
        key = f"udp6.IPV6_MTU_DISCOVER.IPV6_PMTUDISC_{name}"
        _choose(q, key, UDP6, (C.SOL_IPV6, C.IPV6_MTU_DISCOVER), value)


def _packets(q: Questions) -> None:
    """packet(7)."""
    for version, name in enumerate(("TPACKET_V1", "TPACKET_V2", "TPACKET_V3")):
        key = f"packet.PACKET_VERSION.{name}"
        _choose(q, key, PACKET, (C.SOL_PACKET, C.PACKET_VERSION), version)
    listening = (C.AF_PACKET, C.SOCK_RAW, _ETH_P_ALL)
    for name in _FANOUTS:
        value = getattr(C, f"PACKET_FANOUT_{name}") << 16 | 7
        key = f"packet.PACKET_FANOUT.PACKET_FANOUT_{name}"
        _choose(q, key, listening, (C.SOL_PACKET, C.PACKET_FANOUT), value)


def _filters(q: Questions) -> None:
    """socket(7): programs of classic BPF that decide about packets."""
    fd = q.call("socket", *UDP, opaque=True)
    program = q.struct("struct sock_fprog", len=1, filter=q.content(_ACCEPT_ALL))
    one = q.content(words(1))
    q.call("setsockopt", fd, C.SOL_SOCKET, C.SO_REUSEPORT, one, 4)
    for name in ("SO_ATTACH_FILTER", "SO_ATTACH_REUSEPORT_CBPF"):
        where = (fd, C.SOL_SOCKET, getattr(C, name), program, program.size)
        q.ask(f"udp.{name}.set", "setsockopt", *where, needs=(fd,))
    for name in ("SO_LOCK_FILTER", "SO_DETACH_FILTER"):
        where = (fd, C.SOL_SOCKET, getattr(C, name), one, 4)
        q.ask(f"udp.{name}.set", "setsockopt", *where, needs=(fd,))


def _timestamping(q: Questions) -> None:
    """SO_TIMESTAMPING: kernel document networking/timestamping.rst. Some only work together."""
    fd = q.call("socket", *UDP, opaque=True)
    for name, bit in sorted(constants("SOF_TIMESTAMPING_").items()):
        if bit & (bit - 1) or name.endswith("_LAST"):
            continue
        others = C.SOF_TIMESTAMPING_OPT_ID | C.SOF_TIMESTAMPING_OPT_TSONLY
        value = q.content(words(bit | (others if "_OPT_" in name else 0)))
        where = (fd, C.SOL_SOCKET, C.SO_TIMESTAMPING_OLD, value, 4)
        # a clock is chosen where the device has several, and loopback has none
        fine = ("EOPNOTSUPP",) if name.endswith("_BIND_PHC") else ()
        q.ask(f"udp.SO_TIMESTAMPING.{name}", "setsockopt", *where, needs=(fd,), fine=fine)


def _unix(q: Questions) -> None:
    """Who is at the other end, unix(7)."""
    pair = q.buffer(8)
    made = q.call("socketpair", C.AF_UNIX, C.SOCK_STREAM, 0, pair)
    fd, room, length = pair.word(0), q.buffer(_MOST), inout(q, _MOST)
    for name in ("SO_PEERCRED", "SO_PEERGROUPS", "SO_PEERPIDFD", "SO_PEERSEC", "SO_PEERNAME"):
        where = (fd, C.SOL_SOCKET, getattr(C, name), room, length)
        q.ask(f"unix.{name}.get", "getsockopt", *where, needs=(made,), opaque=True)
    one = q.content(words(1))
    for name in [
        "SO_PASSCRED",
        "SO_PASSSEC",
        "SO_PASSPIDFD",
        "SO_PASSRIGHTS",
        "SO_PEEK_OFF",
        "SO_INQ",
        "SO_RIGHTS_NOTRUNC",
        "SO_PRIORITY",
        "SO_SNDBUF",
    ]:
        option = (fd, C.SOL_SOCKET, getattr(C, name))
        q.ask(f"unix.{name}.set", "setsockopt", *option, one, 4, needs=(made,))
        q.ask(f"unix.{name}.get", "getsockopt", *option, room, length, needs=(made,))
