"""What single mount calls promise: flags, trees, moves, locks, roots and busy mounts."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from test_mount_trees import AT_RECURSIVE, MNT_DETACH, OWN, SIZE, Mounts

from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

MNT_EXPIRE = 4  # umount(2); linux/fs.h
ST_ATIME = C.MS_NOATIME | C.MS_NODIRATIME
FLAGS = {
    "ro": (C.MS_RDONLY, C.MOUNT_ATTR_RDONLY),
    "nosuid": (C.MS_NOSUID, C.MOUNT_ATTR_NOSUID),
    "nodev": (C.MS_NODEV, C.MOUNT_ATTR_NODEV),
    "noexec": (C.MS_NOEXEC, C.MOUNT_ATTR_NOEXEC),
}
MASK = sum(old for old, _ in FLAGS.values())


def old(names: set[str]) -> int:
    return sum(FLAGS[name][0] for name in names)


def new(names: set[str]) -> int:
    return sum(FLAGS[name][1] for name in names)


some = st.sets(st.sampled_from(sorted(FLAGS)))


def flag_story(first: set[str], second: set[str]) -> Case:
    """A mount and its bind mount have flags of their own."""
    script = Mounts()
    script.folder("m")
    script.folder("b")
    script.tmpfs("m", old(first))
    script.has_flags("m", old(first), MASK)
    script.bind(0, "m", "b")
    script.has_flags("b", old(first), MASK)
    script.bind(0, "m", "b", C.MS_REMOUNT | old(second))
    script.has_flags("b", old(second) | (old(first) & C.MS_RDONLY), MASK)
    script.has_flags("m", old(first), MASK)
    return script.case(OWN)


@given(batch=batches(st.builds(flag_story, some, some), SIZE))
def test_flags_are_those_of_the_mount(agent, features, batch):
    """What mount was given is what statfs tells; a bind mount's flags change alone: mount(2),
    statfs(2). A file system that is read-only itself is so through every mount."""
    hold(agent, batch, features)


def attribute_story(first: set[str], set_: set[str], clear: set[str], recursive: bool) -> Case:
    """mount_setattr on a mount that has another one inside."""
    script = Mounts()
    script.needs.add("mount_setattr")
    script.folder("m")
    script.tmpfs("m")
    script.folder("m/in")
    script.tmpfs("m/in")
    script.bind(0, "m", "m", C.MS_REC)
    attributes = script.struct("struct mount_attr", attr_set=new(first))
    script.returns(
        0,
        "mount_setattr",
        C.AT_FDCWD,
        script.string("m"),
        AT_RECURSIVE,
        attributes,
        attributes.size,
    )
    attributes = script.struct("struct mount_attr", attr_set=new(set_), attr_clr=new(clear))
    how = AT_RECURSIVE if recursive else 0
    script.returns(
        0, "mount_setattr", C.AT_FDCWD, script.string("m"), how, attributes, attributes.size
    )
    after = (first - clear) | set_
    script.has_flags("m", old(after), MASK)
    script.has_flags("m/in", old(after if recursive else first), MASK)
    return script.case(OWN)


@given(batch=batches(st.builds(attribute_story, some, some, some, st.booleans()), SIZE))
def test_attributes_change_the_mount_or_the_tree(agent, features, batch):
    """attr_clr is taken off before attr_set is put on, at one mount or with AT_RECURSIVE in all
    below: mount_setattr(2)."""
    hold(agent, batch, features)


def lock_story(first: set[str], wanted: set[str]) -> Case:
    """Flags that came into a less privileged namespace with the mount can be added to only."""
    script = Mounts()
    script.folder("m")
    script.tmpfs("m")
    script.bind(0, "m", "m", C.MS_REMOUNT | old(first))
    allowed = first <= wanted
    result = 0 if allowed else -errno.EPERM
    with script.child(C.CLONE_NEWUSER | C.CLONE_NEWNS | C.SIGCHLD) as pid:
        script.bind(result, "m", "m", C.MS_REMOUNT | old(wanted))
        script.has_flags("m", old(wanted if allowed else first), MASK)
        # The mount itself came with the others and hides what is below it.
        script.unmount(-errno.EINVAL, "m")
    script.reap(pid)
    script.has_flags("m", old(first), MASK)
    return script.case(OWN)


@given(batch=batches(st.builds(lock_story, some, some), 3))
def test_flags_are_locked_in_a_user_namespace(agent, features, batch):
    """Inherited flags cannot be cleared and inherited mounts not be taken apart:
    mount_namespaces(7), "Restrictions on mount namespaces"."""
    hold(agent, batch, features)


def tree_story(clone: bool, recursive: bool, leave: bool) -> Case:
    """A detached copy of a tree is nowhere until it is moved, and gone with its descriptor."""
    script = Mounts()
    for path in ("m", "t"):
        script.folder(path)
    script.tmpfs("m")
    script.change("m", "private")
    script.make_file("m/top")
    script.folder("m/in")
    script.tmpfs("m/in")
    script.make_file("m/in/below")
    flags = (C.OPEN_TREE_CLONE if clone else 0) | (AT_RECURSIVE if recursive and clone else 0)
    tree = script.works("open_tree", C.AT_FDCWD, script.string("m"), flags | C.OPEN_TREE_CLOEXEC)
    for name, want in (("top", True), ("in/below", recursive or not clone)):
        result = 0 if want else -errno.ENOENT
        script.returns(result, "faccessat", tree, script.string(name), 0)
    script.there("t/top", False)
    if not leave:
        where = (C.AT_FDCWD, script.string("t"), C.MOVE_MOUNT_F_EMPTY_PATH)
        script.returns(0, "move_mount", tree, script.string(""), *where)
    script.returns(0, "close", tree)
    script.there("t/top", not leave)
    script.there("t/in/below", not leave and (recursive or not clone))
    script.there("m/top", clone or leave)
    return script.case(OWN)


@given(batch=batches(st.builds(tree_story, st.booleans(), st.booleans(), st.booleans()), SIZE))
def test_a_tree_is_copied_and_moved(agent, features, batch):
    """OPEN_TREE_CLONE copies one mount or, with AT_RECURSIVE, all; move_mount attaches what a
    descriptor holds: open_tree(2), move_mount(2)."""
    hold(agent, batch, features)


CHANGES = {
    "mkdir": ("mkdirat", "d", 0o700),
    "unlink": ("unlinkat", "f", 0),
    "create": ("openat", "n", C.O_CREAT | C.O_WRONLY, 0o600),
    "write": ("openat", "f", C.O_WRONLY, 0),
    "chmod": ("fchmodat", "f", 0o600),
    "link": ("linkat", "f"),
    "symlink": ("symlinkat", "s"),
    "chown": ("fchownat", "f", 0, 0, 0),
    "truncate": ("truncate", "f", 0),
    "times": ("utimensat", "f", 0, 0),
}


def read_only_story(names: list[str]) -> Case:
    """Every change is refused through a read-only mount, and works beside it."""
    script = Mounts()
    for path in ("m", "r"):
        script.folder(path)
    script.tmpfs("m")
    script.make_file("m/f", b"text")
    script.bind(0, "m", "r")
    script.bind(0, "m", "r", C.MS_REMOUNT | C.MS_RDONLY)
    for name in names:
        call, file, *rest = CHANGES[name]
        path = script.string(f"r/{file}")
        if name == "truncate":
            script.returns(-errno.EROFS, call, path, *rest)
        elif name == "link":
            script.returns(
                -errno.EROFS, call, C.AT_FDCWD, path, C.AT_FDCWD, script.string("r/l"), 0
            )
        elif name == "symlink":
            script.returns(-errno.EROFS, call, script.string("x"), C.AT_FDCWD, path)
        else:
            script.returns(-errno.EROFS, call, C.AT_FDCWD, path, *rest)
    script.reads("r/f", b"text")
    script.returns(0, "truncate", script.string("m/f"), 0)
    script.reads("r/f", b"")
    return script.case(OWN)


@given(
    batch=batches(
        st.builds(read_only_story, st.lists(st.sampled_from(sorted(CHANGES)), max_size=6)), SIZE
    )
)
def test_read_only_refuses_every_change(agent, features, batch):
    """EROFS through the read-only bind mount, while another mount of the same files writes:
    mount(2) on MS_RDONLY and MS_BIND, path_resolution(7)."""
    hold(agent, batch, features)


def limits_story(names: set[str]) -> Case:
    """noexec refuses execution, nodev devices, nosymfollow links; without them all work."""
    script = Mounts()
    script.folder("m")
    script.tmpfs("m", old(names - {"ro"}))
    script.copy_agent("m/x")
    script.returns(0, "mknodat", C.AT_FDCWD, script.string("m/null"), C.S_IFCHR | 0o666, 1 << 8 | 3)
    if "nodev" in names:
        script.returns(-errno.EACCES, "openat", C.AT_FDCWD, script.string("m/null"), C.O_RDWR, 0)
    else:
        script.works("openat", C.AT_FDCWD, script.string("m/null"), C.O_RDWR, 0)
    at = (C.AT_FDCWD, script.string("m/x"))
    if "noexec" in names:
        fd = script.open("m/x")
        script.returns(-errno.EACCES, "execveat", *at, script.vector(), script.vector(), 0)
        script.returns(
            -errno.EPERM, "mmap", 0, 4096, C.PROT_READ | C.PROT_EXEC, C.MAP_PRIVATE, fd, 0
        )
        return script.case(OWN)
    with script.execution("m/x"):
        script.call("getpid")
    return script.case(OWN)


@given(batch=batches(st.builds(limits_story, some), 3))
def test_what_a_mount_forbids_is_refused(agent, features, batch):
    """MS_NOEXEC and MS_NODEV: EACCES of execve and of open, EPERM of an executable mapping:
    mount(2), execve(2), mmap(2), open(2)."""
    hold(agent, batch, features)


def pivot_story(depth: int, stay: bool) -> Case:
    """A new root, and the old one below it until it is unmounted."""
    script = Mounts()
    script.folder("new")
    script.tmpfs("new")
    script.make_file("new/mark")
    path = "new"
    for level in range(depth):
        path += f"/d{level}"
        script.folder(path)
    put = path[4:] or "."
    # In the old root itself nothing has this name.
    script.returns(0, "chdir", script.string("new"))
    script.returns(0, "pivot_root", script.string("."), script.string(put))
    script.returns(0, "chdir", script.string("/"))
    script.there("/mark", True)
    script.there(f"/{put}/proc/self", depth > 0)
    if depth and not stay:
        script.unmount(0, f"/{put}")
        script.there(f"/{put}/proc/self", False)
    elif not depth:
        # pivot_root(".", "."): the old root lies on top, and goes in one call.
        script.returns(0, "umount2", script.string("."), MNT_DETACH)
        script.there("/mark", True)
    return script.case(OWN)


@given(batch=batches(st.builds(pivot_story, st.integers(0, 3), st.booleans()), SIZE))
def test_a_root_is_exchanged(agent, features, batch):
    """The new root is where all look, the old one under put_old, also if both are ".":
    pivot_root(2)."""
    hold(agent, batch, features)


def busy_story(kind: str, expire: int) -> Case:
    """A mount in use refuses to go, or goes when the last user has."""
    script = Mounts()
    script.folder("m")
    script.tmpfs("m")
    script.make_file("m/f", b"text")
    if kind == "open":
        fd = script.open("m/f")
        script.unmount(-errno.EBUSY, "m", 0)
        script.unmount(0, "m", MNT_DETACH)
        room = script.buffer(4)
        ref = script.returns(4, "pread64", fd, room, 4, 0, out=[room])
        script.holds(ref, room, b"text")
        script.there("m/f", False)
        script.unmount(-errno.EINVAL, "m", 0)
    elif kind == "inside":
        script.folder("m/in")
        script.tmpfs("m/in")
        script.unmount(-errno.EBUSY, "m", 0)
        script.unmount(0, "m/in", 0)
        script.unmount(0, "m", 0)
    elif kind == "folder":
        script.returns(0, "chdir", script.string("m"))
        script.unmount(-errno.EBUSY, ".", 0)
        script.returns(0, "chdir", script.string(".."))
        script.unmount(0, "m", 0)
    else:
        for _ in range(expire):
            script.unmount(-errno.EAGAIN, "m", MNT_EXPIRE)
            script.there("m/f", True)
        script.unmount(-errno.EAGAIN, "m", MNT_EXPIRE)
        script.unmount(0, "m", MNT_EXPIRE)
        script.unmount(-errno.EINVAL, "m", MNT_EXPIRE | MNT_DETACH)
    return script.case(OWN)


kinds = st.sampled_from(["open", "inside", "folder", "expire"])


@given(batch=batches(st.builds(busy_story, kinds, st.integers(0, 3)), SIZE))
def test_a_busy_mount_stays(agent, features, batch):
    """EBUSY while it is used, MNT_DETACH takes it out of sight at once, MNT_EXPIRE on the second
    call without use between: umount(2)."""
    hold(agent, batch, features)


def namespace_story(kind: str, inner: str) -> Case:
    """What is mounted in a copied mount namespace is seen in the other as propagation says."""
    script = Mounts()
    script.folder("m")
    script.tmpfs("m")
    script.change("m", kind)
    script.folder("m/in")
    with script.child(C.CLONE_NEWNS | C.SIGCHLD) as pid:
        if inner:
            script.change("m", inner)
        script.tmpfs("m/in")
        script.make_file("m/in/here")
    script.reap(pid)
    seen = kind == "shared" and inner in ("", "shared")
    script.there("m/in/here", seen)
    return script.case(OWN)


@given(
    batch=batches(
        st.builds(
            namespace_story,
            st.sampled_from(["shared", "private", "slave"]),
            st.sampled_from(["", "shared", "slave", "private"]),
        ),
        SIZE,
    )
)
def test_namespaces_are_copies_that_propagate(agent, features, batch):
    """A new mount namespace is a copy whose shared mounts stay peers: mount_namespaces(7)."""
    hold(agent, batch, features)
