"""Network devices by rtnetlink(7): kinds that can be made, their forms, and what can be set.

``link.KIND`` is a device of a kind that is made, ``link.KIND.FORM`` one with something
special about it, ``link.KIND.IFLA_NAME`` an attribute that the kernel then tells about it.
"""

from __future__ import annotations

import dataclasses

from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    be16,
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

LINK_HEAD = 16
"""Bytes of a struct ifinfomsg."""
LOOPBACK = 1
MAKE = C.NLM_F_ACK | C.NLM_F_CREATE | C.NLM_F_EXCL
ONE, OTHER, THIRD = 101, 102, 103
"""Indices of devices that others are put on; we choose them, as a kernel's own depend on
what other modules bring along."""
_FIRST = 200
_NONE = Piece()
_A, _B = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
_A6, _B6 = bytes.fromhex("fd00" + "0" * 26 + "01"), bytes.fromhex("fd00" + "0" * 26 + "02")


def link_head(index: int = 0, flags: int = 0, family: int = C.AF_UNSPEC) -> Piece:
    """A struct ifinfomsg; of the flags only those that are given are changed."""
    return u8(family, 0) + u16(0) + u32(index, flags, flags)


def new_link(kind: str, index: int, *more: Piece, data: Piece | None = None) -> Piece:
    """Makes a device that is called by its index."""
    about = [attribute(C.IFLA_INFO_KIND, text(kind))]
    if data is not None:
        about.append(nest(C.IFLA_INFO_DATA, data))
    name = attribute(C.IFLA_IFNAME, text(f"n{index}"))
    return message(
        C.RTM_NEWLINK, MAKE, link_head(index), name, *more, nest(C.IFLA_LINKINFO, *about)
    )


def set_link(index: int, *more: Piece, flags: int = 0) -> Piece:
    """Changes a device."""
    return message(C.RTM_NEWLINK, C.NLM_F_ACK, link_head(index, flags), *more)


def get_link(index: int) -> Piece:
    """Asks about a device."""
    return message(C.RTM_GETLINK, 0, link_head(index))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of device, or a form of one; ``lower`` is what it is put on.

    ``told`` are names of attributes of its own that are asked for, without ``prefix``.
    """

    name: str
    kind: str
    data: Piece | None = None
    lower: int = 0
    prefix: str = ""
    told: str = ""
    value: tuple[int, int] | None = None
    """Bytes and number that the one attribute of a form is told with."""


def _a(name: str, *content: Piece) -> Piece:
    return attribute(getattr(C, name), *content)


def _peer(kind: int, index: int) -> Piece:
    """The other end of a pair."""
    return nest(kind, link_head(index), attribute(C.IFLA_IFNAME, text(f"n{index}")))


def _ends(prefix: str) -> Piece:
    return _a(f"{prefix}_LOCAL", raw(_A)) + _a(f"{prefix}_REMOTE", raw(_B))


def _ends6(prefix: str) -> Piece:
    return _a(f"{prefix}_LOCAL", raw(_A6)) + _a(f"{prefix}_REMOTE", raw(_B6))


_VXLAN = _a("IFLA_VXLAN_ID", u32(7))
_GENEVE = _a("IFLA_GENEVE_ID", u32(7)) + _a("IFLA_GENEVE_REMOTE", raw(_B))
_KEYED = _a("IFLA_VTI_IKEY", u32(1)) + _a("IFLA_VTI_OKEY", u32(1))
_SEQUENCED = be16(0x1000 | 0x2000)
"""GRE_SEQ and GRE_KEY of linux/if_tunnel.h, without which there is no ERSPAN."""
_ERSPAN = (
    _a("IFLA_GRE_IFLAGS", _SEQUENCED)
    + _a("IFLA_GRE_OFLAGS", _SEQUENCED)
    + _a("IFLA_GRE_IKEY", u32(1 << 24))
    + _a("IFLA_GRE_OKEY", u32(1 << 24))
    + _a("IFLA_GRE_ERSPAN_INDEX", u32(1))
)
_TUNNEL = "LINK LOCAL REMOTE TTL TOS PMTUDISC FWMARK ENCAP_TYPE ENCAP_FLAGS"

KINDS = (
    Kind("dummy", "dummy"),
    Kind("ifb", "ifb"),
    Kind("nlmon", "nlmon"),
    Kind(
        "bridge",
        "bridge",
        prefix="IFLA_BR_",
        told="VLAN_FILTERING VLAN_STATS_ENABLED VLAN_STATS_PER_PORT MULTI_BOOLOPT "
        "FDB_N_LEARNED FDB_MAX_LEARNED STP_MODE MCAST_IGMP_VERSION "
        "NF_CALL_IPTABLES GROUP_FWD_MASK MCAST_HASH_MAX",
    ),
    Kind("veth", "veth", _peer(C.VETH_INFO_PEER, _FIRST - 1)),
    Kind("vrf", "vrf", _a("IFLA_VRF_TABLE", u32(10)), prefix="IFLA_VRF_", told="TABLE"),
    Kind(
        "macvlan",
        "macvlan",
        _a("IFLA_MACVLAN_MODE", u32(C.MACVLAN_MODE_BRIDGE)),
        ONE,
        "IFLA_MACVLAN_",
        "MODE FLAGS MACADDR_COUNT BC_QUEUE_LEN BC_QUEUE_LEN_USED",
    ),
    Kind("macvtap", "macvtap", _a("IFLA_MACVLAN_MODE", u32(C.MACVLAN_MODE_BRIDGE)), ONE),
    Kind(
        "vlan",
        "vlan",
        _a("IFLA_VLAN_ID", u16(5)),
        ONE,
        "IFLA_VLAN_",
        "ID PROTOCOL FLAGS",
    ),
    Kind(
        "ipvlan",
        "ipvlan",
        _a("IFLA_IPVLAN_MODE", u16(C.IPVLAN_MODE_L2)),
        OTHER,
        "IFLA_IPVLAN_",
        "MODE FLAGS",
    ),
    Kind("ipvtap", "ipvtap", _a("IFLA_IPVLAN_MODE", u16(C.IPVLAN_MODE_L2)), OTHER),
    Kind(
        "vxlan",
        "vxlan",
        _VXLAN + _a("IFLA_VXLAN_PORT", be16(4789)),
        0,
        "IFLA_VXLAN_",
        "ID TTL TOS DF LABEL LABEL_POLICY LEARNING PROXY RSC L2MISS L3MISS COLLECT_METADATA "
        "AGEING LIMIT PORT UDP_CSUM REMCSUM_TX LOCALBYPASS RESERVED_BITS",
    ),
    Kind(
        "geneve",
        "geneve",
        _GENEVE,
        0,
        "IFLA_GENEVE_",
        "ID REMOTE TTL TOS LABEL DF PORT UDP_CSUM TTL_INHERIT PORT_RANGE",
    ),
    Kind("gre", "gre", _ends("IFLA_GRE"), 0, "IFLA_GRE_", f"{_TUNNEL} IGNORE_DF IKEY"),
    Kind("gretap", "gretap", _ends("IFLA_GRE"), 0, "IFLA_GRE_", "IGNORE_DF"),
    Kind(
        "erspan",
        "erspan",
        _ends("IFLA_GRE") + _ERSPAN,
        0,
        "IFLA_GRE_",
        "ERSPAN_INDEX ERSPAN_VER",
    ),
    Kind("ipip", "ipip", _ends("IFLA_IPTUN"), 0, "IFLA_IPTUN_", f"{_TUNNEL} PROTO"),
    Kind("sit", "sit", _ends("IFLA_IPTUN"), 0, "IFLA_IPTUN_", f"{_TUNNEL} PROTO 6RD_PREFIX"),
    Kind("vti", "vti", _ends("IFLA_VTI") + _KEYED, 0, "IFLA_VTI_", "IKEY FWMARK"),
    Kind(
        "ip6tnl",
        "ip6tnl",
        _ends6("IFLA_IPTUN"),
        0,
        "IFLA_IPTUN_",
        "PROTO ENCAP_LIMIT FLOWINFO FLAGS FWMARK",
    ),
    Kind("ip6gre", "ip6gre", _ends6("IFLA_GRE"), 0, "IFLA_GRE_", "FLAGS ENCAP_LIMIT FWMARK"),
    Kind("ip6gretap", "ip6gretap", _ends6("IFLA_GRE")),
    Kind("vti6", "vti6", _ends6("IFLA_VTI") + _KEYED),
    Kind(
        "bond",
        "bond",
        None,
        0,
        "IFLA_BOND_",
        "MODE MIIMON PEER_NOTIF_DELAY USE_CARRIER ARP_INTERVAL ARP_ALL_TARGETS XMIT_HASH_POLICY "
        "MISSED_MAX COUPLED_CONTROL AD_LACP_ACTIVE BROADCAST_NEIGH LACP_STRICT",
    ),
    Kind("team", "team"),
    Kind("wireguard", "wireguard"),
    Kind(
        "macsec",
        "macsec",
        None,
        THIRD,
        "IFLA_MACSEC_",
        "SCI CIPHER_SUITE ENCRYPT OFFLOAD VALIDATION",
    ),
    Kind("xfrm", "xfrm", _a("IFLA_XFRM_IF_ID", u32(9)), 0, "IFLA_XFRM_", "IF_ID"),
)
"""Kinds of which one is made in each view."""

RARE = (
    Kind(
        "netkit",
        "netkit",
        _peer(C.IFLA_NETKIT_PEER_INFO, _FIRST - 2),
        0,
        "IFLA_NETKIT_",
        "MODE PRIMARY POLICY PEER_POLICY SCRUB PEER_SCRUB HEADROOM TAILROOM PAIRING",
    ),
    Kind("ip6erspan", "ip6erspan", _ends6("IFLA_GRE") + _ERSPAN),
    Kind("ovpn", "ovpn", None, 0, "IFLA_OVPN_", "MODE"),
    Kind("vcan", "vcan"),
    Kind("vxcan", "vxcan"),
    Kind("hsr", "hsr", _a("IFLA_HSR_SLAVE1", u32(ONE)) + _a("IFLA_HSR_SLAVE2", u32(OTHER))),
    Kind(
        "bareudp",
        "bareudp",
        _a("IFLA_BAREUDP_PORT", be16(6635)) + _a("IFLA_BAREUDP_ETHERTYPE", be16(C.ETH_P_MPLS_UC)),
    ),
    Kind("gtp", "gtp", _a("IFLA_GTP_CREATE_SOCKETS", u8(1))),
    Kind("amt", "amt", lower=ONE),
    Kind("batadv", "batadv"),
    Kind("lowpan", "lowpan", lower=ONE),
    Kind("tun", "tun"),
    Kind("openvswitch", "openvswitch"),
)
"""Kinds that few containers use, or that are not in all kernels."""


def _flag(prefix: str, name: str, value: Piece) -> Kind:
    """A form of a tunnel with one more attribute."""
    kind = prefix.split("_")[1].lower()
    data = {"vxlan": _VXLAN, "geneve": _GENEVE}[kind]
    if name in ("COLLECT_METADATA", "GPE", "VNIFILTER"):
        # these stand for tunnels of any number and to any place
        outer = u8(1) if kind == "vxlan" else Piece()
        data = _a(f"{prefix}COLLECT_METADATA", outer)
    # what is for any number has a port of its own, and GPE learns nothing
    data += _a(f"{prefix}PORT", be16(5000 + getattr(C, f"{prefix}{name}")))
    if kind == "vxlan":
        data += _a("IFLA_VXLAN_LEARNING", u8(0))
    if name != "COLLECT_METADATA":
        data += _a(f"{prefix}{name}", value)
    return Kind(f"{kind}.{prefix}{name}.set", kind, data, 0, prefix, name)


def _mode(
    name: str, form: str, size: int, value: int, *, lower: int = 0, more: Piece = _NONE
) -> Kind:
    """A form by the value of an attribute, ``IFLA_KIND_NAME``."""
    _, kind, told = name.split("_", 2)
    content = numbers(size, value) if size else Piece()
    prefix = f"IFLA_{kind}_"
    kind = {"IPTUN": "ipip"}.get(kind, kind.lower())
    seen = (size, value) if size else None
    data = more + _a(name, content)
    return Kind(f"{kind}.{name}.{form}", kind, data, lower, prefix, told, seen)


_8021AD = int.from_bytes(C.ETH_P_8021AD.to_bytes(2, "big"), "little")
FORMS = (
    _flag("IFLA_VXLAN_", "COLLECT_METADATA", u8(1)),
    _flag("IFLA_VXLAN_", "GBP", Piece()),
    _flag("IFLA_VXLAN_", "GPE", Piece()),
    _flag("IFLA_VXLAN_", "VNIFILTER", u8(1)),
    _flag("IFLA_VXLAN_", "TTL_INHERIT", Piece()),
    _flag("IFLA_GENEVE_", "COLLECT_METADATA", Piece()),
    _flag("IFLA_GENEVE_", "INNER_PROTO_INHERIT", Piece()),
    _flag("IFLA_GENEVE_", "GRO_HINT", Piece()),
    _mode("IFLA_VLAN_PROTOCOL", "8021AD", 2, _8021AD, lower=ONE, more=_a("IFLA_VLAN_ID", u16(6))),
    _mode("IFLA_MACVLAN_MODE", "SOURCE", 4, C.MACVLAN_MODE_SOURCE, lower=ONE),
    _mode("IFLA_MACVLAN_MODE", "VEPA", 4, C.MACVLAN_MODE_VEPA, lower=ONE),
    _mode("IFLA_MACVLAN_MODE", "PRIVATE", 4, C.MACVLAN_MODE_PRIVATE, lower=ONE),
    _mode("IFLA_MACVLAN_BC_CUTOFF", "set", 4, 5, lower=ONE),
    _mode("IFLA_IPVLAN_MODE", "L3S", 2, C.IPVLAN_MODE_L3S, lower=OTHER),
    _mode("IFLA_IPVLAN_FLAGS", "PRIVATE", 2, C.IPVLAN_F_PRIVATE, lower=OTHER),
    _mode("IFLA_NETKIT_MODE", "L2", 4, C.NETKIT_L2),
    _mode("IFLA_NETKIT_POLICY", "DROP", 4, C.NETKIT_DROP),
    _mode("IFLA_NETKIT_PAIRING", "SINGLE", 4, C.NETKIT_DEVICE_SINGLE),
    _mode("IFLA_BOND_MODE", "8023AD", 1, 4),
    _mode("IFLA_XFRM_COLLECT_METADATA", "set", 0, 0),
    _mode("IFLA_GRE_COLLECT_METADATA", "set", 0, 0),
    _mode("IFLA_IPTUN_COLLECT_METADATA", "set", 0, 0),
)
"""Forms that are made apart; each is right when the kernel tells what it was asked for."""


def kinds(q: Questions) -> None:
    """Kinds of devices that containers use, and how one goes."""
    talk = Talk(q, C.NETLINK_ROUTE)
    _made(talk, KINDS)
    gone = message(C.RTM_DELLINK, C.NLM_F_ACK, link_head(_FIRST))
    talk.ask("link.RTM_DELLINK", gone)
    talk.ask("link.RTM_DELLINK.again", gone)


def forms(q: Questions) -> None:
    """Other kinds, and forms of some."""
    talk = Talk(q, C.NETLINK_ROUTE)
    made = _made(talk, RARE)
    below = {index: talk.do(new_link("dummy", index)) for index in _FORM_BELOW.values()}
    for index, form in enumerate(FORMS, _FIRST + len(RARE)):
        lower = _FORM_BELOW.get(form.lower, 0)
        given = [made[form.kind]] if form.kind in made else []
        given += [below[lower]] if lower else []
        done = talk.do(_new(form, index, lower))
        path = (C.IFLA_LINKINFO, C.IFLA_INFO_DATA, getattr(C, f"{form.prefix}{form.told}"))
        told = get_link(index), HEAD + LINK_HEAD, path, form.value
        talk.told(f"link.{form.name}", *told, given=given, needs=[done])


_FORM_BELOW = {ONE: ONE + 10, OTHER: OTHER + 10}
"""What forms are put on in place of what kinds are."""


def _made(talk: Talk, several: tuple[Kind, ...]) -> dict[str, Ref]:
    below = {index: talk.do(new_link("dummy", index)) for index in (ONE, OTHER, THIRD)}
    made: dict[str, Ref] = {}
    for index, kind in enumerate(several, _FIRST):
        given = [below[kind.lower]] if kind.lower else []
        made[kind.name] = talk.ask(f"link.{kind.name}", _new(kind, index, kind.lower), given)
        for name in kind.told.split():
            whole = f"{kind.prefix}{name}"
            path = (C.IFLA_LINKINFO, C.IFLA_INFO_DATA, getattr(C, whole))
            told = get_link(index), HEAD + LINK_HEAD, path
            talk.told(f"link.{kind.name}.{whole}", *told, given=[made[kind.name]])
        if kind.told:
            talk.all_pass()
    return made


def _new(kind: Kind, index: int, lower: int) -> Piece:
    more = (attribute(C.IFLA_LINK, u32(lower)),) if lower else ()
    return new_link(kind.kind, index, *more, data=kind.data)
