"""Names in a small tree: rename, exchange, link, remove, against a model of the tree."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

NAMES = ("a", "b")
PATHS = tuple("/".join(parts) for depth in (1, 2, 3) for parts in product(NAMES, repeat=depth))

path = st.one_of(st.sampled_from(PATHS[:6]), st.sampled_from(PATHS[:6]), st.sampled_from(PATHS))
how = st.one_of(
    st.sampled_from([0, 0, C.RENAME_NOREPLACE, C.RENAME_EXCHANGE]),
    st.sampled_from([0, 0, 0, C.RENAME_NOREPLACE | C.RENAME_EXCHANGE, 1 << 20]),
)
operation = st.one_of(
    st.tuples(st.just("mkdir"), path),
    st.tuples(st.just("mkdir"), path),
    st.tuples(st.just("create"), path),
    st.tuples(st.just("symlink"), path),
    st.tuples(st.just("link"), path, path),
    st.tuples(st.just("unlink"), path),
    st.tuples(st.just("rmdir"), path),
    st.tuples(st.just("rename"), path, path, how),
    st.tuples(st.just("rename"), path, path, how),
    st.tuples(st.just("twice"), path, path),
)


@dataclass(eq=False)
class Node:
    """A file (told from others by its size), a folder, or a link to nowhere."""

    kind: str
    size: int = 0
    links: int = 1
    entries: dict[str, Node] = field(default_factory=dict)

    def inside(self, other: Node) -> bool:
        return self is other or any(self.inside(child) for child in other.entries.values())


Place = tuple[Node, str]


class Names(Script):
    """The program, and the tree it must lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Node("dir")
        self.files = 0
        # From an empty tree most operations only find that nothing is there.
        for folder in NAMES:
            self.do_mkdir(folder)
        self.do_create("a/a")
        self.do_create("b/a")
        self.do_link("a/a", "a/b")
        self.do_mkdir("b/b")

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def find(self, path: str) -> Place | int:
        """The folder and last name of a path, or -errno: path_resolution(7)."""
        *folders, name = path.split("/")
        current = self.top
        for part in folders:
            found = current.entries.get(part)
            if found is None or found.kind == "link":
                return -errno.ENOENT
            if found.kind != "dir":
                return -errno.ENOTDIR
            current = found
        return current, name

    def simple(self, path: str, *, exists: bool) -> tuple[int, Place | None]:
        """An errno if the path does not lead anywhere or the name is (not) there, and the place."""
        place = self.find(path)
        if isinstance(place, int):
            return place, None
        if (place[1] in place[0].entries) != exists:
            return (-errno.ENOENT if exists else -errno.EEXIST), None
        return 0, place

    def do_mkdir(self, path: str) -> None:
        result, place = self.simple(path, exists=False)
        self.returns(result, "mkdirat", C.AT_FDCWD, self.string(path), 0o755)
        if place:
            place[0].entries[place[1]] = Node("dir")

    def do_create(self, path: str) -> None:
        result, place = self.simple(path, exists=False)
        flags = C.O_CREAT | C.O_EXCL | C.O_WRONLY
        arguments = ("openat", C.AT_FDCWD, self.string(path), flags, 0o644)
        if place is None:
            self.returns(result, *arguments)
            return
        self.files += 1
        fd = self.works(*arguments)
        self.returns(0, "ftruncate", fd, self.files)
        self.returns(0, "close", fd)
        place[0].entries[place[1]] = Node("file", self.files)

    def do_symlink(self, path: str) -> None:
        result, place = self.simple(path, exists=False)
        self.returns(result, "symlinkat", self.string("nowhere"), C.AT_FDCWD, self.string(path))
        if place:
            place[0].entries[place[1]] = Node("link")

    def do_link(self, path: str, new: str) -> None:
        result, source = self.simple(path, exists=True)
        target = None
        if source:
            result, target = self.simple(new, exists=False)
        if source and target:
            node = source[0].entries[source[1]]
            if node.kind == "dir":
                result = -errno.EPERM
            else:
                node.links += 1
                target[0].entries[target[1]] = node
        paths = self.string(path), self.string(new)
        self.returns(result, "linkat", C.AT_FDCWD, paths[0], C.AT_FDCWD, paths[1], 0)

    def do_unlink(self, path: str) -> None:
        result, place = self.simple(path, exists=True)
        if place:
            node = place[0].entries[place[1]]
            if node.kind == "dir":
                result = -errno.EISDIR
            else:
                self.drop(place)
        self.returns(result, "unlinkat", C.AT_FDCWD, self.string(path), 0)

    def do_rmdir(self, path: str) -> None:
        result, place = self.simple(path, exists=True)
        if place:
            node = place[0].entries[place[1]]
            if node.kind != "dir":
                result = -errno.ENOTDIR
            elif node.entries:
                result = -errno.ENOTEMPTY
            else:
                self.drop(place)
        self.returns(result, "unlinkat", C.AT_FDCWD, self.string(path), C.AT_REMOVEDIR)

    @staticmethod
    def drop(place: Place) -> Node:
        node = place[0].entries.pop(place[1])
        node.links -= 1
        return node

    def do_rename(self, path: str, new: str, flags: int) -> None:
        if flags & C.RENAME_EXCHANGE:
            self.needs.add("rename:exchange")
        result = self.rename(path, new, flags)
        paths = self.string(path), self.string(new)
        self.returns(result, "renameat2", C.AT_FDCWD, paths[0], C.AT_FDCWD, paths[1], flags)

    def do_twice(self, path: str, new: str) -> None:
        """To exchange twice is the identity; what is there afterwards is looked at."""
        self.do_rename(path, new, C.RENAME_EXCHANGE)
        self.do_rename(path, new, C.RENAME_EXCHANGE)
        self.do_look(path)
        self.do_look(new)

    def rename(self, path: str, new: str, flags: int) -> int:  # noqa: PLR0911, PLR0912
        """rename(2), with the order of its checks."""
        known = (0, C.RENAME_NOREPLACE, C.RENAME_EXCHANGE)
        if flags not in known:
            return -errno.EINVAL
        source, target = self.find(path), self.find(new)
        if isinstance(source, int):
            return source
        if isinstance(target, int):
            return target
        moved = source[0].entries.get(source[1])
        there = target[0].entries.get(target[1])
        if moved is None:
            return -errno.ENOENT
        if flags == C.RENAME_NOREPLACE and there is not None:
            return -errno.EEXIST
        if flags == C.RENAME_EXCHANGE:
            return self.exchange(source, target, moved, there)
        if target[0].inside(moved):
            return -errno.EINVAL
        if there is not None:
            if source[0].inside(there):
                return -errno.ENOTEMPTY
            if there is moved:
                return 0
            if moved.kind == "dir" and there.kind != "dir":
                return -errno.ENOTDIR
            if moved.kind != "dir" and there.kind == "dir":
                return -errno.EISDIR
            if there.entries:
                return -errno.ENOTEMPTY
            self.drop(target)
        del source[0].entries[source[1]]
        target[0].entries[target[1]] = moved
        return 0

    @staticmethod
    def exchange(source: Place, target: Place, moved: Node, there: Node | None) -> int:
        if there is None:
            return -errno.ENOENT
        if target[0].inside(moved) or source[0].inside(there):
            return -errno.EINVAL
        source[0].entries[source[1]], target[0].entries[target[1]] = there, moved
        return 0

    def do_look(self, path: str) -> None:
        """The name leads to what the model says, or nowhere."""
        result, place = self.simple(path, exists=True)
        stat = self.room("struct stat")
        arguments = (C.AT_FDCWD, self.string(path), stat, C.AT_SYMLINK_NOFOLLOW)
        if place is None:
            self.returns(result, "newfstatat", *arguments)
            return
        node = place[0].entries[place[1]]
        ref = self.returns(0, "newfstatat", *arguments, out=[stat])
        self.same(ref, stat, Node(node.kind, node.size, node.links))

    def same(self, ref: Ref, stat: Slot, node: Node) -> None:
        kind = {"dir": C.S_IFDIR, "file": C.S_IFREG, "link": C.S_IFLNK}[node.kind]

        def check(trace) -> None:
            seen = trace.struct(ref, stat)
            assert seen.st_mode & C.S_IFMT == kind
            if node.kind == "file":
                assert seen.st_size == node.size, "another file has this name"
            if node.kind != "dir":
                assert seen.st_nlink == node.links

        self.ensure(check)


def story(operations: list[tuple]) -> Case:
    script = Names()
    for step in operations:
        script.add(step)
    for path in PATHS:
        script.do_look(path)
    return script.case()


cases = long_lists(operation, 15).map(story)


@given(batch=batches(cases))
def test_names_follow_the_tree(agent, features, batch):
    """Every name leads to what the model says after any mix of operations.

    RENAME_EXCHANGE swaps atomically and twice is the identity, RENAME_NOREPLACE never
    replaces: rename(2), link(2), unlink(2), rmdir(2), path_resolution(7).
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_names_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
