"""Connections that the kernel follows: linux/netfilter/nfnetlink_conntrack.h."""

from __future__ import annotations

from hostabi.surfaces.netfilter_messages import (
    DUMP,
    REQUEST,
    Netlink,
    attribute,
    big,
    byte,
    nested,
    text,
)
from hostabi.surfaces.netfilter_nft import general, subsystem
from hostabi.surfaces.probing import Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C

_NEW = REQUEST | C.NLM_F_CREATE | C.NLM_F_EXCL
_TCP, _UDP = C.IPPROTO_TCP, C.IPPROTO_UDP
_PORTS = (
    C.IPPROTO_TCP,
    C.IPPROTO_UDP,
    C.IPPROTO_SCTP,
    C.IPPROTO_DCCP,
    C.IPPROTO_UDPLITE,
    C.IPPROTO_GRE,
)
_HERE, _THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
_HERE6, _THERE6 = bytes(15) + b"\1", bytes(15) + b"\2"
_TIMEOUT = big(C.CTA_TIMEOUT, 1000)
_MARK_1 = (big(C.CTA_MARK, 1), big(C.CTA_MARK_MASK, 1))


def conntrack(q: Questions) -> None:
    """Entries that are made, changed, looked at and deleted."""
    netlink = Netlink(q)
    there = netlink.ask("ct", _message(C.IPCTNL_MSG_CT_GET, flags=DUMP))

    def ask(key: str, raw: bytes) -> None:
        netlink.ask(f"ct.{key}", raw, needs=(there,))

    ask("new", _new(_entry(_UDP, 1)))
    ask("new.again", _new(_entry(_UDP, 1)))
    ask("new.no-timeout", _message(C.IPCTNL_MSG_CT_NEW, *_entry(_UDP, 9), flags=_NEW))
    states = (
        ("tcp", _TCP, nested(C.CTA_PROTOINFO_TCP, byte(C.CTA_PROTOINFO_TCP_STATE, 3))),
        ("sctp", C.IPPROTO_SCTP, _sctp()),
        ("dccp", C.IPPROTO_DCCP, _dccp()),
    )
    for name, protocol, state in states:
        ask(f"new.{name}", _new(_entry(protocol, 2), nested(C.CTA_PROTOINFO, state)))
    for name, protocol in (
        ("icmp", C.IPPROTO_ICMP),
        ("gre", C.IPPROTO_GRE),
        ("udplite", C.IPPROTO_UDPLITE),
        ("esp", C.IPPROTO_ESP),
    ):
        ask(f"new.{name}", _new(_entry(protocol, 3)))
    six = _entry(_TCP, 2, six=True)
    ask("new.ipv6", _new(six, nested(C.CTA_PROTOINFO, states[0][2]), family=C.NFPROTO_IPV6))
    for number, (name, more) in enumerate(_additions().items(), 20):
        ask(f"new.{name}", _new(_entry(_TCP, number), *more))
    zoned = big(C.CTA_TUPLE_ZONE, 7, 2)
    ask("new.zone-of-tuple", _new(_entry(_UDP, 41, more=zoned)))
    for name, more in _changes().items():
        changed = _message(C.IPCTNL_MSG_CT_NEW, _tuple(C.CTA_TUPLE_ORIG, _UDP, 1), *more)
        ask(f"change.{name}", changed)
    one = _tuple(C.CTA_TUPLE_ORIG, _UDP, 1)
    ask("get", _message(C.IPCTNL_MSG_CT_GET, one))
    ask("get.absent", _message(C.IPCTNL_MSG_CT_GET, _tuple(C.CTA_TUPLE_ORIG, _UDP, 99)))
    ask("get.reset", _message(C.IPCTNL_MSG_CT_GET_CTRZERO, one))
    for name, more in _filters().items():
        ask(f"list.{name}", _message(C.IPCTNL_MSG_CT_GET, *more, flags=DUMP))
    for name in ("GET_CTRZERO", "GET_STATS_CPU", "GET_DYING", "GET_UNCONFIRMED"):
        ask(f"list.{name}", _message(getattr(C, f"IPCTNL_MSG_CT_{name}"), flags=DUMP))
    ask("stats", _message(C.IPCTNL_MSG_CT_GET_STATS))
    ask("delete", _message(C.IPCTNL_MSG_CT_DELETE, one))
    ask("delete.absent", _message(C.IPCTNL_MSG_CT_DELETE, one))
    for name, more in _filters().items():
        ask(f"flush.{name}", _message(C.IPCTNL_MSG_CT_DELETE, *more))
    ask("flush", _message(C.IPCTNL_MSG_CT_DELETE))


def expectations(q: Questions) -> None:
    """Connections that others bring along, and policies of timeouts."""
    netlink = Netlink(q)
    netlink.say(_new(_entry(_TCP, 20), *_additions()["helper"]))
    kind = C.NFNL_SUBSYS_CTNETLINK_EXP
    there = netlink.ask("ct-expect", subsystem(kind, C.IPCTNL_MSG_EXP_GET, _ipv4(), flags=DUMP))
    mask = nested(
        C.CTA_EXPECT_MASK,
        nested(
            C.CTA_TUPLE_IP,
            attribute(C.CTA_IP_V4_SRC, b"\xff" * 4),
            attribute(C.CTA_IP_V4_DST, b"\xff" * 4),
        ),
        _protocol(_TCP, 0xFFFF, 0xFFFF),
    )
    of = (
        _tuple(C.CTA_EXPECT_MASTER, _TCP, 20),
        mask,
        big(C.CTA_EXPECT_TIMEOUT, 100),
    )
    helper = text(C.CTA_EXPECT_HELP_NAME, "ftp")
    for port, (name, more) in enumerate(
        (
            ("new", (helper,)),
            ("new.permanent", (helper, big(C.CTA_EXPECT_FLAGS, C.NF_CT_EXPECT_PERMANENT))),
            ("new.user-space", (helper, big(C.CTA_EXPECT_FLAGS, C.NF_CT_EXPECT_USERSPACE))),
        ),
        50,
    ):
        to = _tuple(C.CTA_EXPECT_TUPLE, _TCP, port)
        raw = subsystem(kind, C.IPCTNL_MSG_EXP_NEW, _ipv4(), to, *of, *more, flags=_NEW)
        netlink.ask(f"ct-expect.{name}", raw, needs=(there,))
    absent = subsystem(kind, C.IPCTNL_MSG_EXP_GET, _ipv4(), _tuple(C.CTA_EXPECT_TUPLE, _TCP, 99))
    netlink.ask("ct-expect.get.absent", absent, needs=(there,))
    statistics = subsystem(kind, C.IPCTNL_MSG_EXP_GET_STATS_CPU, _ipv4(), flags=DUMP)
    netlink.ask("ct-expect.stats", statistics, needs=(there,))
    flush = subsystem(kind, C.IPCTNL_MSG_EXP_DELETE, _ipv4())
    netlink.ask("ct-expect.flush", flush, needs=(there,))
    _timeouts(netlink)


def _timeouts(netlink: Netlink) -> None:
    kind = C.NFNL_SUBSYS_CTNETLINK_TIMEOUT
    listing = subsystem(kind, C.IPCTNL_MSG_TIMEOUT_GET, general(0), flags=DUMP)
    there = netlink.ask("ct-timeout", listing)
    policies = {
        "tcp": (_TCP, big(C.CTA_TIMEOUT_TCP_ESTABLISHED, 100)),
        "udp": (_UDP, big(C.CTA_TIMEOUT_UDP_REPLIED, 100)),
        "icmp": (C.IPPROTO_ICMP, big(C.CTA_TIMEOUT_ICMP_TIMEOUT, 100)),
        "sctp": (C.IPPROTO_SCTP, big(C.CTA_TIMEOUT_SCTP_ESTABLISHED, 100)),
        "dccp": (C.IPPROTO_DCCP, big(C.CTA_TIMEOUT_DCCP_OPEN, 100)),
        "gre": (C.IPPROTO_GRE, big(C.CTA_TIMEOUT_GRE_REPLIED, 100)),
        "udplite": (C.IPPROTO_UDPLITE, big(C.CTA_TIMEOUT_UDPLITE_REPLIED, 100)),
        "generic": (255, big(C.CTA_TIMEOUT_GENERIC_TIMEOUT, 100)),
    }
    for name, (protocol, value) in policies.items():
        of = big(C.CTA_TIMEOUT_L3PROTO, C.AF_INET, 2), byte(C.CTA_TIMEOUT_L4PROTO, protocol)
        content = nested(C.CTA_TIMEOUT_DATA, value)
        named = text(C.CTA_TIMEOUT_NAME, name)
        new = subsystem(kind, C.IPCTNL_MSG_TIMEOUT_NEW, general(0), named, *of, content, flags=_NEW)
        netlink.ask(f"ct-timeout.{name}", new, needs=(there,))
        default = subsystem(kind, C.IPCTNL_MSG_TIMEOUT_DEFAULT_SET, general(0), *of, content)
        netlink.ask(f"ct-timeout.{name}.default", default, needs=(there,))
        get = subsystem(kind, C.IPCTNL_MSG_TIMEOUT_DEFAULT_GET, general(0), *of)
        netlink.ask(f"ct-timeout.{name}.default.get", get, needs=(there,))
    named = text(C.CTA_TIMEOUT_NAME, "tcp")
    for name, number in (
        ("get", C.IPCTNL_MSG_TIMEOUT_GET),
        ("delete", C.IPCTNL_MSG_TIMEOUT_DELETE),
    ):
        netlink.ask(
            f"ct-timeout.{name}", subsystem(kind, number, general(0), named), needs=(there,)
        )


def _ipv4() -> bytes:
    return general(C.NFPROTO_IPV4)


def _message(
    number: int, *attributes: bytes, flags: int = REQUEST, family: int = C.NFPROTO_IPV4
) -> bytes:
    return subsystem(C.NFNL_SUBSYS_CTNETLINK, number, general(family), *attributes, flags=flags)


def _new(entry: tuple[bytes, bytes], *more: bytes, family: int = C.NFPROTO_IPV4) -> bytes:
    return _message(C.IPCTNL_MSG_CT_NEW, *entry, _TIMEOUT, *more, flags=_NEW, family=family)


def _protocol(number: int, source: int, destination: int) -> bytes:
    of: tuple[bytes, ...] = ()
    if number in _PORTS:
        of = big(C.CTA_PROTO_SRC_PORT, source, 2), big(C.CTA_PROTO_DST_PORT, destination, 2)
    elif number == C.IPPROTO_ICMP:
        # an echo and its answer
        kind = 8 if source > destination else 0
        of = (
            big(C.CTA_PROTO_ICMP_ID, 7, 2),
            byte(C.CTA_PROTO_ICMP_TYPE, kind),
            byte(C.CTA_PROTO_ICMP_CODE, 0),
        )
    return nested(C.CTA_TUPLE_PROTO, byte(C.CTA_PROTO_NUM, number), *of)


def _tuple(
    kind: int, protocol: int, port: int, *, back: bool = False, six: bool = False, more: bytes = b""
) -> bytes:
    """One direction of a connection; ``back`` is the other one."""
    ends = (_HERE6, _THERE6) if six else (_HERE, _THERE)
    source, destination = reversed(ends) if back else ends
    kinds = (C.CTA_IP_V6_SRC, C.CTA_IP_V6_DST) if six else (C.CTA_IP_V4_SRC, C.CTA_IP_V4_DST)
    address = nested(C.CTA_TUPLE_IP, attribute(kinds[0], source), attribute(kinds[1], destination))
    ports = (port, 1000 + port) if back else (1000 + port, port)
    return nested(kind, address, _protocol(protocol, *ports), more)


def _entry(
    protocol: int, port: int, *, six: bool = False, more: bytes = b""
) -> tuple[bytes, bytes]:
    forth = _tuple(C.CTA_TUPLE_ORIG, protocol, port, six=six, more=more)
    return forth, _tuple(C.CTA_TUPLE_REPLY, protocol, port, back=True, six=six)


def _sctp() -> bytes:
    return nested(
        C.CTA_PROTOINFO_SCTP,
        byte(C.CTA_PROTOINFO_SCTP_STATE, 4),
        big(C.CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, 1),
        big(C.CTA_PROTOINFO_SCTP_VTAG_REPLY, 2),
    )


def _dccp() -> bytes:
    return nested(
        C.CTA_PROTOINFO_DCCP,
        byte(C.CTA_PROTOINFO_DCCP_STATE, 4),
        byte(C.CTA_PROTOINFO_DCCP_ROLE, 0),
    )


def _additions() -> dict[str, tuple[bytes, ...]]:
    """What a new entry can have."""
    adjusted = (big(C.CTA_SEQADJ_CORRECTION_POS, 1), big(C.CTA_SEQADJ_OFFSET_BEFORE, 2))
    proxied = (big(C.CTA_SYNPROXY_ISN, 1), big(C.CTA_SYNPROXY_ITS, 2), big(C.CTA_SYNPROXY_TSOFF, 3))
    address = attribute(C.CTA_NAT_V4_MINIP, bytes((10, 0, 0, 9)))
    assured = C.IPS_ASSURED | C.IPS_CONFIRMED | C.IPS_SEEN_REPLY
    return {
        "helper": (nested(C.CTA_HELP, text(C.CTA_HELP_NAME, "ftp")),),
        "helper-unknown": (nested(C.CTA_HELP, text(C.CTA_HELP_NAME, "hostabi")),),
        "mark": (big(C.CTA_MARK, 7),),
        "labels": (attribute(C.CTA_LABELS, words(1, 0, 0, 0)),),
        "zone": (big(C.CTA_ZONE, 5, 2),),
        "status": (big(C.CTA_STATUS, assured),),
        "status-offload": (big(C.CTA_STATUS, assured | C.IPS_OFFLOAD),),
        "fixed-timeout": (big(C.CTA_STATUS, assured | C.IPS_FIXED_TIMEOUT),),
        "source-nat": (nested(C.CTA_NAT_SRC, address),),
        "destination-nat": (nested(C.CTA_NAT_DST, address),),
        "sequence": (nested(C.CTA_SEQ_ADJ_ORIG, *adjusted, big(C.CTA_SEQADJ_OFFSET_AFTER, 3)),),
        "synproxy": (nested(C.CTA_SYNPROXY, *proxied),),
        "master": (_tuple(C.CTA_TUPLE_MASTER, _UDP, 1),),
    }


def _changes() -> dict[str, tuple[bytes, ...]]:
    """What can be changed of an entry that is there."""
    labels = attribute(C.CTA_LABELS, words(3, 0, 0, 0))
    return {
        "timeout": (big(C.CTA_TIMEOUT, 500),),
        "mark": (big(C.CTA_MARK, 9),),
        "mark-mask": _MARK_1,
        "status": (big(C.CTA_STATUS, C.IPS_ASSURED | C.IPS_CONFIRMED | C.IPS_SEEN_REPLY),),
        "status-unset": (big(C.CTA_STATUS, 0),),
        "labels": (labels,),
        "labels-mask": (labels, attribute(C.CTA_LABELS_MASK, words(1, 0, 0, 0))),
        "helper": (nested(C.CTA_HELP, text(C.CTA_HELP_NAME, "ftp")),),
        "nat": (nested(C.CTA_NAT_SRC, attribute(C.CTA_NAT_V4_MINIP, _HERE)),),
    }


def _filters() -> dict[str, tuple[bytes, ...]]:
    """By what entries can be chosen, to be listed or deleted."""
    # CTA_FILTER_FLAG(CTA_IP_SRC): the bits are numbered by the attributes of a tuple
    chosen = nested(
        C.CTA_FILTER, attribute(C.CTA_FILTER_ORIG_FLAGS, words(1 << C.CTA_IP_V4_SRC - 1))
    )
    return {
        "mark": _MARK_1,
        "status": (big(C.CTA_STATUS, C.IPS_ASSURED), big(C.CTA_STATUS_MASK, C.IPS_ASSURED)),
        "zone": (big(C.CTA_ZONE, 5, 2),),
        "tuple": (chosen, _tuple(C.CTA_TUPLE_ORIG, _UDP, 1)),
    }
