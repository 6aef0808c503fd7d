"""Capabilities: how sets may change, and how execve transforms them."""

from __future__ import annotations

from credentials import EPERM, SAMPLE, Credentials, bits, needs_reset
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

SIZE = 3
"""Cases in a batch: each of them executes a copy of the agent."""
USER = 1000
WATCHED = bits(*SAMPLE)
NEEDED = bits(C.CAP_SETPCAP, C.CAP_SETUID)

some = st.sets(st.sampled_from(SAMPLE)).map(lambda found: bits(*found))


def execution_story(process: tuple, file: tuple, unprivileged: bool) -> Case:
    """An ordinary user's process with drawn sets executes a file with drawn sets."""
    permitted, inheritable, bounding, ambient = process
    file_permitted, file_inheritable, effective = file
    ambient &= permitted & inheritable
    has_file = bool(file_permitted | file_inheritable | effective)
    script = Credentials()
    script.copy_agent("f")
    if has_file:
        script.give("f", file_permitted, file_inheritable, effective)
    draw_up(script, permitted, inheritable, bounding, ambient)
    if unprivileged:
        script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # capabilities(7), "Transformation of capabilities during execve()".
    after = 0 if has_file else ambient
    gained = (inheritable & file_inheritable) | (file_permitted & bounding) | after
    if effective and file_permitted & ~gained:
        script.returns(EPERM, "execve", script.string("f"), script.vector(), script.vector())
        return script.case()
    if unprivileged:
        gained &= permitted
    with script.execution("f"):
        script.capget(gained if effective else after, gained, inheritable, WATCHED)
        for capability in SAMPLE:
            script.ambient(capability, bool(after >> capability & 1))
            script.returns(bounding >> capability & 1, "prctl", C.PR_CAPBSET_READ, capability)
    return script.case()


def draw_up(
    script: Credentials, permitted: int, inheritable: int, bounding: int, ambient: int
) -> None:
    """Become an ordinary user with just these sets."""
    script.returns(0, "prctl", C.PR_SET_SECUREBITS, C.SECBIT_NO_SETUID_FIXUP)
    script.returns(0, "setresuid", USER, USER, USER)
    script.returns(0, "prctl", C.PR_SET_SECUREBITS, 0)
    script.capset(0, NEEDED | permitted, NEEDED | permitted | inheritable, inheritable)
    script.drop_bounding(bounding)
    for capability in SAMPLE:
        if ambient >> capability & 1:
            script.raise_ambient(capability)
    script.capset(0, permitted, permitted, inheritable)


@given(
    batch=batches(
        st.builds(
            execution_story,
            st.tuples(some, some, some, some),
            st.tuples(some, some, st.booleans()),
            st.booleans(),
        ),
        SIZE,
    )
)
def test_execve_transforms_by_the_formula(agent, features, batch):
    """P'(permitted) = (P(inheritable) & F(inheritable)) | (F(permitted) & P(bounding)) |
    P'(ambient).

    capabilities(7), also on the effective bit, on ambient sets and on files whose permitted
    capabilities cannot all be had; no_new_privs.rst: then nothing is added.
    """
    hold(agent, batch, features)


def root_story(ids: tuple[int, int], inheritable: int, bounding: int, noroot: bool) -> Case:
    """A process with root's real or effective id executes a file without capabilities."""
    real, effective = ids
    script = Credentials()
    script.copy_agent("f")
    flags = C.SECBIT_NO_SETUID_FIXUP | (C.SECBIT_NOROOT if noroot else 0)
    script.returns(0, "prctl", C.PR_SET_SECUREBITS, flags)
    script.returns(0, "setresuid", real, effective, effective)
    script.capset(0, NEEDED, NEEDED | inheritable, inheritable)
    script.drop_bounding(bounding)
    granted = 0
    if not noroot and 0 in ids:
        granted = inheritable | bounding
    with script.execution("f"):
        script.capget(granted if effective == 0 else 0, granted, inheritable, WATCHED)
    return script.case()


ids = st.tuples(st.sampled_from([0, USER]), st.sampled_from([0, USER]))


@given(batch=batches(st.builds(root_story, ids, some, some, st.booleans()), SIZE))
def test_execve_by_root_has_all_of_the_bounding_set(agent, features, batch):
    """P'(permitted) = P(inheritable) | P(bounding) for root, and nothing with SECBIT_NOROOT.

    capabilities(7), "Capabilities and execution of programs by root" and "The securebits flags".
    """
    hold(agent, batch, features)


class Sets(Credentials):
    """A model of the sets that a process without files works on."""

    def __init__(self) -> None:
        super().__init__()
        self.effective = self.permitted = self.inheritable = WATCHED
        self.bounding, self.raised = WATCHED, 0
        self.capset(0, WATCHED, WATCHED, WATCHED)

    def do_set(self, effective: int, permitted: int, inheritable: int) -> None:
        capped = not self.effective >> C.CAP_SETPCAP & 1
        wrong = (
            (capped and inheritable & ~(self.inheritable | self.permitted))
            or inheritable & ~(self.inheritable | self.bounding)
            or permitted & ~self.permitted
            or effective & ~permitted
        )
        self.capset(EPERM if wrong else 0, effective, permitted, inheritable)
        if not wrong:
            self.effective, self.permitted, self.inheritable = effective, permitted, inheritable
            self.raised &= permitted & inheritable

    def do_drop(self, capability: int) -> None:
        able = self.effective >> C.CAP_SETPCAP & 1
        self.returns(0 if able else EPERM, "prctl", C.PR_CAPBSET_DROP, capability)
        if able:
            self.bounding &= ~bits(capability)

    def do_raise(self, capability: int) -> None:
        able = self.permitted & self.inheritable & bits(capability)
        self.raise_ambient(capability, 0 if able else EPERM)
        self.raised |= able

    def do_lower(self, capability: int) -> None:
        command = C.PR_CAP_AMBIENT_LOWER
        self.returns(0, "prctl", C.PR_CAP_AMBIENT, command, capability, 0, 0)
        self.raised &= ~bits(capability)

    def do_clear(self) -> None:
        self.returns(0, "prctl", C.PR_CAP_AMBIENT, C.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        self.raised = 0

    def look(self) -> Case:
        self.capget(self.effective, self.permitted, self.inheritable)
        for capability in SAMPLE:
            want = self.bounding >> capability & 1
            self.returns(want, "prctl", C.PR_CAPBSET_READ, capability)
            self.ambient(capability, bool(self.raised >> capability & 1))
        return self.case()


def set_story(operations: list[tuple]) -> Case:
    script = Sets()
    for name, *arguments in operations:
        getattr(script, f"do_{name}")(*arguments)
    return script.look()


most = st.sets(st.sampled_from(SAMPLE), max_size=2).map(lambda lost: WATCHED & ~bits(*lost))
one = st.sampled_from(SAMPLE)
setting = st.one_of(
    st.tuples(st.just("set"), most, most, most),
    st.tuples(st.just("set"), some, some, some),
    st.tuples(st.just("drop"), one),
)


@given(batch=batches(st.builds(set_story, long_lists(setting, 5))))
def test_sets_change_by_the_rules(agent, features, batch):
    """capset refuses what is not permitted, and adds to the inheritable set as allowed.

    capset(2), capabilities(7), "Programmatically adjusting capability sets";
    PR_CAPBSET_DROP(2const).
    """
    hold(agent, batch, features)


raising = st.one_of(
    setting, st.tuples(st.just("raise"), one), st.tuples(st.just("raise"), one),
    st.tuples(st.just("lower"), one), st.tuples(st.just("clear")),
)  # fmt: skip


@given(batch=batches(st.builds(set_story, long_lists(raising, 8))))
def test_ambient_is_within_permitted_and_inheritable(agent, features, batch):
    """Only what is both can be raised, and what leaves either is lowered: capabilities(7),
    PR_CAP_AMBIENT(2const)."""
    hold(agent, batch, features)


FILE_SYSTEM = bits(
    C.CAP_CHOWN, C.CAP_DAC_OVERRIDE, C.CAP_DAC_READ_SEARCH, C.CAP_FOWNER, C.CAP_FSETID,
    C.CAP_LINUX_IMMUTABLE, C.CAP_MAC_OVERRIDE, C.CAP_MKNOD,
)  # fmt: skip


class Users(Credentials):
    """A model of user ids and of the sets that follow them."""

    def __init__(self) -> None:
        super().__init__()
        self.real = self.effective = self.saved = self.file = 0
        self.permitted = self.allowed = WATCHED | FILE_SYSTEM
        self.keep = self.fixed = False
        self.capset(0, self.allowed, self.permitted, 0)

    def may(self, *users: int) -> bool:
        own = (self.real, self.effective, self.saved)
        return bool(self.allowed >> C.CAP_SETUID & 1) or all(u in (-1, *own) for u in users)

    def do_setresuid(self, real: int, effective: int, saved: int) -> None:
        if not self.may(real, effective, saved):
            self.returns(EPERM, "setresuid", real, effective, saved)
            return
        self.returns(0, "setresuid", real, effective, saved)
        before = (self.real, self.effective, self.saved)
        if needs_reset((real, effective, saved), before, self.file):
            self.needs.add("setresuid:no-change-resets-fsuid")
        drawn = zip((real, effective, saved), before, strict=True)
        self.real, self.effective, self.saved = (old if new == -1 else new for new, old in drawn)
        self.file = self.effective
        if self.fixed:
            return
        if 0 in before and 0 not in (self.real, self.effective, self.saved) and not self.keep:
            self.permitted = self.allowed = 0
        if before[1] == 0 and self.effective != 0:
            self.allowed = 0
        if before[1] != 0 and self.effective == 0:
            self.allowed = self.permitted

    def do_setfsuid(self, user: int) -> None:
        own = (self.real, self.effective, self.saved, self.file)
        self.returns(self.file, "setfsuid", user)
        if user not in own and not self.allowed >> C.CAP_SETUID & 1:
            return
        if not self.fixed and self.file == 0 and user != 0:
            self.allowed &= ~FILE_SYSTEM
        if not self.fixed and self.file != 0 and user == 0:
            self.allowed |= self.permitted & FILE_SYSTEM
        self.file = user

    def do_keep(self, keep: bool) -> None:
        self.returns(0, "prctl", C.PR_SET_KEEPCAPS, int(keep))
        self.keep = keep

    def do_fix(self) -> None:
        flags = C.SECBIT_NO_SETUID_FIXUP | (C.SECBIT_KEEP_CAPS if self.keep else 0)
        able = self.allowed >> C.CAP_SETPCAP & 1
        self.returns(0 if able else EPERM, "prctl", C.PR_SET_SECUREBITS, flags)
        self.fixed = self.fixed or bool(able)

    def look(self) -> None:
        self.capget(self.allowed, self.permitted, 0)
        self.ids("u", self.real, self.effective, self.saved)
        self.returns(self.file, "setfsuid", -1)


def user_story(operations: list[tuple]) -> Case:
    script = Users()
    for name, *arguments in operations:
        getattr(script, f"do_{name}")(*arguments)
        script.look()
    return script.case()


user = st.sampled_from([0, 0, USER, 2000])
kept = st.one_of(st.just(-1), user)
changing = st.one_of(
    st.tuples(st.just("setresuid"), kept, kept, kept),
    st.tuples(st.just("setresuid"), kept, kept, kept),
    st.tuples(st.just("setfsuid"), user),
    st.tuples(st.just("keep"), st.booleans()),
    st.tuples(st.just("fix")),
)


@given(batch=batches(st.builds(user_story, long_lists(changing, 5))))
def test_sets_follow_the_user(agent, features, batch):
    """Ids and sets after any chain of changes: capabilities(7), "Effect of user ID changes on
    capabilities", setresuid(2), setfsuid(2), PR_SET_KEEPCAPS(2const)."""
    hold(agent, batch, features)


SECURE = ("NOROOT", "NO_SETUID_FIXUP", "KEEP_CAPS", "NO_CAP_AMBIENT_RAISE")
PLAIN = sum(getattr(C, f"SECBIT_{name}") for name in SECURE)
LOCKS = sum(getattr(C, f"SECBIT_{name}_LOCKED") for name in SECURE)


def secure_story(values: list[tuple[int, int]], left: bool) -> Case:
    """Flags are set one after another, until locks refuse; then the capability is gone."""
    script, held = Credentials(), 0
    for value, add in values:
        wanted = (value | (held & LOCKS)) if add else value
        wrong = (
            (held & LOCKS) >> 1 & (held ^ wanted)
            or held & LOCKS & ~wanted
            or wanted & ~(PLAIN | LOCKS)
        )
        script.returns(EPERM if wrong else 0, "prctl", C.PR_SET_SECUREBITS, wanted)
        held = held if wrong else wanted
        script.returns(held, "prctl", C.PR_GET_SECUREBITS)
        locked = held & C.SECBIT_KEEP_CAPS_LOCKED
        keep = bool(held & C.SECBIT_KEEP_CAPS)
        script.returns(int(keep), "prctl", C.PR_GET_KEEPCAPS)
        script.returns(EPERM if locked else 0, "prctl", C.PR_SET_KEEPCAPS, int(keep))
        if held & C.SECBIT_NO_CAP_AMBIENT_RAISE:
            script.raise_ambient(C.CAP_CHOWN, EPERM)
    if left:
        script.capset(0, 0, 0, 0)
        script.returns(EPERM, "prctl", C.PR_SET_SECUREBITS, held)
    return script.case()


secure = st.one_of(st.integers(0, 255), st.just(1 << 20))


@given(
    batch=batches(
        st.builds(
            secure_story, st.lists(st.tuples(secure, st.integers(0, 1)), max_size=6), st.booleans()
        )
    )
)
def test_locked_securebits_stay(agent, features, batch):
    """A locked flag and its lock cannot be changed, and CAP_SETPCAP is needed: capabilities(7),
    "The securebits flags"; PR_SET_SECUREBITS(2const)."""
    hold(agent, batch, features)


def inheritance_story(sets: tuple, secure: int) -> Case:
    """A child has all of its parent's, and what it drops is its own."""
    permitted, inheritable, bounding, ambient = sets
    ambient &= permitted & inheritable
    script = Credentials()
    draw_up(script, permitted, inheritable, bounding, ambient)
    script.returns(0, "prctl", C.PR_SET_KEEPCAPS, secure)
    with script.child() as pid:
        script.capget(permitted, permitted, inheritable)
        for capability in SAMPLE:
            script.ambient(capability, bool(ambient >> capability & 1))
            script.returns(bounding >> capability & 1, "prctl", C.PR_CAPBSET_READ, capability)
        script.returns(secure, "prctl", C.PR_GET_KEEPCAPS)
        script.capset(0, 0, 0, 0)
    script.reap(pid)
    script.capget(permitted, permitted, inheritable)
    return script.case()


@given(
    batch=batches(
        st.builds(inheritance_story, st.tuples(some, some, some, some), st.integers(0, 1)), 5
    )
)
def test_a_child_has_the_sets_of_its_parent(agent, features, batch):
    """fork copies every set and the securebits, and shares none: fork(2), capabilities(7)."""
    hold(agent, batch, features)
