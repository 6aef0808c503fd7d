"""sysfs: what containers, and the engines that run them, read below /sys (sysfs(5))."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterator

from hostabi.agent.client import Agent
from hostabi.agent.records import Entry
from hostabi.model import Fact, Kind, Variant
from hostabi.surfaces import trees
from hostabi.surfaces.probing import HOST, USER, USERNS, View, load
from hostabi.surfaces.reproducers import Needs, Reproducer
from hostabi.surfaces.shapes import shape_of
from hostabi.surfaces.source import Source
from hostabi.surfaces.trees import Tree

ROOT = "/sys"

_ROOTS: tuple[tuple[str, int], ...] = (
    ("", 1),
    ("/block", 1),
    ("/class", 1),
    ("/class/net/lo/", 2),
    ("/devices/system/clocksource", 2),
    ("/devices/system/cpu", 3),
    ("/devices/system/memory", 1),
    ("/devices/system/node", 2),
    ("/firmware", 1),
    ("/fs", 3),
    ("/hypervisor", 1),
    ("/kernel", 1),
    ("/kernel/cgroup", 1),
    ("/kernel/config", 1),
    ("/kernel/iommu_groups", 1),
    ("/kernel/kexec", 1),
    ("/kernel/mm", 4),
    ("/kernel/reboot", 1),
    ("/kernel/sched_ext", 1),
    ("/power", 1),
)
"""Folders and how many levels below them are told; other mounts are not entered."""

MODULES = (
    "apparmor",
    "binfmt_misc",
    "br_netfilter",
    "bridge",
    "dm_mod",
    "fuse",
    "ip_tables",
    "ipv6",
    "kvm",
    "loop",
    "nf_conntrack",
    "overlay",
    "tcp_cubic",
    "workqueue",
    "xt_recent",
    "zswap",
)
"""Modules whose parameters are settings of containers' file systems, networks and limits."""
_LOADED = ("br_netfilter", "fuse", "nf_conntrack", "overlay")

_CONTENTS = 4096
"""A file of sysfs is one page (kernel: filesystems/sysfs.rst)."""
_NUMBERED = re.compile(r"\b(cpu|node|memory|policy|state|index)\d+\b")
"""Folders of which a machine has as many as it has processors, nodes or states."""
_SIZE = re.compile(r"\bhugepages-\d+kB\b")
"""Which sizes of pages there are is the processor's choice."""
_OF_HARDWARE = re.compile(
    r"devices/system/|firmware|block/|hugepages-|hypervisor|class/(?!net/lo|mem|bdi|misc|tty)"
)
"""What is there because the machine is as it is."""
_SETTINGS = re.compile(r"module/|kernel/(mm|cgroup|sched_ext)/|fs/fuse|class/net/lo/mtu")
"""Files whose value is the kernel's own choice, for machines of one size."""
_OF_EXT4 = "fs/ext4/DEVICE"
"""Files that are there while a device is mounted as ext4."""
_SEVERAL = re.compile(r"\bDEVICE\b|\bSIZE\b|(?<=/)N(?=/|$)")
_FIRST = re.compile(r"(?<=[a-z])N\b")
_DIGITS = re.compile(r"\d+")


class Sysfs:
    """Facts of each file, as :mod:`hostabi.surfaces.trees` tells them, and ``#value`` of settings.

    Names are paths below /sys; ``cpuN``, ``hugepages-SIZE`` and ``DEVICE`` stand for one of
    several.
    """

    name = "sysfs"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Walk the folders as root, as an ordinary user, and as root of that user's namespaces."""
        agent = source.live
        load(agent, _LOADED)
        full = HOST if agent.hello.euid == 0 else USER
        tree = _tree(agent, full, _CONTENTS)
        kinds = {name: _kind(name) for name in tree}
        facts: list[Fact] = []
        for name, entry in tree.items():
            kind = kinds[name]
            facts += trees.entry_facts(name, entry, kind)
            facts.append(trees.owner_fact(name, entry, kind=kind))
            facts += _value(name, entry, kind)
        for view in (USERNS, USER):
            facts += trees.access_facts(tree, _tree(agent, view, 1), view, kinds)
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """Shell lines for what root sees of a file."""
        name, _, aspect = fact.key.partition("#")
        path = f"{ROOT}/{_FIRST.sub('0', _SEVERAL.sub('*', name))}"
        made = trees.reproducer(path, aspect, fact, _LOADED)
        if made is not None and name.startswith(_OF_EXT4):
            return dataclasses.replace(made, needs=made.needs | {Needs.EXT4})
        return made


SURFACE = Sysfs()


def _tree(agent: Agent, view: View, contents: int) -> Tree:
    box = trees.sandbox(agent, view, own_sys=True)
    found: Tree = {}
    disks = [entry.path for entry in trees.look(agent, f"{ROOT}/block", box, depth=1)[1:]]
    devices = frozenset(path.rpartition("/")[2] for path in disks)
    roots = [*_ROOTS, *((f"/module/{name}/parameters", 1) for name in MODULES)]
    roots += [(f"/block/{name}/queue", 2) for name in sorted(devices)[:1]]
    for path, depth in roots:
        entries = trees.look(agent, ROOT + path, box, contents=contents, depth=depth)
        # the last part of a root without a slash at its end is the entry itself
        for entry in entries:
            name = _general(entry.path.removeprefix(ROOT).strip("/"), devices)
            if name:
                found.setdefault(name, entry)
    by_path = {entry.path: entry for entry in found.values()}
    return {name: _followed(entry, by_path) for name, entry in sorted(found.items())}


def _followed(entry: Entry, by_path: dict[str, Entry]) -> Entry:
    """What a link to another of the entries leads to: who reads the name gets that."""
    if entry.kind != "l":
        return entry
    path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.target))
    return by_path.get(path, entry)


def _general(name: str, devices: frozenset[str]) -> str:
    parts = []
    for part in _NUMBERED.sub(r"\1N", _SIZE.sub("hugepages-SIZE", name)).split("/"):
        device = part in devices or part.partition("-")[0] in devices
        parts.append("DEVICE" if device else "N" if _DIGITS.fullmatch(part) else part)
    return "/".join(parts)


def _kind(name: str) -> Kind:
    return Kind.HARDWARE if _OF_HARDWARE.search(name) else Kind.VALUE


def _value(name: str, entry: Entry, kind: Kind) -> Iterator[Fact]:
    """The value of a setting, and what is chosen where there is a choice."""
    if entry.content is None:
        return
    text = entry.content.decode(errors="backslashreplace").strip()
    compared = Kind.HARDWARE if kind is Kind.HARDWARE else Kind.DEFAULT
    if shape_of(entry.content).format == "choice":
        chosen = next(word for word in text.split() if word.startswith("["))
        yield Fact(f"{name}#{trees.VALUE}", chosen.strip("[]"), compared, how="read")
    elif _SETTINGS.search(name) and entry.mode & 0o200 and len(text.splitlines()) < 2:
        yield Fact(f"{name}#{trees.VALUE}", text, compared, how="read")
