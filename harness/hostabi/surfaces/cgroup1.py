"""Control groups of version 1: hierarchies that can be mounted, their files, what they accept.

Kernel: admin-guide/cgroup-v1/. In a boot of its own, as a controller serves one
version at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from hostabi.agent.client import Agent
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.model import Cgroup, Fact, Variant
from hostabi.surfaces import cgroup1_probes, cgroupfs
from hostabi.surfaces.cgroup1_probes import NAMED, TOP
from hostabi.surfaces.cgroup2 import DISK, disk
from hostabi.surfaces.probing import HOST, USERNS, ProbeSurface, ask
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source

_GROUPS = ("hostabi-fresh", "hostabi-other")


class Cgroup1:
    """Facts ``controller.NAME`` and ``mount.OPTIONS``, and of each interface file ``NAME``.

    ``NAME#mode``, ``#format``, ``#keys``, ``#fields`` and ``#value`` are what a new group
    has, ``root/NAME`` what the root group has; ``NAME#accepts:TEXT`` says whether the text
    can be written and has its effect.
    """

    name = "cgroup1"
    variants: tuple[Variant, ...] = (Variant(cgroup=Cgroup.V1, cpus=2),)

    def possible(self, source: Source) -> bool:
        """A kernel that runs, with version 1 mounted, where groups may be made."""
        agent = source.agent
        return agent is not None and agent.hello.euid == 0 and "cgroup1" in agent.hello.features

    def capture(self, source: Source) -> list[Fact]:
        """Make groups in every hierarchy, look at them, try everything, and remove them."""
        agent = source.live
        facts = _MOUNTS.capture(source)
        with _groups(agent) as folders:
            facts += _files(agent, folders)
        facts += ask(agent, list(cgroup1_probes.write_probes(disk(agent))), (HOST,))
        facts += _DEEDS.capture(source)
        return cgroupfs.with_subject(facts)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """C for what was tried, shell lines for what was read."""
        for part in (_MOUNTS, _WRITES, _DEEDS):
            found = part.reproducer(fact, agent)
            if found is not None:
                return dataclasses.replace(found, variant=self.variants[0])
        subject = keys.subject(fact.key)
        name = subject.removeprefix("root/")
        folder = f"{TOP}/{cgroup1_probes.folder_of(name)}"
        if name != subject:
            return cgroupfs.reproducer(fact, f"{folder}/{name}", variant=self.variants[0])
        group = f"{folder}/{_GROUPS[0]}"
        lines = (
            f"test -d {TOP}/{NAMED} || exit 3",
            f"test -d {folder} || exit 1",
            f"mkdir {group} || exit 3",
            f"trap 'rmdir {group}' EXIT",
        )
        return cgroupfs.reproducer(fact, f"{group}/{name}", *lines, variant=self.variants[0])


_MOUNTS = ProbeSurface("cgroup1", cgroup1_probes.mount_probes, (HOST, USERNS))
_WRITES = ProbeSurface("cgroup1", lambda: cgroup1_probes.write_probes(DISK), (HOST,))
_DEEDS = ProbeSurface("cgroup1", cgroup1_probes.probes, (HOST,))
SURFACE = Cgroup1()


@contextlib.contextmanager
def _groups(agent: Agent) -> Iterator[list[str]]:
    """Two fresh groups in each hierarchy; the hierarchies' folders."""
    entries = agent.walk(TOP, depth=1)
    folders = [entry.path for entry in entries if entry.kind == "d" and entry.path != TOP]
    paths = [f"{folder}/{group}" for folder in folders for group in _GROUPS]
    try:
        agent.command(["busybox", "mkdir", *paths])
        yield folders
    finally:
        agent.command(["busybox", "rmdir", *paths])


def _files(agent: Agent, folders: list[str]) -> list[Fact]:
    """Files of all hierarchies; those that every hierarchy has are those of the named one."""
    groups: dict[str, dict[str, Entry]] = {}
    again: dict[str, Entry] = {}
    for folder in sorted(folders, key=lambda path: path != f"{TOP}/{NAMED}"):
        entries = agent.walk(folder, contents=cgroupfs.CONTENTS, depth=2)
        later = agent.walk(folder, contents=cgroupfs.CONTENTS, depth=1)
        again.update(cgroupfs.entries_of(later, folder))
        for where, path in (("root/", folder), *((g, f"{folder}/{g}") for g in _GROUPS)):
            files = cgroupfs.entries_of(entries, path)
            known = groups.setdefault(where, {})
            known.update({name: each for name, each in files.items() if name not in known})
    fresh, other = (groups.get(group, {}) for group in _GROUPS)
    root = cgroupfs.file_facts(groups.get("root/", {}), prefix="root/", others=[again, fresh])
    return root + cgroupfs.file_facts(fresh, others=[other])
