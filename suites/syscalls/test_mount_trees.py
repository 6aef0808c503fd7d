"""Mounts, old and new calls: propagation, flags, moving, locks, and what read-only means."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from families import Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Sandbox
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

SIZE = 5
"""Cases in a batch: each has a mount namespace of its own."""
OWN = Sandbox(namespaces=C.CLONE_NEWNS)
USERS = Sandbox(namespaces=C.CLONE_NEWUSER | C.CLONE_NEWNS)
MNT_DETACH = 2  # umount(2); linux/fs.h
AT_RECURSIVE = 0x8000  # mount_setattr(2); linux/fcntl.h
KINDS = {
    "shared": C.MS_SHARED,
    "slave": C.MS_SLAVE,
    "private": C.MS_PRIVATE,
    "unbindable": C.MS_UNBINDABLE,
}


class Mounts(Family):
    """A family that mounts."""

    powerful = True

    def folder(self, path: str) -> None:
        self.returns(0, "mkdirat", C.AT_FDCWD, self.string(path), 0o755)

    def tmpfs(self, path: str, flags: int = 0) -> None:
        name = self.string("tmpfs")
        self.returns(0, "mount", name, self.string(path), name, flags, 0)

    def bind(self, result: int, source: str, target: str, flags: int = 0) -> Ref:
        paths = self.string(source), self.string(target)
        return self.returns(result, "mount", *paths, 0, C.MS_BIND | flags, 0)

    def change(self, path: str, kind: str, *, recursive: bool = False) -> None:
        flags = KINDS[kind] | (C.MS_REC if recursive else 0)
        self.returns(0, "mount", 0, self.string(path), 0, flags, 0)

    def unmount(self, result: int, path: str, flags: int = MNT_DETACH) -> None:
        self.returns(result, "umount2", self.string(path), flags)

    def there(self, path: str, want: bool) -> None:
        result = 0 if want else -errno.ENOENT
        self.returns(result, "faccessat", C.AT_FDCWD, self.string(path), 0)

    def has_flags(self, path: str, want: int, mask: int) -> None:
        """f_flags of statfs(2), whose ST_ bits are those of MS_ for these."""
        room = self.room("struct statfs")
        ref = self.returns(0, "statfs", self.string(path), room, out=[room])

        def check(trace) -> None:
            found = trace.struct(ref, room).f_flags & mask
            assert found == want, f"flags of {path} are {found:#x}, must be {want:#x}"

        self.ensure(check)


@dataclass(eq=False)
class Mount:
    """A copy of one tree: its peers, its master, and what is mounted in it."""

    path: str
    shared: bool = False
    master: set[Mount] | None = None
    unbindable: bool = False
    inside: set[str] = field(default_factory=set)


class Trees(Mounts):
    """Documentation/filesystems/sharedsubtree.rst as a model.

    Copies of one tree, each a mount; events in one are propagated to its peers and to the
    slaves of them. A peer group is a set of mounts, kept by the objects themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Mount] = []
        self.groups: list[set[Mount]] = []
        self.folder("m0")
        self.tmpfs("m0")
        self.change("m0", "private")
        for name in ("a", "b"):
            self.folder(f"m0/{name}")
        self.copies.append(Mount("m0"))

    def group(self, mount: Mount) -> set[Mount]:
        return next((group for group in self.groups if mount in group), {mount})

    def pick(self, index: int) -> Mount:
        return self.copies[index % len(self.copies)]

    def do_change(self, index: int, kind: str) -> None:
        """5b of the document: the state after each change of type."""
        mount = self.pick(index)
        self.change(mount.path, kind)
        group = self.group(mount)
        if kind == "shared":
            mount.unbindable = False
            if not mount.shared:
                mount.shared = True
                self.groups.append({mount})
            return
        if kind == "slave":
            if mount.shared:
                others = group - {mount}
                self.leave(mount)
                mount.master = self.group(next(iter(others))) if others else mount.master
            return
        self.leave(mount)
        mount.master = None
        mount.unbindable = kind == "unbindable"

    def leave(self, mount: Mount) -> None:
        """Out of its peer group; slaves of a group that is left empty go to its own master."""
        if not mount.shared:
            return
        group = self.group(mount)
        group.discard(mount)
        mount.shared = False
        if group:
            return
        self.groups = [each for each in self.groups if each]
        for other in self.copies:
            if other.master is group:
                other.master = mount.master

    def do_bind(self, index: int) -> None:
        """5c of the document: a bind mount is a peer of a shared source, a slave of its master."""
        source = self.pick(index)
        path = f"m{len(self.copies)}"
        if len(self.copies) > 5:
            return
        self.folder(path)
        if source.unbindable:
            self.bind(-errno.EINVAL, source.path, path)
            self.returns(0, "unlinkat", C.AT_FDCWD, self.string(path), C.AT_REMOVEDIR)
            return
        self.bind(0, source.path, path)
        copy = Mount(path, source.shared, source.master)
        if source.shared:
            self.group(source).add(copy)
        self.copies.append(copy)

    def reached(self, mount: Mount) -> set[Mount]:
        """Where an event in a mount is seen: its peers, their slaves, and so on down."""
        found = {mount}
        if not mount.shared:
            return found
        waiting = [self.group(mount)]
        while waiting:
            group = waiting.pop()
            found |= group
            for other in self.copies:
                if other.master is group and other not in found:
                    found.add(other)
                    if other.shared:
                        waiting.append(self.group(other))
        return found

    def do_mount(self, index: int, name: str) -> None:
        mount = self.pick(index)
        reached = self.reached(mount)
        if any(name in other.inside for other in reached):
            return
        self.tmpfs(f"{mount.path}/{name}")
        self.make_file(f"{mount.path}/{name}/here")
        for other in reached:
            other.inside.add(name)

    def do_unmount(self, index: int, name: str) -> None:
        mount = self.pick(index)
        if name not in mount.inside:
            self.unmount(-errno.EINVAL, f"{mount.path}/{name}", 0)
            return
        self.unmount(0, f"{mount.path}/{name}")
        for other in self.reached(mount):
            other.inside.discard(name)

    def look(self) -> Case:
        for mount in self.copies:
            for name in ("a", "b"):
                self.there(f"{mount.path}/{name}/here", name in mount.inside)
        return self.case(OWN)


def tree_story(operations: list[tuple]) -> Case:
    script = Trees()
    for name, *arguments in operations:
        getattr(script, f"do_{name}")(*arguments)
    return script.look()


index = st.integers(0, 5)
spot = st.sampled_from(["a", "b"])
happening = st.one_of(
    st.tuples(
        st.just("change"),
        index,
        st.sampled_from(["shared", "shared", "slave", "private", "unbindable"]),
    ),
    st.tuples(st.just("bind"), index),
    st.tuples(st.just("bind"), index),
    st.tuples(st.just("mount"), index, spot),
    st.tuples(st.just("mount"), index, spot),
    st.tuples(st.just("unmount"), index, spot),
)


@given(batch=batches(long_lists(happening, 10).map(tree_story), SIZE))
def test_mounts_propagate_by_the_table(agent, features, batch):
    """Shared, slave, private and unbindable copies of a tree see just the events they must.

    Documentation/filesystems/sharedsubtree.rst, sections 5b to 5g; mount_namespaces(7), "SHARED
    SUBTREES".
    """
    hold(agent, batch, features)
