"""Landlock: rules on a hierarchy, layers of them, and who is bound."""

from __future__ import annotations

import errno

from families import Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 6
RIGHTS = {
    "read": C.LANDLOCK_ACCESS_FS_READ_FILE,
    "write": C.LANDLOCK_ACCESS_FS_WRITE_FILE,
    "list": C.LANDLOCK_ACCESS_FS_READ_DIR,
    "make": C.LANDLOCK_ACCESS_FS_MAKE_REG,
    "mkdir": C.LANDLOCK_ACCESS_FS_MAKE_DIR,
    "remove": C.LANDLOCK_ACCESS_FS_REMOVE_FILE,
    "rmdir": C.LANDLOCK_ACCESS_FS_REMOVE_DIR,
    "link": C.LANDLOCK_ACCESS_FS_MAKE_SYM,
}
FOLDERS = ("a", "a/b", "a/b/c", "d")
Layer = tuple[frozenset[str], dict[str, frozenset[str]]]


def bits(names: frozenset[str]) -> int:
    return sum(RIGHTS[name] for name in names)


class Rules(Family):
    """A tree of folders with a file and a folder in each, and rules on it."""

    def __init__(self) -> None:
        super().__init__()
        self.needs.add("landlock")
        self.layers: list[Layer] = []
        for folder in FOLDERS:
            self.returns(0, "mkdirat", C.AT_FDCWD, self.string(folder), 0o755)
            self.make_file(f"{folder}/f", b"text")
            self.make_file(f"{folder}/g")
            self.returns(0, "mkdirat", C.AT_FDCWD, self.string(f"{folder}/e"), 0o755)

    def ruleset(self, layer: Layer) -> Ref:
        handled, rules = layer
        attributes = self.struct("struct landlock_ruleset_attr", handled_access_fs=bits(handled))
        fd = self.works("landlock_create_ruleset", attributes, 8, 0)
        for folder, allowed in rules.items():
            access = bits(allowed & handled)
            at = self.open(folder, C.O_PATH | C.O_CLOEXEC)
            # struct landlock_path_beneath_attr is packed: the descriptor follows the access.
            rule = self.vector(access, at)
            result = 0 if access else -errno.ENOMSG
            self.returns(result, "landlock_add_rule", fd, C.LANDLOCK_RULE_PATH_BENEATH, rule, 0)
        return fd

    def restrict(self, layer: Layer) -> None:
        fd = self.ruleset(layer)
        self.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        self.returns(0, "landlock_restrict_self", fd, 0)
        self.layers.append(layer)

    def allows(self, right: str, folder: str) -> bool:
        """Each layer that handles the right must grant it, here or further up."""
        parts = folder.split("/")
        above = {"/".join(parts[: count + 1]) for count in range(len(parts))}
        return all(
            right not in handled
            or any(right in allowed for at, allowed in rules.items() if at in above)
            for handled, rules in self.layers
        )

    def ask(self, right: str, folder: str) -> None:
        result = 0 if self.allows(right, folder) else -errno.EACCES
        at = C.AT_FDCWD

        def path(name: str):
            return at, self.string(f"{folder}/{name}")

        if right in ("read", "write"):
            flags = C.O_RDONLY if right == "read" else C.O_WRONLY
            self.opened(result, f"{folder}/f", flags)
        elif right == "list":
            self.opened(result, folder, C.O_RDONLY | C.O_DIRECTORY)
        elif right == "make":
            self.returns(result, "mknodat", *path("new"), C.S_IFREG | 0o600, 0)
        elif right == "mkdir":
            self.returns(result, "mkdirat", *path("sub"), 0o700)
        elif right == "remove":
            self.returns(result, "unlinkat", *path("g"), 0)
        elif right == "rmdir":
            self.returns(result, "unlinkat", *path("e"), C.AT_REMOVEDIR)
        else:
            self.returns(result, "symlinkat", self.string("x"), *path("s"))

    def opened(self, result: int, path: str, flags: int) -> None:
        if result:
            self.returns(result, "openat", C.AT_FDCWD, self.string(path), flags, 0)
        else:
            self.open(path, flags)


def rule_story(layers: list[Layer], questions: list[tuple[str, str]], how: str) -> Case:
    script = Rules()
    for layer in layers:
        script.restrict(layer)
    asked = dict.fromkeys(questions)
    if how == "child":
        with script.child() as pid:
            for right, folder in asked:
                script.ask(right, folder)
        script.reap(pid)
    else:
        for right, folder in asked:
            script.ask(right, folder)
    return script.case()


rights = st.frozensets(st.sampled_from(sorted(RIGHTS)))
some = rights.filter(bool)
layer = st.tuples(some, st.dictionaries(st.sampled_from(FOLDERS), rights, max_size=3))
question = st.tuples(st.sampled_from(sorted(RIGHTS)), st.sampled_from(FOLDERS))


@given(
    batch=batches(
        st.builds(
            rule_story,
            st.lists(layer, max_size=3),
            st.lists(question, max_size=8),
            st.sampled_from(["self", "child"]),
        ),
        SIZE,
    )
)
def test_rules_hold_over_the_hierarchy(agent, features, batch):
    """A right is had where each layer that handles it grants it, there or above; children are
    bound.

    landlock(7), Documentation/userspace-api/landlock.rst, "Layers of file path access rights".
    """
    hold(agent, batch, features)


def held_story(layer: Layer, folder: str) -> Case:
    """What was open before stays usable; nothing is taken back."""
    script = Rules()
    fd = script.open(f"{folder}/f", C.O_RDWR)
    script.restrict(layer)
    room = script.buffer(4)
    ref = script.returns(4, "pread64", fd, room, 4, 0, out=[room])
    script.holds(ref, room, b"text")
    script.returns(4, "pwrite64", fd, script.content(b"more"), 4, 0)
    # Opened anew by proc(5) it is the same hierarchy.
    script.ask("read", folder)
    script.ask("write", folder)
    return script.case()


@given(batch=batches(st.builds(held_story, layer, st.sampled_from(FOLDERS)), SIZE))
def test_open_files_stay_usable(agent, features, batch):
    """Rights are checked at open, descriptors keep theirs: landlock(7), landlock.rst, "Rights
    associated with file descriptors"."""
    hold(agent, batch, features)


def wrong_story(handled: int, access: int, nnp: bool) -> Case:
    """Unknown rights, rights not handled, and no_new_privs that is missing."""
    script = Family()
    script.needs |= {"landlock", "root"}
    attributes = script.struct("struct landlock_ruleset_attr", handled_access_fs=handled)
    script.returns(-errno.EINVAL, "landlock_create_ruleset", attributes, 8, 1 << 20)
    unknown = script.struct("struct landlock_ruleset_attr", handled_access_fs=1 << 50)
    script.returns(-errno.EINVAL, "landlock_create_ruleset", unknown, 8, 0)
    empty = script.struct("struct landlock_ruleset_attr")
    script.returns(-errno.ENOMSG, "landlock_create_ruleset", empty, 8, 0)
    fd = script.works("landlock_create_ruleset", attributes, 8, 0)
    at = script.open(".", C.O_PATH)
    rule = script.vector(access, at)
    result = -errno.ENOMSG if not access else -errno.EINVAL if access & ~handled else 0
    script.returns(result, "landlock_add_rule", fd, C.LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    script.returns(-errno.EINVAL, "landlock_add_rule", fd, 99, rule, 0)
    script.returns(0, "setresuid", 1000, 1000, 1000)
    if nnp:
        script.returns(0, "prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    script.returns(0 if nnp else -errno.EPERM, "landlock_restrict_self", fd, 0)
    return script.case()


masks = st.integers(1, (1 << 13) - 1)


@given(batch=batches(st.builds(wrong_story, masks, st.integers(0, (1 << 13) - 1), st.booleans())))
def test_rulesets_are_checked(agent, features, batch):
    """EINVAL for what is not known or not handled, ENOMSG for nothing, EPERM without no_new_privs:
    landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2)."""
    hold(agent, batch, features)
