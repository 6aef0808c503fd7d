"""What nftables keeps: tables, chains, rules and flowtables, and what is asked about them."""

from __future__ import annotations

from collections.abc import Sequence

from hostabi.surfaces.netfilter_messages import Netlink, attribute, big, nested, text
from hostabi.surfaces.netfilter_nft import (
    TABLE,
    base_chain,
    batch,
    chain,
    expression,
    hook,
    request,
    rule,
    table,
    verdict,
)
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_HOOKS = ("pre", "in", "fwd", "out", "post")
"""NF_INET_*, and NF_BR_* of linux/netfilter_bridge.h, are numbered so."""
_INET = (
    *(("filter", name, name) for name in _HOOKS),
    *(("nat", name, f"nat{name}") for name in _HOOKS),
    ("route", "out", "route"),
    ("route", "pre", "routepre"),
)
"""Type of a chain, its hook, its name."""
_CHAINS: dict[str, Sequence[tuple[str, str, str]]] = {
    "ip": _INET,
    "ip6": _INET,
    "inet": (*_INET, ("filter", "ingress", "ingress")),
    "bridge": (*(("filter", name, name) for name in _HOOKS), ("nat", "pre", "natpre")),
    "arp": (("filter", "arpin", "in"), ("filter", "arpout", "out"), ("filter", "arpfwd", "fwd")),
    "netdev": (("filter", "ingress", "ingress"), ("filter", "egress", "egress")),
}


class Ruleset:
    """A table of a family in a program, and questions about what can be put into it.

    A key that is asked says what it is about, without the family. While it is
    ``silent``, what is asked is done, but is no question: others build on it.
    """

    def __init__(self, q: Questions, family: str, *, silent: bool = False) -> None:
        self.family, self.silent = family, silent
        self._netlink = Netlink(q)
        self._made: tuple[Ref, ...] = ()
        self._made = (self._send(f"nft.{family}", batch(table(family)), ()),)

    def ask(self, key: str, *messages: bytes, after: Sequence[Ref] = ()) -> Ref:
        """One transaction is one question."""
        return self._send(f"nft.{self.family}.{key}", batch(*messages), after)

    def say(self, *messages: bytes) -> Ref:
        """One transaction that others build on."""
        return self._netlink.say(batch(*messages))

    def get(self, key: str, name: str, *attributes: bytes, after: Sequence[Ref] = ()) -> Ref:
        """Something that is only looked at, or reset."""
        raw = request(name, self.family, *attributes, flags=C.NLM_F_ACK)
        return self._send(f"nft.{self.family}.{key}", raw, after)

    def dump(self, key: str, name: str, *attributes: bytes) -> Ref:
        """All there is of something."""
        raw = request(name, self.family, *attributes, flags=C.NLM_F_DUMP)
        return self._send(f"nft.{self.family}.{key}", raw, ())

    def _send(self, key: str, raw: bytes, after: Sequence[Ref]) -> Ref:
        if self.silent:
            return self._netlink.say(raw)
        return self._netlink.ask(key, raw, needs=(*self._made, *after))

    def chains(self) -> dict[str, Ref]:
        """The chains of the family by their names."""
        made = {"c": self.ask("chain", chain(self.family, "c"))}
        for kind, where, name in _CHAINS[self.family]:
            devices = [_device("lo")] if where in ("ingress", "egress") else []
            number = _number(self.family, where)
            new = base_chain(self.family, name, kind, number, *devices)
            made[name] = self.ask(f"chain.{kind}.{where.removeprefix('arp')}", new)
        return made


def _device(name: str) -> bytes:
    return text(C.NFTA_HOOK_DEV, name)


def _devices(*names: str, kind: int = C.NFTA_DEVICE_NAME) -> bytes:
    return nested(C.NFTA_HOOK_DEVS, *(text(kind, name) for name in names))


def _number(family: str, where: str) -> int:
    if where == "ingress":
        return C.NF_NETDEV_INGRESS if family == "netdev" else C.NF_INET_INGRESS
    if where == "egress":
        return C.NF_NETDEV_EGRESS
    if where.startswith("arp"):
        return {"arpin": C.NF_ARP_IN, "arpout": C.NF_ARP_OUT, "arpfwd": C.NF_ARP_FORWARD}[where]
    return _HOOKS.index(where)


def tables(q: Questions) -> None:
    """Flags of tables, and what becomes of a table."""
    netlink = Netlink(q)
    there = netlink.ask("nft", request("GETGEN", "inet", flags=C.NLM_F_ACK))

    def ask(key: str, *messages: bytes) -> None:
        netlink.ask(f"nft.table.{key}", batch(*messages), needs=(there,))

    def flagged(name: str, flags: int) -> bytes:
        return table("inet", big(C.NFTA_TABLE_FLAGS, flags), name=name)

    ask("unknown-family", _of_family(C.NFPROTO_DECNET))
    ask("DORMANT", flagged("dormant", C.NFT_TABLE_F_DORMANT))
    ask("DORMANT.woken", flagged("dormant", 0))
    ask("OWNER", flagged("owned", C.NFT_TABLE_F_OWNER))
    ask("OWNER.left", flagged("owned", 0))
    ask("PERSIST", flagged("persistent", C.NFT_TABLE_F_OWNER | C.NFT_TABLE_F_PERSIST))
    ask("unknown-flag", flagged("unknown", 0x80))
    ask("USERDATA", table("inet", attribute(C.NFTA_TABLE_USERDATA, b"u" * 256), name="described"))
    ask("name.255", table("inet", name="n" * 255))
    ask("name.256", table("inet", name="n" * 256))
    ask("again", table("inet", name="dormant"))
    once = request("NEWTABLE", "inet", text(C.NFTA_TABLE_NAME, "dormant"), flags=C.NLM_F_EXCL)
    ask("EXCL", once)
    ask("DEL", request("DELTABLE", "inet", text(C.NFTA_TABLE_NAME, "dormant")))
    ask("DEL.absent", request("DELTABLE", "inet", text(C.NFTA_TABLE_NAME, "absent")))
    ask("DESTROY.absent", request("DESTROYTABLE", "inet", text(C.NFTA_TABLE_NAME, "absent")))
    listing = request("GETTABLE", "inet", flags=C.NLM_F_DUMP)
    netlink.ask("nft.table.list", listing, needs=(there,))


def _of_family(number: int) -> bytes:
    made = table("inet")
    return made[:16] + bytes((number,)) + made[17:]


def changes(r: Ruleset, made: dict[str, Ref]) -> None:
    """What chains can be told when they are made, and later."""
    after, family = (made["c"],), r.family
    kind = text(C.NFTA_CHAIN_TYPE, "filter")
    here = hook(C.NF_INET_PRE_ROUTING, 10)
    r.ask("chain.policy", chain(family, "drops", here, kind, big(C.NFTA_CHAIN_POLICY, C.NF_DROP)))
    r.ask("chain.policy.changed", chain(family, "drops", big(C.NFTA_CHAIN_POLICY, C.NF_ACCEPT)))
    queued = chain(family, "queues", here, kind, big(C.NFTA_CHAIN_POLICY, C.NF_QUEUE))
    r.ask("chain.policy.queue", queued)
    counts = big(C.NFTA_COUNTER_BYTES, 1, 8), big(C.NFTA_COUNTER_PACKETS, 1, 8)
    r.ask(
        "chain.counters",
        chain(family, "counts", here, kind, nested(C.NFTA_CHAIN_COUNTERS, *counts)),
    )
    described = attribute(C.NFTA_CHAIN_USERDATA, b"u" * 256)
    r.ask("chain.USERDATA", chain(family, "described", described))
    for name, flag in (("BASE", C.NFT_CHAIN_BASE), ("unknown-flag", 0x80)):
        with_flag = chain(family, f"flag-{name}", here, kind, big(C.NFTA_CHAIN_FLAGS, flag))
        r.ask(f"chain.{name}", with_flag)
    bound = (
        text(C.NFTA_CHAIN_TABLE, TABLE),
        big(C.NFTA_CHAIN_ID, 7),
        big(C.NFTA_CHAIN_FLAGS, C.NFT_CHAIN_BINDING),
    )
    code = nested(
        C.NFTA_DATA_VERDICT,
        big(C.NFTA_VERDICT_CODE, C.NFT_JUMP),
        big(C.NFTA_VERDICT_CHAIN_ID, 7),
    )
    jump = expression(
        "immediate", big(C.NFTA_IMMEDIATE_DREG, 0), nested(C.NFTA_IMMEDIATE_DATA, code)
    )
    r.ask("chain.BINDING", request("NEWCHAIN", family, *bound), rule(family, "pre", jump))
    r.ask("chain.BINDING.unused", request("NEWCHAIN", family, *bound))
    for name, number in (("first", -(1 << 31)), ("last", (1 << 31) - 1), ("nat-early", -201)):
        of = text(C.NFTA_CHAIN_TYPE, "nat" if name == "nat-early" else "filter")
        where = hook(C.NF_INET_PRE_ROUTING, number)
        r.ask(f"chain.priority.{name}", chain(family, f"at-{name}", where, of))
    unknown = chain(family, "unknown", here, text(C.NFTA_CHAIN_TYPE, "unknown"))
    r.ask("chain.unknown-type", unknown)
    named = text(C.NFTA_CHAIN_TABLE, TABLE), text(C.NFTA_CHAIN_NAME, "described")
    r.get("chain.GET", "GETCHAIN", *named, after=after)
    r.dump("chain.list", "GETCHAIN")
    r.ask("chain.DEL", request("DELCHAIN", family, *named), after=after)
    to = verdict(C.NFTA_IMMEDIATE_DATA, C.NFT_JUMP, "c")
    jumping = expression("immediate", big(C.NFTA_IMMEDIATE_DREG, C.NFT_REG_VERDICT), to)
    used = request("DELCHAIN", family, named[0], text(C.NFTA_CHAIN_NAME, "c"))
    r.ask("chain.DEL.used", rule(family, "pre", jumping), used)
    r.ask("chain.DEL.absent", request("DELCHAIN", family, *named))
    r.ask("chain.DESTROY.absent", request("DESTROYCHAIN", family, *named))


def rules(r: Ruleset, made: dict[str, Ref]) -> None:
    """What can be done with a rule, whatever its expressions."""
    after, family = (made["c"],), r.family
    where = text(C.NFTA_RULE_TABLE, TABLE), text(C.NFTA_RULE_CHAIN, "r")
    r.ask("rule", chain(family, "r"), rule(family, "r", expression("counter")))
    described = attribute(C.NFTA_RULE_USERDATA, b"u" * 256)
    r.ask("rule.USERDATA", rule(family, "r", expression("counter"), more=described))
    r.ask("rule.empty", rule(family, "r"))
    first = rule(family, "r", expression("counter"), more=big(C.NFTA_RULE_ID, 3))
    second = rule(family, "r", expression("counter"), more=big(C.NFTA_RULE_POSITION_ID, 3))
    r.ask("rule.POSITION_ID", first, second)
    absent = rule(family, "r", expression("counter"), more=big(C.NFTA_RULE_POSITION, 9999, 8))
    r.ask("rule.POSITION.absent", absent)
    unknown = rule(family, "r", expression("hostabi"))
    r.ask("rule.unknown-expression", unknown, after=after)
    many = rule(family, "r", *[expression("counter")] * 128)
    r.ask("rule.expressions.128", many)
    r.ask("rule.expressions.129", rule(family, "r", *[expression("counter")] * 129))
    r.dump("rule.list", "GETRULE", *where)
    r.dump("rule.RESET", "GETRULE_RESET", *where)
    r.ask("rule.DEL.all", request("DELRULE", family, *where))
    handle = big(C.NFTA_RULE_HANDLE, 9999, 8)
    r.ask("rule.DEL.absent", request("DELRULE", family, *where, handle))
    r.ask("rule.DESTROY.absent", request("DESTROYRULE", family, *where, handle))
    loop = expression(
        "immediate",
        big(C.NFTA_IMMEDIATE_DREG, 0),
        verdict(C.NFTA_IMMEDIATE_DATA, C.NFT_JUMP, "r"),
    )
    r.ask("rule.loop", rule(family, "r", loop))


def flowtables(r: Ruleset) -> Ref:
    """Tables of connections that are forwarded by a shorter way; gives the one named ``f``."""
    family = r.family

    def flowtable(name: str, *devices: bytes, flags: int | None = None) -> bytes:
        where = (
            big(C.NFTA_FLOWTABLE_HOOK_NUM, C.NF_NETDEV_INGRESS),
            big(C.NFTA_FLOWTABLE_HOOK_PRIORITY, 0),
            nested(C.NFTA_FLOWTABLE_HOOK_DEVS, *devices),
        )
        of = text(C.NFTA_FLOWTABLE_TABLE, TABLE), text(C.NFTA_FLOWTABLE_NAME, name)
        flagged = [] if flags is None else [big(C.NFTA_FLOWTABLE_FLAGS, flags)]
        return request("NEWFLOWTABLE", family, *of, nested(C.NFTA_FLOWTABLE_HOOK, *where), *flagged)

    lo = text(C.NFTA_DEVICE_NAME, "lo")
    of = text(C.NFTA_FLOWTABLE_TABLE, TABLE), text(C.NFTA_FLOWTABLE_NAME, "f")
    gone = request("DELFLOWTABLE", family, *of)
    made = r.ask("flowtable", flowtable("f", lo))
    r.ask("flowtable.DEL", gone)
    for name in ("COUNTER", "HW_OFFLOAD"):
        # a device is in one of them only
        flag = getattr(C, f"NFT_FLOWTABLE_{name}")
        r.ask(f"flowtable.{name}", flowtable("f", lo, flags=flag), gone)
    r.ask("flowtable.again", flowtable("f", lo))
    r.ask("flowtable.no-device", flowtable("none"))
    r.ask("flowtable.absent-device", flowtable("absent", text(C.NFTA_DEVICE_NAME, "absent0")))
    r.ask("flowtable.PREFIX", flowtable("prefix", text(C.NFTA_DEVICE_PREFIX, "eth")))
    r.get("flowtable.GET", "GETFLOWTABLE", *of)
    absent = of[0], text(C.NFTA_FLOWTABLE_NAME, "gone")
    r.ask("flowtable.DEL.absent", request("DELFLOWTABLE", family, *absent))
    r.ask("flowtable.DESTROY.absent", request("DESTROYFLOWTABLE", family, *absent))
    return made


def devices(r: Ruleset) -> None:
    """Chains of devices: a list of them, one twice, one that is not there, those of a prefix."""
    kind = text(C.NFTA_CHAIN_TYPE, "filter")
    for name, where in (
        ("twice", _devices("lo", "lo")),
        ("list", _devices("lo")),
        ("absent", _device("absent0")),
        ("absent-in-list", _devices("absent1")),
        ("PREFIX", _devices("eth", kind=C.NFTA_DEVICE_PREFIX)),
    ):
        at = hook(C.NF_NETDEV_INGRESS, 5, where)
        r.ask(f"chain.device.{name}", chain(r.family, f"device-{name}", at, kind))
    offloaded = big(C.NFTA_CHAIN_FLAGS, C.NFT_CHAIN_HW_OFFLOAD)
    at = hook(C.NF_NETDEV_INGRESS, 6, _device("lo"))
    r.ask("chain.HW_OFFLOAD", chain(r.family, "offloaded", at, kind, offloaded))
