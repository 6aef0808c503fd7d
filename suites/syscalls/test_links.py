"""Files without names, descriptors without files, and the links between."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

PROC = "/proc/self/fd/%d"
FIRST = 3
"""The number of the first descriptor that a program opens."""
CWD = C.AT_FDCWD

name = st.sampled_from("abc")
unnamed = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 40)),
    st.tuples(st.just("link"), name, st.booleans()),
    st.tuples(st.just("link"), name, st.booleans()),
    st.tuples(st.just("unlink"), name),
    st.tuples(st.just("look"), name),
)


class Unnamed(Script):
    """A file made by O_TMPFILE, and the names that it gets."""

    def __init__(self, excluded: bool, mode: int) -> None:
        super().__init__()
        self.excluded, self.mode = excluded, mode
        self.names: set[str] = set()
        self.ever = False
        self.held = b""
        flags = C.O_TMPFILE | C.O_RDWR | (C.O_EXCL if excluded else 0)
        self.fd = self.works("openat", CWD, self.string("."), flags, mode)
        self.same()

    def same(self) -> None:
        stat = self.room("struct stat")
        ref = self.returns(0, "fstat", self.fd, stat, out=[stat])
        mode = C.S_IFREG | self.mode
        size = len(self.held)
        self.fields(ref, stat, st_nlink=len(self.names), st_mode=mode, st_size=size)

    def do_write(self, size: int) -> None:
        data = pattern(len(self), size)
        self.returns(size, "pwrite64", self.fd, self.content(data), size, len(self.held))
        self.held += data

    def do_link(self, name: str, by_proc: bool) -> None:
        """openat(2): an O_EXCL file gets no name; one that lost its last name gets none again."""
        result = 0
        if name in self.names:
            result = -errno.EEXIST
        elif self.excluded or (self.ever and not self.names):
            result = -errno.ENOENT
        if by_proc:
            path = self.string(PROC % FIRST)
            self.returns(result, "linkat", CWD, path, CWD, self.string(name), C.AT_SYMLINK_FOLLOW)
        else:
            arguments = (self.fd, self.string(""), CWD, self.string(name), C.AT_EMPTY_PATH)
            self.needs.add("linkat:empty-path")
            self.returns(result, "linkat", *arguments)
        if result == 0:
            self.names.add(name)
            self.ever = True
        self.same()

    def do_unlink(self, name: str) -> None:
        result = 0 if name in self.names else -errno.ENOENT
        self.returns(result, "unlinkat", CWD, self.string(name), 0)
        self.names.discard(name)
        self.same()

    def do_look(self, name: str) -> None:
        into = self.buffer(len(self.held) + 1)
        if name not in self.names:
            self.returns(-errno.ENOENT, "openat", CWD, self.string(name), C.O_RDONLY, 0)
            return
        fd = self.works("openat", CWD, self.string(name), C.O_RDONLY, 0)
        ref = self.returns(len(self.held), "read", fd, into, into.size, out=[into])
        self.holds(ref, into, self.held + b"\0")
        self.returns(0, "close", fd)


def named(excluded: bool, mode: int, operations: list[tuple]) -> Case:
    script = Unnamed(excluded, mode)
    script.play(operations)
    for name in "abc":
        script.do_look(name)
    return script.case()


modes = st.sampled_from([0o600, 0o644, 0o755])
rarely = st.sampled_from([False, False, False, True])


@given(batch=batches(st.builds(named, rarely, modes, long_lists(unnamed, 10))))
def test_an_unnamed_file_gets_names(agent, features, batch):
    """linkat gives a file of O_TMPFILE its names, unless O_EXCL made it nameless for good.

    openat(2) on O_TMPFILE, linkat(2): ENOENT for a file whose link count fell to zero.
    """
    hold(agent, batch, features)


def refusals(fd: Ref, script: Script) -> dict[str, tuple]:
    """Calls that need an open file, with O_PATH as good as none: open(2)."""
    room = script.buffer(16)
    return {
        "read": ("read", fd, room, 4),
        "write": ("write", fd, room, 4),
        "pread": ("pread64", fd, room, 4, 0),
        "fchmod": ("fchmod", fd, 0o700),
        "fchown": ("fchown", fd, -1 % (1 << 32), -1 % (1 << 32)),
        "fgetxattr": ("fgetxattr", fd, script.string("user.a"), room, 4),
        "ftruncate": ("ftruncate", fd, 0),
        "mmap": ("mmap", 0, 4096, C.PROT_READ, C.MAP_PRIVATE, fd, 0),
        "ioctl": ("ioctl", fd, C.FIONREAD, room),
        "lseek": ("lseek", fd, 0, C.SEEK_SET),
        "fsync": ("fsync", fd),
        "flock": ("flock", fd, C.LOCK_SH),
        "getdents": ("getdents64", fd, room, 16),
        "setlease": ("fcntl", fd, C.F_SETLEASE, C.F_RDLCK),
    }


def paths_only(kind: str, asked: list[str], extra: int) -> Case:
    """O_PATH names a place, and does nothing to what is there."""
    script = Script()
    where = script.string("p")
    if kind == "folder":
        script.returns(0, "mkdirat", CWD, where, 0o700)
    elif kind == "link":
        script.returns(0, "symlinkat", script.string("target"), CWD, where)
    else:
        made = script.works("openat", CWD, where, C.O_WRONLY | C.O_CREAT, 0o600)
        script.returns(0, "close", made)
    fd = script.works("openat", CWD, where, C.O_PATH | C.O_NOFOLLOW | extra, 0)
    stat = script.room("struct stat")
    ref = script.returns(0, "fstat", fd, stat, out=[stat])
    kinds = {"folder": C.S_IFDIR | 0o700, "link": C.S_IFLNK | 0o777, "file": C.S_IFREG | 0o600}
    script.fields(ref, stat, st_mode=kinds[kind])
    for which in asked:
        script.returns(-errno.EBADF, *refusals(fd, script)[which])
    shown = extra & C.O_DIRECTORY | C.O_PATH | C.O_NOFOLLOW
    script.returns(shown, "fcntl", fd, C.F_GETFL)
    script.returns(1 if extra & C.O_CLOEXEC else 0, "fcntl", fd, C.F_GETFD)
    twin = script.works("dup", fd)
    script.returns(shown, "fcntl", twin, C.F_GETFL)
    reached = -errno.ENOTDIR if kind != "folder" else 0
    script.returns(reached, "fchdir", twin)
    if kind == "link":
        into = script.buffer(8)
        ref = script.returns(6, "readlinkat", twin, script.string(""), into, 8, out=[into])
        script.holds(ref, into, b"target\0\0")
    elif kind == "folder":
        script.returns(-errno.ENOENT, "openat", fd, script.string("nothing"), C.O_RDONLY, 0)
    return script.case()


WHAT = ("read", "write", "pread", "fchmod", "fchown", "fgetxattr", "ftruncate", "mmap", "ioctl",
        "lseek", "fsync", "flock", "getdents", "setlease")  # fmt: skip
refused = st.lists(st.sampled_from(WHAT), max_size=8)


@st.composite
def places(draw) -> Case:
    kind = draw(st.sampled_from(["file", "folder", "link"]))
    extra = draw(st.sampled_from([0, C.O_CLOEXEC]))
    if kind == "folder":
        extra |= draw(st.sampled_from([0, C.O_DIRECTORY]))
    return paths_only(kind, draw(refused), extra)


@given(batch=batches(places()))
def test_a_path_descriptor_opens_nothing(agent, features, batch):
    """O_PATH serves fstat, dup, fchdir and calls relative to it; the file itself stays shut.

    open(2) on O_PATH: other operations fail with EBADF.
    """
    hold(agent, batch, features)


def link_text(target: bytes, room: int) -> Case:
    """readlink(2): no NUL, and cut to the buffer."""
    script = Script()
    where, text = script.string("l"), script.string(target)
    if not target:
        script.returns(-errno.ENOENT, "symlinkat", text, CWD, where)
        return script.case()
    if len(target) >= C.PATH_MAX:
        script.returns(-errno.ENAMETOOLONG, "symlinkat", text, CWD, where)
        return script.case()
    script.returns(0, "symlinkat", text, CWD, where)
    script.returns(-errno.EEXIST, "symlinkat", text, CWD, where)
    into = script.buffer(room + 1)
    got = target[:room]
    result = len(got) if room else -errno.EINVAL
    ref = script.returns(result, "readlinkat", CWD, where, into, room, out=[into])
    script.holds(ref, into, got.ljust(room + 1, b"\0"))
    stat = script.room("struct stat")
    ref = script.returns(0, "lstat", where, stat, out=[stat])
    script.fields(ref, stat, st_size=len(target), st_mode=C.S_IFLNK | 0o777)
    return script.case()


targets = st.one_of(
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"x")),
    st.sampled_from([C.PATH_MAX - 1, C.PATH_MAX]).map(lambda size: b"t" * size),
)


@given(batch=batches(st.builds(link_text, targets, st.sampled_from([0, 1, 10, 100]))))
def test_symbolic_links_keep_their_text(agent, features, batch):
    """Any bytes are read back, cut to the buffer, and their count is the link's size.

    symlink(2), readlink(2), symlink(7).
    """
    hold(agent, batch, features)


def chain(length: int, flags: int) -> Case:
    """A file behind so many symbolic links; path_resolution(7): at most 40 are followed."""
    script = Script()
    made = script.works("openat", CWD, script.string("0"), C.O_WRONLY | C.O_CREAT, 0o600)
    script.returns(0, "close", made)
    for index in range(length):
        here, there = script.string(str(index)), script.string(str(index + 1))
        script.returns(0, "symlinkat", here, CWD, there)
    result = 0
    if length > 40 or (length and flags & C.O_NOFOLLOW):
        result = -errno.ELOOP
    if result:
        script.returns(result, "openat", CWD, script.string(str(length)), flags, 0)
    else:
        script.works("openat", CWD, script.string(str(length)), flags, 0)
    return script.case()


chains = st.builds(
    chain,
    st.one_of(st.integers(0, 4), st.integers(38, 43)),
    st.sampled_from([C.O_RDONLY, C.O_RDONLY, C.O_RDONLY | C.O_NOFOLLOW]),
)


@given(batch=batches(chains))
def test_links_are_followed_forty_times(agent, features, batch):
    """Forty links in a row lead to the file, one more is ELOOP: path_resolution(7), open(2)."""
    hold(agent, batch, features)
