"""Limits and what was used: getrlimit(2), getrusage(2), sysinfo(2)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import pick, takes
from hostabi.syscalls.descriptions.memory import Maybe, out, raw
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.table import C

_INFINITY = (1 << 64) - 1
_LIMITS = (
    packing.pack("<2Q", 100, _INFINITY),
    packing.pack("<2Q", 1 << 20, 1 << 30),
    packing.pack("<2Q", 5, 5),
    packing.pack("<2Q", 6, 5),
)
_READ = (
    C.RLIMIT_NOFILE, C.RLIMIT_CORE, C.RLIMIT_CPU, C.RLIMIT_FSIZE, C.RLIMIT_STACK, C.RLIMIT_AS,
    C.RLIMIT_DATA, C.RLIMIT_NICE, C.RLIMIT_RTPRIO, C.RLIMIT_LOCKS, C.RLIMIT_MSGQUEUE,
)  # fmt: skip
"""Those that do not follow from how much memory a machine has."""
_WRITTEN = (C.RLIMIT_NOFILE, C.RLIMIT_CORE, C.RLIMIT_FSIZE, C.RLIMIT_NICE, C.RLIMIT_LOCKS)
"""Those that leave a program able to go on."""
_ODD = (16, -1)

DESCRIPTIONS: tuple[Description, ...] = (
    describe("getrlimit", pick("resource", *_READ, odd=_ODD), out("rlim", "struct rlimit")),
    describe("setrlimit", pick("resource", *_WRITTEN, odd=_ODD), raw("rlim", *_LIMITS)),
    describe(
        "prlimit64",
        takes("pid", Kind.CHILD, also=(0,), odd=(4194305,)),
        pick("resource", *_WRITTEN, odd=_ODD),
        Maybe(raw("new_rlim", *_LIMITS)),
        Maybe(out("old_rlim", "struct rlimit64")),
    ),
    describe(
        "getrusage",
        pick("who", C.RUSAGE_SELF, -1, 1, odd=(7,)),
        out("ru", "struct rusage", kept=False),
    ),
    describe("sysinfo", out("info", "struct sysinfo", kept=False)),
    describe("times", Maybe(out("tbuf", "struct tms", kept=False)), opaque=True),
)
