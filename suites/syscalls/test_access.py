"""Who may do what to a file: modes, identities, and the bits that a write takes away."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, Script, batches, hold
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
READ, WRITE, EXECUTE = 4, 2, 1
"""R_OK, W_OK and X_OK, access(2)."""
SPECIAL = C.S_ISUID | C.S_ISGID

user = st.integers(0, 2)
group = st.integers(5, 7)
mode = st.integers(0, 0o777)


def allowed(mode: int, file: tuple[int, int], user: int, groups: set[int]) -> int:
    """The bits of R_OK, W_OK and X_OK that path_resolution(7) gives."""
    owner, group = file
    if user == 0:
        return READ | WRITE | (EXECUTE if mode & 0o111 else 0)
    if user == owner:
        return mode >> 6 & 7
    return mode >> 3 & 7 if group in groups else mode & 7


class Shared(Script):
    """A file of somebody's in a folder that everybody may search."""

    def __init__(self, mode: int, owner: int, group: int) -> None:
        super().__init__()
        self.needs.add("root")
        self.path = self.string("p")
        self.returns(0, "fchmodat", CWD, self.string("."), 0o755)
        fd = self.works("openat", CWD, self.path, C.O_WRONLY | C.O_CREAT, 0o600)
        self.returns(3, "write", fd, self.content(b"abc"), 3)
        self.returns(0, "close", fd)
        self.returns(0, "fchownat", CWD, self.path, owner, group, 0)
        self.returns(0, "fchmodat", CWD, self.path, mode)

    def become(self, real: int, effective: int, group: int, more: list[int]) -> None:
        raw = b"".join(each.to_bytes(4, "little") for each in more)
        self.returns(0, "setgroups", len(more), self.content(raw))
        self.returns(0, "setresgid", group, group, group)
        self.returns(0, "setresuid", real, effective, 0 if 0 in (real, effective) else real)


def asked(
    mode: int, file: tuple[int, int], ids: tuple[int, int], groups: tuple[int, list[int]]
) -> Case:
    """access(2) asks as the real user, with AT_EACCESS as the effective one; open agrees."""
    script = Shared(mode, *file)
    script.become(*ids, *groups)
    held = {groups[0], *groups[1]}
    for flag, user in ((0, ids[0]), (C.AT_EACCESS, ids[1])):
        bits = allowed(mode, file, user, held)
        script.returns(0, "faccessat2", CWD, script.path, 0, flag)
        for want in range(1, 8):
            result = 0 if want & ~bits == 0 else -errno.EACCES
            script.returns(result, "faccessat2", CWD, script.path, want, flag)
            if not flag:
                script.returns(result, "faccessat", CWD, script.path, want)
    script.returns(-errno.EINVAL, "faccessat2", CWD, script.path, 8, 0)
    script.returns(-errno.EINVAL, "faccessat2", CWD, script.path, 0, 1 << 30)
    bits = allowed(mode, file, ids[1], held)
    for want, access in ((READ, C.O_RDONLY), (WRITE, C.O_WRONLY), (READ | WRITE, C.O_RDWR)):
        if want & ~bits:
            script.returns(-errno.EACCES, "openat", CWD, script.path, access, 0)
        else:
            script.works("openat", CWD, script.path, access, 0)
    return script.case()


asking = st.builds(
    asked, mode, st.tuples(user, group), st.tuples(user, user),
    st.tuples(group, st.lists(group, max_size=2, unique=True)),
)  # fmt: skip


@given(batch=batches(asking))
def test_access_follows_the_mode(agent, features, batch):
    """Owner, group, others and root get what the mode says, and open agrees with AT_EACCESS.

    access(2), faccessat2(2), path_resolution(7) on permissions.
    """
    hold(agent, batch, features)


def searched(modes: list[int], user: int) -> Case:
    """A path is walked only through folders that may be searched."""
    script = Script()
    script.needs.add("root")
    path = "."
    for _ in modes:
        path += "/d"
        script.returns(0, "mkdirat", CWD, script.string(path), 0o700)
    path = "."
    script.returns(0, "fchmodat", CWD, script.string("."), 0o755)
    for mode in modes:
        path += "/d"
        script.returns(0, "fchmodat", CWD, script.string(path), mode)
    script.returns(0, "setresgid", 99, 99, 99)
    script.returns(0, "setresuid", user, user, user)
    stat = script.room("struct stat")
    path, open_so_far = ".", True
    for mode in modes:
        path += "/d"
        result = 0 if open_so_far else -errno.EACCES
        script.returns(result, "newfstatat", CWD, script.string(path), stat, 0)
        open_so_far = open_so_far and (user == 0 or bool(mode & 1))
        missing = -errno.ENOENT if open_so_far else -errno.EACCES
        script.returns(missing, "newfstatat", CWD, script.string(path + "/none"), stat, 0)
    return script.case()


folders = st.lists(st.sampled_from([0o711, 0o711, 0o755, 0o700, 0o776]), min_size=1, max_size=5)


@given(batch=batches(st.builds(searched, folders, st.sampled_from([0, 9, 9]))))
def test_paths_lead_through_what_may_be_searched(agent, features, batch):
    """Each folder on the way needs x, for a file that is there and for one that is not.

    path_resolution(7).
    """
    hold(agent, batch, features)


def written(mode: int, how: str, root: bool) -> Case:
    """inode(7): the bits go when somebody writes who has no CAP_FSETID."""
    writer = 0 if root else 9
    script = Shared(mode | 0o022, 1, 5)
    script.become(writer, writer, 5, [])
    fd = script.works("openat", CWD, script.path, C.O_WRONLY, 0)
    if how == "write":
        script.returns(1, "write", fd, script.content(b"x"), 1)
    elif how == "truncate":
        script.returns(0, "ftruncate", fd, 1)
    else:
        script.returns(0, "write", fd, script.content(b"x"), 0)
    stat = script.room("struct stat")
    ref = script.returns(0, "fstat", fd, stat, out=[stat])
    left = mode | 0o022
    if how != "nothing" and not root:
        left &= ~(C.S_ISUID | (C.S_ISGID if left & C.S_IXGRP else 0))
    script.fields(ref, stat, st_mode=C.S_IFREG | left)
    return script.case()


special = st.builds(lambda bits, mode: bits | mode, st.sampled_from([0, C.S_ISUID, SPECIAL]), mode)
how = st.sampled_from(["write", "truncate", "nothing"])


@given(batch=batches(st.builds(written, special, how, st.booleans())))
def test_writing_takes_set_id_bits(agent, features, batch):
    """A write or a cut by an ordinary user clears set-user-ID and set-group-ID: inode(7)."""
    hold(agent, batch, features)


def chowned(mode: int, to: tuple[int, int], folder: bool) -> Case:
    script = Script()
    script.needs.add("root")
    where = script.string("p")
    if folder:
        script.returns(0, "mkdirat", CWD, where, 0o700)
    else:
        script.returns(0, "mknodat", CWD, where, C.S_IFREG | 0o600, 0)
    script.returns(0, "fchmodat", CWD, where, mode)
    script.returns(0, "fchownat", CWD, where, *(each % (1 << 32) for each in to), 0)
    left = mode
    if not folder:
        left &= ~(C.S_ISUID | (C.S_ISGID if mode & C.S_IXGRP else 0))
    stat = script.room("struct stat")
    ref = script.returns(0, "newfstatat", CWD, where, stat, 0, out=[stat])
    form = C.S_IFDIR if folder else C.S_IFREG
    owner, group = (max(each, 0) for each in to)
    script.fields(ref, stat, st_uid=owner, st_gid=group, st_mode=form | left)
    script.returns(0, "setresgid", 99, 99, 99)
    script.returns(0, "setresuid", 9, 9, 9)
    for other in ((9, -1), (-1, 9), (1, 1)):
        if max(other[0], -1) == 9 and owner == 9:
            continue
        wanted = tuple(each % (1 << 32) for each in other)
        script.returns(-errno.EPERM, "fchownat", CWD, where, *wanted, 0)
    return script.case()


owner = st.tuples(st.integers(-1, 3), st.integers(-1, 3))


@given(batch=batches(st.builds(chowned, special, owner, st.booleans())))
def test_chown_takes_set_id_bits(agent, features, batch):
    """A new owner clears the bits of a file, -1 leaves an id, and a user may not give away.

    chown(2): also when root does it; EPERM without CAP_CHOWN.
    """
    hold(agent, batch, features)
