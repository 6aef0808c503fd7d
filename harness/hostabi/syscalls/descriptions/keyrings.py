"""Keys: keyrings(7). What is made hangs on the program's own session, and goes with it."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import After, Data, Maybe, Null, Room, text
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, describe
from hostabi.syscalls.table import C

_THREAD, _PROCESS, _SESSION = -1, -2, -3
"""KEY_SPEC_*_KEYRING of linux/keyctl.h."""
_RING = takes("ringid", Kind.KEYRING, also=(_PROCESS, _THREAD), odd=(99, 0))
_KEY = takes("key", Kind.KEY, odd=(99, 0))
_EITHER = takes("key", Kind.KEY, Kind.KEYRING, odd=(99, 0))
_PERMISSIONS = pick("perm", 0x3F3F0000, 0x3F010000, 0x3F000000, odd=(-1, 0x80000000))


def _keyctl(name: str, *arguments: Argument, opaque: bool = False) -> Description:
    """One operation of keyctl(2), named by its constant."""
    number: int = getattr(C, f"KEYCTL_{name}")
    return describe(f"keyctl.{name}", just("operation", number), *arguments, opaque=opaque)


DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "add_key.user",
        text("_type", "user", odd=("nothing", "")),
        text("_description", "one", "two", odd=("x" * 300,)),
        Data("_payload", "plen", (8, 1, 100)),
        pick("ringid", _PROCESS, _THREAD, odd=(99,)),
        makes=Kind.KEY,
        opaque=True,
    ),
    describe(
        "add_key.keyring",
        text("_type", "keyring"),
        text("_description", "ring", "other"),
        Null("_payload"),
        just("plen", 0),
        pick("ringid", _PROCESS, _THREAD, odd=(99,)),
        makes=Kind.KEYRING,
        opaque=True,
    ),
    describe(
        "request_key",
        text("_type", "user", odd=("nothing",)),
        After(Kind.KEY, text("_description", "one", "two", "missing")),
        Null("_callout_info"),
        pick("destringid", 0, _PROCESS),
        opaque=True,
    ),
    _keyctl(
        "GET_KEYRING_ID",
        pick("arg2", _PROCESS, _THREAD, _SESSION, odd=(99,)),
        just("arg3", 1),
        opaque=True,
    ),
    _keyctl("JOIN_SESSION_KEYRING", Maybe(text("arg2", "own")), opaque=True),
    _keyctl("UPDATE", _KEY, Data("arg3", "arg4", (8, 1))),
    _keyctl("REVOKE", takes("key", Kind.KEY, ends=True)),
    _keyctl("INVALIDATE", takes("key", Kind.KEY, ends=True)),
    _keyctl("CHOWN", _KEY, pick("arg3", 0, -1, 1000), pick("arg4", 0, -1)),
    _keyctl("SETPERM", _KEY, _PERMISSIONS),
    _keyctl("DESCRIBE", _EITHER, Room("arg3", "arg4", (200, 0, 1))),
    _keyctl("CLEAR", takes("key", Kind.KEYRING)),
    _keyctl("LINK", _KEY, _RING),
    _keyctl("UNLINK", _KEY, pick("arg3", _PROCESS, _THREAD, odd=(99,))),
    _keyctl(
        "SEARCH",
        pick("arg2", _PROCESS, _THREAD),
        text("arg3", "user"),
        After(Kind.KEY, text("arg4", "one", "two")),
        just("arg5", 0),
        opaque=True,
    ),
    _keyctl("READ", _KEY, Room("arg3", "arg4", (100, 0, 4))),
    _keyctl("SET_TIMEOUT", _KEY, pick("arg3", 0, 1000)),
    _keyctl("SET_REQKEY_KEYRING", pick("arg2", -1, 0, 1, 2, odd=(99,))),
    _keyctl("GET_SECURITY", _EITHER, Room("arg3", "arg4", (64, 0))),
    _keyctl("CAPABILITIES", Room("arg2", "arg3", (16, 0, 1), kept=False)),
    _keyctl("RESTRICT_KEYRING", takes("key", Kind.KEYRING), Null("arg3"), Null("arg4")),
    _keyctl("MOVE", _KEY, pick("arg3", _PROCESS, _THREAD), _RING, flags("arg5", usual=(0, 1))),
)
