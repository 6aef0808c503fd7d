"""openat2 within a root: a generated tree of links, and a model of how paths resolve."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

MAXSYMLINKS = 40  # path_resolution(7)

parts = st.sampled_from(["a", "a", "b", "b", "c", "..", "..", "."])
relative = st.lists(parts, min_size=1, max_size=5).map("/".join)
target = st.one_of(relative, relative, relative.map(lambda path: "/" + path))
path = st.one_of(target, relative, relative.map(lambda path: path + "/"))
# "d" is a link to ".": so many of it that the limit on links is reached, or just not.
deep = st.builds(lambda links, rest: "d/" * links + rest, st.integers(36, 42), relative)

planting = st.tuples(
    st.sampled_from(["link", "link", "link", "dir", "file"]),
    st.integers(0, 5),
    st.sampled_from(["a", "b", "c"]),
    target,
)
rest = (
    st.sampled_from(["", "", "", "NO_SYMLINKS", "NO_MAGICLINKS", "NO_XDEV", "both", "unknown"]),
    st.sampled_from([0, C.O_PATH, C.O_PATH | C.O_NOFOLLOW, C.O_NOFOLLOW]),
    st.booleans(),
)
asking = st.one_of(
    st.tuples(path, st.sampled_from(["BENEATH", "IN_ROOT"]), *rest),
    st.tuples(path, st.sampled_from(["BENEATH", "IN_ROOT"]), *rest),
    # Not beneath: at the root's ".." the kernel may start again without RCU (fs/namei.c,
    # follow_dotdot_rcu) and goes on counting, so what it says first depends on its caches.
    st.tuples(deep, st.just("IN_ROOT"), *rest),
)


@dataclass(eq=False)
class Node:
    """A file, a folder or a link; ``at`` is the one path that leads to it without links."""

    kind: str
    at: str
    parent: Node | None = None
    target: str = ""
    entries: dict[str, Node] = field(default_factory=dict)


def resolve(  # noqa: PLR0911
    root: Node, path: str, *, beneath: bool, links: bool, follow: bool
) -> Node | int:
    """The node that ``path`` leads to, or -errno: path_resolution(7) and openat2(2)."""
    current, left, followed = root, path.split("/"), 0
    if path.startswith("/") and beneath:
        return -errno.EXDEV
    while left:
        part = left.pop(0)
        if current.kind != "dir":
            return -errno.ENOTDIR
        if part in ("", "."):
            continue
        if part == "..":
            if current is root and beneath:
                return -errno.EXDEV
            current = current if current is root else current.parent
            continue
        found = current.entries.get(part)
        if found is None:
            return -errno.ENOENT
        if found.kind == "link" and (left or follow):
            followed += 1
            if not links or followed > MAXSYMLINKS:
                return -errno.ELOOP
            if found.target.startswith("/"):
                if beneath:
                    return -errno.EXDEV
                current = root
            left = [*found.target.split("/"), *left]
            continue
        current = found
    return current


class Tree(Script):
    """Plants a tree beside something that must not be reached, then asks for paths in it."""

    def __init__(self) -> None:
        super().__init__()
        self.needs.add("openat2")
        self.root = Node("dir", "root")
        self.folders = [self.root]
        self.nodes = [self.root]
        self.stats: dict[str, tuple[Ref, Slot]] = {}
        self.returns(0, "mkdirat", C.AT_FDCWD, self.string("root"), 0o755)
        self.returns(0, "mkdirat", C.AT_FDCWD, self.string("a"), 0o755)
        self.returns(0, "symlinkat", self.string("."), C.AT_FDCWD, self.string("b"))
        self.plant("link", 0, "d", ".")
        self.plant("dir", 0, "a", "")
        self.plant("dir", 1, "b", "")

    def plant(self, kind: str, parent: int, name: str, target: str) -> None:
        folder = self.folders[parent % len(self.folders)]
        if name in folder.entries:
            return
        node = Node(kind, f"{folder.at}/{name}", folder, target)
        folder.entries[name] = node
        self.nodes.append(node)
        at = self.string(node.at)
        if kind == "dir":
            self.folders.append(node)
            self.returns(0, "mkdirat", C.AT_FDCWD, at, 0o755)
        elif kind == "file":
            fd = self.works("openat", C.AT_FDCWD, at, C.O_CREAT | C.O_EXCL | C.O_RDWR, 0o644)
            self.returns(0, "close", fd)
        else:
            self.returns(0, "symlinkat", self.string(target), C.AT_FDCWD, at)

    def look(self) -> Ref:
        """Note every node's identity; the descriptor of the root."""
        for node in self.nodes:
            stat = self.room("struct stat")
            ref = self.returns(
                0,
                "newfstatat",
                C.AT_FDCWD,
                self.string(node.at),
                stat,
                C.AT_SYMLINK_NOFOLLOW,
                out=[stat],
            )
            self.stats[node.at] = (ref, stat)
        return self.works("openat", C.AT_FDCWD, self.string("root"), C.O_PATH | C.O_DIRECTORY, 0)

    def expected(self, path: str, scope: str, extra: str, flags: int) -> Node | int:
        if extra in ("both", "unknown"):
            return -errno.EINVAL
        found = resolve(
            self.root,
            path,
            beneath=scope == "BENEATH",
            links=extra != "NO_SYMLINKS",
            follow=not flags & C.O_NOFOLLOW,
        )
        if isinstance(found, int):
            return found
        if found.kind == "link" and flags & C.O_DIRECTORY:
            return -errno.ENOTDIR
        if found.kind == "link" and not flags & C.O_PATH:
            return -errno.ELOOP
        if found.kind != "dir" and (flags & C.O_DIRECTORY or path.endswith("/")):
            return -errno.ENOTDIR
        return found

    def ask(self, root: Ref, question: tuple) -> None:
        path, scope, extra, flags, folder = question
        flags |= C.O_DIRECTORY if folder else 0
        resolve = getattr(C, f"RESOLVE_{scope}")
        if extra == "both":
            resolve = C.RESOLVE_BENEATH | C.RESOLVE_IN_ROOT
        elif extra == "unknown":
            resolve |= 1 << 40
        elif extra:
            resolve |= getattr(C, f"RESOLVE_{extra}")
        how = self.struct("struct open_how", flags=flags, resolve=resolve)
        fd = self.call("openat2", root, self.string(path), how, how.size)
        stat = self.room("struct stat")
        seen = self.call("fstat", fd, stat, out=[stat])
        want = self.expected(path, scope, extra, flags)

        def check(trace) -> None:
            # openat2(2), EAGAIN: something on the system was renamed meanwhile; ask again.
            if trace[fd] == -errno.EAGAIN:
                return
            if isinstance(want, int):
                assert trace[fd] == want, f"{path}: {trace[fd]}, must be {want}"
                return
            assert trace[fd] >= 0, f"{path}: {trace[fd]}, must open {want.at}"
            found, meant = trace.struct(seen, stat), trace.struct(*self.stats[want.at])
            assert (found.st_dev, found.st_ino) == (meant.st_dev, meant.st_ino), f"not {want.at}"

        self.ensure(check)


def story(plants: list[tuple], questions: list[tuple]) -> Case:
    script = Tree()
    for plant in plants:
        script.plant(*plant)
    root = script.look()
    for question in questions:
        script.ask(root, question)
    return script.case()


cases = st.builds(story, long_lists(planting, 5), long_lists(asking, 10))


@given(batch=batches(cases))
def test_openat2_never_leaves_the_root(agent, features, batch):
    """Each path opens exactly what the model says, inside the root, or fails as it says.

    openat2(2) on RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS; path_resolution(7).
    """
    if "openat2" not in features:
        pytest.skip("unsupported: this kernel has no openat2")
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_openat2_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
