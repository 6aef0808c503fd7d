"""Families of netlink(7): sockets, their options and groups, and those that are not for networks.

``family.NAME`` is a socket that is made and bound, ``option.NAME`` an option,
``group.FAMILY.NAME`` a membership.
"""

from __future__ import annotations

from hostabi.surfaces.netlink_links import ONE, new_link
from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    message,
    raw,
    struct,
    u8,
    u16,
    u32,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C, constants

_FAMILIES = (
    "ROUTE USERSOCK SOCK_DIAG XFRM SELINUX ISCSI AUDIT FIB_LOOKUP CONNECTOR NETFILTER "
    "KOBJECT_UEVENT GENERIC SCSITRANSPORT ECRYPTFS RDMA CRYPTO SMC"
)
_OPTIONS = "PKTINFO BROADCAST_ERROR NO_ENOBUFS LISTEN_ALL_NSID CAP_ACK EXT_ACK GET_STRICT_CHK"
_GROUPS = (
    ("XFRM", C.NETLINK_XFRM, "XFRMNLGRP_"),
    ("NETFILTER", C.NETLINK_NETFILTER, "NFNLGRP_"),
    ("AUDIT", C.NETLINK_AUDIT, "AUDIT_NLGRP_"),
)
_ALL_STATES = 0xFFFFFFFF


def open_families(q: Questions) -> None:
    """Which families there are, and whether their first group may be joined.

    Groups of generic netlink get their numbers as modules come.
    """
    for name in _FAMILIES.split():
        kind = C.SOCK_RAW | C.SOCK_CLOEXEC
        number = getattr(C, f"NETLINK_{name}")
        fd = q.ask(f"family.{name}", "socket", C.AF_NETLINK, kind, number, opaque=True)
        if name != "GENERIC":
            address = q.content(words(C.AF_NETLINK, 0, size=2) + words(0, 1))
            q.ask(f"family.{name}.group-1", "bind", fd, address, 12, given=(fd,))
        q.call("close", fd)


def options(q: Questions) -> None:
    """Options of a socket, and what two of them do."""
    fd = q.call("socket", C.AF_NETLINK, C.SOCK_RAW, C.NETLINK_ROUTE, opaque=True)
    one, room = q.content(words(1)), q.buffer(64)
    for name in _OPTIONS.split():
        where = (fd, C.SOL_NETLINK, getattr(C, f"NETLINK_{name}"))
        q.ask(f"option.{name}.set", "setsockopt", *where, one, 4, given=(fd,))
        size = q.content(words(4))
        q.ask(f"option.{name}.get", "getsockopt", *where, room, size, given=(fd,))
    size = q.content(words(64))
    members = (fd, C.SOL_NETLINK, C.NETLINK_LIST_MEMBERSHIPS, room, size)
    q.ask("option.LIST_MEMBERSHIPS.get", "getsockopt", *members, given=(fd,))
    talk = Talk(q, C.NETLINK_ROUTE)
    wrong = message(C.RTM_NEWLINK, C.NLM_F_ACK, raw(bytes(4)))
    for name, flag in (("CAP_ACK", C.NLM_F_CAPPED), ("EXT_ACK", C.NLM_F_ACK_TLVS)):
        option = talk.option(f"NETLINK_{name}")
        talk.flagged(f"option.{name}.effect", wrong, flag, (option,))


def groups(q: Questions) -> None:
    """NETLINK_ADD_MEMBERSHIP."""
    route = q.call("socket", C.AF_NETLINK, C.SOCK_RAW, C.NETLINK_ROUTE, opaque=True)
    for name, number in sorted(constants("RTNLGRP_").items(), key=lambda item: item[1]):
        if not name.endswith(("_NONE", "_MAX")) and "NOP" not in name:
            _join(q, f"group.ROUTE.{name}", route, number)
    for family, protocol, prefix in _GROUPS:
        kind = C.SOCK_RAW | C.SOCK_CLOEXEC
        fd = q.call("socket", C.AF_NETLINK, kind, protocol, opaque=True)
        for name, number in sorted(constants(prefix).items(), key=lambda item: item[1]):
            if not name.endswith(("_NONE", "_MAX")):
                _join(q, f"group.{family}.{name}", fd, number)
    drop = (route, C.SOL_NETLINK, C.NETLINK_DROP_MEMBERSHIP, q.content(words(1)), 4)
    q.ask("group.ROUTE.drop", "setsockopt", *drop, given=(route,))


def _join(q: Questions, key: str, fd: Ref, number: int) -> None:
    where = (fd, C.SOL_NETLINK, C.NETLINK_ADD_MEMBERSHIP, q.content(words(number)), 4)
    q.ask(key, "setsockopt", *where, given=(fd,))


def connector(q: Questions) -> None:
    """Who may hear of processes that begin and end: linux/cn_proc.h."""
    talk = Talk(q, C.NETLINK_CONNECTOR)
    address = q.content(words(C.AF_NETLINK, 0, size=2) + words(0, C.CN_IDX_PROC))
    bound = q.ask("connector.bind", "bind", talk.socket, address, 12, given=(talk.socket,))
    body = struct("struct cn_msg", id={"idx": C.CN_IDX_PROC, "val": C.CN_VAL_PROC}, len=4)
    listen = message(C.NLMSG_DONE, 0, body, u32(C.PROC_CN_MCAST_LISTEN))
    talk.ask("connector.PROC_CN_MCAST_LISTEN", listen, (bound,))


def audit(q: Questions, name: str) -> None:
    """What audit(8) asks.

    What is asked for comes later than the code, from a thread of the kernel, and
    would be taken for the next answer, so each question has a socket of its own.
    """
    for kind in ("GET", "LIST_RULES", "GET_FEATURE", "SIGNAL_INFO", "USER"):
        content = raw(b"hostabi\0") if kind == "USER" else Piece()
        asked = message(getattr(C, f"AUDIT_{kind}"), C.NLM_F_ACK, content)
        Talk(q, C.NETLINK_AUDIT).ask(f"{name}.AUDIT_{kind}", asked)


def diagnosed(q: Questions) -> None:
    """sock_diag(7): lists of sockets of each kind, and what is told of one."""
    # a family is listed when there is one, and brings along all that goes by its name
    q.call("socket", C.AF_VSOCK, C.SOCK_STREAM, 0, opaque=True)
    tcp = q.call("socket", C.AF_INET, C.SOCK_STREAM, 0, opaque=True)
    heard = q.call("listen", tcp, 4)
    unix = q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0, opaque=True)
    name = q.content(words(C.AF_UNIX, size=2) + b"\0name")
    q.call("bind", unix, name, 7)
    waited = q.call("listen", unix, 4)
    talk = Talk(q, C.NETLINK_SOCK_DIAG)
    kinds = {
        "tcp": _inet("IPPROTO_TCP"),
        "udp": _inet("IPPROTO_UDP"),
        "udplite": _inet("IPPROTO_UDPLITE"),
        "raw": _inet("IPPROTO_RAW"),
        "mptcp": _inet("IPPROTO_TCP") + attribute(C.INET_DIAG_REQ_PROTOCOL, u32(C.IPPROTO_MPTCP)),
        "unix": struct("struct unix_diag_req", sdiag_family=C.AF_UNIX, udiag_states=_ALL_STATES,
                       udiag_show=0xFF),
        "netlink": struct("struct netlink_diag_req", sdiag_family=C.AF_NETLINK,
                          sdiag_protocol=C.NDIAG_PROTO_ALL),
        "packet": struct("struct packet_diag_req", sdiag_family=C.AF_PACKET, pdiag_show=1),
        "vsock": struct("struct vsock_diag_req", sdiag_family=C.AF_VSOCK,
                        vdiag_states=_ALL_STATES),
        # struct xdp_diag_req of linux/xdp_diag.h, which our tables do not have
        "xdp": u8(C.AF_XDP, 0) + u16(0) + u32(0, 0, 0, 0),
    }  # fmt: skip
    for name_, body in kinds.items():
        asked = message(C.SOCK_DIAG_BY_FAMILY, C.NLM_F_DUMP, body)
        talk.dump(f"sock_diag.{name_}", asked)
    for prefix, kind, at, base in (
        ("INET_DIAG_", "tcp", 72, heard),
        ("UNIX_DIAG_", "unix", 16, waited),
    ):
        asked = message(C.SOCK_DIAG_BY_FAMILY, C.NLM_F_DUMP, kinds[kind])
        for each in _TOLD[kind].split():
            path = (getattr(C, prefix + each),)
            talk.told(f"sock_diag.{kind}.{prefix}{each}", asked, HEAD + at, path, given=(base,))
            talk.renew()


_TOLD = {
    "tcp": "MEMINFO INFO CONG TOS SKMEMINFO SHUTDOWN MARK CLASS_ID CGROUP_ID SOCKOPT",
    "unix": "NAME RQLEN MEMINFO SHUTDOWN UID",
}
"""Attributes of a socket that listens."""


def _inet(protocol: str) -> Piece:
    return struct(
        "struct inet_diag_req_v2",
        sdiag_family=C.AF_INET,
        sdiag_protocol=getattr(C, protocol),
        idiag_ext=0xFF,
        idiag_states=_ALL_STATES,
    )


def events(q: Questions) -> None:
    """Uevents, which go to the network namespace of a device, and to those of its owner."""
    route = Talk(q, C.NETLINK_ROUTE)
    fd = q.call("socket", C.AF_NETLINK, C.SOCK_RAW, C.NETLINK_KOBJECT_UEVENT, opaque=True)
    address = q.content(words(C.AF_NETLINK, 0, size=2) + words(0, 1))
    bound = q.call("bind", fd, address, 12)
    made = route.do(new_link("dummy", ONE))
    room = q.buffer(4096)
    receive = (fd, room, 4096, C.MSG_DONTWAIT, 0, 0)
    q.ask("uevent.of-a-device", "recvfrom", *receive, given=(bound, made), opaque=True)
    name = q.content(b"change@/devices/x\0ACTION=change\0SUBSYSTEM=net\0SEQNUM=1\0")
    q.ask("uevent.send", "sendto", fd, name, name.size, 0, 0, 0, given=(bound,))
