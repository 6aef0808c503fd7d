"""POSIX access control lists: what they make of a mode, and a mode of them; acl(5)."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Slot
from hostabi.syscalls.cases import Case, Script, batches, hold
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
UNDEFINED = (1 << 32) - 1
"""ACL_UNDEFINED_ID: the id of an entry that has none, linux/posix_acl.h."""


@dataclass(frozen=True)
class Acl:
    """The entries: permissions of owner, group and others, of named ones, and the mask."""

    owner: int
    group: int
    other: int
    users: tuple[tuple[int, int], ...] = ()
    groups: tuple[tuple[int, int], ...] = ()
    mask: int | None = None

    @property
    def extended(self) -> bool:
        return self.mask is not None

    @property
    def mode(self) -> int:
        """acl(5), correspondence between ACL entries and file permission bits."""
        group = self.group if self.mask is None else self.mask
        return self.owner << 6 | group << 3 | self.other

    def with_mode(self, mode: int) -> Acl:
        group = mode >> 3 & 7
        changed = {"mask": group} if self.extended else {"group": group}
        return replace(self, owner=mode >> 6 & 7, other=mode & 7, **changed)

    def created(self, mode: int) -> Acl:
        """What a new file has of this default list: no bit that its mode is made without."""
        group = mode >> 3 & 7
        changed = {"mask": self.mask & group} if self.extended else {"group": self.group & group}
        return replace(self, owner=self.owner & mode >> 6 & 7, other=self.other & mode, **changed)

    def rights(self, user: int, groups: set[int], owner: int, group: int, want: int) -> bool:
        """acl(5), the access check algorithm."""
        mask = 7 if self.mask is None else self.mask
        if user == owner:
            return want & ~self.owner == 0
        if self.mask == 0:
            # acl_permission_check of fs/namei.c looks at a list only where the group's bits of
            # the mode, here the mask, have a right; so the bits of other are for all but the group.
            return want & ~(0 if group in groups else self.other) == 0
        if user in dict(self.users):
            return want & ~(dict(self.users)[user] & mask) == 0
        held = [bits for each, bits in [*self.groups, (group, self.group)] if each in groups]
        if held:
            return any(want & ~(bits & mask) == 0 for bits in held)
        return want & ~self.other == 0

    @property
    def raw(self) -> bytes:
        entries = [(C.ACL_USER_OBJ, self.owner, UNDEFINED)]
        entries += [(C.ACL_USER, bits, user) for user, bits in self.users]
        entries += [(C.ACL_GROUP_OBJ, self.group, UNDEFINED)]
        entries += [(C.ACL_GROUP, bits, group) for group, bits in self.groups]
        if self.mask is not None:
            entries.append((C.ACL_MASK, self.mask, UNDEFINED))
        entries.append((C.ACL_OTHER, self.other, UNDEFINED))
        return encoded(entries)


def encoded(entries: list[tuple[int, int, int]], version: int = C.POSIX_ACL_XATTR_VERSION) -> bytes:
    """linux/posix_acl_xattr.h: a version, then a tag, permissions and an id for each entry."""
    rows = [
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + number.to_bytes(4, "little")
        for tag, bits, number in entries
    ]
    return version.to_bytes(4, "little") + b"".join(rows)


bits = st.integers(0, 7)
named = st.dictionaries(st.integers(1, 4), bits, max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)


@st.composite
def lists(draw) -> Acl:
    users, groups = draw(named), draw(named)
    wanted = bool(users or groups) or draw(st.booleans())
    mask = draw(bits) if wanted else None
    return Acl(draw(bits), draw(bits), draw(bits), users, groups, mask)


class Listed(Script):
    """A file or folder with access control lists."""

    def set(self, path: str, acl: bytes, kind: str = ACCESS, result: int = 0) -> None:
        value = self.content(acl)
        self.returns(result, "setxattr", self.string(path), self.string(kind), value, len(acl), 0)

    def has(self, path: str, acl: Acl | None, kind: str = ACCESS) -> None:
        into: Slot = self.buffer(256)
        arguments = (self.string(path), self.string(kind), into, into.size)
        if acl is None or (kind == ACCESS and not acl.extended):
            self.returns(-errno.ENODATA, "getxattr", *arguments)
            return
        ref = self.returns(len(acl.raw), "getxattr", *arguments, out=[into])
        self.holds(ref, into, acl.raw.ljust(into.size, b"\0"))

    def has_mode(self, path: str, mode: int) -> None:
        stat = self.room("struct stat")
        ref = self.returns(0, "newfstatat", CWD, self.string(path), stat, 0, out=[stat])
        self.ensure(lambda trace: same_mode(trace.struct(ref, stat).st_mode & 0o777, mode))

    def make(self, path: str, kind: str, mode: int) -> None:
        if kind == "folder":
            self.returns(0, "mkdirat", CWD, self.string(path), mode)
        else:
            self.returns(0, "mknodat", CWD, self.string(path), C.S_IFREG | mode, 0)


def same_mode(found: int, meant: int) -> None:
    assert found == meant, f"mode {found:o}, must be {meant:o}"


def corresponds(kind: str, acls: list[Acl], modes: list[int]) -> Case:
    """Setting a list changes the mode, changing the mode changes the list."""
    script = Listed()
    script.make("p", kind, 0o600)
    for index, acl in enumerate(acls):
        script.set("p", acl.raw)
        script.has("p", acl)
        script.has_mode("p", acl.mode)
        if index < len(modes):
            changed = acl.with_mode(modes[index])
            script.returns(0, "fchmodat", CWD, script.string("p"), modes[index])
            script.has("p", changed)
            script.has_mode("p", modes[index])
    script.returns(0, "removexattr", script.string("p"), script.string(ACCESS))
    script.has("p", None)
    return script.case()


kind = st.sampled_from(["file", "folder"])
mode = st.integers(0, 0o777)
some = st.lists(lists(), min_size=1, max_size=4)


@given(batch=batches(st.builds(corresponds, kind, some, st.lists(mode, max_size=4))))
def test_a_list_and_its_mode_correspond(agent, features, batch):
    """The group bits of the mode are the mask; a list of three entries is only a mode.

    acl(5), correspondence between ACL entries and file permission bits.
    """
    hold(agent, batch, features)


def inherits(acl: Acl, kind: str, mode: int, mask: int) -> Case:
    script = Listed()
    script.make("d", "folder", 0o700)
    script.set("d", acl.raw, DEFAULT)
    script.has("d", acl, DEFAULT)
    script.works("umask", mask)
    script.make("d/p", kind, mode)
    created = acl.created(mode)
    script.has("d/p", created)
    script.has_mode("d/p", created.mode)
    script.has("d/p", acl if kind == "folder" else None, DEFAULT)
    script.returns(0, "removexattr", script.string("d"), script.string(DEFAULT))
    script.make("d/q", kind, mode)
    script.has("d/q", None)
    script.has_mode("d/q", mode & ~mask)
    return script.case()


@given(batch=batches(st.builds(inherits, lists(), kind, mode, mode)))
def test_a_default_list_is_inherited(agent, features, batch):
    """New files get the default list cut to their mode, and the umask is not asked; folders pass
    it on. acl(5), object creation and default ACLs; umask(2)."""
    hold(agent, batch, features)


def checked(acl: Acl, file: tuple[int, int], user: int, groups: set[int]) -> Case:
    script = Listed()
    script.needs.add("root")
    script.make("p", "file", 0o600)
    script.returns(0, "fchmodat", CWD, script.string("."), 0o755)
    script.returns(0, "fchownat", CWD, script.string("p"), *file, 0)
    script.set("p", acl.raw)
    raw = b"".join(each.to_bytes(4, "little") for each in sorted(groups))
    script.returns(0, "setgroups", len(groups), script.content(raw))
    script.returns(0, "setresgid", 99, 99, 99)
    script.returns(0, "setresuid", user, user, user)
    for want in range(1, 8):
        able = acl.rights(user, groups, *file, want)
        result = 0 if able else -errno.EACCES
        script.returns(result, "faccessat", CWD, script.string("p"), want)
    return script.case()


ids = st.integers(1, 5)
checks = st.builds(checked, lists(), st.tuples(ids, ids), ids, st.sets(ids, max_size=3))


@given(batch=batches(checks))
def test_access_follows_the_list(agent, features, batch):
    """Owner, named users, groups and others get what the algorithm of acl(5) gives them."""
    hold(agent, batch, features)


def spoilt(acl: Acl, how: str) -> Case:
    """A list that means nothing is refused, and the one that is there stays."""
    script = Listed()
    script.make("p", "file", 0o640)
    good = Acl(6, 4, 0, users=((1, 7),), mask=5)
    script.set("p", good.raw)
    result = -errno.EINVAL
    match how:
        case "version":
            raw = encoded([], 3) + acl.raw[4:]
            result = -errno.EOPNOTSUPP
        case "cut":
            raw = acl.raw[:-1]
        case "order":
            raw = acl.raw[:4] + acl.raw[12:] + acl.raw[4:12]
        case "permissions":
            raw = acl.raw[:6] + b"\x08\0" + acl.raw[8:]
        case "no mask":
            raw = replace(acl, users=((1, 7),), mask=None).raw
        case "no others":
            raw = acl.raw[:-8]
        case _:
            raw = acl.raw[:4] + (3).to_bytes(2, "little") + acl.raw[6:]
    script.set("p", raw, result=result)
    script.has("p", good)
    script.has_mode("p", good.mode)
    script.set("p", acl.raw, DEFAULT, result=-errno.EACCES)
    return script.case()


spoiling = st.sampled_from(
    ["version", "cut", "order", "permissions", "no mask", "no others", "tag"]
)


@given(batch=batches(st.builds(spoilt, lists(), spoiling)))
def test_a_list_that_means_nothing_is_refused(agent, features, batch):
    """EINVAL for entries that make no list, EOPNOTSUPP for another version, EACCES for a default
    list of a file. acl(5), valid ACLs; linux/posix_acl_xattr.h."""
    hold(agent, batch, features)


@given(batch=batches(st.builds(inherits, lists(), kind, mode, mode)))
def test_lists_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
