"""Signals: blocked, asked, queued and waited for. A program sets no handler but to ignore."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import After, Maybe, Null, out, raw, struct
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.table import C

_SETS = tuple(
    packing.pack("<Q", bits)
    for bits in (
        1 << C.SIGUSR1 - 1,
        0,
        1 << C.SIGUSR1 - 1 | 1 << C.SIGCHLD - 1,
        1 << 33,  # the first real-time signal
        (1 << 64) - 1,
    )
)
_SIZE = pick("sigsetsize", 8, odd=(0, 4, 16))
_HOW = pick("how", C.SIG_BLOCK, C.SIG_SETMASK, C.SIG_UNBLOCK, odd=(3, -1))
_SIGNAL = pick("sig", C.SIGUSR1, C.SIGCHLD, 34, 64, C.SIGPIPE, odd=(0, 65, C.SIGKILL, -1))
_HARMLESS = pick("sig", 0, C.SIGCONT, C.SIGURG, C.SIGWINCH, odd=(65, -1))
_NO_WAIT = raw("uts", bytes(16), packing.pack("<2Q", 0, 1000))
_INFO = raw(
    "uinfo",
    packing.pack("<iiii", 0, 0, C.SI_QUEUE, 0).ljust(128, b"\0"),
    packing.pack("<iiii", 0, 0, C.SI_USER, 0).ljust(128, b"\0"),
)
_ALTERNATE = struct(
    "uss",
    "struct sigaltstack",
    ss_size=pick("ss_size", 8192, 2048, 0, odd=(1,)),
    ss_flags=pick("ss_flags", 2, 0, odd=(1, 99)),
)
_SIGNALFD = flags("flags", "SFD_", usual=(C.SFD_NONBLOCK, C.SFD_NONBLOCK | C.SFD_CLOEXEC))

DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "rt_sigaction",
        _SIGNAL,
        Maybe(
            struct(
                "act",
                "struct sigaction",
                sa_handler=pick("sa_handler", C.SIG_IGN, C.SIG_DFL),
                sa_flags=flags("sa_flags", "SA_", usual=(0, C.SA_RESTART), ignored=True),
                sa_mask=pick("sa_mask", 0, 1, (1 << 63) - 1),
            ),
            first=True,
        ),
        Maybe(out("oact", "struct sigaction")),
        _SIZE,
    ),
    describe(
        "rt_sigprocmask",
        _HOW,
        Maybe(raw("nset", *_SETS), first=True),
        Maybe(out("oset", "uint64_t")),
        _SIZE,
    ),
    describe(
        "rt_sigprocmask.all",
        just("how", C.SIG_BLOCK),
        raw("nset", _SETS[-1]),
        Null("oset"),
        just("sigsetsize", 8),
        makes=Kind.BLOCKED,
    ),
    describe(
        "kill.pending",
        After(Kind.BLOCKED, just("pid", 0)),
        pick("sig", C.SIGURG, C.SIGCONT, odd=()),
        makes=Kind.PENDING,
    ),
    describe("rt_sigpending", out("uset", "uint64_t"), _SIZE),
    describe(
        "rt_sigtimedwait",
        After(Kind.PENDING, raw("uthese", _SETS[-1], *_SETS)),
        Maybe(out("uinfo", "struct siginfo")),
        _NO_WAIT,
        _SIZE,
    ),
    describe("rt_sigqueueinfo", takes("pid", Kind.CHILD, odd=(4194305,)), _HARMLESS, _INFO),
    describe(
        "rt_tgsigqueueinfo",
        takes("tgid", Kind.CHILD, odd=(4194305, -1)),
        takes("pid", Kind.CHILD, odd=(4194305, -1)),
        _HARMLESS,
        _INFO,
    ),
    describe("sigaltstack", Maybe(_ALTERNATE), Maybe(out("uoss", "struct sigaltstack"))),
    describe("signalfd", just("ufd", -1), raw("user_mask", *_SETS), _SIZE),
    describe(
        "signalfd4", just("ufd", -1), raw("user_mask", *_SETS), _SIZE, _SIGNALFD, makes=Kind.SIGNALS
    ),
    describe(
        "signalfd4.change", fd("ufd", Kind.SIGNALS), raw("user_mask", *_SETS), _SIZE, _SIGNALFD
    ),
    describe("alarm", pick("seconds", 0, 1000), opaque=True),
    describe(
        "rt_sigsuspend",
        Null("unewset"),
        pick("sigsetsize", 0, odd=(7,)),
        unsuccessful="it waits for a signal, and is only asked with a size that is none",
    ),
)
