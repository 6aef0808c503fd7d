"""Pages of memory: what is mapped, protected, moved and given back, by a model of each page."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st
from memory import ANONYMOUS, BASE, BOTH, PAGE, READ, Touch

from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

PAGES = 12

page = st.integers(0, PAGES - 1)
count = st.integers(1, 5)
protection = st.sampled_from([C.PROT_NONE, READ, BOTH, BOTH])
operation = st.one_of(
    st.tuples(st.just("map"), page, count, protection, st.booleans()),
    st.tuples(st.just("map"), page, count, protection, st.booleans()),
    st.tuples(st.just("unmap"), page, count),
    st.tuples(st.just("protect"), page, count, protection),
    st.tuples(st.just("protect"), page, count, protection),
    st.tuples(st.just("poke"), page, st.integers(1, 255)),
    st.tuples(st.just("poke"), page, st.integers(1, 255)),
    st.tuples(st.just("peek"), page),
    st.tuples(st.just("forget"), page, count),
    st.tuples(st.just("ask"), page, count),
)


@dataclass(frozen=True)
class Page:
    protection: int
    value: int = 0
    """Its first byte."""


class Pages(Touch):
    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[int, Page] = {}

    def span(self, first: int, count: int) -> range:
        return range(first, min(first + count, PAGES))

    def place(self, pages: range) -> tuple[int, int]:
        return BASE + pages.start * PAGE, len(pages) * PAGE

    def do_map(self, first: int, count: int, protection: int, replaces: bool) -> None:
        pages = self.span(first, count)
        fixed = C.MAP_FIXED if replaces else C.MAP_FIXED_NOREPLACE
        taken = any(page in self.pages for page in pages) and not replaces
        address, length = self.place(pages)
        result = -errno.EEXIST if taken else address
        self.returns(result, "mmap", address, length, protection, ANONYMOUS | fixed, -1, 0)
        if not taken:
            self.pages |= {page: Page(protection) for page in pages}

    def do_unmap(self, first: int, count: int) -> None:
        """munmap(2): it is no error if there is nothing."""
        pages = self.span(first, count)
        self.returns(0, "munmap", *self.place(pages))
        for page in pages:
            self.pages.pop(page, None)

    def do_protect(self, first: int, count: int, protection: int) -> None:
        """Up to the first page that is not there, which is ENOMEM."""
        pages = self.span(first, count)
        whole = all(page in self.pages for page in pages)
        self.returns(0 if whole else -errno.ENOMEM, "mprotect", *self.place(pages), protection)
        for page in pages:
            if page not in self.pages:
                break
            self.pages[page] = replace(self.pages[page], protection=protection)

    def do_poke(self, page: int, value: int) -> None:
        found = self.pages.get(page)
        works = found is not None and found.protection == BOTH
        self.poke(BASE + page * PAGE, value, works=works)
        if found and works:
            self.pages[page] = replace(found, value=value)

    def do_peek(self, page: int) -> None:
        found = self.pages.get(page)
        self.peek(BASE + page * PAGE, found.value if found and found.protection else None)

    def do_forget(self, first: int, count: int) -> None:
        """MADV_DONTNEED goes on over what is not there, and then says so: madvise(2)."""
        pages = self.span(first, count)
        whole = all(page in self.pages for page in pages)
        result = 0 if whole else -errno.ENOMEM
        self.returns(result, "madvise", *self.place(pages), C.MADV_DONTNEED)
        for page in pages:
            if page in self.pages:
                self.pages[page] = replace(self.pages[page], value=0)

    def do_ask(self, first: int, count: int) -> None:
        """mincore(2) and msync(2) also only know what is mapped."""
        pages = self.span(first, count)
        result = 0 if all(page in self.pages for page in pages) else -errno.ENOMEM
        self.returns(result, "mincore", *self.place(pages), self.buffer(PAGES))
        self.returns(result, "msync", *self.place(pages), C.MS_ASYNC)


def story(operations: list[tuple]) -> Case:
    script = Pages()
    script.do_map(2, 5, BOTH, True)
    script.play(operations)
    for page in range(PAGES):
        script.do_peek(page)
    return script.case()


cases = long_lists(operation, 15).map(story)


@given(batch=batches(cases))
def test_pages_follow_the_model(agent, features, batch):
    """Each page is there, readable, writable and filled as the calls before have made it.

    mmap(2) with MAP_FIXED and MAP_FIXED_NOREPLACE, munmap(2), mprotect(2), madvise(2) on
    MADV_DONTNEED, mincore(2), msync(2).
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_pages_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)


AREA = 16 * PAGE
"""From the begin of one place for a mapping to the next."""
move = st.one_of(
    st.tuples(st.just("move"), st.integers(0, 3), st.integers(1, 8)),
    st.tuples(st.just("resize"), st.integers(1, 8), st.sampled_from([0, C.MREMAP_MAYMOVE])),
    st.tuples(st.just("blocked"), st.integers(1, 8)),
    st.tuples(st.just("leave"), st.integers(0, 3)),
    st.tuples(st.just("poke"), st.integers(0, 7), st.integers(1, 255)),
    st.tuples(st.just("poke"), st.integers(0, 7), st.integers(1, 255)),
    st.tuples(st.just("wrong"), st.integers(1, PAGE - 1)),
)


class Moved(Touch):
    """One mapping, moved between four places and made longer and shorter."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.at, self.values_held = 0, [0] * length
        size = length * PAGE
        self.returns(BASE, "mmap", BASE, size, BOTH, ANONYMOUS | C.MAP_FIXED, -1, 0)

    @property
    def here(self) -> int:
        return BASE + self.at * AREA

    @property
    def size(self) -> int:
        return len(self.values_held) * PAGE

    def resized(self, length: int) -> None:
        self.values_held = [*self.values_held[:length], *[0] * (length - len(self.values_held))]

    def do_move(self, to: int, length: int) -> None:
        there = BASE + to * AREA
        flags = C.MREMAP_MAYMOVE | C.MREMAP_FIXED
        result = there if to != self.at else -errno.EINVAL
        self.returns(result, "mremap", self.here, self.size, length * PAGE, flags, there)
        if to != self.at:
            self.peek(self.here, None)
            self.at = to
            self.resized(length)

    def do_resize(self, length: int, flags: int) -> None:
        self.returns(self.here, "mremap", self.here, self.size, length * PAGE, flags, 0)
        self.resized(length)
        self.peek(self.here + self.size, None)

    def do_blocked(self, more: int) -> None:
        """Without MREMAP_MAYMOVE there is no room where another mapping follows."""
        end = self.here + self.size
        self.returns(end, "mmap", end, PAGE, READ, ANONYMOUS | C.MAP_FIXED, -1, 0)
        longer = self.size + more * PAGE
        self.returns(-errno.ENOMEM, "mremap", self.here, self.size, longer, 0, 0)
        self.returns(0, "munmap", end, PAGE)

    def do_leave(self, to: int) -> None:
        """MREMAP_DONTUNMAP moves what the pages hold, and leaves empty ones behind."""
        if to == self.at:
            return
        there, left = BASE + to * AREA, self.here
        flags = C.MREMAP_MAYMOVE | C.MREMAP_FIXED | C.MREMAP_DONTUNMAP
        self.returns(there, "mremap", left, self.size, self.size, flags, there)
        self.peek(left, 0)
        self.returns(0, "munmap", left, self.size)
        self.at = to

    def do_poke(self, page: int, value: int) -> None:
        if page < len(self.values_held):
            self.values_held[page] = value
            self.poke(self.here + page * PAGE, value)

    def do_wrong(self, by: int) -> None:
        refused = -errno.EINVAL
        self.returns(refused, "mremap", self.here + by, self.size, self.size, 0, 0)
        self.returns(refused, "mremap", self.here, self.size, 0, 0, 0)
        self.returns(refused, "mremap", self.here, self.size, self.size, 1 << 10, 0)
        flags = C.MREMAP_MAYMOVE | C.MREMAP_FIXED
        there = BASE + 5 * AREA
        self.returns(refused, "mremap", self.here, self.size, self.size, flags, there + by)
        self.returns(-errno.EFAULT, "mremap", there, PAGE, 2 * PAGE, C.MREMAP_MAYMOVE, 0)


def moved(length: int, operations: list[tuple]) -> Case:
    script = Moved(length)
    script.play(operations)
    for page, value in enumerate(script.values_held):
        script.peek(script.here + page * PAGE, value)
    return script.case()


moves = st.builds(moved, st.integers(1, 8), long_lists(move, 10))


@given(batch=batches(moves))
def test_moved_memory_keeps_its_bytes(agent, features, batch):
    """Made longer, shorter or moved, pages hold what they held, and new ones zeros: mremap(2)."""
    hold(agent, batch, features)


@given(batch=batches(moves))
def test_moved_memory_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
