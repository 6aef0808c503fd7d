"""Traffic control by rtnetlink(7): queueing disciplines, classes, filters and actions, tc(8)."""

from __future__ import annotations

from hostabi.surfaces.netlink_links import ONE, new_link, set_link
from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    be16,
    be32,
    message,
    nest,
    raw,
    struct,
    text,
    u8,
    u16,
    u32,
    u64,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C

_TRAFFIC_HEAD = 20
_MAKE = C.NLM_F_CREATE | C.NLM_F_EXCL
_PUT = C.NLM_F_CREATE | C.NLM_F_REPLACE | C.NLM_F_ACK
_TCINDEX_HASH = 1
"""TCA_TCINDEX_HASH of linux/pkt_cls.h, which has lost it with the classifier."""
_INGRESS = 0xFFFF0000 | C.TC_H_MIN_INGRESS
_RATE = {"rate": 125000, "cell_log": 3, "linklayer": 1}
_TABLE = raw(words(*range(256)))
"""Time that a packet of each size takes; what the kernel does not use it still wants."""
_PASS = struct("struct tc_gact", action=C.TC_ACT_OK)
_RETURN_ZERO = words(C.BPF_RET, size=2) + words(0, 0, size=1) + words(0)

_TBF = attribute(C.TCA_TBF_PARMS, struct("struct tc_tbf_qopt", rate=_RATE, limit=3000, buffer=9000))
_QDISCS: tuple[tuple[str, Piece, str], ...] = (
    ("pfifo", Piece(), ""),
    ("bfifo", Piece(), ""),
    ("noqueue", Piece(), ""),
    ("pfifo_fast", Piece(), ""),
    ("prio", raw(words(3) + bytes(16)), ""),
    ("tbf", _TBF + attribute(C.TCA_TBF_RTAB, _TABLE), ""),
    ("fq_codel", Piece(), "TCA_FQ_CODEL_MEMORY_LIMIT TCA_FQ_CODEL_DROP_BATCH_SIZE"),
    (
        "fq",
        Piece(),
        "TCA_FQ_TIMER_SLACK TCA_FQ_HORIZON TCA_FQ_PRIOMAP TCA_FQ_WEIGHTS TCA_FQ_OFFLOAD_HORIZON",
    ),
    ("sfq", Piece(), ""),
    ("netem", struct("struct tc_netem_qopt", limit=1000), ""),
    ("cake", Piece(), "TCA_CAKE_DIFFSERV_MODE TCA_CAKE_FWMARK"),
    ("hfsc", u16(1), ""),
    ("cbq", Piece(), ""),
    ("dsmark", Piece(), ""),
    (
        "htb",
        attribute(
            C.TCA_HTB_INIT, struct("struct tc_htb_glob", version=3, rate2quantum=10, defcls=1)
        ),
        "TCA_HTB_DIRECT_QLEN",
    ),
)
"""Name, options, and attributes that are told about one that was just made."""

_KEYS: tuple[tuple[str, int, Piece], ...] = (
    ("IP_PROTO", C.ETH_P_IP, u8(6)),
    ("IPV4_DST", C.ETH_P_IP, raw(bytes((10, 0, 0, 1)))),
    ("IP_TTL", C.ETH_P_IP, u8(9)),
    ("ENC_KEY_ID", C.ETH_P_IP, be32(7)),
    ("CT_STATE", C.ETH_P_IP, u16(C.TCA_FLOWER_KEY_CT_FLAGS_TRACKED)),
    ("CT_MARK", C.ETH_P_IP, u32(1)),
    ("HASH", C.ETH_P_ALL, u32(1)),
    ("NUM_OF_VLANS", C.ETH_P_ALL, u8(1)),
    ("PPPOE_SID", 0x8864, be16(7)),
)
"""What flower can match that has no other condition: name, EtherType, content."""

_COMMON = {"action": C.TC_ACT_OK}
_ACTIONS: tuple[tuple[str, Piece], ...] = (
    ("gact", attribute(C.TCA_GACT_PARMS, _PASS)),
    (
        "mirred",
        attribute(
            C.TCA_MIRRED_PARMS,
            struct(
                "struct tc_mirred",
                action=C.TC_ACT_STOLEN,
                eaction=C.TCA_EGRESS_REDIR,
                ifindex=ONE,
            ),
        ),
    ),
    (
        "police",
        attribute(
            C.TCA_POLICE_TBF,
            struct("struct tc_police", action=C.TC_ACT_SHOT, burst=9000, mtu=2000, rate=_RATE),
        )
        + attribute(C.TCA_POLICE_RATE, _TABLE),
    ),
    (
        "vlan",
        attribute(C.TCA_VLAN_PARMS, struct("struct tc_vlan", **_COMMON, v_action=1)),
    ),
    (
        "skbedit",
        attribute(C.TCA_SKBEDIT_PARMS, struct("struct tc_skbedit", **_COMMON))
        + attribute(C.TCA_SKBEDIT_MARK, u32(1)),
    ),
    ("csum", attribute(C.TCA_CSUM_PARMS, struct("struct tc_csum", **_COMMON, update_flags=1))),
    (
        "tunnel_key",
        attribute(C.TCA_TUNNEL_KEY_PARMS, struct("struct tc_tunnel_key", **_COMMON, t_action=2)),
    ),
    (
        "bpf",
        attribute(C.TCA_ACT_BPF_OPS_LEN, u16(1))
        + attribute(C.TCA_ACT_BPF_OPS, raw(_RETURN_ZERO))
        + attribute(C.TCA_ACT_BPF_PARMS, struct("struct tc_act_bpf", **_COMMON)),
    ),
    ("nat", attribute(C.TCA_NAT_PARMS, struct("struct tc_nat", **_COMMON))),
)


def traffic(q: Questions) -> None:
    """All questions, about a device that nobody uses."""
    talk = Talk(q, C.NETLINK_ROUTE)
    talk.do(new_link("dummy", ONE))
    talk.do(set_link(ONE, flags=C.IFF_UP))
    _disciplines(talk)
    _filters(talk)
    _actions(talk)


def _head(handle: int, parent: int, info: int = 0) -> Piece:
    """A struct tcmsg."""
    return u8(C.AF_UNSPEC, 0) + u16(0) + u32(ONE, handle, parent, info)


def _kind(name: str, options: Piece | None = None) -> Piece:
    about = attribute(C.TCA_KIND, text(name))
    return about + attribute(C.TCA_OPTIONS, options) if options and options.raw else about


def _disciplines(talk: Talk) -> None:
    made = None
    for name, options, told in _QDISCS:
        head = _head(0x10000, C.TC_H_ROOT)
        gone = message(C.RTM_DELQDISC, C.NLM_F_ACK, _head(0, C.TC_H_ROOT))
        talk.do(gone)
        put = message(C.RTM_NEWQDISC, _PUT, head, _kind(name, options))
        made = talk.ask(f"qdisc.{name}", put)
        get = message(C.RTM_GETQDISC, C.NLM_F_ECHO, _head(0, C.TC_H_ROOT))
        for each in told.split():
            path = (C.TCA_OPTIONS, getattr(C, each))
            at = HEAD + _TRAFFIC_HEAD
            talk.told(f"qdisc.{name}.{each}", get, at, path, given=(made,))
        if told:
            talk.all_pass()
    rate = struct("struct tc_htb_opt", rate=_RATE, ceil=_RATE, buffer=9000, cbuffer=9000)
    options = attribute(C.TCA_HTB_PARMS, rate) + attribute(C.TCA_HTB_RTAB, _TABLE)
    options += attribute(C.TCA_HTB_CTAB, _TABLE)
    needs = (made,) if made else ()
    for key, more in (
        ("", Piece()),
        (".TCA_HTB_RATE64", attribute(C.TCA_HTB_RATE64, u64(1 << 33))),
    ):
        head = _head(0x10001, 0x10000)
        put = message(C.RTM_NEWTCLASS, _PUT, head, _kind("htb", options + more))
        talk.ask(f"class.htb{key}", put, needs)
    child = message(C.RTM_NEWQDISC, _PUT, _head(0x20000, 0x10001), _kind("pfifo"))
    talk.ask("class.htb.child", child, needs)
    for name, parent in (("ingress", C.TC_H_INGRESS), ("clsact", C.TC_H_CLSACT)):
        talk.do(message(C.RTM_DELQDISC, C.NLM_F_ACK, _head(0, parent)))
        put = message(C.RTM_NEWQDISC, _PUT, _head(0xFFFF0000, parent), _kind(name))
        talk.ask(f"qdisc.{name}", put)


def _filters(talk: Talk) -> None:
    clsact = message(C.RTM_NEWQDISC, _PUT, _head(0xFFFF0000, C.TC_H_CLSACT), _kind("clsact"))
    talk.do(message(C.RTM_DELQDISC, C.NLM_F_ACK, _head(0, C.TC_H_CLSACT)))
    base = talk.do(clsact)
    gact = _act("gact", attribute(C.TCA_GACT_PARMS, _PASS))
    bpf = attribute(C.TCA_BPF_OPS_LEN, u16(1)) + attribute(C.TCA_BPF_OPS, raw(_RETURN_ZERO))
    selector = struct("struct tc_u32_sel", flags=C.TC_U32_TERMINAL, nkeys=1)
    every = attribute(C.TCA_U32_SEL, selector, raw(bytes(16)))
    filters: tuple[tuple[str, int, Piece], ...] = (
        ("matchall", 0, nest(C.TCA_MATCHALL_ACT, gact)),
        ("flower", 0, nest(C.TCA_FLOWER_ACT, gact)),
        ("u32", 0, every + nest(C.TCA_U32_ACT, gact)),
        ("bpf", 0, bpf + nest(C.TCA_BPF_ACT, gact)),
        ("basic", 0, nest(C.TCA_BASIC_ACT, gact)),
        ("fw", 1, nest(C.TCA_FW_ACT, gact)),
        ("cgroup", 1, nest(C.TCA_CGROUP_ACT, gact)),
        ("tcindex", 1, attribute(_TCINDEX_HASH, u32(16))),
    )
    for order, (name, handle, options) in enumerate(filters, 1):
        asked = _filter(order, C.ETH_P_ALL, name, options, handle=handle, flags=C.NLM_F_ACK)
        talk.ask(f"filter.{name}", asked, (base,))
    chain = attribute(C.TCA_CHAIN, u32(5))
    head = _head(0, _INGRESS, 0)
    talk.ask("chain", message(C.RTM_NEWCHAIN, _MAKE | C.NLM_F_ACK, head, chain), (base,))
    for order, (name, protocol, content) in enumerate(_KEYS, 20):
        kind = getattr(C, f"TCA_FLOWER_KEY_{name}")
        more = attribute(C.TCA_FLOWER_KEY_ETH_TYPE, be16(protocol)) if protocol != 3 else Piece()
        options = more + attribute(kind, content) + nest(C.TCA_FLOWER_ACT, gact)
        asked = _filter(order, protocol, "flower", options, flags=C.NLM_F_ECHO)
        path = (C.TCA_OPTIONS, kind)
        talk.told(f"filter.flower.{name}", asked, HEAD + _TRAFFIC_HEAD, path, given=(base,))
    talk.all_pass()


def _actions(talk: Talk) -> None:
    talk.renew()
    for name, options in _ACTIONS:
        listed = nest(C.TCA_ACT_TAB, _act(name, options))
        head = u8(C.AF_UNSPEC, 0) + u16(0)
        talk.ask(f"action.{name}", message(C.RTM_NEWACTION, _MAKE | C.NLM_F_ACK, head, listed))


def _filter(
    order: int, protocol: int, kind: str, options: Piece, *, handle: int = 0, flags: int = 0
) -> Piece:
    network = int.from_bytes(protocol.to_bytes(2, "big"), "little")
    head = _head(handle, _INGRESS, order << 16 | network)
    return message(C.RTM_NEWTFILTER, _MAKE | flags, head, _kind(kind, options))


def _act(kind: str, options: Piece) -> Piece:
    """The first of a list of actions."""
    return nest(1, attribute(C.TCA_ACT_KIND, text(kind)), nest(C.TCA_ACT_OPTIONS, options))
