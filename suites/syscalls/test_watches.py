"""inotify and fanotify: which events a file's life gives, and in which order."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import flags
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
ROOM = 4096
NAMES = "abc"

name = st.sampled_from(NAMES)
deed = st.one_of(
    st.tuples(st.just("create"), name),
    st.tuples(st.just("create"), name),
    st.tuples(st.just("folder"), name),
    st.tuples(st.just("remove"), name),
    st.tuples(st.just("rename"), name, name),
    st.tuples(st.just("rename"), name, name),
    st.tuples(st.just("link"), name, name),
    st.tuples(st.just("write"), name),
    st.tuples(st.just("read"), name),
    st.tuples(st.just("chmod"), name),
    st.tuples(st.just("cut"), name),
)
masks = flags(
    ["IN_CREATE", "IN_DELETE", "IN_MOVED_FROM", "IN_MOVED_TO", "IN_OPEN", "IN_MODIFY", "IN_ACCESS",
     "IN_ATTRIB", "IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE"]
)  # fmt: skip

Event = tuple[int, str]
"""The event's mask, and the name in the folder."""


class Folder(Script):
    """A watched folder, and the events that are due."""

    def __init__(self, mask: int) -> None:
        super().__init__()
        self.mask = mask
        self.files: dict[str, str] = {}
        self.due: list[Event] = []
        self.returns(0, "mkdirat", CWD, self.string("d"), 0o700)
        self.fd = self.works("inotify_init1", C.IN_NONBLOCK)
        self.watch = self.returns(1, "inotify_add_watch", self.fd, self.string("d"), mask)

    def path(self, name: str) -> Slot:
        return self.string(f"d/{name}")

    def event(self, mask: int, name: str, *, folder: bool = False) -> None:
        """inotify(7): an event like the last one that waits is not added again."""
        if mask & self.mask:
            event = (mask | (C.IN_ISDIR if folder else 0), name)
            # A pair of a rename has a number of its own, so no two of them are alike.
            if mask & C.IN_MOVE or not self.due or self.due[-1] != event:
                self.due.append(event)

    def opened(self, name: str, flags: int) -> Ref:
        fd = self.works("openat", CWD, self.path(name), flags, 0o600)
        self.event(C.IN_OPEN, name)
        return fd

    def closed(self, fd: Ref, name: str, *, wrote: bool) -> None:
        self.returns(0, "close", fd)
        self.event(C.IN_CLOSE_WRITE if wrote else C.IN_CLOSE_NOWRITE, name)

    def do_create(self, name: str) -> None:
        if name in self.files:
            return
        fd = self.works("openat", CWD, self.path(name), C.O_CREAT | C.O_RDWR, 0o600)
        self.event(C.IN_CREATE, name)
        self.event(C.IN_OPEN, name)
        self.closed(fd, name, wrote=True)
        self.files[name] = f"file {len(self)}"

    def do_folder(self, name: str) -> None:
        if name not in self.files:
            self.returns(0, "mkdirat", CWD, self.path(name), 0o700)
            self.event(C.IN_CREATE, name, folder=True)
            self.files[name] = "folder"

    def do_remove(self, name: str) -> None:
        if name in self.files:
            folder = self.files.pop(name) == "folder"
            how = C.AT_REMOVEDIR if folder else 0
            self.returns(0, "unlinkat", CWD, self.path(name), how)
            self.event(C.IN_DELETE, name, folder=folder)

    def do_rename(self, name: str, new: str) -> None:
        if name not in self.files or new in self.files:
            return
        self.returns(0, "renameat", CWD, self.path(name), CWD, self.path(new))
        folder = self.files[name] == "folder"
        self.event(C.IN_MOVED_FROM, name, folder=folder)
        self.event(C.IN_MOVED_TO, new, folder=folder)
        self.files[new] = self.files.pop(name)

    def do_link(self, name: str, new: str) -> None:
        if self.files.get(name, "folder") != "folder" and new not in self.files:
            self.returns(0, "linkat", CWD, self.path(name), CWD, self.path(new), 0)
            self.event(C.IN_CREATE, new)
            self.files[new] = self.files[name]

    def do_write(self, name: str) -> None:
        if self.files.get(name, "folder") != "folder":
            fd = self.opened(name, C.O_WRONLY)
            for _ in range(2):
                self.returns(4, "write", fd, self.content(b"data"), 4)
                self.event(C.IN_MODIFY, name)
            self.closed(fd, name, wrote=True)

    def do_read(self, name: str) -> None:
        if self.files.get(name, "folder") != "folder":
            fd = self.opened(name, C.O_RDWR)
            self.returns(4, "pwrite64", fd, self.content(b"data"), 4, 0)
            self.event(C.IN_MODIFY, name)
            self.returns(4, "pread64", fd, self.buffer(4), 4, 0)
            self.event(C.IN_ACCESS, name)
            self.closed(fd, name, wrote=True)

    def do_chmod(self, name: str) -> None:
        if name in self.files:
            self.returns(0, "fchmodat", CWD, self.path(name), 0o700)
            self.event(C.IN_ATTRIB, name, folder=self.files[name] == "folder")

    def do_cut(self, name: str) -> None:
        if self.files.get(name, "folder") != "folder":
            self.returns(0, "truncate", self.path(name), len(self))
            self.event(C.IN_MODIFY, name)

    def collect(self) -> None:
        into = self.buffer(ROOM)
        due = list(self.due)
        if not due:
            self.returns(-errno.EAGAIN, "read", self.fd, into, ROOM)
            return
        ref = self.works("read", self.fd, into, ROOM, out=[into])
        self.ensure(lambda trace: same_events(trace.bytes(ref, into)[: trace[ref]], due))
        self.due.clear()


def parsed(raw: bytes) -> list[tuple[int, int, int, str]]:
    """(watch, mask, cookie, name) of each struct inotify_event."""
    found = []
    while raw:
        watch, mask, cookie, length = (
            int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8, 12)
        )
        found.append((watch, mask, cookie, raw[16 : 16 + length].rstrip(b"\0").decode()))
        raw = raw[16 + length :]
    return found


def same_events(raw: bytes, due: list[Event]) -> None:
    found = parsed(raw)
    assert [(mask, name) for _, mask, _, name in found] == due
    moved = {}
    for _, mask, cookie, _ in found:
        assert bool(cookie) == bool(mask & C.IN_MOVE), "only renames have a cookie"
        if mask & C.IN_MOVED_FROM:
            moved[cookie] = mask
    for index, (_, mask, cookie, _) in enumerate(found):
        if mask & C.IN_MOVED_TO and index and found[index - 1][1] & C.IN_MOVED_FROM:
            assert cookie in moved, "the two halves of a rename do not belong together"


def told(mask: int, rounds: list[list[tuple]]) -> Case:
    if not mask:
        mask = C.IN_ALL_EVENTS
    script = Folder(mask)
    for deeds in rounds:
        script.play(deeds)
        script.collect()
    return script.case()


rounds = st.lists(long_lists(deed, 5), min_size=1, max_size=3)


@given(batch=batches(st.builds(told, masks, rounds), 10))
def test_inotify_tells_what_happens_in_a_folder(agent, features, batch):
    """Each deed gives its events, in order, of the wanted kinds; equal neighbours are one.

    inotify(7): events, IN_ISDIR, cookies of renames, coalescing.
    """
    hold(agent, batch, features)


watching = st.one_of(
    st.tuples(st.just("add"), name, masks, st.sampled_from(["", "", "more", "new", "once", "dir"])),
    st.tuples(st.just("add"), name, masks, st.sampled_from(["", "", "more", "new", "once", "dir"])),
    st.tuples(st.just("drop"), name),
    st.tuples(st.just("touch"), name),
    st.tuples(st.just("touch"), name),
    st.tuples(st.just("remove"), name),
)


class Watches(Script):
    """Files and their watches; numbers are given once."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = self.works("inotify_init1", C.IN_NONBLOCK)
        self.watches: dict[str, tuple[int, int, bool]] = {}
        self.last = 0
        for name in NAMES:
            self.returns(0, "mknodat", CWD, self.string(name), C.S_IFREG | 0o600, 0)
        self.there = set(NAMES)

    def do_add(self, name: str, mask: int, how: str) -> None:
        extra = {"more": C.IN_MASK_ADD, "new": C.IN_MASK_CREATE, "once": C.IN_ONESHOT,
                 "dir": C.IN_ONLYDIR}.get(how, 0)  # fmt: skip
        there = self.watches.get(name)
        if not mask and how != "once":
            mask = C.IN_ATTRIB
        if name not in self.there:
            result = -errno.ENOENT
        elif how == "dir":
            result = -errno.ENOTDIR
        elif there and how == "new":
            result = -errno.EEXIST
        elif there:
            result = there[0]
            kept = there[1] if how == "more" else 0
            once = how == "once" or (how == "more" and there[2])
            self.watches[name] = (result, mask | kept, once)
        else:
            self.last += 1
            result = self.last
            self.watches[name] = (result, mask, how == "once")
        self.returns(result, "inotify_add_watch", self.fd, self.string(name), mask | extra)

    def do_drop(self, name: str) -> None:
        there = self.watches.pop(name, None)
        if there is None:
            self.returns(-errno.EINVAL, "inotify_rm_watch", self.fd, self.last + 1)
            return
        self.returns(0, "inotify_rm_watch", self.fd, there[0])
        self.expect([(there[0], C.IN_IGNORED)])

    def do_touch(self, name: str) -> None:
        if name not in self.there:
            return
        self.returns(0, "fchmodat", CWD, self.string(name), 0o600)
        self.expect(self.seen(name, C.IN_ATTRIB))

    def seen(self, name: str, what: int) -> list[tuple[int, int]]:
        if name not in self.watches:
            return []
        number, mask, once = self.watches[name]
        if not mask & what:
            return []
        if once:
            del self.watches[name]
            return [(number, what), (number, C.IN_IGNORED)]
        return [(number, what)]

    def do_remove(self, name: str) -> None:
        """The last link goes: its count changes, and then the watch ends."""
        if name not in self.there:
            return
        self.there.discard(name)
        self.returns(0, "unlinkat", CWD, self.string(name), 0)
        due = self.seen(name, C.IN_ATTRIB)
        if name in self.watches:
            due += [(self.watches.pop(name)[0], C.IN_IGNORED)]
        self.expect(due)

    def expect(self, due: list[tuple[int, int]]) -> None:
        into = self.buffer(256)
        if not due:
            self.returns(-errno.EAGAIN, "read", self.fd, into, 256)
            return
        ref = self.returns(16 * len(due), "read", self.fd, into, 256, out=[into])

        def check(trace) -> None:
            found = parsed(trace.bytes(ref, into)[: trace[ref]])
            assert [(watch, mask) for watch, mask, _, _ in found] == due

        self.ensure(check)


def watched(operations: list[tuple]) -> Case:
    script = Watches()
    script.play(operations)
    for name in NAMES:
        script.do_touch(name)
    return script.case()


@given(batch=batches(long_lists(watching, 10).map(watched)))
def test_inotify_watches_are_numbered_once(agent, features, batch):
    """A second watch of a file changes the first, IN_ONESHOT ends it, and IN_IGNORED says so.

    inotify_add_watch(2) on IN_MASK_ADD, IN_MASK_CREATE, IN_ONLYDIR; inotify_rm_watch(2).
    """
    hold(agent, batch, features)


MARKS = ("FAN_OPEN", "FAN_MODIFY", "FAN_ACCESS", "FAN_CLOSE_WRITE", "FAN_CLOSE_NOWRITE")
marking = st.one_of(
    st.tuples(st.just("mark"), flags(MARKS)),
    st.tuples(st.just("unmark"), flags(MARKS)),
    st.tuples(st.just("write")),
    st.tuples(st.just("write")),
    st.tuples(st.just("read")),
    st.tuples(st.just("read")),
)


class Marked(Script):
    """One file, marked for some events, each of which brings an open file."""

    def __init__(self, mask: int) -> None:
        super().__init__()
        self.needs.add("fanotify")
        self.mask = 0
        self.path = self.string("f")
        self.pid = self.works("getpid", opaque=True)
        fd = self.works("openat", CWD, self.path, C.O_CREAT | C.O_WRONLY, 0o600)
        self.returns(4, "write", fd, self.content(b"data"), 4)
        self.returns(0, "close", fd)
        flags = C.FAN_CLASS_NOTIF | C.FAN_NONBLOCK | C.FAN_CLOEXEC
        self.fd = self.works("fanotify_init", flags, C.O_RDONLY)
        self.do_mark(mask)

    def do_mark(self, mask: int) -> None:
        result = 0 if mask else -errno.EINVAL
        self.returns(result, "fanotify_mark", self.fd, C.FAN_MARK_ADD, mask, CWD, self.path)
        self.mask |= mask

    def do_unmark(self, mask: int) -> None:
        if not mask:
            return
        result = 0 if self.mask else -errno.ENOENT
        self.returns(result, "fanotify_mark", self.fd, C.FAN_MARK_REMOVE, mask, CWD, self.path)
        self.mask &= ~mask

    def due(self, what: int) -> None:
        """One event of our own, with a descriptor of the file that gives no events."""
        into = self.buffer(64)
        if not what & self.mask:
            self.returns(-errno.EAGAIN, "read", self.fd, into, 64)
            return
        event = into.at(0, 24, "struct fanotify_event_metadata")
        ref = self.returns(24, "read", self.fd, into, 64, out=[event])
        self.fields(ref, event, event_len=24, vers=C.FANOTIFY_METADATA_VERSION, mask=what)
        pid = self.pid

        def check(trace) -> None:
            assert trace.struct(ref, event).pid == trace[pid]

        self.ensure(check)
        fd, seen = into.word(4), self.buffer(8)
        got = self.returns(4, "pread64", fd, seen, 8, 0, out=[seen])
        self.holds(got, seen, b"data\0\0\0\0")
        self.returns(-errno.EBADF, "write", fd, seen, 1)
        self.returns(0, "close", fd)

    def do_write(self) -> None:
        fd = self.works("openat", CWD, self.path, C.O_WRONLY, 0)
        self.due(C.FAN_OPEN)
        self.returns(4, "pwrite64", fd, self.content(b"data"), 4, 0)
        self.due(C.FAN_MODIFY)
        self.returns(0, "close", fd)
        self.due(C.FAN_CLOSE_WRITE)

    def do_read(self) -> None:
        fd = self.works("openat", CWD, self.path, C.O_RDONLY, 0)
        self.due(C.FAN_OPEN)
        self.returns(1, "read", fd, self.buffer(1), 1)
        self.due(C.FAN_ACCESS)
        self.returns(0, "close", fd)
        self.due(C.FAN_CLOSE_NOWRITE)


def marked(mask: int, operations: list[tuple]) -> Case:
    script = Marked(mask)
    script.play(operations)
    script.do_write()
    return script.case()


@given(batch=batches(st.builds(marked, flags(MARKS), long_lists(marking, 6))))
def test_fanotify_brings_the_file_itself(agent, features, batch):
    """Marked events come once, from this process, with a descriptor that gives no events itself.

    fanotify(7), fanotify_mark(2).
    """
    hold(agent, batch, features)
