"""Control groups of version 2: controllers, interface files, what they accept and do.

Kernel: admin-guide/cgroup-v2.rst. Seen by root of the machine, and by root of a
user namespace to whom a group was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hostabi.agent.client import Agent
from hostabi.agent.program import Sandbox, Scratch
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Certainty, Fact, Variant
from hostabi.surfaces import cgroup2_probes, cgroupfs
from hostabi.surfaces.cgroup2_probes import PARENT, TOP, USER
from hostabi.surfaces.cgroup_writes import tell
from hostabi.surfaces.probing import HOST, USERNS, ProbeSurface, Questions, ask
from hostabi.surfaces.reproducers import Reproducer, file_has_word
from hostabi.surfaces.source import Source
from hostabi.syscalls.table import C

ABOUT = "/sys/kernel/cgroup"
"""Where the kernel tells which files to give away and which features it has."""
DISK = "254:0"
"""The number of the first virtio disk, for a program that is made without a machine at hand."""

_ABOUT = {"delegate": "delegate", "feature": "features"}
"""Subjects of facts and the files that list them."""
_BIG = 1 << 20
_FRESH, _USED, _GIVEN = (f"{PARENT}/{name}" for name in ("fresh", "used", "given"))

_SET_UP_SHORT = f"""mkdir -p {PARENT} || exit 3
for name in $(cat {TOP}/cgroup.controllers); do
    echo +$name > {TOP}/cgroup.subtree_control
    echo +$name > {PARENT}/cgroup.subtree_control
done
mkdir {_FRESH} || exit 3
"""
_SET_UP = f"""{_SET_UP_SHORT}
mkdir {_USED} {_GIVEN} || exit 3
chown {USER}:{USER} {PARENT} {_GIVEN}
for folder in {PARENT} {_GIVEN}; do
    while read -r name; do
        [ -e $folder/$name ] && chown {USER}:{USER} $folder/$name
    done < {ABOUT}/delegate
done
true
"""
_TEAR_DOWN = f"""
for folder in {PARENT}/*/*/ {PARENT}/*/ {PARENT}; do
    [ -d $folder ] && rmdir $folder
done
true
"""


class Cgroup2:
    """Facts of each interface file ``NAME`` of a group, and ``root/NAME`` of the root group.

    ``NAME#mode``, ``#format``, ``#keys``, ``#fields`` and ``#value`` are what a new group
    has; ``NAME#access`` what user 1000 may do with the file of a group given to it;
    ``NAME#accepts:TEXT`` whether the text can be written and has its effect. Besides:
    ``controller.NAME``, ``mount.OPTION``, ``feature.NAME``, ``delegate.NAME`` and what groups do.
    """

    name = "cgroup2"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs, with version 2 mounted, where groups may be made."""
        agent = source.agent
        if agent is None or agent.hello.euid != 0:
            return False
        try:
            agent.read(f"{TOP}/cgroup.controllers", 4096)
        except CallError:
            return False
        return True

    def capture(self, source: Source) -> list[Fact]:
        """Make groups, look at them, try everything, and remove them."""
        agent = source.live
        with _groups(agent):
            facts = _files(agent)
            facts += _about(agent)
            facts += ask(agent, cgroup2_probes.write_probes(disk(agent)), (HOST, USERNS))
            for part in _PARTS[1:]:
                facts += part.capture(source)
        return cgroupfs.with_subject(_judged(facts))

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """C for what was tried as root, shell lines for what was read."""
        subject = keys.subject(fact.key)
        for part in _PARTS:
            found = part.reproducer(fact, agent)
            if found is not None:
                return found
        kind, _, name = subject.partition(".")
        if kind in _ABOUT and fact.key == subject:
            return file_has_word(f"{ABOUT}/{_ABOUT[kind]}", name)
        if subject.startswith("root/"):
            return cgroupfs.reproducer(fact, f"{TOP}/{subject.removeprefix('root/')}")
        lines = (*_SET_UP_SHORT.splitlines(), f"trap 'rmdir {_FRESH} {PARENT}' EXIT")
        return cgroupfs.reproducer(fact, f"{_FRESH}/{subject}", *lines)


_PARTS = (
    ProbeSurface("cgroup2", lambda: cgroup2_probes.write_probes(DISK), (HOST,)),
    ProbeSurface("cgroup2", cgroup2_probes.mount_probes, (HOST, USERNS)),
    ProbeSurface("cgroup2", cgroup2_probes.for_root, (HOST,)),
)
"""Tables of probes; the first is made anew for the disk of the machine."""

SURFACE = Cgroup2()


def disk(agent: Agent) -> str:
    """The number of the first disk that has a size, as io.max names it."""
    for entry in agent.walk("/sys/block", depth=1):
        with contextlib.suppress(CallError):
            if entry.kind == "l" and agent.read(f"{entry.path}/size", 64).strip() != b"0":
                return agent.read(f"{entry.path}/dev", 64).decode(errors="replace").strip()
    return DISK


@contextlib.contextmanager
def _groups(agent: Agent) -> Iterator[None]:
    """A group that is fresh, one that had work, one that was given away."""
    done = agent.command(["sh", "-c", _SET_UP])
    try:
        if done.status:
            said = done.stderr.decode(errors="replace").strip()
            raise CallError(f"no groups could be made below {TOP}: {said}", errno=0)
        _work(agent)
        yield
    finally:
        agent.command(["sh", "-c", _TEAR_DOWN])


def _work(agent: Agent) -> None:
    """Have a process in the used group write a file to a disk, so that its counters have lines."""
    q = Questions(arena=_BIG)
    tell(q, f"{_USED}/cgroup.procs", "0")
    room = q.buffer(1 << 16)
    fd = q.call("openat", C.AT_FDCWD, q.string("file"), C.O_CREAT | C.O_RDWR, 0o600)
    q.call("write", fd, room, room.size)
    q.call("fsync", fd)
    agent.run([q.build().program], Sandbox(scratch=Scratch.EXT4, timeout=10.0))


def _files(agent: Agent) -> list[Fact]:
    def look(folder: str) -> dict[str, Entry]:
        entries = agent.walk(folder, contents=cgroupfs.CONTENTS, depth=1)
        return cgroupfs.entries_of(entries, folder)

    root, fresh, used = look(TOP), look(_FRESH), look(_USED)
    facts = cgroupfs.file_facts(fresh, others=[look(_FRESH)], used=used)
    facts += cgroupfs.file_facts(root, prefix="root/", others=[look(TOP), fresh])
    view = USERNS.sandbox(Sandbox(timeout=10.0), euid=agent.hello.euid)
    inside = agent.walk(_GIVEN, contents=1, depth=1, sandbox=view)
    given = cgroupfs.entries_of(inside, _GIVEN)
    return facts + cgroupfs.access_facts(fresh, given)


def _about(agent: Agent) -> list[Fact]:
    """What /sys/kernel/cgroup lists (cgroup-v2.rst, "Delegation")."""
    facts = []
    for subject, file in _ABOUT.items():
        with contextlib.suppress(CallError):
            names = agent.read(f"{ABOUT}/{file}", 4096).decode(errors="replace").split()
            facts += [Fact(f"{subject}.{name}", "listed", how="read") for name in names]
    return facts


def _judged(facts: list[Fact]) -> list[Fact]:
    """Features that are listed and whose option is not taken are contradicted."""
    refused = {f.key for f in facts if f.key.startswith("mount.") and f.value != keys.OK}
    features = {f.key for f in facts if f.key.startswith("feature.")}
    return [
        Fact(
            fact.key,
            fact.value,
            fact.kind,
            fact.how,
            Certainty.CONTRADICTED,
            "listed in /sys/kernel/cgroup/features, and mount(2) does not take it",
        )
        if fact.key in features and fact.key.replace("feature.", "mount.", 1) in refused
        else fact
        for fact in facts
    ]
