"""openat2 within a root while another process renames and swaps what the path runs through."""

from __future__ import annotations

import errno

from families import Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 3
ROUNDS = 12
PATHS = (
    "a/f",
    "a/../a/f",
    "l/f",
    "a/b/../../a/f",
    "../out/f",
    "l/../../out/f",
    "a/up/out/f",
    "/out/f",
)
SWAPS = (("root/a", "root/x"), ("root/a/b", "out/b"), ("root/l", "root/m"), ("root/a", "out/a"))


def race_story(paths: list[str], swaps: list[tuple[str, str]], scope: str) -> Case:
    """One process exchanges names all the time; the other one opens paths and looks what it got."""
    script = Family()
    script.needs |= {"openat2", "rename:exchange"}
    for folder in ("root", "root/a", "root/a/b", "root/x", "out", "out/a", "out/b"):
        script.returns(0, "mkdirat", C.AT_FDCWD, script.string(folder), 0o755)
    # Files that were in the root at first are told from others by their mode.
    for path in ("root/a/f", "root/a/b/f", "root/x/f"):
        script.make_file(path, b"", 0o644)
    script.make_file("out/f", b"", 0o600)
    links = (("a", "root/l"), ("..", "root/m"), ("../..", "root/a/up"), ("/", "root/x/up"))
    for target, path in links:
        script.returns(0, "symlinkat", script.string(target), C.AT_FDCWD, script.string(path))
    root = script.open("root", C.O_PATH | C.O_DIRECTORY)
    role, pid = script.spawn()
    with script.by(role):
        for index in range(ROUNDS * len(swaps)):
            first, second = swaps[index % len(swaps)]
            names = script.string(first), script.string(second)
            script.call("renameat2", C.AT_FDCWD, names[0], C.AT_FDCWD, names[1], C.RENAME_EXCHANGE)
            script.call("sched_yield")
    for index in range(ROUNDS):
        ask(script, root, paths[index % len(paths)], scope)
        script.call("sched_yield")
    script.reap(pid)
    return script.case()


def ask(script: Family, root: Ref, path: str, scope: str) -> None:
    resolve = getattr(C, f"RESOLVE_{scope}")
    how = script.struct("struct open_how", flags=C.O_PATH, resolve=resolve)
    fd = script.call("openat2", root, script.string(path), how, how.size, opaque=True)
    stat = script.room("struct stat")
    seen = script.call("fstat", fd, stat, out=[stat], opaque=True)
    script.ensure(lambda trace: within(trace, fd, seen, stat, path))


def within(trace, fd: Ref, seen: Ref, stat: Slot, path: str) -> None:
    """Nothing, for a reason of openat2(2), or a file that was never the one outside."""
    refused = (-errno.EXDEV, -errno.ENOENT, -errno.EAGAIN, -errno.ENOTDIR, -errno.ELOOP)
    if trace[fd] < 0:
        assert trace[fd] in refused, f"{path}: {trace[fd]}"
        return
    mode = trace.struct(seen, stat).st_mode & 0o777
    assert mode != 0o600, f"{path} left the root"


paths = st.lists(st.sampled_from(PATHS), min_size=1, max_size=4)
swaps = st.lists(st.sampled_from(SWAPS), min_size=1, max_size=3)


@given(
    batch=batches(
        st.builds(race_story, paths, swaps, st.sampled_from(["BENEATH", "IN_ROOT"])), SIZE
    )
)
def test_no_race_leads_out_of_the_root(agent, features, batch):
    """The file outside is never opened, whatever is renamed meanwhile; EXDEV or EAGAIN say so:
    openat2(2) on RESOLVE_BENEATH and RESOLVE_IN_ROOT."""
    hold(agent, batch, features)
