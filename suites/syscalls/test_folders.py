"""Folders: what getdents64 lists, and what owners, groups and modes of new files come to."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
DT = {"fifo": 1, "folder": 4, "file": 8, "link": 10, "socket": 12}
"""d_type of readdir(3): the file type of st_mode, twelve bits down."""
KINDS = {"fifo": C.S_IFIFO, "file": C.S_IFREG, "socket": C.S_IFSOCK}

name = st.text("abcdefgh.-é", min_size=1, max_size=30).filter(lambda text: text.strip("."))
kind = st.sampled_from(sorted(DT))


def make(script: Script, name: str, kind: str, mode: int = 0o600) -> None:
    where = script.string(name)
    if kind == "folder":
        script.returns(0, "mkdirat", CWD, where, mode)
    elif kind == "link":
        script.returns(0, "symlinkat", script.string("nowhere"), CWD, where)
    else:
        script.returns(0, "mknodat", CWD, where, KINDS[kind] | mode, 0)


Entry = tuple[int, int, int, bytes]
"""d_ino, d_off, d_type and d_name of struct linux_dirent64, getdents(2)."""


def entries(raw: bytes) -> list[Entry]:
    found = []
    while raw:
        length = int.from_bytes(raw[16:18], "little")
        assert 24 <= length <= len(raw), f"an entry of {length} bytes"
        assert length % 8 == 0, "entries are aligned"
        number, offset = (int.from_bytes(raw[at : at + 8], "little") for at in (0, 8))
        found.append((number, offset, raw[18], raw[19:length].split(b"\0")[0]))
        raw = raw[length:]
    return found


def listing(script: Script, fd: Ref, room: int, calls: int) -> list[tuple[Ref, Slot]]:
    """Calls enough to list it all, each with a buffer of so many bytes."""
    found = []
    for _ in range(calls):
        into = script.buffer(room)
        found.append((script.works("getdents64", fd, into, room, out=[into]), into))
    return found


def listed(trace, calls: list[tuple[Ref, Slot]]) -> list[Entry]:
    return [e for ref, into in calls for e in entries(trace.bytes(ref, into)[: trace[ref]])]


def folder(files: dict[str, str], gone: list[int]) -> tuple[Script, dict[bytes, int]]:
    script = Script(arena=1 << 17)
    for name, kind in files.items():
        make(script, name, kind)
    held = {name.encode(): DT[kind] for name, kind in files.items()}
    for index in gone:
        name = sorted(files)[index % len(files)] if files else ""
        if name.encode() in held:
            flags = C.AT_REMOVEDIR if files[name] == "folder" else 0
            script.returns(0, "unlinkat", CWD, script.string(name), flags)
            del held[name.encode()]
    return script, held | {b".": DT["folder"], b"..": DT["folder"]}


def contents(files: dict[str, str], gone: list[int], room: int) -> Case:
    script, held = folder(files, gone)
    fd = script.works("openat", CWD, script.string("."), C.O_RDONLY | C.O_DIRECTORY, 0)
    calls = listing(script, fd, room, len(held) + 1)

    def check(trace) -> None:
        seen = listed(trace, calls)
        assert trace[calls[-1][0]] == 0, "the last call finds nothing more"
        assert sorted(entry[3] for entry in seen) == sorted(held)
        assert {entry[3]: entry[2] for entry in seen} == held
        assert len({entry[0] for entry in seen}) >= len(held) - 1, "files share a number"

    script.ensure(check)
    return script.case()


files = st.dictionaries(name, kind, max_size=12)
gone = st.lists(st.integers(0, 12), max_size=3)
room = st.sampled_from([96, 128, 300, 2048])
WIDE = 96
"""Room for any one name of ours: 19 bytes before it, and at most 60 of UTF-8."""


@given(batch=batches(st.builds(contents, files, gone, room), 8))
def test_a_folder_lists_what_is_in_it(agent, features, batch):
    """Each name comes once, with its kind, whatever the buffer's size: getdents(2), readdir(3)."""
    hold(agent, batch, features)


def resumed(files: dict[str, str], room: int) -> Case:
    """lseek to d_off of an entry goes on with the one after it."""
    script, held = folder(files, [])
    fd = script.works("openat", CWD, script.string("."), C.O_RDONLY | C.O_DIRECTORY, 0)
    calls = listing(script, fd, room, len(held) + 1)
    _, into = calls[0]
    # The offset of the first entry; which name it has is the file system's to choose.
    offset = into.word(1, 8)
    script.works("lseek", fd, offset, C.SEEK_SET, opaque=True)
    again = listing(script, fd, room, len(held) + 1)
    script.returns(0, "lseek", fd, 0, C.SEEK_SET)
    rewound = listing(script, fd, room, len(held) + 1)

    def check(trace) -> None:
        seen = listed(trace, calls)
        names = [entry[3] for entry in seen]
        assert [entry[3] for entry in listed(trace, again)] == names[1:], "resumed elsewhere"
        assert [entry[3] for entry in listed(trace, rewound)] == names, "not the same again"

    script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(resumed, files, room), 8))
def test_a_listing_goes_on_where_it_was(agent, features, batch):
    """A position that a listing gave leads back to it, and 0 to its begin: seekdir(3), lseek(2)."""
    hold(agent, batch, features)


def too_small(files: dict[str, str], short: int) -> Case:
    script, _ = folder(files, [])
    fd = script.works("openat", CWD, script.string("."), C.O_RDONLY | C.O_DIRECTORY, 0)
    into = script.buffer(WIDE)
    script.returns(-errno.EINVAL, "getdents64", fd, into, short)
    made = script.works("openat", CWD, script.string("file"), C.O_CREAT | C.O_RDONLY, 0o600)
    script.returns(-errno.ENOTDIR, "getdents64", made, into, WIDE)
    # Nothing was passed over.
    calls = listing(script, fd, WIDE, len(files) + 4)

    def check(trace) -> None:
        assert {entry[3] for entry in listed(trace, calls)} >= {n.encode() for n in files}

    script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(too_small, files, st.integers(0, 23)), 8))
def test_a_listing_without_room_is_refused(agent, features, batch):
    """EINVAL for a buffer that holds no entry, ENOTDIR for a file: getdents(2)."""
    hold(agent, batch, features)


mode = st.integers(0, 0o7777)


def masked(mask: int, kind: str, mode: int) -> Case:
    """The mask takes its bits from each mode that a file is made with, and from no other."""
    script = Script()
    script.works("umask", mask)
    script.returns(mask & 0o777, "umask", mask)
    if kind == "open":
        flags = C.O_WRONLY | C.O_CREAT
        script.works("openat", CWD, script.string("p"), flags, mode)
    else:
        make(script, "p", kind, mode)
    kept = mode & ~(mask & 0o777)
    if kind == "folder":
        # mkdir(2): only permission bits and the sticky bit are taken over.
        kept &= 0o1777
    stat = script.room("struct stat")
    ref = script.returns(0, "newfstatat", CWD, script.string("p"), stat, 0, out=[stat])
    form = {"folder": C.S_IFDIR, "open": C.S_IFREG}.get(kind) or KINDS[kind]
    script.fields(ref, stat, st_mode=form | kept, st_nlink=2 if kind == "folder" else 1)
    script.returns(0, "fchmodat", CWD, script.string("p"), mode)
    ref = script.returns(0, "newfstatat", CWD, script.string("p"), stat, 0, out=[stat])
    script.fields(ref, stat, st_mode=form | mode)
    return script.case()


made = st.sampled_from(["open", "folder", "fifo", "file", "socket"])


@given(batch=batches(st.builds(masked, mode, made, mode)))
def test_new_files_have_masked_modes(agent, features, batch):
    """mode & ~umask & 0777 and the special bits for files, chmod as it says: umask(2), mkdir(2)."""
    hold(agent, batch, features)


def inherited(group: int, special: int, kind: str, mode: int) -> Case:
    """In a set-group-ID folder new files have its group, and new folders the bit as well."""
    script = Script()
    script.needs.add("root")
    script.works("umask", 0)
    script.returns(0, "mkdirat", CWD, script.string("d"), 0o777)
    script.returns(0, "fchownat", CWD, script.string("d"), 0, group, 0)
    script.returns(0, "fchmodat", CWD, script.string("d"), 0o777 | special)
    make(script, "d/p", kind, mode)
    stat = script.room("struct stat")
    ref = script.returns(0, "newfstatat", CWD, script.string("d/p"), stat, 0, out=[stat])
    bit = special & C.S_ISGID if kind == "folder" else 0
    form = C.S_IFDIR if kind == "folder" else KINDS[kind]
    gid = group if special & C.S_ISGID else 0
    script.fields(ref, stat, st_gid=gid, st_uid=0, st_mode=form | mode | bit)
    return script.case()


special = st.sampled_from([0, C.S_ISGID, C.S_ISGID | C.S_ISVTX])
inheritance = st.builds(
    inherited, st.integers(0, 9), special, st.sampled_from(["folder", "file"]),
    st.integers(0, 0o777),
)  # fmt: skip


@given(batch=batches(inheritance))
def test_a_set_group_id_folder_gives_its_group(agent, features, batch):
    """Files inherit the group, folders the bit too: mkdir(2), open(2), inode(7)."""
    hold(agent, batch, features)


def sticky(owner: int, mode: int, files: list[int], user: int) -> Case:
    """Who may remove: the owner of the file or of the folder, if the folder is sticky."""
    script = Script()
    script.needs.add("root")
    script.returns(0, "mkdirat", CWD, script.string("d"), 0o700)
    for index, uid in enumerate(files):
        where = script.string(f"d/{index}")
        script.returns(0, "mknodat", CWD, where, C.S_IFREG | 0o600, 0)
        script.returns(0, "fchownat", CWD, where, uid, 0, 0)
    script.returns(0, "fchownat", CWD, script.string("d"), owner, 0, 0)
    script.returns(0, "fchmodat", CWD, script.string("d"), mode)
    script.returns(0, "fchmodat", CWD, script.string("."), 0o755)
    # The group goes first, while there is the right to change it.
    script.returns(0, "setresgid", 99, 99, 99)
    script.returns(0, "setresuid", user, user, user)
    bits = mode >> 6 if user == owner else mode
    for index, uid in enumerate(files):
        result = 0
        if not bits & 1 or bits & 3 != 3:
            result = -errno.EACCES
        elif mode & C.S_ISVTX and user not in (owner, uid):
            result = -errno.EPERM
        script.returns(result, "unlinkat", CWD, script.string(f"d/{index}"), 0)
    return script.case()


uid = st.integers(1, 3)
stickiness = st.builds(
    sticky, uid, st.sampled_from([0o777, 0o1777, 0o1777, 0o1700, 0o1755, 0o1773, 0o1776, 0o557]),
    st.lists(uid, min_size=1, max_size=4), uid,
)  # fmt: skip


@given(batch=batches(stickiness))
def test_a_sticky_folder_protects_files(agent, features, batch):
    """Only the owners of file and folder remove from it: unlink(2), inode(7) on S_ISVTX."""
    hold(agent, batch, features)
