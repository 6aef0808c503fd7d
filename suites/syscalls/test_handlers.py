"""Signal handlers that run: masks, flags, stacks, order, interrupted calls, timers."""

from __future__ import annotations

import errno

from families import Family, mask_of
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 6
ARENA = 0x200000000000
ENTRY = 32
"""Bytes that the handler writes: signal, code, value, stack pointer, mask in force."""


class Handlers(Family):
    """Machine code in the arena that writes down each signal it is run for.

    The log is a counter of 8 bytes, then an entry for each run: the number (4 bytes), si_code
    (4), si_value (8), the stack pointer (8) and the blocked signals (8).
    """

    def __init__(self, slots: int = 16) -> None:
        super().__init__()
        self.slots = slots
        self.log = self.content(bytes(8 + ENTRY * slots))
        log = ARENA + self.log.offset
        code = b"".join(
            (
                b"\x48\xb8" + log.to_bytes(8, "little"),  # mov log, %rax
                b"\x48\x8b\x08",  # mov (%rax), %rcx
                b"\x48\xff\x00",  # incq (%rax)
                b"\x48\xc1\xe1\x05",  # shl $5, %rcx
                b"\x48\x8d\x44\x08\x08",  # lea 8(%rax,%rcx), %rax
                b"\x89\x38",  # mov %edi, (%rax)
                b"\x8b\x4e\x08",  # mov 8(%rsi), %ecx: si_code
                b"\x89\x48\x04",  # mov %ecx, 4(%rax)
                b"\x48\x8b\x4e\x18",  # mov 24(%rsi), %rcx: si_value
                b"\x48\x89\x48\x08",  # mov %rcx, 8(%rax)
                b"\x48\x89\x60\x10",  # mov %rsp, 16(%rax)
                b"\x48\x8d\x50\x18",  # lea 24(%rax), %rdx
                b"\x31\xff\x31\xf6",  # SIG_BLOCK, no set
                b"\x41\xba\x08\x00\x00\x00",  # mov $8, %r10d
                b"\xb8\x0e\x00\x00\x00",  # rt_sigprocmask
                b"\x0f\x05",  # syscall
                b"\xc3",  # ret
            )
        )
        self.code = self.content(code)
        # The restorer: rt_sigreturn, sigreturn(2).
        self.restorer = self.content(b"\xb8\x0f\x00\x00\x00\x0f\x05")
        self.returns(0, "mprotect", ARENA, 65536, C.PROT_READ | C.PROT_WRITE | C.PROT_EXEC)
        self.me = self.works("getpid", opaque=True)

    def handle(self, number: int, flags: int = 0, mask: int = 0) -> None:
        """Run the code for a signal."""
        action = self.struct(
            "struct sigaction",
            sa_handler=self.code,
            sa_flags=flags | C.SA_RESTORER | C.SA_SIGINFO,
            sa_restorer=self.restorer,
            sa_mask=mask,
        )
        self.returns(0, "rt_sigaction", number, action, 0, 8)

    def logged(self, check) -> None:
        """``check`` gets the entries so far: (signal, code, value, stack, mask) each."""
        ref = self.works("getpid", opaque=True, out=[self.log])

        def read(trace) -> None:
            raw = trace.bytes(ref, self.log)
            count = int.from_bytes(raw[:8], "little")
            entries = []
            for index in range(min(count, self.slots)):
                at = raw[8 + ENTRY * index : 8 + ENTRY * (index + 1)]
                numbers = [
                    int.from_bytes(at[a:b], "little")
                    for a, b in ((0, 4), (4, 8), (8, 16), (16, 24), (24, 32))
                ]
                entries.append(tuple(numbers))
            check(entries)

        self.ensure(read)

    def numbers(self, *want: int) -> None:
        """The handler ran for these, in this order."""

        def check(entries) -> None:
            found = [entry[0] for entry in entries]
            assert found == list(want), f"handled {found}, must be {list(want)}"

        self.logged(check)


SIGNALS = (C.SIGHUP, C.SIGUSR1, C.SIGUSR2, C.SIGTERM, C.SIGRTMIN, C.SIGRTMIN + 3)


def order_story(sent: list[int]) -> Case:
    """Blocked while they arrive, then all at once: lowest first, each as often as it queued."""
    script = Handlers()
    for number in set(sent):
        script.handle(number, 0, (1 << 64) - 1)
    script.block()
    for number in sent:
        script.signal(script.me, number)
    script.block(0)
    want = sorted({number for number in sent if number < C.SIGRTMIN})
    want += sorted(number for number in sent if number >= C.SIGRTMIN)
    script.numbers(*want)
    return script.case()


@given(batch=batches(st.builds(order_story, st.lists(st.sampled_from(SIGNALS), max_size=8)), SIZE))
def test_unblocked_signals_are_handled_lowest_first(agent, features, batch):
    """Standard signals once, real-time signals each time, the lowest number first, before the call
    that unblocks returns: signal(7), sigprocmask(2)."""
    hold(agent, batch, features)


def mask_story(number: int, mask: int, flags: int, own: int) -> Case:
    """During the handler its mask, the one before and the signal itself are blocked; then as
    before."""
    script = Handlers()
    script.handle(number, flags, mask)
    unblockable = mask_of([C.SIGKILL, C.SIGSTOP])
    own &= ~mask_of([number])
    script.block(own)
    script.signal(script.me, number)
    inside = (mask | own | (0 if flags & C.SA_NODEFER else mask_of([number]))) & ~unblockable

    def check(entries) -> None:
        assert [entry[4] for entry in entries] == [inside], f"{entries} must block {inside:#x}"

    script.logged(check)
    room = script.buffer(8)
    ref = script.returns(0, "rt_sigprocmask", C.SIG_BLOCK, 0, room, 8, out=[room])
    script.holds(ref, room, (own & ~unblockable).to_bytes(8, "little"))
    return script.case()


masks = st.one_of(st.just(0), st.integers(0, (1 << 64) - 1))
number = st.sampled_from(SIGNALS)


@given(
    batch=batches(
        st.builds(mask_story, number, masks, st.sampled_from([0, C.SA_NODEFER]), masks), SIZE
    )
)
def test_the_mask_in_a_handler(agent, features, batch):
    """sa_mask, the mask before and, without SA_NODEFER, the signal itself: sigaction(2),
    sigreturn(2)."""
    hold(agent, batch, features)


def reset_story(number: int, flags: int, times: int) -> Case:
    """SA_RESETHAND: handled once, and the default from then on."""
    script = Handlers()
    with script.child() as pid:
        script.handle(number, flags)
        me = script.works("getpid", opaque=True)
        for index in range(times):
            if index and flags & C.SA_RESETHAND:
                script.call("kill", me, number)
                break
            script.signal(me, number)
            script.numbers(*[number] * (index + 1))
    dead = times > 1 and flags & C.SA_RESETHAND
    script.reap(pid, number if dead else 0)
    return script.case()


resets = st.sampled_from([0, C.SA_RESETHAND, C.SA_RESETHAND | C.SA_NODEFER])


@given(batch=batches(st.builds(reset_story, number, resets, st.integers(0, 3)), SIZE))
def test_a_handler_may_be_for_once(agent, features, batch):
    """SA_RESETHAND restores the default action as the handler is entered: sigaction(2)."""
    hold(agent, batch, features)


def stack_story(number: int, flags: int, size: int, kind: int) -> Case:
    """With SA_ONSTACK the handler runs on the alternate stack, else where the program runs."""
    script = Handlers()
    at = 0x300000000000
    script.works(
        "mmap", at, 1 << 16, 3, C.MAP_PRIVATE | C.MAP_ANONYMOUS | C.MAP_FIXED, -1, 0, opaque=True
    )
    stack = script.struct("struct sigaltstack", ss_sp=at, ss_flags=kind, ss_size=size)
    fits = size >= 2048  # MINSIGSTKSZ, asm/signal.h
    script.returns(0 if fits else -errno.ENOMEM, "sigaltstack", stack, 0)
    script.handle(number, flags)
    if fits and (size >= 1 << 14 or not flags & C.SA_ONSTACK):
        script.signal(script.me, number)
        used = bool(flags & C.SA_ONSTACK)

        def check(entries) -> None:
            inside = [at <= entry[3] < at + size for entry in entries]
            assert inside == [used], f"on the alternate stack: {inside}, must be {used}"

        script.logged(check)
    room = script.room("struct sigaltstack")
    ref = script.returns(0, "sigaltstack", 0, room, out=[room])

    def same(trace) -> None:
        raw = trace.bytes(ref, room)
        seen = (
            int.from_bytes(raw[:8], "little"),
            int.from_bytes(raw[8:12], "little", signed=True),
            int.from_bytes(raw[16:24], "little"),
        )
        assert seen == ((at, kind, size) if fits else (0, C.SS_DISABLE, 0)), f"{seen}"

    script.ensure(same)
    wrong = script.struct("struct sigaltstack", ss_sp=at, ss_flags=77, ss_size=size)
    script.returns(-errno.EINVAL, "sigaltstack", wrong, 0)
    return script.case()


SS_AUTODISARM = -(1 << 31)  # the top bit of an int: sigaltstack(2)
sizes = st.sampled_from([100, 2047, 2048, 1 << 14, 1 << 15, 1 << 16])


@given(
    batch=batches(
        st.builds(
            stack_story,
            number,
            st.sampled_from([0, C.SA_ONSTACK]),
            sizes,
            st.sampled_from([0, SS_AUTODISARM]),
        ),
        SIZE,
    )
)
def test_handlers_run_on_the_alternate_stack(agent, features, batch):
    """SA_ONSTACK uses it, too small a one is ENOMEM, and it is there again after the handler even
    if it disarms itself: sigaltstack(2)."""
    hold(agent, batch, features)


def restart_story(number: int, flags: int, call: str) -> Case:
    """A thread's call that waits is interrupted: it starts again or fails as its kind does."""
    script = Handlers()
    pipe = script.buffer(8)
    script.returns(0, "pipe2", pipe, 0)
    script.handle(number, flags)
    role, pid = script.spawn()
    restarts = bool(flags & C.SA_RESTART) and call in ("read", "wait4")
    with script.by(role):
        if call == "read":
            ref = script.call("read", pipe.word(0), script.buffer(4), 4)
        elif call == "pause":
            ref = script.call("pause")
        elif call == "poll":
            ref = script.call(
                "poll", script.struct("struct pollfd", fd=pipe.word(0), events=1), 1, -1
            )
        elif call == "nanosleep":
            ref = script.call(
                "nanosleep", script.struct("struct __kernel_timespec", tv_sec=1000), 0
            )
        else:
            ref = script.call("rt_sigsuspend", script.number(0), 8)
    script.wait_for(ref, Until.ASLEEP)
    script.signal(pid, number)
    if restarts:
        script.wait_for(ref, Until.ASLEEP)
        script.returns(4, "write", pipe.word(1), script.content(b"data"), 4)
    script.reap(pid)
    want = 4 if restarts else -errno.EINTR
    script.ensure(lambda trace: result_is(trace[ref], want))
    script.numbers(number)
    return script.case()


def result_is(found: int, want: int) -> None:
    assert found == want, f"the call that waited returned {found}, must be {want}"


calls = st.sampled_from(["read", "read", "pause", "poll", "nanosleep", "rt_sigsuspend"])


@given(
    batch=batches(st.builds(restart_story, number, st.sampled_from([0, C.SA_RESTART]), calls), SIZE)
)
def test_calls_that_wait_are_interrupted(agent, features, batch):
    """EINTR, but read(2) of a pipe starts again with SA_RESTART, and poll, pause and nanosleep
    never do: signal(7), "Interruption of system calls and library functions by signal handlers"."""
    hold(agent, batch, features)


def timer_story(kind: str, number: int, value: int) -> Case:
    """A timer's signal carries its value, to the process or to the thread it names."""
    script = Handlers()
    tid = script.works("gettid", opaque=True)
    notify = {
        "signal": C.SIGEV_SIGNAL,
        "thread": C.SIGEV_SIGNAL | C.SIGEV_THREAD_ID,
        "none": C.SIGEV_NONE,
    }[kind]
    # struct sigevent begins with the value, then number, notification and thread.
    event = script.vector(value, number | notify << 32, tid, 0, 0, 0, 0, 0)
    timer = script.buffer(4)
    script.block()
    script.returns(0, "timer_create", C.CLOCK_MONOTONIC, event, timer)
    soon = script.vector(0, 0, 0, 1)
    script.returns(0, "timer_settime", timer.word(0), 0, soon, 0)
    info = script.room("struct siginfo")
    mask = script.number(mask_of([number]))
    if kind == "none":
        short = script.struct("struct __kernel_timespec", tv_nsec=1000000)
        script.returns(-errno.EAGAIN, "rt_sigtimedwait", mask, info, short, 8)
    else:
        ref = script.returns(number, "rt_sigtimedwait", mask, info, 0, 8, out=[info])

        def check(trace) -> None:
            raw = trace.bytes(ref, info)
            code = int.from_bytes(raw[8:12], "little", signed=True)
            found = int.from_bytes(raw[24:32], "little")
            assert (code, found) == (C.SI_TIMER, value), f"code {code}, value {found}"

        script.ensure(check)
        script.returns(0, "timer_getoverrun", timer.word(0))
    left = script.buffer(32)
    ref2 = script.returns(0, "timer_gettime", timer.word(0), left, out=[left])
    script.holds(ref2, left, bytes(32))
    script.returns(0, "timer_delete", timer.word(0))
    script.returns(-errno.EINVAL, "timer_delete", timer.word(0))
    return script.case()


@given(
    batch=batches(
        st.builds(
            timer_story,
            st.sampled_from(["signal", "thread", "none"]),
            number,
            st.integers(0, (1 << 63) - 1),
        ),
        SIZE,
    )
)
def test_timers_signal_with_their_value(agent, features, batch):
    """SI_TIMER with the value that timer_create was given, none with SIGEV_NONE, and nothing is
    left after the only shot: timer_create(2), sigevent(3type), timer_settime(2),
    timer_getoverrun(2)."""
    hold(agent, batch, features)


def children_story(how: str, count: int) -> Case:
    """Children whose end nobody wants to know of leave no zombie; others wait to be told."""
    script = Handlers()
    if how == "ignored":
        script.returns(
            0,
            "rt_sigaction",
            C.SIGCHLD,
            script.struct("struct sigaction", sa_handler=C.SIG_IGN),
            0,
            8,
        )
    elif how == "nocldwait":
        script.handle(C.SIGCHLD, C.SA_NOCLDWAIT)
    else:
        script.handle(C.SIGCHLD)
    for _ in range(count):
        with script.child() as pid:
            script.call("getpid")
        if how == "handled":
            script.reap(pid)
        else:
            # wait(2): it waits for all children and then fails.
            script.returns(-errno.ECHILD, "wait4", pid, 0, 0, 0)
    script.numbers(*([] if how == "ignored" else [C.SIGCHLD] * count))
    return script.case()


@given(
    batch=batches(
        st.builds(
            children_story, st.sampled_from(["ignored", "nocldwait", "handled"]), st.integers(0, 3)
        ),
        4,
    )
)
def test_zombies_are_for_those_who_ask(agent, features, batch):
    """SIG_IGN for SIGCHLD and SA_NOCLDWAIT leave none: wait(2), "NOTES"; sigaction(2)."""
    hold(agent, batch, features)


def fork_story(number: int, clear: bool, mask: int) -> Case:
    """A child has its parent's handlers and mask, and nothing pending."""
    script = Handlers()
    script.handle(number)
    own = mask | mask_of([number])
    script.block(own)
    script.signal(script.me, number)
    arguments = script.struct(
        "struct clone_args", exit_signal=C.SIGCHLD, flags=C.CLONE_CLEAR_SIGHAND if clear else 0
    )
    role = script.role()
    pid = script.works("clone3", arguments, arguments.size, opaque=True, starts=role)
    with script.by(role):
        script.pending(0)
        room = script.buffer(8)
        ref = script.returns(0, "rt_sigprocmask", C.SIG_BLOCK, 0, room, 8, out=[room])
        script.holds(ref, room, (own & ~mask_of([C.SIGKILL, C.SIGSTOP])).to_bytes(8, "little"))
        action = script.room("struct sigaction")
        seen = script.returns(0, "rt_sigaction", number, 0, action, 8, out=[action])
    script.reap(pid)
    script.ensure(
        lambda trace: address_is(
            trace.bytes(seen, action), 0 if clear else ARENA + script.code.offset
        )
    )
    # The child's own end is told as well, where that waits.
    told = [C.SIGCHLD] if own >> (C.SIGCHLD - 1) & 1 else []
    script.pending(mask_of([number, *told]))
    return script.case()


def address_is(raw: bytes, want: int) -> None:
    found = int.from_bytes(raw[:8], "little")
    assert found == want, f"the handler is {found:#x}, must be {want:#x}"


@given(batch=batches(st.builds(fork_story, number, st.booleans(), masks), SIZE))
def test_a_child_inherits_handlers_but_nothing_pending(agent, features, batch):
    """fork keeps dispositions and mask and empties the pending set, CLONE_CLEAR_SIGHAND resets
    handlers: fork(2), clone(2), signal(7)."""
    hold(agent, batch, features)
