"""What nftables looks keys up in, and objects with a state: sets, maps, elements, objects."""

from __future__ import annotations

from collections.abc import Mapping

from hostabi.surfaces.netfilter_chains import Ruleset
from hostabi.surfaces.netfilter_messages import attribute, big, nested, text
from hostabi.surfaces.netfilter_nft import (
    TABLE,
    data,
    element,
    elements,
    expression,
    new_object,
    new_set,
    request,
    verdict,
)
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_VALUE = (big(C.NFTA_SET_DATA_TYPE, 7), big(C.NFTA_SET_DATA_LEN, 4))
_VERDICT = (big(C.NFTA_SET_DATA_TYPE, C.NFT_DATA_VERDICT),)
_KEY, _END = bytes((10, 0, 0, 0)), bytes((10, 0, 0, 9))
_LIMIT = (big(C.NFTA_LIMIT_RATE, 10, 8), big(C.NFTA_LIMIT_UNIT, 1, 8))
_TCP = attribute(C.NFTA_CT_HELPER_L4PROTO, bytes((C.IPPROTO_TCP,)))


def _description(*parts: bytes) -> bytes:
    return nested(C.NFTA_SET_DESC, *parts)


def _fields(*sizes: int) -> bytes:
    each = (nested(C.NFTA_LIST_ELEM, big(C.NFTA_SET_FIELD_LEN, size)) for size in sizes)
    return nested(C.NFTA_SET_DESC_CONCAT, *each)


def _flags(*names: str) -> int:
    return sum(getattr(C, f"NFT_SET_{name}") for name in names)


def _sets() -> dict[str, tuple[int, tuple[bytes, ...], int]]:
    """Key of a fact: bytes of the key, more attributes, flags."""
    object_kind = big(C.NFTA_SET_OBJ_TYPE, C.NFT_OBJECT_COUNTER)
    timeout = big(C.NFTA_SET_TIMEOUT, 9000, 8)
    counter = expression("counter", kind=C.NFTA_SET_EXPR)
    both = nested(C.NFTA_SET_EXPRESSIONS, expression("counter"), expression("limit", *_LIMIT))
    last = expression("last", kind=C.NFTA_SET_EXPR)
    size = _description(big(C.NFTA_SET_DESC_SIZE, 16))
    wide = _description(_fields(4, 4))
    return {
        "plain": (4, (), 0),
        "map": (4, _VALUE, _flags("MAP")),
        "verdicts": (4, _VERDICT, _flags("MAP")),
        "dynamic": (4, (size,), _flags("EVAL", "TIMEOUT")),
        "changing": (4, (size, *_VALUE), _flags("EVAL", "MAP", "TIMEOUT")),
        "objects": (4, (object_kind,), _flags("OBJECT")),
        "interval": (4, (), _flags("INTERVAL")),
        "interval-map": (4, _VERDICT, _flags("INTERVAL", "MAP")),
        "interval-timeout": (4, (timeout,), _flags("INTERVAL", "TIMEOUT")),
        "interval-objects": (4, (object_kind,), _flags("INTERVAL", "OBJECT")),
        "concat": (8, (wide,), _flags("CONCAT")),
        "concat-interval": (8, (wide,), _flags("CONCAT", "INTERVAL")),
        "concat-unflagged": (8, (wide,), _flags("INTERVAL")),
        "concat-mismatch": (8, (_description(_fields(4, 2)),), _flags("CONCAT", "INTERVAL")),
        "timeout": (4, (timeout,), _flags("TIMEOUT")),
        "timeout.collected": (4, (timeout, big(C.NFTA_SET_GC_INTERVAL, 500)), _flags("TIMEOUT")),
        "constant": (4, (), _flags("CONSTANT")),
        "anonymous-unused": (4, (), _flags("ANONYMOUS", "CONSTANT")),
        "expression": (4, (counter,), _flags("EVAL")),
        "expressions": (4, (both,), _flags("EVAL", "EXPR")),
        "expression.last": (4, (last,), _flags("EVAL")),
        "expression.static": (4, (counter,), 0),
        "size": (4, (size,), 0),
        "memory": (4, (big(C.NFTA_SET_POLICY, C.NFT_SET_POL_MEMORY),), 0),
        "userdata": (4, (attribute(C.NFTA_SET_USERDATA, b"u" * 256),), 0),
        "key.2": (2, (), 0),
        "key.16": (16, (), 0),
        "key.64": (64, (), 0),
        "key.65": (65, (), 0),
        "unknown-flag": (4, (), 0x4000),
        "eval-objects": (4, (object_kind,), _flags("OBJECT", "EVAL")),
    }


def sets(r: Ruleset) -> Mapping[str, Ref]:
    """Each kind of set; gives those that were made by the name that they have."""
    made = {"plain": r.ask("set", new_set(r.family, "plain", 4))}
    for name, (size, more, flags) in _sets().items():
        if name != "plain":
            made[name] = r.ask(f"set.{name}", new_set(r.family, name, size, *more, flags=flags))
    of = text(C.NFTA_SET_TABLE, TABLE)
    r.get("set.GET", "GETSET", of, text(C.NFTA_SET_NAME, "plain"))
    r.dump("set.list", "GETSET", of)
    absent = of, text(C.NFTA_SET_NAME, "absent")
    r.ask("set.DEL", request("DELSET", r.family, of, text(C.NFTA_SET_NAME, "constant")))
    r.ask("set.DEL.absent", request("DELSET", r.family, *absent))
    r.ask("set.DESTROY.absent", request("DESTROYSET", r.family, *absent))
    return made


def set_elements(r: Ruleset, made: Mapping[str, Ref], objects: Mapping[str, Ref]) -> None:
    """What elements can have, and what can be done with them."""
    for key, (of, several) in _elements().items():
        after = [made[of], *([objects["counter"]] if of == "objects" else [])]
        r.ask(f"element{key}", elements(r.family, of, *several), after=after)
    where = text(C.NFTA_SET_ELEM_LIST_TABLE, TABLE)
    named = where, text(C.NFTA_SET_ELEM_LIST_SET, "plain")
    one = nested(C.NFTA_SET_ELEM_LIST_ELEMENTS, element(_KEY))
    after = [made["plain"]]
    r.get("element.GET", "GETSETELEM", *named, one, after=after)
    r.get("element.RESET", "GETSETELEM_RESET", *named, one, after=after)
    r.dump("element.list", "GETSETELEM", *named)
    r.dump("element.list.RESET", "GETSETELEM_RESET", *named)
    for kind in ("DEL", "DESTROY"):
        gone = elements(r.family, "plain", element(bytes(4)), kind=f"{kind}SETELEM")
        r.ask(f"element.{kind}.absent", gone, after=after)
    r.ask("element.DEL", elements(r.family, "plain", element(_KEY), kind="DELSETELEM"), after=after)
    r.ask("element.flush", elements(r.family, "plain", kind="DELSETELEM"), after=after)
    number, other = (data(C.NFTA_SET_ELEM_DATA, each) for each in (bytes(4), b"\1\1\1\1"))
    again = nested(C.NFTA_SET_ELEM_LIST_ELEMENTS, element(_KEY, number))
    mapped = where, text(C.NFTA_SET_ELEM_LIST_SET, "map")
    once = C.NLM_F_CREATE | C.NLM_F_EXCL
    new = request("NEWSETELEM", r.family, *mapped, again, flags=once)
    r.ask("element.EXCL", new, after=[made["map"]])
    changed = elements(r.family, "map", element(_KEY, other))
    r.ask("element.other-data", changed, after=[made["map"]])


def _elements() -> dict[str, tuple[str, list[bytes]]]:
    """What is put into which set; the first one is an element as such."""
    number = data(C.NFTA_SET_ELEM_DATA, bytes(4))
    drop = verdict(C.NFTA_SET_ELEM_DATA, C.NF_DROP)
    end = big(C.NFTA_SET_ELEM_FLAGS, C.NFT_SET_ELEM_INTERVAL_END)
    rest = big(C.NFTA_SET_ELEM_FLAGS, C.NFT_SET_ELEM_CATCHALL)
    to, wide_to = (data(C.NFTA_SET_ELEM_KEY_END, _END * times) for times in (1, 2))
    timeout, never = (big(C.NFTA_SET_ELEM_TIMEOUT, each, 8) for each in (5000, 0))
    expires = timeout, big(C.NFTA_SET_ELEM_EXPIRATION, 4000, 8)
    counter = expression("counter", kind=C.NFTA_SET_ELEM_EXPR)
    both = nested(C.NFTA_SET_ELEM_EXPRESSIONS, expression("counter"), expression("limit", *_LIMIT))
    described = attribute(C.NFTA_SET_ELEM_USERDATA, b"u" * 256)
    unknown = big(C.NFTA_SET_ELEM_FLAGS, 0x40)
    return {
        "": ("plain", [element(_KEY)]),
        ".data": ("map", [element(_KEY, number)]),
        ".no-data": ("map", [element(_END)]),
        ".verdict": ("verdicts", [element(_KEY, drop)]),
        ".interval": ("interval", [element(_KEY), element(_END, end)]),
        ".KEY_END": ("concat-interval", [element(_KEY * 2, wide_to)]),
        ".KEY_END.plain": ("interval-map", [element(_KEY, to, drop)]),
        ".concat": ("concat", [element(_KEY * 2)]),
        ".catchall": ("plain", [element(b"", rest)]),
        ".catchall.map": ("verdicts", [element(b"", rest, drop)]),
        ".catchall.interval": ("interval", [element(b"", rest)]),
        ".timeout": ("timeout", [element(_KEY, timeout)]),
        ".timeout.not-kept": ("plain", [element(_END, timeout)]),
        ".timeout.updated": ("timeout", [element(_KEY, timeout)]),
        ".timeout.never": ("timeout", [element(_END, never)]),
        ".expiration": ("dynamic", [element(_KEY, *expires)]),
        ".expression": ("size", [element(_KEY, counter)]),
        ".expressions": ("expressions", [element(_KEY, both)]),
        ".object": ("objects", [element(_KEY, text(C.NFTA_SET_ELEM_OBJREF, "counter"))]),
        ".USERDATA": ("size", [element(_END, described)]),
        ".short-key": ("plain", [element(b"\1\2")]),
        ".unknown-flag": ("plain", [element(_END, unknown)]),
    }


def _objects() -> dict[str, tuple[int, tuple[bytes, ...]]]:
    ipv4 = big(C.NFTA_CT_HELPER_L3PROTO, C.NFPROTO_IPV4, 2)
    to = big(C.NFTA_TUNNEL_KEY_IP_DST, 0x0A000001)
    to6 = attribute(C.NFTA_TUNNEL_KEY_IP6_DST, bytes(15) + b"\1")
    vxlan = nested(C.NFTA_TUNNEL_KEY_OPTS_VXLAN, big(C.NFTA_TUNNEL_KEY_VXLAN_GBP, 1))
    tunnel = big(C.NFTA_TUNNEL_KEY_ID, 1), nested(C.NFTA_TUNNEL_KEY_IP, to)
    kept = nested(C.NFTA_CT_TIMEOUT_DATA, big(C.CTA_TIMEOUT_TCP_ESTABLISHED, 100))
    family = big(C.NFTA_CT_TIMEOUT_L3PROTO, C.NFPROTO_IPV4, 2)
    flags = big(C.NFTA_SYNPROXY_FLAGS, C.NF_SYNPROXY_OPT_MSS | C.NF_SYNPROXY_OPT_WSCALE)
    return {
        "counter": (C.NFT_OBJECT_COUNTER, ()),
        "quota": (C.NFT_OBJECT_QUOTA, (big(C.NFTA_QUOTA_BYTES, 1 << 20, 8),)),
        "ct-helper": (C.NFT_OBJECT_CT_HELPER, (text(C.NFTA_CT_HELPER_NAME, "ftp"), _TCP, ipv4)),
        "ct-helper.unknown": (
            C.NFT_OBJECT_CT_HELPER,
            (text(C.NFTA_CT_HELPER_NAME, "hostabi"), _TCP),
        ),
        "limit": (C.NFT_OBJECT_LIMIT, _LIMIT),
        "connlimit": (C.NFT_OBJECT_CONNLIMIT, (big(C.NFTA_CONNLIMIT_COUNT, 4),)),
        "tunnel": (C.NFT_OBJECT_TUNNEL, tunnel),
        "tunnel.ip6": (C.NFT_OBJECT_TUNNEL, (tunnel[0], nested(C.NFTA_TUNNEL_KEY_IP6, to6))),
        "tunnel.vxlan": (
            C.NFT_OBJECT_TUNNEL,
            (*tunnel, nested(C.NFTA_TUNNEL_KEY_OPTS, vxlan)),
        ),
        "ct-timeout": (
            C.NFT_OBJECT_CT_TIMEOUT,
            (family, attribute(C.NFTA_CT_TIMEOUT_L4PROTO, bytes((C.IPPROTO_TCP,))), kept),
        ),
        "secmark": (C.NFT_OBJECT_SECMARK, (text(C.NFTA_SECMARK_CTX, "system_u:object_r:a:s0"),)),
        "ct-expect": (
            C.NFT_OBJECT_CT_EXPECT,
            (
                big(C.NFTA_CT_EXPECT_L3PROTO, C.NFPROTO_IPV4, 2),
                attribute(C.NFTA_CT_EXPECT_L4PROTO, bytes((C.IPPROTO_TCP,))),
                big(C.NFTA_CT_EXPECT_DPORT, 5000, 2),
                attribute(C.NFTA_CT_EXPECT_TIMEOUT, (9000).to_bytes(4, "little")),
                attribute(C.NFTA_CT_EXPECT_SIZE, b"\2"),
            ),
        ),
        "synproxy": (
            C.NFT_OBJECT_SYNPROXY,
            (big(C.NFTA_SYNPROXY_MSS, 1460, 2), attribute(C.NFTA_SYNPROXY_WSCALE, b"\7"), flags),
        ),
        "unknown": (99, ()),
    }


def objects(r: Ruleset) -> Mapping[str, Ref]:
    """Each kind of object; gives those that were made by the name that they have."""
    made = {
        name: r.ask(f"object.{name}", new_object(r.family, name, kind, *attributes))
        for name, (kind, attributes) in _objects().items()
    }
    larger = new_object(r.family, "quota", C.NFT_OBJECT_QUOTA, big(C.NFTA_QUOTA_BYTES, 9 << 20, 8))
    r.ask("object.quota.updated", larger)
    of = text(C.NFTA_OBJ_TABLE, TABLE), big(C.NFTA_OBJ_TYPE, C.NFT_OBJECT_COUNTER)
    named, absent = text(C.NFTA_OBJ_NAME, "counter"), text(C.NFTA_OBJ_NAME, "absent")
    r.get("object.GET", "GETOBJ", *of, named)
    r.get("object.RESET", "GETOBJ_RESET", *of, named)
    r.dump("object.list", "GETOBJ", of[0])
    r.dump("object.list.RESET", "GETOBJ_RESET", of[0])
    r.ask("object.DEL.absent", request("DELOBJ", r.family, *of, absent))
    r.ask("object.DESTROY.absent", request("DESTROYOBJ", r.family, *of, absent))
    described = attribute(C.NFTA_OBJ_USERDATA, b"u" * 256)
    name = text(C.NFTA_OBJ_NAME, "described")
    new = request("NEWOBJ", r.family, *of, name, nested(C.NFTA_OBJ_DATA), described)
    r.ask("object.USERDATA", new)
    return made
