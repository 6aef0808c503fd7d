"""eventfd counters, and what poll and epoll say of them."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

CEILING = (1 << 64) - 2
"""The largest count: eventfd(2)."""

amount = st.one_of(
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(CEILING - 2, CEILING + 1),
    st.integers(0, CEILING + 1),
)
length = st.sampled_from([8, 8, 8, 8, 16, 7, 0])

operation = st.one_of(
    st.tuples(st.just("write"), amount, length),
    st.tuples(st.just("write"), amount, length),
    st.tuples(st.just("read"), length),
    st.tuples(st.just("read"), length),
    st.tuples(st.just("poll")),
    st.tuples(st.just("epoll")),
    st.tuples(st.just("modify"), st.sampled_from([C.EPOLLIN, C.EPOLLOUT, 0, None])),
    st.tuples(st.just("oneshot")),
)


class Counter(Script):
    """One counter, watched by one epoll set, level-triggered."""

    def __init__(self, start: int, semaphore: bool) -> None:
        super().__init__()
        self.count = start
        self.semaphore = semaphore
        self.interest = C.EPOLLIN | C.EPOLLOUT
        self.armed, self.once = True, False
        flags = C.EFD_NONBLOCK | (C.EFD_SEMAPHORE if semaphore else 0)
        self.returns(-errno.EINVAL, "eventfd2", start, flags | 1 << 20)
        self.fd = self.works("eventfd2", start, flags)
        self.set = self.works("epoll_create1", C.EPOLL_CLOEXEC)
        self.control(C.EPOLL_CTL_ADD, self.interest)

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def control(self, how: int, events: int) -> None:
        event = self.struct("struct epoll_event", events=events, data=77)
        self.returns(0, "epoll_ctl", self.set, how, self.fd, event)

    @property
    def ready(self) -> int:
        readable = C.EPOLLIN if self.count else 0
        return readable | (C.EPOLLOUT if self.count < CEILING else 0)

    def do_write(self, amount: int, length: int) -> None:
        data = self.content(amount.to_bytes(8, "little") + bytes(8))
        if length > 8:
            # Since "eventfd: strictly check the count parameter of eventfd_write to avoid
            # inputting illegal strings" (February 2024) only exactly eight bytes are taken.
            self.needs.add("eventfd:long-write")
        result = 8
        if length < 8 or amount > CEILING:
            result = -errno.EINVAL
        elif self.count + amount > CEILING:
            result = -errno.EAGAIN
        else:
            self.count += amount
        self.returns(result, "write", self.fd, data, length)

    def do_read(self, length: int) -> None:
        into = self.buffer(16)
        if length < 8 or not self.count:
            result = -errno.EINVAL if length < 8 else -errno.EAGAIN
            self.returns(result, "read", self.fd, into, length)
            return
        got = 1 if self.semaphore else self.count
        self.count -= got
        ref = self.returns(8, "read", self.fd, into, length, out=[into])
        self.holds(ref, into, got.to_bytes(16, "little"))

    def do_poll(self) -> None:
        polled = self.struct("struct pollfd", fd=self.fd, events=C.POLLIN | C.POLLOUT)
        ref = self.returns(int(self.ready != 0), "poll", polled, 1, 0, out=[polled])
        ready = self.ready

        def check(trace) -> None:
            assert trace.struct(ref, polled).revents == ready

        self.ensure(check)

    def do_modify(self, events: int | None) -> None:
        self.interest = C.EPOLLIN | C.EPOLLOUT if events is None else events
        self.armed, self.once = True, False
        self.control(C.EPOLL_CTL_MOD, self.interest)

    def do_oneshot(self) -> None:
        self.armed, self.once = True, True
        self.control(C.EPOLL_CTL_MOD, self.interest | C.EPOLLONESHOT)

    def do_epoll(self) -> None:
        found = self.room("struct epoll_event")
        events = self.ready & self.interest if self.armed else 0
        ref = self.returns(int(events != 0), "epoll_wait", self.set, found, 1, 0, out=[found])
        if events:
            self.holds(ref, found, events.to_bytes(4, "little") + (77).to_bytes(8, "little"))
            self.armed = not self.once


def story(start: int, semaphore: bool, operations: list[tuple]) -> Case:
    script = Counter(start, semaphore)
    for step in operations:
        script.add(step)
    script.do_poll()
    script.do_read(8)
    return script.case()


start = st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1))
cases = st.builds(story, start, st.booleans(), long_lists(operation, 10))


@given(batch=batches(cases))
def test_eventfd_counts(agent, features, batch):
    """Counts, bounds and readiness follow the model exactly.

    eventfd(2), poll(2), epoll(7) on level-triggered and EPOLLONESHOT interest.
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_eventfd_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
