"""Credentials: identifiers, groups, capabilities: credentials(7), capabilities(7)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import pick
from hostabi.syscalls.descriptions.memory import Maybe, out, raw
from hostabi.syscalls.descriptions.model import Description, Kind, describe

_KEEP = (1 << 32) - 1
_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h), no plain number there."""
_HEADS = (
    packing.pack("<Ii", _VERSION, 0),
    packing.pack("<Ii", 0x20071026, 0),
    packing.pack("<Ii", 0x19980330, 0),
    packing.pack("<Ii", 0, 0),
)
_ALL, _HIGH = 0xFFFFFFFF, 0x1FF
_SETS = (
    packing.pack("<6I", _ALL, _ALL, 0, _HIGH, _HIGH, 0),
    packing.pack("<6I", 0, _ALL, 0, 0, _HIGH, 0),
    packing.pack("<6I", 1, 1, 1, 0, 0, 0),
    bytes(24),
)
_SETUID, _SETGID = "CAP_SETUID", "CAP_SETGID"


DESCRIPTIONS: tuple[Description, ...] = (
    describe("getuid"),
    describe("geteuid"),
    describe("getgid"),
    describe("getegid"),
    describe("setuid", pick("uid", 0, 1000, odd=(_KEEP,)), privilege=_SETUID),
    describe("setgid", pick("gid", 0, 1000, odd=(_KEEP,)), privilege=_SETGID),
    describe(
        "setreuid", pick("ruid", 0, _KEEP, 1000), pick("euid", _KEEP, 0, 1000), privilege=_SETUID
    ),
    describe(
        "setregid", pick("rgid", 0, _KEEP, 1000), pick("egid", _KEEP, 0, 1000), privilege=_SETGID
    ),
    describe(
        "setresuid",
        pick("ruid", 0, _KEEP, 1000),
        pick("euid", _KEEP, 0, 1000),
        pick("suid", _KEEP, 0, 1000),
        privilege=_SETUID,
    ),
    describe(
        "setresgid",
        pick("rgid", 0, _KEEP, 1000),
        pick("egid", _KEEP, 0, 1000),
        pick("sgid", _KEEP, 0, 1000),
        privilege=_SETGID,
    ),
    describe(
        "getresuid",
        out("ruidp", "unsigned int"),
        out("euidp", "unsigned int"),
        out("suidp", "unsigned int"),
    ),
    describe(
        "getresgid",
        out("rgidp", "unsigned int"),
        out("egidp", "unsigned int"),
        out("sgidp", "unsigned int"),
    ),
    describe("setfsuid", pick("uid", _KEEP, 0, 1000)),
    describe("setfsgid", pick("gid", _KEEP, 0, 1000)),
    describe(
        "getgroups", pick("gidsetsize", 32, 0, 1, odd=(-1,)), out("grouplist", "unsigned int", 32)
    ),
    describe(
        "setgroups",
        pick("gidsetsize", 2, 0, 3, odd=(-1, 65537)),
        raw("grouplist", packing.pack("<4I", 0, 1000, 7, 7)),
        privilege=_SETGID,
    ),
    describe(
        "capget",
        raw("header", *_HEADS, kept=True),
        Maybe(out("dataptr", "uint64_t", 3), first=True),
    ),
    describe(
        "capset.inheritable",
        raw("header", _HEADS[0]),
        raw("data", packing.pack("<6I", _ALL, _ALL, 1, _HIGH, _HIGH, 0)),
        makes=Kind.INHERITABLE,
    ),
    describe("capset", raw("header", *_HEADS, kept=True), raw("data", *_SETS)),
)
