"""Matches and targets of iptables in rules of nftables, as iptables puts them there by default."""

from __future__ import annotations

from hostabi.surfaces.netfilter_chains import Ruleset
from hostabi.surfaces.netfilter_extensions import MATCH, Extension, extensions
from hostabi.surfaces.netfilter_messages import attribute, big, nested, text
from hostabi.surfaces.netfilter_nft import base_chain, expression, rule, table
from hostabi.surfaces.netfilter_xtables import first_set
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_CHAINS = {
    C.NF_INET_PRE_ROUTING: "pre",
    C.NF_INET_LOCAL_IN: "in",
    C.NF_INET_FORWARD: "fwd",
    C.NF_INET_LOCAL_OUT: "out",
    C.NF_INET_POST_ROUTING: "post",
}
"""Names of chains by their hooks."""


def rules(q: Questions, r: Ruleset) -> None:
    """One rule for each, in tables that have the names they have for iptables."""
    one = first_set(q)
    usable = [each for each in extensions() if r.family in each.content]
    made: dict[tuple[str, int], Ref] = {}
    for each in usable:
        if (each.table, each.hook) not in made:
            kind = "nat" if each.table == "nat" else "filter"
            chain = _CHAINS[each.hook]
            new = base_chain(r.family, chain, kind, each.hook, within=each.table)
            made[each.table, each.hook] = r.say(table(r.family, name=each.table), new)
        new = rule(
            r.family,
            _CHAINS[each.hook],
            _expression(r.family, each),
            more=_packets(each),
            within=each.table,
        )
        after = [made[each.table, each.hook], *([one] if each.needs_set else [])]
        r.ask(each.key, new, after=after)


def _expression(family: str, each: Extension) -> bytes:
    content = each.content[family]
    padded = content.ljust((len(content) + 7) & ~7, b"\0")
    if each.kind == MATCH:
        of = text(C.NFTA_MATCH_NAME, each.name), big(C.NFTA_MATCH_REV, each.revision)
        return expression("match", *of, attribute(C.NFTA_MATCH_INFO, padded))
    of = text(C.NFTA_TARGET_NAME, each.name), big(C.NFTA_TARGET_REV, each.revision)
    return expression("target", *of, attribute(C.NFTA_TARGET_INFO, padded))


def _packets(each: Extension) -> bytes:
    """Which packets the rule is about; some extensions want to know."""
    if not each.protocol:
        return b""
    flags = big(C.NFTA_RULE_COMPAT_FLAGS, 0)
    return nested(C.NFTA_RULE_COMPAT, big(C.NFTA_RULE_COMPAT_PROTO, each.protocol), flags)
