"""Matches and targets of iptables that container engines, kube-proxy and CNIs put into rules.

Each is data: where it may stand, and the struct that a rule has for it. Headers:
linux/netfilter/xt_*.h, linux/netfilter_ipv4/ipt_*.h, linux/netfilter_ipv6/ip6t_*.h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hostabi.surfaces.netlink_messages import struct
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C

MATCH, TARGET = "match", "target"
BOTH = ("ip", "ip6")
_NEW_CONNECTION = 1 << 3
"""XT_CONNTRACK_STATE_BIT(IP_CT_NEW), linux/netfilter/xt_conntrack.h."""
_SYN = 0x02
"""A flag of a TCP header, RFC 9293."""
_ALL = 0xFFFFFFFF
_ACCEPT = {"code": C.BPF_RET, "k": 0xFFFF}
"""A program of classic BPF that accepts all."""


@dataclasses.dataclass(frozen=True)
class Extension:
    """One revision of a match or a target, and a rule it can be in.

    ``content`` is the struct of a rule by family. ``table`` and ``hook`` are where
    the rule stands, ``protocol`` what its packets have to be.
    """

    kind: str
    name: str
    revision: int
    content: dict[str, bytes]
    table: str = "filter"
    hook: int = C.NF_INET_LOCAL_IN
    protocol: int = 0
    syn: bool = False
    """Only packets that open a connection of TCP get there."""
    needs_set: bool = False
    """The struct names the first set of ipset in the network namespace."""

    @property
    def key(self) -> str:
        """How facts call it."""
        return f"{self.kind}.{self.name}.{self.revision}"


def _struct(spelt: str, /, **fields: object) -> bytes:
    return struct(f"struct {spelt}", **fields).raw


def _both(content: bytes) -> dict[str, bytes]:
    return dict.fromkeys(BOTH, content)


def extensions() -> Iterator[Extension]:
    """All of them."""
    yield from _plain_matches()
    yield from _protocols()
    yield from _placed_matches()
    yield from _marks()
    yield from _translations()
    yield from _verdicts()
    yield from _mangling()
    yield from _sets()


def _plain_matches() -> Iterator[Extension]:
    """Matches that may stand anywhere."""
    state = {"match_flags": C.XT_CONNTRACK_STATE, "state_mask": _NEW_CONNECTION}
    limits = {"avg": 1000000, "burst": 5, "mode": C.XT_HASHLIMIT_HASH_SIP, "max": 1024}
    limits |= {"gc_interval": 1000, "expire": 1000, "srcmask": 32, "dstmask": 32}
    for name, revision, content in (
        ("comment", 0, _struct("xt_comment_info", comment=b"hostabi")),
        *(("conntrack", n, _struct(f"xt_conntrack_mtinfo{n}", **state)) for n in (1, 2, 3)),
        ("state", 0, _struct("xt_state_info", statemask=_NEW_CONNECTION)),
        ("addrtype", 1, _struct("xt_addrtype_info_v1", dest=C.XT_ADDRTYPE_LOCAL)),
        ("mark", 1, _struct("xt_mark_mtinfo1", mark=1, mask=_ALL)),
        ("connmark", 1, _struct("xt_connmark_mtinfo1", mark=1, mask=_ALL)),
        ("statistic", 0, _struct("xt_statistic_info", u={"random": {"probability": 1 << 30}})),
        ("recent", 0, _struct("xt_recent_mtinfo", check_set=C.XT_RECENT_SET, name=b"zero")),
        ("recent", 1, _struct("xt_recent_mtinfo_v1", check_set=C.XT_RECENT_SET, name=b"one")),
        ("limit", 0, _struct("xt_rateinfo", avg=1000, burst=5)),
        *(("hashlimit", n, _struct(f"xt_hashlimit_mtinfo{n}", name=b"hostabi", cfg=limits))
          for n in (1, 2, 3)),
        ("u32", 0, _struct("xt_u32")),
        ("string", 1, _struct("xt_string_info", to_offset=64, algo=b"bm", pattern=b"a", patlen=1)),
        ("bpf", 0, _struct("xt_bpf_info", bpf_program_num_elem=1, bpf_program=[_ACCEPT])),
        ("bpf", 1, _struct("xt_bpf_info_v1", bpf_program_num_elem=1, bpf_program=[_ACCEPT])),
        ("iprange", 1, _struct("xt_iprange_mtinfo", flags=C.IPRANGE_SRC)),
        ("ipvs", 0, _struct("xt_ipvs_mtinfo", bitmask=C.XT_IPVS_IPVS_PROPERTY)),
        ("time", 0, _struct("xt_time_info", date_stop=_ALL, daytime_stop=C.XT_TIME_MAX_DAYTIME)),
        ("quota", 0, _struct("xt_quota_info", quota=1 << 20)),
        ("length", 0, _struct("xt_length_info", max=1500)),
        ("dscp", 0, _struct("xt_dscp_info", dscp=10)),
        ("tos", 1, _struct("xt_tos_match_info", tos_mask=255, tos_value=8)),
        ("connlabel", 0, _struct("xt_connlabel_mtinfo", bit=1)),
        ("connlimit", 1, _struct("xt_connlimit_info", limit=8)),
        ("physdev", 0, _struct("xt_physdev_info", bitmask=C.XT_PHYSDEV_OP_ISIN)),
    ):  # fmt: skip
        yield Extension(MATCH, name, revision, _both(content))
    old = _struct("xt_addrtype_info", dest=C.XT_ADDRTYPE_LOCAL)
    yield Extension(MATCH, "addrtype", 0, {"ip": old})


def _protocols() -> Iterator[Extension]:
    """Matches that look into packets of one protocol."""
    tcp = _struct("xt_tcp", spts=[0, 65535], dpts=[80, 80])
    udp = _struct("xt_udp", spts=[0, 65535], dpts=[53, 53])
    ports = _struct("xt_multiport_v1", flags=C.XT_MULTIPORT_DESTINATION, count=1, ports=[80])
    size = _struct("xt_tcpmss_match_info", mss_max=1460)
    for name, revision, protocol, content in (
        ("tcp", 0, C.IPPROTO_TCP, tcp),
        ("udp", 0, C.IPPROTO_UDP, udp),
        ("multiport", 1, C.IPPROTO_TCP, ports),
        ("tcpmss", 0, C.IPPROTO_TCP, size),
    ):
        yield Extension(MATCH, name, revision, _both(content), protocol=protocol)
    # struct ipt_icmp and struct ip6t_icmp: type, codes from and to, flags
    for name, family, protocol, kind in (
        ("icmp", "ip", C.IPPROTO_ICMP, 8),
        ("icmp6", "ip6", C.IPPROTO_ICMPV6, 128),
    ):
        echo = {family: bytes((kind, 0, 255, 0))}
        yield Extension(MATCH, name, 0, echo, protocol=protocol)


def _placed_matches() -> Iterator[Extension]:
    """Matches that only stand where what they look for is known."""
    mine = _struct("xt_owner_match_info", match=C.XT_OWNER_UID)
    yield Extension(MATCH, "owner", 1, _both(mine), hook=C.NF_INET_LOCAL_OUT)
    group = {
        0: _struct("xt_cgroup_info_v0", id=1),
        1: _struct("xt_cgroup_info_v1", has_path=1, path=b"/"),
        2: _struct("xt_cgroup_info_v2", has_path=1, path=b"/"),
    }
    for revision, content in group.items():
        out = C.NF_INET_LOCAL_OUT
        yield Extension(MATCH, "cgroup", revision, _both(content), hook=out)
    before, incoming = C.NF_INET_PRE_ROUTING, C.XT_POLICY_MATCH_IN | C.XT_POLICY_MATCH_NONE
    for name, revision, content in (
        ("rpfilter", 0, _struct("xt_rpfilter_info")),
        ("socket", 1, _struct("xt_socket_mtinfo1", flags=C.XT_SOCKET_TRANSPARENT)),
        ("socket", 2, _struct("xt_socket_mtinfo2", flags=C.XT_SOCKET_NOWILDCARD)),
        ("socket", 3, _struct("xt_socket_mtinfo3", flags=C.XT_SOCKET_RESTORESKMARK)),
        ("policy", 0, _struct("xt_policy_info", flags=incoming)),
    ):
        yield Extension(MATCH, name, revision, _both(content), table="mangle", hook=before)


def _marks() -> Iterator[Extension]:
    connection = {"ctmark": 1, "ctmask": _ALL, "nfmask": _ALL}
    for name, revision, content in (
        ("MARK", 2, _struct("xt_mark_tginfo2", mark=1, mask=_ALL)),
        ("CONNMARK", 1, _struct("xt_connmark_tginfo1", **connection)),
        ("CONNMARK", 2, _struct("xt_connmark_tginfo2", **connection)),
    ):
        yield Extension(TARGET, name, revision, _both(content), table="mangle")


def _translations() -> Iterator[Extension]:
    """Addresses that are put in place of others."""
    flags = C.NF_NAT_RANGE_MAP_IPS
    one = {"flags": flags, "min_ip": 0x0100000A, "max_ip": 0x0100000A}
    old = _struct("nf_nat_ipv4_multi_range_compat", rangesize=1, range=[one])
    any_of = _struct("nf_nat_ipv4_multi_range_compat", rangesize=1, range=[{}])
    new, newer = _struct("nf_nat_range", flags=flags), _struct("nf_nat_range2", flags=flags)
    before, after = C.NF_INET_PRE_ROUTING, C.NF_INET_POST_ROUTING
    for name, revision, content, hook in (
        ("MASQUERADE", 0, {"ip": any_of, "ip6": _struct("nf_nat_range")}, after),
        ("SNAT", 0, {"ip": old}, after),
        ("SNAT", 1, {"ip6": new}, after),
        ("SNAT", 2, _both(newer), after),
        ("DNAT", 0, {"ip": old}, before),
        ("DNAT", 1, {"ip6": new}, before),
        ("DNAT", 2, _both(newer), before),
        ("REDIRECT", 0, {"ip": any_of, "ip6": _struct("nf_nat_range")}, before),
        ("NETMAP", 0, {"ip": old, "ip6": new}, before),
    ):
        yield Extension(TARGET, name, revision, content, table="nat", hook=hook)


def _verdicts() -> Iterator[Extension]:
    """What is refused, written down, or handed to user space."""
    refused = {
        "ip": _struct("ipt_reject_info", **{"with": C.IPT_ICMP_PORT_UNREACHABLE}),
        "ip6": _struct("ip6t_reject_info", **{"with": C.IP6T_ICMP6_PORT_UNREACH}),
    }
    yield Extension(TARGET, "REJECT", 0, refused)
    for name, revision, content in (
        ("LOG", 0, _struct("xt_log_info", level=6, prefix=b"hostabi")),
        ("NFLOG", 0, _struct("xt_nflog_info", group=2, prefix=b"hostabi")),
        ("NFQUEUE", 0, _struct("xt_NFQ_info", queuenum=1)),
        ("NFQUEUE", 1, _struct("xt_NFQ_info_v1", queuenum=1, queues_total=2)),
        ("NFQUEUE", 2, _struct("xt_NFQ_info_v2", queuenum=1, queues_total=2, bypass=1)),
        ("NFQUEUE", 3, _struct("xt_NFQ_info_v3", queuenum=1, queues_total=2)),
    ):
        yield Extension(TARGET, name, revision, _both(content))
    untracked = {"flags": C.XT_CT_NOTRACK}
    for name, revision, content in (
        ("CT", 0, _struct("xt_ct_target_info", **untracked)),
        ("CT", 1, _struct("xt_ct_target_info_v1", **untracked)),
        ("CT", 2, _struct("xt_ct_target_info_v1", **untracked)),
        ("NOTRACK", 0, b""),
        ("TRACE", 0, b""),
    ):
        before = C.NF_INET_PRE_ROUTING
        yield Extension(TARGET, name, revision, _both(content), table="raw", hook=before)


def _mangling() -> Iterator[Extension]:
    """What is changed in packets, or about them."""
    clamped = _struct("xt_tcpmss_info", mss=C.XT_TCPMSS_CLAMP_PMTU)
    tcp, forward = C.IPPROTO_TCP, C.NF_INET_FORWARD
    yield Extension(TARGET, "TCPMSS", 0, _both(clamped), "mangle", forward, tcp, syn=True)
    proxied = _struct("xt_tproxy_target_info_v1", lport=80)
    before = C.NF_INET_PRE_ROUTING
    yield Extension(TARGET, "TPROXY", 1, _both(proxied), "mangle", before, tcp)
    # struct xt_synproxy_info, which our tables lack: options, wscale, mss
    answered = bytes((C.XT_SYNPROXY_OPT_MSS, 7)) + words(1460, size=2)
    yield Extension(TARGET, "SYNPROXY", 0, _both(answered), protocol=tcp)
    for name, revision, content in (
        ("CLASSIFY", 0, _struct("xt_classify_target_info", priority=1)),
        ("CHECKSUM", 0, _struct("xt_CHECKSUM_info", operation=C.XT_CHECKSUM_OP_FILL)),
        ("DSCP", 0, _struct("xt_DSCP_info", dscp=10)),
        ("TOS", 1, _struct("xt_tos_target_info", tos_value=8, tos_mask=255)),
    ):
        after = C.NF_INET_POST_ROUTING
        yield Extension(TARGET, name, revision, _both(content), table="mangle", hook=after)


def _sets() -> Iterator[Extension]:
    """Of the first set of ipset; struct xt_set_info is index, dimension, flags."""
    one, none = {"index": 0, "dim": 1, "flags": 0}, {"index": 0xFFFF, "dim": 0, "flags": 0}
    matched = {"match_set": one}
    for kind, name, revision, content in (
        (MATCH, "set", 1, _struct("xt_set_info_match_v1", **matched)),
        (MATCH, "set", 2, _struct("xt_set_info_match_v1", **matched)),
        (MATCH, "set", 3, _struct("xt_set_info_match_v3", **matched)),
        (MATCH, "set", 4, _struct("xt_set_info_match_v4", **matched)),
        (TARGET, "SET", 1, _struct("xt_set_info_target_v1", add_set=one, del_set=none)),
        (TARGET, "SET", 2, _struct("xt_set_info_target_v2", add_set=one, del_set=none)),
        (
            TARGET,
            "SET",
            3,
            _struct("xt_set_info_target_v3", add_set=one, del_set=none, map_set=none),
        ),
    ):
        yield Extension(kind, name, revision, _both(content), needs_set=True)


def syn() -> bytes:
    """The struct of a match of packets that open a connection."""
    return _struct("xt_tcp", spts=[0, 65535], dpts=[0, 65535], flg_mask=0x17, flg_cmp=_SYN)
