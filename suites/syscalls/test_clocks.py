"""Clocks: they do not go back, sleeping takes as long as it says, and users do not set them."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold
from hostabi.syscalls.table import C

SECOND = 10**9
LATE = SECOND
"""Nanoseconds by which a tick, at which the coarse clocks move, may be late on a busy machine."""
STEADY = (C.CLOCK_MONOTONIC, C.CLOCK_MONOTONIC_RAW, C.CLOCK_BOOTTIME,
          C.CLOCK_PROCESS_CPUTIME_ID, C.CLOCK_THREAD_CPUTIME_ID)  # fmt: skip
ALL = (*STEADY, C.CLOCK_REALTIME, C.CLOCK_TAI, C.CLOCK_REALTIME_COARSE, C.CLOCK_MONOTONIC_COARSE)


def read(script: Script, clock: int) -> tuple[Ref, Slot]:
    now = script.struct("struct __kernel_timespec")
    return script.returns(0, "clock_gettime", clock, now, out=[now]), now


def moment(trace, reading: tuple[Ref, Slot]) -> int:
    found = trace.struct(*reading)
    assert 0 <= found.tv_nsec < SECOND
    return int(found.tv_sec * SECOND + found.tv_nsec)


def steady(clocks: list[int]) -> Case:
    script = Script()
    readings = [(clock, read(script, clock)) for clock in clocks]

    def check(trace) -> None:
        last: dict[int, int] = {}
        for clock, reading in readings:
            now = moment(trace, reading)
            assert now >= last.get(clock, 0), f"clock {clock} went back to {now}"
            last[clock] = now

    script.ensure(check)
    return script.case()


@given(batch=batches(st.lists(st.sampled_from(STEADY), min_size=2, max_size=20).map(steady)))
def test_clocks_do_not_go_back(agent, features, batch):
    """A later reading is never less: clock_gettime(2) on CLOCK_MONOTONIC and its kin."""
    hold(agent, batch, features)


def related(order: list[int]) -> Case:
    """Readings between two others of the same base lie between them."""
    script = Script()
    real, coarse = C.CLOCK_REALTIME, C.CLOCK_REALTIME_COARSE
    first, boot = read(script, C.CLOCK_MONOTONIC), read(script, C.CLOCK_BOOTTIME)
    start = read(script, real)
    of_day, old = script.buffer(16), script.buffer(8)
    middle: list[tuple[int, tuple[Ref, Slot]]] = []
    day = script.returns(0, "gettimeofday", of_day, 0, out=[of_day])
    seconds = script.works("time", old, out=[old], opaque=True)
    for clock in order:
        middle.append((clock, read(script, clock)))
    end, grain = read(script, real), script.struct("struct __kernel_timespec")
    ref = script.returns(0, "clock_getres", coarse, grain, out=[grain])

    def check(trace) -> None:
        assert moment(trace, boot) >= moment(trace, first), "time asleep is time since boot too"
        low, high = moment(trace, start), moment(trace, end)
        raw = trace.bytes(day, of_day)
        whole, micro = (int.from_bytes(raw[at : at + 8], "little") for at in (0, 8))
        assert low // 1000 <= whole * 10**6 + micro <= high // 1000
        tick = moment(trace, (ref, grain))
        assert (low - tick - LATE) // SECOND <= trace[seconds] <= high // SECOND
        assert trace[seconds] == trace.number(seconds, old)
        for clock, reading in middle:
            if clock == coarse:
                assert low - tick - LATE <= moment(trace, reading) <= high

    script.ensure(check)
    return script.case()


orders = st.lists(st.sampled_from(ALL), max_size=6)


@given(batch=batches(orders.map(related)))
def test_clocks_tell_one_time(agent, features, batch):
    """gettimeofday, time and the coarse clock lie between two readings of CLOCK_REALTIME.

    gettimeofday(2), time(2), clock_gettime(2).
    """
    hold(agent, batch, features)


def slept(clock: int, length: int, absolute: bool) -> Case:
    script = Script()
    before = read(script, clock)
    wait = script.struct("struct __kernel_timespec", tv_nsec=length)
    if absolute:
        # Long ago: nothing to wait for, and no more may be written to what remains.
        script.returns(0, "clock_nanosleep", clock, C.TIMER_ABSTIME, wait, 0)
        length = 0
    elif clock == C.CLOCK_MONOTONIC:
        script.returns(0, "nanosleep", wait, 0)
    else:
        script.returns(0, "clock_nanosleep", clock, 0, wait, 0)
    after = read(script, clock)

    def check(trace) -> None:
        passed = moment(trace, after) - moment(trace, before)
        assert passed >= length, f"{passed} ns passed in a sleep of {length}"

    script.ensure(check)
    wrong = script.struct("struct __kernel_timespec", tv_nsec=SECOND)
    negative = script.struct("struct __kernel_timespec", tv_sec=-1)
    for bad in (wrong, negative):
        script.returns(-errno.EINVAL, "nanosleep", bad, 0)
        script.returns(-errno.EINVAL, "clock_nanosleep", clock, 0, bad, 0)
    # The C library says EINVAL by itself.
    script.returns(-errno.EOPNOTSUPP, "clock_nanosleep", C.CLOCK_THREAD_CPUTIME_ID, 0, wait, 0)
    return script.case()


sleeps = st.builds(
    slept, st.sampled_from([C.CLOCK_MONOTONIC, C.CLOCK_BOOTTIME]),
    st.one_of(st.just(0), st.integers(1, 3 * 10**6)), st.booleans(),
)  # fmt: skip


@given(batch=batches(sleeps))
def test_sleep_is_never_short(agent, features, batch):
    """At least the time asked for has passed, and none for a moment that is past.

    nanosleep(2), clock_nanosleep(2).
    """
    hold(agent, batch, features)


def resolution(clock: int, other: int) -> Case:
    script = Script()
    grain = [script.struct("struct __kernel_timespec") for _ in range(2)]
    refs = [script.returns(0, "clock_getres", clock, room, out=[room]) for room in grain]

    def check(trace) -> None:
        found = [moment(trace, pair) for pair in zip(refs, grain, strict=True)]
        assert found[0] == found[1], "the resolution has changed"
        assert 1 <= found[0] <= SECOND // 10

    script.ensure(check)
    script.returns(0, "clock_getres", clock, 0)
    for name in ("clock_gettime", "clock_getres"):
        script.returns(-errno.EINVAL, name, other, grain[0])
    return script.case()


resolutions = st.builds(resolution, st.sampled_from(ALL), st.integers(16, 100))


@given(batch=batches(resolutions))
def test_clocks_have_a_resolution(agent, features, batch):
    """It is the same each time, and at most a tick; a clock nobody knows is EINVAL.

    clock_getres(2).
    """
    hold(agent, batch, features)


TIMEX = 208
"""Bytes of struct timex, adjtimex(2)."""
ADJUSTMENTS = (C.ADJ_OFFSET, C.ADJ_FREQUENCY, C.ADJ_MAXERROR, C.ADJ_ESTERROR, C.ADJ_STATUS,
               C.ADJ_TIMECONST, C.ADJ_TAI, C.ADJ_TICK)  # fmt: skip


def forbidden(modes: list[int], user: int) -> Case:
    """Who is not root reads how the clock is adjusted, and adjusts nothing."""
    script = Script()
    script.needs.add("root")
    script.returns(0, "setresuid", user, user, user)
    first, last = script.buffer(TIMEX), script.buffer(TIMEX)
    script.works("adjtimex", first, opaque=True)
    for mode in modes:
        asked = script.content(mode.to_bytes(4, "little") + bytes(TIMEX - 4))
        script.returns(-errno.EPERM, "adjtimex", asked)
        script.returns(-errno.EPERM, "clock_adjtime", C.CLOCK_REALTIME, asked)
    now = script.struct("struct __kernel_timespec", tv_sec=10**9)
    script.returns(-errno.EPERM, "clock_settime", C.CLOCK_REALTIME, now)
    script.returns(-errno.EPERM, "settimeofday", now, 0)
    script.returns(-errno.EINVAL, "clock_settime", C.CLOCK_MONOTONIC, now)
    script.returns(-errno.EOPNOTSUPP, "clock_adjtime", C.CLOCK_MONOTONIC, last)
    script.works("clock_adjtime", C.CLOCK_REALTIME, last, opaque=True)
    return script.case()


modes = st.lists(st.sampled_from(ADJUSTMENTS), max_size=4)


@given(batch=batches(st.builds(forbidden, modes, st.integers(1, 9))))
def test_users_do_not_set_the_clock(agent, features, batch):
    """EPERM without CAP_SYS_TIME for each way to set or to slew it.

    adjtimex(2), clock_settime(2), gettimeofday(2).
    """
    hold(agent, batch, features)
