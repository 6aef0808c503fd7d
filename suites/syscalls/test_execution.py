"""What survives execve(2), and what does not: measured from inside the new image."""

from __future__ import annotations

import errno

from families import EVERY_SIGNAL, SELF, THREAD, Family, mask_of
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 4
"""Cases in a batch: each of them executes."""
PAGE = 4096
SIGNALS = (C.SIGHUP, C.SIGINT, C.SIGUSR1, C.SIGUSR2, C.SIGPIPE, C.SIGTERM, C.SIGCHLD, C.SIGRTMIN)


def descriptor_story(files: list[tuple[bool, int]]) -> Case:
    """Files at offsets of their own; those marked so are closed, the others stay as they were."""
    script = Family()
    script.make_file("f", bytes(100))
    fds = []
    for cloexec, offset in files:
        fd = script.open("f", C.O_RDWR | C.O_APPEND | (C.O_CLOEXEC if cloexec else 0))
        script.returns(offset, "lseek", fd, offset, C.SEEK_SET)
        fds.append(fd)
    with script.execution():
        for fd, (cloexec, offset) in zip(fds, files, strict=True):
            script.returns(-errno.EBADF if cloexec else 0, "fcntl", fd, C.F_GETFD)
            script.returns(-errno.EBADF if cloexec else offset, "lseek", fd, 0, C.SEEK_CUR)
            status = C.O_RDWR | C.O_APPEND | C.O_LARGEFILE
            script.returns(-errno.EBADF if cloexec else status, "fcntl", fd, C.F_GETFL)
    return script.case()


files = st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=6)


@given(batch=batches(st.builds(descriptor_story, files), SIZE))
def test_close_on_exec_closes(agent, features, batch):
    """Marked descriptors are closed; the others keep offset and status: execve(2), open(2)."""
    hold(agent, batch, features)


def action_story(actions: dict[int, str]) -> Case:
    """Handlers are reset, SIG_IGN stays: sigaction of the new image tells."""
    script = Family()
    for number, kind in actions.items():
        handler = {"ignored": C.SIG_IGN, "default": C.SIG_DFL, "handled": 0x1000}[kind]
        action = script.struct(
            "struct sigaction", sa_handler=handler, sa_flags=C.SA_RESTART, sa_mask=5
        )
        script.returns(0, "rt_sigaction", number, action, 0, 8)
    with script.execution():
        for number, kind in actions.items():
            room = script.room("struct sigaction")
            ref = script.returns(0, "rt_sigaction", number, 0, room, 8, out=[room])
            want = C.SIG_IGN if kind == "ignored" else C.SIG_DFL

            def check(trace, ref=ref, room=room, want=want) -> None:
                assert int(trace.struct(ref, room).sa_handler or 0) == want

            script.ensure(
                lambda trace, ref=ref, room=room, want=want: handler_is(trace, ref, room, want)
            )
    return script.case()


def handler_is(trace, ref, room, want: int) -> None:
    """The handler as a number; cffi has a pointer."""
    raw = trace.bytes(ref, room)
    assert int.from_bytes(raw[:8], "little") == want, f"handler {raw[:8]!r}, must be {want}"
    assert raw[8:16] == bytes(8) or want == C.SIG_IGN, "flags are reset with the handler"


actions = st.dictionaries(
    st.sampled_from(SIGNALS), st.sampled_from(["ignored", "default", "handled"]), max_size=5
)


@given(batch=batches(st.builds(action_story, actions), SIZE))
def test_handlers_are_reset_and_ignored_signals_stay(agent, features, batch):
    """Dispositions over execve: execve(2), signal(7)."""
    hold(agent, batch, features)


def mask_story(mask: int, sent: list[int]) -> Case:
    """The mask stays, and what waits behind it waits on."""
    script = Family()
    script.block(mask)
    pid = script.works("getpid", opaque=True)
    for number in sent:
        if mask >> (number - 1) & 1:
            script.signal(pid, number)
    unblockable = mask_of([C.SIGKILL, C.SIGSTOP])
    with script.execution():
        room = script.buffer(8)
        ref = script.returns(0, "rt_sigprocmask", C.SIG_BLOCK, 0, room, 8, out=[room])
        script.holds(ref, room, (mask & ~unblockable).to_bytes(8, "little"))
        script.pending(mask_of([number for number in sent if mask >> (number - 1) & 1]))
    return script.case()


masks = st.one_of(st.just(EVERY_SIGNAL), st.integers(0, EVERY_SIGNAL))


@given(
    batch=batches(
        st.builds(mask_story, masks, st.lists(st.sampled_from(SIGNALS[:-2]), max_size=4)), SIZE
    )
)
def test_the_mask_and_what_is_pending_stay(agent, features, batch):
    """The signal mask and the set of pending signals are preserved: execve(2), signal(7)."""
    hold(agent, batch, features)


def attribute_story(mask: int, nice: int, limit: int, seconds: int, persona: int) -> Case:
    """Attributes of the process that belong to no image."""
    script = Family()
    pid = script.works("getpid", opaque=True)
    session = script.works("getsid", 0, opaque=True)
    script.returns(0o22, "umask", mask)
    script.returns(0, "mkdirat", C.AT_FDCWD, script.string("d"), 0o777)
    script.returns(0, "chdir", script.string("d"))
    script.returns(0, "setpriority", C.PRIO_PROCESS, 0, nice)
    limits = script.struct("struct rlimit64", rlim_cur=limit, rlim_max=limit + 1)
    script.returns(0, "prlimit64", 0, C.RLIMIT_SIGPENDING, limits, 0)
    script.returns(0, "alarm", seconds)
    script.returns(0, "personality", persona)
    with script.execution():
        script.same(script.works("getpid", opaque=True), pid)
        script.same(script.works("getsid", 0, opaque=True), session)
        script.returns(mask & 0o777, "umask", 0)
        script.returns(0, "faccessat", C.AT_FDCWD, script.string("../d"), 0)
        script.returns(20 - nice, "getpriority", C.PRIO_PROCESS, 0)
        room = script.room("struct rlimit64")
        ref = script.returns(0, "prlimit64", 0, C.RLIMIT_SIGPENDING, 0, room, out=[room])
        script.holds(ref, room, limit.to_bytes(8, "little") + (limit + 1).to_bytes(8, "little"))
        left = script.works("alarm", 0, opaque=True)
        script.ensure(lambda trace: in_range(trace[left], seconds - 100, seconds))
        script.returns(persona, "personality", 0xFFFFFFFF)
    return script.case()


def in_range(value: int, low: int, high: int) -> None:
    assert low <= value <= high, f"{value} is not from {low} to {high}"


PERSONAS = (0, 0x0040000, 0x4000000, 0x0040000 | 0x8000000)  # linux/personality.h: no SUID bits


@given(
    batch=batches(
        st.builds(
            attribute_story,
            st.integers(0, 0o777).filter(lambda mask: not mask & 0o100),
            st.integers(0, 19),
            st.integers(10, 1000),
            st.integers(200, 1000),
            st.sampled_from(PERSONAS),
        ),
        SIZE,
    )
)
def test_attributes_of_the_process_stay(agent, features, batch):
    """Pid, session, umask, folder, nice value, limits, alarm and personality: execve(2), which
    lists what is not preserved; alarm(2), getrlimit(2), personality(2)."""
    hold(agent, batch, features)


def memory_story(pages: int, lock: bool, shared: bool) -> Case:
    """Mappings, locks on memory, the signal stack and timers end with the image."""
    script = Family()
    at = 0x300000000000
    kind = C.MAP_SHARED if shared else C.MAP_PRIVATE
    flags = kind | C.MAP_ANONYMOUS | C.MAP_FIXED
    script.returns(at, "mmap", at, pages * PAGE, C.PROT_READ | C.PROT_WRITE, flags, -1, 0)
    if lock:
        script.returns(0, "mlock", at, pages * PAGE)
    stack = script.struct("struct sigaltstack", ss_sp=at, ss_size=pages * PAGE)
    script.returns(0, "sigaltstack", stack, 0)
    event = script.struct("struct sigevent", sigev_notify=C.SIGEV_NONE)
    timer = script.buffer(4)
    script.returns(0, "timer_create", C.CLOCK_MONOTONIC, event, timer)
    script.returns(0, "timer_getoverrun", timer.word(0))
    vector = script.buffer(pages)
    script.returns(0, "mincore", at, pages * PAGE, vector)
    with script.execution():
        script.returns(-errno.ENOMEM, "mincore", at, pages * PAGE, vector)
        script.returns(-errno.EINVAL, "timer_getoverrun", timer.word(0))
        room = script.room("struct sigaltstack")
        ref = script.returns(0, "sigaltstack", 0, room, out=[room])
        script.ensure(lambda trace: no_stack(trace.struct(ref, room)))
    return script.case()


def no_stack(seen) -> None:
    assert seen.ss_flags == C.SS_DISABLE, f"flags of the signal stack are {seen.ss_flags}"


@given(
    batch=batches(st.builds(memory_story, st.integers(2, 16), st.booleans(), st.booleans()), SIZE)
)
def test_the_memory_of_the_image_is_gone(agent, features, batch):
    """No mapping, POSIX timer or alternate signal stack survives: execve(2)."""
    hold(agent, batch, features)


def name_story(name: str) -> Case:
    """The name of the process becomes the file's, cut to fifteen bytes."""
    script = Family()
    script.copy_agent(name)
    script.returns(0, "prctl", C.PR_SET_NAME, script.string("other"))
    with script.execution(name):
        room = script.buffer(16)
        ref = script.returns(0, "prctl", C.PR_GET_NAME, room, out=[room])
        script.holds(ref, room, name.encode()[:15].ljust(16, b"\0"))
        script.reads("/proc/self/comm", name.encode()[:15])
    return script.case()


names = st.text("abcxyz019-_+.:é日", min_size=1, max_size=30).filter(
    lambda name: name not in {".", ".."}
)


@given(batch=batches(st.builds(name_story, names), 2))
def test_the_process_is_named_after_the_file(agent, features, batch):
    """The basename of what is executed, at most 15 bytes: proc_pid_comm(5), PR_SET_NAME(2const)."""
    hold(agent, batch, features)


def argument_story(name: bytes, environment: list[bytes]) -> Case:
    """Arguments and environment arrive byte by byte."""
    script = Family()
    role = script.role()
    words = (name, b"--resume", str(role.number).encode())
    vector = script.vector(*map(script.string, words))
    script.returns(
        0, "execve", script.string(SELF), vector, script.vector(*map(script.string, environment)),
        starts=role,
    )  # fmt: skip
    with script.by(role):
        for path, strings in (("cmdline", words), ("environ", environment)):
            want = b"".join(word + b"\0" for word in strings)
            fd, room = script.open(f"/proc/self/{path}"), script.buffer(len(want) + 16)
            ref = script.returns(len(want), "read", fd, room, room.size, out=[room])
            script.holds(ref, room, want.ljust(room.size, b"\0"))
    return script.case()


words = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"x"))


@given(batch=batches(st.builds(argument_story, words, st.lists(words, max_size=5)), SIZE))
def test_arguments_and_environment_arrive(agent, features, batch):
    """What execve was given is what /proc/pid/cmdline and environ show: execve(2),
    proc_pid_cmdline(5), proc_pid_environ(5)."""
    hold(agent, batch, features)


def room_story(limit: int, spare: int) -> Case:
    """A quarter of RLIMIT_STACK is what arguments and environment may take, 128 KiB at least."""
    script = Family()
    script.returns(
        0,
        "prlimit64",
        0,
        C.RLIMIT_STACK,
        script.struct("struct rlimit64", rlim_cur=limit, rlim_max=limit),
        0,
    )
    word = script.string(b"x" * (PAGE * 8 - 1))
    room = max(limit // 4, 32 * PAGE)
    # Beyond the words themselves only pointers and the names of the agent count: far under a page.
    count = (room - PAGE) // (PAGE * 8) + spare
    role = script.role()
    fits = (count * PAGE * 8 + PAGE // 2) <= room
    environment = script.vector(*[word] * count)
    call = (script.string(SELF), script.image(role), environment)
    script.returns(0 if fits else -errno.E2BIG, "execve", *call, starts=role)
    with script.by(role):
        script.call("getpid")
    return script.case()


@given(
    batch=batches(
        st.builds(room_story, st.integers(1, 32).map(lambda n: n * 128 * 1024), st.integers(0, 2)),
        2,
    )
)
def test_arguments_have_a_quarter_of_the_stack(agent, features, batch):
    """One quarter of RLIMIT_STACK, and never less than 32 pages, else E2BIG: execve(2), "Limits
    on size of arguments and environment"."""
    hold(agent, batch, features)


def thread_story(others: int, leader: bool) -> Case:
    """Whoever of the threads executes becomes the leader; the others are gone."""
    script = Family()
    pid = script.works("getpid", opaque=True)
    sleeping = []
    for _ in range(others):
        role = script.role()
        script.works("clone", THREAD, 0, 0, 0, 0, opaque=True, starts=role)
        with script.by(role):
            sleeping.append(script.call("pause"))
    for ref in sleeping:
        script.wait_for(ref, Until.ASLEEP)
    if leader:
        execute(script, pid)
    else:
        role = script.role()
        script.works("clone", THREAD, 0, 0, 0, 0, opaque=True, starts=role)
        leads = script.call("pause")
        with script.by(role):
            script.wait_for(leads, Until.BEGUN)
            execute(script, pid)
    return script.case()


def execute(script: Family, pid) -> None:
    with script.execution():
        script.same(script.works("getpid", opaque=True), pid)
        script.same(script.works("gettid", opaque=True), pid)
        fd, room = script.open("/proc/self/status"), script.buffer(2048)
        ref = script.works("read", fd, room, room.size, out=[room], opaque=True)
        script.ensure(lambda trace: alone(trace.bytes(ref, room)))


def alone(status: bytes) -> None:
    assert b"\nThreads:\t1\n" in status, "other threads are left"


@given(batch=batches(st.builds(thread_story, st.integers(0, 3), st.booleans()), SIZE))
def test_one_thread_is_left_and_leads(agent, features, batch):
    """All other threads are destroyed, and the one that executes has the leader's number:
    execve(2), "Effect on process attributes"; proc_pid_status(5)."""
    hold(agent, batch, features)


def script_story(depth: int) -> Case:
    """A chain of scripts, each the interpreter of the next, the agent at its end."""
    script = Family()
    role = script.role()
    path = str(role.number)
    script.make_file(path, f"#!{SELF} --resume\n".encode(), 0o755)
    for level in range(depth):
        script.make_file(f"s{level}", f"#!{path}\n".encode(), 0o755)
        path = f"s{level}"
    # Five interpreters in a row are followed: Linux counts as fs/exec.c, exec_binprm, does.
    result = 0 if depth < 5 else -errno.ELOOP
    script.returns(
        result,
        "execve",
        script.string(path),
        script.vector(script.string("x")),
        script.vector(),
        starts=role,
    )
    with script.by(role):
        script.call("getpid")
    return script.case()


@given(batch=batches(st.builds(script_story, st.integers(0, 6)), SIZE))
def test_interpreters_may_be_scripts_to_a_depth(agent, features, batch):
    """Scripts may be interpreters of scripts, to a depth: execve(2), "Interpreter scripts"."""
    hold(agent, batch, features)


def flag_story(value: int) -> Case:
    """Flags of the process: no_new_privs and the subreaper stay, the others are set anew."""
    script = Family()
    script.needs.add("root")  # who has it has not set no_new_privs
    nnp, keep, dumpable, signal = value & 1, value >> 1 & 1, value >> 2 & 1, value >> 3 & 31
    if nnp:
        script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    script.returns(0, "prctl", C.PR_SET_KEEPCAPS, keep)
    script.returns(0, "prctl", C.PR_SET_DUMPABLE, dumpable)
    script.returns(0, "prctl", C.PR_SET_PDEATHSIG, signal)
    script.returns(0, "prctl", C.PR_SET_CHILD_SUBREAPER, nnp)
    with script.execution():
        script.returns(nnp, "prctl", C.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
        script.returns(0, "prctl", C.PR_GET_KEEPCAPS)
        script.returns(1, "prctl", C.PR_GET_DUMPABLE)
        room = script.number(-1, 4)
        ref = script.returns(0, "prctl", C.PR_GET_PDEATHSIG, room, out=[room])
        script.holds(ref, room, signal.to_bytes(4, "little"))
        ref = script.returns(0, "prctl", C.PR_GET_CHILD_SUBREAPER, room, out=[room])
        script.holds(ref, room, nnp.to_bytes(4, "little"))
    return script.case()


@given(batch=batches(st.builds(flag_story, st.integers(0, 255)), SIZE))
def test_flags_of_the_process_over_execution(agent, features, batch):
    """no_new_privs, the parent-death signal and the subreaper stay, keepcaps is cleared, dumpable
    is set.

    execve(2), prctl(2) and its pages on PR_SET_KEEPCAPS, PR_SET_DUMPABLE, PR_SET_PDEATHSIG.
    """
    hold(agent, batch, features)
