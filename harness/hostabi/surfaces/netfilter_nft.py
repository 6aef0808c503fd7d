"""Messages of nftables as bytes: linux/netfilter/nf_tables.h. They go to the kernel in batches.

A batch is one transaction: where one of its messages fails, none has an effect.
"""

from __future__ import annotations

from hostabi.surfaces.netfilter_messages import REQUEST, attribute, big, message, nested, text
from hostabi.syscalls.table import C

FAMILIES = {
    "ip": C.NFPROTO_IPV4,
    "ip6": C.NFPROTO_IPV6,
    "inet": C.NFPROTO_INET,
    "arp": C.NFPROTO_ARP,
    "bridge": C.NFPROTO_BRIDGE,
    "netdev": C.NFPROTO_NETDEV,
}
TABLE = "t"
"""The name of the table that all is put into."""
R1, R2, R3 = C.NFT_REG_1, C.NFT_REG_2, C.NFT_REG_3
"""Registers of 16 bytes each."""
_NEW = C.NLM_F_CREATE | C.NLM_F_APPEND


def general(family: int, resource: int = 0) -> bytes:
    """struct nfgenmsg, linux/netfilter/nfnetlink.h."""
    return bytes((family, 0)) + resource.to_bytes(2, "big")


def subsystem(kind: int, number: int, *parts: bytes, flags: int = REQUEST) -> bytes:
    """A message to one of the NFNL_SUBSYS_*; the first part is a struct nfgenmsg."""
    return message(kind << 8 | number, *parts, flags=flags)


def batch(*messages: bytes) -> bytes:
    """A transaction; only its last message is answered where all is well."""
    *others, last = messages
    flags = int.from_bytes(last[6:8], "little") | C.NLM_F_ACK
    answered = last[:6] + flags.to_bytes(2, "little") + last[8:]
    whole = general(0, C.NFNL_SUBSYS_NFTABLES)
    begin = message(C.NFNL_MSG_BATCH_BEGIN, whole, flags=C.NLM_F_REQUEST)
    end = message(C.NFNL_MSG_BATCH_END, whole, flags=C.NLM_F_REQUEST)
    return b"".join((begin, *others, answered, end))


def request(name: str, family: str, *attributes: bytes, flags: int | None = None) -> bytes:
    """One NFT_MSG_``name``, to be put into a batch unless it asks for something."""
    usual = _NEW if name.startswith("NEW") else 0
    return subsystem(
        C.NFNL_SUBSYS_NFTABLES,
        getattr(C, f"NFT_MSG_{name}"),
        general(FAMILIES[family]),
        *attributes,
        flags=C.NLM_F_REQUEST | (usual if flags is None else flags),
    )


def table(family: str, *attributes: bytes, name: str = TABLE) -> bytes:
    """A new table."""
    return request("NEWTABLE", family, text(C.NFTA_TABLE_NAME, name), *attributes)


def hook(number: int, priority: int, *devices: bytes) -> bytes:
    """Where a base chain is called; ``devices`` are attributes that name some."""
    where = big(C.NFTA_HOOK_HOOKNUM, number), big(C.NFTA_HOOK_PRIORITY, priority)
    return nested(C.NFTA_CHAIN_HOOK, *where, *devices)


def chain(family: str, name: str, *attributes: bytes, within: str = TABLE) -> bytes:
    """A new chain of the table ``within``."""
    named = text(C.NFTA_CHAIN_TABLE, within), text(C.NFTA_CHAIN_NAME, name)
    return request("NEWCHAIN", family, *named, *attributes)


def base_chain(
    family: str, name: str, kind: str, number: int, *devices: bytes, within: str = TABLE
) -> bytes:
    """A new chain of a type, called at a hook at the usual priority of that type."""
    priority = (
        C.NF_IP_PRI_MANGLE if kind == "route" else C.NF_IP_PRI_NAT_SRC if kind == "nat" else 0
    )
    where = hook(number, priority, *devices)
    return chain(family, name, where, text(C.NFTA_CHAIN_TYPE, kind), within=within)


def rule(
    family: str, name: str, *expressions: bytes, more: bytes = b"", within: str = TABLE
) -> bytes:
    """A new rule of the chain ``name``; ``more`` are other attributes of it."""
    named = text(C.NFTA_RULE_TABLE, within), text(C.NFTA_RULE_CHAIN, name)
    content = nested(C.NFTA_RULE_EXPRESSIONS, *expressions)
    return request("NEWRULE", family, *named, content, more)


def expression(name: str, *attributes: bytes, kind: int = C.NFTA_LIST_ELEM) -> bytes:
    """One expression, as an element of a list or as the attribute ``kind``."""
    content = nested(C.NFTA_EXPR_DATA, *attributes)
    return nested(kind, text(C.NFTA_EXPR_NAME, name), content)


def data(kind: int, value: bytes) -> bytes:
    """An attribute that holds a value."""
    return nested(kind, attribute(C.NFTA_DATA_VALUE, value))


def verdict(kind: int, code: int, target: str = "") -> bytes:
    """An attribute that holds a verdict; ``target`` is the chain that is jumped to."""
    parts = [big(C.NFTA_VERDICT_CODE, code)]
    if target:
        parts.append(text(C.NFTA_VERDICT_CHAIN, target))
    return nested(kind, nested(C.NFTA_DATA_VERDICT, *parts))


def immediate(register: int, value: bytes) -> bytes:
    """Put a value into a register."""
    where = big(C.NFTA_IMMEDIATE_DREG, register)
    return expression("immediate", where, data(C.NFTA_IMMEDIATE_DATA, value))


def new_set(family: str, name: str, key: int, *attributes: bytes, flags: int = 0) -> bytes:
    """A new set of keys of ``key`` bytes; the kernel takes their type as it comes."""
    return request(
        "NEWSET",
        family,
        text(C.NFTA_SET_TABLE, TABLE),
        text(C.NFTA_SET_NAME, name),
        big(C.NFTA_SET_FLAGS, flags),
        big(C.NFTA_SET_KEY_TYPE, 7),
        big(C.NFTA_SET_KEY_LEN, key),
        big(C.NFTA_SET_ID, 1),
        *attributes,
    )


def elements(family: str, name: str, *several: bytes, kind: str = "NEWSETELEM") -> bytes:
    """New elements of the set ``name``, or what else ``kind`` does with them."""
    named = (
        text(C.NFTA_SET_ELEM_LIST_TABLE, TABLE),
        text(C.NFTA_SET_ELEM_LIST_SET, name),
    )
    content = [nested(C.NFTA_SET_ELEM_LIST_ELEMENTS, *several)] if several else []
    return request(kind, family, *named, *content)


def element(key: bytes, *attributes: bytes) -> bytes:
    """One element of a set; without a key it is the one for all other keys."""
    of_key = [data(C.NFTA_SET_ELEM_KEY, key)] if key else []
    return nested(C.NFTA_LIST_ELEM, *of_key, *attributes)


def new_object(family: str, name: str, kind: int, *attributes: bytes) -> bytes:
    """A new stateful object; ``attributes`` are those of its kind."""
    return request(
        "NEWOBJ",
        family,
        text(C.NFTA_OBJ_TABLE, TABLE),
        text(C.NFTA_OBJ_NAME, name),
        big(C.NFTA_OBJ_TYPE, kind),
        nested(C.NFTA_OBJ_DATA, *attributes),
    )
