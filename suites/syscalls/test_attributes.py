"""What stat, statx and utimensat say of a file, and what changes it."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import flags, pattern
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
"""UTIME_NOW and UTIME_OMIT of linux/stat.h of the kernel, utimensat(2)."""
LONG_AGO = 1000
SAME = ("mode", "nlink", "uid", "gid", "size", "ino", "blocks")
"""What struct stat and struct statx both have, with the prefixes st_ and stx_."""
RESERVED = 1 << 31
"""STATX__RESERVED: kept for the day when the mask is full, statx(2)."""


class Files(Script):
    """A file p of some kind."""

    def __init__(self, kind: str, mode: int, size: int) -> None:
        super().__init__()
        self.path = self.string("p")
        if kind == "folder":
            self.returns(0, "mkdirat", CWD, self.path, mode)
        elif kind == "link":
            self.returns(0, "symlinkat", self.string("x" * (size + 1)), CWD, self.path)
        elif kind == "fifo":
            self.returns(0, "mknodat", CWD, self.path, C.S_IFIFO | mode, 0)
        else:
            fd = self.works("openat", CWD, self.path, C.O_WRONLY | C.O_CREAT, mode)
            self.returns(size, "write", fd, self.content(pattern(1, size)), size)

    def stat(self) -> tuple[Ref, Slot]:
        room = self.room("struct stat")
        nofollow = C.AT_SYMLINK_NOFOLLOW
        return self.returns(0, "newfstatat", CWD, self.path, room, nofollow, out=[room]), room

    def touch(self, *times: tuple[int, int]) -> None:
        rows = [{"tv_sec": seconds, "tv_nsec": nanoseconds} for seconds, nanoseconds in times]
        array = self.array("struct __kernel_timespec", rows)
        self.returns(0, "utimensat", CWD, self.path, array, C.AT_SYMLINK_NOFOLLOW)


def both(kind: str, mode: int, size: int, asked: int, sync: int) -> Case:
    script = Files(kind, mode, size)
    ref, stat = script.stat()
    room = script.room("struct statx")
    how = C.AT_SYMLINK_NOFOLLOW | sync
    asking = (CWD, script.path, how, asked)
    other = script.returns(0, "statx", *asking, room, out=[room])

    def check(trace) -> None:
        one, two = trace.struct(ref, stat), trace.struct(other, room)
        assert two.stx_mask & asked & C.STATX_BASIC_STATS == asked & C.STATX_BASIC_STATS
        for name in SAME:
            if two.stx_mask & getattr(C, f"STATX_{name.upper()}"):
                assert getattr(one, f"st_{name}") == getattr(two, f"stx_{name}"), name
        for name in ("atime", "mtime", "ctime"):
            if not two.stx_mask & getattr(C, f"STATX_{name.upper()}"):
                continue  # what was not asked for may be stale
            stamp = getattr(two, f"stx_{name}")
            assert stamp.tv_sec == getattr(one, f"st_{name}"), name
            assert stamp.tv_nsec == getattr(one, f"st_{name}_nsec"), name
        assert two.stx_attributes & ~two.stx_attributes_mask == 0

    script.ensure(check)
    script.returns(-errno.EINVAL, "statx", CWD, script.path, how, asked | RESERVED, room)
    wrong = C.AT_STATX_FORCE_SYNC | C.AT_STATX_DONT_SYNC
    script.returns(-errno.EINVAL, "statx", CWD, script.path, wrong, asked, room)
    script.returns(-errno.EINVAL, "statx", CWD, script.path, 1 << 30, asked, room)
    return script.case()


kind = st.sampled_from(["file", "folder", "link", "fifo"])
mode = st.integers(0, 0o777)
size = st.sampled_from([0, 1, 100, 5000])
short = st.sampled_from([0, 1, 100])
masks = flags(["STATX_TYPE", "STATX_MODE", "STATX_SIZE", "STATX_BASIC_STATS", "STATX_BTIME"])
sync = st.sampled_from([0, C.AT_STATX_FORCE_SYNC, C.AT_STATX_DONT_SYNC])


@given(batch=batches(st.builds(both, kind, mode, short, masks, sync)))
def test_statx_says_what_stat_says(agent, features, batch):
    """Each field is that of stat, what was asked for is there, reserved bits are refused.

    statx(2): EINVAL for the reserved bit of the mask and for unknown or contrary flags.
    """
    hold(agent, batch, features)


def touched(kind: str, *times: tuple[int, int]) -> Case:
    script = Files(kind, 0o600, 1)
    script.touch((LONG_AGO, 1), (LONG_AGO, 2))
    script.touch(*times)
    ref, stat = script.stat()
    before = script.room("struct __kernel_timespec")
    clock = script.returns(0, "clock_gettime", C.CLOCK_REALTIME, before, out=[before])
    for index, (seconds, nanoseconds) in enumerate(times):
        field = ("st_atime", "st_mtime")[index]
        if nanoseconds == OMIT:
            script.fields(ref, stat, **{field: LONG_AGO, f"{field}_nsec": index + 1})
        elif nanoseconds != NOW:
            script.fields(ref, stat, **{field: seconds, f"{field}_nsec": nanoseconds})
        else:
            script.ensure(recent(ref, stat, field, clock, before))
    row = [{"tv_sec": 1, "tv_nsec": 10**9}, {"tv_sec": 1, "tv_nsec": 0}]
    wrong = script.array("struct __kernel_timespec", row)
    script.returns(-errno.EINVAL, "utimensat", CWD, script.path, wrong, C.AT_SYMLINK_NOFOLLOW)
    return script.case()


def recent(ref: Ref, stat: Slot, field: str, clock: Ref, now: Slot):
    def check(trace) -> None:
        seen = getattr(trace.struct(ref, stat), field)
        # A file's time may be read off a clock of one tick's accuracy.
        assert trace.struct(clock, now).tv_sec - 10 <= seen <= trace.struct(clock, now).tv_sec

    return check


moment = st.tuples(
    st.integers(0, (1 << 31) - 1),
    st.one_of(st.integers(0, 10**9 - 1), st.sampled_from([NOW, OMIT])),
)


@given(batch=batches(st.builds(touched, kind, moment, moment)))
def test_times_are_as_they_were_set(agent, features, batch):
    """Seconds and nanoseconds are read back, UTIME_NOW is now, UTIME_OMIT leaves a time alone.

    utimensat(2): EINVAL for more nanoseconds than a second has.
    """
    hold(agent, batch, features)


change = st.sampled_from(
    ["write", "nothing written", "pwrite", "truncate", "fallocate", "read", "chmod", "link",
     "attribute", "rename", "open"]
)  # fmt: skip
MODIFIES = frozenset({"write", "pwrite", "truncate"})


def changed(steps: list[str]) -> Case:  # noqa: PLR0912
    """What changes bytes sets the time of the last modification, nothing else does."""
    script = Files("file", 0o600, 100)
    fd = script.works("openat", CWD, script.path, C.O_RDWR, 0)
    data = script.content(b"data")
    for count, step in enumerate(steps):
        script.touch((LONG_AGO, 0), (LONG_AGO, 0))
        other = script.string(f"q{count}")
        match step:
            case "write":
                script.returns(4, "write", fd, data, 4)
            case "nothing written":
                script.returns(0, "write", fd, data, 0)
            case "pwrite":
                script.returns(4, "pwrite64", fd, data, 4, count)
            case "truncate":
                script.returns(0, "ftruncate", fd, 200 + count)
            case "fallocate":
                script.needs.add("fallocate:keep")
                script.returns(0, "fallocate", fd, C.FALLOC_FL_KEEP_SIZE, 0, 10)
                continue  # file systems differ, and no page of the manual says
            case "read":
                script.returns(4, "pread64", fd, script.buffer(4), 4, 0)
            case "chmod":
                script.returns(0, "fchmod", fd, 0o600 + count)
            case "link":
                script.returns(0, "linkat", CWD, script.path, CWD, other, 0)
            case "attribute":
                script.needs.add("attributes:user")
                script.returns(0, "fsetxattr", fd, script.string("user.a"), data, 4, 0)
            case "rename":
                script.returns(0, "renameat", CWD, script.path, CWD, other)
                script.path = other
            case "open":
                opened = script.works("openat", CWD, script.path, C.O_RDONLY, 0)
                script.returns(0, "close", opened)
        ref, stat = script.stat()
        if step not in MODIFIES:
            script.fields(ref, stat, st_mtime=LONG_AGO)
            continue

        def check(trace, ref=ref, stat=stat) -> None:
            assert trace.struct(ref, stat).st_mtime > LONG_AGO

        script.ensure(check)
    return script.case()


@given(batch=batches(long_lists(change, 6).map(changed)))
def test_only_changes_move_the_modification_time(agent, features, batch):
    """Writing and cutting set st_mtime; reading, naming, and changing modes do not: inode(7)."""
    hold(agent, batch, features)


WRITES = (C.O_WRONLY, C.O_RDWR)
opening = st.tuples(
    st.sampled_from(["missing", "file", "folder", "to file", "to folder", "dangling"]),
    st.sampled_from([C.O_RDONLY, C.O_WRONLY, C.O_RDWR]),
    st.sampled_from(
        [0, C.O_CREAT, C.O_CREAT | C.O_EXCL, C.O_DIRECTORY, C.O_TRUNC, C.O_CREAT | C.O_TRUNC]
    ),
    st.sampled_from([0, 0, C.O_NOFOLLOW]),
)


def expected(kind: str, access: int, how: int, nofollow: int) -> int:
    """open(2): the errno, or 0 where it works."""
    link = kind in ("to file", "to folder", "dangling")
    if how & C.O_EXCL and kind != "missing":
        return -errno.EEXIST
    if link and nofollow:
        return -errno.ENOTDIR if how & C.O_DIRECTORY else -errno.ELOOP
    if kind in ("missing", "dangling"):
        return 0 if how & C.O_CREAT else -errno.ENOENT
    if kind in ("folder", "to folder"):
        # Nothing is created or written where a folder is.
        return -errno.EISDIR if access in WRITES or how & (C.O_CREAT | C.O_TRUNC) else 0
    return -errno.ENOTDIR if how & C.O_DIRECTORY else 0


def opened(openings: list[tuple[str, int, int, int]]) -> Case:
    script = Script()
    for index, (kind, access, how, nofollow) in enumerate(openings):
        path, target = script.string(f"p{index}"), script.string(f"t{index}")
        link = kind in ("to file", "to folder", "dangling")
        where = target if link else path
        if kind in ("folder", "to folder"):
            script.returns(0, "mkdirat", CWD, where, 0o700)
        elif kind in ("file", "to file"):
            fd = script.works("openat", CWD, where, C.O_WRONLY | C.O_CREAT, 0o600)
            script.returns(3, "write", fd, script.content(b"abc"), 3)
        if link:
            script.returns(0, "symlinkat", target, CWD, path)
        result = expected(kind, access, how, nofollow)
        arguments = ("openat", CWD, path, access | how | nofollow, 0o600)
        if result:
            script.returns(result, *arguments)
            continue
        fd = script.works(*arguments)
        stat = script.room("struct stat")
        ref = script.returns(0, "fstat", fd, stat, out=[stat])
        if kind in ("file", "to file"):
            script.fields(ref, stat, st_size=0 if how & C.O_TRUNC else 3)
        elif kind in ("missing", "dangling"):
            script.fields(ref, stat, st_size=0, st_mode=C.S_IFREG | 0o600)
    return script.case()


@given(batch=batches(st.lists(opening, max_size=8).map(opened)))
def test_open_creates_follows_and_refuses(agent, features, batch):
    """O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW and O_TRUNC over each kind of file: open(2)."""
    hold(agent, batch, features)


@given(batch=batches(st.lists(opening, max_size=8).map(opened)))
def test_open_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
