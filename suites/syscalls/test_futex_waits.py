"""Waiting for futexes: many at once, by the newer calls, with a priority, and for how long."""

from __future__ import annotations

import errno
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Result, Store
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.cases import Case, Script, batches, hold
from hostabi.syscalls.table import C

PRIVATE = C.FUTEX_PRIVATE_FLAG
KIND = C.FUTEX2_SIZE_U32 | C.FUTEX2_PRIVATE
MOST = 128
"""FUTEX_WAITV_MAX: Documentation/userspace-api/futex2.rst."""
NOBODY = 0x3FFFFFF0
"""A thread id that no kernel gives: below FUTEX_TID_MASK, beyond the largest pid_max."""

word = st.integers(0, 3)
fault = st.sampled_from(
    ["", "", "", "", "flags", "reserved", "size", "unaligned", "address", "count", "large"]
)


def number(script: Script, value: int) -> Slot:
    return script.content(value.to_bytes(4, "little"))


def many(words: list[tuple[int, int]], fault: str, which: int) -> Case:  # noqa: PLR0912
    """futex_waitv: one word that is not as expected is enough not to wait."""
    script = Script()
    script.needs.add("futex:waitv")
    rows: list[dict] = []
    for held, expected in words:
        rows.append({"val": expected, "uaddr": number(script, held), "flags": KIND})
    spoilt = rows[which % len(rows)] if rows else {}
    count, flags = len(rows), 0
    result = -errno.ETIMEDOUT
    if any(held != expected for held, expected in words):
        result = -errno.EAGAIN
    early = [held == expected for held, expected in words[: which % max(len(rows), 1)]]
    if fault == "flags":
        flags, result = 1, -errno.EINVAL
    elif fault == "count" or not rows:
        count, result = 0, -errno.EINVAL
    elif fault == "large":
        count, result = MOST + 1, -errno.EINVAL
    elif fault == "reserved":
        spoilt["__reserved"], result = 1, -errno.EINVAL
    elif fault == "size":
        spoilt["flags"], result = KIND | 1 << 20, -errno.EINVAL
    elif fault == "unaligned":
        spoilt["uaddr"], result = spoilt["uaddr"].at(1, 3), -errno.EINVAL
    elif fault == "address":
        spoilt["uaddr"], result = 0x210000000000, -errno.EFAULT
    if fault == "address" and not all(early):
        result = -errno.EAGAIN  # the words before it are looked at first
    past = script.struct("struct __kernel_timespec", tv_nsec=1)
    waiters = script.array("struct futex_waitv", rows)
    arguments = ("futex_waitv", waiters, count, flags, past, C.CLOCK_MONOTONIC)
    if fault in ("unaligned", "address") and result != -errno.EAGAIN:
        script.returns(result, *arguments)
    elif fault in ("unaligned", "address"):
        ref = script.call(*arguments)
        script.ensure(lambda trace: among(trace[ref], errno.EAGAIN, errno.EINVAL, errno.EFAULT))
    else:
        script.returns(result, *arguments)
    return script.case()


def among(found: int, *able: int) -> None:
    assert -found in able, found


manys = st.builds(
    many,
    st.lists(st.tuples(word, st.one_of(word, st.just(0))), max_size=6),
    fault,
    st.integers(0, 5),
)


@given(batch=batches(manys))
def test_many_words_are_waited_for(agent, features, batch):
    """EAGAIN if one has changed, ETIMEDOUT if none has; what is no list of waiters is refused.

    Documentation/userspace-api/futex2.rst.
    """
    if "futex:waitv" not in features:
        unsupported("this kernel has no futex_waitv")
    hold(agent, batch, features)


def newer(held: int, expected: int, mask: int, flags: int) -> Case:
    """futex_wait, futex_wake and futex_requeue, each one operation of futex(2)."""
    script = Script()
    script.needs.add("futex2")
    place, other = number(script, held), number(script, held)
    past = script.struct("struct __kernel_timespec", tv_nsec=1)
    wrong = flags & ~KIND
    result = -errno.EAGAIN if held != expected else -errno.ETIMEDOUT
    if wrong or not mask:
        result = -errno.EINVAL
    script.returns(result, "futex_wait", place, expected, mask, flags, past, C.CLOCK_MONOTONIC)
    if mask:
        script.returns(-errno.EINVAL if wrong else 0, "futex_wake", place, mask, 1, flags)
    rows = [{"val": expected, "uaddr": slot, "flags": flags} for slot in (place, other)]
    pair = script.array("struct futex_waitv", rows)
    result = 0 if held == expected else -errno.EAGAIN
    script.returns(-errno.EINVAL if wrong else result, "futex_requeue", pair, 0, 1, 1)
    script.returns(-errno.EINVAL, "futex_requeue", pair, 1, 1, 1)
    return script.case()


newers = st.builds(
    newer, word, word, st.sampled_from([0, 1, (1 << 32) - 1]),
    st.sampled_from([KIND, KIND, C.FUTEX2_SIZE_U32, KIND | 1 << 20]),
)  # fmt: skip


@given(batch=batches(newers))
def test_the_newer_calls_wait_alike(agent, features, batch):
    """They compare, wake and requeue as the operations of futex(2) do, and know their flags.

    "futex: Add sys_futex_wait()" (cb8c4312afca) and the two beside it.
    """
    if "futex2" not in features:
        unsupported("this kernel has no futex_wait")
    hold(agent, batch, features)


def owned(state: str, command: str, bits: int) -> Case:
    """FUTEX_LOCK_PI goes by the thread id in the word."""
    script = Script()
    tid = script.works("gettid", opaque=True)
    start = {"free": 0, "nobody": NOBODY, "own": 0, "died": C.FUTEX_OWNER_DIED}[state]
    place = number(script, start)
    if state == "own":
        place = replace(place, stores=(Store(place.offset, Result(tid.call), 4),))
    code = getattr(C, f"FUTEX_{command}") | bits
    meant = {"free": 0, "died": 0, "own": -errno.EDEADLK, "nobody": -errno.ESRCH}[state]
    ref = script.returns(meant, "futex", place, code, 0, 0, 0, 0, out=[place])
    kept = C.FUTEX_OWNER_DIED if state == "died" else 0

    def check(trace) -> None:
        found = trace.number(ref, place)
        if state == "nobody":
            assert found == NOBODY | (found & C.FUTEX_WAITERS)
        else:
            assert found & ~C.FUTEX_WAITERS == trace[tid] | kept, f"{found:#x}"

    script.ensure(check)
    plain = replace(place, stores=())
    if meant == 0 or state == "own":
        given = (plain, C.FUTEX_UNLOCK_PI | bits, 0, 0, 0, 0)
        script.holds(script.returns(0, "futex", *given, out=[plain]), plain, bytes(4))
    script.returns(-errno.EPERM, "futex", plain, C.FUTEX_UNLOCK_PI | bits, 0, 0, 0, 0)
    return script.case()


ownings = st.builds(
    owned, st.sampled_from(["free", "nobody", "own", "died"]),
    st.sampled_from(["LOCK_PI", "TRYLOCK_PI"]), st.sampled_from([0, PRIVATE]),
)  # fmt: skip


@given(batch=batches(ownings))
def test_a_lock_with_priority_knows_its_owner(agent, features, batch):
    """A free one is taken, one's own is EDEADLK, one of nobody ESRCH, another's not given back.

    futex(2) on FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI and FUTEX_UNLOCK_PI.
    """
    hold(agent, batch, features)


def requeued(held: int, expected: int, wakes: int, same: bool, bits: int) -> Case:
    """From a plain word to one with priority, and nobody there to be moved."""
    script = Script()
    one = number(script, held)
    two = one if same else number(script, 0)
    past = script.struct("struct __kernel_timespec", tv_nsec=1)
    code = C.FUTEX_CMP_REQUEUE_PI | bits
    result = 0 if held == expected else -errno.EAGAIN
    if wakes != 1 or same:
        result = -errno.EINVAL
    script.returns(result, "futex", one, code, wakes, 1, two, expected)
    result = -errno.ETIMEDOUT if held == expected else -errno.EAGAIN
    if same:
        result = -errno.EINVAL
    code = C.FUTEX_WAIT_REQUEUE_PI | bits
    script.returns(result, "futex", one, code, expected, past, two, 0)
    return script.case()


requeues = st.builds(
    requeued, word, word, st.sampled_from([1, 1, 1, 0, 2]), st.sampled_from([False, False, True]),
    st.sampled_from([0, PRIVATE]),
)  # fmt: skip


@given(batch=batches(requeues))
def test_requeueing_to_a_priority_compares(agent, features, batch):
    """EAGAIN for a word that has changed, EINVAL for one word twice or for other than one to wake.

    futex(2) on FUTEX_CMP_REQUEUE_PI and FUTEX_WAIT_REQUEUE_PI.
    """
    hold(agent, batch, features)


def waited(length: int, absolute: bool, bits: int) -> Case:
    """Nobody wakes it, so it waits as long as it said, and not less."""
    script = Script()
    place = number(script, 1)
    before, after = (script.struct("struct __kernel_timespec") for _ in range(2))
    start = script.returns(0, "clock_gettime", C.CLOCK_MONOTONIC, before, out=[before])
    wait = script.struct("struct __kernel_timespec", tv_nsec=length)
    if absolute:
        code = C.FUTEX_WAIT_BITSET | bits
        script.returns(-errno.ETIMEDOUT, "futex", place, code, 1, wait, 0, 1)
        length = 0  # long past
    else:
        script.returns(-errno.ETIMEDOUT, "futex", place, C.FUTEX_WAIT | bits, 1, wait)
    end = script.returns(0, "clock_gettime", C.CLOCK_MONOTONIC, after, out=[after])

    def check(trace) -> None:
        moments = [trace.struct(*each) for each in ((start, before), (end, after))]
        first, last = (each.tv_sec * 10**9 + each.tv_nsec for each in moments)
        assert last - first >= length, f"{last - first} ns of {length}"

    script.ensure(check)
    wrong = script.struct("struct __kernel_timespec", tv_nsec=10**9)
    script.returns(-errno.EINVAL, "futex", place, C.FUTEX_WAIT | bits, 1, wrong)
    return script.case()


waits = st.builds(waited, st.integers(0, 3 * 10**6), st.booleans(), st.sampled_from([0, PRIVATE]))


@given(batch=batches(waits))
def test_a_wait_is_never_short(agent, features, batch):
    """At least the time given passes, and none when that is a moment of the past: futex(2)."""
    hold(agent, batch, features)


def robust(heads: list[int], size: int) -> Case:
    """The list of a thread is what it last said."""
    script = Script()
    head, length = script.buffer(8), script.buffer(8)
    last = 0
    for address in heads:
        script.returns(0, "set_robust_list", address, 24)
        script.returns(-errno.EINVAL, "set_robust_list", 0, size)
        last = address
        ref = script.returns(0, "get_robust_list", 0, head, length, out=[head, length])
        script.holds(ref, head, last.to_bytes(8, "little"))
        script.holds(ref, length, (24).to_bytes(8, "little"))
    script.returns(-errno.ESRCH, "get_robust_list", NOBODY, head, length)
    script.returns(0, "set_robust_list", 0, 24)
    return script.case()


address = st.integers(1, (1 << 47) - 1)
robusts = st.builds(
    robust, st.lists(address, max_size=4), st.integers(0, 100).filter(lambda size: size != 24)
)


@given(batch=batches(robusts))
def test_the_robust_list_is_kept(agent, features, batch):
    """What was set is got, EINVAL for another size, ESRCH for no thread: get_robust_list(2)."""
    hold(agent, batch, features)
