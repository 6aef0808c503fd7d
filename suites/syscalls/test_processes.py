"""Processes: how they are made, what they share, how they end and who is told."""

from __future__ import annotations

import errno

from families import THREAD, WALL, WNOHANG, Family, exited, mask_of
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

WCLONE = 0x80000000  # __WCLONE, wait(2); linux/wait.h
WSTOPPED, WEXITED, WCONTINUED, WNOWAIT = 2, 4, 8, 0x01000000
FATAL = (C.SIGHUP, C.SIGINT, C.SIGKILL, C.SIGUSR1, C.SIGPIPE, C.SIGALRM, C.SIGTERM, C.SIGVTALRM, 40)
PERIPHERAL = (C.SIGCHLD, C.SIGURG, C.SIGWINCH, C.SIGCONT)
SIZE = 4
"""Cases in a batch: each of them forks."""


def exit_story(codes: list[int], group: bool) -> Case:
    script = Family()
    for code in codes:
        with script.child() as pid:
            script.call("exit_group" if group else "exit", code)
        info = script.room("struct siginfo")
        ref = script.returns(0, "waitid", C.P_PID, pid, info, WEXITED | WNOWAIT, 0, out=[info])

        def check(trace, ref=ref, info=info, code=code) -> None:
            seen = trace.struct(ref, info)
            assert (seen.si_signo, seen.si_code) == (C.SIGCHLD, C.CLD_EXITED)
            assert seen.si_value & 0xFFFFFFFF == code & 0xFF

        script.ensure(check)
        script.reap(pid, exited(code))
        script.returns(-errno.ECHILD, "wait4", pid, 0, WALL, 0)
    return script.case()


codes = st.one_of(st.integers(0, 300), st.sampled_from([-1, 0xFF00, 1 << 31, 1 << 40]))


@given(batch=batches(st.builds(exit_story, st.lists(codes, max_size=4), st.booleans()), SIZE))
def test_the_status_of_an_exit_arrives(agent, features, batch):
    """The low eight bits of the status arrive, by wait4 and by waitid, once only.

    _exit(2), wait(2); WNOWAIT leaves the child to be waited for again.
    """
    hold(agent, batch, features)


def death_story(signals: list[int]) -> Case:
    script = Family()
    for number in signals:
        with script.child() as pid:
            ends = script.call("pause")
        script.wait_for(ends, Until.BEGUN)
        script.signal(pid, number)
        script.reap(pid, number)
    return script.case()


@given(batch=batches(st.builds(death_story, st.lists(st.sampled_from(FATAL), max_size=4)), SIZE))
def test_the_signal_of_a_death_arrives(agent, features, batch):
    """What ends by a signal reports just that signal, and no core: wait(2), signal(7)."""
    hold(agent, batch, features)


def stop_story(operations: list[str]) -> Case:
    """A child is stopped and continued; each change is told once, and only when asked for."""
    script = Family()
    with script.child() as pid:
        script.call("pause")
        script.call("pause")
    stopped, news = False, None
    for operation in operations:
        if operation == "stop":
            script.signal(pid, C.SIGSTOP)
            if not stopped:
                # A stop takes effect on its own time, so it is waited for, and left to be told.
                script.returns(0, "waitid", C.P_PID, pid, 0, WSTOPPED | WNOWAIT, 0)
                news = "stopped"
            stopped = True
        elif operation == "continue":
            script.signal(pid, C.SIGCONT)
            news = "continued" if stopped else news
            stopped = False
        else:
            options = {"stopped": WSTOPPED, "continued": WCONTINUED}[operation] | WNOHANG
            info = script.room("struct siginfo")
            ref = script.returns(0, "waitid", C.P_PID, pid, info, options, 0, out=[info])
            told = news == operation
            want = {"stopped": C.CLD_STOPPED, "continued": C.CLD_CONTINUED}[operation]

            def check(trace, ref=ref, info=info, code=want if told else 0) -> None:
                assert trace.struct(ref, info).si_code == code

            script.ensure(check)
            news = None if told else news
    script.signal(pid, C.SIGKILL)
    script.reap(pid, C.SIGKILL)
    return script.case()


operation = st.sampled_from(["stop", "continue", "stopped", "continued"])


@given(batch=batches(st.builds(stop_story, st.lists(operation, max_size=8)), SIZE))
def test_stops_and_continues_are_told_once(agent, features, batch):
    """waitid tells each stop and each continuation once, to who asks for that kind: wait(2)."""
    hold(agent, batch, features)


def signal_story(exit_signal: int, options: str) -> Case:
    """clone(2): the child's termination signal, and who may wait for such a "clone" child."""
    script = Family()
    script.block()
    with script.child(exit_signal) as pid:
        pass
    info = script.room("struct siginfo")
    script.returns(0, "waitid", C.P_PID, pid, info, WEXITED | WNOWAIT | WALL, 0)
    script.pending(mask_of([exit_signal]) if exit_signal else 0)
    plain = exit_signal == C.SIGCHLD
    if options == "all" or (options == "clone") != plain:
        flags = {"all": WALL, "clone": WCLONE, "none": 0}[options]
        script.same(script.works("wait4", pid, 0, flags, 0, opaque=True), pid)
    else:
        flags = WCLONE if options == "clone" else 0
        script.returns(-errno.ECHILD, "wait4", pid, 0, flags, 0)
        script.reap(pid)
    return script.case()


blockable = st.integers(0, 64).filter(lambda number: number not in (C.SIGKILL, C.SIGSTOP))
exit_signals = st.one_of(st.just(C.SIGCHLD), blockable)
waiting = st.sampled_from(["all", "clone", "none"])


@given(batch=batches(st.builds(signal_story, exit_signals, waiting), SIZE))
def test_the_exit_signal_is_the_one_asked_for(agent, features, batch):
    """The parent gets the signal that clone named; one other than SIGCHLD needs __WCLONE.

    clone(2), "The child termination signal"; wait(2) on __WCLONE and __WALL.
    """
    hold(agent, batch, features)


SHARED = {"files": C.CLONE_FILES, "fs": C.CLONE_FS}


def share_story(shared: set[str], undone: set[str], mask: int) -> Case:
    """The child closes a file, changes folder and umask; the parent sees what they share."""
    script = Family()
    script.returns(0, "mkdirat", C.AT_FDCWD, script.string("d"), 0o755)
    fd = script.open(".")
    flags = sum(SHARED[name] for name in shared)
    with script.child(flags | C.SIGCHLD) as pid:
        for name in sorted(undone):
            script.returns(0, "unshare", SHARED[name])
        script.returns(0, "close", fd)
        script.returns(0, "chdir", script.string("d"))
        script.returns(0o22, "umask", mask)
    script.reap(pid)
    common = shared - undone
    script.returns(-errno.EBADF if "files" in common else 0, "fcntl", fd, C.F_GETFD)
    script.returns(mask & 0o777 if "fs" in common else 0o22, "umask", 0)
    script.returns(
        -errno.ENOENT if "fs" in common else 0, "faccessat", C.AT_FDCWD, script.string("d"), 0
    )
    return script.case()


some = st.sets(st.sampled_from(sorted(SHARED)))


@given(batch=batches(st.builds(share_story, some, some, st.integers(0, 0o1777)), SIZE))
def test_what_is_shared_is_shared(agent, features, batch):
    """CLONE_FILES and CLONE_FS share descriptors, folder and umask, until unshare: clone(2),
    unshare(2), umask(2)."""
    hold(agent, batch, features)


TIDS = {
    "parent": C.CLONE_PARENT_SETTID,
    "child": C.CLONE_CHILD_SETTID,
    "clear": C.CLONE_CHILD_CLEARTID,
}


def tid_story(wanted: set[str]) -> Case:
    script = Family()
    parent, child = script.number(-7, 4), script.number(-7, 4)
    role = script.role()
    flags = sum(TIDS[name] for name in wanted) | C.SIGCHLD
    pid = script.works("clone", flags, 0, parent, child, 0, opaque=True, starts=role)
    with script.by(role):
        inside = script.works("getpid", opaque=True, out=[child])
    after = script.reap(pid)
    script.same(inside, pid)
    last = script.works("getppid", opaque=True, out=[parent, child])

    def check(trace) -> None:
        number = trace[pid].to_bytes(4, "little")
        none = (-7 % (1 << 32)).to_bytes(4, "little")
        assert trace.bytes(inside, child) == (number if "child" in wanted else none)
        assert trace.bytes(last, parent) == (number if "parent" in wanted else none)
        # The word is only cleared where others share the memory, which here they do not.
        assert trace.bytes(last, child) == (number if "child" in wanted else none)

    del after
    script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(tid_story, st.sets(st.sampled_from(sorted(TIDS)))), SIZE))
def test_thread_numbers_are_stored_where_asked(agent, features, batch):
    """CLONE_PARENT_SETTID and CLONE_CHILD_SETTID store the number before anyone looks: clone(2)."""
    hold(agent, batch, features)


def thread_story(clears: list[bool]) -> Case:
    """Threads have the process's pid, tids of their own, and clear their word as they end."""
    script = Family()
    pid = script.works("getpid", opaque=True)
    words = []
    for clear in clears:
        word, role = script.number(99, 4), script.role()
        flags = THREAD | (C.CLONE_CHILD_CLEARTID if clear else 0)
        tid = script.works("clone", flags, 0, 0, word, 0, opaque=True, starts=role)
        with script.by(role):
            script.same(script.works("getpid", opaque=True), pid)
            last = script.works("gettid", opaque=True)
        script.same(last, tid)
        if clear:
            # futex(2): the kernel wakes who waits on the word that it clears.
            script.call("futex", word, C.FUTEX_WAIT, 99, 0)
            words.append(word)
        else:
            script.wait_for(last)
    ref = script.works("getpid", opaque=True, out=words)
    for word in words:
        script.holds(ref, word, bytes(4))
    script.returns(-errno.ECHILD, "wait4", -1, 0, WALL, 0)
    return script.case()


@given(batch=batches(st.builds(thread_story, st.lists(st.booleans(), max_size=4)), SIZE))
def test_threads_are_of_one_process(agent, features, batch):
    """Threads share the pid, are nobody's children, and clear their word at the end.

    clone(2) on CLONE_THREAD and CLONE_CHILD_CLEARTID, set_tid_address(2).
    """
    hold(agent, batch, features)


FLAGS = (
    "CLONE_VM", "CLONE_FS", "CLONE_FILES", "CLONE_SIGHAND", "CLONE_THREAD", "CLONE_NEWNS",
    "CLONE_NEWUSER", "CLONE_NEWPID", "CLONE_NEWIPC", "CLONE_SYSVSEM", "CLONE_CLEAR_SIGHAND",
)  # fmt: skip


def refused(flags: frozenset[str], signal: int) -> bool:
    """The combinations for which clone(2) documents EINVAL."""
    has = flags.__contains__
    return (
        (has("CLONE_SIGHAND") and not has("CLONE_VM"))
        or (has("CLONE_THREAD") and not has("CLONE_SIGHAND"))
        or (has("CLONE_SIGHAND") and has("CLONE_CLEAR_SIGHAND"))
        or (has("CLONE_FS") and bool(flags & {"CLONE_NEWNS", "CLONE_NEWUSER"}))
        or (has("CLONE_NEWIPC") and has("CLONE_SYSVSEM"))
        or (has("CLONE_THREAD") and bool(flags & {"CLONE_NEWPID", "CLONE_NEWUSER"}))
        or (has("CLONE_THREAD") and signal != 0)
        or signal > 64
    )


def clone3_story(flags: frozenset[str], signal: int) -> Case:
    script = Family()
    script.block()
    if any(name.startswith("CLONE_NEW") for name in flags):
        script.needs.add("root")
    bits = sum(getattr(C, name) for name in flags)
    arguments = script.struct("struct clone_args", flags=bits, exit_signal=signal)
    role = script.role()
    if refused(flags, signal):
        script.returns(-errno.EINVAL, "clone3", arguments, arguments.size)
        return script.case()
    pid = script.works("clone3", arguments, arguments.size, opaque=True, starts=role)
    with script.by(role):
        last = script.works("gettid", opaque=True)
    if "CLONE_THREAD" in flags:
        script.wait_for(last)
    else:
        script.reap(pid)
    return script.case()


bits = st.lists(st.sampled_from(FLAGS), max_size=5).map(frozenset)


@given(
    batch=batches(st.builds(clone3_story, bits, st.sampled_from([0, 17, 10, 64, 65, 200])), SIZE)
)
def test_clone3_refuses_what_makes_no_sense(agent, features, batch):
    """Every combination works or is EINVAL as clone(2), "ERRORS", says."""
    hold(agent, batch, features)


def pidfd_story(reason: int, reap: str) -> Case:
    """A pidfd polls readable from the end on, and takes no signals once reaped."""
    script = Family()
    word = script.buffer(4)
    role = script.role()
    flags = C.CLONE_PIDFD | C.SIGCHLD
    pid = script.works("clone", flags, 0, word, 0, 0, opaque=True, starts=role)
    with script.by(role):
        ends = script.call("pause")
    fd = word.word(0)
    script.returns(C.FD_CLOEXEC, "fcntl", fd, C.F_GETFD)
    script.wait_for(ends, Until.BEGUN)
    poll = script.struct("struct pollfd", fd=fd, events=1)
    script.returns(0, "poll", poll, 1, 0)
    script.returns(0, "pidfd_send_signal", fd, 0, 0, 0)
    script.returns(0, "pidfd_send_signal", fd, reason, 0, 0)
    script.returns(1, "poll", poll, 1, -1)
    script.returns(0, "pidfd_send_signal", fd, 0, 0, 0)
    if reap == "pidfd":
        info = script.room("struct siginfo")
        ref = script.returns(0, "waitid", C.P_PIDFD, fd, info, WEXITED, 0, out=[info])

        def check(trace) -> None:
            seen = trace.struct(ref, info)
            assert (seen.si_code, seen.si_value & 0xFFFFFFFF) == (C.CLD_KILLED, reason)
            assert seen.si_pid == trace[pid]

        script.ensure(check)
    else:
        script.reap(pid, reason)
    script.returns(-errno.ESRCH, "pidfd_send_signal", fd, 0, 0, 0)
    script.returns(-errno.ECHILD, "waitid", C.P_PIDFD, fd, 0, WEXITED, 0)
    return script.case()


@given(
    batch=batches(
        st.builds(pidfd_story, st.sampled_from(FATAL), st.sampled_from(["pid", "pidfd"])), SIZE
    )
)
def test_a_pidfd_follows_its_process(agent, features, batch):
    """Readable at the end, ESRCH after reaping, waitid(P_PIDFD): pidfd_open(2),
    pidfd_send_signal(2), clone(2) on CLONE_PIDFD."""
    hold(agent, batch, features)


def orphan_story(reapers: list[bool]) -> Case:
    """A chain of processes whose last but one ends: the orphan goes to the nearest reaper."""
    script = Family()
    script.needs.add("orphans")
    pids = [script.works("getpid", opaque=True)]
    script.returns(0, "prctl", C.PR_SET_CHILD_SUBREAPER, 1)

    def descend(level: int) -> Ref:
        if level == len(reapers):
            orphan = script.role()
            with script.child() as middle:
                script.works("clone", C.SIGCHLD, 0, 0, 0, 0, opaque=True, starts=orphan)
            reaped = script.reap(middle)
            with script.by(orphan):
                script.wait_for(reaped)
                parent = script.works("getppid", opaque=True)
            script.wait_for(parent)
            return parent
        with script.child() as pid:
            pids.append(script.works("getpid", opaque=True))
            script.returns(0, "prctl", C.PR_SET_CHILD_SUBREAPER, int(reapers[level]))
            parent = descend(level + 1)
            script.wait_for(parent)
        script.reap(pid)
        return parent

    parent = descend(0)
    nearest = max([0, *(level + 1 for level, reaper in enumerate(reapers) if reaper)])
    script.same(parent, pids[nearest])
    return script.case()


@given(batch=batches(st.builds(orphan_story, st.lists(st.booleans(), max_size=4)), SIZE))
def test_orphans_go_to_the_nearest_subreaper(agent, features, batch):
    """PR_SET_CHILD_SUBREAPER is not inherited, and the nearest ancestor that has it adopts.

    PR_SET_CHILD_SUBREAPER(2const), prctl(2).
    """
    hold(agent, batch, features)
