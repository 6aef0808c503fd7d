"""Clocks, timers and futexes: time(7), timer_create(2), timerfd_create(2), futex(2)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import Maybe, out, raw, struct
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, Makes, describe
from hostabi.syscalls.descriptions.values import address
from hostabi.syscalls.table import C

_CLOCK = pick(
    "which_clock", C.CLOCK_MONOTONIC, C.CLOCK_REALTIME, C.CLOCK_BOOTTIME, C.CLOCK_TAI,
    C.CLOCK_PROCESS_CPUTIME_ID, C.CLOCK_THREAD_CPUTIME_ID, C.CLOCK_MONOTONIC_RAW, odd=(99, -1),
)  # fmt: skip
_TIMER_CLOCK = pick("clockid", C.CLOCK_MONOTONIC, C.CLOCK_REALTIME, C.CLOCK_BOOTTIME, odd=(99, -1))
_SHORT = raw("rqtp", bytes(16), packing.pack("<2Q", 0, 1000), packing.pack("<2q", -1, 0))
_FAR = raw(
    "utmr",
    packing.pack("<4Q", 0, 0, 1000, 0),
    packing.pack("<4Q", 0, 0, 2000, 0),
    bytes(32),
    packing.pack("<4q", 0, -1, 0, 0),
)
_EVENT = raw(
    "timer_event_spec",
    packing.pack("<Qii", 0, 0, 1).ljust(64, b"\0"),
    packing.pack("<Qii", 0, C.SIGURG, 0).ljust(64, b"\0"),
)
_TIMER = takes("timer_id", Kind.ALARM, odd=(99, -1))
_ITIMERS = pick("which", 0, 1, 2, odd=(3, -1))
_PRIVATE = C.FUTEX_PRIVATE_FLAG
_WORD = raw("uaddr", bytes(4), (1).to_bytes(4, "little"))
_TWO = bytes(48)
_SIZED = flags("flags", usual=(C.FUTEX2_SIZE_U32 | C.FUTEX2_PRIVATE, C.FUTEX2_SIZE_U32))
_WAITS = "what it waits for has another value, for else it would wait"


def _futex(name: str, *arguments: Argument, unsuccessful: str = "") -> Description:
    """One operation of futex(2), named by its constant."""
    operation: int = getattr(C, f"FUTEX_{name}")
    return describe(
        f"futex.{name}",
        _WORD,
        just("op", operation | _PRIVATE),
        *arguments,
        unsuccessful=unsuccessful,
    )


DESCRIPTIONS: tuple[Description, ...] = (
    describe("clock_gettime", _CLOCK, out("tp", "struct timespec", kept=False)),
    describe("clock_getres", _CLOCK, Maybe(out("tp", "struct timespec"), first=True)),
    describe(
        "gettimeofday", Maybe(out("tv", "struct timeval", kept=False)), Maybe(out("tz", "uint64_t"))
    ),
    describe("time", Maybe(out("tloc", "int64_t", kept=False)), opaque=True),
    describe("nanosleep", _SHORT, Maybe(out("rmtp", "struct timespec", kept=False))),
    describe(
        "clock_nanosleep",
        pick("which_clock", C.CLOCK_MONOTONIC, C.CLOCK_REALTIME, C.CLOCK_BOOTTIME, odd=(99, -1)),
        flags("flags", "TIMER_ABSTIME", usual=(0, C.TIMER_ABSTIME), ignored=True),
        _SHORT,
        Maybe(out("rmtp", "struct timespec", kept=False)),
    ),
    describe(
        "timer_create",
        _TIMER_CLOCK,
        _EVENT,
        out("created_timer_id", "int"),
        makes=(Makes(Kind.ALARM, out="created_timer_id"),),
    ),
    describe(
        "timer_settime",
        _TIMER,
        flags("flags", "TIMER_ABSTIME", usual=(0, C.TIMER_ABSTIME), ignored=True),
        _FAR,
        Maybe(out("old_setting", "struct itimerspec")),
    ),
    describe("timer_gettime", _TIMER, out("setting", "struct itimerspec")),
    describe("timer_getoverrun", _TIMER),
    describe("timer_delete", takes("timer_id", Kind.ALARM, ends=True, odd=(99,))),
    describe(
        "timerfd_create",
        _TIMER_CLOCK,
        flags(
            "flags",
            "TFD_CLOEXEC",
            "TFD_NONBLOCK",
            usual=(C.TFD_NONBLOCK, C.TFD_NONBLOCK | C.TFD_CLOEXEC),
        ),
        makes=Kind.TIMER,
    ),
    describe(
        "timerfd_settime",
        fd("ufd", Kind.TIMER),
        flags("flags", "TFD_TIMER_", usual=(0, C.TFD_TIMER_ABSTIME)),
        _FAR,
        Maybe(out("otmr", "struct itimerspec")),
    ),
    describe("timerfd_gettime", fd("ufd", Kind.TIMER), out("otmr", "struct itimerspec")),
    describe("getitimer", _ITIMERS, out("value", "struct itimerval")),
    describe("setitimer", _ITIMERS, _FAR, Maybe(out("ovalue", "struct itimerval"))),
    describe("adjtimex", out("txc_p", "uint64_t", 26, kept=False), opaque=True),
    describe(
        "clock_adjtime", just("which_clock", 0), out("utx", "uint64_t", 26, kept=False), opaque=True
    ),
    describe(
        "clock_settime",
        pick("which_clock", C.CLOCK_MONOTONIC, C.CLOCK_BOOTTIME),
        raw("tp", bytes(16)),
        unsuccessful="the clocks that it is asked to set cannot be set",
    ),
    _futex("WAKE", pick("val", 1, 0)),
    _futex(
        "WAIT", pick("val", 1, 2), raw("utime", packing.pack("<2Q", 0, 1000)), unsuccessful=_WAITS
    ),
    _futex("REQUEUE", just("val", 1), just("val2", 1), raw("uaddr2", bytes(4))),
    _futex(
        "CMP_REQUEUE", pick("val", 1), just("val2", 1), raw("uaddr2", bytes(4)), pick("val3", 0, 1)
    ),
    _futex("LOCK_PI", just("val", 0), raw("utime", bytes(16))),
    _futex("TRYLOCK_PI"),
    _futex("UNLOCK_PI", unsuccessful="each call has a futex of its own, which is not locked"),
    describe(
        "futex_waitv",
        struct("waiters", "struct futex_waitv", val=1, uaddr=address(bytes(4)), flags=_SIZED),
        just("nr_futexes", 1),
        flags("flags"),
        raw("timeout", bytes(16)),
        pick("clockid", C.CLOCK_MONOTONIC, odd=(99,)),
        unsuccessful=_WAITS,
    ),
    describe(
        "futex_wake",
        raw("uaddr", bytes(4)),
        pick("mask", 1, (1 << 32) - 1, odd=(0,)),
        pick("nr", 1, 0),
        _SIZED,
    ),
    describe(
        "futex_wait",
        raw("uaddr", bytes(4)),
        just("val", 1),
        pick("mask", 1, odd=(0,)),
        _SIZED,
        raw("timeout", bytes(16)),
        pick("clockid", C.CLOCK_MONOTONIC, odd=(99,)),
        unsuccessful=_WAITS,
    ),
    describe(
        "futex_requeue",
        raw("waiters", _TWO),
        just("flags", 0),
        pick("nr_wake", 1, 0, odd=(-1,)),
        pick("nr_requeue", 1, 0, odd=(-1,)),
        unsuccessful="no address of two futexes is known before the program runs",
    ),
)
