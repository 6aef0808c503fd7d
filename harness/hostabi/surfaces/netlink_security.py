"""IPsec by NETLINK_XFRM: states and policies, ip-xfrm(8)."""

from __future__ import annotations

from hostabi.surfaces.netlink_messages import (
    HEAD,
    Piece,
    attribute,
    be16,
    message,
    raw,
    struct,
    u8,
    u16,
    u32,
)
from hostabi.surfaces.netlink_talk import Talk
from hostabi.surfaces.probing import Questions
from hostabi.syscalls.table import C

_FOREVER = {
    f"{kind}_{unit}_limit": (1 << 64) - 1
    for kind in ("soft", "hard")
    for unit in ("byte", "packet")
}
_HERE, _THERE = (
    int.from_bytes(bytes((10, 0, 0, 1)), "little"),
    int.from_bytes(bytes((10, 0, 0, 2)), "little"),
)
_MAKE = C.NLM_F_CREATE | C.NLM_F_EXCL
_STATE_HEAD, _POLICY_HEAD = 224, 168
_ENCAP = attribute(C.XFRMA_ENCAP, u16(2) + be16(4500) + be16(4500) + u16(0) + raw(bytes(16)))
_IN, _OUT = (attribute(C.XFRMA_SA_DIR, u8(direction)) for direction in (1, 2))
_OPTIONS: tuple[tuple[str, Piece, tuple[int, int] | None], ...] = (
    ("XFRMA_IF_ID", attribute(C.XFRMA_IF_ID, u32(9)), (4, 9)),
    ("XFRMA_MARK", attribute(C.XFRMA_MARK, u32(3, 7)), None),
    ("XFRMA_SET_MARK", attribute(C.XFRMA_SET_MARK, u32(3)), (4, 3)),
    ("XFRMA_ENCAP", _ENCAP, None),
    ("XFRMA_SA_DIR", _OUT, (1, 2)),
    ("XFRMA_SA_PCPU", _OUT + attribute(C.XFRMA_SA_PCPU, u32(0)), (4, 0)),
    ("XFRMA_MTIMER_THRESH", _IN + _ENCAP + attribute(C.XFRMA_MTIMER_THRESH, u32(10)), (4, 10)),
)
"""What is said about a state, and what must be told of it."""


def security(q: Questions) -> None:
    """All questions."""
    talk = Talk(q, C.NETLINK_XFRM)
    made = talk.ask("xfrm.NEWSA", _state(1, flags=C.NLM_F_ACK))
    talk.ask("xfrm.GETSA", message(C.XFRM_MSG_GETSA, C.NLM_F_DUMP), (made,))
    talk.renew()
    for number, (name, content, value) in enumerate(_OPTIONS, 10):
        kind = getattr(C, name)
        done = talk.do(_state(number, content, flags=C.NLM_F_ACK))
        which = struct(
            "struct xfrm_usersa_id", daddr={"a4": _THERE}, spi=_spi(number), family=C.AF_INET,
            proto=C.IPPROTO_ESP,
        )  # fmt: skip
        mark = content if name == "XFRMA_MARK" else Piece()
        get = message(C.XFRM_MSG_GETSA, 0, which, mark)
        talk.told(
            f"xfrm.NEWSA.{name}",
            get,
            HEAD + _STATE_HEAD,
            (kind,),
            value,
            given=(made,),
            needs=(done,),
        )
    talk.all_pass()
    for name, direction in (("IN", 0), ("OUT", 1), ("FWD", 2)):
        talk.ask(f"xfrm.NEWPOLICY.{name}", _policy(direction))
    default = struct("struct xfrm_userpolicy_default", **{"in": 1, "fwd": 1, "out": 1})
    talk.ask("xfrm.SETDEFAULT", message(C.XFRM_MSG_SETDEFAULT, C.NLM_F_ACK, default))
    for name in ("GETSADINFO", "GETSPDINFO"):
        talk.ask(f"xfrm.{name}", message(getattr(C, f"XFRM_MSG_{name}"), 0, u32(0)))
    for name in ("FLUSHSA", "FLUSHPOLICY"):
        body = u8(0) if name == "FLUSHSA" else Piece()
        talk.ask(f"xfrm.{name}", message(getattr(C, f"XFRM_MSG_{name}"), C.NLM_F_ACK, body))


def _spi(number: int) -> int:
    return int.from_bytes((0x1000 + number).to_bytes(4, "big"), "little")


def _state(number: int, *more: Piece, flags: int = 0) -> Piece:
    """A state of ESP in transport mode, whose ciphers do nothing."""
    about = struct(
        "struct xfrm_usersa_info",
        sel={"family": C.AF_INET},
        id={"daddr": {"a4": _THERE}, "spi": _spi(number), "proto": C.IPPROTO_ESP},
        saddr={"a4": _HERE},
        lft=_FOREVER,
        family=C.AF_INET,
        mode=C.XFRM_MODE_TRANSPORT,
    )
    cipher = attribute(C.XFRMA_ALG_CRYPT, _algorithm("ecb(cipher_null)"))
    digest = attribute(C.XFRMA_ALG_AUTH, _algorithm("digest_null"))
    return message(C.XFRM_MSG_NEWSA, _MAKE | flags, about, cipher, digest, *more)


def _algorithm(name: str) -> Piece:
    """A struct xfrm_algo without a key."""
    return raw(name.encode().ljust(64, b"\0")) + u32(0)


def _policy(direction: int) -> Piece:
    about = struct(
        "struct xfrm_userpolicy_info",
        sel={"family": C.AF_INET, "daddr": {"a4": _THERE}, "prefixlen_d": 32},
        lft=_FOREVER,
        dir=direction,
    )
    template = struct(
        "struct xfrm_user_tmpl",
        id={"daddr": {"a4": _THERE}, "proto": C.IPPROTO_ESP},
        saddr={"a4": _HERE},
        family=C.AF_INET,
        aalgos=0xFFFFFFFF,
        ealgos=0xFFFFFFFF,
        calgos=0xFFFFFFFF,
    )
    return message(
        C.XFRM_MSG_NEWPOLICY, _MAKE | C.NLM_F_ACK, about, attribute(C.XFRMA_TMPL, template)
    )
