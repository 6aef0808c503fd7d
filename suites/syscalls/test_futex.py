"""futex operations of one process: arithmetic, comparisons, ownership, refusals."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

WORD = 1 << 32

word = st.one_of(st.integers(0, 4), st.sampled_from([WORD - 1, 1 << 31, (1 << 31) - 1]))
small = st.one_of(st.integers(-4, 40), st.sampled_from([-2048, 2047]))
which = st.integers(0, 1)
operation = st.one_of(
    st.tuples(
        st.just("wake_op"),
        which,
        st.integers(0, 7),
        st.booleans(),
        small,
        st.tuples(st.integers(0, 7), small),
    ),
    st.tuples(st.just("wait"), which, word, st.sampled_from([0, 1, WORD - 1])),
    st.tuples(st.just("requeue"), which, word),
    st.tuples(st.just("misaligned"), which, st.integers(1, 3)),
    st.tuples(st.just("wake"), which, st.sampled_from([0, 1, WORD - 1])),
    st.tuples(st.just("lock")),
    st.tuples(st.just("trylock")),
    st.tuples(st.just("unlock")),
)


def signed(value: int, bits: int = 32) -> int:
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value


class Futexes(Script):
    """Two words of plain futexes and one with an owner, private to the process."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.words = [first, second]
        self.slots = [self.content(value.to_bytes(4, "little") + bytes(12)) for value in self.words]
        self.lock = self.content(bytes(4))
        self.owned = False
        self.now = self.struct("struct __kernel_timespec")

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def futex(self, result: int, slot: Slot, command: str, *rest, out=()):
        code = getattr(C, f"FUTEX_{command}") | C.FUTEX_PRIVATE_FLAG
        return self.returns(result, "futex", slot, code, *rest, out=out)

    def do_wake_op(self, index: int, code: int, shift: bool, argument: int, compare: tuple) -> None:
        """futex(2), FUTEX_WAKE_OP: the second word is changed at once, then its old value is
        compared, and a comparison nobody knows is refused only then."""
        comparison, bound = compare
        encoded = (code | (8 if shift else 0)) << 28 | comparison << 24
        encoded |= (argument & 0xFFF) << 12 | (bound & 0xFFF)
        operand = 1 << (argument & 31) if shift else signed(argument, 12)
        old = self.words[index]
        new = {
            0: operand,
            1: old + operand,
            2: old | operand,
            3: old & ~operand,
            4: old ^ operand,
        }.get(code)
        known = new is not None and comparison < 6
        if new is not None:
            self.words[index] = new % WORD
        slot = self.slots[index].at(0, 4)
        result = 0 if known else -errno.ENOSYS
        ref = self.futex(
            result, self.slots[1 - index], "WAKE_OP", 1, 1, slot, signed(encoded), out=[slot]
        )
        self.holds(ref, slot, self.words[index].to_bytes(4, "little"))

    def do_wait(self, index: int, value: int, bits: int) -> None:
        result = -errno.EAGAIN if value != self.words[index] else -errno.ETIMEDOUT
        self.futex(result, self.slots[index], "WAIT", value, self.now)
        result = result if bits else -errno.EINVAL
        past = self.now  # an absolute time, long ago
        self.futex(result, self.slots[index], "WAIT_BITSET", value, past, 0, bits)
        self.futex(0 if bits else -errno.EINVAL, self.slots[index], "WAKE_BITSET", 1, 0, 0, bits)

    def do_requeue(self, index: int, value: int) -> None:
        first, second = self.slots[index], self.slots[1 - index]
        result = 0 if value == self.words[index] else -errno.EAGAIN
        self.futex(result, first, "CMP_REQUEUE", 1, 1, second, value)
        self.futex(-errno.EINVAL, first, "CMP_REQUEUE", -1, 1, second, value)
        self.futex(-errno.EINVAL, first, "CMP_REQUEUE", 1, -1, second, value)

    def do_misaligned(self, index: int, by: int) -> None:
        slot = self.slots[index].at(by, 4)
        self.futex(-errno.EINVAL, slot, "WAIT", 0, self.now)
        self.futex(-errno.EINVAL, slot, "WAKE", 1)

    def do_wake(self, index: int, count: int) -> None:
        self.futex(0, self.slots[index], "WAKE", count)

    def do_lock(self) -> None:
        self.futex(-errno.EDEADLK if self.owned else 0, self.lock, "LOCK_PI", 0, 0)
        self.owned = True

    def do_trylock(self) -> None:
        self.futex(-errno.EDEADLK if self.owned else 0, self.lock, "TRYLOCK_PI", 0, 0)
        self.owned = True

    def do_unlock(self) -> None:
        if self.owned:
            ref = self.futex(0, self.lock, "UNLOCK_PI", 0, 0, out=[self.lock])
            self.holds(ref, self.lock, bytes(4))
        else:
            self.futex(-errno.EPERM, self.lock, "UNLOCK_PI", 0, 0)
        self.owned = False


def story(first: int, second: int, operations: list[tuple]) -> Case:
    script = Futexes(first, second)
    for step in operations:
        script.add(step)
    return script.case()


cases = st.builds(story, word, word, long_lists(operation, 10))


@given(batch=batches(cases))
def test_futex_follows_its_words(agent, features, batch):
    """Words change as FUTEX_WAKE_OP says, comparisons and ownership are kept: futex(2)."""
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_futex_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
