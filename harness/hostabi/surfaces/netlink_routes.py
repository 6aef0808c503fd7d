"""Addresses, routes, next hops and rules by rtnetlink(7).

What is asked for is there when the notification about it tells it: an attribute that a
kernel does not know is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostabi.surfaces.netlink_links import LOOPBACK, ONE, new_link, set_link
from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    be16,
    be32,
    message,
    nest,
    raw,
    text,
    u8,
    u16,
    u32,
    u64,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.table import C

_MAKE = C.NLM_F_CREATE | C.NLM_F_EXCL
_ADDRESS_HEAD, _ROUTE_HEAD, _RULE_HEAD, _HOP_HEAD = 8, 12, 12, 8
_DUMPS = (
    ("RTM_GETLINK", 16),
    ("RTM_GETADDR", 8),
    ("RTM_GETROUTE", 12),
    ("RTM_GETNEIGH", 12),
    ("RTM_GETRULE", 12),
    ("RTM_GETQDISC", 20),
    ("RTM_GETNEIGHTBL", 4),
    ("RTM_GETADDRLABEL", 12),
    ("RTM_GETNETCONF", 4),
    ("RTM_GETNSID", 4),
    ("RTM_GETMULTICAST", 8),
    ("RTM_GETANYCAST", 8),
    ("RTM_GETNEXTHOP", 8),
    ("RTM_GETNEXTHOPBUCKET", 8),
)
"""Lists, and bytes of the header that asks for them."""
_FAMILIES = {
    "RTM_GETADDRLABEL": C.AF_INET6,
    "RTM_GETMULTICAST": C.AF_INET6,
    "RTM_GETANYCAST": C.AF_INET6,
}


def lists(q: Questions) -> None:
    """Dumps, which anybody may ask for, and checking them strictly."""
    talk = Talk(q, C.NETLINK_ROUTE)
    for name, size in _DUMPS:
        family = _FAMILIES.get(name, C.AF_UNSPEC)
        for key, strict in (("", False), (".strict", True)):
            if strict:
                talk.option("NETLINK_GET_STRICT_CHK")
            head = u8(family) + raw(bytes(size - 1))
            talk.dump(f"route.{name}{key}", message(getattr(C, name), C.NLM_F_DUMP, head))
    wrong = u8(C.AF_INET) + raw(bytes(7)) + attribute(0x3FF, u32(1))
    for key, strict in (("", False), (".strict", True)):
        if strict:
            talk.option("NETLINK_GET_STRICT_CHK")
        asked = message(C.RTM_GETADDR, C.NLM_F_DUMP, wrong)
        talk.dump(f"route.RTM_GETADDR.unknown-attribute{key}", asked)


def routes(q: Questions) -> None:
    """What leads packets through a network namespace in which nothing else is."""
    for ask, groups in (
        (_addresses, (C.RTNLGRP_IPV4_IFADDR,)),
        (_routes, (C.RTNLGRP_IPV4_ROUTE,)),
        (_objects, (C.RTNLGRP_NEXTHOP,)),
        (_rules, (C.RTNLGRP_IPV4_RULE,)),
    ):
        ask(_talk(q, groups, first=ask is _addresses))


def tunnels(q: Questions) -> None:
    """Routes into tunnels."""
    _encaps(_talk(q, (C.RTNLGRP_IPV4_ROUTE, C.RTNLGRP_IPV6_ROUTE), first=True))


def _talk(q: Questions, groups: Sequence[int], *, first: bool) -> Talk:
    """A socket that hears what changes, and before the ``first`` a device that is up."""
    talk = Talk(q, C.NETLINK_ROUTE)
    if first:
        talk.do(new_link("dummy", ONE))
        talk.do(set_link(ONE, flags=C.IFF_UP))
        talk.do(set_link(LOOPBACK, flags=C.IFF_UP))
        talk.do(_address(C.AF_INET, bytes((10, 0, 0, 1)), flags=C.NLM_F_ACK))
    for group in groups:
        talk.option("NETLINK_ADD_MEMBERSHIP", group)
    return talk


def _address(family: int, address: bytes, *more: Piece, flags: int = 0) -> Piece:
    head = u8(family, 24 if family == C.AF_INET else 64, 0, 0) + u32(ONE)
    local = attribute(C.IFA_LOCAL, raw(address)) + attribute(C.IFA_ADDRESS, raw(address))
    return message(C.RTM_NEWADDR, _MAKE | flags, head, local, *more)


def _addresses(talk: Talk) -> None:
    more = (
        ("IFA_LABEL", text(f"n{ONE}:1"), None),
        ("IFA_BROADCAST", raw(bytes((10, 0, 9, 255))), None),
        ("IFA_CACHEINFO", u32(60, 60, 0, 0), None),
        ("IFA_RT_PRIORITY", u32(77), (4, 77)),
        ("IFA_PROTO", u8(5), (1, 5)),
        ("IFA_F_NOPREFIXROUTE", u32(C.IFA_F_NOPREFIXROUTE), (4, 0x200 | C.IFA_F_PERMANENT)),
    )
    for index, (name, content, value) in enumerate(more, 1):
        kind = C.IFA_FLAGS if name.startswith("IFA_F_") else getattr(C, name)
        asked = _address(C.AF_INET, bytes((10, 0, index, 1)), attribute(kind, content))
        talk.told(f"address.{name}", asked, HEAD + _ADDRESS_HEAD, (kind,), value)
    talk.all_pass()
    for index, name in enumerate(("NODAD", "MANAGETEMPADDR", "HOMEADDRESS", "OPTIMISTIC"), 1):
        flag = attribute(C.IFA_FLAGS, u32(getattr(C, f"IFA_F_{name}")))
        address = bytes.fromhex("fd01") + bytes(13) + bytes((index,))
        asked = _address(C.AF_INET6, address, flag, flags=C.NLM_F_ACK)
        talk.ask(f"address6.IFA_F_{name}", asked)


def _route(
    index: int,
    *more: Piece,
    kind: int = C.RTN_UNICAST,
    family: int = C.AF_INET,
    far: bool = False,
) -> Piece:
    """A route to a network of its own number; one that is ``far`` is behind a gateway."""
    wide, to = 24, bytes((10, 99, index, 0))
    if family == C.AF_INET6:
        wide, to = 64, bytes.fromhex("fd99") + bytes((0, index)) + bytes(12)
    plain = kind in (C.RTN_UNICAST, C.RTN_LOCAL, C.RTN_BROADCAST, C.RTN_MULTICAST)
    scope = C.RT_SCOPE_LINK if plain and not far and family == C.AF_INET else C.RT_SCOPE_UNIVERSE
    scope = C.RT_SCOPE_HOST if kind == C.RTN_LOCAL else scope
    head = u8(family, wide, 0, 0, C.RT_TABLE_MAIN, C.RTPROT_STATIC, scope, kind) + u32(0)
    return message(C.RTM_NEWROUTE, _MAKE, head, attribute(C.RTA_DST, raw(to)), *more)


def _out(device: int = ONE) -> Piece:
    return attribute(C.RTA_OIF, u32(device))


def _metric(name: str, content: Piece) -> Piece:
    return nest(C.RTA_METRICS, attribute(getattr(C, name), content))


def _routes(talk: Talk) -> None:
    for index, name in enumerate(
        ("UNICAST", "LOCAL", "BROADCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT",
         "THROW"), 1,
    ):  # fmt: skip
        kind = getattr(C, f"RTN_{name}")
        out = _out() if index < 5 else Piece()
        asked = _route(index, out, kind=kind)
        talk.told(f"route.RTN_{name}", asked, HEAD + _ROUTE_HEAD, (C.RTA_DST,))
    for index, (name, content) in enumerate(
        (
            ("RTAX_MTU", u32(1400)),
            ("RTAX_ADVMSS", u32(1200)),
            ("RTAX_INITCWND", u32(20)),
            ("RTAX_QUICKACK", u32(1)),
            ("RTAX_RTO_MIN", u32(200)),
            ("RTAX_CC_ALGO", text("cubic")),
            ("RTAX_FASTOPEN_NO_COOKIE", u32(1)),
            ("RTAX_FEATURES", u32(C.RTAX_FEATURE_ECN)),
            ("RTAX_FEATURE_TCP_USEC_TS", u32(C.RTAX_FEATURE_TCP_USEC_TS)),
        ),
        20,
    ):
        number = "RTAX_FEATURES" if name.startswith("RTAX_FEATURE_") else name
        asked = _route(index, _out(), _metric(number, content))
        path = (C.RTA_METRICS, getattr(C, number))
        talk.told(f"route.{name}", asked, HEAD + _ROUTE_HEAD, path)
    via = attribute(C.RTA_VIA, u16(C.AF_INET6), raw(bytes.fromhex("fe80") + bytes(13) + b"\1"))
    for index, (name, content) in enumerate(
        (
            ("RTA_GATEWAY", _gateway() + _out()),
            ("RTA_VIA", via + _out()),
            ("RTA_PREFSRC", attribute(C.RTA_PREFSRC, raw(bytes((10, 0, 0, 1)))) + _out()),
            ("RTA_PRIORITY", attribute(C.RTA_PRIORITY, u32(7)) + _out()),
            ("RTA_TABLE", attribute(C.RTA_TABLE, u32(1000)) + _out()),
            ("RTA_MULTIPATH", _multipath()),
        ),
        40,
    ):
        kind = getattr(C, name)
        far = name in ("RTA_GATEWAY", "RTA_VIA", "RTA_MULTIPATH")
        talk.told(f"route.{name}", _route(index, content, far=far), HEAD + _ROUTE_HEAD, (kind,))


def _gateway(last: int = 2) -> Piece:
    return attribute(C.RTA_GATEWAY, raw(bytes((10, 0, 0, last))))


def _multipath() -> Piece:
    """Two struct rtnexthop."""
    each = [u16(16) + u8(0, 0) + u32(ONE) + _gateway(last) for last in (2, 3)]
    return attribute(C.RTA_MULTIPATH, *each)


def _hop(number: int, *more: Piece, family: int = C.AF_UNSPEC, flags: int = 0) -> Piece:
    head = u8(family, 0, C.RTPROT_STATIC, 0) + u32(0)
    return message(C.RTM_NEWNEXTHOP, _MAKE | flags, head, attribute(C.NHA_ID, u32(number)), *more)


def _objects(talk: Talk) -> None:
    """Next hops that routes refer to: RTM_NEWNEXTHOP."""
    at = HEAD + _HOP_HEAD
    via = attribute(C.NHA_OIF, u32(ONE)) + attribute(C.NHA_GATEWAY, raw(bytes((10, 0, 0, 2))))
    other = attribute(C.NHA_OIF, u32(ONE)) + attribute(C.NHA_GATEWAY, raw(bytes((10, 0, 0, 3))))
    one = talk.told("nexthop", _hop(1, via, family=C.AF_INET), at, (C.NHA_GATEWAY,))
    two = talk.do(_hop(2, other, family=C.AF_INET, flags=C.NLM_F_ACK))
    both = (one, two)
    black = attribute(C.NHA_BLACKHOLE)
    told = at, (C.NHA_BLACKHOLE,)
    talk.told("nexthop.NHA_BLACKHOLE", _hop(3, black, family=C.AF_INET), *told)
    fdb = attribute(C.NHA_GATEWAY, raw(bytes((10, 0, 0, 4)))) + attribute(C.NHA_FDB)
    talk.told("nexthop.NHA_FDB", _hop(4, fdb, family=C.AF_INET), at, (C.NHA_FDB,))
    group = attribute(C.NHA_GROUP, u32(1) + u8(0, 0) + u16(0) + u32(2) + u8(0, 0) + u16(0))
    talk.told("nexthop.NHA_GROUP", _hop(10, group), at, (C.NHA_GROUP,), given=both)
    heavy = attribute(C.NHA_GROUP, u32(1) + u8(255, 1) + u16(0) + u32(2) + u8(0, 0) + u16(0))
    key = "nexthop.NHA_GROUP.weight-high"
    talk.told(key, _hop(11, heavy), at, (C.NHA_GROUP,), given=both)
    kind = attribute(C.NHA_GROUP_TYPE, u16(C.NEXTHOP_GRP_TYPE_RES))
    buckets = nest(C.NHA_RES_GROUP, attribute(C.NHA_RES_GROUP_BUCKETS, u16(8)))
    asked = _hop(12, group, kind, buckets)
    talk.told("nexthop.NHA_RES_GROUP", asked, at, (C.NHA_RES_GROUP,), given=both)
    counted = _hop(13, group, attribute(C.NHA_HW_STATS_ENABLE, u32(1)))
    talk.told("nexthop.NHA_HW_STATS_ENABLE", counted, at, (C.NHA_GROUP,), given=both)
    talk.option("NETLINK_ADD_MEMBERSHIP", C.RTNLGRP_IPV4_ROUTE)
    route = _route(60, attribute(C.RTA_NH_ID, u32(1)), far=True)
    talk.told("route.RTA_NH_ID", route, HEAD + _ROUTE_HEAD, (C.RTA_NH_ID,), given=(one,))


_RULES = (
    ("FRA_DST", 0, attribute(C.FRA_DST, raw(bytes((10, 0, 0, 1)))), None),
    ("FRA_FWMARK", 0, attribute(C.FRA_FWMARK, u32(3)), (4, 3)),
    ("FRA_FWMASK", 0, attribute(C.FRA_FWMARK, u32(3)) + attribute(C.FRA_FWMASK, u32(7)), (4, 7)),
    ("FRA_IIFNAME", 0, attribute(C.FRA_IIFNAME, text("lo")), None),
    ("FRA_OIFNAME", 0, attribute(C.FRA_OIFNAME, text("lo")), None),
    ("FRA_TABLE", 0, attribute(C.FRA_TABLE, u32(1000)), (4, 1000)),
    ("FRA_UID_RANGE", 0, attribute(C.FRA_UID_RANGE, u32(0, 0)), None),
    ("FRA_IP_PROTO", 0, attribute(C.FRA_IP_PROTO, u8(6)), (1, 6)),
    ("FRA_SPORT_RANGE", 0, attribute(C.FRA_SPORT_RANGE, u16(80, 80)), None),
    ("FRA_DPORT_RANGE", 0, attribute(C.FRA_DPORT_RANGE, u16(80, 80)), None),
    ("FRA_PROTOCOL", 0, attribute(C.FRA_PROTOCOL, u8(C.RTPROT_STATIC)), (1, C.RTPROT_STATIC)),
    ("FRA_SUPPRESS_PREFIXLEN", 0, attribute(C.FRA_SUPPRESS_PREFIXLEN, u32(0)), (4, 0)),
    ("FRA_SUPPRESS_IFGROUP", 0, attribute(C.FRA_SUPPRESS_IFGROUP, u32(5)), (4, 5)),
    ("FRA_TUN_ID", 0, attribute(C.FRA_TUN_ID, raw(bytes(7) + b"\5")), None),
    ("FRA_FLOW", 0, attribute(C.FRA_FLOW, u32(5)), (4, 5)),
    ("FRA_DSCP", 0, attribute(C.FRA_DSCP, u8(8)), (1, 8)),
    ("FRA_DSCP_MASK", 0, attribute(C.FRA_DSCP, u8(8)) + attribute(C.FRA_DSCP_MASK, u8(8)), (1, 8)),
    ("FRA_SPORT_MASK", 0, attribute(C.FRA_SPORT_RANGE, u16(80, 80))
     + attribute(C.FRA_SPORT_MASK, u16(0xFFFF)), None),
    ("FRA_DPORT_MASK", 0, attribute(C.FRA_DPORT_RANGE, u16(80, 80))
     + attribute(C.FRA_DPORT_MASK, u16(0xFFFF)), None),
    ("FRA_L3MDEV", C.RT_TABLE_UNSPEC, attribute(C.FRA_L3MDEV, u8(1)), (1, 1)),
    ("FRA_GOTO", C.FR_ACT_GOTO, attribute(C.FRA_GOTO, u32(32766)), None),
)  # fmt: skip
"""Attribute, action, what is sent, and what must be told of it."""


def _rules(talk: Talk) -> None:
    at = HEAD + _RULE_HEAD
    for index, (name, action, content, value) in enumerate(_RULES, 1):
        table = attribute(C.FRA_TABLE, u32(100)) if "FRA_TABLE" not in name else Piece()
        table = Piece() if name in ("FRA_L3MDEV", "FRA_GOTO") else table
        wide = 32 if name == "FRA_DST" else 0
        act = action or C.FR_ACT_TO_TBL
        head = u8(C.AF_INET, wide, 0, 0, 0, 0, 0, act) + u32(0)
        order = attribute(C.FRA_PRIORITY, u32(1000 + index))
        asked = message(C.RTM_NEWRULE, _MAKE, head, order, table, content)
        talk.told(f"rule.{name}", asked, at, (getattr(C, name),), value)
    for index, name in enumerate(("NOP", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"), 1):
        head = u8(C.AF_INET, 0, 0, 0, 0, 0, 0, getattr(C, f"FR_ACT_{name}")) + u32(0)
        order = attribute(C.FRA_PRIORITY, u32(2000 + index))
        asked = message(C.RTM_NEWRULE, _MAKE, head, order)
        talk.told(f"rule.FR_ACT_{name}", asked, at, (C.FRA_PRIORITY,))


def _encaps(talk: Talk) -> None:
    """RTA_ENCAP: what leads into tunnels without a device."""
    segment = bytes.fromhex("fd05") + bytes(13) + b"\1"
    # struct ipv6_sr_hdr with one segment, after the mode; linux/seg6.h
    routing = bytes((0, 2, 4, 0, 0, 0, 0, 0)) + segment
    source = bytes((0, 2, 3, 1, 0, 0, 0, 0)) + segment
    # struct ioam6_trace_hdr: namespace, data of four bytes for one node, bit 0; linux/ioam6.h
    trace = be16(1) + u8(1 << 3, 1) + be32(1 << 31)
    forms: tuple[tuple[str, int, Piece], ...] = (
        ("IP", C.AF_INET, attribute(C.LWTUNNEL_IP_ID, u64(7))
         + attribute(C.LWTUNNEL_IP_DST, raw(bytes((10, 0, 0, 9))))),
        ("IP6", C.AF_INET6, attribute(C.LWTUNNEL_IP6_ID, u64(7))
         + attribute(C.LWTUNNEL_IP6_DST, raw(segment))),
        ("MPLS", C.AF_INET, attribute(C.MPLS_IPTUNNEL_DST, be32(100 << 12 | 1 << 8))),
        ("SEG6", C.AF_INET6, attribute(C.SEG6_IPTUNNEL_SRH, u32(C.SEG6_IPTUN_MODE_ENCAP),
                                       raw(routing))),
        ("SEG6_LOCAL", C.AF_INET6, attribute(C.SEG6_LOCAL_ACTION, u32(C.SEG6_LOCAL_ACTION_END))),
        ("RPL", C.AF_INET6, attribute(C.RPL_IPTUNNEL_SRH, raw(source))),
        ("IOAM6", C.AF_INET6, attribute(C.IOAM6_IPTUNNEL_TRACE, trace)),
        ("XFRM", C.AF_INET, attribute(C.LWT_XFRM_IF_ID, u32(9))),
    )  # fmt: skip
    for index, (name, family, content) in enumerate(forms, 1):
        kind = attribute(C.RTA_ENCAP_TYPE, u16(getattr(C, f"LWTUNNEL_ENCAP_{name}")))
        asked = _route(index, _out(), kind, nest(C.RTA_ENCAP, content), family=family)
        told = HEAD + _ROUTE_HEAD, (C.RTA_ENCAP,)
        talk.told(f"route.encap.{name}", asked, *told)
