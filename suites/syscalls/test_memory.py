"""Memory that is locked, read across processes, filled by its owner, or guarded by a key."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from memory import ANONYMOUS, BASE, BOTH, PAGE, Touch

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

PAGES = 10

page = st.integers(0, PAGES - 1)
count = st.integers(1, 4)
locking = st.one_of(
    st.tuples(st.just("lock"), page, count, st.booleans()),
    st.tuples(st.just("lock"), page, count, st.booleans()),
    st.tuples(st.just("unlock"), page, count),
    st.tuples(st.just("limit"), st.integers(0, PAGES)),
    st.tuples(st.just("forget"), page, count),
    st.tuples(st.just("unlock_all")),
)


class Locked(Script):
    """Pages of an ordinary user, some of them locked, up to a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.needs.add("root")
        self.locked: set[int] = set()
        self.limit = PAGES
        self.returns(BASE, "mmap", BASE, PAGES * PAGE, BOTH, ANONYMOUS | C.MAP_FIXED, -1, 0)
        self.returns(0, "setresuid", 9, 9, 9)
        self.do_limit(PAGES)

    def do_limit(self, pages: int) -> None:
        """What is locked already stays so: getrlimit(2) on RLIMIT_MEMLOCK."""
        self.limit = pages
        limit = self.struct("struct rlimit64", rlim_cur=pages * PAGE, rlim_max=PAGES * PAGE)
        self.returns(0, "prlimit64", 0, C.RLIMIT_MEMLOCK, limit, 0)

    def place(self, first: int, count: int) -> tuple[int, int]:
        return BASE + first * PAGE, min(count, PAGES - first) * PAGE

    def do_lock(self, first: int, count: int, on_fault: bool) -> None:
        wanted = self.locked | set(range(first, min(first + count, PAGES)))
        result = 0
        if not self.limit:
            result = -errno.EPERM
        elif len(wanted) > self.limit:
            result = -errno.ENOMEM
        else:
            self.locked = wanted
        flags = C.MLOCK_ONFAULT if on_fault else 0
        self.returns(result, "mlock2", *self.place(first, count), flags)
        self.returns(-errno.EINVAL, "mlock2", *self.place(first, count), 1 << 5)

    def do_unlock(self, first: int, count: int) -> None:
        self.returns(0, "munlock", *self.place(first, count))
        self.locked -= set(range(first, first + count))

    def do_unlock_all(self) -> None:
        self.returns(0, "munlockall")
        self.locked.clear()

    def do_forget(self, first: int, count: int) -> None:
        """madvise(2): MADV_DONTNEED is not for locked pages, which shows which they are."""
        clash = self.locked & set(range(first, first + count))
        result = -errno.EINVAL if clash else 0
        self.returns(result, "madvise", *self.place(first, count), C.MADV_DONTNEED)


def locked(operations: list[tuple]) -> Case:
    script = Locked()
    script.play(operations)
    for page in range(PAGES):
        script.do_forget(page, 1)
    script.returns(-errno.ENOMEM, "munlock", BASE + PAGES * PAGE, PAGE)
    return script.case()


@given(batch=batches(long_lists(locking, 10).map(locked)))
def test_memory_is_locked_up_to_the_limit(agent, features, batch):
    """Pages are counted once, those beyond RLIMIT_MEMLOCK are refused, and unlocking gives back.

    mlock(2): ENOMEM over the limit, EPERM for a limit of 0; getrlimit(2).
    """
    hold(agent, batch, features)


parts = st.lists(st.one_of(st.integers(0, 40), st.just(PAGE)), max_size=4)


def vectors(script: Script, sizes: list[int]) -> tuple[list[Slot], Slot]:
    rooms = [script.buffer(size) for size in sizes]
    rows = [{"iov_base": room, "iov_len": room.size} for room in rooms]
    return rooms, script.array("struct iovec", rows)


def crossed(sources: list[int], targets: list[int], writes: bool) -> Case:
    """Bytes from one memory to another, however both are cut; here both are one's own."""
    script = Script(arena=1 << 18)
    pid = script.works("getpid", opaque=True)
    data = pattern(1, sum(sources))
    done, rows = 0, []
    for size in sources:
        rows.append({"iov_base": script.content(data[done : done + size]), "iov_len": size})
        done += size
    source = script.array("struct iovec", rows)
    rooms, target = vectors(script, targets)
    moved = min(len(data), sum(targets))
    if writes:
        arguments = ("process_vm_writev", pid, source, len(sources), target, len(targets), 0)
    else:
        arguments = ("process_vm_readv", pid, target, len(targets), source, len(sources), 0)
    ref = script.returns(moved, *arguments, out=rooms)
    done = 0
    for room in rooms:
        script.holds(ref, room, data[done : min(done + room.size, moved)].ljust(room.size, b"\0"))
        done += room.size
    name, *given = arguments
    script.returns(-errno.EINVAL, name, *given[:-1], 1)
    if moved:
        script.returns(-errno.ESRCH, name, 1 << 30, *given[1:])
    return script.case()


@given(batch=batches(st.builds(crossed, parts, parts, st.booleans())))
def test_memory_is_read_across_processes(agent, features, batch):
    """All bytes that fit arrive in order, cut as the vectors say: process_vm_readv(2)."""
    hold(agent, batch, features)


def partial(good: list[int], bad: int, after: int) -> Case:
    """process_vm_readv(2): whole parts before the one that is not there are transferred."""
    script = Script(arena=1 << 18)
    pid = script.works("getpid", opaque=True)
    data = pattern(5, sum(good))
    done, rows = 0, []
    for size in good:
        rows.append({"iov_base": script.content(data[done : done + size]), "iov_len": size})
        done += size
    rows.append({"iov_base": BASE, "iov_len": bad})
    rows.append({"iov_base": script.content(b"x" * after), "iov_len": after})
    remote = script.array("struct iovec", rows)
    rooms, local = vectors(script, [len(data) + bad + after])
    result = len(data) or -errno.EFAULT
    ref = script.returns(result, "process_vm_readv", pid, local, 1, remote, len(rows), 0, out=rooms)
    script.holds(ref, rooms[0], data.ljust(rooms[0].size, b"\0"))
    return script.case()


some = st.lists(st.integers(1, 40), max_size=3)


@given(batch=batches(st.builds(partial, some, st.integers(1, 9), st.integers(1, 9))))
def test_a_partial_read_says_so(agent, features, batch):
    """Up to the first part that is not mapped, or EFAULT if that is the first.

    process_vm_readv(2).
    """
    hold(agent, batch, features)


filling = st.one_of(
    st.tuples(st.just("copy"), page, st.integers(1, 255)),
    st.tuples(st.just("copy"), page, st.integers(1, 255)),
    st.tuples(st.just("zero"), page, count),
    st.tuples(st.just("peek"), page),
    st.tuples(st.just("poke"), page, st.integers(1, 255)),
    st.tuples(st.just("forget"), page, count),
)


class Filled(Touch):
    """Pages that only userfaultfd fills; with UFFD_FEATURE_SIGBUS nobody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.needs.add("userfaultfd")
        self.held: dict[int, int] = {}
        self.uffd = self.works("userfaultfd", C.O_NONBLOCK | C.O_CLOEXEC)
        api = self.struct("struct uffdio_api", api=C.UFFD_API, features=C.UFFD_FEATURE_SIGBUS)
        self.returns(0, "ioctl", self.uffd, C.UFFDIO_API, api)
        size = PAGES * PAGE
        self.returns(BASE, "mmap", BASE, size, BOTH, ANONYMOUS | C.MAP_FIXED, -1, 0)
        self.area = self.content(
            BASE.to_bytes(8, "little") + size.to_bytes(8, "little") + bytes(16)
        )
        self.area_of(C.UFFDIO_REGISTER, C.UFFDIO_REGISTER_MODE_MISSING)

    def area_of(self, request: int, mode: int = 0) -> None:
        raw = b"".join(v.to_bytes(8, "little") for v in (BASE, PAGES * PAGE, mode, 0))
        self.returns(0, "ioctl", self.uffd, request, self.content(raw))

    def do_copy(self, page: int, value: int) -> None:
        source = self.content(bytes([value]) * PAGE)
        target = BASE + page * PAGE
        asked = self.struct("struct uffdio_copy", dst=target, src=source, len=PAGE)
        result = -errno.EEXIST if page in self.held else 0
        ref = self.returns(result, "ioctl", self.uffd, C.UFFDIO_COPY, asked, out=[asked])
        # uffdio_copy: what was copied, or the negated errno, comes back in the field copy.
        self.fields(ref, asked, copy=result or PAGE)
        self.held.setdefault(page, value)

    def do_zero(self, page: int, count: int) -> None:
        pages = range(page, min(page + count, PAGES))
        done = next((n for n, each in enumerate(pages) if each in self.held), len(pages))
        raw = b"".join(
            v.to_bytes(8, "little") for v in (BASE + page * PAGE, len(pages) * PAGE, 0, 0)
        )
        asked = self.content(raw)
        result = 0 if done == len(pages) else (-errno.EAGAIN if done else -errno.EEXIST)
        self.returns(result, "ioctl", self.uffd, C.UFFDIO_ZEROPAGE, asked)
        for each in pages[:done]:
            self.held[each] = 0

    def do_peek(self, page: int) -> None:
        self.peek(BASE + page * PAGE, self.held.get(page))

    def do_poke(self, page: int, value: int) -> None:
        self.poke(BASE + page * PAGE, value, works=page in self.held)
        if page in self.held:
            self.held[page] = value

    def do_forget(self, page: int, count: int) -> None:
        pages = range(page, min(page + count, PAGES))
        self.returns(0, "madvise", BASE + page * PAGE, len(pages) * PAGE, C.MADV_DONTNEED)
        for each in pages:
            self.held.pop(each, None)


def filled(operations: list[tuple]) -> Case:
    script = Filled()
    script.play(operations)
    for page in range(PAGES):
        script.do_peek(page)
    script.area_of(C.UFFDIO_UNREGISTER)
    for page in range(PAGES):
        # Nobody fills them any more, so they are as other memory is.
        script.peek(BASE + page * PAGE, script.held.get(page, 0))
    return script.case()


@given(batch=batches(long_lists(filling, 8).map(filled), 8))
def test_userfaultfd_fills_pages(agent, features, batch):
    """What is missing faults until it is filled, once; what is there is not filled again.

    userfaultfd(2), ioctl_userfaultfd(2) on UFFDIO_COPY and UFFDIO_ZEROPAGE.
    """
    if "userfaultfd" not in features:
        unsupported("this kernel gives no userfaultfd")
    hold(agent, batch, features)


rights = st.sampled_from([0, C.PKEY_DISABLE_WRITE, C.PKEY_DISABLE_ACCESS])


def guarded(wanted: list[int], protection: int) -> Case:
    """Each page under a key of its own, with the rights that the key was made with."""
    script = Touch()
    script.needs.add("pkeys")
    keys: list[Ref] = []
    for index, right in enumerate(wanted):
        address = BASE + index * PAGE
        script.returns(address, "mmap", address, PAGE, BOTH, ANONYMOUS | C.MAP_FIXED, -1, 0)
        script.poke(address, index + 1)
        key = script.works("pkey_alloc", 0, right, opaque=True)
        script.returns(0, "pkey_mprotect", address, PAGE, protection, key)
        keys.append(key)
    for index, right in enumerate(wanted):
        address = BASE + index * PAGE
        reads = right != C.PKEY_DISABLE_ACCESS
        script.peek(address, index + 1 if reads else None)
        writes = not right and protection == BOTH
        script.poke(address, index + 2, works=writes)
        script.returns(0, "pkey_free", keys[index])
        script.returns(-errno.EINVAL, "pkey_free", keys[index])
        script.returns(-errno.EINVAL, "pkey_mprotect", address, PAGE, BOTH, keys[index])

    def check(trace) -> None:
        found = [trace[key] for key in keys]
        assert len(set(found)) == len(found), "a key was given twice"
        assert all(0 < key < 16 for key in found), found

    script.ensure(check)
    script.returns(-errno.EINVAL, "pkey_alloc", 1, 0)
    script.returns(-errno.EINVAL, "pkey_alloc", 0, 8)
    return script.case()


guards = st.builds(guarded, st.lists(rights, max_size=5), st.sampled_from([C.PROT_READ, BOTH]))


@given(batch=batches(guards))
def test_protection_keys_guard_pages(agent, features, batch):
    """A key's rights bind the kernel too, keys are distinct, and a freed one is no key.

    pkeys(7), pkey_alloc(2), mprotect(2) on pkey_mprotect.
    """
    if "pkeys" not in features:
        unsupported("this CPU or kernel has no protection keys")
    hold(agent, batch, features)
