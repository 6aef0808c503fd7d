"""Namespaces: identity maps, isolation, joining, process 1, clocks, and what nsfs tells."""

from __future__ import annotations

import errno

from families import Family, exited
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Sandbox, Until
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 3
"""Cases in a batch: each makes namespaces."""
OVERFLOW = 65534


class Spaces(Family):
    """A family with namespaces of its own."""

    powerful = True


def render(rows: list[tuple[int, int, int]]) -> str:
    return "".join(f"{inside} {outside} {length}\n" for inside, outside, length in rows)


def valid(rows: list[tuple[int, int, int]]) -> bool:
    """user_namespaces(7): no overlap inside or outside, nothing empty, at least one line."""
    if not rows:
        return False
    for index, (inside, outside, length) in enumerate(rows):
        # The last number, -1, stands for none.
        if length == 0 or inside + length >= 1 << 32 or outside + length >= 1 << 32:
            return False
        for other_in, other_out, count in rows[:index]:
            if inside < other_in + count and other_in < inside + length:
                return False
            if outside < other_out + count and other_out < outside + length:
                return False
    return True


def translated(rows: list[tuple[int, int, int]], outside: int) -> int:
    for inside, first, length in rows:
        if first <= outside < first + length:
            return inside + outside - first
    return OVERFLOW


def map_story(kind: str, rows: list[tuple[int, int, int]], owner: int) -> Case:
    """A child shares its descriptors, so that the first process can reach its map in proc(5)."""
    script = Spaces()
    script.make_file("f")
    script.returns(0, "fchownat", C.AT_FDCWD, script.string("f"), owner, owner, 0)
    role, pid = script.spawn(C.CLONE_NEWUSER | C.CLONE_FILES | C.SIGCHLD)
    with script.by(role):
        folder = script.open("/proc/self", C.O_PATH | C.O_DIRECTORY)
    script.wait_for(folder)
    raw, good = render(rows).encode(), valid(rows)
    path = script.string(f"{kind}id_map")
    fd = script.works("openat", folder, path, C.O_WRONLY, 0)
    script.returns(len(raw) if good else -errno.EINVAL, "write", fd, script.content(raw), len(raw))
    # Once written it is for good, and until then there is another try.
    fd = script.works("openat", folder, path, C.O_WRONLY, 0)
    last = script.returns(-errno.EPERM if good else 6, "write", fd, script.content(b"0 0 1\n"), 6)
    rows = rows if good else [(0, 0, 1)]
    with script.by(role):
        script.wait_for(last)
        script.reads(f"/proc/self/{kind}id_map", render(rows).encode())
        stat = script.room("struct stat")
        ref = script.returns(0, "newfstatat", C.AT_FDCWD, script.string("f"), stat, 0, out=[stat])
        script.returns(translated(rows, 0), f"get{kind}id")

    def check(trace) -> None:
        seen = trace.struct(ref, stat)
        found = seen.st_uid if kind == "u" else seen.st_gid
        assert found == translated(rows, owner), f"{owner} is {found} inside"

    script.ensure(check)
    script.reap(pid)
    return script.case()


spot = st.one_of(st.integers(0, 12), st.sampled_from([1000, (1 << 32) - 3]))
row = st.tuples(spot, spot, st.one_of(st.integers(0, 4), st.integers(1, 3)))
rows = st.lists(row, max_size=3)


@given(
    batch=batches(st.builds(map_story, st.sampled_from(["u", "g"]), rows, st.integers(0, 14)), SIZE)
)
def test_maps_are_read_back_and_translate(agent, features, batch):
    """A valid map is accepted once, shown as written, and translates ids; others are 65534.

    user_namespaces(7), "Defining user and group ID mappings: writing to uid_map and gid_map".
    """
    hold(agent, batch, features)


def own_map_story(user: int, outside: int, length: int, deny: bool, kind: str) -> Case:
    """Who has no power outside may map one id, its own; groups only once setgroups is denied."""
    script = Spaces()
    script.returns(0, "setresgid", user, user, user)
    script.returns(0, "setresuid", user, user, user)
    script.returns(0, "prctl", C.PR_SET_DUMPABLE, 1)
    script.returns(0, "unshare", C.CLONE_NEWUSER)
    if deny:
        script.put(0, "/proc/self/setgroups", "deny")
    allowed = outside == user and length == 1 and (kind == "u" or deny)
    script.put(0 if allowed else -errno.EPERM, f"/proc/self/{kind}id_map", f"0 {outside} {length}")
    script.returns(0 if allowed else OVERFLOW, f"get{kind}id")
    if kind == "g" and allowed:
        script.returns(-errno.EPERM, "setgroups", 0, 0)
        script.put(-errno.EPERM, "/proc/self/setgroups", "allow")
    return script.case()


@given(
    batch=batches(
        st.builds(
            own_map_story,
            st.sampled_from([1000, 2000]),
            st.sampled_from([1000, 2000]),
            st.integers(1, 2),
            st.booleans(),
            st.sampled_from(["u", "g"]),
        ),
        SIZE,
    )
)
def test_an_ordinary_user_maps_itself_only(agent, features, batch):
    """EPERM for more than one id or another's, and for groups before "deny": user_namespaces(7),
    "Interaction with system calls that change process UIDs or GIDs"."""
    hold(agent, batch, features)


def name_story(names: list[bytes], kind: str) -> Case:
    """Each generation of namespaces has a name of its own, copied from its parent's."""
    script = Spaces()
    field = {"host": 1, "domain": 5}[kind]

    def named(want: bytes) -> None:
        room = script.room("struct new_utsname")
        part = room.at(65 * field, 65)
        ref = script.returns(0, "uname", room, out=[part])
        script.holds(ref, part, want.ljust(65, b"\0"))

    def descend(level: int) -> None:
        name = names[level]
        script.returns(0, "unshare", C.CLONE_NEWUTS)
        if level:
            named(names[level - 1])
        script.returns(0, f"set{kind}name", script.content(name), len(name))
        named(name)
        if level + 1 < len(names):
            with script.child() as pid:
                descend(level + 1)
            script.reap(pid)
        named(name)

    if names:
        descend(0)
    script.returns(-errno.EINVAL, f"set{kind}name", script.string("x"), 65)
    return script.case()


labels = st.lists(
    st.binary(min_size=1, max_size=64).map(lambda raw: raw.replace(b"\0", b"x")), max_size=3
)


@given(batch=batches(st.builds(name_story, labels, st.sampled_from(["host", "domain"])), SIZE))
def test_names_are_of_the_namespace(agent, features, batch):
    """Host and domain names are copied and then apart, and bounded: uts_namespaces(7),
    sethostname(2), setdomainname(2)."""
    hold(agent, batch, features)


def ipc_story(keys: list[int], back: bool) -> Case:
    """System V objects are found by key in their own namespace only."""
    script = Spaces()
    home = script.open("/proc/self/ns/ipc")
    made = {}
    for key in keys:
        made[key] = script.works("msgget", key, C.IPC_CREAT | 0o600, opaque=True)
        script.works("semget", key, 1, C.IPC_CREAT | 0o600, opaque=True)
        script.works("shmget", key, 4096, C.IPC_CREAT | 0o600, opaque=True)
    script.returns(0, "unshare", C.CLONE_NEWIPC)
    for key in keys:
        for call in (("msgget", key, 0), ("semget", key, 1, 0), ("shmget", key, 4096, 0)):
            script.returns(-errno.ENOENT, *call)
    if back:
        script.returns(0, "setns", home, C.CLONE_NEWIPC)
        for key, ref in made.items():
            script.same(script.works("msgget", key, 0, opaque=True), ref)
    return script.case(Sandbox(namespaces=C.CLONE_NEWIPC))


@given(
    batch=batches(
        st.builds(
            ipc_story, st.lists(st.integers(1, 1000), max_size=3, unique=True), st.booleans()
        ),
        SIZE,
    )
)
def test_ipc_objects_are_of_the_namespace(agent, features, batch):
    """Queues, semaphores and memory are not seen from another namespace, and again after setns:
    ipc_namespaces(7), setns(2)."""
    hold(agent, batch, features)


def init_story(depth: int, how: str, orphans: int) -> Case:
    """The end of process 1 ends all processes of its namespace, those of inner ones too."""
    script = Spaces()
    pipe = script.buffer(8)
    script.returns(0, "pipe2", pipe, C.O_CLOEXEC)
    init, pid = script.spawn(C.CLONE_NEWPID | C.SIGCHLD)
    with script.by(init):
        script.returns(1, "getpid")
        script.returns(0, "getppid")
        for index in range(orphans):
            other, number = script.spawn(C.SIGCHLD)
            script.ensure(
                lambda trace, number=number, index=index: is_pid(trace[number], index + 2)
            )
            with script.by(other):
                script.block()
                begun = script.call("pause")
            script.wait_for(begun, Until.BEGUN)
        inner = None
        if depth:
            inner, _ = script.spawn(C.CLONE_NEWPID | C.SIGCHLD)
            with script.by(inner):
                script.returns(1, "getpid")
                begun = script.call("pause")
            script.wait_for(begun, Until.BEGUN)
        if how == "exit":
            script.call("exit_group", 3)
        else:
            last = script.call("pause")
    if how == "kill":
        script.wait_for(last, Until.BEGUN)
        script.signal(pid, C.SIGKILL)
    script.reap(pid, exited(3) if how == "exit" else C.SIGKILL)
    # Nobody holds the other end of the pipe any more: all of them are gone.
    script.returns(0, "close", pipe.word(1))
    script.returns(0, "read", pipe.word(0), script.buffer(1), 1)
    return script.case()


def is_pid(found: int, want: int) -> None:
    assert found == want, f"pid {found} in a new namespace, must be {want}"


@given(
    batch=batches(
        st.builds(
            init_story, st.integers(0, 1), st.sampled_from(["exit", "kill"]), st.integers(0, 3)
        ),
        SIZE,
    )
)
def test_all_die_with_process_one(agent, features, batch):
    """Numbers begin at 1, and when process 1 ends the kernel kills all others before it can be
    waited for: pid_namespaces(7), "The namespace init process"."""
    hold(agent, batch, features)


def guarded_story(number: int, handled: bool, outside: bool) -> Case:
    """Process 1 gets from its own namespace only signals that it handles; from outside KILL too."""
    script = Spaces()
    init, pid = script.spawn(C.CLONE_NEWPID | C.SIGCHLD)
    with script.by(init):
        if handled and number not in (C.SIGKILL, C.SIGSTOP):
            action = script.struct("struct sigaction", sa_handler=C.SIG_IGN)
            script.returns(0, "rt_sigaction", number, action, 0, 8)
        with script.child() as other:
            script.returns(0, "kill", 1, number)
        script.reap(other)
        last = script.call("pause") if outside else script.call("exit", 5)
    if outside:
        script.wait_for(last, Until.BEGUN)
        script.signal(pid, C.SIGKILL)
    script.reap(pid, C.SIGKILL if outside else exited(5))
    return script.case()


deadly = st.sampled_from([C.SIGKILL, C.SIGTERM, C.SIGINT, C.SIGSTOP, C.SIGSEGV, C.SIGHUP])


@given(batch=batches(st.builds(guarded_story, deadly, st.booleans(), st.booleans()), SIZE))
def test_process_one_is_safe_from_its_own(agent, features, batch):
    """Even SIGKILL from within is ignored, and from an ancestor it kills: pid_namespaces(7)."""
    hold(agent, batch, features)


def number_story(wanted: list[int]) -> Case:
    """clone3 gives the child the number it is asked for in its own namespace."""
    script = Spaces()
    init, pid = script.spawn(C.CLONE_NEWPID | C.SIGCHLD)
    with script.by(init):
        used = {1}
        for number in wanted:
            tids = script.number(number, 4)
            arguments = script.struct(
                "struct clone_args", exit_signal=C.SIGCHLD, set_tid=tids, set_tid_size=1
            )
            if number in used:
                script.returns(-errno.EEXIST, "clone3", arguments, arguments.size)
                continue
            role = script.role()
            child = script.returns(number, "clone3", arguments, arguments.size, starts=role)
            with script.by(role):
                script.returns(number, "getpid")
            script.reap(child)
    script.reap(pid)
    return script.case()


@given(batch=batches(st.builds(number_story, st.lists(st.integers(1, 300), max_size=4)), SIZE))
def test_a_process_gets_the_number_asked_for(agent, features, batch):
    """set_tid chooses the number, EEXIST if it is in use: clone(2), "The set_tid array"."""
    hold(agent, batch, features)


def clock_story(monotonic: int, boot: int) -> Case:
    """Offsets are added for who is born or executes inside; they are set before that only."""
    script = Spaces()
    script.needs.add("namespace:time")
    span = script.room("struct __kernel_timespec")
    script.returns(0, "unshare", C.CLONE_NEWTIME)
    script.put(0, "/proc/self/timens_offsets", f"monotonic {monotonic} 0\nboottime {boot} 0\n")
    before = script.returns(0, "clock_gettime", C.CLOCK_MONOTONIC, span, out=[span])
    real = script.room("struct __kernel_timespec")
    outer = script.returns(0, "clock_gettime", C.CLOCK_REALTIME, real, out=[real])
    with script.child() as pid:
        own = script.room("struct __kernel_timespec")
        inside = script.returns(0, "clock_gettime", C.CLOCK_MONOTONIC, own, out=[own])
        wall = script.room("struct __kernel_timespec")
        inner = script.returns(0, "clock_gettime", C.CLOCK_REALTIME, wall, out=[wall])
        script.put(-errno.EACCES, "/proc/self/timens_offsets", "monotonic 1 0\n")
    script.reap(pid)

    def check(trace) -> None:
        gone = trace.struct(inside, own).tv_sec - trace.struct(before, span).tv_sec
        assert monotonic <= gone <= monotonic + 60, f"{gone} s apart, must be {monotonic}"
        same = trace.struct(inner, wall).tv_sec - trace.struct(outer, real).tv_sec
        assert 0 <= same <= 60, "the wall clock has no offset"

    script.ensure(check)
    return script.case()


@given(
    batch=batches(st.builds(clock_story, st.integers(0, 1 << 20), st.integers(0, 1 << 20)), SIZE)
)
def test_clocks_have_the_offsets_of_the_namespace(agent, features, batch):
    """Monotonic and boot-time clocks are moved, the wall clock is not, and EACCES once someone is
    inside: time_namespaces(7)."""
    hold(agent, batch, features)


KINDS = {
    "ipc": C.CLONE_NEWIPC, "uts": C.CLONE_NEWUTS, "mnt": C.CLONE_NEWNS, "user": C.CLONE_NEWUSER,
    "pid": C.CLONE_NEWPID, "cgroup": C.CLONE_NEWCGROUP,
}  # fmt: skip


def nsfs_story(kind: str, owner: int) -> Case:
    """A namespace's descriptor tells its type, its owner and its parent."""
    script = Spaces()
    script.returns(0, "setresuid", -1, owner, -1)
    script.returns(0, "unshare", C.CLONE_NEWUSER)
    user = script.open("/proc/self/ns/user")
    if kind != "user":
        script.returns(0, "unshare", KINDS[kind])
    name = "pid_for_children" if kind == "pid" else kind
    if kind == "pid":
        with script.child() as pid:
            script.call("getpid")
        script.reap(pid)
    fd = script.open(f"/proc/self/ns/{name}")
    script.returns(KINDS[kind], "ioctl", fd, C.NS_GET_NSTYPE, 0)
    room = script.buffer(4)
    if kind == "user":
        ref = script.returns(0, "ioctl", fd, C.NS_GET_OWNER_UID, room, out=[room])
        script.holds(ref, room, OVERFLOW.to_bytes(4, "little"))
        # The parent is out of reach for who is inside.
        script.returns(-errno.EPERM, "ioctl", fd, C.NS_GET_PARENT, 0)
    else:
        found = script.works("ioctl", fd, C.NS_GET_USERNS, 0, opaque=True)
        same_file(script, found, user)
        script.returns(-errno.EINVAL, "ioctl", fd, C.NS_GET_OWNER_UID, room)
        if kind == "pid":
            # Only the children went into the new one; its parent is where this process is.
            parent = script.works("ioctl", fd, C.NS_GET_PARENT, 0, opaque=True)
            same_file(script, parent, script.open("/proc/self/ns/pid"))
        else:
            script.returns(-errno.EINVAL, "ioctl", fd, C.NS_GET_PARENT, 0)
    return script.case()


def same_file(script: Family, first: Ref, second: Ref) -> None:
    """Both descriptors are of one inode."""
    stats = []
    for fd in (first, second):
        stat = script.room("struct stat")
        stats.append((script.returns(0, "fstat", fd, stat, out=[stat]), stat))

    def check(trace) -> None:
        one, other = (trace.struct(*each) for each in stats)
        assert (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino), "another namespace"

    script.ensure(check)


@given(
    batch=batches(
        st.builds(nsfs_story, st.sampled_from(sorted(KINDS)), st.sampled_from([0, 1000])), SIZE
    )
)
def test_nsfs_tells_type_owner_and_parent(agent, features, batch):
    """NS_GET_NSTYPE, NS_GET_USERNS, NS_GET_PARENT, NS_GET_OWNER_UID: ioctl_nsfs(2), ioctl_ns(2)."""
    hold(agent, batch, features)


def limit_story(kind: str, limit: int) -> Case:
    """So many namespaces may be made in a user namespace, and ENOSPC says that there were more."""
    script = Spaces()
    script.returns(0, "unshare", C.CLONE_NEWUSER)
    script.put(0, "/proc/self/uid_map", "0 0 1")
    script.put(0, f"/proc/sys/user/max_{kind}_namespaces", str(limit))
    for _ in range(limit):
        script.returns(0, "unshare", KINDS[kind])
        # Each is kept alive by a descriptor.
        script.open(f"/proc/self/ns/{kind}")
    script.returns(-errno.ENOSPC, "unshare", KINDS[kind])
    return script.case()


@given(
    batch=batches(
        st.builds(limit_story, st.sampled_from(["ipc", "uts", "mnt"]), st.integers(0, 4)), SIZE
    )
)
def test_namespaces_are_limited(agent, features, batch):
    """/proc/sys/user/max_*_namespaces of a user namespace bounds what is made in it, ENOSPC beyond:
    namespaces(7), "The /proc/sys/user directory"."""
    hold(agent, batch, features)


def depth_story(depth: int) -> Case:
    """Namespaces nest to a depth of 32 and no further."""
    script = Spaces()
    for level in range(depth):
        # The initial one and 32 nested ones may each have another.
        script.returns(0 if level < 33 else -errno.ENOSPC, "unshare", C.CLONE_NEWUSER)
        if level < 33:
            script.put(0, "/proc/self/uid_map", "0 0 1")
            script.put(0, "/proc/self/setgroups", "deny")
            script.put(0, "/proc/self/gid_map", "0 0 1")
    return script.case()


@given(batch=batches(st.builds(depth_story, st.integers(30, 34)), 1))
def test_user_namespaces_nest_to_a_depth(agent, features, batch):
    """At most 32 levels, ENOSPC beyond: user_namespaces(7), "Nested namespaces, namespace
    membership"."""
    hold(agent, batch, features)


def join_story(kind: str, wrong: str) -> Case:
    """setns goes where the descriptor says if it may, and the type has to be right."""
    script = Spaces()
    home = script.open(f"/proc/self/ns/{kind}")
    script.returns(0, "unshare", KINDS[kind])
    there = script.open(f"/proc/self/ns/{kind}")
    if wrong == kind:
        script.returns(0, "setns", home, KINDS[kind])
        script.returns(0, "setns", there, 0)
        found = script.open(f"/proc/self/ns/{kind}")
        same_file(script, found, there)
    else:
        script.returns(-errno.EINVAL, "setns", home, KINDS[wrong])
    plain = script.open(".")
    script.returns(-errno.EINVAL, "setns", plain, 0)
    script.returns(-errno.EBADF, "setns", -1, 0)
    return script.case()


few = st.sampled_from(["ipc", "uts", "cgroup"])


@given(batch=batches(st.builds(join_story, few, few), SIZE))
def test_setns_joins_what_it_is_given(agent, features, batch):
    """The namespace of the descriptor, EINVAL for another type or another file: setns(2)."""
    hold(agent, batch, features)
