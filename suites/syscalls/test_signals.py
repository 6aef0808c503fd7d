"""Blocked signals: what is pending, what is lost, and in which order they are taken."""

from __future__ import annotations

import errno
from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

RTMIN = C.SIGRTMIN
SI_USER, SI_QUEUE, SI_TKILL = 0, -1, -6  # sigaction(2)
STOPS = (C.SIGTSTP, C.SIGTTIN, C.SIGTTOU)
IGNORED_BY_DEFAULT = (C.SIGCHLD, C.SIGCONT, C.SIGURG, C.SIGWINCH)
EVERY = (1 << 64) - 1


def mask_of(signals: list[int]) -> int:
    return sum(1 << (signal - 1) for signal in set(signals))


number = st.one_of(
    st.sampled_from([C.SIGHUP, C.SIGUSR1, C.SIGUSR2, C.SIGCHLD, C.SIGURG]),
    st.sampled_from([C.SIGCONT, *STOPS]),
    st.sampled_from([RTMIN, RTMIN + 1, RTMIN + 2, 64]),
)
mask = st.one_of(
    st.just(EVERY),
    st.lists(number, min_size=1, max_size=4).map(mask_of),
)
operation = st.one_of(
    st.tuples(st.just("kill"), number),
    st.tuples(st.just("tgkill"), number),
    st.tuples(st.just("queue"), number, st.integers(0, 1000)),
    st.tuples(st.just("queue"), number, st.integers(0, 1000)),
    st.tuples(st.just("handle"), number, st.sampled_from([C.SIG_IGN, C.SIG_DFL])),
    st.tuples(st.just("pending")),
    st.tuples(st.just("wait"), mask),
    st.tuples(st.just("wait"), mask),
    st.tuples(st.just("read"), mask),
    st.tuples(st.just("wrong"), st.sampled_from([-1, 65, 1000])),
)


@dataclass(frozen=True)
class Info:
    signal: int
    code: int
    value: int = 0


class Signals(Script):
    """Sends signals to itself, all of them blocked, and takes them one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.thread: defaultdict[int, list[Info]] = defaultdict(list)
        self.process: defaultdict[int, list[Info]] = defaultdict(list)
        every = self.content(EVERY.to_bytes(8, "little"))
        self.returns(0, "rt_sigprocmask", C.SIG_SETMASK, every, 0, 8)
        self.pid = self.works("getpid", opaque=True)
        self.tid = self.works("gettid", opaque=True)
        self.now = self.struct("struct __kernel_timespec")

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def arrive(self, queue: dict[int, list[Info]], info: Info) -> None:
        """signal(7): standard signals do not queue, real-time signals do."""
        if info.signal == C.SIGCONT:
            self.forget(*STOPS)
        elif info.signal in STOPS:
            self.forget(C.SIGCONT)
        if info.signal >= RTMIN or not queue[info.signal]:
            queue[info.signal].append(info)

    def forget(self, *signals: int) -> None:
        for signal in signals:
            self.thread[signal].clear()
            self.process[signal].clear()

    def take(self, mask: int) -> Info | None:
        """The thread's own first, then the process's; the lowest number first, then the oldest."""
        for queue in (self.thread, self.process):
            for signal in sorted(queue):
                if queue[signal] and mask >> (signal - 1) & 1:
                    return queue[signal].pop(0)
        return None

    def do_kill(self, signal: int) -> None:
        self.returns(0, "kill", self.pid, signal)
        self.arrive(self.process, Info(signal, SI_USER))

    def do_tgkill(self, signal: int) -> None:
        self.returns(0, "tgkill", self.pid, self.tid, signal)
        self.arrive(self.thread, Info(signal, SI_TKILL))

    def do_queue(self, signal: int, value: int) -> None:
        info = self.struct("struct siginfo", si_signo=signal, si_code=SI_QUEUE, si_value=value)
        self.returns(0, "rt_sigqueueinfo", self.pid, signal, info)
        self.arrive(self.process, Info(signal, SI_QUEUE, value))

    def do_handle(self, signal: int, handler: int) -> None:
        action = self.struct("struct sigaction", sa_handler=handler)
        self.returns(0, "rt_sigaction", signal, action, 0, 8)
        # POSIX.1 2.4.3: to ignore a signal discards it, also one that is blocked.
        if handler == C.SIG_IGN or signal in IGNORED_BY_DEFAULT:
            self.forget(signal)

    def do_pending(self) -> None:
        found = self.buffer(8)
        ref = self.returns(0, "rt_sigpending", found, 8, out=[found])
        queues = (self.thread, self.process)
        waiting = [signal for queue in queues for signal, infos in queue.items() if infos]
        self.holds(ref, found, mask_of(waiting).to_bytes(8, "little"))

    def do_wait(self, mask: int) -> None:
        wanted = self.content(mask.to_bytes(8, "little"))
        info = self.room("struct siginfo")
        taken = self.take(mask)
        result = taken.signal if taken else -errno.EAGAIN
        ref = self.returns(result, "rt_sigtimedwait", wanted, info, self.now, 8, out=[info])
        if taken:
            self.ensure(lambda trace: same_info(trace.struct(ref, info), taken))

    def do_read(self, mask: int) -> None:
        """signalfd(2): the same queues through a descriptor, as many as fit the buffer."""
        wanted = self.content(mask.to_bytes(8, "little"))
        fd = self.works("signalfd4", -1, wanted, 8, C.SFD_NONBLOCK | C.SFD_CLOEXEC)
        rows = [self.take(mask) for _ in range(2)]
        taken = [info for info in rows if info]
        room = self.buffer(2 * 128)
        result = 128 * len(taken) if taken else -errno.EAGAIN
        ref = self.returns(result, "read", fd, room, room.size, out=self.rows(room))
        for info, row in zip(taken, self.rows(room), strict=False):
            self.ensure(lambda trace, row=row, info=info: same_row(trace.struct(ref, row), info))
        self.returns(-errno.EINVAL, "read", fd, room, 127)
        self.returns(0, "close", fd)

    @staticmethod
    def rows(room) -> list:
        return [room.at(128 * index, 128, "struct signalfd_siginfo") for index in range(2)]

    def do_wrong(self, signal: int) -> None:
        self.returns(-errno.EINVAL, "kill", self.pid, signal)
        self.returns(-errno.EINVAL, "tgkill", self.pid, self.tid, signal)


def same_info(seen, meant: Info) -> None:
    assert (seen.si_signo, seen.si_code) == (meant.signal, meant.code)
    if meant.code == SI_QUEUE:
        assert seen.si_value == meant.value


def same_row(seen, meant: Info) -> None:
    assert (seen.ssi_signo, seen.ssi_code) == (meant.signal, meant.code)
    if meant.code == SI_QUEUE:
        assert (seen.ssi_int, seen.ssi_ptr) == (meant.value, meant.value)


def story(operations: list[tuple]) -> Case:
    script = Signals()
    for step in operations:
        script.add(step)
    script.do_pending()
    left = [infos for queue in (script.thread, script.process) for infos in queue.values()]
    for _ in range(sum(map(len, left)) + 1):
        script.do_wait(EVERY)
    return script.case()


cases = long_lists(operation, 10).map(story)


@given(batch=batches(cases))
def test_blocked_signals_wait_in_order(agent, features, batch):
    """Nothing is lost that must queue, nothing queues twice that must not, order is kept.

    signal(7) on queueing and order, sigpending(2), sigtimedwait(2), signalfd(2), kill(2),
    rt_sigqueueinfo(2), sigaction(2).
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_signals_agree(lockstep, batch):
    """Every kernel answers alike, siginfo included."""
    lockstep.agree(batch)
