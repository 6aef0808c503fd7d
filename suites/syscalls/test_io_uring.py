"""io_uring: its operations are their system calls, in chains where that is asked for."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from rings import ENTRIES, Entry, Ring

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
MARKS = (1 << 64) - 1

place = st.integers(0, 100)
size = st.integers(0, 60)
deed = st.one_of(
    st.tuples(st.just("write"), place, size),
    st.tuples(st.just("write"), place, size),
    st.tuples(st.just("read"), place, size),
    st.tuples(st.just("read"), place, size),
    st.tuples(st.just("fallocate"), place, size),
    st.tuples(st.just("fsync")),
    st.tuples(st.just("nothing")),
    st.tuples(st.just("closed"), size),
)


class Twins(Ring):
    """Two files: what is done to one by the ring is done to the other by system calls."""

    def __init__(self) -> None:
        super().__init__()
        flags = C.O_RDWR | C.O_CREAT
        self.files = [
            self.works("openat", CWD, self.string(name), flags, 0o600) for name in ("f", "g")
        ]
        self.meant: list[tuple[int, Ref | int]] = []

    def both(self, name: str, call: tuple, entry: dict, *rooms: Slot) -> None:
        """The call of that name on one file, and the operation on the other."""
        result = self.call(name, self.files[0], *call, out=[room for room in rooms[:1] if room])
        mark = 1000 + len(self.meant)
        done = self.submit([Entry(fd=self.files[1], mark=mark, **entry)], out=rooms[1:])
        self.meant.append((mark, result))
        if rooms:
            one, two = rooms

            def check(trace) -> None:
                assert trace.bytes(result, one) == trace.bytes(done, two), name

            self.ensure(check)

    def do_write(self, at: int, size: int) -> None:
        data = self.content(pattern(len(self), size))
        entry = {"opcode": C.IORING_OP_WRITE, "off": at, "addr": data, "length": size}
        self.both("pwrite64", (data, size, at), entry)

    def do_read(self, at: int, size: int) -> None:
        one, two = self.buffer(size), self.buffer(size)
        entry = {"opcode": C.IORING_OP_READ, "off": at, "addr": two, "length": size}
        self.both("pread64", (one, size, at), entry, one, two)

    def do_fallocate(self, at: int, size: int) -> None:
        """The length lies where others have an address."""
        entry = {"opcode": C.IORING_OP_FALLOCATE, "off": at, "addr": size}
        self.both("fallocate", (0, at, size), entry)

    def do_fsync(self) -> None:
        self.both("fsync", (), {"opcode": C.IORING_OP_FSYNC})

    def do_nothing(self) -> None:
        mark = 1000 + len(self.meant)
        self.submit([Entry(C.IORING_OP_NOP, mark=mark)])
        self.meant.append((mark, 0))

    def do_closed(self, size: int) -> None:
        """A descriptor that is none is the operation's error, not the ring's."""
        mark = 1000 + len(self.meant)
        self.submit([Entry(C.IORING_OP_READ, 999, 0, self.buffer(60), size, mark=mark)])
        self.meant.append((mark, -errno.EBADF))


def twins(deeds: list[tuple]) -> Case:
    script = Twins()
    script.play(deeds[: 2 * ENTRIES])
    last = script.completions()

    def check(trace) -> None:
        found = dict(script.completed(trace, *last))
        assert len(found) == len(script.meant), "one completion for each submission"
        for mark, result in script.meant:
            value = trace[result] if isinstance(result, Ref) else result
            assert found[mark] == value, f"{mark}: {found[mark]}, must be {value}"

    script.ensure(check)
    rooms = []
    for fd in script.files:
        into = script.buffer(300)
        rooms.append((script.works("pread64", fd, into, 300, 0, out=[into]), into))
    script.ensure(lambda trace: alike(*(trace.bytes(*room) for room in rooms)))
    return script.case()


def alike(one: object, two: object) -> None:
    assert one == two


@given(batch=batches(st.lists(deed, max_size=10).map(twins), 5))
def test_operations_are_their_system_calls(agent, features, batch):
    """Results, errors and what is left in the file are those of the call of the same name.

    io_uring_enter(2) on IORING_OP_READ, WRITE, FALLOCATE, FSYNC and NOP.
    """
    if "io_uring" not in features:
        unsupported("this kernel gives no io_uring")
    hold(agent, batch, features)


def marked(marks: list[int]) -> Case:
    """Many at once: each completes once, with the number it was given."""
    script = Ring()
    script.submit([Entry(C.IORING_OP_NOP, mark=mark) for mark in marks])
    last = script.completions()

    def check(trace) -> None:
        found = script.completed(trace, *last)
        assert sorted(mark for mark, _ in found) == sorted(marks)
        assert all(result == 0 for _, result in found)

    script.ensure(check)
    return script.case()


marks = st.lists(st.integers(0, MARKS), min_size=1, max_size=ENTRIES)


@given(batch=batches(marks.map(marked), 5))
def test_completions_bring_the_number_back(agent, features, batch):
    """user_data is returned bit for bit, once for each submission: io_uring_enter(2)."""
    if "io_uring" not in features:
        unsupported("this kernel gives no io_uring")
    hold(agent, batch, features)


def chained(kinds: list[tuple[str, str]]) -> Case:
    """A chain ends with the first that fails; a hard one goes on.

    What fails is to open a file that is not there, which is found while it is done: what cannot
    even be submitted ends a hard chain as well.
    """
    script = Ring()
    flags = C.O_RDWR | C.O_CREAT
    fd = script.works("openat", CWD, script.string("f"), flags, 0o600)
    script.returns(10, "pwrite64", fd, script.content(b"0123456789"), 10, 0)
    none = script.string("none")
    links = {"soft": C.IOSQE_IO_LINK, "hard": C.IOSQE_IO_HARDLINK, "": 0}
    entries, meant, broken = [], [], False
    for mark, (kind, link) in enumerate(kinds):
        last = mark == len(kinds) - 1
        how = 0 if last else links[link]
        into = script.buffer(10)
        entry, result = {
            "read": (Entry(C.IORING_OP_READ, fd, 0, into, 10, 0, how, mark), 10),
            "short": (Entry(C.IORING_OP_READ, fd, 5, into, 10, 0, how, mark), 5),
            "fails": (Entry(C.IORING_OP_OPENAT, CWD, 0, none, 0, 0, how, mark), -errno.ENOENT),
            "nothing": (Entry(C.IORING_OP_NOP, how=how, mark=mark), 0),
        }[kind]
        entries.append(entry)
        meant.append((mark, -errno.ECANCELED if broken else result))
        # A read that is short also breaks a chain.
        failed = broken or kind in ("short", "fails")
        broken = failed and bool(how) and (link == "soft" or broken)
    script.submit(entries)
    last_seen = script.completions()

    def check(trace) -> None:
        found = sorted(script.completed(trace, *last_seen))
        assert found == meant, f"of {kinds}: {found}, must be {meant}"

    script.ensure(check)
    return script.case()


chains = st.lists(
    st.tuples(st.sampled_from(["read", "nothing", "nothing", "short", "fails"]),
              st.sampled_from(["soft", "soft", "hard", ""])),
    min_size=1, max_size=ENTRIES,
)  # fmt: skip


@given(batch=batches(chains.map(chained), 5))
def test_a_chain_ends_with_a_failure(agent, features, batch):
    """What follows an error or a short read in a chain is cancelled, unless the link is hard.

    io_uring_enter(2) on IOSQE_IO_LINK and IOSQE_IO_HARDLINK.
    """
    if "io_uring" not in features:
        unsupported("this kernel gives no io_uring")
    hold(agent, batch, features)


def by_path(mode: int, size: int, exists: bool, missing: bool) -> Case:
    """Operations on paths: open, statx, close, rename and unlink."""
    script = Ring()
    path = script.string("f")
    flags = C.O_RDWR | C.O_CREAT | (C.O_EXCL if exists else 0)
    if exists:
        made = script.works("openat", CWD, path, C.O_CREAT | C.O_WRONLY, mode)
        script.returns(0, "close", made)
    opened = Entry(C.IORING_OP_OPENAT, CWD, 0, path, mode, flags, 0, 1)
    script.submit([opened])
    number = 5  # the next after the ring, its carrier and nothing else
    result = -errno.EEXIST if exists else number
    if not exists:
        data = pattern(1, size)
        script.returns(size, "write", number, script.content(data), size)
    room = script.room("struct statx")
    asked = Entry(C.IORING_OP_STATX, CWD, room, path, C.STATX_BASIC_STATS, 0, 0, 2)
    done = script.submit([asked], out=[room])
    script.fields(done, room, stx_size=0 if exists else size, stx_mode=C.S_IFREG | mode & 0o755)
    other = script.string("none" if missing else "f")
    script.submit([Entry(C.IORING_OP_STATX, CWD, room, other, C.STATX_SIZE, 0, 0, 3)])
    script.submit([Entry(C.IORING_OP_CLOSE, number, mark=4)])
    script.returns(-errno.EBADF, "fcntl", number, C.F_GETFD)
    seen = script.completions()
    meant = [(1, result), (2, 0), (3, -errno.ENOENT if missing else 0)]
    meant.append((4, -errno.EBADF if exists else 0))
    script.ensure(lambda trace: alike(script.completed(trace, *seen), meant))
    return script.case()


paths = st.builds(
    by_path, st.sampled_from([0o600, 0o644, 0o666, 0o777]), size, st.booleans(), st.booleans()
)


@given(batch=batches(paths, 5))
def test_operations_on_paths_are_their_calls(agent, features, batch):
    """A file is opened under the umask, seen and closed as openat, statx and close would.

    io_uring_enter(2) on IORING_OP_OPENAT, STATX and CLOSE.
    """
    if "io_uring" not in features:
        unsupported("this kernel gives no io_uring")
    hold(agent, batch, features)
