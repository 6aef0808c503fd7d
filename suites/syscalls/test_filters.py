"""seccomp filters: how stacks of them compose, on whom they act, and what cannot be undone."""

from __future__ import annotations

import errno

from families import THREAD, Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls import table
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.filters import statement
from hostabi.syscalls.table import C

SIZE = 5
TARGET = table.number("getppid")
MARK = 0x1234
"""What the first argument of a call is compared with."""
RANKS = ("KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW")
"""From the strictest on: seccomp(2), without SECCOMP_RET_USER_NOTIF."""


class Filters(Family):
    """A family that filters its own calls."""

    powerful = True

    def program(self, *statements: bytes) -> Slot:
        code = self.content(b"".join(statements))
        return self.struct("struct sock_fprog", len=len(statements), filter=code)

    def load(self, program: Slot, flags: int = 0, result: int = 0) -> None:
        self.returns(result, "seccomp", C.SECCOMP_SET_MODE_FILTER, flags, program)

    def answer(self, action: int, *, marked: bool = False) -> Slot:
        """``action`` for getppid, perhaps only with the mark as its argument."""
        load = C.BPF_LD | C.BPF_W | C.BPF_ABS
        equal = C.BPF_JMP | C.BPF_JEQ | C.BPF_K
        rest = [statement(load, 16), statement(equal, MARK, 0, 1)] if marked else []
        return self.program(
            statement(load, 0),
            statement(equal, TARGET, 0, 1 + len(rest)),
            *rest,
            statement(C.BPF_RET | C.BPF_K, action),
            statement(C.BPF_RET | C.BPF_K, C.SECCOMP_RET_ALLOW),
        )


def strictest(stack: list[tuple[str, int]]) -> tuple[str, int]:
    """The strictest action; among equals the data of the filter that was added last."""
    rank = min((RANKS.index(action) for action, _ in stack), default=RANKS.index("ALLOW"))
    data = next((data for action, data in reversed(stack) if RANKS.index(action) == rank), 0)
    return RANKS[rank], data


def stack_story(stack: list[tuple[str, int]], marked: list[bool]) -> Case:
    """A child loads the filters and makes the call, with the mark and without."""
    script = Filters()
    with script.child() as pid:
        parent = script.works("getppid", opaque=True)
        for index, (action, data) in enumerate(stack):
            only = marked[index % len(marked)] if marked else False
            program = script.answer(getattr(C, f"SECCOMP_RET_{action}") | data, marked=only)
            script.load(program)
        action, data = strictest(stack)
        status = 0
        if action in ("KILL_PROCESS", "KILL_THREAD", "TRAP"):
            script.call("getppid", MARK)
            status = C.SIGSYS
        elif action in ("ERRNO", "TRACE"):
            # Without a tracer the call does not happen: ENOSYS. More than 4095 is cut.
            result = -min(data, 4095) if action == "ERRNO" else -errno.ENOSYS
            script.returns(result, "getppid", MARK)
        else:
            script.same(script.works("getppid", MARK, opaque=True), parent)
    script.reap(pid, status)
    return script.case()


data = st.sampled_from([1, 2, 13, 4095, 4096, 65535])
layer = st.tuples(st.sampled_from(RANKS), data)


@given(
    batch=batches(
        st.builds(stack_story, st.lists(layer, max_size=5), st.lists(st.booleans(), max_size=3)),
        SIZE,
    )
)
def test_filters_compose_to_the_strictest(agent, features, batch):
    """All filters run, the strictest action counts, and its data are of the newest filter that
    gives it: seccomp(2), Documentation/userspace-api/seccomp_filter.rst, "Return values"."""
    hold(agent, batch, features)


def argument_story(number: int, asked: list[int]) -> Case:
    """A filter sees the registers of the call: its number and its arguments."""
    script = Filters()
    script.load(script.answer(C.SECCOMP_RET_ERRNO | number, marked=True))
    for value in asked:
        if value & 0xFFFFFFFF == MARK:
            script.returns(-number, "getppid", value)
        else:
            script.works("getppid", value, opaque=True)
    return script.case()


asked = st.one_of(st.just(MARK), st.just(MARK | 1 << 40), st.integers(0, 1 << 40))


@given(batch=batches(st.builds(argument_story, st.integers(1, 4095), st.lists(asked, max_size=6))))
def test_a_filter_sees_the_arguments(agent, features, batch):
    """struct seccomp_data holds the low and the high half of each argument: seccomp(2)."""
    hold(agent, batch, features)


def inheritance_story(number: int, executes: bool, thread: bool) -> Case:
    """A filter stays over fork and execve, and does not reach other threads by itself."""
    script = Filters()
    script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    other = None
    if thread:
        other = script.role()
        script.works("clone", THREAD, 0, 0, 0, 0, opaque=True, starts=other)
    script.load(script.answer(C.SECCOMP_RET_ERRNO | number))
    loaded = script.returns(-number, "getppid")
    script.returns(2, "prctl", C.PR_GET_SECCOMP)
    if other:
        with script.by(other):
            script.wait_for(loaded)
            script.works("getppid", opaque=True)
            script.returns(0, "prctl", C.PR_GET_SECCOMP)
            last = script.call("gettid", opaque=True)
        script.wait_for(last)
    with script.child() as pid:
        script.returns(-number, "getppid")
        if executes:
            with script.execution():
                script.returns(-number, "getppid")
    script.reap(pid)
    return script.case()


@given(
    batch=batches(
        st.builds(inheritance_story, st.integers(1, 4095), st.booleans(), st.booleans()), 4
    )
)
def test_a_filter_is_inherited(agent, features, batch):
    """Children and new images are bound too, other threads not: seccomp(2), prctl(2)."""
    hold(agent, batch, features)


def sync_story(number: int, diverged: bool) -> Case:
    """SECCOMP_FILTER_FLAG_TSYNC binds all threads, or names one that has gone its own way."""
    script = Filters()
    other = script.role()
    tid = script.works("clone", THREAD, 0, 0, 0, 0, opaque=True, starts=other)
    with script.by(other):
        if diverged:
            script.load(script.answer(C.SECCOMP_RET_ALLOW))
        ready = script.works("gettid", opaque=True)
    script.wait_for(ready)
    program = script.answer(C.SECCOMP_RET_ERRNO | number)
    load = ("seccomp", C.SECCOMP_SET_MODE_FILTER, C.SECCOMP_FILTER_FLAG_TSYNC, program)
    if diverged:
        done = script.works(*load, opaque=True)
        script.same(done, tid)
    else:
        done = script.returns(0, *load)
    with script.by(other):
        script.wait_for(done)
        if diverged:
            last = script.works("getppid", opaque=True)
        else:
            last = script.returns(-number, "getppid")
    script.wait_for(last)
    return script.case()


@given(batch=batches(st.builds(sync_story, st.integers(1, 4095), st.booleans()), SIZE))
def test_threads_are_synchronised_or_named(agent, features, batch):
    """TSYNC puts the filter on all threads, and returns the number of one that cannot follow:
    seccomp(2)."""
    hold(agent, batch, features)


def privilege_story(able: bool, nnp: bool, strict: bool) -> Case:
    """A filter needs CAP_SYS_ADMIN or no_new_privs, and nothing takes either mode back."""
    script = Filters()
    if nnp:
        script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        script.returns(-errno.EINVAL, "prctl", C.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
        script.returns(1, "prctl", C.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    if not able:
        script.returns(0, "setresuid", 1000, 1000, 1000)
    allowed = able or nnp
    script.load(script.answer(C.SECCOMP_RET_ALLOW), 0, 0 if allowed else -errno.EACCES)
    script.returns(2 if allowed else 0, "prctl", C.PR_GET_SECCOMP)
    if allowed:
        script.returns(-errno.EINVAL, "seccomp", C.SECCOMP_SET_MODE_STRICT, 0, 0)
    elif strict:
        with script.child() as pid:
            script.returns(0, "seccomp", C.SECCOMP_SET_MODE_STRICT, 0, 0)
            script.call("getpid")
        script.reap(pid, C.SIGKILL)
    script.load(script.program(statement(C.BPF_RET | C.BPF_K, 0)), 1 << 30, -errno.EINVAL)
    return script.case()


@given(batch=batches(st.builds(privilege_story, st.booleans(), st.booleans(), st.booleans())))
def test_a_filter_needs_power_or_none_to_gain(agent, features, batch):
    """EACCES without CAP_SYS_ADMIN and no_new_privs, strict mode kills, modes do not change:
    seccomp(2), no_new_privs.rst."""
    hold(agent, batch, features)


def taken(result: int) -> None:
    """It was answered already, and the caller has gone on or is about to."""
    assert result in (-errno.ENOENT, -errno.EINPROGRESS), f"a second answer: {result}"


def notify_story(answers: list[tuple[int, int]]) -> Case:
    """A supervisor answers each call that the filter hands it, by a value or an error."""
    script = Filters()
    listener = script.role()
    flags = C.SECCOMP_FILTER_FLAG_NEW_LISTENER
    fd = script.works(
        "seccomp", C.SECCOMP_SET_MODE_FILTER, flags, script.answer(C.SECCOMP_RET_USER_NOTIF)
    )
    script.works("clone", THREAD, 0, 0, 0, 0, opaque=True, starts=listener)
    pid = script.works("gettid", opaque=True)
    for value, error in answers:
        with script.by(listener):
            notice = script.room("struct seccomp_notif")
            got = script.returns(0, "ioctl", fd, C.SECCOMP_IOCTL_NOTIF_RECV, notice, out=[notice])
            answer = script.struct(
                "struct seccomp_notif_resp", id=notice.word(0, 8), val=value, error=-error
            )
            script.returns(0, "ioctl", fd, C.SECCOMP_IOCTL_NOTIF_SEND, answer)
            again = script.call("ioctl", fd, C.SECCOMP_IOCTL_NOTIF_SEND, answer, opaque=True)
            script.ensure(lambda trace, again=again: taken(trace[again]))

            def check(trace, got=got, notice=notice, value=value) -> None:
                seen = trace.struct(got, notice)
                assert (seen.pid, seen.data.nr, seen.data.args[0]) == (trace[pid], TARGET, value)

            script.ensure(check)
        script.returns(-error or value, "getppid", value)
        script.wait_for(again)
    return script.case()


replies = st.tuples(st.integers(1, 1 << 40), st.sampled_from([0, 0, 1, 13, 4095]))


@given(batch=batches(st.builds(notify_story, st.lists(replies, max_size=4)), SIZE))
def test_a_supervisor_answers_for_the_call(agent, features, batch):
    """The call waits, and returns the value or the error of the answer, which is taken once:
    seccomp_unotify(2)."""
    hold(agent, batch, features)
