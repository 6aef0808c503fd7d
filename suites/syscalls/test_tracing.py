"""ptrace and kcmp: stops and their order, memory and registers, and what two processes share."""

from __future__ import annotations

import errno

from families import Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 4
TRAP = 5


def stopped(signal: int, event: int = 0) -> int:
    """The status that wait(2) stores for a stop."""
    return event << 16 | signal << 8 | 0x7F


class Tracer(Family):
    """A family whose first process traces."""

    powerful = True

    def told(self, pid: Ref, status: int) -> None:
        self.reap(pid, status)

    def go(self, how: int, pid: Ref, signal: int = 0) -> None:
        self.returns(0, "ptrace", how, pid, 0, signal)

    def traced(self, how: str, options: int = 0):
        """A child that is traced and stopped; its role and its pid."""
        role, pid = self.spawn()
        if how == "traceme":
            with self.by(role):
                self.returns(0, "ptrace", C.PTRACE_TRACEME, 0, 0, 0)
                me = self.works("getpid", opaque=True)
                self.call("kill", me, C.SIGSTOP)  # which a death may end
            self.told(pid, stopped(C.SIGSTOP))
        else:
            with self.by(role):
                slept = self.call("pause")
            self.wait_for(slept, Until.BEGUN)
            if how == "attach":
                self.go(C.PTRACE_ATTACH, pid)
                self.told(pid, stopped(C.SIGSTOP))
            else:
                self.returns(0, "ptrace", C.PTRACE_SEIZE, pid, 0, options)
                self.returns(0, "ptrace", C.PTRACE_INTERRUPT, pid, 0, 0)
                self.told(pid, stopped(TRAP, C.PTRACE_EVENT_STOP))
        if options and how != "seize":
            self.returns(0, "ptrace", C.PTRACE_SETOPTIONS, pid, 0, options)
        return role, pid


def memory_story(how: str, words: list[int]) -> Case:
    """What is poked into the child is what it finds, and what it has is what is peeked."""
    script = Tracer()
    room = script.number(77)
    at = 0x200000000000 + room.offset
    private = 0x300000000000
    script.works(
        "mmap", private, 4096, 3, C.MAP_PRIVATE | C.MAP_ANONYMOUS | C.MAP_FIXED, -1, 0, opaque=True
    )
    _, pid = script.traced(how)
    out = script.buffer(8)
    ref = script.returns(0, "ptrace", C.PTRACE_PEEKDATA, pid, at, out, out=[out])
    script.holds(ref, out, (77).to_bytes(8, "little"))
    for index, word in enumerate(words):
        script.returns(0, "ptrace", C.PTRACE_POKEDATA, pid, private + 8 * index, word)
    for index, word in enumerate(words):
        ref = script.returns(
            0, "ptrace", C.PTRACE_PEEKDATA, pid, private + 8 * index, out, out=[out]
        )
        script.holds(ref, out, word.to_bytes(8, "little"))
    if words:
        # The same through process_vm_readv(2).
        size = 8 * len(words)
        local = script.buffer(size)
        mine = script.array("struct iovec", [{"iov_base": local, "iov_len": size}])
        its = script.array("struct iovec", [{"iov_base": private, "iov_len": size}])
        ref = script.returns(size, "process_vm_readv", pid, mine, 1, its, 1, 0, out=[local])
        script.holds(ref, local, b"".join(word.to_bytes(8, "little") for word in words))
    script.returns(-errno.EIO, "ptrace", C.PTRACE_PEEKDATA, pid, 8, out)
    script.signal(pid, C.SIGKILL)
    script.reap(pid, C.SIGKILL)
    return script.case()


ways = st.sampled_from(["traceme", "attach", "seize"])


@given(
    batch=batches(
        st.builds(memory_story, ways, st.lists(st.integers(0, (1 << 64) - 1), max_size=4)), SIZE
    )
)
def test_memory_is_peeked_and_poked(agent, features, batch):
    """Words go in and come back, in the child's own copy of a page; EIO where nothing is mapped:
    ptrace(2), process_vm_readv(2)."""
    hold(agent, batch, features)


def signal_story(signals: list[tuple[int, bool]]) -> Case:
    """Each signal stops the child first; the tracer lets it through or not."""
    script = Tracer()
    role, pid = script.traced("traceme")
    ended = False
    for number, deliver in signals:
        if ended:
            break
        with script.by(role):
            me = script.works("getpid", opaque=True)
            script.call("kill", me, number)
        script.go(C.PTRACE_CONT, pid, 0)
        script.told(pid, stopped(number))
        room = script.room("struct siginfo")
        ref = script.returns(0, "ptrace", C.PTRACE_GETSIGINFO, pid, 0, room, out=[room])
        script.ensure(
            lambda trace, ref=ref, room=room, number=number: same_number(
                trace.struct(ref, room), number
            )
        )
        if deliver:
            script.go(C.PTRACE_CONT, pid, number)
            script.reap(pid, number)
            ended = True
    if not ended:
        with script.by(role):
            script.call("exit", 9)
        script.go(C.PTRACE_CONT, pid, 0)
        script.reap(pid, 9 << 8)
    return script.case()


def same_number(seen, number: int) -> None:
    assert seen.si_signo == number


fatal = st.sampled_from([C.SIGHUP, C.SIGINT, C.SIGUSR1, C.SIGTERM, C.SIGALRM, 40])


@given(
    batch=batches(
        st.builds(signal_story, st.lists(st.tuples(fatal, st.booleans()), max_size=4)), SIZE
    )
)
def test_the_tracer_sees_every_signal_first(agent, features, batch):
    """A signal-delivery stop for each, with its siginfo; one that is not passed on is gone:
    ptrace(2)."""
    hold(agent, batch, features)


def call_story(numbers: list[int]) -> Case:
    """Entry and exit stops in turn, each with the call's number, arguments or result."""
    script = Tracer()
    role, pid = script.traced("traceme", C.PTRACE_O_TRACESYSGOOD | C.PTRACE_O_EXITKILL)
    info = script.room("struct ptrace_syscall_info")
    for value in numbers:
        with script.by(role):
            script.call("umask", value)
        for entry in (True, False):
            script.go(C.PTRACE_SYSCALL, pid)
            script.told(pid, stopped(TRAP | 0x80))
            ref = script.works(
                "ptrace", C.PTRACE_GET_SYSCALL_INFO, pid, info.size, info, out=[info], opaque=True
            )
            script.ensure(
                lambda trace, ref=ref, entry=entry, value=value: told_call(
                    trace, ref, info, entry, value
                )
            )
    script.signal(pid, C.SIGKILL)
    script.reap(pid, C.SIGKILL)
    return script.case()


def told_call(trace, ref: Ref, info, entry: bool, value: int) -> None:
    seen = trace.struct(ref, info)
    assert seen.op == (C.PTRACE_SYSCALL_INFO_ENTRY if entry else C.PTRACE_SYSCALL_INFO_EXIT)
    if entry:
        assert (seen.entry.nr, seen.entry.args[0]) == (95, value)  # umask, asm/unistd_64.h


@given(batch=batches(st.builds(call_story, st.lists(st.integers(0, 0o777), max_size=3)), 3))
def test_calls_stop_at_entry_and_exit(agent, features, batch):
    """With PTRACE_O_TRACESYSGOOD, SIGTRAP|0x80 at both, and PTRACE_GET_SYSCALL_INFO tells which:
    ptrace(2)."""
    hold(agent, batch, features)


EVENTS = {
    "fork": (C.PTRACE_O_TRACEFORK, C.PTRACE_EVENT_FORK),
    "exec": (C.PTRACE_O_TRACEEXEC, C.PTRACE_EVENT_EXEC),
    "exit": (C.PTRACE_O_TRACEEXIT, C.PTRACE_EVENT_EXIT),
}


def event_story(kind: str, asked: set[str], code: int) -> Case:
    """An event stop for what was asked for, with a message that fits; nothing for the rest."""
    script = Tracer()
    options = sum(EVENTS[name][0] for name in asked) | C.PTRACE_O_EXITKILL
    role, pid = script.traced("traceme", options)
    with script.by(role):
        if kind == "exec":
            with script.execution():
                script.call("exit", code)
        script.call("exit", code)
    script.go(C.PTRACE_CONT, pid)
    message = script.buffer(8)
    if kind in asked and kind != "exit":
        script.told(pid, stopped(TRAP, EVENTS[kind][1]))
        ref = script.returns(0, "ptrace", C.PTRACE_GETEVENTMSG, pid, 0, message, out=[message])
        script.ensure(lambda trace: equal(trace.number(ref, message), trace[pid]))
        script.go(C.PTRACE_CONT, pid)
    elif kind == "exec":
        script.told(pid, stopped(TRAP))  # a plain SIGTRAP, as from the beginning of ptrace
        script.go(C.PTRACE_CONT, pid)
    finish(script, pid, "exit" in asked, code, message)
    return script.case()


def equal(found: int, want: int) -> None:
    assert found == want, f"{found}, must be {want}"


def finish(script: Tracer, pid: Ref, asked: bool, code: int, message) -> None:
    """To the end, past an exit stop that tells the status to come."""
    if asked:
        script.told(pid, stopped(TRAP, C.PTRACE_EVENT_EXIT))
        ref = script.returns(0, "ptrace", C.PTRACE_GETEVENTMSG, pid, 0, message, out=[message])
        script.ensure(lambda trace: equal(trace.number(ref, message), code << 8))
        script.go(C.PTRACE_CONT, pid)
    script.reap(pid, code << 8)


@given(
    batch=batches(
        st.builds(
            event_story,
            st.sampled_from(["exec", "exit"]),
            st.sets(st.sampled_from(sorted(EVENTS))),
            st.integers(0, 255),
        ),
        SIZE,
    )
)
def test_events_stop_who_is_asked_about(agent, features, batch):
    """Event stops for execve and exit as asked, with pid and status as message; without, a plain
    SIGTRAP after execve: ptrace(2)."""
    hold(agent, batch, features)


def refusal_story(kind: str) -> Case:
    """Who cannot be traced: oneself, who is traced already, who is not dumpable for an ordinary
    user."""
    script = Tracer()
    if kind == "self":
        me = script.works("getpid", opaque=True)
        script.returns(-errno.EPERM, "ptrace", C.PTRACE_ATTACH, me, 0, 0)
    elif kind == "twice":
        _, pid = script.traced("seize")
        script.returns(-errno.EPERM, "ptrace", C.PTRACE_ATTACH, pid, 0, 0)
        with script.child() as other:
            script.returns(-errno.EPERM, "ptrace", C.PTRACE_SEIZE, pid, 0, 0)
        script.reap(other)
        script.signal(pid, C.SIGKILL)
        script.reap(pid, C.SIGKILL)
    elif kind == "none":
        script.returns(-errno.ESRCH, "ptrace", C.PTRACE_ATTACH, 1 << 22, 0, 0)
        script.returns(-errno.ESRCH, "ptrace", C.PTRACE_CONT, 1, 0, 0)
    else:
        role, pid = script.spawn()
        with script.by(role):
            script.returns(0, "prctl", C.PR_SET_DUMPABLE, 0)
            slept = script.call("pause")
        script.wait_for(slept, Until.BEGUN)
        script.returns(0, "prctl", C.PR_SET_SECUREBITS, 0)
        with script.child() as other:
            script.returns(0, "setresuid", 1000, 1000, 1000)
            script.returns(-errno.EPERM, "ptrace", C.PTRACE_SEIZE, pid, 0, 0)
        script.reap(other)
        script.returns(0, "ptrace", C.PTRACE_SEIZE, pid, 0, 0)
        script.signal(pid, C.SIGKILL)
        script.reap(pid, C.SIGKILL)
    return script.case()


@given(
    batch=batches(
        st.builds(refusal_story, st.sampled_from(["self", "twice", "none", "dumpable"])), SIZE
    )
)
def test_some_cannot_be_traced(agent, features, batch):
    """EPERM and ESRCH as ptrace(2), "ERRORS" and "Ptrace access mode checking", says."""
    hold(agent, batch, features)


SHARES = {
    "VM": C.CLONE_VM, "FILES": C.CLONE_FILES, "FS": C.CLONE_FS, "SIGHAND": C.CLONE_SIGHAND,
    "SYSVSEM": C.CLONE_SYSVSEM, "IO": C.CLONE_IO,
}  # fmt: skip


def share_story(shared: set[str]) -> Case:
    """kcmp says equal for just what clone was told to share."""
    script = Tracer()
    script.needs.add("kcmp")
    if "SIGHAND" in shared:
        shared = shared | {"VM"}
    # Something to share: an undo list and an I/O context are made at first use.
    sem = script.works("semget", 0, 1, 0o600, opaque=True)
    up = script.struct("struct sembuf", sem_op=1, sem_flg=0x1000)  # SEM_UNDO, linux/sem.h
    script.returns(0, "semop", sem, up, 1)
    script.returns(0, "ioprio_set", 1, 0, 2 << 13 | 4)
    me = script.works("getpid", opaque=True)
    role, pid = script.spawn(sum(SHARES[name] for name in shared) | C.SIGCHLD)
    with script.by(role):
        slept = script.call("pause")
    script.wait_for(slept, Until.BEGUN)
    for name in SHARES:
        kind = getattr(C, f"KCMP_{name}")
        if name in shared:
            script.returns(0, "kcmp", me, pid, kind, 0, 0)
        else:
            ref = script.works("kcmp", me, pid, kind, 0, 0, opaque=True)
            script.ensure(lambda trace, ref=ref: different(trace[ref]))
    fd = script.open(".")
    other = script.open(".")
    same = script.works("dup", fd)
    script.returns(0, "kcmp", me, me, C.KCMP_FILE, fd, same)
    ref = script.works("kcmp", me, me, C.KCMP_FILE, fd, other, opaque=True)
    script.ensure(lambda trace: different(trace[ref]))
    script.returns(-errno.EBADF, "kcmp", me, me, C.KCMP_FILE, fd, 99)
    script.returns(-errno.EINVAL, "kcmp", me, me, 99, 0, 0)
    script.signal(pid, C.SIGKILL)
    script.reap(pid, C.SIGKILL)
    return script.case()


def different(value: int) -> None:
    assert value in (1, 2), f"kcmp says {value}, must be less or greater"


@given(batch=batches(st.builds(share_story, st.sets(st.sampled_from(sorted(SHARES)))), SIZE))
def test_kcmp_tells_what_is_shared(agent, features, batch):
    """Equal for what is shared, an order for what is not: kcmp(2), clone(2)."""
    hold(agent, batch, features)
