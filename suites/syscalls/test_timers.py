"""Timers: timerfd, POSIX timers and interval timers, by bounds that hold on a slow machine."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

SECOND = 10**9
FAR = 1000
"""Seconds after which no test is still running."""
SLACK = 60
"""Seconds that a loaded machine may take from one call to the next."""
DISARM = (0, 0)
TICK = 10000
"""Microseconds by which a timer of CPU time may be late, getitimer(2): at most a tick of 100 Hz."""

seconds = st.integers(FAR, 10 * FAR)
nanoseconds = st.integers(0, SECOND - 1)
value = st.one_of(st.just(DISARM), st.tuples(seconds, nanoseconds))
period = st.one_of(st.just((0, 0)), st.tuples(st.integers(1, FAR), nanoseconds))
setting = st.tuples(value, period)


def timer(script: Script, setting: tuple[tuple[int, int], tuple[int, int]]) -> Slot:
    """struct __kernel_itimerspec: the interval, then the value, each seconds and nanoseconds."""
    value, period = setting
    return script.content(b"".join(v.to_bytes(8, "little") for v in (*period, *value)))


def times(raw: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """(value, interval) of an itimerspec or itimerval."""
    found = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, 32, 8)]
    return (found[2], found[3]), (found[0], found[1])


def left_over(raw: bytes, setting: tuple[tuple[int, int], tuple[int, int]], unit: int) -> None:
    """No more time is left than was set, and not much less; the interval is as it was set."""
    value, period = setting
    found, interval = times(raw)
    if value == DISARM:
        assert found == DISARM, "a timer that is not armed has no time left"
        return
    assert interval == period
    left, full = (each[0] * unit + each[1] for each in (found, value))
    late = TICK if unit == 10**6 else 0
    assert full - SLACK * unit <= left <= full + late, f"{left} left of {full}"


clock = st.sampled_from([C.CLOCK_MONOTONIC, C.CLOCK_REALTIME, C.CLOCK_BOOTTIME])


def descriptor(clock: int, settings: list) -> Case:
    """timerfd_settime returns what was left, timerfd_gettime what is."""
    script = Script()
    fd = script.works("timerfd_create", clock, C.O_NONBLOCK)
    before = (DISARM, (0, 0))
    for setting in settings:
        old, now = script.buffer(32), script.buffer(32)
        ref = script.returns(0, "timerfd_settime", fd, 0, timer(script, setting), old, out=[old])
        kept(script, ref, old, before)
        ref = script.returns(0, "timerfd_gettime", fd, now, out=[now])
        kept(script, ref, now, setting)
        script.returns(-errno.EAGAIN, "read", fd, script.buffer(8), 8)
        before = setting
    wrong = timer(script, ((1, SECOND), (0, 0)))
    script.returns(-errno.EINVAL, "timerfd_settime", fd, 0, wrong, 0)
    script.returns(-errno.EINVAL, "timerfd_settime", fd, 1 << 5, timer(script, before), 0)
    script.returns(-errno.EINVAL, "timerfd_create", 77, 0)
    script.returns(-errno.EINVAL, "read", fd, script.buffer(8), 7)
    return script.case()


def kept(script: Script, ref: Ref, room: Slot, setting: tuple, unit: int = SECOND) -> None:
    script.ensure(lambda trace: left_over(trace.bytes(ref, room), setting, unit))


@given(batch=batches(st.builds(descriptor, clock, st.lists(setting, max_size=4))))
def test_a_timer_descriptor_keeps_its_setting(agent, features, batch):
    """What is left is at most what was set, the interval is returned, nothing expired: EAGAIN.

    timerfd_create(2).
    """
    hold(agent, batch, features)


def past(clock: int, ago: int, step: int, waits: bool) -> Case:
    """A timer that was due long ago has expired once for each interval since."""
    script = Script()
    fd = script.works("timerfd_create", clock, 0)
    now, later = (script.struct("struct __kernel_timespec") for _ in range(2))
    before = script.returns(0, "clock_gettime", clock, now, out=[now])
    given = timer(script, ((0, ago), (step // SECOND, step % SECOND)))
    script.returns(0, "timerfd_settime", fd, C.TFD_TIMER_ABSTIME, given, 0)
    if waits:
        polled = script.struct("struct pollfd", fd=fd, events=C.POLLIN)
        ref = script.returns(1, "poll", polled, 1, 1000, out=[polled])
        script.fields(ref, polled, revents=C.POLLIN)
    count = script.buffer(8)
    read = script.returns(8, "read", fd, count, 8, out=[count])
    after = script.returns(0, "clock_gettime", clock, later, out=[later])

    def check(trace) -> None:
        start, end = nanoseconds_of(trace, before, now), nanoseconds_of(trace, after, later)
        found = trace.number(read, count)
        if not step:
            assert found == 1
            return
        assert (start - ago) // step <= found <= (end - ago) // step + 1

    script.ensure(check)
    return script.case()


def nanoseconds_of(trace, ref: Ref, slot: Slot) -> int:
    moment = trace.struct(ref, slot)
    return int(moment.tv_sec * SECOND + moment.tv_nsec)


step = st.one_of(st.just(0), st.integers(10**7, 10**10))
pasts = st.builds(
    past, st.sampled_from([C.CLOCK_MONOTONIC, C.CLOCK_BOOTTIME]), st.integers(1, 10**6), step,
    st.booleans(),
)  # fmt: skip


@given(batch=batches(pasts))
def test_expirations_are_counted(agent, features, batch):
    """An absolute time in the past expires at once, and as often as its interval has passed.

    timerfd_create(2) on TFD_TIMER_ABSTIME and read.
    """
    hold(agent, batch, features)


posix = st.one_of(
    st.tuples(st.just("create"), clock),
    st.tuples(st.just("create"), clock),
    st.tuples(st.just("set"), st.integers(0, 3), setting),
    st.tuples(st.just("set"), st.integers(0, 3), setting),
    st.tuples(st.just("get"), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.integers(0, 3)),
)


class Timers(Script):
    """POSIX timers that are never due. Those that notify nobody show time left when disarmed."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[tuple[Slot, tuple]] = []

    def do_create(self, clock: int) -> None:
        event = self.struct("struct sigevent", sigev_notify=C.SIGEV_SIGNAL, sigev_signo=C.SIGUSR1)
        number = self.buffer(4)
        self.returns(0, "timer_create", clock, event, number)
        self.timers.append((number, (DISARM, (0, 0))))

    def do_set(self, index: int, setting: tuple) -> None:
        if self.timers:
            number, before = self.timers[index % len(self.timers)]
            old = self.buffer(32)
            given = timer(self, setting)
            ref = self.returns(0, "timer_settime", number.word(), 0, given, old, out=[old])
            kept(self, ref, old, before)
            self.timers[index % len(self.timers)] = number, setting

    def do_get(self, index: int) -> None:
        if self.timers:
            number, setting = self.timers[index % len(self.timers)]
            now = self.buffer(32)
            ref = self.returns(0, "timer_gettime", number.word(), now, out=[now])
            kept(self, ref, now, setting)
            self.returns(0, "timer_getoverrun", number.word())

    def do_delete(self, index: int) -> None:
        if self.timers:
            number, _ = self.timers.pop(index % len(self.timers))
            self.returns(0, "timer_delete", number.word())
            for name in ("timer_delete", "timer_getoverrun"):
                self.returns(-errno.EINVAL, name, number.word())


def timed(operations: list[tuple]) -> Case:
    script = Timers()
    script.play(operations)
    for index in range(len(script.timers)):
        script.do_get(index)
    return script.case()


@given(batch=batches(long_lists(posix, 8).map(timed)))
def test_posix_timers_keep_their_settings(agent, features, batch):
    """Each timer has its own time left, and one that is deleted is gone.

    timer_create(2), timer_settime(2), timer_getoverrun(2), timer_delete(2).
    """
    hold(agent, batch, features)


def signalled(clock: int, ago: int, number: int, payload: int) -> Case:
    """The signal brings the value that the timer was made with."""
    script = Script()
    every, mask = script.content(b"\xff" * 8), 1 << (number - 1)
    script.returns(0, "rt_sigprocmask", C.SIG_SETMASK, every, 0, 8)
    # sigev_value, sigev_signo, sigev_notify; the rest is for threads: sigevent(3type).
    raw = payload.to_bytes(8, "little") + number.to_bytes(4, "little")
    event = script.content(raw + C.SIGEV_SIGNAL.to_bytes(4, "little") + bytes(48))
    identity = script.buffer(4)
    script.returns(0, "timer_create", clock, event, identity)
    given = timer(script, ((0, ago), (0, 0)))
    script.returns(0, "timer_settime", identity.word(), C.TIMER_ABSTIME, given, 0)
    info = script.room("struct siginfo")
    wait = script.struct("struct __kernel_timespec", tv_sec=1)
    wanted = script.content(mask.to_bytes(8, "little"))
    ref = script.returns(number, "rt_sigtimedwait", wanted, info, wait, 8, out=[info])
    script.fields(ref, info, si_signo=number, si_code=C.SI_TIMER, si_value=payload)
    now = script.buffer(32)
    ref = script.returns(0, "timer_gettime", identity.word(), now, out=[now])
    script.holds(ref, now, bytes(32))
    return script.case()


signals = st.builds(
    signalled, clock, st.integers(1, 10**6), st.sampled_from([C.SIGUSR1, C.SIGALRM, 40, 64]),
    st.integers(0, 10**9),
)  # fmt: skip


@given(batch=batches(signals))
def test_a_timer_signals_its_value(agent, features, batch):
    """SIGEV_SIGNAL sends the signal with SI_TIMER and the value, once: timer_create(2)."""
    hold(agent, batch, features)


micro = st.tuples(st.integers(FAR, 10 * FAR), st.integers(0, 10**6 - 1))
interval = st.tuples(st.one_of(st.just(DISARM), micro), st.one_of(st.just((0, 0)), micro))
kinds = st.sampled_from([C.ITIMER_REAL, C.ITIMER_VIRTUAL, C.ITIMER_PROF])


def intervals(settings: list) -> Case:
    """Three timers that know nothing of each other; alarm is the first of them."""
    script = Script()
    held: dict[int, tuple] = {}
    for kind, setting in settings:
        old = script.buffer(32)
        ref = script.returns(0, "setitimer", kind, timer(script, setting), old, out=[old])
        kept(script, ref, old, held.get(kind, (DISARM, (0, 0))), 10**6)
        held[kind] = setting
    for kind in (C.ITIMER_REAL, C.ITIMER_VIRTUAL, C.ITIMER_PROF):
        now = script.buffer(32)
        ref = script.returns(0, "getitimer", kind, now, out=[now])
        kept(script, ref, now, held.get(kind, (DISARM, (0, 0))), 10**6)
    real = held.get(C.ITIMER_REAL, (DISARM, (0, 0)))[0]
    ref = script.works("alarm", FAR, opaque=True)

    def check(trace) -> None:
        found = trace[ref]
        assert real[0] - SLACK <= found <= real[0] + 1, f"{found} s left of {real[0]}"

    script.ensure(check if real != DISARM else lambda trace: same(trace[ref], 0))
    again = script.works("alarm", 0, opaque=True)
    script.ensure(lambda trace: same(FAR - SLACK <= trace[again] <= FAR, True))
    script.returns(0, "alarm", 0)
    script.returns(-errno.EINVAL, "setitimer", 3, timer(script, ((1, 0), (0, 0))), 0)
    script.returns(-errno.EINVAL, "setitimer", 0, timer(script, ((1, 10**6), (0, 0))), 0)
    return script.case()


def same(found: object, meant: object) -> None:
    assert found == meant


@given(batch=batches(st.lists(st.tuples(kinds, interval), max_size=6).map(intervals)))
def test_interval_timers_are_apart(agent, features, batch):
    """Each has its own time left, and alarm takes over the one of real time.

    getitimer(2), alarm(2): the seconds that were left, rounded.
    """
    hold(agent, batch, features)
