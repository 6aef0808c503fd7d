"""The read-only disks with the trees of runtimes and of engines, and what containers are made of.

In a guest the first is mounted at /runtimes: one folder for each runtime, entered as
its root, and ``rootfs``, which is copied for each container. The second is mounted
at /engines: one folder for each engine, ``image``, that root as an OCI layout, and the probe.
"""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostabi.agent.build import binary
from hostabi.errors import ArchiveError, InputError
from hostabi.guest.disk import SUITE, Disk, Entry, below, ext4_image, folder_entries
from hostabi.oci import engines, layout, rootless, runtimes
from hostabi.oci.runtimes import MOUNT, ROOTFS
from hostabi.packages.context import Packages
from hostabi.packages.tree import Tree

_VERSION = 2
"""Of this disk's layout; a part of its key."""

UNUSED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/include/")
"""Documentation, translations and character sets: most of a tree, and no program's business."""

# But this is: what an engine lets containers do (containers.conf(5), seccomp.json(5)).
_POLICIES = ("usr/share/containers",)

_FOLDER = stat.S_IFDIR | 0o755
_FILE = stat.S_IFREG | 0o644
_PROGRAM = stat.S_IFREG | 0o755
_LINK = stat.S_IFLNK | 0o777

_FOLDERS = (
    *("bin", "dev", "etc", "home", "lib", "mnt", "opt", "proc", "root"),
    *("run", "sbin", "srv", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"),
)

_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/hostname": "",
    "etc/resolv.conf": "",
}


@dataclass(frozen=True, slots=True)
class _Part:
    entry: runtimes.Entry
    tree: Tree


def runtimes_disk(packages: Packages, specs: Sequence[str] = ()) -> Disk:
    """The disk with the default runtimes and ``specs``, made once and kept in the cache.

    Raises InputError for an unknown runtime and PackageError when one cannot be had.
    """
    names = dict.fromkeys(runtimes.split(name)[0] for name in (*runtimes.default_names(), *specs))
    found = [runtimes.find(name) for name in names]
    parts = [_Part(entry, packages.tree(entry.packages, entry.suite)) for entry in found]
    busybox = packages.tree(["busybox-static"], SUITE)
    probe = binary("probe", packages.cache)

    def entries(_work: Path) -> Iterator[Entry]:
        for part in parts:
            yield Entry(part.entry.name, _FOLDER)
            yield from tree_entries(part.entry, part.tree.root)
        yield Entry(ROOTFS, _FOLDER)
        yield from (below(ROOTFS, entry) for entry in rootfs_entries(probe, busybox.root))

    digest = hashlib.sha256(repr((_VERSION, busybox.key)).encode())
    digest.update(probe.read_bytes())
    for part in parts:
        digest.update(f"{part.entry.name} {part.tree.key}\n".encode())
    key = digest.hexdigest()
    image = ext4_image(packages, entries, key=key, label="runtimes")
    return Disk("runtimes", image, MOUNT)


def engines_disk(packages: Packages, names: Sequence[str]) -> Disk:
    """The disk with these engines, made once and kept in the cache.

    Raises InputError for an unknown engine and PackageError when one cannot be had.
    """
    found = [engines.find(name) for name in names]
    trees = {
        entry.name: packages.tree(entry.packages, entry.suite, exclude=entry.excluded)
        for entry in found
    }
    busybox = packages.tree(["busybox-static"], SUITE)
    probe = binary("probe", packages.cache)

    def entries(_work: Path) -> Iterator[Entry]:
        for name, tree in trees.items():
            yield Entry(name, _FOLDER)
            for each in folder_entries(tree.root):
                if not each.name.startswith(UNUSED) or each.name.startswith(_POLICIES):
                    yield below(name, each)
        yield Entry("probe", _PROGRAM, probe)
        yield Entry(engines.IMAGE, _FOLDER)
        files = rootfs_entries(probe, busybox.root)
        command = ("/probe", "report")
        for each in layout.layout_entries(files, command=command):
            yield below(engines.IMAGE, each)

    digest = hashlib.sha256(repr((_VERSION, busybox.key)).encode())
    digest.update(probe.read_bytes())
    for name, tree in trees.items():
        digest.update(f"{name} {tree.key}\n".encode())
    image = ext4_image(packages, entries, key=digest.hexdigest(), label="engines")
    return Disk("engines", image, engines.MOUNT)


def tree_entries(entry: runtimes.Entry, tree: Path) -> Iterator[Entry]:
    """A runtime's tree below its name, without what no runtime reads."""
    seen: set[str] = set()
    for found in folder_entries(tree):
        if found.name.startswith(UNUSED):
            continue
        seen.add(found.name)
        if found.name in rootless.SET_UID:
            found = dataclasses.replace(found, mode=found.mode | stat.S_ISUID)  # noqa: PLW2901
        yield below(entry.name, found)
    if "etc" not in seen:
        yield Entry(f"{entry.name}/etc", _FOLDER)
    for name in sorted(rootless.FILES.keys() - seen):
        yield Entry(f"{entry.name}/{name}", _FILE, rootless.FILES[name].encode())
    if entry.local is not None:
        for folder in ("usr/local", "usr/local/bin"):
            if folder not in seen:
                yield Entry(f"{entry.name}/{folder}", _FOLDER)
        yield Entry(f"{entry.name}/{entry.binary}", _PROGRAM, entry.local)
    elif entry.binary not in seen:
        raise InputError(
            f"the packages of {entry.name} hold no {entry.binary}",
            advice="correct its entry in kernels/runtimes.toml",
        )
    # The agent runs it from a sealed copy in memory, see harness/agent/seal.c.
    yield Entry(f"{entry.name}/.sealed", _FILE, entry.binary.encode())


def rootfs_entries(probe: Path, busybox_tree: Path) -> Iterator[Entry]:
    """A container's root: its frame, and busybox."""
    yield from frame_entries(probe)
    yield Entry("bin/busybox", _PROGRAM, _busybox(busybox_tree))
    yield Entry("bin/sh", _LINK, b"busybox")


def frame_entries(probe: Path) -> Iterator[Entry]:
    """What every container's root has: folders, a few files of /etc, and the probe at /probe."""
    for folder in _FOLDERS:
        mode = stat.S_IFDIR | 0o1777 if folder in {"tmp", "var/tmp"} else _FOLDER
        yield Entry(folder, mode)
    for name, text in _TEXTS.items():
        yield Entry(name, _FILE, text.encode())
    yield Entry("probe", _PROGRAM, probe)


def _busybox(tree: Path) -> Path:
    for name in ("usr/bin/busybox", "bin/busybox"):
        if (tree / name).is_file():
            return tree / name
    raise ArchiveError(f"{tree}: no busybox in the package busybox-static")
