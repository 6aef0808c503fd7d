"""The guest of one build and variant: its initramfs, its module disk, its scratch disk.

The initramfs is not compressed: emulated, unpacking costs more than copying.
"""

from __future__ import annotations

import array
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hostabi.agent.build import binary
from hostabi.errors import ImageError, InputError
from hostabi.guest import cpio, disk, modules, needs
from hostabi.guest.disk import Disk
from hostabi.kernels import compression
from hostabi.kernels.build import Build
from hostabi.kernels.modinfo import ModuleInfo, module_files, modules_of
from hostabi.kernels.static import Static
from hostabi.model import Cgroup, Variant
from hostabi.packages.context import Packages

MODULES = "modules"
"""Serial of the disk with the build's whole module tree."""

_SCRATCH_SIZE = 64 << 20
_LARGEST_MODULE = 256 << 20
_SHARE = 4
"""The initramfs may take one part in so many of the memory: it is there twice while unpacked,
and its file system takes half of the memory at most."""

DIRECTIVES = "hostabi/boot"
"""The initramfs member with the agent's directives."""

_PATIENCE = 20_000
"""Milliseconds the agent waits for a device; emulated guests are slow, and it wakes when one comes.

Who waits in vain is refused, so nothing is lost by patience."""

_WORKING = 16
"""MiB that a kernel and the agent need to do anything at all."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What a machine boots besides the kernel. ``key`` changes with any byte of it."""

    initramfs: Path
    disks: tuple[Disk, ...]
    scratch: Path | None
    key: str

    @property
    def modules_disk(self) -> Path | None:
        """The image of the module tree, if the build has one."""
        return next((each.path for each in self.disks if each.serial == MODULES), None)

    def present(self) -> bool:
        """Whether all its files are still there; a cache may be pruned while we live."""
        paths = [self.initramfs, *(each.path for each in self.disks)]
        return all(path.is_file() for path in [*paths, *([self.scratch] if self.scratch else [])])


_known: dict[object, GuestImage] = {}
"""What was made before in this process, so that a restore need not weigh it all again."""


def guest_image(
    build: Build,
    packages: Packages,
    variant: Variant | None = None,
    disks: Sequence[Disk] = (),
    extra: Mapping[str, Path] | None = None,
    *,
    alterable: bool = False,
) -> GuestImage:
    """Make, or find in the cache, all that ``build`` needs to be a guest.

    ``disks`` are mounted read-only; ``extra`` files go into the initramfs
    under the names given; ``alterable`` is as in agent.build. Raises MissingFeatureError
    when the kernel cannot be a guest, InputError when the initramfs does not fit the
    variant's memory.
    """
    chosen = variant or Variant()
    if extra or not build.packages:  # a folder's files may change under us
        return _guest_image(build, packages, chosen, disks, extra or {}, alterable=alterable)
    parts = (build.image_digest, build.name, repr(sorted(build.packages.items())))
    key = (packages.cache.root, *parts, chosen.cgroup, chosen.memory, tuple(disks), alterable)
    known = _known.get(key)
    if known is None or not known.present():
        known = _known[key] = _guest_image(build, packages, chosen, disks, {}, alterable=alterable)
    return known


def _guest_image(
    build: Build,
    packages: Packages,
    chosen: Variant,
    disks: Sequence[Disk],
    extra: Mapping[str, Path],
    *,
    alterable: bool,
) -> GuestImage:
    found = modules_of(build, packages.cache)
    config = _config(build, packages)
    blocks = needs.offers(needs.DISKS, config, found)
    attached = list(disks)
    if build.modules is not None and any(not each.builtin for each in found.values()):
        attached.append(_modules_disk(build, packages, found))
    needed = [*needs.BASE, *(needs.DISKS if attached or blocks else ())]
    wanted = needs.modules_for(needed, config, found, build.name)
    loaded = modules.load_order(found, wanted)
    extras = [name for name in modules.load_order(found, needs.PANIC_MODULES) if name not in loaded]
    # Scratch space on ext4 is offered where possible, and is never a reason to refuse.
    scratch = _scratch_disk(packages) if blocks else None
    program = binary("agent", packages.cache, alterable=alterable)
    agent = cpio.file("init", program.read_bytes(), 0o755)
    others = [
        *(_module_entry(build, found[name]) for name in (*loaded, *extras)),
        cpio.file("bin/busybox", busybox(packages), 0o755),
        *(cpio.file(name, path.read_bytes()) for name, path in extra.items()),
    ]
    orders = boot_directives(
        [agent, *others], loaded, extras, chosen.cgroup, attached, scratch=scratch is not None
    )
    # What is too much is cut off at the end: what tells of it comes first.
    content = cpio.archive([agent, cpio.file(DIRECTIVES, orders.encode()), *others])
    check_memory(len(content), chosen.memory, kernel_memory(build.image) if build.image else 0)
    digest = hashlib.sha256(content).hexdigest()
    initramfs = packages.cache.file("initramfs", digest, lambda path: _write(path, content))
    identity = [digest, *(f"{each.serial} {each.path.name}" for each in attached), str(scratch)]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()
    return GuestImage(initramfs, tuple(attached), scratch, key)


def boot_directives(
    members: Sequence[cpio.Entry],
    loaded: Sequence[str],
    extras: Sequence[str],
    cgroup: Cgroup,
    disks: Sequence[Disk],
    *,
    scratch: bool,
) -> str:
    """What the agent is told at boot, see harness/agent/boot.c; the manifest comes first."""
    lines = [f"wait {_PATIENCE}"]
    for entry in members:
        mode, total = stat.S_IMODE(entry.mode), word_sum(entry.data)
        lines.append(f"file /{entry.name} {len(entry.data)} {mode:o} {total:x}")
    lines += [f"module modules/{name}.ko" for name in loaded]
    lines += [f"module -modules/{name}.ko" for name in extras]
    lines.append(f"cgroup {cgroup.value}")
    lines += [f"disk {each.serial} {each.mount} ext4 ro" for each in disks]
    if scratch:
        lines.append("disk scratch /scratch/ext4 ext4 later")
    return "\n".join([*lines, "end"]) + "\n"


def word_sum(data: bytes) -> int:
    """The sum of the little-endian 64-bit words of ``data``, modulo 2**64, as the agent makes it.

    A guest reads its files once for it at memory speed; a CRC takes ten times as long emulated.
    """
    words = array.array("Q", data + bytes(-len(data) % 8))
    if sys.byteorder == "big":
        words.byteswap()
    return sum(words) & 0xFFFF_FFFF_FFFF_FFFF


def check_memory(size: int, memory: int, kernel: int = 0) -> None:
    """Refuse an initramfs that the kernel would cut off without a word (measured).

    ``size`` of the initramfs and what the ``kernel`` itself takes in bytes,
    ``memory`` in MiB. Raises InputError.
    """
    least = -(-(size * _SHARE + kernel) // (1 << 20)) + _WORKING
    if memory < least:
        raise InputError(
            f"a guest of {memory} MiB is too small for its kernel of {kernel >> 20} MiB"
            f" and an initramfs of {size / (1 << 20):.1f} MiB",
            advice=f"give the guest {least} MiB or more, or put the files on a disk",
        )


def kernel_memory(image: Path) -> int:
    """Bytes a bzImage takes until it runs: init_size of its setup header.

    See Documentation/arch/x86/boot.rst; 0 where the header is too old to tell.
    """
    with image.open("rb") as file:
        head = file.read(0x264)
    if len(head) < 0x264 or head[0x202:0x206] != b"HdrS":
        return 0
    version = int.from_bytes(head[0x206:0x208], "little")
    return int.from_bytes(head[0x260:0x264], "little") if version >= 0x20A else 0


def _config(build: Build, packages: Packages) -> dict[str, str]:
    """The build's configuration, empty when nobody knows it."""
    try:
        return Static(build, packages.cache).config
    except ImageError:
        if build.config is not None:
            raise
        return {}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def busybox(packages: Packages) -> bytes:
    """Debian's static busybox, fetched on first use. Raises ImageError when it is not there."""
    tree = packages.tree(["busybox-static"], disk.SUITE)
    for name in ("usr/bin/busybox", "bin/busybox"):
        if (tree.root / name).is_file():
            return (tree.root / name).read_bytes()
    raise ImageError(f"{tree.root}: no busybox in the package busybox-static")


def _scratch_disk(packages: Packages) -> Path:
    """An empty ext4 disk; QEMU throws away what is written to it."""
    return disk.ext4_image(
        packages, lambda work: (), key="empty", label="scratch", size=_SCRATCH_SIZE, journal=True
    )


def _module_entry(build: Build, module: ModuleInfo) -> cpio.Entry:
    assert build.modules is not None
    return cpio.file(f"modules/{module.name}.ko", module_bytes(build.modules / module.path))


def module_bytes(path: Path) -> bytes:
    """A module's ELF file, unpacked: not every kernel and no busybox reads a compressed one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    form = compression.recognise(data)
    return compression.unpack(form, memoryview(data), _LARGEST_MODULE, str(path)) if form else data


def _modules_disk(build: Build, packages: Packages, found: Mapping[str, ModuleInfo]) -> Disk:
    assert build.modules is not None
    key = _modules_key(build)
    path = disk.ext4_image(
        packages, lambda work: _modules_entries(build, found, work), key=key, label=MODULES
    )
    return Disk(MODULES, path, "/lib/modules")


def _modules_key(build: Build) -> str:
    """Changes with the module files; those of a package are named by the package's digest."""
    assert build.modules is not None
    digest = hashlib.sha256(f"{build.release}\n".encode())
    if build.packages:
        digest.update(repr(sorted(build.packages.items())).encode())
    else:
        for name in module_files(build.modules):
            status = (build.modules / name).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _modules_entries(
    build: Build, found: Mapping[str, ModuleInfo], work: Path
) -> Iterator[disk.Entry]:
    assert build.modules is not None
    folder = build.modules
    ordinary = stat.S_IFREG | 0o644
    paths = {
        name: f"kernel-modules/{name}.ko"
        for name, module in sorted(found.items())
        if not module.builtin
    }
    yield disk.Entry(build.release, stat.S_IFDIR | 0o755)
    texts = {
        "modules.dep": modules.dep_text(found, paths),
        "modules.alias": modules.alias_text(found),
        "modules.softdep": modules.softdep_text(found),
        "modules.symbols": "",
    }
    for name, text in texts.items():
        yield disk.Entry(f"{build.release}/{name}", ordinary, text.encode())
    for name in ("modules.builtin", "modules.order"):
        if (folder / name).is_file():
            yield disk.Entry(f"{build.release}/{name}", ordinary, folder / name)
    yield disk.Entry(f"{build.release}/kernel-modules", stat.S_IFDIR | 0o755)

    def unpack(name: str) -> disk.Entry:
        target = work / f"{name}.ko"
        target.write_bytes(module_bytes(folder / found[name].path))
        return disk.Entry(f"{build.release}/{paths[name]}", ordinary, target)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(unpack, paths)
