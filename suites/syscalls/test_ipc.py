"""System V shared memory, semaphores and message queues, by a model of each."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from isolation import FEW, own_ipc
from memory import BASE, PAGE, Touch

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

KEYS = (11, 12)
PLACES = 3
DESTROYED = 0o1000
"""SHM_DEST: marked to be destroyed, shmctl(2)."""
LARGEST = 32767
"""SEMVMX, the largest value of a semaphore: semop(2)."""


key = st.sampled_from(KEYS)
place = st.integers(0, PLACES - 1)
which = st.integers(0, 3)
sharing = st.one_of(
    st.tuples(st.just("get"), key, st.integers(0, 3), st.sampled_from(["create", "only", "find"])),
    st.tuples(st.just("get"), key, st.integers(1, 3), st.just("create")),
    st.tuples(st.just("attach"), which, place, st.booleans()),
    st.tuples(st.just("attach"), which, place, st.just(True)),
    st.tuples(st.just("detach"), place),
    st.tuples(st.just("remove"), which),
    st.tuples(st.just("poke"), place, st.integers(1, 255)),
    st.tuples(st.just("poke"), place, st.integers(1, 255)),
    st.tuples(st.just("look"), which),
)


@dataclass
class Segment:
    ref: Ref
    pages: int
    key: int | None
    value: int = 0
    attached: int = 0
    removed: bool = False

    @property
    def gone(self) -> bool:
        return self.removed and not self.attached


class Shared(Touch):
    """Segments, and the places where some of them are attached."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[Segment] = []
        self.places: dict[int, tuple[Segment, bool]] = {}

    def at(self, place: int) -> int:
        return BASE + place * 16 * PAGE

    def do_get(self, key: int, pages: int, how: str) -> None:
        found = next((each for each in self.segments if each.key == key), None)
        flags = {"create": C.IPC_CREAT, "only": C.IPC_CREAT | C.IPC_EXCL, "find": 0}[how] | 0o600
        arguments = ("shmget", key, pages * PAGE, flags)
        if found is None and how == "find":
            self.returns(-errno.ENOENT, *arguments)
        elif found is None and not pages:
            self.returns(-errno.EINVAL, *arguments)
        elif found is None:
            self.segments.append(Segment(self.works(*arguments, opaque=True), pages, key))
        elif how == "only":
            self.returns(-errno.EEXIST, *arguments)
        elif pages > found.pages:
            self.returns(-errno.EINVAL, *arguments)
        else:
            again = self.works(*arguments, opaque=True)
            self.ensure(lambda trace: same(trace[again], trace[found.ref]))

    def pick(self, index: int) -> Segment | None:
        return self.segments[index % len(self.segments)] if self.segments else None

    def do_attach(self, index: int, place: int, writes: bool) -> None:
        segment = self.pick(index)
        if segment is None:
            return
        taken = place in self.places
        result = self.at(place)
        if segment.gone or taken:
            result = -errno.EINVAL
        flags = 0 if writes else C.SHM_RDONLY
        self.returns(result, "shmat", segment.ref, self.at(place), flags)
        if result > 0:
            segment.attached += 1
            self.places[place] = segment, writes
            self.peek(self.at(place), segment.value)

    def do_detach(self, place: int) -> None:
        there = self.places.pop(place, None)
        self.returns(0 if there else -errno.EINVAL, "shmdt", self.at(place))
        if there:
            there[0].attached -= 1
            self.peek(self.at(place), None)

    def do_remove(self, index: int) -> None:
        """It lives on until the last has detached: shmctl(2) on IPC_RMID."""
        segment = self.pick(index)
        if segment:
            result = -errno.EINVAL if segment.gone else 0
            self.returns(result, "shmctl", segment.ref, C.IPC_RMID, 0)
            segment.removed, segment.key = True, None

    def do_poke(self, place: int, value: int) -> None:
        segment, writes = self.places.get(place, (None, False))
        self.poke(self.at(place), value, works=writes)
        if segment and writes:
            segment.value = value
            for other, (each, _) in self.places.items():
                if each is segment:
                    self.peek(self.at(other), value)

    def do_look(self, index: int) -> None:
        segment = self.pick(index)
        if segment is None:
            return
        room = self.room("struct shmid64_ds")
        if segment.gone:
            self.returns(-errno.EINVAL, "shmctl", segment.ref, C.IPC_STAT, room)
            return
        ref = self.returns(0, "shmctl", segment.ref, C.IPC_STAT, room, out=[room])
        self.fields(ref, room, shm_nattch=segment.attached, shm_segsz=segment.pages * PAGE)
        mode = 0o600 | (DESTROYED if segment.removed else 0)
        self.ensure(lambda trace: same(trace.struct(ref, room).shm_perm.mode, mode))


def same(found: object, meant: object) -> None:
    assert found == meant, f"{found}, must be {meant}"


def shared(operations: list[tuple]) -> Case:
    script = Shared()
    script.play(operations)
    for index in range(len(script.segments)):
        script.do_look(index)
    return script.case(own_ipc())


@given(batch=batches(long_lists(sharing, 12).map(shared), FEW))
def test_shared_memory_is_shared(agent, features, batch):
    """All attachments show one content, are counted, and keep a removed segment alive.

    shmget(2), shmat(2), shmdt(2), shmctl(2).
    """
    hold(agent, batch, features)


SEMAPHORES = 3
step = st.tuples(
    st.integers(0, SEMAPHORES),
    st.sampled_from([-2, -1, -1, 0, 1, 1, 2, LARGEST]),
    st.booleans(),
)
counting = st.one_of(
    st.tuples(st.just("do"), st.lists(step, min_size=1, max_size=4)),
    st.tuples(st.just("do"), st.lists(step, min_size=1, max_size=4)),
    st.tuples(st.just("set"), st.integers(0, SEMAPHORES - 1),
              st.sampled_from([0, 1, 5, LARGEST, LARGEST + 1, -1])),
    st.tuples(st.just("get"), st.integers(0, SEMAPHORES - 1)),
    st.tuples(st.just("leave")),
)  # fmt: skip


class Semaphores(Script):
    """One set, and what is undone when the list of adjustments ends."""

    def __init__(self) -> None:
        super().__init__()
        self.values = [0] * SEMAPHORES
        self.undo = [0] * SEMAPHORES
        self.set = self.works("semget", 5, SEMAPHORES, C.IPC_CREAT | 0o600, opaque=True)

    def do_do(self, steps: list[tuple[int, int, bool]]) -> None:
        """semop(2): all or nothing, one after another."""
        rows = [
            {"sem_num": number, "sem_op": by,
             "sem_flg": C.IPC_NOWAIT | (C.SEM_UNDO if undone else 0)}
            for number, by, undone in steps
        ]  # fmt: skip
        result, values, undo = 0, list(self.values), list(self.undo)
        if any(number >= SEMAPHORES for number, _, _ in steps):
            result = -errno.EFBIG
        else:
            for number, by, undone in steps:
                if (by == 0 and values[number]) or values[number] + by < 0:
                    result = -errno.EAGAIN
                elif values[number] + by > LARGEST or (undone and abs(undo[number] - by) > LARGEST):
                    result = -errno.ERANGE
                if result:
                    break
                values[number] += by
                undo[number] -= by if undone else 0
        self.returns(result, "semop", self.set, self.array("struct sembuf", rows), len(rows))
        if result == 0:
            self.values, self.undo = values, undo
        self.look()

    def look(self) -> None:
        room = self.buffer(2 * SEMAPHORES)
        ref = self.returns(0, "semctl", self.set, 0, C.GETALL, room, out=[room])
        self.holds(ref, room, b"".join(value.to_bytes(2, "little") for value in self.values))

    def do_set(self, number: int, value: int) -> None:
        """semctl(2) on SETVAL: also what would be undone is forgotten."""
        able = 0 <= value <= LARGEST
        self.returns(0 if able else -errno.ERANGE, "semctl", self.set, number, C.SETVAL, value)
        if able:
            self.values[number], self.undo[number] = value, 0

    def do_get(self, number: int) -> None:
        self.returns(self.values[number], "semctl", self.set, number, C.GETVAL, 0)
        self.returns(0, "semctl", self.set, number, C.GETNCNT, 0)

    def do_leave(self) -> None:
        """unshare(2) on CLONE_SYSVSEM: the adjustments of the last that has them are applied."""
        self.returns(0, "unshare", C.CLONE_SYSVSEM)
        found = zip(self.values, self.undo, strict=True)
        self.values = [min(max(value + by, 0), LARGEST) for value, by in found]
        self.undo = [0] * SEMAPHORES
        self.look()


def counted(operations: list[tuple]) -> Case:
    script = Semaphores()
    script.play(operations)
    script.do_leave()
    row = script.array("struct sembuf", [{"sem_op": 1}])
    script.returns(-errno.EINVAL, "semop", script.set, row, 0)
    script.returns(-errno.E2BIG, "semop", script.set, row, 501)
    script.returns(0, "semctl", script.set, 0, C.IPC_RMID, 0)
    script.returns(-errno.EINVAL, "semop", script.set, row, 1)
    return script.case(own_ipc())


@given(batch=batches(long_lists(counting, 12).map(counted), FEW))
def test_semaphores_count_and_undo(agent, features, batch):
    """Operations are done all or none, within 0 and 32767, and undone at the end where so asked.

    semop(2) with SEM_UNDO, semctl(2), unshare(2) on CLONE_SYSVSEM.
    """
    hold(agent, batch, features)


kinds = st.integers(-1, 4)
queueing = st.one_of(
    st.tuples(st.just("send"), kinds, st.one_of(st.integers(0, 30), st.just(8193))),
    st.tuples(st.just("send"), st.integers(1, 4), st.integers(0, 30)),
    st.tuples(st.just("send"), st.integers(1, 4), st.integers(0, 30)),
    st.tuples(st.just("receive"), st.integers(-4, 4), st.integers(0, 40), st.booleans(),
              st.booleans()),
    st.tuples(st.just("receive"), st.integers(-4, 4), st.integers(0, 40), st.booleans(),
              st.booleans()),
    st.tuples(st.just("limit"), st.integers(0, 100)),
    st.tuples(st.just("look")),
)  # fmt: skip


@dataclass
class Queue:
    limit: int = 16384
    """msg_qbytes, by default MSGMNB: msgget(2)."""
    messages: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(data) for _, data in self.messages)

    def find(self, kind: int, *, other: bool) -> int | None:
        """msgrcv(2): the place of the message that is meant."""
        kinds = [each for each, _ in self.messages]
        if kind == 0:
            return 0 if kinds else None
        if kind < 0:
            able = [each for each in kinds if each <= -kind]
            return kinds.index(min(able)) if able else None
        found = (i for i, each in enumerate(kinds) if (each != kind if other else each == kind))
        return next(found, None)


class Messages(Script):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.id = self.works("msgget", 5, C.IPC_CREAT | 0o600, opaque=True)

    def do_send(self, kind: int, size: int) -> None:
        data = pattern(len(self), min(size, 100))
        raw = self.content(kind.to_bytes(8, "little", signed=True) + data)
        queue = self.queue
        result = 0
        if kind < 1 or size > 8192:
            result = -errno.EINVAL
        elif size + queue.size > queue.limit or 1 + len(queue.messages) > queue.limit:
            result = -errno.EAGAIN
        self.returns(result, "msgsnd", self.id, raw, size, C.IPC_NOWAIT)
        if result == 0:
            queue.messages.append((kind, data))

    def do_receive(self, kind: int, room: int, cuts: bool, other: bool) -> None:
        flags = C.IPC_NOWAIT | (C.MSG_NOERROR if cuts else 0) | (C.MSG_EXCEPT if other else 0)
        into: Slot = self.buffer(8 + 40)
        place = self.queue.find(kind, other=other)
        data = self.queue.messages[place][1] if place is not None else b""
        result = min(len(data), room)
        if place is None:
            result = -errno.ENOMSG
        elif len(data) > room and not cuts:
            result = -errno.E2BIG
        ref = self.returns(result, "msgrcv", self.id, into, room, kind, flags, out=[into])
        if place is not None and result >= 0:
            found, data = self.queue.messages.pop(place)
            raw = found.to_bytes(8, "little") + data[:room]
            self.holds(ref, into, raw.ljust(into.size, b"\0"))

    def do_limit(self, limit: int) -> None:
        self.queue.limit = limit
        room = self.room("struct msqid64_ds")
        self.returns(0, "msgctl", self.id, C.IPC_STAT, room)
        # msg_qbytes lies behind the two counts; the rest is as it was.
        offset = 120 - 32
        number = self.content(limit.to_bytes(8, "little"))
        self.copied(number, room.at(offset, 8))
        self.returns(0, "msgctl", self.id, C.IPC_SET, room)

    def copied(self, source: Slot, target: Slot) -> None:
        """Bytes from one place of the arena to another, by a pipe."""
        ends = self.buffer(8)
        self.returns(0, "pipe2", ends, 0)
        self.returns(source.size, "write", ends.word(1), source, source.size)
        self.returns(source.size, "read", ends.word(0), target, source.size)
        for index in (0, 1):
            self.returns(0, "close", ends.word(index))

    def do_look(self) -> None:
        room = self.room("struct msqid64_ds")
        ref = self.returns(0, "msgctl", self.id, C.IPC_STAT, room, out=[room])
        queue = self.queue
        self.fields(
            ref, room, msg_qnum=len(queue.messages), msg_cbytes=queue.size, msg_qbytes=queue.limit
        )


def queued(operations: list[tuple]) -> Case:
    script = Messages()
    script.play(operations)
    script.do_look()
    for _ in range(len(script.queue.messages) + 1):
        script.do_receive(0, 40, False, False)
    return script.case(own_ipc())


@given(batch=batches(long_lists(queueing, 12).map(queued), FEW))
def test_messages_are_taken_by_type(agent, features, batch):
    """The first, the first of a type or of another, or the least; the queue holds what it may.

    msgsnd(2), msgrcv(2) with MSG_EXCEPT and MSG_NOERROR, msgctl(2).
    """
    hold(agent, batch, features)


@given(batch=batches(long_lists(counting, 12).map(counted), FEW))
def test_semaphores_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
