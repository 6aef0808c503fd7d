"""What is handed to user space, counted, and looked at, by nfnetlink.

Headers: linux/netfilter/nfnetlink_queue.h, nfnetlink_log.h, nfnetlink_acct.h,
nfnetlink_cthelper.h, nfnetlink_osf.h, nfnetlink_hook.h.
"""

from __future__ import annotations

from hostabi.surfaces.netfilter_messages import (
    DUMP,
    REQUEST,
    Netlink,
    attribute,
    big,
    byte,
    nested,
    text,
)
from hostabi.surfaces.netfilter_nft import base_chain, batch, general, subsystem, table
from hostabi.surfaces.probing import Questions
from hostabi.syscalls import types
from hostabi.syscalls.table import C, constants

_NEW = REQUEST | C.NLM_F_CREATE | C.NLM_F_EXCL


def queues(q: Questions) -> None:
    """nfnetlink_queue: a queue is bound to the socket that asks for it."""
    netlink = Netlink(q)

    def config(number: int, *attributes: bytes, family: int = C.NFPROTO_IPV4) -> bytes:
        head = general(family, number)
        return subsystem(C.NFNL_SUBSYS_QUEUE, C.NFQNL_MSG_CONFIG, head, *attributes)

    def command(name: str, family: int = 0) -> bytes:
        number = getattr(C, f"NFQNL_CFG_CMD_{name}")
        return attribute(C.NFQA_CFG_CMD, bytes((number, 0)) + family.to_bytes(2, "big"))

    there = netlink.ask("queue", config(5, command("BIND")))
    needs = (there,)
    for name in ("PF_BIND", "PF_UNBIND"):
        netlink.ask(f"queue.{name}", config(0, command(name, C.NFPROTO_IPV4)), needs=needs)
    for name in ("COPY_NONE", "COPY_META", "COPY_PACKET"):
        mode = bytes((getattr(C, f"NFQNL_{name}"),))
        copied = attribute(C.NFQA_CFG_PARAMS, (0xFFFF).to_bytes(4, "big") + mode)
        netlink.ask(f"queue.{name}", config(5, copied), needs=needs)
    netlink.ask("queue.MAXLEN", config(5, big(C.NFQA_CFG_QUEUE_MAXLEN, 4096)), needs=needs)
    flags = {k: v for k, v in constants("NFQA_CFG_F_").items() if not k.endswith("_MAX")}
    for name, flag in flags.items():
        chosen = big(C.NFQA_CFG_FLAGS, flag), big(C.NFQA_CFG_MASK, flag)
        key = f"queue.{name.removeprefix('NFQA_CFG_')}"
        netlink.ask(key, config(5, *chosen), needs=needs)
    unknown = big(C.NFQA_CFG_FLAGS, C.NFQA_CFG_F_MAX), big(C.NFQA_CFG_MASK, C.NFQA_CFG_F_MAX)
    netlink.ask("queue.unknown-flag", config(5, *unknown), needs=needs)
    verdict = attribute(C.NFQA_VERDICT_HDR, bytes((0, 0, 0, C.NF_ACCEPT, 0, 0, 0, 1)))
    for name in ("VERDICT", "VERDICT_BATCH"):
        number = getattr(C, f"NFQNL_MSG_{name}")
        raw = subsystem(C.NFNL_SUBSYS_QUEUE, number, general(C.NFPROTO_IPV4, 5), verdict)
        netlink.ask(f"queue.{name}.absent", raw, needs=needs)
    other = Netlink(q)
    other.ask("queue.taken", config(5, command("BIND")), needs=needs)
    netlink.ask("queue.UNBIND", config(5, command("UNBIND")), needs=needs)
    other.ask("queue.free-again", config(5, command("BIND")), needs=needs)


def logs(q: Questions) -> None:
    """nfnetlink_log: groups that a log statement sends packets to."""
    netlink = Netlink(q)

    def config(group: int, *attributes: bytes) -> bytes:
        head = general(C.NFPROTO_IPV4, group)
        return subsystem(C.NFNL_SUBSYS_ULOG, C.NFULNL_MSG_CONFIG, head, *attributes)

    def command(name: str) -> bytes:
        return byte(C.NFULA_CFG_CMD, getattr(C, f"NFULNL_CFG_CMD_{name}"))

    needs = (netlink.ask("log", config(5, command("BIND"))),)
    for name in ("PF_BIND", "PF_UNBIND"):
        netlink.ask(f"log.{name}", config(0, command(name)), needs=needs)
    for name in ("COPY_NONE", "COPY_META", "COPY_PACKET"):
        mode = bytes((getattr(C, f"NFULNL_{name}"), 0))
        copied = attribute(C.NFULA_CFG_MODE, (0xFFFF).to_bytes(4, "big") + mode)
        netlink.ask(f"log.{name}", config(5, copied), needs=needs)
    for name, value in (("NLBUFSIZ", 65536), ("TIMEOUT", 100), ("QTHRESH", 8)):
        netlink.ask(
            f"log.{name}", config(5, big(getattr(C, f"NFULA_CFG_{name}"), value)), needs=needs
        )
    for name, flag in constants("NFULNL_CFG_F_").items():
        chosen = config(5, big(C.NFULA_CFG_FLAGS, flag, 2))
        netlink.ask(f"log.{name.removeprefix('NFULNL_CFG_')}", chosen, needs=needs)
    netlink.ask("log.unknown-flag", config(5, big(C.NFULA_CFG_FLAGS, 0x8000, 2)), needs=needs)
    Netlink(q).ask("log.taken", config(5, command("BIND")), needs=needs)
    netlink.ask("log.UNBIND", config(5, command("UNBIND")), needs=needs)


def accounts(q: Questions) -> None:
    """nfnetlink_acct: counters with a name."""
    netlink = Netlink(q)
    kind, whole = C.NFNL_SUBSYS_ACCT, general(0)
    needs = (netlink.ask("acct", subsystem(kind, C.NFNL_MSG_ACCT_GET, whole, flags=DUMP)),)
    quota = big(C.NFACCT_QUOTA, 1 << 20, 8)
    for name, more in (
        ("new", ()),
        ("new.bytes", (quota, big(C.NFACCT_FLAGS, C.NFACCT_F_QUOTA_BYTES))),
        ("new.packets", (quota, big(C.NFACCT_FLAGS, C.NFACCT_F_QUOTA_PKTS))),
    ):
        raw = subsystem(
            kind, C.NFNL_MSG_ACCT_NEW, whole, text(C.NFACCT_NAME, name), *more, flags=_NEW
        )
        netlink.ask(f"acct.{name}", raw, needs=needs)
    named = text(C.NFACCT_NAME, "new")
    for name in ("GET", "GET_CTRZERO", "DEL"):
        raw = subsystem(kind, getattr(C, f"NFNL_MSG_ACCT_{name}"), whole, named)
        netlink.ask(f"acct.{name}", raw, needs=needs)
    value = big(C.NFACCT_FILTER_MASK, 3), big(C.NFACCT_FILTER_VALUE, 1)
    chosen = nested(C.NFACCT_FILTER, *value)
    raw = subsystem(kind, C.NFNL_MSG_ACCT_GET, whole, chosen, flags=DUMP)
    netlink.ask("acct.list.filter", raw, needs=needs)


def hooks(q: Questions) -> None:
    """nfnetlink_hook: who is called where; there is a chain at one hook of each family."""
    netlink = Netlink(q)
    raw = table("inet"), base_chain("inet", "a", "filter", C.NF_INET_LOCAL_IN)
    netlink.say(batch(*raw))

    def listing(family: int, number: int, *more: bytes) -> bytes:
        where = big(C.NFNLA_HOOK_HOOKNUM, number)
        head = general(family)
        return subsystem(C.NFNL_SUBSYS_HOOK, C.NFNL_MSG_HOOK_GET, head, where, *more, flags=DUMP)

    there = netlink.ask("hooks", listing(C.NFPROTO_IPV4, C.NF_INET_LOCAL_IN))
    lo = text(C.NFNLA_HOOK_DEV, "lo")
    for name, family, number, more in (
        ("ip6", C.NFPROTO_IPV6, C.NF_INET_LOCAL_IN, b""),
        ("arp", C.NFPROTO_ARP, C.NF_ARP_IN, b""),
        ("bridge", C.NFPROTO_BRIDGE, 1, b""),
        ("inet", C.NFPROTO_INET, C.NF_INET_LOCAL_IN, b""),
        ("inet-ingress", C.NFPROTO_INET, C.NF_INET_INGRESS, lo),
        ("netdev", C.NFPROTO_NETDEV, C.NF_NETDEV_INGRESS, lo),
        ("netdev-egress", C.NFPROTO_NETDEV, C.NF_NETDEV_EGRESS, lo),
        ("netdev-absent", C.NFPROTO_NETDEV, 0, text(C.NFNLA_HOOK_DEV, "absent0")),
    ):
        netlink.ask(f"hooks.{name}", listing(family, number, more), needs=(there,))


def shared(q: Questions) -> None:
    """Helpers of user space and fingerprints of systems, which all namespaces share.

    So each that is made is taken away again.
    """
    netlink = Netlink(q)
    kind, whole = C.NFNL_SUBSYS_CTHELPER, general(0)
    of = (
        text(C.NFCTH_NAME, "hostabi"),
        nested(
            C.NFCTH_TUPLE,
            big(C.NFCTH_TUPLE_L3PROTONUM, C.AF_INET, 2),
            byte(C.NFCTH_TUPLE_L4PROTONUM, C.IPPROTO_UDP),
        ),
    )
    policy = (
        text(C.NFCTH_POLICY_NAME, "one"),
        big(C.NFCTH_POLICY_EXPECT_MAX, 4),
        big(C.NFCTH_POLICY_EXPECT_TIMEOUT, 60),
    )
    policies = big(C.NFCTH_POLICY_SET_NUM, 1), nested(C.NFCTH_POLICY_SET1, *policy)
    more = big(C.NFCTH_QUEUE_NUM, 3), big(C.NFCTH_PRIV_DATA_LEN, 8)
    listing = subsystem(kind, C.NFNL_MSG_CTHELPER_GET, whole, flags=DUMP)
    needs = (netlink.ask("ct-helper", listing),)
    new = nested(C.NFCTH_POLICY, *policies)
    raw = subsystem(kind, C.NFNL_MSG_CTHELPER_NEW, whole, *of, new, *more, flags=_NEW)
    netlink.ask("ct-helper.new", raw, needs=needs)
    raw = subsystem(kind, C.NFNL_MSG_CTHELPER_DEL, whole, *of)
    netlink.ask("ct-helper.delete", raw, needs=needs)
    finger = bytearray(types.size("struct nf_osf_user_finger"))
    place = {name: offset for name, offset, _ in types.fields("struct nf_osf_user_finger")}
    for name in ("genre", "version", "subtype"):
        finger[place[name] : place[name] + 7] = b"hostabi"
    print_of = attribute(C.OSF_ATTR_FINGER, bytes(finger))
    for name in ("ADD", "REMOVE"):
        number = getattr(C, f"OSF_MSG_{name}")
        raw = subsystem(C.NFNL_SUBSYS_OSF, number, whole, print_of, flags=_NEW)
        netlink.ask("osf" if name == "ADD" else f"osf.{name}", raw)
