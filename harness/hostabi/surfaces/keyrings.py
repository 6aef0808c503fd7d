"""keyrings(7): types of keys, operations of keyctl(2), and what it says it can do."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C, constants

_TYPES = {
    "user": b"payload",
    "logon": b"payload",
    "keyring": b"",
    "big_key": b"payload" * 200,
    "asymmetric": b"not a certificate",
    "encrypted": b"new user:nobody 32",
    "trusted": b"new 32",
    "dns_resolver": b"127.0.0.1\0",
    "rxrpc": b"no token",
    "rxrpc_s": b"no secret",
    "id_resolver": b"payload",
    "cifs.spnego": b"payload",
    "cifs.idmap": b"payload",
    "ceph": b"payload",
    "blacklist": b"payload",
    "pkcs7_test": b"payload",
}
"""Types that kernels have, and a payload. A type that is not there gives ENODEV."""
_KNOWN = ("EBADMSG", "EINVAL", "ENOKEY", "EPROTONOSUPPORT")
"""What a type says to a payload that it cannot use."""
_SPECIAL = {"THREAD": -1, "PROCESS": -2, "SESSION": -3, "USER": -4, "USER_SESSION": -5, "GROUP": -6}
"""KEY_SPEC_NAME_KEYRING of linux/keyctl.h."""
_REQKEY_SESSION = 3
"""KEY_REQKEY_DEFL_SESSION_KEYRING."""
_LONGEST = 32767
"""Bytes of a payload of type ``user``, keyctl(2)."""
_RIGHTS = 0x3F3F0000
"""All rights to possessor and owner."""


def probes() -> Iterator[Probe]:
    """All questions."""
    yield from _types()
    yield from _operations()
    yield from _whole_keyrings()
    yield from _capabilities()
    yield from _of_users()


SURFACE = ProbeSurface("keyrings", probes)


def _session(q: Questions) -> int:
    """A session keyring that ends with the process; what says that it is to be used."""
    q.need("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
    return _SPECIAL["SESSION"]


def _key(q: Questions, name: str, ring: int | Ref, kind: str = "user") -> Ref:
    payload = _TYPES[kind]
    given = (q.content(payload), len(payload)) if payload else (0, 0)
    return q.call("add_key", q.string(kind), q.string(name), *given, ring, opaque=True)


def _types() -> tuple[Probe, ...]:
    """add_key(2) with each type; the description has a prefix, because some types want one."""
    q = Questions(arena=1 << 18)
    ring = _session(q)
    for kind, payload in _TYPES.items():
        given = (q.content(payload), len(payload)) if payload else (0, 0)
        name = q.string("test:a")
        key = f"type.{kind}"
        q.ask(key, "add_key", q.string(kind), name, *given, ring, fine=_KNOWN, opaque=True)
    user, long = q.string("user"), q.buffer(_LONGEST + 1)
    for length in (_LONGEST, _LONGEST + 1):
        described = q.string(f"long {length}")
        q.ask(f"type.user.{length}", "add_key", user, described, long, length, ring, opaque=True)
    return q.probes()


def _operations() -> tuple[Probe, ...]:
    """keyctl(2) on one key."""
    q = Questions()
    ring = _session(q)
    room = q.buffer(256)
    key = _key(q, "a", ring)
    payload = (q.string("changed"), 7)
    other = _key(q, "ring", ring, "keyring")
    calls: tuple[tuple[str, tuple[int | Ref | Slot, ...]], ...] = (
        ("UPDATE", (key, *payload)),
        ("READ", (key, room, 256)),
        ("DESCRIBE", (key, room, 256)),
        ("GET_SECURITY", (key, room, 256)),
        ("SEARCH", (ring, q.string("user"), q.string("a"), 0)),
        ("SETPERM", (key, _RIGHTS)),
        ("CHOWN", (key, -1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF)),
        ("SET_TIMEOUT", (key, 600)),
        ("LINK", (key, other)),
        ("UNLINK", (key, other)),
        ("MOVE", (key, ring, other, 0)),
        ("MOVE.EXCL", (key, other, ring, C.KEYCTL_MOVE_EXCL)),
        ("REVOKE", (key,)),
        ("INVALIDATE", (_key(q, "b", ring),)),
        ("GET_KEYRING_ID", (ring, 0)),
        ("SET_REQKEY_KEYRING", (_REQKEY_SESSION,)),
        ("PKEY_QUERY", (key, 0, 0, room)),
        ("DH_COMPUTE", (0, room, 0, 0)),
    )
    for name, arguments in calls:
        operation = getattr(C, f"KEYCTL_{name.removesuffix('.EXCL')}")
        q.ask(f"KEYCTL_{name}", "keyctl", operation, *arguments, opaque=True)
    asked = (q.string("user"), q.string("nobody"), 0, ring)
    q.ask("request_key", "request_key", *asked, fine=("ENOKEY",), opaque=True)
    _watched(q, ring)
    return q.probes()


def _watched(q: Questions, ring: int) -> None:
    """watch_queue: changes of keys, read from a pipe."""
    ends = q.buffer(8)
    pipe = q.ask("O_NOTIFICATION_PIPE", "pipe2", ends, C.O_NOTIFICATION_PIPE)
    size = (ends.word(0), C.IOC_WATCH_QUEUE_SET_SIZE, 16)
    sized = q.ask("IOC_WATCH_QUEUE_SET_SIZE", "ioctl", *size, needs=(pipe,))
    watch = (C.KEYCTL_WATCH_KEY, ring, ends.word(0), 1)
    q.ask("KEYCTL_WATCH_KEY", "keyctl", *watch, needs=(pipe, sized))


def _whole_keyrings() -> tuple[Probe, ...]:
    """What holds for a keyring: restrictions, emptying; special keyrings of a process."""
    q = Questions()
    ring = _session(q)
    restricted, full = _key(q, "ring", ring, "keyring"), _key(q, "full", ring, "keyring")
    only = (C.KEYCTL_RESTRICT_KEYRING, restricted, 0, 0)
    done = q.ask("KEYCTL_RESTRICT_KEYRING", "keyctl", *only, needs=(restricted,))
    given = (q.string("user"), q.string("a"), q.string("x"), 1, restricted)
    q.ask("restricted.add_key", "add_key", *given, needs=(done,), opaque=True)
    q.ask("KEYCTL_CLEAR", "keyctl", C.KEYCTL_CLEAR, full, needs=(full,))
    for name in ("THREAD", "PROCESS", "SESSION", "GROUP"):
        get = (C.KEYCTL_GET_KEYRING_ID, _SPECIAL[name], 1)
        q.ask(f"KEY_SPEC_{name}_KEYRING", "keyctl", *get, opaque=True)
    join = (C.KEYCTL_JOIN_SESSION_KEYRING, q.string("named"))
    q.ask("KEYCTL_JOIN_SESSION_KEYRING.named", "keyctl", *join, opaque=True)
    return q.probes()


def _capabilities() -> tuple[Probe, ...]:
    """KEYCTL_CAPABILITIES: each bit."""
    q = Questions()
    room = q.buffer(4)
    get = (C.KEYCTL_CAPABILITIES, room, 4)
    q.ask("KEYCTL_CAPABILITIES", "keyctl", *get)
    for name, bit in constants("KEYCTL_CAPS").items():
        index = int(name.removeprefix("KEYCTL_CAPS").partition("_")[0])
        q.ask(name, "keyctl", *get, out=[room], read=_told(room, bit << 8 * index))
    return q.probes()


def _told(room: Slot, bit: int) -> Read:
    return lambda trace, ref: bool(trace.number(ref, room) & bit)


def _of_users() -> tuple[Probe, ...]:
    """Keyrings that belong to a user, in a user namespace so that none is left behind."""
    q = Questions(namespaces=C.CLONE_NEWUSER)
    ring = _session(q)
    for name in ("USER", "USER_SESSION"):
        get = (C.KEYCTL_GET_KEYRING_ID, _SPECIAL[name], 1)
        q.ask(f"KEY_SPEC_{name}_KEYRING", "keyctl", *get, opaque=True)
    persistent = (C.KEYCTL_GET_PERSISTENT, -1 & 0xFFFFFFFF, ring)
    q.ask("KEYCTL_GET_PERSISTENT", "keyctl", *persistent, opaque=True)
    return q.probes()
