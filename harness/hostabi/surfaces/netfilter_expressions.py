"""Expressions of nftables that look at a packet or compute: one form is one rule.

The first form of an expression has its name alone, and tells whether it is there
at all. Numbers of keys, operations and attributes: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hostabi.surfaces.netfilter_messages import attribute, big
from hostabi.surfaces.netfilter_nft import (
    R1,
    R2,
    data,
    expression,
    immediate,
    verdict,
)
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C, constants


@dataclasses.dataclass(frozen=True)
class Form:
    """A rule that uses an expression in one way. ``chain`` is the one it is put into."""

    name: str
    expressions: tuple[bytes, ...]
    chain: str = "pre"


_ZERO = bytes(4)
_ONE = (1).to_bytes(4, "big")
_META_SET = ("MARK", "PRIORITY", "PKTTYPE", "NFTRACE", "SECMARK")
_ONLY_SET = ("NFTRACE", "BRI_BROUTE")
_ARRIVED = ("SDIF", "SDIFNAME")
"""What is known only once a packet's way is decided."""
_BRIDGE = "NFT_META_BRI_"
_DIRECTED = ("SRC", "DST", "SRC_IP", "DST_IP", "SRC_IP6", "DST_IP6", "PROTO_SRC", "PROTO_DST")
"""Keys of ct that are about one direction."""
_HALVES = ("ip", "ip6")
"""Families of which inet is both: only what differs is asked there."""
_CT_SET = ("MARK", "ZONE", "LABELS", "EVENTMASK", "SECMARK")


def forms(family: str) -> Iterator[Form]:
    """All that is asked of a family in which packets have addresses."""
    if family == "inet":
        for make in (_values, _comparisons, _bits, _payload, _headers, _numbers, _inner):
            yield from make()
        yield from _meta(family)
    yield from _connections(family)
    yield from _routing(family)
    if family == "inet":
        yield from _transforms()


def bridge_forms() -> Iterator[Form]:
    """What is asked of packets that are bridged."""
    yield from _meta("bridge")
    yield from _connections("bridge")


def _form(name: str, *expressions: bytes, chain: str = "pre") -> Form:
    return Form(name, expressions, chain)


def _meta(family: str) -> Iterator[Form]:
    """What is known about a packet; the keys of bridges in their own family only."""
    load = big(C.NFTA_META_DREG, R1)
    yield _form("meta", expression("meta", load, big(C.NFTA_META_KEY, C.NFT_META_LEN)))
    for name, key in constants("NFT_META_").items():
        if name == "NFT_META_IFTYPE" or name.startswith(_BRIDGE) != (family == "bridge"):
            continue
        short = name.removeprefix("NFT_META_")
        if short not in _ONLY_SET:
            chain = "in" if short in _ARRIVED else "pre"
            one = expression("meta", load, big(C.NFTA_META_KEY, key))
            yield _form(f"meta.{short}", one, chain=chain)
    for name in ("BRI_BROUTE",) if family == "bridge" else _META_SET:
        of = big(C.NFTA_META_SREG, R1), big(C.NFTA_META_KEY, getattr(C, f"NFT_META_{name}"))
        store = expression("meta", *of)
        yield _form(f"meta.{name}-set", immediate(R1, _ZERO), store)


def _values() -> Iterator[Form]:
    yield _form("counter", expression("counter"))
    started = big(C.NFTA_COUNTER_BYTES, 100, 8), big(C.NFTA_COUNTER_PACKETS, 2, 8)
    yield _form("counter.values", expression("counter", *started))
    yield _form("immediate", immediate(R1, _ZERO))
    for size in (16, 17):
        yield _form(f"immediate.{size}", immediate(R1, bytes(size)))
    register = big(C.NFTA_IMMEDIATE_DREG, C.NFT_REG_VERDICT)
    for name, code, target in (
        ("accept", C.NF_ACCEPT, ""),
        ("drop", C.NF_DROP, ""),
        ("queue", C.NF_QUEUE, ""),
        ("stolen", C.NF_STOLEN, ""),
        ("continue", C.NFT_CONTINUE, ""),
        ("break", C.NFT_BREAK, ""),
        ("return", C.NFT_RETURN, ""),
        ("jump", C.NFT_JUMP, "c"),
        ("goto", C.NFT_GOTO, "c"),
        ("jump-base", C.NFT_JUMP, "post"),
    ):
        to = verdict(C.NFTA_IMMEDIATE_DATA, code, target)
        yield _form(f"immediate.{name}", expression("immediate", register, to))
    yield _form("last", expression("last"))
    used = big(C.NFTA_LAST_SET, 1), big(C.NFTA_LAST_MSECS, 1000, 8)
    yield _form("last.set", expression("last", *used))
    yield _form("notrack", expression("notrack"))


def _comparisons() -> Iterator[Form]:
    given, source = immediate(R1, _ZERO), big(C.NFTA_CMP_SREG, R1)
    for name in ("EQ", "NEQ", "LT", "LTE", "GT", "GTE"):
        how = big(C.NFTA_CMP_OP, getattr(C, f"NFT_CMP_{name}"))
        one = expression("cmp", source, how, data(C.NFTA_CMP_DATA, _ONE))
        yield _form("cmp" if name == "EQ" else f"cmp.{name}", given, one)
    wide = expression("cmp", source, big(C.NFTA_CMP_OP, 0), data(C.NFTA_CMP_DATA, bytes(16)))
    yield _form("cmp.16", immediate(R1, bytes(16)), wide)
    for name, number in (("range", C.NFT_RANGE_EQ), ("range.NEQ", C.NFT_RANGE_NEQ)):
        ends = data(C.NFTA_RANGE_FROM_DATA, _ZERO), data(C.NFTA_RANGE_TO_DATA, _ONE)
        of = big(C.NFTA_RANGE_SREG, R1), big(C.NFTA_RANGE_OP, number)
        yield _form(name, given, expression("range", *of, *ends))


def _bits() -> Iterator[Form]:
    """Operations on registers; those with a second register came with NFTA_BITWISE_SREG2."""
    given, second = immediate(R1, _ZERO), immediate(R2, _ONE)
    of = big(C.NFTA_BITWISE_SREG, R1), big(C.NFTA_BITWISE_DREG, R1), big(C.NFTA_BITWISE_LEN, 4)
    masks = data(C.NFTA_BITWISE_MASK, _ONE), data(C.NFTA_BITWISE_XOR, _ZERO)
    yield _form("bitwise", given, expression("bitwise", *of, *masks))
    named = big(C.NFTA_BITWISE_OP, C.NFT_BITWISE_MASK_XOR)
    yield _form("bitwise.MASK_XOR", given, expression("bitwise", *of, named, *masks))
    for name in ("LSHIFT", "RSHIFT"):
        how = big(C.NFTA_BITWISE_OP, getattr(C, f"NFT_BITWISE_{name}"))
        by = data(C.NFTA_BITWISE_DATA, words(3))
        yield _form(f"bitwise.{name}", given, expression("bitwise", *of, how, by))
    for name in ("AND", "OR", "XOR"):
        how = big(C.NFTA_BITWISE_OP, getattr(C, f"NFT_BITWISE_{name}"))
        by = big(C.NFTA_BITWISE_SREG2, R2)
        yield _form(f"bitwise.{name}", given, second, expression("bitwise", *of, how, by))
    for name in ("NTOH", "HTON"):
        for size in (2, 4, 8):
            how = big(C.NFTA_BYTEORDER_OP, getattr(C, f"NFT_BYTEORDER_{name}"))
            registers = big(C.NFTA_BYTEORDER_SREG, R1), big(C.NFTA_BYTEORDER_DREG, R1)
            sizes = big(C.NFTA_BYTEORDER_LEN, size), big(C.NFTA_BYTEORDER_SIZE, size)
            one = expression("byteorder", *registers, how, *sizes)
            if (name, size) == ("NTOH", 2):
                yield _form("byteorder", immediate(R1, bytes(8)), one)
            yield _form(f"byteorder.{name}.{size}", immediate(R1, bytes(8)), one)


def _payload() -> Iterator[Form]:
    where = big(C.NFTA_PAYLOAD_OFFSET, 0), big(C.NFTA_PAYLOAD_LEN, 4)
    for name in ("NETWORK_HEADER", "LL_HEADER", "TRANSPORT_HEADER", "INNER_HEADER", "TUN_HEADER"):
        base = big(C.NFTA_PAYLOAD_BASE, getattr(C, f"NFT_PAYLOAD_{name}"))
        one = expression("payload", big(C.NFTA_PAYLOAD_DREG, R1), base, *where)
        yield _form("payload" if name == "NETWORK_HEADER" else f"payload.{name}", one)
    store = big(C.NFTA_PAYLOAD_SREG, R1)
    for name, at, header in (
        ("NONE", 0, C.NFT_PAYLOAD_LL_HEADER),
        ("INET", 10, C.NFT_PAYLOAD_NETWORK_HEADER),
        ("SCTP", 8, C.NFT_PAYLOAD_TRANSPORT_HEADER),
    ):
        kind = big(C.NFTA_PAYLOAD_CSUM_TYPE, getattr(C, f"NFT_PAYLOAD_CSUM_{name}"))
        sums = kind, big(C.NFTA_PAYLOAD_CSUM_OFFSET, at)
        one = expression("payload", store, big(C.NFTA_PAYLOAD_BASE, header), *where, *sums)
        yield _form(f"payload.set.CSUM_{name}", immediate(R1, _ZERO), one)
    network = big(C.NFTA_PAYLOAD_BASE, C.NFT_PAYLOAD_NETWORK_HEADER)
    kind = big(C.NFTA_PAYLOAD_CSUM_TYPE, C.NFT_PAYLOAD_CSUM_INET)
    flags = big(C.NFTA_PAYLOAD_CSUM_FLAGS, C.NFT_PAYLOAD_L4CSUM_PSEUDOHDR)
    sums = kind, big(C.NFTA_PAYLOAD_CSUM_OFFSET, 10)
    one = expression("payload", store, network, *where, *sums, flags)
    yield _form("payload.set.L4CSUM_PSEUDOHDR", immediate(R1, _ZERO), one)


def _headers() -> Iterator[Form]:
    """exthdr: extension headers and options, read, looked for, overwritten, taken out."""
    where = big(C.NFTA_EXTHDR_OFFSET, 0), big(C.NFTA_EXTHDR_LEN, 1)
    kinds = {"IPV6": 43, "TCPOPT": 2, "IPV4": 7, "SCTP": 1, "DCCP": 1}
    for name, kind in kinds.items():
        how = big(C.NFTA_EXTHDR_OP, getattr(C, f"NFT_EXTHDR_OP_{name}"))
        of = big(C.NFTA_EXTHDR_DREG, R1), attribute(C.NFTA_EXTHDR_TYPE, bytes((kind,)))
        present = big(C.NFTA_EXTHDR_FLAGS, C.NFT_EXTHDR_F_PRESENT)
        if name == "IPV6":
            yield _form("exthdr", expression("exthdr", *of, *where))
        if name != "DCCP":  # of which only that it is there can be asked
            yield _form(f"exthdr.{name}", expression("exthdr", *of, *where, how))
        yield _form(f"exthdr.{name}-PRESENT", expression("exthdr", *of, *where, how, present))
    how = big(C.NFTA_EXTHDR_OP, C.NFT_EXTHDR_OP_TCPOPT)
    option = attribute(C.NFTA_EXTHDR_TYPE, bytes((2,)))
    at = big(C.NFTA_EXTHDR_OFFSET, 2), big(C.NFTA_EXTHDR_LEN, 2)
    one = expression("exthdr", big(C.NFTA_EXTHDR_SREG, R1), option, *at, how)
    yield _form("exthdr.TCPOPT-set", immediate(R1, _ZERO), one)
    yield _form("exthdr.TCPOPT-reset", expression("exthdr", option, how))


def _numbers() -> Iterator[Form]:
    """Numbers that are counted, drawn or made of others."""
    for name in ("INCREMENTAL", "RANDOM"):
        kind = big(C.NFTA_NG_TYPE, getattr(C, f"NFT_NG_{name}"))
        of = big(C.NFTA_NG_DREG, R1), big(C.NFTA_NG_MODULUS, 4), kind
        if name == "INCREMENTAL":
            yield _form("numgen", expression("numgen", *of))
        yield _form(f"numgen.{name}", expression("numgen", *of, big(C.NFTA_NG_OFFSET, 10)))
    source = big(C.NFTA_HASH_SREG, R1), big(C.NFTA_HASH_LEN, 4)
    result = big(C.NFTA_HASH_DREG, R2), big(C.NFTA_HASH_MODULUS, 4)
    given = immediate(R1, _ZERO)
    yield _form("hash", given, expression("hash", *source, *result))
    for name, more in (("SEED", big(C.NFTA_HASH_SEED, 7)), ("OFFSET", big(C.NFTA_HASH_OFFSET, 7))):
        yield _form(f"hash.{name}", given, expression("hash", *source, *result, more))
    symmetric = big(C.NFTA_HASH_TYPE, C.NFT_HASH_SYM)
    yield _form("hash.SYM", expression("hash", *result, symmetric))


def _inner() -> Iterator[Form]:
    """Headers of packets inside of tunnels."""
    every = C.NFT_INNER_LL | C.NFT_INNER_NH | C.NFT_INNER_TH
    key = big(C.NFTA_META_KEY, C.NFT_META_PROTOCOL)
    looks = expression("meta", big(C.NFTA_META_DREG, R1), key, kind=C.NFTA_INNER_EXPR)
    where = big(C.NFTA_PAYLOAD_OFFSET, 0), big(C.NFTA_PAYLOAD_LEN, 4)
    base = big(C.NFTA_PAYLOAD_BASE, C.NFT_PAYLOAD_NETWORK_HEADER)
    reads = big(C.NFTA_PAYLOAD_DREG, R1), base, *where
    deeper = expression("payload", *reads, kind=C.NFTA_INNER_EXPR)
    for name, number, flags, size, inner in (
        ("inner", C.NFT_INNER_VXLAN, C.NFT_INNER_HDRSIZE | every, 8, looks),
        ("inner.payload", C.NFT_INNER_VXLAN, C.NFT_INNER_HDRSIZE | every, 8, deeper),
        ("inner.GENEVE", C.NFT_INNER_GENEVE, C.NFT_INNER_HDRSIZE | every, 8, looks),
        ("inner.gre", C.NFT_INNER_UNSPEC, C.NFT_INNER_NH | C.NFT_INNER_TH, 0, looks),
    ):
        of = (
            big(C.NFTA_INNER_NUM, 0),
            big(C.NFTA_INNER_TYPE, number),
            big(C.NFTA_INNER_FLAGS, flags),
            big(C.NFTA_INNER_HDRSIZE, size),
        )
        yield _form(name, expression("inner", *of, inner))


def _connections(family: str) -> Iterator[Form]:
    """ct: what is known about a packet's connection, and what is put there."""
    load = big(C.NFTA_CT_DREG, R1)
    original = attribute(C.NFTA_CT_DIRECTION, b"\0")
    yield _form("ct", expression("ct", load, big(C.NFTA_CT_KEY, C.NFT_CT_STATE)))
    for name, number in constants("NFT_CT_").items():
        short = name.removeprefix("NFT_CT_")
        if short in ("MAX", "EVENTMASK") or (family in _HALVES and short not in _DIRECTED):
            continue
        of = load, big(C.NFTA_CT_KEY, number)
        directed = [original] if short in _DIRECTED else []
        yield _form(f"ct.{short}", expression("ct", *of, *directed))
    if family != "inet":
        return
    for short in ("BYTES", "PKTS", "AVGPKT", "ZONE"):
        key = big(C.NFTA_CT_KEY, getattr(C, f"NFT_CT_{short}"))
        yield _form(f"ct.{short}.original", expression("ct", load, key, original))
    for short in _CT_SET:
        key = big(C.NFTA_CT_KEY, getattr(C, f"NFT_CT_{short}"))
        store = expression("ct", big(C.NFTA_CT_SREG, R1), key)
        yield _form(f"ct.{short}-set", immediate(R1, bytes(16)), store)


def _routing(family: str) -> Iterator[Form]:
    """fib, rt, socket: what the kernel knows of where a packet comes from and goes to."""
    load = big(C.NFTA_FIB_DREG, R1)
    flags = big(C.NFTA_FIB_FLAGS, C.NFTA_FIB_F_SADDR | C.NFTA_FIB_F_IIF)
    for name in ("OIF", "OIFNAME", "ADDRTYPE"):
        result = big(C.NFTA_FIB_RESULT, getattr(C, f"NFT_FIB_RESULT_{name}"))
        yield _form(
            "fib" if name == "OIF" else f"fib.{name}", expression("fib", load, result, flags)
        )
    result = big(C.NFTA_FIB_RESULT, C.NFT_FIB_RESULT_OIF)
    there = big(C.NFTA_FIB_FLAGS, C.NFTA_FIB_F_SADDR | C.NFTA_FIB_F_MARK | C.NFTA_FIB_F_PRESENT)
    yield _form("fib.PRESENT", expression("fib", load, result, there))
    for chain in ("fwd", "out"):
        yield _form(f"fib.OIF.{chain}", expression("fib", load, result, flags), chain=chain)
    for name in ("CLASSID", "NEXTHOP4", "NEXTHOP6", "TCPMSS", "XFRM"):
        key = big(C.NFTA_RT_KEY, getattr(C, f"NFT_RT_{name}"))
        one = expression("rt", big(C.NFTA_RT_DREG, R1), key)
        if name == "CLASSID":
            yield _form("rt", one, chain="fwd")
        yield _form(f"rt.{name}", one, chain="fwd")
    for name in ("TRANSPARENT", "MARK", "WILDCARD", "CGROUPV2"):
        key = big(C.NFTA_SOCKET_KEY, getattr(C, f"NFT_SOCKET_{name}"))
        level = [big(C.NFTA_SOCKET_LEVEL, 1)] if name == "CGROUPV2" else []
        one = expression("socket", big(C.NFTA_SOCKET_DREG, R1), key, *level)
        yield _form("socket" if name == "TRANSPARENT" else f"socket.{name}", one)
    yield _form("osf", expression("osf", big(C.NFTA_OSF_DREG, R1)))


def _transforms() -> Iterator[Form]:
    """xfrm, tunnel, osf: policies that a packet passed, tunnels, who may have sent it."""
    load, coming = big(C.NFTA_XFRM_DREG, R1), attribute(C.NFTA_XFRM_DIR, b"\0")
    for short in ("SPI", "REQID", "DADDR_IP4", "DADDR_IP6", "SADDR_IP4", "SADDR_IP6"):
        key = big(C.NFTA_XFRM_KEY, getattr(C, f"NFT_XFRM_KEY_{short}"))
        yield _form(
            "xfrm" if short == "SPI" else f"xfrm.{short}", expression("xfrm", load, key, coming)
        )
    key = big(C.NFTA_XFRM_KEY, C.NFT_XFRM_KEY_REQID)
    going = attribute(C.NFTA_XFRM_DIR, b"\1"), big(C.NFTA_XFRM_SPNUM, 1)
    yield _form("xfrm.out", expression("xfrm", load, key, *going), chain="post")
    for name, number in (("tunnel", C.NFT_TUNNEL_PATH), ("tunnel.ID", C.NFT_TUNNEL_ID)):
        of = big(C.NFTA_TUNNEL_DREG, R1), big(C.NFTA_TUNNEL_KEY, number)
        yield _form(name, expression("tunnel", *of))
    version = big(C.NFTA_OSF_FLAGS, C.NFT_OSF_F_VERSION)
    ttl = attribute(C.NFTA_OSF_TTL, b"\1")
    yield _form("osf.version", expression("osf", big(C.NFTA_OSF_DREG, R1), version, ttl))
