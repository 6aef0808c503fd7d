"""Files in memory: shared mappings are the file, private ones are not."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from memory import BASE, BOTH, PAGE, READ, Touch

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

PAGES = 4
SHARED, TWIN, PRIVATE = (BASE + index * 0x100000 for index in range(3))

at = st.integers(0, PAGES * PAGE - 1)
value = st.integers(1, 255)
operation = st.one_of(
    st.tuples(st.just("write"), at, st.integers(1, 100)),
    st.tuples(st.just("poke"), st.sampled_from([SHARED, TWIN]), at, value),
    st.tuples(st.just("poke"), st.sampled_from([SHARED, TWIN]), at, value),
    st.tuples(st.just("own"), at, value),
    st.tuples(st.just("drop")),
    st.tuples(st.just("read"), at),
)


class Mapped(Touch):
    """One file, mapped shared at two places and private at a third."""

    def __init__(self, anonymous: bool) -> None:
        super().__init__()
        self.held = bytearray(PAGES * PAGE)
        self.own: dict[int, int] = {}
        """What was written to the private mapping only."""
        if anonymous:
            self.fd = self.works("memfd_create", self.string("m"), 0)
        else:
            flags = C.O_RDWR | C.O_CREAT
            self.fd = self.works("openat", C.AT_FDCWD, self.string("f"), flags, 0o600)
        size = len(self.held)
        self.returns(0, "ftruncate", self.fd, size)
        for place, kind in ((SHARED, C.MAP_SHARED), (TWIN, C.MAP_SHARED), (PRIVATE, C.MAP_PRIVATE)):
            self.returns(place, "mmap", place, size, BOTH, kind | C.MAP_FIXED, self.fd, 0)

    def do_write(self, at: int, size: int) -> None:
        data = pattern(len(self), min(size, len(self.held) - at))
        self.returns(len(data), "pwrite64", self.fd, self.content(data), len(data), at)
        self.held[at : at + len(data)] = data

    def do_poke(self, place: int, at: int, value: int) -> None:
        self.poke(place + at, value)
        self.held[at] = value

    def do_own(self, at: int, value: int) -> None:
        self.poke(PRIVATE + at, value)
        self.own[at] = value

    def do_drop(self) -> None:
        """MADV_DONTNEED drops the private copies, and the file shows again: madvise(2)."""
        self.returns(0, "madvise", PRIVATE, len(self.held), C.MADV_DONTNEED)
        self.own.clear()
        self.peek(PRIVATE, self.held[0])

    def do_read(self, at: int) -> None:
        for place in (SHARED, TWIN):
            self.peek(place + at, self.held[at])
        into = self.buffer(1)
        ref = self.returns(1, "pread64", self.fd, into, 1, at, out=[into])
        self.holds(ref, into, self.held[at : at + 1])
        if at in self.own:
            self.peek(PRIVATE + at, self.own[at])


def story(anonymous: bool, operations: list[tuple]) -> Case:
    script = Mapped(anonymous)
    script.play(operations)
    for name, *rest in operations:
        if name in ("own", "read", "write"):
            script.do_read(rest[0])
    into = script.buffer(len(script.held))
    ref = script.returns(into.size, "pread64", script.fd, into, into.size, 0, out=[into])
    script.holds(ref, into, bytes(script.held))
    return script.case()


cases = st.builds(story, st.booleans(), long_lists(operation, 10))


@given(batch=batches(cases))
def test_shared_mappings_are_coherent(agent, features, batch):
    """What is written to the file or to one shared mapping is in all; a private one keeps its own.

    mmap(2) on MAP_SHARED and MAP_PRIVATE.
    """
    hold(agent, batch, features)


def cut(length: int, shorter: int, shared: bool) -> Case:
    """A page past the end of the file cannot be touched; the rest of the last one is zeros."""
    script = Touch()
    fd = script.works("memfd_create", script.string("m"), 0)
    data = pattern(3, length)
    script.returns(length, "pwrite64", fd, script.content(data), length, 0)
    kind = (C.MAP_SHARED if shared else C.MAP_PRIVATE) | C.MAP_FIXED
    script.returns(BASE, "mmap", BASE, PAGES * PAGE, BOTH, kind, fd, 0)
    for size in (length, shorter):
        script.returns(0, "ftruncate", fd, size)
        last = (size + PAGE - 1) // PAGE * PAGE
        if size:
            script.peek(BASE + size - 1, data[size - 1])
        if size % PAGE:
            script.peek(BASE + size, 0)
        if last < PAGES * PAGE:
            script.peek(BASE + last, None)
            script.poke(BASE + last, 1, works=False)
    return script.case()


lengths = st.one_of(
    st.integers(1, PAGES * PAGE), st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
)


@st.composite
def cuts(draw) -> Case:
    length = draw(lengths)
    return cut(length, draw(st.integers(0, length)), draw(st.booleans()))


@given(batch=batches(cuts()))
def test_mapped_pages_end_with_the_file(agent, features, batch):
    """Past the last page is EFAULT (SIGBUS for instructions), also of a file cut later: mmap(2)."""
    hold(agent, batch, features)


def resident(pages: list[int], cut: int) -> Case:
    """mincore(2) says of a memory file which pages it has."""
    script = Script()
    count = 16
    fd = script.works("memfd_create", script.string("m"), 0)
    script.returns(0, "ftruncate", fd, count * PAGE)
    script.returns(BASE, "mmap", BASE, count * PAGE, READ, C.MAP_SHARED | C.MAP_FIXED, fd, 0)
    for page in pages:
        script.returns(1, "pwrite64", fd, script.content(b"x"), 1, page * PAGE)
    script.needs.add("fallocate:punch")
    mode = C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE
    script.returns(0, "fallocate", fd, mode, cut * PAGE, 2 * PAGE)
    held = set(pages) - {cut, cut + 1}
    seen = script.buffer(count)
    ref = script.returns(0, "mincore", BASE, count * PAGE, seen, out=[seen])

    def check(trace) -> None:
        found = {page for page, byte in enumerate(trace.bytes(ref, seen)) if byte & 1}
        assert found == held

    script.ensure(check)
    script.returns(-errno.EINVAL, "mincore", BASE + 1, PAGE, seen)
    return script.case()


page = st.integers(0, 15)


@given(batch=batches(st.builds(resident, st.lists(page, max_size=8), page)))
def test_mincore_tells_what_is_there(agent, features, batch):
    """Pages of a memory file that were written are resident, holes are not: mincore(2)."""
    hold(agent, batch, features)


def access(opened: int, kind: int, protection: int, later: int) -> Case:
    """What a descriptor may do bounds what a mapping of it may."""
    script = Script()
    where = script.string("f")
    made = script.works("openat", C.AT_FDCWD, where, C.O_CREAT | C.O_RDWR, 0o600)
    script.returns(0, "ftruncate", made, PAGE)
    fd: Ref = script.works("openat", C.AT_FDCWD, where, opened, 0)
    writes = kind == C.MAP_SHARED
    able = opened != C.O_WRONLY and not (
        writes and protection & C.PROT_WRITE and opened == C.O_RDONLY
    )
    arguments = ("mmap", BASE, PAGE, protection, kind | C.MAP_FIXED, fd, 0)
    script.returns(BASE if able else -errno.EACCES, *arguments)
    if able:
        refused = writes and later & C.PROT_WRITE and opened == C.O_RDONLY
        script.returns(-errno.EACCES if refused else 0, "mprotect", BASE, PAGE, later)
    return script.case()


protections = st.sampled_from([C.PROT_NONE, READ, BOTH])
accesses = st.builds(
    access, st.sampled_from([C.O_RDONLY, C.O_WRONLY, C.O_RDWR]),
    st.sampled_from([C.MAP_SHARED, C.MAP_PRIVATE]), protections, protections,
)  # fmt: skip


@given(batch=batches(accesses))
def test_a_mapping_may_what_its_file_may(agent, features, batch):
    """EACCES for a file not open to read, or shared to write and not open to.

    mmap(2), mprotect(2).
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_mappings_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
