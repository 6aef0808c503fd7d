"""Expressions of nftables that do something with a packet: one form is one rule.

See :mod:`hostabi.surfaces.netfilter_expressions`.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.netfilter_expressions import Form
from hostabi.surfaces.netfilter_messages import attribute, big, nested, text
from hostabi.surfaces.netfilter_nft import R1, R2, R3, data, expression, immediate
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C, constants

_ADDRESS = {"ip": 4, "ip6": 16, "inet": 4}
"""Bytes of the address that is put into a register; inet is asked with the shorter one."""
_PROTOCOL = {"ip": C.NFPROTO_IPV4, "ip6": C.NFPROTO_IPV6, "inet": C.NFPROTO_IPV4}
_RANGES = ("PROTO_RANDOM", "PROTO_RANDOM_FULLY", "PERSISTENT")
_OF_ONE_PROTOCOL = ("ip", "ip6")
_LOOPBACK = words(1)
_PORT = (8080).to_bytes(2, "big").ljust(4, b"\0")


def forms(family: str) -> Iterator[Form]:
    """All that is asked of a family in which packets have addresses."""
    if family == "inet":
        yield from _limits()
        yield from _sets()
        yield from _objects()
    yield from logs()
    yield from _queues()
    yield from _translations(family)
    yield from _refusals(family)
    yield from _proxies(family)


def bridge_forms() -> Iterator[Form]:
    """What is asked of packets that are bridged."""
    yield from logs()
    yield from _queues()
    yield from _refusals("bridge")


def device_forms() -> Iterator[Form]:
    """What is asked of packets as a device takes them in."""
    device = immediate(R1, _LOOPBACK)
    yield Form("dup", (device, expression("dup", big(C.NFTA_DUP_SREG_DEV, R1))), "ingress")
    to = big(C.NFTA_FWD_SREG_DEV, R1)
    yield Form("fwd", (device, expression("fwd", to)), "ingress")
    through = big(C.NFTA_FWD_SREG_ADDR, R2), big(C.NFTA_FWD_NFPROTO, C.NFPROTO_IPV4)
    address = immediate(R2, bytes((10, 0, 0, 1)))
    yield Form("fwd.address", (device, address, expression("fwd", to, *through)), "ingress")
    yield from (Form(form.name, form.expressions, "ingress") for form in logs())
    result = big(C.NFTA_FIB_RESULT, C.NFT_FIB_RESULT_OIF)
    of = big(C.NFTA_FIB_DREG, R1), result, big(C.NFTA_FIB_FLAGS, C.NFTA_FIB_F_SADDR)
    yield Form("fib", (expression("fib", *of),), "ingress")
    yield from (Form(form.name, form.expressions, "ingress") for form in _refusals("netdev"))


def _one(name: str, *expressions: bytes, chain: str = "pre") -> Form:
    return Form(name, expressions, chain)


def _limits() -> Iterator[Form]:
    of = big(C.NFTA_LIMIT_RATE, 10, 8), big(C.NFTA_LIMIT_UNIT, 1, 8)
    yield _one("limit", expression("limit", *of))
    inverted = big(C.NFTA_LIMIT_FLAGS, C.NFT_LIMIT_F_INV)
    for name, kind in (("PKTS", C.NFT_LIMIT_PKTS), ("PKT_BYTES", C.NFT_LIMIT_PKT_BYTES)):
        more = big(C.NFTA_LIMIT_TYPE, kind), big(C.NFTA_LIMIT_BURST, 5)
        yield _one(f"limit.{name}", expression("limit", *of, *more))
        yield _one(f"limit.{name}.INV", expression("limit", *of, *more, inverted))
    quota = big(C.NFTA_QUOTA_BYTES, 1 << 20, 8)
    yield _one("quota", expression("quota", quota))
    over = big(C.NFTA_QUOTA_FLAGS, C.NFT_QUOTA_F_INV)
    yield _one("quota.INV", expression("quota", quota, over))
    consumed = big(C.NFTA_QUOTA_CONSUMED, 10, 8)
    yield _one("quota.consumed", expression("quota", quota, consumed))
    count = big(C.NFTA_CONNLIMIT_COUNT, 10)
    yield _one("connlimit", expression("connlimit", count))
    over = big(C.NFTA_CONNLIMIT_FLAGS, C.NFT_CONNLIMIT_F_INV)
    yield _one("connlimit.INV", expression("connlimit", count, over))


def _sets() -> Iterator[Form]:
    """lookup, dynset, objref by key; the sets are those of netfilter_sets."""
    key = immediate(R1, bytes(4))
    for name, of, more in (
        ("lookup", "plain", b""),
        ("lookup.INV", "plain", big(C.NFTA_LOOKUP_FLAGS, C.NFT_LOOKUP_F_INV)),
        ("lookup.map", "map", big(C.NFTA_LOOKUP_DREG, R2)),
        ("lookup.verdicts", "verdicts", big(C.NFTA_LOOKUP_DREG, C.NFT_REG_VERDICT)),
    ):
        where = text(C.NFTA_LOOKUP_SET, of), big(C.NFTA_LOOKUP_SREG, R1)
        yield _one(name, key, expression("lookup", *where, more))
    inverted = big(C.NFTA_DYNSET_FLAGS, C.NFT_DYNSET_F_INV)
    for name, kind, of, more in (
        ("dynset", "ADD", "dynamic", b""),
        ("dynset.UPDATE", "UPDATE", "dynamic", b""),
        ("dynset.DELETE", "DELETE", "dynamic", b""),
        ("dynset.INV", "ADD", "dynamic", inverted),
        ("dynset.timeout", "ADD", "dynamic", big(C.NFTA_DYNSET_TIMEOUT, 9000, 8)),
        ("dynset.map", "UPDATE", "changing", big(C.NFTA_DYNSET_SREG_DATA, R2)),
        ("dynset.expression", "ADD", "dynamic", expression("counter", kind=C.NFTA_DYNSET_EXPR)),
        ("dynset.expressions", "ADD", "dynamic", _counted()),
    ):
        where = text(C.NFTA_DYNSET_SET_NAME, of), big(C.NFTA_DYNSET_SREG_KEY, R1)
        how = big(C.NFTA_DYNSET_OP, getattr(C, f"NFT_DYNSET_OP_{kind}"))
        value = immediate(R2, bytes(4))
        yield _one(name, key, value, expression("dynset", *where, how, more))
    found = big(C.NFTA_OBJREF_SET_SREG, R1), text(C.NFTA_OBJREF_SET_NAME, "objects")
    yield _one("objref.map", key, expression("objref", *found))
    yield _one(
        "flow_offload", expression("flow_offload", text(C.NFTA_FLOW_TABLE_NAME, "f")), chain="fwd"
    )


def _counted() -> bytes:
    limit = big(C.NFTA_LIMIT_RATE, 10, 8), big(C.NFTA_LIMIT_UNIT, 1, 8)
    several = expression("counter"), expression("limit", *limit)
    flags = big(C.NFTA_DYNSET_FLAGS, C.NFT_DYNSET_F_EXPR)
    return flags + nested(C.NFTA_DYNSET_EXPRESSIONS, *several)


def _objects() -> Iterator[Form]:
    """objref by name; the objects are those of netfilter_sets."""
    for name, kind in (("counter", C.NFT_OBJECT_COUNTER), ("quota", C.NFT_OBJECT_QUOTA)):
        of = text(C.NFTA_OBJREF_IMM_NAME, name), big(C.NFTA_OBJREF_IMM_TYPE, kind)
        yield _one("objref" if name == "counter" else f"objref.{name}", expression("objref", *of))


def logs() -> Iterator[Form]:
    """log: to the kernel's own log, to a group of nfnetlink, to the audit system."""
    yield _one("log", expression("log", text(C.NFTA_LOG_PREFIX, "hostabi")))
    level, flags = big(C.NFTA_LOG_LEVEL, C.NFT_LOGLEVEL_INFO), big(C.NFTA_LOG_FLAGS, C.NF_LOG_UID)
    yield _one("log.level", expression("log", level, flags))
    group = big(C.NFTA_LOG_GROUP, 2, 2)
    yield _one("log.group", expression("log", group, big(C.NFTA_LOG_SNAPLEN, 64)))
    yield _one("log.threshold", expression("log", group, big(C.NFTA_LOG_QTHRESHOLD, 2, 2)))
    yield _one("log.audit", expression("log", big(C.NFTA_LOG_LEVEL, C.NFT_LOGLEVEL_AUDIT)))


def _queues() -> Iterator[Form]:
    number = big(C.NFTA_QUEUE_NUM, 1, 2)
    yield _one("queue", expression("queue", number))
    several = big(C.NFTA_QUEUE_TOTAL, 4, 2)
    for name in ("BYPASS", "CPU_FANOUT"):
        flag = big(C.NFTA_QUEUE_FLAGS, getattr(C, f"NFT_QUEUE_FLAG_{name}"), 2)
        yield _one(f"queue.{name}", expression("queue", number, several, flag))
    by = expression("queue", big(C.NFTA_QUEUE_SREG_QNUM, R1))
    yield _one("queue.register", immediate(R1, bytes(4)), by)


def _translations(family: str) -> Iterator[Form]:
    """nat, masq, redir: in the chains and with the flags that fit, and in one that does not."""
    address = immediate(R1, bytes(_ADDRESS[family]))
    protocol = big(C.NFTA_NAT_FAMILY, _PROTOCOL[family])
    ports = immediate(R2, _PORT), big(C.NFTA_NAT_REG_PROTO_MIN, R2)
    to = big(C.NFTA_NAT_REG_ADDR_MIN, R1)
    for name, kind, chain in (
        ("nat", "DNAT", "natpre"),
        ("nat.DNAT.out", "DNAT", "natout"),
        ("nat.SNAT", "SNAT", "natpost"),
        ("nat.SNAT.in", "SNAT", "natin"),
        ("nat.SNAT.pre", "SNAT", "natpre"),
    ):
        of = big(C.NFTA_NAT_TYPE, getattr(C, f"NFT_NAT_{kind}")), protocol
        yield _one(name, address, expression("nat", *of, to), chain=chain)
    of = big(C.NFTA_NAT_TYPE, C.NFT_NAT_DNAT), protocol
    one = expression("nat", *of, to, ports[1])
    yield _one("nat.ports", address, ports[0], one, chain="natpre")
    for name in (*_RANGES, "NETMAP"):
        flags = big(C.NFTA_NAT_FLAGS, getattr(C, f"NF_NAT_RANGE_{name}"))
        one = expression("nat", *of, to, big(C.NFTA_NAT_REG_ADDR_MAX, R1), flags)
        yield _one(f"nat.{name}", address, one, chain="natpre")
    yield _one("masq", expression("masq"), chain="natpost")
    yield _one("masq.pre", expression("masq"), chain="natpre")
    for name in _RANGES:
        flags = big(C.NFTA_MASQ_FLAGS, getattr(C, f"NF_NAT_RANGE_{name}"))
        yield _one(f"masq.{name}", expression("masq", flags), chain="natpost")
    one = expression("masq", big(C.NFTA_MASQ_REG_PROTO_MIN, R2))
    yield _one("masq.ports", ports[0], one, chain="natpost")
    yield _one("redir", expression("redir"), chain="natpre")
    yield _one("redir.out", expression("redir"), chain="natout")
    one = expression("redir", big(C.NFTA_REDIR_REG_PROTO_MIN, R2))
    yield _one("redir.ports", ports[0], one, chain="natpre")


def _refusals(family: str) -> Iterator[Form]:
    kinds = [
        "ICMP_UNREACH",
        "TCP_RST",
        *(["ICMPX_UNREACH"] if family not in _OF_ONE_PROTOCOL else []),
    ]
    for name in kinds:
        of = big(C.NFTA_REJECT_TYPE, getattr(C, f"NFT_REJECT_{name}"))
        one = expression("reject", of, attribute(C.NFTA_REJECT_ICMP_CODE, b"\3"))
        yield _one("reject" if name == "ICMP_UNREACH" else f"reject.{name}", one, chain="in")
        if family == "inet":
            yield _one(f"reject.{name}.pre", one)
            yield _one(f"reject.{name}.post", one, chain="post")


def _proxies(family: str) -> Iterator[Form]:
    """tproxy, synproxy, dup."""
    address, port = immediate(R1, bytes(_ADDRESS[family])), immediate(R2, _PORT)
    of = big(C.NFTA_TPROXY_FAMILY, _PROTOCOL[family]), big(C.NFTA_TPROXY_REG_PORT, R2)
    protocol = expression(
        "meta", big(C.NFTA_META_DREG, R3), big(C.NFTA_META_KEY, C.NFT_META_L4PROTO)
    )
    is_tcp = expression(
        "cmp",
        big(C.NFTA_CMP_SREG, R3),
        big(C.NFTA_CMP_OP, C.NFT_CMP_EQ),
        data(C.NFTA_CMP_DATA, bytes((C.IPPROTO_TCP,))),
    )
    yield _one("tproxy", protocol, is_tcp, port, expression("tproxy", *of))
    to = big(C.NFTA_TPROXY_REG_ADDR, R1)
    yield _one("tproxy.address", protocol, is_tcp, address, port, expression("tproxy", *of, to))
    yield _one("tproxy.out", protocol, is_tcp, port, expression("tproxy", *of), chain="out")
    if family == "inet":
        either = big(C.NFTA_TPROXY_FAMILY, C.NFPROTO_UNSPEC), of[1]
        yield _one("tproxy.any", protocol, is_tcp, port, expression("tproxy", *either))
    mss = big(C.NFTA_SYNPROXY_MSS, 1460, 2), attribute(C.NFTA_SYNPROXY_WSCALE, b"\7")
    chosen = sum(bit for name, bit in constants("NF_SYNPROXY_OPT_").items() if name in _SYNPROXY)
    answering = expression("synproxy", *mss, big(C.NFTA_SYNPROXY_FLAGS, chosen))
    yield _one("synproxy", answering, chain="in")
    yield _one("synproxy.pre", answering)
    if family != "inet":
        one = expression("dup", big(C.NFTA_DUP_SREG_ADDR, R1))
        yield _one("dup", address, one)
        device = big(C.NFTA_DUP_SREG_DEV, R2)
        one = expression("dup", big(C.NFTA_DUP_SREG_ADDR, R1), device)
        yield _one("dup.device", address, immediate(R2, _LOOPBACK), one)


_SYNPROXY = ("NF_SYNPROXY_OPT_MSS", "NF_SYNPROXY_OPT_WSCALE", "NF_SYNPROXY_OPT_SACK_PERM")
