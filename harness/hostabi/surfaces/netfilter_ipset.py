"""Sets of ipset: linux/netfilter/ipset/ip_set.h. Some of its errors are no errnos."""

from __future__ import annotations

from hostabi.surfaces.netfilter_messages import Netlink, attribute, big, byte, nested, text
from hostabi.surfaces.netfilter_nft import general, subsystem
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_PROTOCOL = byte(C.IPSET_ATTR_PROTOCOL, C.IPSET_PROTOCOL_MIN)
_FROM, _TO = bytes((10, 0, 0, 0)), bytes((10, 0, 0, 255))
TYPES = {
    "hash:ip": 6,
    "hash:net": 7,
    "hash:ip,port": 7,
    "hash:net,iface": 8,
    "hash:ip,port,ip": 6,
    "hash:ip,port,net": 8,
    "hash:net,port": 8,
    "hash:net,net": 4,
    "hash:net,port,net": 3,
    "hash:mac": 1,
    "hash:ip,mac": 1,
    "hash:ip,mark": 3,
    "list:set": 3,
    "bitmap:ip": 3,
    "bitmap:port": 3,
    "bitmap:ip,mac": 3,
}
"""Types of sets, and the newest revision that is asked for."""
_FLAGS = ("COUNTERS", "COMMENT", "SKBINFO", "FORCEADD")


def ipset(q: Questions) -> None:
    """Sets of each type and each revision, and what can be done with one."""
    netlink = Netlink(q)
    there = netlink.ask_private("ipset", _message(C.IPSET_CMD_PROTOCOL))
    needs = (there,)
    for protocol in (C.IPSET_PROTOCOL_MIN - 1, C.IPSET_PROTOCOL_MIN, C.IPSET_PROTOCOL):
        raw = subsystem(
            C.NFNL_SUBSYS_IPSET,
            C.IPSET_CMD_HEADER,
            general(C.NFPROTO_IPV4),
            byte(C.IPSET_ATTR_PROTOCOL, protocol),
            text(C.IPSET_ATTR_SETNAME, "absent"),
        )
        netlink.ask_private(f"ipset.protocol.{protocol}", raw, needs=needs)
    made: dict[str, Ref] = {}
    for kind, newest in TYPES.items():
        made[kind] = netlink.ask_private(f"ipset.{kind}", _create(kind, 0, kind), needs=needs)
        for revision in range(1, newest + 1):
            raw = _create(f"{kind}.{revision}"[:31], revision, kind)
            netlink.ask_private(f"ipset.{kind}.{revision}", raw, needs=needs)
    _options(netlink, needs)
    _uses(netlink, made)


def _message(number: int, *attributes: bytes) -> bytes:
    head = general(C.NFPROTO_IPV4)
    return subsystem(C.NFNL_SUBSYS_IPSET, number, head, _PROTOCOL, *attributes)


def _address(kind: int, content: bytes) -> bytes:
    of = C.IPSET_ATTR_IPADDR_IPV4 if len(content) == 4 else C.IPSET_ATTR_IPADDR_IPV6
    # an address is in the order of bytes that packets have, and is said to be
    return nested(kind, attribute(of | C.NLA_F_NET_BYTEORDER, content))


def _number(kind: int, value: int, size: int = 4) -> bytes:
    return big(kind | C.NLA_F_NET_BYTEORDER, value, size)


def _create(
    name: str, revision: int, kind: str, *options: bytes, family: int = C.NFPROTO_IPV4
) -> bytes:
    ranges: tuple[bytes, ...] = ()
    if kind == "bitmap:port":
        ranges = _number(C.IPSET_ATTR_PORT, 0, 2), _number(C.IPSET_ATTR_PORT_TO, 99, 2)
    elif kind.startswith("bitmap:"):
        ranges = _address(C.IPSET_ATTR_IP, _FROM), _address(C.IPSET_ATTR_IP_TO, _TO)
    any_family = kind in ("bitmap:port", "list:set", "hash:mac")
    return _message(
        C.IPSET_CMD_CREATE,
        text(C.IPSET_ATTR_SETNAME, name),
        text(C.IPSET_ATTR_TYPENAME, kind),
        byte(C.IPSET_ATTR_REVISION, revision),
        byte(C.IPSET_ATTR_FAMILY, C.NFPROTO_UNSPEC if any_family else family),
        nested(C.IPSET_ATTR_DATA, *ranges, *options),
    )


def _options(netlink: Netlink, needs: tuple[Ref, ...]) -> None:
    """Options of a set; which a revision has, and which it passes over, is its own affair."""
    kind, newest = "hash:ip", TYPES["hash:ip"]
    mask = _address(C.IPSET_ATTR_BITMASK, bytes((255, 255, 0, 255)))
    options = {
        "timeout": (_number(C.IPSET_ATTR_TIMEOUT, 60),),
        "hashsize": (_number(C.IPSET_ATTR_HASHSIZE, 64), _number(C.IPSET_ATTR_MAXELEM, 256)),
        "netmask": (byte(C.IPSET_ATTR_NETMASK, 24),),
        "bucketsize": (byte(C.IPSET_ATTR_BUCKETSIZE, 4),),
        "initval": (_number(C.IPSET_ATTR_INITVAL, 7),),
        "bitmask": (mask,),
    }
    options |= {
        name.lower(): (_number(C.IPSET_ATTR_CADT_FLAGS, getattr(C, f"IPSET_FLAG_WITH_{name}")),)
        for name in _FLAGS
    }
    for name, more in options.items():
        for revision in (4, newest):
            raw = _create(f"{name}.{revision}", revision, kind, *more)
            netlink.ask_private(f"ipset.{kind}.{revision}.{name}", raw, needs=needs)
    six = _create("six", 1, kind, family=C.NFPROTO_IPV6)
    netlink.ask_private(f"ipset.{kind}.ipv6", six, needs=needs)
    size = _create("sized", 3, "list:set", _number(C.IPSET_ATTR_SIZE, 16))
    netlink.ask_private("ipset.list:set.3.size", size, needs=needs)
    mac = _create("kept", 3, "bitmap:ip,mac", _number(C.IPSET_ATTR_TIMEOUT, 60))
    netlink.ask_private("ipset.bitmap:ip,mac.3.timeout", mac, needs=needs)


def _uses(netlink: Netlink, made: dict[str, Ref]) -> None:
    """What is done with the set ``hash:ip`` and its members."""
    needs = (made["hash:ip"],)
    named = text(C.IPSET_ATTR_SETNAME, "hash:ip")
    one = nested(C.IPSET_ATTR_DATA, _address(C.IPSET_ATTR_IP, _TO))
    other = nested(C.IPSET_ATTR_DATA, _address(C.IPSET_ATTR_IP, _FROM))
    for name, number, more in (
        ("ADD", C.IPSET_CMD_ADD, (one,)),
        ("ADD.again", C.IPSET_CMD_ADD, (one,)),
        ("TEST", C.IPSET_CMD_TEST, (one,)),
        ("TEST.absent", C.IPSET_CMD_TEST, (other,)),
        ("HEADER", C.IPSET_CMD_HEADER, ()),
        ("DEL", C.IPSET_CMD_DEL, (one,)),
        ("DEL.absent", C.IPSET_CMD_DEL, (one,)),
        ("SWAP", C.IPSET_CMD_SWAP, (text(C.IPSET_ATTR_SETNAME2, "hash:ip.1"),)),
        ("RENAME", C.IPSET_CMD_RENAME, (text(C.IPSET_ATTR_SETNAME2, "renamed"),)),
        ("FLUSH.absent", C.IPSET_CMD_FLUSH, ()),
    ):
        netlink.ask_private(f"ipset.use.{name}", _message(number, named, *more), needs=needs)
    newest = byte(C.IPSET_ATTR_PROTOCOL, C.IPSET_PROTOCOL)
    head = general(C.NFPROTO_IPV4)
    by_name = subsystem(
        C.NFNL_SUBSYS_IPSET,
        C.IPSET_CMD_GET_BYNAME,
        head,
        newest,
        text(C.IPSET_ATTR_SETNAME, "list:set"),
    )
    netlink.ask_private("ipset.use.GET_BYNAME", by_name, needs=(made["list:set"],))
    renamed = text(C.IPSET_ATTR_SETNAME, "renamed")
    member = nested(C.IPSET_ATTR_DATA, text(C.IPSET_ATTR_NAME, "renamed"))
    listed = text(C.IPSET_ATTR_SETNAME, "list:set")
    netlink.ask_private("ipset.use.list", _message(C.IPSET_CMD_ADD, listed, member), needs=needs)
    destroy = _message(C.IPSET_CMD_DESTROY, renamed)
    netlink.ask_private("ipset.use.DESTROY.listed", destroy, needs=needs)
    kind = text(C.IPSET_ATTR_TYPENAME, "hash:ip"), byte(C.IPSET_ATTR_FAMILY, C.NFPROTO_IPV4)
    netlink.ask_private("ipset.use.TYPE", _message(C.IPSET_CMD_TYPE, *kind), needs=needs)
    unknown = text(C.IPSET_ATTR_TYPENAME, "hash:hostabi"), kind[1]
    netlink.ask_private("ipset.use.TYPE.unknown", _message(C.IPSET_CMD_TYPE, *unknown), needs=needs)
    netlink.ask_private("ipset.use.DESTROY.all", _message(C.IPSET_CMD_DESTROY), needs=needs)
