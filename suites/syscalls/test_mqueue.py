"""POSIX message queues: priorities, bounds, and who is told of a message."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from isolation import FEW, own_ipc

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

size = st.integers(0, 20)
priority = st.one_of(st.integers(0, 3), st.sampled_from([C.MQ_PRIO_MAX - 1, C.MQ_PRIO_MAX]))
operation = st.one_of(
    st.tuples(st.just("send"), size, priority),
    st.tuples(st.just("send"), size, st.integers(0, 3)),
    st.tuples(st.just("receive"), st.sampled_from([0, 0, -1, 5])),
    st.tuples(st.just("receive"), st.just(0)),
    st.tuples(st.just("look")),
    st.tuples(st.just("reopen")),
)


class Queue(Script):
    """One queue of so many messages of at most so many bytes."""

    def __init__(self, most: int, size: int) -> None:
        super().__init__()
        self.needs.add("mqueue")
        self.most, self.size = most, size
        self.messages: list[tuple[int, bytes]] = []
        self.fd = self.open(C.O_CREAT | C.O_EXCL)
        self.returns(-errno.EEXIST, *self.opening(C.O_CREAT | C.O_EXCL))

    def opening(self, flags: int) -> tuple:
        attributes = self.struct("struct mq_attr", mq_maxmsg=self.most, mq_msgsize=self.size)
        return "mq_open", self.string("q"), flags | C.O_RDWR | C.O_NONBLOCK, 0o600, attributes

    def open(self, flags: int) -> Ref:
        return self.works(*self.opening(flags))

    def do_reopen(self) -> None:
        """The queue outlives its descriptors: mq_overview(7)."""
        self.returns(0, "close", self.fd)
        self.fd = self.open(0)

    def do_send(self, size: int, priority: int) -> None:
        data = pattern(len(self), size)
        result = 0
        if priority >= C.MQ_PRIO_MAX:
            result = -errno.EINVAL
        elif size > self.size:
            result = -errno.EMSGSIZE
        elif len(self.messages) >= self.most:
            result = -errno.EAGAIN
        self.returns(result, "mq_timedsend", self.fd, self.content(data), size, priority, 0)
        if result == 0:
            after = sum(1 for each, _ in self.messages if each >= priority)
            self.messages.insert(after, (priority, data))

    def do_receive(self, more: int) -> None:
        """mq_receive(3): the oldest of the highest priority; room for any is needed."""
        room = max(self.size + more, 0)
        into, found = self.buffer(self.size + 8), self.buffer(4)
        result = 0
        if room < self.size:
            result = -errno.EMSGSIZE
        elif not self.messages:
            result = -errno.EAGAIN
        arguments = ("mq_timedreceive", self.fd, into, room, found, 0)
        if result:
            self.returns(result, *arguments)
            return
        priority, data = self.messages.pop(0)
        ref = self.returns(len(data), *arguments, out=[into, found])
        self.holds(ref, into, data.ljust(into.size, b"\0"))
        self.holds(ref, found, priority.to_bytes(4, "little"))

    def do_look(self) -> None:
        room = self.room("struct mq_attr")
        ref = self.returns(0, "mq_getsetattr", self.fd, 0, room, out=[room])
        self.fields(
            ref, room, mq_flags=C.O_NONBLOCK, mq_maxmsg=self.most, mq_msgsize=self.size,
            mq_curmsgs=len(self.messages),
        )  # fmt: skip
        polled = self.struct("struct pollfd", fd=self.fd, events=C.POLLIN | C.POLLOUT)
        able = C.POLLIN if self.messages else 0
        able |= C.POLLOUT if len(self.messages) < self.most else 0
        ref = self.returns(1, "poll", polled, 1, 0, out=[polled])
        self.fields(ref, polled, revents=able)


def story(most: int, size: int, operations: list[tuple]) -> Case:
    script = Queue(most, size)
    script.play(operations)
    script.do_look()
    for _ in range(len(script.messages) + 1):
        script.do_receive(0)
    script.returns(0, "mq_unlink", script.string("q"))
    script.returns(-errno.ENOENT, "mq_unlink", script.string("q"))
    script.returns(-errno.ENOENT, *script.opening(0))
    script.do_send(0, 0)
    return script.case(own_ipc())


cases = st.builds(story, st.integers(1, 6), st.integers(1, 16), long_lists(operation, 12))


@given(batch=batches(cases, FEW))
def test_the_highest_priority_comes_first(agent, features, batch):
    """Oldest first within a priority; EAGAIN full or empty, EMSGSIZE too long or too little room.

    mq_overview(7), mq_send(3), mq_receive(3), mq_getattr(3).
    """
    hold(agent, batch, features)


def told(number: int, value: int, rounds: list[bool]) -> Case:
    """mq_notify(3): once, when a message comes to an empty queue."""
    script = Queue(4, 8)
    every = script.content(b"\xff" * 8)
    script.returns(0, "rt_sigprocmask", C.SIG_SETMASK, every, 0, 8)
    mask = script.content((1 << (number - 1)).to_bytes(8, "little"))
    raw = value.to_bytes(8, "little") + number.to_bytes(4, "little")
    event = script.content(raw + C.SIGEV_SIGNAL.to_bytes(4, "little") + bytes(48))
    now = script.struct("struct __kernel_timespec")
    registered = False
    for empties in rounds:
        result = -errno.EBUSY if registered else 0
        script.returns(result, "mq_notify", script.fd, event)
        registered = True
        if empties:
            while script.messages:
                script.do_receive(0)
        empty = not script.messages
        script.do_send(1, 0)
        info = script.room("struct siginfo")
        due = empty and registered
        ref = script.returns(
            number if due else -errno.EAGAIN, "rt_sigtimedwait", mask, info, now, 8, out=[info]
        )
        if due:
            script.fields(ref, info, si_signo=number, si_code=C.SI_MESGQ, si_value=value)
            registered = False
    script.returns(0, "mq_notify", script.fd, 0)
    return script.case(own_ipc())


notices = st.builds(
    told, st.sampled_from([C.SIGUSR1, 40]), st.integers(0, 10**9),
    st.lists(st.booleans(), min_size=1, max_size=3),
)  # fmt: skip


@given(batch=batches(notices, FEW))
def test_a_queue_tells_of_its_first_message(agent, features, batch):
    """Who registered gets the signal with his value, once; another is EBUSY: mq_notify(3)."""
    hold(agent, batch, features)


@given(batch=batches(cases, FEW))
def test_mqueue_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
