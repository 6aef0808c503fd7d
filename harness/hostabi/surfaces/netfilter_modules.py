"""Modules of what is asked about, by the names that the kernel itself asks modprobe(8) for.

The kernel would load them as well, one modprobe for each. All in one take half the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.netfilter_extensions import extensions
from hostabi.surfaces.netfilter_ipset import TYPES
from hostabi.surfaces.netfilter_nft import FAMILIES
from hostabi.surfaces.netfilter_xtables import FURTHER, TABLES
from hostabi.syscalls.table import C, constants

BY_IPTABLES = ("ip_tables", "ip6_tables", "arp_tables", "ebtables")
"""What iptables and its like load by themselves before they ask for a table."""
_EXPRESSIONS = (
    "compat connlimit ct dup fib flow_offload fwd hash inner limit log masq match nat notrack "
    "numgen osf queue quota redir reject socket synproxy target tproxy tunnel xfrm"
)
_OF_FAMILIES = ("dup", "fib", "fwd", "masq", "redir", "reject")
_LOGGERS = (C.NFPROTO_IPV4, C.NFPROTO_IPV6, C.NFPROTO_ARP, C.NFPROTO_BRIDGE, C.NFPROTO_NETDEV)
"""Families in whose packets something is written down, by each of the two ways there are."""
_PREFIXES = {"ip": "ipt", "ip6": "ip6t", "arp": "arpt", "bridge": "ebt"}


def wanted() -> tuple[str, ...]:
    """Each once."""
    return tuple(dict.fromkeys((*_nftables(), *_iptables(), *_others())))


def _nftables() -> Iterator[str]:
    yield "nf_tables"
    for number in FAMILIES.values():
        for kind in ("filter", "nat", "route"):
            yield f"nft-chain-{number}-{kind}"
        for name in _OF_FAMILIES:
            yield f"nft-expr-{number}-{name}"
        yield f"nf-flowtable-{number}"
    for name in _EXPRESSIONS.split():
        yield f"nft-expr-{name}"
    for number in sorted(set(constants("NFT_OBJECT_").values())):
        yield f"nft-obj-{number}"
    for number in _LOGGERS:
        for way in (0, 1):
            yield f"nf-logger-{number}-{way}"
    yield from ("nfct-helper-ftp", "nft_meta_bridge", "nf_conntrack_bridge", "br_netfilter")


def _iptables() -> Iterator[str]:
    yield from BY_IPTABLES
    yield from ("ebtable_filter", "ebtable_nat", "ebtable_broute", "ts_bm")
    for family, tables in TABLES.items():
        for name in tables:
            yield f"{_PREFIXES[family][:-1]}table_{name}"
    for each in extensions():
        for family in each.content:
            yield f"{_PREFIXES[family]}_{each.name}"
    for family, several in FURTHER.items():
        for _, name, _ in several:
            yield f"{_PREFIXES[family]}_{name}"


def _others() -> Iterator[str]:
    for number in range(C.NFNL_SUBSYS_CTNETLINK, C.NFNL_SUBSYS_COUNT):
        yield f"nfnetlink-subsys-{number}"
    for kind in TYPES:
        yield f"ip_set_{kind}"
