"""Generic netlink, genetlink(7) of the kernel's networking documents: families and what they do.

``genl.FAMILY`` is one that is there, ``#version`` its version, ``#commands`` the
numbers of its commands, each with ``do`` or ``dump``, and ``#groups`` its groups;
``genl.FAMILY.COMMAND`` is a command that is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from hostabi.diff import keys
from hostabi.model import Kind, Value
from hostabi.surfaces.netlink_links import LOOPBACK, ONE, new_link, set_link
from hostabi.surfaces.netlink_messages import (
    GENERIC_HEAD,
    HEAD,
    Piece,
    attribute,
    attributes,
    be16,
    content,
    find,
    generic,
    nest,
    raw,
    text,
    u8,
    u16,
    u32,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_BUILT_IN = "nlctrl ethtool TASKSTATS devlink mptcp_pm netdev tcp_metrics VFS_DQUOT SEG6 IOAM6"
_OTHERS = (
    "wireguard macsec IPVS NET_DM psample fou ovs_datapath ovs_vport ovs_flow ovs_packet "
    "ovs_meter ovs_ct_limit nl80211 thermal acpi_event handshake dpll net-shaper ovpn "
    "NLBL_MGMT"
)
_ROOM = 4096
_COMMANDS, _GROUPS = "commands", "groups"
_DOES = ((0x2, "do"), (0x4, "dump"))
"""GENL_CMD_CAP_DO, GENL_CMD_CAP_DUMP: linux/genetlink.h."""
_ETHTOOL = (
    ("STRSET_GET", 1),
    ("LINKSTATE_GET", 6),
    ("FEATURES_GET", 11),
    ("TSINFO_GET", 25),
)
"""ETHTOOL_MSG_* of linux/ethtool_netlink.h, which our tables do not have."""
_DEVICE_NAME, _HEADER = 2, 1
"""ETHTOOL_A_HEADER_DEV_NAME, ETHTOOL_A_*_HEADER: of the same header."""
_DEVLINK_GET = 1
"""DEVLINK_CMD_GET: linux/devlink.h, which our tables do not have."""


def families() -> Iterator[Probe]:
    """Families, also those that come with a module."""
    q = Questions(timeout=30.0, arena=1 << 19)
    talk = Talk(q, C.NETLINK_GENERIC)
    rooms = {name: _describe(talk, name) for name in (*_BUILT_IN.split(), *_OTHERS.split())}
    for probe in q.probes():
        yield probe
        name, _, aspect = probe.key.removeprefix("genl.").partition("#")
        if aspect == _COMMANDS:
            read = _groups_in(rooms[name])
            yield dataclasses.replace(probe, key=f"genl.{name}#{_GROUPS}", read=read)


def _describe(talk: Talk, name: str) -> Slot:
    """One request, as each for a family that is not there asks for a module anew."""
    talk.room = talk.q.buffer(_ROOM)
    sent = talk.send(_asked(name))
    talk.receive(f"genl.{name}#{_COMMANDS}", _commands_in(talk.room), Kind.MEMBERS, (sent,))
    there = talk.code(f"genl.{name}", needs=(sent,))
    at = _family_at(name) + 8
    talk.number(f"genl.{name}#{keys.VERSION}", at, 4, lambda trace, ref: trace[ref], (there,))
    return talk.room


def _asked(name: str) -> Piece:
    about = attribute(C.CTRL_ATTR_FAMILY_NAME, text(name))
    return generic(C.GENL_ID_CTRL, C.CTRL_CMD_GETFAMILY, about)


def _family_at(name: str) -> int:
    """Where in the answer the family's number is, which comes after its name."""
    return HEAD + GENERIC_HEAD + 4 + (len(name) + 4 & ~3) + 4


def _entries(trace: Trace, ref: Ref, room: Slot, kind: int) -> list[dict[int, bytes]]:
    """The attributes of each element of a list in the description of a family."""
    answer = trace.bytes(ref, room)[: max(trace[ref], 0)]
    found = find(content(answer, GENERIC_HEAD), (kind,))
    return [dict(attributes(each)) for _, each in attributes(found or b"")]


def _described(trace: Trace, ref: Ref, room: Slot) -> bool:
    """Whether the answer is no error."""
    return int.from_bytes(trace.bytes(ref, room)[4:6], "little") == C.GENL_ID_CTRL


def _commands_in(room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> Value:
        if not _described(trace, ref, room):
            return None
        told: list[str] = []
        for entry in _entries(trace, ref, room, C.CTRL_ATTR_OPS):
            number = int.from_bytes(entry.get(C.CTRL_ATTR_OP_ID, b"")[:4], "little")
            flags = int.from_bytes(entry.get(C.CTRL_ATTR_OP_FLAGS, b"")[:4], "little")
            told += [f"{number} {what}" for bit, what in _DOES if flags & bit]
        return sorted(told)

    return read


def _groups_in(room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> Value:
        if not _described(trace, ref, room):
            return None
        entries = _entries(trace, ref, room, C.CTRL_ATTR_MCAST_GROUPS)
        names = (entry.get(C.CTRL_ATTR_MCAST_GRP_NAME, b"")[:16] for entry in entries)
        return sorted(name.rstrip(b"\0").decode("ascii", "replace") for name in names)

    return read


@dataclasses.dataclass
class _Family:
    """Commands of one family, which is called by the number that the kernel gave it."""

    talk: Talk
    name: str
    where: str = "netns"
    """In a network namespace other than the machine's, or where it is asked from."""

    def __post_init__(self) -> None:
        answer, self.talk.room = self.talk.room, self.talk.q.buffer(512)
        self.known = self.talk.ask(f"genl.{self.name}.{self.where}", _asked(self.name))
        self.number = self.talk.room.word(_family_at(self.name) // 2, size=2)
        self.talk.room = answer

    def ask(self, key: str, command: int, *body: Piece, dump: bool = False, plain: bool = False,
            given: Sequence[Ref] = ()) -> Ref:  # fmt: skip
        """Give a command; a ``plain`` one has no data for an answer."""
        flags = C.NLM_F_DUMP if dump else C.NLM_F_ACK if plain else 0
        asked = generic(self.number, command, *body, flags=flags)
        key = f"genl.{self.name}.{key}"
        under = (self.known, *given)
        if dump:
            return self.talk.dump(key, asked, under)
        return self.talk.ask(key, asked, under)


def statistics(q: Questions) -> None:
    """What is counted about a process: accounting/taskstats.rst."""
    stats = _Family(Talk(q, C.NETLINK_GENERIC), "TASKSTATS", "here")
    me = q.call("getpid", opaque=True)
    for name in ("PID", "TGID"):
        who = attribute(getattr(C, f"TASKSTATS_CMD_ATTR_{name}"), u32(me))
        stats.ask(f"GET.{name}", C.TASKSTATS_CMD_GET, who)


def commands(q: Questions) -> None:
    """Commands of families that need no module."""
    talk = Talk(q, C.NETLINK_GENERIC)
    device = nest(_HEADER, attribute(_DEVICE_NAME, text("lo")))
    ethtool = _Family(talk, "ethtool")
    for name, number in _ETHTOOL:
        ethtool.ask(name, number, device, dump=name == "STRSET_GET")
    _multipath(talk)
    _Family(talk, "TASKSTATS")
    netdev = _Family(talk, "netdev")
    netdev.ask("DEV_GET", C.NETDEV_CMD_DEV_GET, attribute(C.NETDEV_A_DEV_IFINDEX, u32(1)))
    for name in ("QUEUE_GET", "NAPI_GET", "PAGE_POOL_GET", "QSTATS_GET"):
        netdev.ask(name, getattr(C, f"NETDEV_CMD_{name}"), dump=True)
    _Family(talk, "devlink").ask("GET", _DEVLINK_GET, dump=True)
    _Family(talk, "tcp_metrics").ask("GET", C.TCP_METRICS_CMD_GET, dump=True)
    source = attribute(C.SEG6_ATTR_DST, raw(bytes.fromhex("fd00") + bytes(13) + b"\1"))
    segments = _Family(talk, "SEG6")
    segments.ask("SET_TUNSRC", C.SEG6_CMD_SET_TUNSRC, source, plain=True)
    segments.ask("GET_TUNSRC", C.SEG6_CMD_GET_TUNSRC)
    space = attribute(C.IOAM6_ATTR_NS_ID, u16(5))
    _Family(talk, "IOAM6").ask("ADD_NAMESPACE", C.IOAM6_CMD_ADD_NAMESPACE, space, plain=True)
    control = _Family(talk, "nlctrl")
    policy = attribute(C.CTRL_ATTR_FAMILY_NAME, text("nlctrl"))
    control.ask("GETPOLICY", C.CTRL_CMD_GETPOLICY, policy, dump=True)
    control.ask("GETFAMILY.dump", C.CTRL_CMD_GETFAMILY, dump=True)


def _multipath(talk: Talk) -> None:
    """Addresses that multipath TCP tells its peers: linux/mptcp_pm.h."""
    manager = _Family(talk, "mptcp_pm")
    for name, flags in (
        ("SIGNAL", C.MPTCP_PM_ADDR_FLAG_SIGNAL),
        ("SUBFLOW", C.MPTCP_PM_ADDR_FLAG_SUBFLOW),
        ("FULLMESH", C.MPTCP_PM_ADDR_FLAG_SUBFLOW | C.MPTCP_PM_ADDR_FLAG_FULLMESH),
        ("LAMINAR", C.MPTCP_PM_ADDR_FLAG_SUBFLOW | C.MPTCP_PM_ADDR_FLAG_LAMINAR),
    ):
        address = (
            attribute(C.MPTCP_PM_ADDR_ATTR_FAMILY, u16(C.AF_INET)),
            attribute(C.MPTCP_PM_ADDR_ATTR_ADDR4, raw(bytes((10, 0, flags, 1)))),
            attribute(C.MPTCP_PM_ADDR_ATTR_FLAGS, u32(flags)),
        )
        body = nest(C.MPTCP_PM_ATTR_ADDR, *address)
        manager.ask(f"ADD_ADDR.{name}", C.MPTCP_PM_CMD_ADD_ADDR, body, plain=True)
    manager.ask("GET_LIMITS", C.MPTCP_PM_CMD_GET_LIMITS)
    limits = attribute(C.MPTCP_PM_ATTR_RCV_ADD_ADDRS, u32(2))
    limits += attribute(C.MPTCP_PM_ATTR_SUBFLOWS, u32(2))
    manager.ask("SET_LIMITS", C.MPTCP_PM_CMD_SET_LIMITS, limits, plain=True)


def services(q: Questions) -> None:
    """Commands of families that come with a module."""
    talk, route = Talk(q, C.NETLINK_GENERIC), Talk(q, C.NETLINK_ROUTE)
    # a destination has to be an address that is known
    route.do(set_link(LOOPBACK, flags=C.IFF_UP))
    _balanced(talk)
    _tunnels(talk, route)
    switch = _Family(talk, "ovs_datapath")
    datapath = (
        attribute(C.OVS_DP_ATTR_NAME, text("ovs0")),
        attribute(C.OVS_DP_ATTR_UPCALL_PID, u32(0)),
    )
    switch.ask("NEW", C.OVS_DP_CMD_NEW, u32(0), *datapath, plain=True)
    fou = _Family(talk, "fou")
    port = (
        attribute(C.FOU_ATTR_PORT, be16(5555)),
        attribute(C.FOU_ATTR_IPPROTO, u8(4)),
        attribute(C.FOU_ATTR_TYPE, u8(1)),
    )
    fou.ask("ADD", C.FOU_CMD_ADD, *port, plain=True)
    _Family(talk, "net-shaper").ask(
        "CAP_GET", C.NET_SHAPER_CMD_CAP_GET, attribute(C.NET_SHAPER_A_CAPS_IFINDEX, u32(1)),
        attribute(C.NET_SHAPER_A_CAPS_SCOPE, u32(1)),
    )  # fmt: skip


def _balanced(talk: Talk) -> None:
    """A service of IPVS, as kube-proxy makes them, with a destination."""
    balancer = _Family(talk, "IPVS")
    key = (
        attribute(C.IPVS_SVC_ATTR_AF, u16(C.AF_INET)),
        attribute(C.IPVS_SVC_ATTR_PROTOCOL, u16(6)),
        attribute(C.IPVS_SVC_ATTR_ADDR, raw(bytes((10, 0, 0, 1)) + bytes(12))),
        attribute(C.IPVS_SVC_ATTR_PORT, be16(80)),
    )
    about = (
        attribute(C.IPVS_SVC_ATTR_SCHED_NAME, text("rr")),
        attribute(C.IPVS_SVC_ATTR_FLAGS, u32(0, 0xFFFFFFFF)),
        attribute(C.IPVS_SVC_ATTR_TIMEOUT, u32(0)),
        attribute(C.IPVS_SVC_ATTR_NETMASK, u32(0xFFFFFFFF)),
    )
    service = nest(C.IPVS_CMD_ATTR_SERVICE, *key, *about)
    made = balancer.ask("NEW_SERVICE", C.IPVS_CMD_NEW_SERVICE, service, plain=True)
    target = nest(
        C.IPVS_CMD_ATTR_DEST,
        attribute(C.IPVS_DEST_ATTR_ADDR, raw(bytes((127, 0, 0, 1)) + bytes(12))),
        attribute(C.IPVS_DEST_ATTR_PORT, be16(80)),
        attribute(C.IPVS_DEST_ATTR_FWD_METHOD, u32(0)),
        attribute(C.IPVS_DEST_ATTR_WEIGHT, u32(1)),
        attribute(C.IPVS_DEST_ATTR_U_THRESH, u32(0)),
        attribute(C.IPVS_DEST_ATTR_L_THRESH, u32(0)),
    )
    where = nest(C.IPVS_CMD_ATTR_SERVICE, *key)
    balancer.ask("NEW_DEST", C.IPVS_CMD_NEW_DEST, where, target, plain=True, given=(made,))
    balancer.ask("GET_INFO", C.IPVS_CMD_GET_INFO)


def _tunnels(talk: Talk, route: Talk) -> None:
    """What is told a device of WireGuard, and about those of MACsec."""
    guard = _Family(talk, "wireguard")
    made = route.do(new_link("wireguard", ONE))
    device = attribute(C.WGDEVICE_A_IFINDEX, u32(ONE))
    secret = attribute(C.WGDEVICE_A_PRIVATE_KEY, raw(bytes((8, *bytes(30), 64))))
    port = attribute(C.WGDEVICE_A_LISTEN_PORT, u16(51820))
    guard.ask("SET_DEVICE", C.WG_CMD_SET_DEVICE, device, secret, port, plain=True, given=(made,))
    guard.ask("GET_DEVICE", C.WG_CMD_GET_DEVICE, device, dump=True, given=(made,))
    _Family(talk, "macsec").ask("GET_TXSC", C.MACSEC_CMD_GET_TXSC, dump=True)
