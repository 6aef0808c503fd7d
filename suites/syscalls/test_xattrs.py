"""Extended attributes: names and values of files, by a model."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
WAYS = ("path", "descriptor", "link")
"""setxattr, fsetxattr and lsetxattr, and so with the others."""

name = st.sampled_from(["a", "b", "c", "long" * 20])
way = st.sampled_from(WAYS)
size = st.sampled_from([0, 1, 5, 100, 2000])
wrong = st.sampled_from(["", "other.a", "plain", "{}.", "{}." + "x" * 251])
changes = (
    st.tuples(st.just("set"), way, name, size, st.sampled_from(["", "", "create", "replace"])),
    st.tuples(st.just("set"), way, name, size, st.sampled_from(["", "", "create", "replace"])),
    st.tuples(st.just("get"), way, name, st.sampled_from(["length", "exact", "short", "long"])),
    st.tuples(st.just("remove"), way, name),
    st.tuples(st.just("wrong"), way, wrong),
)
listing = st.tuples(st.just("list"), way, st.sampled_from(["length", "exact", "short", "long"]))
operation = st.one_of(*changes, listing)


class Attributes(Script):
    """One file and the attributes of one namespace."""

    def __init__(self, space: str, *, new: bool = False) -> None:
        super().__init__(arena=1 << 19)
        self.space, self.new = space, new
        self.held: dict[bytes, bytes] = {}
        self.path = self.string("f")
        self.fd = self.works("openat", CWD, self.path, C.O_RDWR | C.O_CREAT, 0o600)

    def named(self, name: str) -> bytes:
        return f"{self.space}.{name}".encode()

    def asking(self, verb: str, way: str) -> tuple:
        prefix = {"path": "", "descriptor": "f", "link": "l"}[way]
        return f"{prefix}{verb}", self.fd if way == "descriptor" else self.path

    def at(self, way: str) -> tuple:
        """What the calls of Linux 6.13 take to name a file."""
        if way == "descriptor":
            return self.fd, self.string(""), C.AT_EMPTY_PATH
        return CWD, self.path, C.AT_SYMLINK_NOFOLLOW if way == "link" else 0

    def do_set(self, way: str, name: str, size: int, how: str) -> None:
        key, value = self.named(name), pattern(len(self), size)
        flags = {"": 0, "create": C.XATTR_CREATE, "replace": C.XATTR_REPLACE}[how]
        result = 0
        if how == "create" and key in self.held:
            result = -errno.EEXIST
        elif how == "replace" and key not in self.held:
            result = -errno.ENODATA
        if self.new:
            args = self.struct(
                "struct xattr_args", value=self.content(value), size=size, flags=flags
            )
            self.returns(result, "setxattrat", *self.at(way), self.string(key), args, args.size)
        else:
            given = (self.string(key), self.content(value), size, flags)
            self.returns(result, *self.asking("setxattr", way), *given)
        if result == 0:
            self.held[key] = value

    def do_get(self, way: str, name: str, how: str) -> None:
        key = self.named(name)
        value = self.held.get(key)
        self.read("getxattr", way, value, how, key)

    def read(self, verb: str, way: str, value: bytes | None, how: str, key: bytes = b"") -> None:
        """A size of 0 asks for the length; one that is too small is ERANGE: xattr(7)."""
        length = len(value or b"")
        room = {"length": 0, "exact": length, "short": max(length - 1, 0), "long": length + 9}[how]
        into = self.buffer(length + 9)
        result = length if room in (0, length, length + 9) else -errno.ERANGE
        if value is None:
            result = -errno.ENODATA
        if self.new and key:
            args = self.struct("struct xattr_args", value=into, size=room)
            arguments = ("getxattrat", *self.at(way), self.string(key), args, args.size)
        elif self.new:
            arguments = ("listxattrat", *self.at(way), into, room)
        else:
            arguments = (*self.asking(verb, way), *([self.string(key)] if key else []), into, room)
        ref = self.returns(result, *arguments, out=[into])
        if value is None or result < 0 or room == 0:
            self.holds(ref, into, bytes(into.size))
        elif key:
            self.holds(ref, into, value.ljust(into.size, b"\0"))
        else:
            meant = sorted(value.split(b"\0"))
            self.ensure(
                lambda trace: same_names(
                    sorted(trace.bytes(ref, into)[:length].split(b"\0")), meant
                )
            )

    def do_remove(self, way: str, name: str) -> None:
        key = self.named(name)
        result = 0 if key in self.held else -errno.ENODATA
        if self.new:
            self.returns(result, "removexattrat", *self.at(way), self.string(key))
        else:
            self.returns(result, *self.asking("removexattr", way), self.string(key))
        self.held.pop(key, None)

    def do_list(self, way: str, how: str) -> None:
        names = b"".join(key + b"\0" for key in self.held)
        self.read("listxattr", way, names, how)

    def do_wrong(self, way: str, name: str) -> None:
        """Names without a known namespace, without a name in it, and too long."""
        value = self.content(b"x")
        result, name = -errno.EOPNOTSUPP, name.format(self.space)
        if name == "" or len(name) > C.XATTR_NAME_MAX:
            result = -errno.ERANGE
        elif name == f"{self.space}.":
            result = -errno.EINVAL
        self.returns(result, *self.asking("setxattr", way), self.string(name), value, 1, 0)
        key = self.string(self.named("a"))
        big = self.buffer(16)
        too_long = C.XATTR_SIZE_MAX + 1
        self.returns(-errno.E2BIG, *self.asking("setxattr", way), key, big, too_long, 0)
        self.returns(-errno.EINVAL, *self.asking("setxattr", way), key, value, 1, 1 << 10)


def same_names(found: list[bytes], meant: list[bytes]) -> None:
    assert found == meant


def story(space: str, new: bool, operations: list[tuple]) -> Case:
    script = Attributes(space, new=new)
    script.needs.add("attributes:user" if space == "user" else "root")
    script.play(operations)
    for name in ("a", "b", "c"):
        script.do_get("path", name, "long")
    return script.case()


operations = long_lists(operation, 10)


@given(batch=batches(st.builds(story, st.just("user"), st.just(False), operations)))
def test_user_attributes_are_kept(agent, features, batch):
    """What was set is got, listed once, and gone when removed, by path, descriptor and link.

    xattr(7), setxattr(2) on XATTR_CREATE and XATTR_REPLACE, getxattr(2) on ERANGE,
    listxattr(2), removexattr(2).
    """
    if "attributes:user" not in features:
        unsupported("this file system keeps no user attributes")
    hold(agent, batch, features)


@given(batch=batches(st.builds(story, st.just("trusted"), st.just(False), operations)))
def test_trusted_attributes_are_kept(agent, features, batch):
    """The same of the namespace that only CAP_SYS_ADMIN sees: xattr(7)."""
    hold(agent, batch, features)


@given(batch=batches(st.builds(story, st.just("trusted"), st.just(True), operations)))
def test_attributes_are_kept_by_the_newer_calls(agent, features, batch):
    """setxattrat, getxattrat, listxattrat and removexattrat do what the older calls do.

    "fs/xattr: add *at family syscalls" (6140be90ec70).
    """
    if "setxattrat" not in features:
        unsupported("this kernel has no setxattrat")
    hold(agent, batch, features)


def hidden(operations: list[tuple], user: int) -> Case:
    """Who has no CAP_SYS_ADMIN neither sees nor changes the trusted ones."""
    script = Attributes("trusted")
    script.needs.add("root")
    script.play(operations)
    script.returns(0, "fchmodat", CWD, script.path, 0o666)
    script.returns(0, "fchmodat", CWD, script.string("."), 0o755)
    script.returns(0, "setresuid", user, user, user)
    key, into = script.string("trusted.a"), script.buffer(64)
    script.returns(-errno.ENODATA, "getxattr", script.path, key, into, 64)
    script.returns(-errno.EPERM, "setxattr", script.path, key, into, 1, 0)
    script.returns(-errno.EPERM, "removexattr", script.path, key)
    script.returns(0, "listxattr", script.path, into, 64)
    return script.case()


@given(batch=batches(st.builds(hidden, operations, st.integers(1, 9))))
def test_trusted_attributes_are_hidden(agent, features, batch):
    """Without CAP_SYS_ADMIN they are not there to read, and not to be set: xattr(7)."""
    hold(agent, batch, features)


def refused(kind: str, mode: int) -> Case:
    """User attributes are for files and folders, and follow their modes."""
    script = Script()
    script.needs |= {"root", "attributes:user"}
    where, key = script.string("p"), script.string("user.a")
    if kind == "link":
        script.returns(0, "symlinkat", script.string("x"), CWD, where)
    elif kind == "folder":
        script.returns(0, "mkdirat", CWD, where, 0o700)
    else:
        form = {"fifo": C.S_IFIFO, "file": C.S_IFREG}[kind]
        script.returns(0, "mknodat", CWD, where, form | 0o600, 0)
    value = script.content(b"x")
    plain = kind in ("file", "folder")
    script.returns(0 if plain else -errno.EPERM, "lsetxattr", where, key, value, 1, 0)
    if plain:
        script.returns(0, "fchmodat", CWD, where, mode)
        script.returns(0, "fchmodat", CWD, script.string("."), 0o755)
        script.returns(0, "setresgid", 99, 99, 99)
        script.returns(0, "setresuid", 9, 9, 9)
        reads, writes = bool(mode & 4), bool(mode & 2)
        into = script.buffer(4)
        script.returns(1 if reads else -errno.EACCES, "getxattr", where, key, into, 4)
        script.returns(0 if writes else -errno.EACCES, "setxattr", where, key, value, 1, 0)
    return script.case()


# Sockets are left out: some kernels now give them user attributes, xattr(7) does not.
kind = st.sampled_from(["file", "folder", "link", "fifo"])


@given(batch=batches(st.builds(refused, kind, st.integers(0, 0o777))))
def test_user_attributes_follow_the_file(agent, features, batch):
    """EPERM for what is neither file nor folder; else r and w of the mode decide: xattr(7)."""
    if "attributes:user" not in features:
        unsupported("this file system keeps no user attributes")
    hold(agent, batch, features)


unlisted = long_lists(st.one_of(*changes), 10)


@given(batch=batches(st.builds(story, st.just("trusted"), st.just(False), unlisted)))
def test_attributes_agree(lockstep, batch):
    """Every kernel answers alike; the order of a list is the file system's own."""
    lockstep.agree(batch)
