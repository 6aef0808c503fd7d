"""procfs: the files of /proc and of one process, what they look like, and for whom (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hostabi.agent.client import Agent
from hostabi.agent.records import Entry
from hostabi.model import Fact, Kind, Variant
from hostabi.surfaces import sysctls, trees
from hostabi.surfaces.probing import HOST, USER, USERNS, View, load
from hostabi.surfaces.procfs_descriptors import DESCRIPTORS
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.surfaces.trees import Tree

ROOT = "/proc"
PID = "PID"
"""Stands for a process: an ordinary one, that looks at itself."""

_CONTENTS = 32768
"""Bytes read of each file; vmstat and netstat have about 5000."""
_ACCESS = 1
"""Bytes read to tell whether a file can be."""
_ELSEWHERE = frozenset({"sys", "self", "thread-self"})
"""Folders told by the surface ``sysctls``, or as a process."""
_RANGE = re.compile(r"[0-9a-f]+-[0-9a-f]+")
_OF_AN_INTERFACE = re.compile(rf"^{PID}/net/.*\bDEVICE\b")
"""What is there once for each interface that a machine has besides ``lo``."""
_STANDS_FOR = re.compile(r"/(FD|N|DEVICE)(?=/|$)")
_DIGITS = re.compile(r"\d+")
_THREAD = f"{PID}/task/TID/"
"""A thread's files, which look as those of its process do."""
MODULES = ("fuse", "overlay", *sysctls.MODULES)
"""What a container's engine has loaded, and lists itself or its tables here."""
_NAMED = {"task": "TID", "fd": "FD", "fdinfo": "FD"}
"""What a number stands for in a folder."""


class Procfs:
    """Facts of each file, as :mod:`hostabi.surfaces.trees` tells them, and of descriptors.

    Names are paths below /proc; those of a process begin with ``PID``. ``#owner``
    of a process's files is who owns them when an ordinary user runs it.
    """

    name = "procfs"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Walk both trees as root, as an ordinary user, and as root of that user's namespaces."""
        agent = source.live
        load(agent, MODULES)
        full = HOST if agent.hello.euid == 0 else USER
        machine, process = _machine(agent, full, _CONTENTS), _process(agent, full, _CONTENTS)
        views = [(view, *_seen(agent, view)) for view in (USERNS, USER)]
        process_of_user = views[-1][2]
        user = 1000 if agent.hello.euid == 0 else agent.hello.euid
        facts: list[Fact] = []
        for name, entry in machine.items():
            facts += [*trees.entry_facts(name, entry), trees.owner_fact(name, entry)]
        kinds = of_the_machine(process)
        for name, entry in process.items():
            kind = kinds.get(name, Kind.VALUE)
            facts += trees.entry_facts(name, entry, kind, shape=not name.startswith(_THREAD))
            if name in process_of_user and entry.kind != "l":
                facts.append(trees.owner_fact(name, process_of_user[name], user, kind))
        for view, of_machine, of_process in views:
            facts += trees.access_facts(machine, of_machine, view, {})
            facts += trees.access_facts(process, of_process, view, kinds)
        facts += DESCRIPTORS.capture(source)
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """Shell lines for what root sees of a file, C for descriptors."""
        name, _, aspect = fact.key.partition("#")
        if name.startswith("fd."):
            return DESCRIPTORS.reproducer(fact, agent)
        if name.startswith(f"{PID}/") and aspect == trees.OWNER:
            return None  # of an ordinary user's process, which a script of root is not
        return trees.reproducer(_path(name), aspect, fact, MODULES)


SURFACE = Procfs()


def _path(name: str) -> str:
    """A file of this name: of the shell's own thread, its input, the first of several devices."""
    path = f"{ROOT}/{name}".replace(f"{ROOT}/{PID}/", f"{ROOT}/self/", 1)
    if path.startswith(f"{ROOT}/self/task/TID"):
        path = path.replace("self/task/TID", "$$/task/$$", 1)
    return _STANDS_FOR.sub(lambda each: "/0" if each[1] == "FD" else "/*", path)


def names(entries: Iterable[Entry], root: str, prefix: str, devices: frozenset[str]) -> Tree:
    """Entries by the name that facts give them: what a machine or a moment numbers has one name.

    Of several that are one by that name the first one stands for all.
    """
    found: Tree = {}
    for entry in entries:
        parts = entry.path.removeprefix(root).strip("/").split("/")
        if any(_RANGE.fullmatch(part) for part in parts):
            continue
        name = "/".join([prefix] * bool(prefix) + list(_general(parts, devices)))
        if name.strip("/"):
            found.setdefault(name.strip("/"), entry)
    return dict(sorted(found.items()))


def of_the_machine(process: Tree) -> dict[str, Kind]:
    """How the presence of entries compares that are of no kernel's making."""
    return {name: Kind.HARDWARE for name in process if _OF_AN_INTERFACE.search(name)}


def _general(parts: list[str], devices: frozenset[str]) -> Iterator[str]:
    above = ""
    for part in parts:
        if _DIGITS.fullmatch(part):
            yield _NAMED.get(above, "N")
        elif part in devices or part.partition("-")[0] in devices:
            yield "DEVICE"
        else:
            yield part
        above = part


def _machine(agent: Agent, view: View, contents: int) -> Tree:
    box = trees.sandbox(agent, view, own_proc=True)
    top = trees.look(agent, ROOT, box, contents=contents, skip_numbers=True, depth=1)
    entries = list(top)
    for entry in top[1:]:
        if entry.kind == "d" and entry.path.rpartition("/")[2] not in _ELSEWHERE:
            below = trees.look(agent, entry.path, box, contents=contents, skip_numbers=True)
            entries += below[1:]
    return names(entries, ROOT, "", _devices(entries))


def _process(agent: Agent, view: View, contents: int) -> Tree:
    box = trees.sandbox(agent, view, own_proc=True)
    root = f"{ROOT}/self/"
    entries = trees.look(agent, root, box, contents=contents)
    found = names(entries, root, PID, _devices(entries))
    return {name: entry for name, entry in found.items() if not name.startswith(f"{_THREAD}net/")}


def _seen(agent: Agent, view: View) -> tuple[Tree, Tree]:
    return _machine(agent, view, _ACCESS), _process(agent, view, _ACCESS)


def _devices(entries: Iterable[Entry]) -> frozenset[str]:
    """Names of block devices (/proc/partitions) and of network interfaces, which have folders."""
    found: set[str] = set()
    for entry in entries:
        base = entry.path.rpartition("/")[2]
        text = (entry.content or b"").decode(errors="replace")
        if base == "partitions":
            found |= {line.split()[-1] for line in text.splitlines()[2:] if line.split()}
        elif base == "dev" and "|" in text:
            found |= {line.partition(":")[0].strip() for line in text.splitlines()[2:]}
    return frozenset(found - {"lo", ""})
