"""What is set about network devices by rtnetlink(7): names, sizes, queues, and where they live.

A setting is right when the kernel tells it afterwards as it was set; one that a
kernel does not know it passes over in silence, which reads ENODATA.
"""

from __future__ import annotations

from hostabi.surfaces.netlink_links import (
    LINK_HEAD,
    LOOPBACK,
    ONE,
    OTHER,
    get_link,
    link_head,
    new_link,
    set_link,
)
from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    message,
    nest,
    numbers,
    raw,
    text,
    u8,
    u16,
    u32,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_AT = HEAD + LINK_HEAD
_BRIDGE, _VETH, _PEER, _MOVED, _MADE = 110, 120, 121, 130, 131
_SETTINGS = (
    ("IFLA_MTU", 4, 1400),
    ("IFLA_TXQLEN", 4, 77),
    ("IFLA_GROUP", 4, 5),
    ("IFLA_GSO_MAX_SIZE", 4, 32768),
    ("IFLA_GSO_MAX_SEGS", 4, 100),
    ("IFLA_GRO_MAX_SIZE", 4, 32768),
    ("IFLA_GSO_IPV4_MAX_SIZE", 4, 32768),
    ("IFLA_GRO_IPV4_MAX_SIZE", 4, 32768),
    ("IFLA_LINKMODE", 1, 1),
    ("IFLA_PROTO_DOWN", 1, 1),
)
"""Attribute, bytes, value."""
_TELLS = (
    "IFLA_TSO_MAX_SIZE IFLA_TSO_MAX_SEGS IFLA_ALLMULTI IFLA_PROMISCUITY IFLA_MIN_MTU "
    "IFLA_CARRIER_UP_COUNT IFLA_NUM_TX_QUEUES IFLA_XDP IFLA_STATS64 "
    "IFLA_MAX_PACING_OFFLOAD_HORIZON IFLA_NETNS_IMMUTABLE IFLA_HEADROOM IFLA_TAILROOM "
    "IFLA_MAP IFLA_QDISC IFLA_DPLL_PIN"
)
"""What is told of any device."""
_BRIDGING = (
    ("IFLA_BR_VLAN_FILTERING", 1, 1),
    ("IFLA_BR_VLAN_STATS_ENABLED", 1, 1),
    ("IFLA_BR_VLAN_DEFAULT_PVID", 2, 7),
    ("IFLA_BR_MCAST_SNOOPING", 1, 0),
    ("IFLA_BR_MCAST_QUERIER", 1, 1),
    ("IFLA_BR_NF_CALL_IPTABLES", 1, 1),
    ("IFLA_BR_GROUP_FWD_MASK", 2, 8),
    ("IFLA_BR_FDB_MAX_LEARNED", 4, 100),
    ("IFLA_BR_PRIORITY", 2, 100),
)
_PORT = (
    ("IFLA_BRPORT_MODE", 1, 1),
    ("IFLA_BRPORT_UNICAST_FLOOD", 1, 0),
    ("IFLA_BRPORT_ISOLATED", 1, 1),
    ("IFLA_BRPORT_NEIGH_SUPPRESS", 1, 1),
    ("IFLA_BRPORT_LOCKED", 1, 1),
    ("IFLA_BRPORT_MAB", 1, 1),
    ("IFLA_BRPORT_MCAST_MAX_GROUPS", 4, 10),
    ("IFLA_BRPORT_NEIGH_VLAN_SUPPRESS", 1, 1),
    ("IFLA_BRPORT_NEIGH_FORWARD_GRAT", 1, 1),
)
_BOOLEANS = ("NO_LL_LEARN", "MCAST_VLAN_SNOOPING", "MST_ENABLE", "MDB_OFFLOAD_FAIL_NOTIFICATION")
"""BR_BOOLOPT_* of linux/if_bridge.h, by their bit."""


def settings(q: Questions) -> None:
    """A device, a bridge it is put under, and neighbours."""
    talk = Talk(q, C.NETLINK_ROUTE)
    for index in (ONE, OTHER):
        talk.do(new_link("dummy", index))
    _settings(talk)
    _neighbours(talk)
    _bridged(talk)


def _settings(talk: Talk) -> None:
    for name, size, value in _SETTINGS:
        kind = getattr(C, name)
        done = talk.do(set_link(ONE, attribute(kind, numbers(size, value))))
        told = get_link(ONE), _AT, (kind,), (size, value)
        talk.told(f"device.{name}", *told, needs=(done,))
    for name in _TELLS.split():
        talk.told(f"device.{name}.told", get_link(ONE), _AT, (getattr(C, name),))
    _inet6(talk)
    talk.all_pass()
    changes: tuple[tuple[str, Piece, int], ...] = (
        ("IFLA_ADDRESS", attribute(C.IFLA_ADDRESS, raw(bytes((2, 0, 0, 0, 0, 9)))), 0),
        ("IFLA_IFALIAS", attribute(C.IFLA_IFALIAS, text("alias")), 0),
        ("IFLA_CARRIER", attribute(C.IFLA_CARRIER, u8(0)), 0),
        ("IFLA_OPERSTATE", attribute(C.IFLA_OPERSTATE, u8(5)), 0),
        ("IFF_UP", Piece(), C.IFF_UP),
        ("IFF_PROMISC", Piece(), C.IFF_PROMISC),
        ("IFLA_IFNAME.up", attribute(C.IFLA_IFNAME, text("renamed")), 0),
        ("IFLA_XDP", nest(C.IFLA_XDP, attribute(C.IFLA_XDP_FD, u32(0xFFFFFFFF))), 0),
    )
    for key, content, flags in changes:
        index = OTHER if key in ("IFLA_CARRIER", "IFLA_OPERSTATE") else ONE
        talk.ask(f"device.{key}", set_link(index, content, flags=flags))
    other = nest(C.IFLA_PROP_LIST, attribute(C.IFLA_ALT_IFNAME, text("another-name-for-it")))
    talk.ask("device.IFLA_ALT_IFNAME", message(C.RTM_NEWLINKPROP, C.NLM_F_ACK | C.NLM_F_EXCL
             | C.NLM_F_CREATE | C.NLM_F_APPEND, link_head(ONE), other))  # fmt: skip
    by_name = attribute(C.IFLA_ALT_IFNAME, text("another-name-for-it"))
    talk.ask("device.IFLA_ALT_IFNAME.found", message(C.RTM_GETLINK, 0, link_head(), by_name))
    stats = u8(C.AF_UNSPEC, 0) + u16(0) + u32(ONE, 1 << C.IFLA_STATS_LINK_64 - 1)
    talk.ask("device.RTM_GETSTATS", message(C.RTM_GETSTATS, 0, stats))
    config = u8(C.AF_INET) + raw(bytes(3)) + attribute(C.NETCONFA_IFINDEX, u32(ONE))
    talk.ask("device.RTM_GETNETCONF", message(C.RTM_GETNETCONF, 0, config))


def _inet6(talk: Talk) -> None:
    """Ways to make addresses: IN6_ADDR_GEN_MODE_*."""
    for name, value in (("EUI64", 0), ("NONE", 1), ("RANDOM", 3)):
        mode = nest(C.AF_INET6, attribute(C.IFLA_INET6_ADDR_GEN_MODE, u8(value)))
        done = talk.do(set_link(ONE, nest(C.IFLA_AF_SPEC, mode)))
        path = (C.IFLA_AF_SPEC, C.AF_INET6, C.IFLA_INET6_ADDR_GEN_MODE)
        key = f"device.IFLA_INET6_ADDR_GEN_MODE.{name}"
        talk.told(key, get_link(ONE), _AT, path, (1, value), needs=(done,))


def _of_bridge(kind: int, content: Piece) -> Piece:
    """An attribute that only a bridge has."""
    about = attribute(C.IFLA_INFO_KIND, text("bridge"))
    return nest(C.IFLA_LINKINFO, about, nest(C.IFLA_INFO_DATA, attribute(kind, content)))


def _bridged(talk: Talk) -> None:
    made = talk.do(new_link("bridge", _BRIDGE))
    for name, size, value in _BRIDGING:
        kind = getattr(C, name)
        done = talk.do(set_link(_BRIDGE, _of_bridge(kind, numbers(size, value))))
        path = (C.IFLA_LINKINFO, C.IFLA_INFO_DATA, kind)
        told = get_link(_BRIDGE), _AT, path, (size, value)
        talk.told(f"bridge.{name}", *told, given=(made,), needs=(done,))
    path = (C.IFLA_LINKINFO, C.IFLA_INFO_DATA, C.IFLA_BR_MULTI_BOOLOPT)
    for number, name in enumerate(_BOOLEANS):
        bit = 1 << number
        done = talk.do(set_link(_BRIDGE, _of_bridge(C.IFLA_BR_MULTI_BOOLOPT, u32(bit, bit))))
        told = get_link(_BRIDGE), _AT, path, (4, bit)
        talk.told(f"bridge.BR_BOOLOPT_{name}", *told, given=(made,), needs=(done,))
        talk.do(set_link(_BRIDGE, _of_bridge(C.IFLA_BR_MULTI_BOOLOPT, u32(0, bit))))
    talk.all_pass()
    master = attribute(C.IFLA_MASTER, u32(_BRIDGE))
    joined = talk.ask("bridge.IFLA_MASTER", set_link(ONE, master), (made,))
    for name, size, value in _PORT:
        kind = getattr(C, name)
        body = nest(C.IFLA_PROTINFO, attribute(kind, numbers(size, value)))
        head = link_head(ONE, family=C.AF_BRIDGE)
        done = talk.do(message(C.RTM_SETLINK, C.NLM_F_ACK, head, body))
        path = (C.IFLA_LINKINFO, C.IFLA_INFO_SLAVE_DATA, kind)
        told = get_link(ONE), _AT, path, (size, value)
        talk.told(f"bridge.{name}", *told, given=(joined,), needs=(done,))
    talk.all_pass()
    # groups are kept by a bridge that is up and looks for them
    looks = _of_bridge(C.IFLA_BR_MCAST_SNOOPING, u8(1))
    talk.do(set_link(_BRIDGE, looks, flags=C.IFF_UP))
    _members(talk, joined)


def _members(talk: Talk, port: Ref) -> None:
    """VLANs, stations and groups of a bridge's port."""
    ref = (port,)
    head = link_head(ONE, family=C.AF_BRIDGE)
    vlan = nest(C.IFLA_AF_SPEC, attribute(C.IFLA_BRIDGE_VLAN_INFO, u16(0, 9)))
    talk.ask("bridge.IFLA_BRIDGE_VLAN_INFO", message(C.RTM_SETLINK, C.NLM_F_ACK, head, vlan), ref)
    entry = attribute(C.BRIDGE_VLANDB_ENTRY_INFO, u16(0, 10))
    head = u8(C.AF_BRIDGE) + raw(bytes(3)) + u32(ONE)
    new = message(C.RTM_NEWVLAN, C.NLM_F_ACK, head, nest(C.BRIDGE_VLANDB_ENTRY, entry))
    talk.ask("bridge.RTM_NEWVLAN", new, ref)
    talk.dump("bridge.RTM_GETVLAN", message(C.RTM_GETVLAN, C.NLM_F_DUMP, head), ref)
    station = attribute(C.NDA_LLADDR, raw(bytes((2, 0, 0, 0, 0, 7))))
    for name, state, flags in (
        ("static", C.NUD_NOARP, C.NTF_MASTER),
        ("NTF_STICKY", C.NUD_NOARP, C.NTF_MASTER | C.NTF_STICKY),
        ("NTF_EXT_LEARNED", C.NUD_REACHABLE, C.NTF_MASTER | C.NTF_EXT_LEARNED),
        ("NTF_SELF", C.NUD_PERMANENT, C.NTF_SELF),
    ):
        here = u8(C.AF_BRIDGE, 0) + u16(0) + u32(ONE) + u16(state) + u8(flags, 0)
        replace = C.NLM_F_ACK | C.NLM_F_CREATE | C.NLM_F_REPLACE
        talk.ask(f"bridge.fdb.{name}", message(C.RTM_NEWNEIGH, replace, here, station), ref)
    # struct br_port_msg, struct br_mdb_entry: linux/if_bridge.h
    head = u8(C.AF_BRIDGE) + raw(bytes(3)) + u32(_BRIDGE)
    group = u32(ONE) + u8(1, 0) + u16(0) + raw(bytes((239, 1, 1, 1)) + bytes(12))
    group += raw(b"\x08\x00") + u16(0)
    put = message(
        C.RTM_NEWMDB, C.NLM_F_ACK | C.NLM_F_CREATE, head, attribute(C.MDBA_SET_ENTRY, group)
    )
    talk.ask("bridge.RTM_NEWMDB", put, ref)
    talk.dump("bridge.RTM_GETMDB", message(C.RTM_GETMDB, C.NLM_F_DUMP, head), ref)


def _neighbours(talk: Talk) -> None:
    at = HEAD + 12
    flags = C.NLM_F_CREATE | C.NLM_F_REPLACE
    forms: tuple[tuple[str, int, int, Piece, int], ...] = (
        ("NUD_PERMANENT", C.NUD_PERMANENT, 0, Piece(), C.NDA_LLADDR),
        ("NTF_EXT_LEARNED", C.NUD_REACHABLE, C.NTF_EXT_LEARNED, Piece(), C.NDA_LLADDR),
        ("NDA_PROTOCOL", C.NUD_PERMANENT, 0, attribute(C.NDA_PROTOCOL, u8(9)), C.NDA_PROTOCOL),
        ("NTF_EXT_MANAGED", C.NUD_NONE, 0,
         attribute(C.NDA_FLAGS_EXT, u32(C.NTF_EXT_MANAGED)), C.NDA_FLAGS_EXT),
        ("NTF_EXT_EXT_VALIDATED", C.NUD_STALE, C.NTF_EXT_LEARNED,
         attribute(C.NDA_FLAGS_EXT, u32(C.NTF_EXT_EXT_VALIDATED)), C.NDA_FLAGS_EXT),
    )  # fmt: skip
    for index, (name, state, flag, more, told) in enumerate(forms, 2):
        address = attribute(C.NDA_DST, raw(bytes((10, 0, 0, index))))
        station = attribute(C.NDA_LLADDR, raw(bytes((2, 0, 0, 0, 0, index))))
        station = Piece() if name == "NTF_EXT_MANAGED" else station
        head = u8(C.AF_INET, 0) + u16(0) + u32(ONE) + u16(state) + u8(flag, 0)
        done = talk.do(message(C.RTM_NEWNEIGH, C.NLM_F_ACK | flags, head, address, station, more))
        head = u8(C.AF_INET, 0) + u16(0) + u32(ONE) + u16(0) + u8(0, 0)
        get = message(C.RTM_GETNEIGH, 0, head, address)
        talk.told(f"neighbour.{name}", get, at, (told,), needs=(done,))
    talk.all_pass()
    proxy = u8(C.AF_INET, 0) + u16(0) + u32(ONE) + u16(0) + u8(C.NTF_PROXY, 0)
    address = attribute(C.NDA_DST, raw(bytes((10, 0, 0, 77))))
    put = message(C.RTM_NEWNEIGH, C.NLM_F_ACK | flags, proxy, address)
    talk.ask("neighbour.NTF_PROXY", put)


def moved(q: Questions) -> None:
    """Devices that are made in, or moved to, another network namespace, and its number."""
    talk = Talk(q, C.NETLINK_ROUTE)
    q.need("unshare", C.CLONE_NEWNET)
    there = q.need("openat", C.AT_FDCWD, q.string("/proc/self/ns/net"), C.O_RDONLY)
    me = q.need("getpid", opaque=True)
    by_fd, by_pid = attribute(C.IFLA_NET_NS_FD, u32(there)), attribute(C.IFLA_NET_NS_PID, u32(me))
    head = u8(C.AF_UNSPEC) + raw(bytes(3))
    which, number = attribute(C.NETNSA_FD, u32(there)), u32(7)
    put = message(C.RTM_NEWNSID, C.NLM_F_ACK, head, which, attribute(C.NETNSA_NSID, number))
    named = talk.ask("netns.RTM_NEWNSID", put)
    talk.ask("netns.RTM_GETNSID", message(C.RTM_GETNSID, 0, head, which), (named,))
    eth0 = attribute(C.IFLA_IFNAME, text("eth0"))
    other = nest(C.VETH_INFO_PEER, link_head(_PEER), eth0, by_fd)
    pair = talk.ask("netns.veth.peer.IFLA_NET_NS_FD", new_link("veth", _VETH, data=other))
    told = get_link(_VETH), _AT, (C.IFLA_LINK_NETNSID,)
    talk.told("netns.IFLA_LINK_NETNSID", *told, given=(pair,))
    talk.all_pass()
    for index in (ONE, OTHER):
        talk.do(new_link("dummy", index))
    talk.ask("netns.IFLA_NET_NS_PID", set_link(ONE, by_pid))
    renamed = attribute(C.IFLA_IFNAME, text("moved")), attribute(C.IFLA_NEW_IFINDEX, u32(_MOVED))
    moved = talk.do(set_link(OTHER, by_fd, *renamed))
    target = attribute(C.IFLA_TARGET_NETNSID, number)
    found = message(C.RTM_GETLINK, 0, link_head(_MOVED), target)
    talk.ask("netns.IFLA_NEW_IFINDEX", found, (named,), (moved,))
    get = message(C.RTM_GETLINK, 0, link_head(LOOPBACK), target)
    talk.ask("netns.IFLA_TARGET_NETNSID", get, (named,))
    talk.ask("netns.IFLA_TARGET_NETNSID.new", new_link("dummy", _MADE, target), (named,))
