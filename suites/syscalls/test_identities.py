"""User and group ids: who may change them, what follows them, and what they open."""

from __future__ import annotations

import errno

from credentials import EPERM, Credentials, needs_reset
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Until
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

USER, OTHER = 1000, 2000
SESSION_KEYRING = -3  # KEY_SPEC_SESSION_KEYRING, linux/keyctl.h


class Ids(Credentials):
    """A model of real, effective, saved and file system ids of one kind, with or without power."""

    def __init__(self, kind: str, able: bool) -> None:
        super().__init__()
        self.kind, self.able = kind, able
        self.ids3, self.file = (10, 20, 30), 20
        self.returns(0, "prctl", C.PR_SET_SECUREBITS, C.SECBIT_NO_SETUID_FIXUP)
        self.returns(0, f"setres{kind}id", 10, 20, 30)
        if not able:
            self.capset(0, 0, 0, 0)

    def change(self, call: str, ids3: tuple[int, int, int], *arguments: int) -> None:
        self.returns(0, call, *arguments)
        self.ids3, self.file = ids3, ids3[1]

    def do_res(self, *new: int) -> None:
        if not self.able and any(value not in (-1, *self.ids3) for value in new):
            self.returns(EPERM, f"setres{self.kind}id", *new)
            return
        after = tuple(
            was if value == -1 else value for value, was in zip(new, self.ids3, strict=True)
        )
        if needs_reset(new, self.ids3, self.file):
            self.needs.add("setresuid:no-change-resets-fsuid")
        self.change(f"setres{self.kind}id", after, *new)

    def do_re(self, real: int, effective: int) -> None:
        """setreuid(2): the saved id follows when the real is set, or the effective to another."""
        was_real, was_effective, saved = self.ids3
        wrong = real not in (-1, was_real, was_effective) or effective not in (-1, *self.ids3)
        if not self.able and wrong:
            self.returns(EPERM, f"setre{self.kind}id", real, effective)
            return
        new_real = was_real if real == -1 else real
        new_effective = was_effective if effective == -1 else effective
        if real != -1 or effective not in {-1, was_real}:
            saved = new_effective
        self.change(f"setre{self.kind}id", (new_real, new_effective, saved), real, effective)

    def do_set(self, value: int) -> None:
        real, _, saved = self.ids3
        if self.able:
            self.change(f"set{self.kind}id", (value, value, value), value)
        elif value in (real, saved):
            self.change(f"set{self.kind}id", (real, value, saved), value)
        else:
            self.returns(EPERM, f"set{self.kind}id", value)

    def do_fs(self, value: int) -> None:
        self.returns(self.file, f"setfs{self.kind}id", value)
        if self.able or value in (*self.ids3, self.file):
            self.file = value

    def look(self) -> None:
        self.ids(self.kind, *self.ids3)
        self.returns(self.file, f"setfs{self.kind}id", -1)
        self.returns(self.ids3[0], f"get{self.kind}id")
        self.returns(self.ids3[1], f"gete{self.kind}id")


def id_story(kind: str, able: bool, operations: list[tuple]) -> Case:
    script = Ids(kind, able)
    for name, *arguments in operations:
        getattr(script, f"do_{name}")(*arguments)
        script.look()
    return script.case()


value = st.sampled_from([10, 20, 30, 40])
kept = st.one_of(st.just(-1), value)
changing = st.one_of(
    st.tuples(st.just("res"), kept, kept, kept),
    st.tuples(st.just("re"), kept, kept),
    st.tuples(st.just("set"), value),
    st.tuples(st.just("fs"), value),
)


@given(batch=batches(st.builds(id_story, st.just("u"), st.booleans(), long_lists(changing, 5))))
def test_user_ids_follow_the_rules(agent, features, batch):
    """Ids after any chain of changes, with CAP_SETUID and without: setresuid(2), setreuid(2),
    setuid(2), setfsuid(2), credentials(7)."""
    hold(agent, batch, features)


@given(batch=batches(st.builds(id_story, st.just("g"), st.booleans(), long_lists(changing, 5))))
def test_group_ids_follow_the_rules(agent, features, batch):
    """Ids after any chain of changes, with CAP_SETGID and without: setresgid(2), setregid(2),
    setgid(2), setfsgid(2), credentials(7)."""
    hold(agent, batch, features)


def group_story(groups: list[int], again: list[int]) -> Case:
    """What is set is read back in order, by a child too; without power nothing can be set."""
    script = Credentials()
    script.set_groups(0, groups)
    script.groups(groups)
    with script.child() as pid:
        script.groups(groups)
        script.set_groups(0, again)
        script.groups(again)
    script.reap(pid)
    script.groups(groups)
    script.capset(0, 0, 0, 0)
    script.set_groups(EPERM, again)
    if groups:
        script.returns(-errno.EINVAL, "getgroups", len(groups) - 1 or -1, script.buffer(1024))
    return script.case()


groups = st.lists(st.integers(0, (1 << 32) - 2), max_size=20)


@given(batch=batches(st.builds(group_story, groups, groups), 6))
def test_groups_are_read_back(agent, features, batch):
    """All groups come back, sorted, and belong to the process: getgroups(2), setgroups(2)."""
    hold(agent, batch, features)


def access_story(mode: int, owner: tuple[int, int], who: tuple[int, int, int], want: int) -> Case:
    """A file opens by the first class that matches: owner, group, others."""
    user, group, extra = who
    script = Credentials()
    script.make_file("f", b"", 0o600)
    script.returns(0, "fchmodat", C.AT_FDCWD, script.string("f"), mode)
    script.returns(0, "fchownat", C.AT_FDCWD, script.string("f"), *owner, 0)
    script.set_groups(0, [extra])
    script.returns(0, "setresgid", 5, 5, 5)
    script.call("setfsgid", group)
    script.call("setfsuid", user)
    # Root keeps its powers but those over files, which go with the file system id.
    bits = mode >> 6 if user == owner[0] else mode >> 3 if owner[1] in (group, extra) else mode
    needed = {C.O_RDONLY: 4, C.O_WRONLY: 2, C.O_RDWR: 6}[want]
    at = (C.AT_FDCWD, script.string("f"), want, 0)
    if user == 0 or bits & needed == needed:
        script.works("openat", *at)
    else:
        script.returns(-errno.EACCES, "openat", *at)
    return script.case()


some = st.sampled_from([0, USER, OTHER])


@given(
    batch=batches(
        st.builds(
            access_story,
            st.integers(0, 0o777),
            st.tuples(some, some),
            st.tuples(some, some, some),
            st.sampled_from([C.O_RDONLY, C.O_WRONLY, C.O_RDWR]),
        )
    )
)
def test_files_open_by_the_file_system_ids(agent, features, batch):
    """fsuid, fsgid and the supplementary groups decide, the first class that matches alone:
    path_resolution(7), "Permissions"; credentials(7), setfsuid(2)."""
    hold(agent, batch, features)


def kill_story(sender: tuple[int, int], target: tuple[int, int, int], number: int) -> Case:
    """Without CAP_KILL the sender's real or effective id must be the target's real or saved one."""
    script = Credentials()
    with script.child() as pid:
        script.returns(0, "setresuid", *target)
        ends = script.call("pause")
    script.wait_for(ends, Until.BEGUN)
    with script.child() as other:
        script.returns(0, "setresuid", *sender, sender[1])
        script.capset(0, 0, 0, 0)
        allowed = bool({*sender} & {target[0], target[2]})
        script.returns(0 if allowed else EPERM, "kill", pid, number)
    script.reap(other)
    if not (allowed and number):
        script.signal(pid, C.SIGKILL)
        number = C.SIGKILL
    script.reap(pid, number)
    return script.case()


person = st.sampled_from([USER, OTHER, 3000])


@given(
    batch=batches(
        st.builds(
            kill_story,
            st.tuples(person, person),
            st.tuples(person, person, person),
            st.sampled_from([0, C.SIGTERM]),
        ),
        4,
    )
)
def test_signals_need_the_same_user(agent, features, batch):
    """EPERM unless an id of the sender is one that counts of the target: kill(2)."""
    hold(agent, batch, features)


def suid_story(mode: int, owner: tuple[int, int], user: tuple[int, int], nnp: bool) -> Case:
    """The effective and the saved id become the file's owner, unless something forbids it."""
    script = Credentials()
    script.copy_agent("f")
    script.returns(0, "fchownat", C.AT_FDCWD, script.string("f"), *owner, 0)
    script.returns(0, "fchmodat", C.AT_FDCWD, script.string("f"), 0o555 | mode)
    if nnp:
        script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    script.returns(0, "setresgid", user[1], user[1], user[1])
    script.returns(0, "setresuid", user[0], user[0], user[0])
    new_user = owner[0] if mode & C.S_ISUID and not nnp else user[0]
    new_group = owner[1] if mode & C.S_ISGID and not nnp else user[1]
    with script.execution("f"):
        script.ids("u", user[0], new_user, new_user)
        script.ids("g", user[1], new_group, new_group)
        # proc_pid_auxv(5), getauxval(3): the C library is told to distrust its environment.
        dumpable = 1 if (new_user, new_group) == user else 0
        script.returns(dumpable, "prctl", C.PR_GET_DUMPABLE)
    return script.case()


pair = st.tuples(st.sampled_from([0, USER, OTHER]), st.sampled_from([0, USER, OTHER]))
modes = st.sampled_from([0, C.S_ISUID, C.S_ISGID, C.S_ISUID | C.S_ISGID])


@given(
    batch=batches(st.builds(suid_story, modes, pair, st.tuples(person, person), st.booleans()), 3)
)
def test_set_id_files_give_the_owners_ids(agent, features, batch):
    """S_ISUID and S_ISGID set the effective and saved ids, no_new_privs prevents it, and dumpable
    is cleared: execve(2), PR_SET_DUMPABLE(2const), no_new_privs.rst."""
    hold(agent, batch, features)


def creation_story(user: int, group: int, setgid: bool) -> Case:
    """A new file belongs to the file system user, and to its folder's group if that is
    set-group-ID."""
    script = Credentials()
    script.returns(0, "mkdirat", C.AT_FDCWD, script.string("d"), 0o777)
    script.returns(0, "fchownat", C.AT_FDCWD, script.string("d"), 7, 8, 0)
    script.returns(
        0, "fchmodat", C.AT_FDCWD, script.string("d"), 0o777 | (C.S_ISGID if setgid else 0)
    )
    script.call("setfsgid", group)
    script.call("setfsuid", user)
    script.make_file("d/f")
    script.returns(0, "mkdirat", C.AT_FDCWD, script.string("d/sub"), 0o755)
    for name, folder in (("d/f", False), ("d/sub", True)):
        stat = script.room("struct stat")
        ref = script.returns(0, "newfstatat", C.AT_FDCWD, script.string(name), stat, 0, out=[stat])

        def check(trace, ref=ref, stat=stat, folder=folder) -> None:
            seen = trace.struct(ref, stat)
            assert (seen.st_uid, seen.st_gid) == (user, 8 if setgid else group)
            assert bool(seen.st_mode & C.S_ISGID) == (setgid and folder)

        script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(creation_story, some, some, st.booleans())))
def test_new_files_have_the_creators_ids(agent, features, batch):
    """Owner is the fsuid; the group is the fsgid or the folder's, and subfolders inherit the bit:
    open(2) on O_CREAT, mkdir(2), inode(7)."""
    hold(agent, batch, features)


def key_story(names: list[bytes], drop: int) -> Case:
    """Keys of a session keyring: found by name, updated, read, unlinked; a child joins another."""
    script = Credentials()
    script.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
    kind = script.string("user")
    held: dict[bytes, bytes] = {}
    ring = SESSION_KEYRING
    refs = {}
    for index, name in enumerate(names):
        text = script.string(b"n" + name)
        payload = name + bytes([index])
        key = script.works(
            "add_key", kind, text, script.content(payload), len(payload), ring, opaque=True
        )
        if name in refs:
            script.same(key, refs[name])  # the same key, updated
        refs[name], held[name] = key, payload
    gone = list(held)[drop] if drop < len(held) else None
    if gone is not None:
        script.returns(0, "keyctl", C.KEYCTL_UNLINK, refs[gone], ring)
    for name, payload in held.items():
        text = script.string(b"n" + name)
        if name == gone:
            script.returns(-errno.ENOKEY, "keyctl", C.KEYCTL_SEARCH, ring, kind, text, 0)
            continue
        script.same(
            script.works("keyctl", C.KEYCTL_SEARCH, ring, kind, text, 0, opaque=True), refs[name]
        )
        room = script.buffer(64)
        ref = script.returns(
            len(payload), "keyctl", C.KEYCTL_READ, refs[name], room, 64, out=[room]
        )
        script.holds(ref, room, payload.ljust(64, b"\0"))
    with script.child() as pid:
        script.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
        for name in held:
            text = script.string(b"n" + name)
            script.returns(-errno.ENOKEY, "keyctl", C.KEYCTL_SEARCH, ring, kind, text, 0)
    script.reap(pid)
    return script.case()


labels = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=5)


@given(batch=batches(st.builds(key_story, labels, st.integers(0, 4)), 5))
def test_keys_are_those_of_the_session(agent, features, batch):
    """add_key of a name that is there updates it; unlinked keys are not found; a session keyring is
    joined by one process: add_key(2), keyctl(2), session-keyring(7)."""
    hold(agent, batch, features)
