"""capabilities(7): which there are, sets of a process, files that give some, what each opens."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hostabi.surfaces.answers import field_hex, returned
from hostabi.surfaces.capabilities_gates import gates, gates_to_others
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, USERNS, Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

_VERSIONS = {"1": (0x19980330, 1), "2": (0x20071026, 2), "3": (0x20080522, 2)}
"""_LINUX_CAPABILITY_VERSION_N of linux/capability.h, and the structs that each writes."""
_BEYOND = (C.CAP_LAST_CAP + 1, 62, 63, 64)
"""Numbers for which no header has a name yet."""
_TRIED = C.CAP_CHOWN
"""The capability with which sets are tried."""


def names() -> tuple[str, ...]:
    """All that the headers name, by number."""
    found = constants("CAP_")
    last = found.pop("CAP_LAST_CAP")
    return tuple(sorted((name for name in found if found[name] <= last), key=found.__getitem__))


def probes() -> Iterator[Probe]:
    """Questions that all views ask."""
    yield from _known()
    yield from _versions()
    yield from _sets()
    yield from _securebits()
    yield from _files()


SURFACE = Joined(
    "capabilities",
    (
        ProbeSurface("capabilities", probes),
        ProbeSurface("capabilities", gates, (HOST, USERNS)),
        ProbeSurface("capabilities", gates_to_others, (HOST,)),
    ),
)


def _known() -> tuple[Probe, ...]:
    """PR_CAPBSET_READ of each, and whether the asking process has it in effect."""
    q = Questions()
    version, count = _VERSIONS["3"]
    head = q.struct("struct __user_cap_header_struct", version=version)
    sets = q.buffer(12 * count)
    for name in names():
        number = getattr(C, name)
        q.ask(name, "prctl", C.PR_CAPBSET_READ, number, read=returned)
        effective = _in_effect(sets, number)
        q.ask(f"{name}#effective", "capget", head, sets, out=[sets], read=effective)
    for number in _BEYOND:
        q.ask(f"CAP.{number}", "prctl", C.PR_CAPBSET_READ, number, read=returned)
    return q.probes()


def _in_effect(sets: Slot, number: int) -> Read:
    def read(trace: Trace, ref: Ref) -> bool:
        (word,) = struct.unpack_from("<I", trace.bytes(ref, sets), number // 32 * 12)
        return bool(word >> number % 32 & 1)

    return read


def _versions() -> tuple[Probe, ...]:
    """capget(2) with each version, and the one a kernel names to who asks for another."""
    q = Questions()
    for name, (version, _) in _VERSIONS.items():
        head = q.struct("struct __user_cap_header_struct", version=version)
        q.ask(f"capget.version.{name}", "capget", head, q.buffer(24))
    head = q.struct("struct __user_cap_header_struct", version=1)
    read = field_hex(head, "version")
    q.ask("capget#version", "capget", head, 0, out=[head], read=read)
    return q.probes()


def _sets() -> tuple[Probe, ...]:
    """Inheritable, ambient and bounding sets."""
    q = Questions()
    bits = 1 << _TRIED
    head = q.struct("struct __user_cap_header_struct", version=_VERSIONS["3"][0])
    present = q.buffer(24)
    q.call("capget", head, present)
    raised = q.content(struct.pack("<6I", bits, bits, bits, 0, 0, 0))
    ambient = (C.PR_CAP_AMBIENT, C.PR_CAP_AMBIENT_RAISE, _TRIED, 0, 0)
    q.ask("ambient.RAISE.not-inheritable", "prctl", *ambient)
    # bounding first: the rest of the program gives up all others
    q.ask("PR_CAPBSET_DROP", "prctl", C.PR_CAPBSET_DROP, C.CAP_AUDIT_READ)
    q.ask("capset.inheritable", "capset", head, raised)
    q.ask("ambient.RAISE", "prctl", *ambient)
    for name in ("IS_SET", "LOWER", "CLEAR_ALL"):
        which = 0 if name == "CLEAR_ALL" else _TRIED
        order = (getattr(C, f"PR_CAP_AMBIENT_{name}"), which, 0, 0)
        q.ask(f"ambient.{name}", "prctl", C.PR_CAP_AMBIENT, *order)
    more = q.content(struct.pack("<6I", bits << 1, bits << 1, 0, 0, 0, 0))
    q.ask("capset.not-permitted", "capset", head, more)
    return q.probes()


def _securebits() -> tuple[Probe, ...]:
    """Each bit of PR_SET_SECUREBITS; those that lock keep what was locked before."""
    q = Questions()
    bits = constants("SECBIT_")
    locks = [name for name in sorted(bits, key=bits.__getitem__) if name.endswith("_LOCKED")]
    for name in sorted(set(bits) - set(locks), key=bits.__getitem__):
        q.ask(name, "prctl", C.PR_SET_SECUREBITS, bits[name])
    for at, name in enumerate(locks):
        known = sum(bits[each] for each in locks[:at] if "_EXEC_" not in each)
        q.ask(name, "prctl", C.PR_SET_SECUREBITS, known | bits[name])
    q.ask("SECBIT_LOCKED.changed", "prctl", C.PR_SET_SECUREBITS, C.SECBIT_NOROOT)
    return q.probes()


def _files() -> tuple[Probe, ...]:
    """The attribute security.capability in each of its versions, and how long it reads back."""
    q = Questions()
    file, attribute = q.string("file"), q.string("security.capability")
    q.need("mknodat", C.AT_FDCWD, file, C.S_IFREG | 0o700, 0)
    for name, revision, words, root in (
        ("1", C.VFS_CAP_REVISION_1, 2, b""),
        ("2", C.VFS_CAP_REVISION_2, 4, b""),
        ("3", C.VFS_CAP_REVISION_3, 4, bytes(4)),
    ):
        raw = struct.pack("<I", revision | C.VFS_CAP_FLAGS_EFFECTIVE)
        value = q.content(raw + struct.pack(f"<{words}I", 1, *[0] * (words - 1)) + root)
        key = f"security.capability.{name}"
        done = q.ask(key, "setxattr", file, attribute, value, value.size, 0)
        again = (file, attribute, q.buffer(64), 64)
        q.ask(f"{key}#size", "getxattr", *again, needs=(done,), read=returned)
    q.ask("security.capability.remove", "removexattr", file, attribute, needs=(done,))
    return q.probes()
