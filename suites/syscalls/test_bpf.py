"""Maps of bpf: what is put in is found, by a model of each kind."""

from __future__ import annotations

import errno
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Pointer, Result, Store
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

MOST = 4
"""Entries of a map."""
KEY, VALUE = 4, 8
ATTR = 120

key = st.integers(0, MOST + 1)
value = st.integers(0, (1 << 64) - 1)
how = st.sampled_from([C.BPF_ANY, C.BPF_ANY, C.BPF_ANY, C.BPF_NOEXIST, C.BPF_EXIST, 17])
operation = st.one_of(
    st.tuples(st.just("put"), key, value, how),
    st.tuples(st.just("put"), key, value, how),
    st.tuples(st.just("get"), key),
    st.tuples(st.just("drop"), key),
    st.tuples(st.just("walk")),
)


def unlimited(script: Script) -> None:
    """Some kernels count maps and programs as locked memory, and give it back late: bpf(2)."""
    limit = script.struct("struct rlimit64", rlim_cur=(1 << 64) - 1, rlim_max=(1 << 64) - 1)
    script.returns(0, "prlimit64", 0, C.RLIMIT_MEMLOCK, limit, 0)


class Map(Script):
    """One map. Arguments of bpf(2) are a union, of which each command has its own part."""

    def __init__(self, kind: int, key: int, value: int, most: int, flags: int = 0) -> None:
        super().__init__()
        self.needs |= {"bpf", "root"}
        unlimited(self)
        words = (kind, key, value, most, flags)
        raw = b"".join(word.to_bytes(4, "little") for word in words)
        self.fd = self.works("bpf", C.BPF_MAP_CREATE, self.content(raw.ljust(ATTR, b"\0")), ATTR)

    def element(self, key: Slot | None, value: Slot | None = None, flags: int = 0) -> Slot:
        """The map, a key, a value or the next key, and flags."""
        raw = self.content(bytes(24) + flags.to_bytes(8, "little") + bytes(ATTR - 32))
        stores = [Store(raw.offset, Result(self.fd.call), 4)]
        for at, slot in ((8, key), (16, value)):
            if slot is not None:
                stores.append(Store(raw.offset + at, Pointer(slot.offset), 8))
        return replace(raw, text="element", stores=tuple(stores))

    def number(self, value: int, size: int = KEY) -> Slot:
        return self.content(value.to_bytes(size, "little"))

    def ask(self, result: int, command: str, attributes: Slot, out: list[Slot]) -> Ref:
        name = getattr(C, f"BPF_MAP_{command}")
        return self.returns(result, "bpf", name, attributes, ATTR, out=out)

    def put(self, result: int, key: int, value: int, flags: int) -> None:
        attributes = self.element(self.number(key), self.number(value, VALUE), flags)
        self.ask(result, "UPDATE_ELEM", attributes, [])

    def get(self, key: int, value: int | None) -> None:
        into = self.buffer(VALUE)
        attributes = self.element(self.number(key), into)
        result = 0 if value is not None else -errno.ENOENT
        ref = self.ask(result, "LOOKUP_ELEM", attributes, [into])
        self.holds(ref, into, (value or 0).to_bytes(VALUE, "little"))

    def steps(self, count: int) -> list[tuple[Ref, Slot]]:
        """So many keys, each the next of the one before, and the end."""
        found, last = [], None
        for index in range(count + 1):
            into = self.buffer(KEY)
            result = 0 if index < count else -errno.ENOENT
            ref = self.ask(result, "GET_NEXT_KEY", self.element(last, into), [into])
            found.append((ref, into))
            last = into
        return found[:-1]


class Hash(Map):
    def __init__(self, flags: int) -> None:
        super().__init__(C.BPF_MAP_TYPE_HASH, KEY, VALUE, MOST, flags)
        self.held: dict[int, int] = {}

    def do_put(self, key: int, value: int, how: int) -> None:
        result = 0
        if how > C.BPF_EXIST:
            result = -errno.EINVAL
        elif how == C.BPF_NOEXIST and key in self.held:
            result = -errno.EEXIST
        elif how == C.BPF_EXIST and key not in self.held:
            result = -errno.ENOENT
        elif key not in self.held and len(self.held) == MOST:
            result = -errno.E2BIG
        self.put(result, key, value, how)
        if result == 0:
            self.held[key] = value

    def do_get(self, key: int) -> None:
        self.get(key, self.held.get(key))

    def do_drop(self, key: int) -> None:
        there = self.held.pop(key, None) is not None
        self.ask(0 if there else -errno.ENOENT, "DELETE_ELEM", self.element(self.number(key)), [])

    def do_walk(self) -> None:
        meant = set(self.held)
        found = self.steps(len(meant))

        def check(trace) -> None:
            assert {trace.number(ref, into) for ref, into in found} == meant

        self.ensure(check)


def hashed(flags: int, operations: list[tuple]) -> Case:
    script = Hash(flags)
    script.play(operations)
    script.do_walk()
    for key in range(MOST + 2):
        script.do_get(key)
    return script.case()


operations = long_lists(operation, 12)
hashes = st.builds(hashed, st.sampled_from([0, C.BPF_F_NO_PREALLOC]), operations)


@given(batch=batches(hashes))
def test_a_hash_map_holds_its_keys(agent, features, batch):
    """Each key has its last value, a walk comes by all of them, and no more fit than were said.

    bpf(2) on BPF_MAP_TYPE_HASH; EEXIST, ENOENT and E2BIG of updates.
    """
    hold(agent, batch, features)


class Array(Map):
    def __init__(self) -> None:
        super().__init__(C.BPF_MAP_TYPE_ARRAY, KEY, VALUE, MOST)
        self.held = [0] * MOST

    def do_put(self, key: int, value: int, how: int) -> None:
        result = 0
        if how > C.BPF_EXIST:
            result = -errno.EINVAL
        elif key >= MOST:
            result = -errno.E2BIG
        elif how == C.BPF_NOEXIST:
            result = -errno.EEXIST
        self.put(result, key, value, how)
        if result == 0:
            self.held[key] = value

    def do_get(self, key: int) -> None:
        self.get(key, self.held[key] if key < MOST else None)

    def do_drop(self, key: int) -> None:
        self.ask(-errno.EINVAL, "DELETE_ELEM", self.element(self.number(key)), [])

    def do_walk(self) -> None:
        for index, (ref, into) in enumerate(self.steps(MOST)):
            self.holds(ref, into, index.to_bytes(KEY, "little"))


def arrayed(operations: list[tuple]) -> Case:
    script = Array()
    script.play(operations)
    script.do_walk()
    for key in range(MOST + 2):
        script.do_get(key)
    return script.case()


@given(batch=batches(operations.map(arrayed)))
def test_an_array_map_has_all_its_entries(agent, features, batch):
    """All are there from the first, zeros until they are set, in order, and none is deleted.

    bpf(2) on BPF_MAP_TYPE_ARRAY.
    """
    hold(agent, batch, features)


def recent(puts: list[tuple[int, int]], most: int) -> Case:
    """A map that forgets takes anything, and has at least what came last."""
    script = Map(C.BPF_MAP_TYPE_LRU_HASH, KEY, VALUE, most)
    last: dict[int, int] = {}
    for key, value in puts:
        script.put(0, key, value, C.BPF_ANY)
        script.get(key, value)
        last[key] = value
    rows = []
    for key, value in last.items():
        into = script.buffer(VALUE)
        attributes = script.element(script.number(key), into)
        ref = script.call("bpf", C.BPF_MAP_LOOKUP_ELEM, attributes, ATTR, out=[into])
        rows.append((ref, into, value))

    def check(trace) -> None:
        found = [(trace.number(ref, into), value) for ref, into, value in rows if not trace[ref]]
        assert len(found) <= most, f"{len(found)} entries in a map of {most}"
        assert all(seen == value for seen, value in found)
        assert not any(trace[ref] not in (0, -errno.ENOENT) for ref, _, _ in rows)

    script.ensure(check)
    return script.case()


puts = st.lists(st.tuples(st.integers(0, 12), value), max_size=15)


@given(batch=batches(st.builds(recent, puts, st.integers(1, 8))))
def test_a_forgetting_map_has_what_came_last(agent, features, batch):
    """No update fails, what was just put is there, and never more than were said.

    Documentation/bpf/map_hash.rst on BPF_MAP_TYPE_LRU_HASH.
    """
    hold(agent, batch, features)


lining = st.one_of(
    st.tuples(st.just("push"), value, st.sampled_from([C.BPF_ANY, C.BPF_ANY, C.BPF_EXIST])),
    st.tuples(st.just("push"), value, st.just(C.BPF_ANY)),
    st.tuples(st.just("pop")),
    st.tuples(st.just("peek")),
)


class Line(Map):
    """A queue or a stack, whose entries have no keys."""

    def __init__(self, kind: int) -> None:
        super().__init__(kind, 0, VALUE, MOST)
        self.stack = kind == C.BPF_MAP_TYPE_STACK
        self.held: list[int] = []

    def do_push(self, value: int, how: int) -> None:
        """With BPF_EXIST the oldest makes way."""
        full = len(self.held) == MOST
        result = -errno.E2BIG if full and how != C.BPF_EXIST else 0
        attributes = self.element(None, self.number(value, VALUE), how)
        self.ask(result, "UPDATE_ELEM", attributes, [])
        if result == 0:
            self.held = [*self.held[int(full) :], value]

    def take(self, command: str) -> None:
        into = self.buffer(VALUE)
        result = 0 if self.held else -errno.ENOENT
        ref = self.ask(result, command, self.element(None, into), [into])
        if self.held:
            found = self.held[-1 if self.stack else 0]
            self.holds(ref, into, found.to_bytes(VALUE, "little"))

    def do_peek(self) -> None:
        self.take("LOOKUP_ELEM")

    def do_pop(self) -> None:
        self.take("LOOKUP_AND_DELETE_ELEM")
        if self.held:
            self.held.pop(-1 if self.stack else 0)


def lined(kind: int, operations: list[tuple]) -> Case:
    script = Line(kind)
    script.play(operations)
    for _ in range(len(script.held) + 1):
        script.do_pop()
    return script.case()


lines = st.builds(
    lined, st.sampled_from([C.BPF_MAP_TYPE_QUEUE, C.BPF_MAP_TYPE_STACK]), long_lists(lining, 12)
)


@given(batch=batches(lines))
def test_queues_and_stacks_keep_their_order(agent, features, batch):
    """First in first out, or last; full is E2BIG unless the oldest is to go, empty ENOENT.

    Documentation/bpf/map_queue_stack.rst.
    """
    hold(agent, batch, features)


def frozen(flags: int, operations: list[tuple]) -> Case:
    """A frozen map is read and no more written by calls."""
    script = Hash(flags)
    script.play(operations)
    script.ask(0, "FREEZE", script.element(None), [])
    script.put(-errno.EPERM, 1, 2, C.BPF_ANY)
    script.ask(-errno.EPERM, "DELETE_ELEM", script.element(script.number(1)), [])
    for key in range(MOST + 2):
        script.do_get(key)
    again = script.call("bpf", C.BPF_MAP_FREEZE, script.element(None), ATTR)

    def check(trace) -> None:
        assert trace[again] in (-errno.EBUSY, -errno.EPERM)

    script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(frozen, st.sampled_from([0, C.BPF_F_NO_PREALLOC]), operations)))
def test_a_frozen_map_does_not_change(agent, features, batch):
    """EPERM for updates and deletions, a second time is refused; what is in it is found.

    bpf(2) on BPF_MAP_FREEZE, which came with 87df15de441b.
    """
    hold(agent, batch, features)


@given(batch=batches(st.one_of(operations.map(arrayed), lines)))
def test_maps_agree(lockstep, batch):
    """Every kernel answers alike; the order of a hash is each one's own."""
    lockstep.agree(batch)
