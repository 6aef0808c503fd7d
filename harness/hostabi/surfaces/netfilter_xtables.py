"""Tables of iptables, ip6tables, arptables and ebtables, as those programs ask the kernel for them.

``xt.FAMILY.table.NAME`` is a table that is there, ``xt.FAMILY.rule.KIND.NAME.REVISION``
one whose rules were replaced by a rule with that match or target, and
``xt.FAMILY.KIND.NAME.REVISION`` a revision that the kernel says it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostabi.surfaces.netfilter_extensions import MATCH, TARGET, Extension, extensions, syn
from hostabi.surfaces.netfilter_messages import Netlink, attribute, big, text
from hostabi.surfaces.netfilter_nft import FAMILIES, general, subsystem
from hostabi.surfaces.probing import Questions
from hostabi.surfaces.slots import inout, patched, words
from hostabi.syscalls import types
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

PROTOCOLS = {
    "ip": (C.AF_INET, C.SOL_IP, "IPT", "ipt"),
    "ip6": (C.AF_INET6, C.SOL_IPV6, "IP6T", "ip6t"),
    "arp": (C.AF_INET, C.SOL_IP, "ARPT", "arpt"),
}
"""Family of the socket, level of the options, how constants and structs begin."""
TABLES = {
    "ip": ("filter", "nat", "mangle", "raw", "security"),
    "ip6": ("filter", "nat", "mangle", "raw", "security"),
    "arp": ("filter",),
}
_BRIDGE_TABLES = ("filter", "nat", "broute")
_BRIDGE_INFO, _BRIDGE_REPLACE = 128, 120
"""EBT_SO_GET_INFO, and bytes of struct ebt_replace: linux/netfilter_bridge/ebtables.h."""
_HOOKS = {
    "filter": (C.NF_INET_LOCAL_IN, C.NF_INET_FORWARD, C.NF_INET_LOCAL_OUT),
    "nat": (
        C.NF_INET_PRE_ROUTING,
        C.NF_INET_LOCAL_IN,
        C.NF_INET_LOCAL_OUT,
        C.NF_INET_POST_ROUTING,
    ),
    "mangle": tuple(range(C.NF_INET_NUMHOOKS)),
    "raw": (C.NF_INET_PRE_ROUTING, C.NF_INET_LOCAL_OUT),
}
FURTHER: Mapping[str, Sequence[tuple[str, str, int]]] = {
    "arp": ((TARGET, "MARK", 2), (TARGET, "CLASSIFY", 0), (TARGET, "mangle", 0)),
    "bridge": (
        (MATCH, "ip", 0),
        (MATCH, "mark_m", 0),
        (TARGET, "mark", 0),
        (TARGET, "snat", 0),
    ),
}
"""Extensions of families in which no rule is tried."""
_HEAD = 32
"""Bytes of struct xt_entry_match and of struct xt_entry_target before what is their own."""
_NAME = 29
_NEVER = 200
"""A revision that no extension has."""


def tables(q: Questions) -> None:
    """IPT_SO_GET_INFO and its like. A table has a module, which the kernel loads."""
    for family, (domain, level, prefix, _) in PROTOCOLS.items():
        fd = q.call("socket", domain, C.SOCK_RAW, C.IPPROTO_RAW, opaque=True)
        option = getattr(C, f"{prefix}_SO_GET_INFO")
        size = types.size(f"struct {prefix.lower()}_getinfo")
        for name in TABLES[family]:
            room = q.content(name.encode().ljust(size, b"\0"))
            where = (fd, level, option, room, inout(q, size))
            q.ask(f"xt.{family}.table.{name}", "getsockopt", *where, needs=(fd,))
    fd = q.call("socket", C.AF_INET, C.SOCK_RAW, C.IPPROTO_RAW, opaque=True)
    for name in _BRIDGE_TABLES:
        room = q.content(name.encode().ljust(_BRIDGE_REPLACE, b"\0"))
        where = (fd, C.SOL_IP, _BRIDGE_INFO, room, inout(q, _BRIDGE_REPLACE))
        q.ask(f"xt.bridge.table.{name}", "getsockopt", *where, needs=(fd,))


def revisions(q: Questions) -> None:
    """What the kernel says it knows; asked as iptables does when it works by nftables.

    A revision that none has tells whether there is any.
    """
    netlink = Netlink(q)
    kinds: dict[tuple[str, str, str], list[int]] = {}
    for family in ("ip", "ip6"):
        for each in extensions():
            if family in each.content:
                kinds.setdefault((family, each.kind, each.name), []).append(each.revision)
    for family, several in FURTHER.items():
        for kind, name, revision in several:
            kinds[family, kind, name] = [revision]
    for (family, kind, name), known in kinds.items():
        key = f"xt.{family}.{kind}.{name}"
        if len(known) > 1:
            raw = _revision(family, kind, name, _NEVER)
            netlink.ask(key, raw, fine=["EPROTONOSUPPORT"])
        for revision in known:
            netlink.ask(f"{key}.{revision}", _revision(family, kind, name, revision))


def _revision(family: str, kind: str, name: str, revision: int) -> bytes:
    return subsystem(
        C.NFNL_SUBSYS_NFT_COMPAT,
        C.NFNL_MSG_COMPAT_GET,
        general(FAMILIES[family]),
        text(C.NFTA_COMPAT_NAME, name),
        big(C.NFTA_COMPAT_REV, revision),
        big(C.NFTA_COMPAT_TYPE, int(kind == TARGET)),
    )


def first_set(q: Questions) -> Ref:
    """A set of ipset, whose index is 0 as it is the first in its network namespace."""
    raw = subsystem(
        C.NFNL_SUBSYS_IPSET,
        C.IPSET_CMD_CREATE,
        general(C.NFPROTO_IPV4),
        attribute(C.IPSET_ATTR_PROTOCOL, bytes((C.IPSET_PROTOCOL_MIN,))),
        text(C.IPSET_ATTR_SETNAME, "first"),
        text(C.IPSET_ATTR_TYPENAME, "hash:ip"),
        attribute(C.IPSET_ATTR_REVISION, b"\4"),
        attribute(C.IPSET_ATTR_FAMILY, bytes((C.NFPROTO_IPV4,))),
        attribute(C.IPSET_ATTR_DATA | C.NLA_F_NESTED),
    )
    return Netlink(q).say(raw)


def rules(q: Questions, family: str) -> None:
    """IPT_SO_SET_REPLACE: each rule takes the place of the one before it."""
    made = first_set(q)
    domain, level, prefix, _ = PROTOCOLS[family]
    fd = q.call("socket", domain, C.SOCK_RAW, C.IPPROTO_RAW, opaque=True)
    option = getattr(C, f"{prefix}_SO_SET_REPLACE")

    def replace(table: str, hook: int, entry: bytes, before: int) -> tuple[Value, ...]:
        raw = _replacement(family, table, hook, entry, before)
        slot = patched(q.content(raw), (_COUNTERS, 8, q.buffer(16 * before)))
        return fd, level, option, slot, len(raw)

    plain = _entry(family, 0, b"", _standard(C.NF_ACCEPT))
    touched: dict[str, Ref] = {}
    for each in extensions():
        if family not in each.content:
            continue
        table, entries = each.table, len(_HOOKS[each.table]) + 1
        if table not in touched:
            first = replace(table, each.hook, plain, entries)
            key = f"xt.{family}.rule" if table == "filter" else f"xt.{family}.rule-in.{table}"
            touched[table] = q.ask(key, "setsockopt", *first, needs=(fd,))
        where = replace(table, each.hook, _rule(family, each), entries + 1)
        needs = (fd, touched[table], *([made] if each.needs_set else []))
        q.ask(f"xt.{family}.rule.{each.key}", "setsockopt", *where, needs=needs)


_COUNTERS = 88
"""Where struct ipt_replace and struct ip6t_replace point to counters."""


def _rule(family: str, each: Extension) -> bytes:
    own = _extension(each.name, each.revision, each.content[family])
    matches, target = (own, _standard(C.NF_ACCEPT)) if each.kind == MATCH else (b"", own)
    if each.syn:
        matches = _extension("tcp", 0, syn())
    return _entry(family, each.protocol, matches, target)


def _extension(name: str, revision: int, content: bytes) -> bytes:
    """A struct xt_entry_match, or a struct xt_entry_target, which is laid out as that."""
    padded = content.ljust((len(content) + 7) & ~7, b"\0")
    head = words(_HEAD + len(padded), size=2) + name.encode().ljust(_NAME, b"\0")
    return head + bytes((revision,)) + padded


def _standard(verdict: int) -> bytes:
    return _extension("", 0, words(-verdict - 1))


def _error() -> bytes:
    """What ends each table."""
    return _extension("ERROR", 0, b"ERROR".ljust(30, b"\0"))


def _entry(family: str, protocol: int, matches: bytes, target: bytes) -> bytes:
    name = PROTOCOLS[family][3]
    size = types.size(f"struct {name}_entry")
    packets: dict[str, int] = {"proto": protocol}
    if family == "ip6" and protocol:
        packets["flags"] = C.IP6T_F_PROTO
    entry = types.ffi.new(
        f"{types.need(f'struct {name}_entry')} *",
        {
            "ip" if family == "ip" else "ipv6": packets,
            "target_offset": size + len(matches),
            "next_offset": size + len(matches) + len(target),
        },
    )
    return bytes(types.ffi.buffer(entry))[:size] + matches + target


def _replacement(family: str, table: str, hook: int, entry: bytes, before: int) -> bytes:
    """All of a table with one rule, for a table of ``before`` entries, which the kernel checks.

    Untouched it has an end to each hook, and one that ends all.
    """
    accept = _entry(family, 0, b"", _standard(C.NF_ACCEPT))
    content, starts, ends = b"", [0] * C.NF_INET_NUMHOOKS, [0] * C.NF_INET_NUMHOOKS
    for each in _HOOKS[table]:
        starts[each] = len(content)
        content += entry if each == hook else b""
        ends[each] = len(content)
        content += accept
    content += _entry(family, 0, b"", _error())
    head = types.ffi.new(
        f"{types.need(f'struct {PROTOCOLS[family][3]}_replace')} *",
        {
            "name": table.encode(),
            "valid_hooks": sum(1 << each for each in _HOOKS[table]),
            "num_entries": len(_HOOKS[table]) + 2,
            "size": len(content),
            "hook_entry": starts,
            "underflow": ends,
            "num_counters": before,
        },
    )
    return bytes(types.ffi.buffer(head))[: _COUNTERS + 8] + content
