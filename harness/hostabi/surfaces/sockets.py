"""Sockets: which can be made, and what can be set, sent and asked through them.

``FAMILY.TYPE.PROTOCOL`` is a socket(2); ``SOCKET.OPTION.get`` and ``.set`` are
an option of a fitting socket, with ``#size`` for how much of a struct the kernel
knows and ``#default`` for the setting of a fresh socket.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgspec.structs import replace

from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, USERNS, Probe, ProbeSurface, Questions
from hostabi.surfaces.sockets_binding import binding
from hostabi.surfaces.sockets_crypto import crypto
from hostabi.surfaces.sockets_devices import devices
from hostabi.surfaces.sockets_messages import ciphers, messages
from hostabi.surfaces.sockets_options import DEFAULT, defaults, options
from hostabi.surfaces.source import Source
from hostabi.syscalls.table import C

_Kinds = tuple[tuple[str, str, tuple[str, ...]], ...]

_NO_PROTOCOL = ("",)
KINDS: _Kinds = (
    ("UNIX", "STREAM DGRAM SEQPACKET RAW", _NO_PROTOCOL),
    ("INET", "STREAM", ("", "IPPROTO_TCP", "IPPROTO_MPTCP", "IPPROTO_SCTP", "IPPROTO_SMC")),
    ("INET6", "STREAM", ("", "IPPROTO_TCP", "IPPROTO_MPTCP", "IPPROTO_SCTP", "IPPROTO_SMC")),
    ("INET", "DGRAM", ("", "IPPROTO_UDP", "IPPROTO_UDPLITE", "IPPROTO_ICMP", "IPPROTO_L2TP")),
    ("INET6", "DGRAM", ("", "IPPROTO_UDP", "IPPROTO_UDPLITE", "IPPROTO_ICMPV6", "IPPROTO_L2TP")),
    ("INET", "SEQPACKET", ("IPPROTO_SCTP",)),
    ("INET6", "SEQPACKET", ("IPPROTO_SCTP",)),
    ("INET", "DCCP", ("IPPROTO_DCCP",)),
    ("INET", "RAW", ("", "IPPROTO_RAW", "IPPROTO_ICMP", "IPPROTO_TCP", "IPPROTO_UDP")),
    ("INET6", "RAW", ("", "IPPROTO_RAW", "IPPROTO_ICMPV6", "IPPROTO_TCP", "IPPROTO_MH")),
    ("PACKET", "RAW DGRAM PACKET", _NO_PROTOCOL),
    ("NETLINK", "RAW DGRAM", ("NETLINK_ROUTE",)),
    ("VSOCK", "STREAM DGRAM SEQPACKET", _NO_PROTOCOL),
    ("ALG", "SEQPACKET STREAM", _NO_PROTOCOL),
    ("KEY", "RAW", ("PF_KEY_V2",)),
    ("XDP", "RAW", _NO_PROTOCOL),
    ("SMC", "STREAM", _NO_PROTOCOL),
)
"""Family, types, protocols; address_families(7), socket(2). What has a module brings it along."""
RARE: _Kinds = (
    ("TIPC", "STREAM SEQPACKET RDM DGRAM", _NO_PROTOCOL),
    ("KCM", "DGRAM SEQPACKET", _NO_PROTOCOL),
    ("RDS", "SEQPACKET", _NO_PROTOCOL),
    ("QIPCRTR", "DGRAM", _NO_PROTOCOL),
    ("PPPOX", "STREAM", _NO_PROTOCOL),
    ("CAN", "RAW DGRAM", _NO_PROTOCOL),
    ("BLUETOOTH", "RAW", _NO_PROTOCOL),
    ("RXRPC", "DGRAM", _NO_PROTOCOL),
    ("LLC", "STREAM DGRAM", _NO_PROTOCOL),
    ("NFC", "RAW", _NO_PROTOCOL),
    ("MCTP", "DGRAM", _NO_PROTOCOL),
    ("IEEE802154", "RAW", _NO_PROTOCOL),
    ("PHONET", "DGRAM", _NO_PROTOCOL),
    ("CAIF", "STREAM", _NO_PROTOCOL),
    ("X25", "SEQPACKET", _NO_PROTOCOL),
    ("AX25", "DGRAM", _NO_PROTOCOL),
    ("APPLETALK", "DGRAM", _NO_PROTOCOL),
    ("IPX", "DGRAM", _NO_PROTOCOL),
    ("DECnet", "STREAM", _NO_PROTOCOL),
    ("ATMPVC", "DGRAM", _NO_PROTOCOL),
    ("IB", "RAW", _NO_PROTOCOL),
)
"""The same for families that few containers use; each that is not there asks for a module."""


def made() -> Iterator[Probe]:
    """socket(2), its flags, and socketpair(2)."""
    q = Questions(timeout=20.0)
    _ask(q, KINDS)
    for flag in ("CLOEXEC", "NONBLOCK"):
        type_ = C.SOCK_STREAM | getattr(C, f"SOCK_{flag}")
        q.ask(f"AF_UNIX.SOCK_{flag}", "socket", C.AF_UNIX, type_, 0, opaque=True)
    pair = q.buffer(8)
    for family in ("UNIX", "INET"):
        for kind in ("STREAM", "DGRAM", "SEQPACKET"):
            domain, type_ = getattr(C, f"AF_{family}"), getattr(C, f"SOCK_{kind}")
            q.ask(f"socketpair.AF_{family}.SOCK_{kind}", "socketpair", domain, type_, 0, pair)
    yield from q.probes()


def rare() -> Iterator[Probe]:
    """socket(2) with other families."""
    q = Questions(timeout=20.0)
    _ask(q, RARE)
    yield from q.probes()


def _ask(q: Questions, kinds: _Kinds) -> None:
    for family, types, protocols in kinds:
        for kind, protocol in itertools.product(types.split(), protocols):
            name = ".".join(filter(None, (f"AF_{family}", f"SOCK_{kind}", protocol)))
            number = getattr(C, protocol) if protocol else 0
            domain, type_ = getattr(C, f"AF_{family}"), getattr(C, f"SOCK_{kind}")
            fd = q.ask(name, "socket", domain, type_, number, opaque=True)
            q.call("close", fd)


def _everybody() -> Iterator[Probe]:
    yield from made()
    yield from options()
    yield from messages()
    yield from binding()


def _namespaced() -> Iterator[Probe]:
    yield from devices()
    yield from crypto()


def _machine() -> Iterator[Probe]:
    yield from defaults()
    yield from rare()
    yield from ciphers()


class Sockets(Joined):
    """Nothing is said about the size or the setting of what is not there."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        return [of_what_is_there(fact) for fact in super().capture(source)]


def of_what_is_there(fact: Fact) -> Fact:
    """The fact, without a value where it is about something that is not there."""
    if keys.aspect(fact.key) in (DEFAULT, keys.SIZE) and keys.failed(fact.value):
        return replace(fact, value=None)
    return fact


SURFACE = Sockets(
    "sockets",
    (
        ProbeSurface("sockets", _everybody),
        ProbeSurface("sockets", _namespaced, (HOST, USERNS)),
        ProbeSurface("sockets", _machine, (HOST,)),
    ),
    loads=True,
)
