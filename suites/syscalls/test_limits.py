"""Resource limits hold, each at its own place, and are changed by the rules."""

from __future__ import annotations

import errno

from credentials import EPERM, Credentials
from families import THREAD, mask_of
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

SIZE = 6
PAGE = 4096
INFINITY = (1 << 64) - 1
USER = 1000


class Limits(Credentials):
    """A family that limits itself."""

    def limit(self, resource: int, soft: int, hard: int | None = None, result: int = 0) -> None:
        value = self.struct(
            "struct rlimit64", rlim_cur=soft, rlim_max=soft if hard is None else hard
        )
        self.returns(result, "prlimit64", 0, resource, value, 0)

    def limited(self, resource: int, soft: int, hard: int) -> None:
        room = self.room("struct rlimit64")
        ref = self.returns(0, "prlimit64", 0, resource, 0, room, out=[room])
        self.holds(ref, room, soft.to_bytes(8, "little") + hard.to_bytes(8, "little"))

    def ordinary(self) -> None:
        """An ordinary user from here on."""
        self.returns(0, "setresuid", USER, USER, USER)


RESOURCES = (
    C.RLIMIT_CPU, C.RLIMIT_FSIZE, C.RLIMIT_DATA, C.RLIMIT_STACK, C.RLIMIT_CORE, C.RLIMIT_RSS,
    C.RLIMIT_NPROC, C.RLIMIT_MEMLOCK, C.RLIMIT_AS, C.RLIMIT_LOCKS, C.RLIMIT_SIGPENDING,
    C.RLIMIT_MSGQUEUE, C.RLIMIT_NICE, C.RLIMIT_RTPRIO, C.RLIMIT_RTTIME,
)  # fmt: skip
HUGE = 1 << 40


def change_story(resource: int, able: bool, values: list[tuple[int, int]]) -> Case:
    """Soft below hard, hard only down but for CAP_SYS_RESOURCE; children inherit."""
    script = Limits()
    soft, hard = HUGE, HUGE + 100
    script.limit(resource, soft, hard)
    if not able:
        script.ordinary()
    for new_soft, new_hard in values:
        low, high = HUGE + new_soft, HUGE + new_hard
        result = -errno.EINVAL if low > high else EPERM if high > hard and not able else 0
        script.limit(resource, low, high, result)
        if not result:
            soft, hard = low, high
        script.limited(resource, soft, hard)
    with script.child() as pid:
        script.limited(resource, soft, hard)
        script.limit(resource, soft, soft)
    script.reap(pid)
    script.limited(resource, soft, hard)
    return script.case()


pairs = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=5)


@given(
    batch=batches(st.builds(change_story, st.sampled_from(RESOURCES), st.booleans(), pairs), SIZE)
)
def test_limits_change_by_the_rules(agent, features, batch):
    """EINVAL for soft above hard, EPERM for a raised hard limit without CAP_SYS_RESOURCE, and each
    process has its own: getrlimit(2)."""
    hold(agent, batch, features)


def file_story(limit: int, writes: list[tuple[int, int]], truncate: int) -> Case:
    """Nothing of a file lies beyond RLIMIT_FSIZE: writes are cut there, or EFBIG and SIGXFSZ."""
    script = Limits()
    script.block(mask_of([C.SIGXFSZ]))
    script.limit(C.RLIMIT_FSIZE, limit)
    fd = script.open("f", C.O_RDWR | C.O_CREAT, 0o600)
    data, size, exceeded = script.content(b"x" * 300), 0, False
    for at, length in writes:
        if not length:
            continue
        if at >= limit:
            script.returns(-errno.EFBIG, "pwrite64", fd, data, length, at)
            exceeded = True
        else:
            done = min(length, limit - at)
            script.returns(done, "pwrite64", fd, data, length, at)
            size = max(size, at + done)
        script.pending(mask_of([C.SIGXFSZ]) if exceeded else 0)
    script.returns(0 if truncate <= limit else -errno.EFBIG, "ftruncate", fd, truncate)
    size = truncate if truncate <= limit else size
    script.returns(size, "lseek", fd, 0, C.SEEK_END)
    script.returns(-errno.EFBIG, "fallocate", fd, 0, limit, 1)
    return script.case()


writes = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=5)


@given(batch=batches(st.builds(file_story, st.integers(1, 300), writes, st.integers(0, 400))))
def test_files_grow_to_the_limit(agent, features, batch):
    """RLIMIT_FSIZE cuts a write at the limit, EFBIG and SIGXFSZ beyond it: getrlimit(2), write(2),
    truncate(2), fallocate(2)."""
    hold(agent, batch, features)


def memory_story(which: str, pages: int, asked: list[int]) -> Case:
    """Address space or data beyond the limit is ENOMEM, and fits again after munmap."""
    script = Limits()
    resource = C.RLIMIT_AS if which == "as" else C.RLIMIT_DATA
    # What the process has already is not ours to know, so the limit is far above it.
    spare, unknown = 1 << 17, 1 << 16
    script.limit(resource, (spare + pages) * PAGE)
    for count in asked:
        arguments = (
            "mmap",
            0,
            (spare + count) * PAGE,
            3,
            C.MAP_PRIVATE | C.MAP_ANONYMOUS | C.MAP_NORESERVE,
            -1,
            0,
        )
        if count >= pages:
            script.returns(-errno.ENOMEM, *arguments)
        elif count < pages - unknown:
            ref = script.works(*arguments, opaque=True)
            script.returns(0, "munmap", ref, (spare + count) * PAGE)
    return script.case()


counts = st.integers(0, 1 << 17)


@given(
    batch=batches(
        st.builds(
            memory_story, st.sampled_from(["as", "data"]), counts, st.lists(counts, max_size=5)
        )
    )
)
def test_memory_is_limited(agent, features, batch):
    """RLIMIT_AS and RLIMIT_DATA: mmap beyond is ENOMEM, and below works: getrlimit(2), mmap(2)."""
    hold(agent, batch, features)


def lock_story(pages: int, asked: list[int], how: str) -> Case:
    """An ordinary user locks so many pages and no more."""
    script = Limits()
    at = 0x300000000000
    script.works(
        "mmap", at, 64 * PAGE, 3, C.MAP_PRIVATE | C.MAP_ANONYMOUS | C.MAP_FIXED, -1, 0, opaque=True
    )
    script.limit(C.RLIMIT_MEMLOCK, pages * PAGE)
    script.ordinary()
    held = 0
    for count in asked:
        if how == "mlock":
            if not pages:
                script.returns(EPERM, "mlock", at, count * PAGE)
                continue
            fits = max(count, held) <= pages
            script.returns(0 if fits else -errno.ENOMEM, "mlock", at, count * PAGE)
            held = max(count, held) if fits else held
        else:
            flags = C.MAP_PRIVATE | C.MAP_ANONYMOUS | C.MAP_LOCKED
            arguments = ("mmap", 0, count * PAGE, 3, flags, -1, 0)
            if not pages:
                script.returns(EPERM, *arguments)
            elif held + count <= pages:
                script.works(*arguments, opaque=True)
                held += count
            else:
                script.returns(-errno.EAGAIN, *arguments)
    return script.case()


@given(
    batch=batches(
        st.builds(
            lock_story,
            st.integers(0, 8),
            st.lists(st.integers(1, 10), max_size=4),
            st.sampled_from(["mlock", "mmap"]),
        )
    )
)
def test_locked_memory_is_limited(agent, features, batch):
    """RLIMIT_MEMLOCK: ENOMEM of mlock, EAGAIN of mmap, EPERM where it is 0: getrlimit(2), mlock(2),
    mmap(2)."""
    hold(agent, batch, features)


def process_story(limit: int, tries: int, able: bool) -> Case:
    """A user's processes and threads are counted together."""
    script = Limits()
    script.returns(0, "setresuid", 4321, *((0, 0) if able else (4321, 4321)))
    script.limit(C.RLIMIT_NPROC, limit)
    live = 1
    for index in range(tries):
        role = script.role()
        flags = THREAD if index % 2 else C.SIGCHLD
        if able or live < limit:
            script.works("clone", flags, 0, 0, 0, 0, opaque=True, starts=role)
            with script.by(role):
                begun = script.call("pause")
            script.wait_for(begun, Until.BEGUN)
            live += 1
        else:
            script.returns(-errno.EAGAIN, "clone", flags, 0, 0, 0, 0, starts=role)
    return script.case()


@given(
    batch=batches(st.builds(process_story, st.integers(1, 4), st.integers(0, 5), st.booleans()), 3)
)
def test_processes_of_a_user_are_limited(agent, features, batch):
    """RLIMIT_NPROC: EAGAIN beyond, but not for who has CAP_SYS_RESOURCE: getrlimit(2), fork(2)."""
    hold(agent, batch, features)


def queue_story(limit: int, count: int, number: int) -> Case:
    """Real-time signals queue up to the user's limit, standard ones always once."""
    script = Limits()
    script.block()
    script.returns(0, "setresuid", 4322, 4322, 4322)
    script.limit(C.RLIMIT_SIGPENDING, limit)
    pid = script.works("getpid", opaque=True)
    info = script.struct("struct siginfo", si_signo=number, si_code=C.SI_QUEUE)
    for index in range(count):
        script.returns(0 if index < limit else -errno.EAGAIN, "rt_sigqueueinfo", pid, number, info)
    # kill(2) of a standard signal succeeds always.
    script.signal(pid, C.SIGUSR1)
    want = [C.SIGUSR1] + ([number] if min(limit, count) else [])
    script.pending(mask_of(want))
    now = script.struct("struct __kernel_timespec")
    mask = script.number(mask_of([number]))
    for _ in range(min(limit, count)):
        script.returns(number, "rt_sigtimedwait", mask, 0, now, 8)
    script.returns(-errno.EAGAIN, "rt_sigtimedwait", mask, 0, now, 8)
    return script.case()


@given(
    batch=batches(
        st.builds(queue_story, st.integers(0, 6), st.integers(0, 8), st.integers(C.SIGRTMIN, 64)),
        SIZE,
    )
)
def test_queued_signals_are_limited(agent, features, batch):
    """RLIMIT_SIGPENDING: EAGAIN of sigqueue beyond it, and what fitted arrives: getrlimit(2),
    rt_sigqueueinfo(2), sigqueue(3)."""
    hold(agent, batch, features)


def message_story(limit: int, queues: list[tuple[int, int]]) -> Case:
    """POSIX queues take what they could hold off the user's bytes."""
    script = Limits()
    script.returns(0, "setresuid", 4323, 4323, 4323)
    script.limit(C.RLIMIT_MSGQUEUE, limit)
    used = 0
    for index, (count, size) in enumerate(queues):
        attributes = script.struct("struct mq_attr", mq_maxmsg=count, mq_msgsize=size)
        name = script.string(f"contract{index}")
        # mq_overview(7): the overhead counts, a tree node and a message's head for each.
        cost = count * size + count * (48 + 48)
        least = count * size + count * 8
        arguments = ("mq_open", name, C.O_RDWR | C.O_CREAT, 0o600, attributes)
        if used + cost + 200 <= limit:
            script.works(*arguments, opaque=True)
            used += cost
        elif used + least > limit:
            script.returns(-errno.EMFILE, *arguments)
        else:
            break
    for index in range(len(queues)):
        script.call("mq_unlink", script.string(f"contract{index}"))
    return script.case()


queues = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 8192)), max_size=4)


@given(batch=batches(st.builds(message_story, st.integers(0, 100000), queues), SIZE))
def test_message_queues_are_limited(agent, features, batch):
    """RLIMIT_MSGQUEUE: the bytes of all of the user's queues together, else EMFILE: getrlimit(2),
    mq_overview(7), mq_open(3)."""
    hold(agent, batch, features)


def nice_story(limit: int, values: list[int]) -> Case:
    """An ordinary user may go down to 20 minus the limit, and up as it likes."""
    script = Limits()
    script.limit(C.RLIMIT_NICE, limit)
    script.ordinary()
    now = 0
    for value in values:
        allowed = value >= now or value >= 20 - limit
        script.returns(0 if allowed else -errno.EACCES, "setpriority", C.PRIO_PROCESS, 0, value)
        now = value if allowed else now
        script.returns(20 - now, "getpriority", C.PRIO_PROCESS, 0)
    return script.case()


@given(
    batch=batches(
        st.builds(nice_story, st.integers(0, 40), st.lists(st.integers(-20, 19), max_size=6))
    )
)
def test_nice_values_are_limited(agent, features, batch):
    """RLIMIT_NICE: EACCES below its ceiling: getrlimit(2), setpriority(2)."""
    hold(agent, batch, features)


def priority_story(limit: int, steps: list[tuple[int, int]]) -> Case:
    """Real-time priorities up to the limit, or down from where one is."""
    script = Limits()
    script.limit(C.RLIMIT_RTPRIO, limit)
    script.ordinary()
    policy, priority = C.SCHED_NORMAL, 0
    for new_policy, new_priority in steps:
        real = new_policy in (C.SCHED_FIFO, C.SCHED_RR)
        value = script.number(new_priority if real else 0, 4)
        allowed = True
        if real:
            new = new_priority
            allowed = (new_policy == policy or limit > 0) and (new <= priority or new <= limit)
        script.returns(0 if allowed else EPERM, "sched_setscheduler", 0, new_policy, value)
        if allowed:
            policy, priority = new_policy, new_priority if real else 0
        script.returns(policy, "sched_getscheduler", 0)
        room = script.buffer(4)
        ref = script.returns(0, "sched_getparam", 0, room, out=[room])
        script.holds(ref, room, priority.to_bytes(4, "little"))
    return script.case()


policies = st.sampled_from([C.SCHED_NORMAL, C.SCHED_FIFO, C.SCHED_RR, C.SCHED_BATCH])
steps = long_lists(st.tuples(policies, st.integers(1, 99)), 4)


@given(batch=batches(st.builds(priority_story, st.integers(0, 99), steps)))
def test_real_time_priorities_are_limited(agent, features, batch):
    """RLIMIT_RTPRIO: EPERM above it unless it is no raise: getrlimit(2), sched(7), "Privileges and
    resource limits"."""
    hold(agent, batch, features)
