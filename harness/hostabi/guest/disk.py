"""Read-only ext4 disks for trees that are too large for an initramfs.

The image is made by mke2fs from a tar stream (``-d -``), so its files belong
to root although nobody here is root. Names, owners, times and UUIDs are fixed:
the same entries give the same image.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostabi.errors import InputError, StorageError
from hostabi.packages.context import Packages
from hostabi.packages.tree import tool

_KEPT = 40
"""Disks in the cache, of which a change of anything in them leaves one behind."""
SUITE = "trixie"
"""The suite whose mke2fs is used: the first that reads tar streams (e2fsprogs 1.47.1)."""

_NAMES = ("e2fsprogs", "libarchive13t64")
_NAMESPACE = uuid.UUID("6a1c22a5-6f7b-4c05-9f0e-1d3b0c1f7a10")
_BLOCK = 4096
_DEADLINE = 600.0
_KEPT_ERRORS = 2000

# What 5.10 cannot mount for writing, and what a small read-only disk has no use for.
_FEATURES = "^orphan_file,^metadata_csum_seed,^resize_inode"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk image given to a guest: found by ``serial``, mounted read-only at ``mount``."""

    serial: str
    path: Path
    mount: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a disk: ``name`` relative to its root, ``mode`` with the file type's bits.

    ``source`` is a regular file's content or where to read it; for a symbolic
    link it is the target.
    """

    name: str
    mode: int
    source: bytes | Path = b""


def folder_entries(folder: Path, prefix: str = "") -> Iterator[Entry]:
    """The files, folders and symbolic links below ``folder``, sorted, named below ``prefix``.

    Devices, sockets and pipes are left out.
    """
    for found in sorted(folder.iterdir()):
        name = f"{prefix}/{found.name}" if prefix else found.name
        mode = found.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Entry(name, mode, os.fsencode(found.readlink()))
        elif stat.S_ISDIR(mode):
            yield Entry(name, mode)
            yield from folder_entries(found, name)
        elif stat.S_ISREG(mode):
            yield Entry(name, mode, found)


def below(prefix: str, entry: Entry) -> Entry:
    """The same file in the folder ``prefix``."""
    return Entry(f"{prefix}/{entry.name}", entry.mode, entry.source)


def ext4_image(
    packages: Packages,
    entries: Callable[[Path], Iterable[Entry]],
    *,
    key: str,
    label: str,
    size: int = 0,
    journal: bool = False,
) -> Path:
    """An ext4 image holding ``entries(work)``, made once per ``key`` and kept in the cache.

    ``work`` is an empty folder that lives as long as the image is being made.
    ``size`` in bytes; 0 fits the content. ``label`` has at most 16 bytes.
    Raises StorageError when the image cannot be made.
    """
    identity = f"{label}-{key}-{size}-{int(journal)}-4"
    name = uuid.uuid5(_NAMESPACE, identity).hex

    def build(target: Path) -> None:
        work = target.parent / "work"
        work.mkdir()
        listed = list(entries(work))
        packages.tree(list(_NAMES), SUITE)  # fetched before the step that is timed
        with packages.progress.task(f"make the {label} disk"):
            _make(packages, target, listed, label, size or _fitting(listed), journal=journal)

    path = packages.cache.file("disks", f"{label}-{name}", build, label=f"the {label} disk")
    packages.cache.keep("disks", _KEPT)
    return path


def _make(
    packages: Packages, target: Path, entries: list[Entry], label: str, size: int, *, journal: bool
) -> None:
    tree = packages.tree(list(_NAMES), SUITE)
    features = _FEATURES if journal else f"{_FEATURES},^has_journal"
    fixed = str(uuid.uuid5(_NAMESPACE, label))
    with target.open("wb") as image:
        image.truncate(-(-size // _BLOCK) * _BLOCK)
    command = [
        *tool(tree, "usr/sbin/mke2fs"),
        *("-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-I", "256", "-m", "0"),
        *("-O", features, "-N", str(len(entries) + 64), "-L", label, "-U", fixed),
        *("-E", f"root_owner=0:0,hash_seed={fixed},lazy_itable_init=0,nodiscard"),
        *("-d", "-", str(target)),
    ]
    # SOURCE_DATE_EPOCH fixes the times in the superblock and inodes, see e2fsprogs 1.47.1's
    # release notes; the missing configuration file means built-in defaults.
    environment = {"SOURCE_DATE_EPOCH": "1", "MKE2FS_CONFIG": os.devnull, "PATH": os.defpath}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    stream, process.stdin = process.stdin, None  # so that communicate() leaves it alone
    assert stream is not None
    try:
        with stream:
            _write_tar(stream, entries)
    except BrokenPipeError:
        pass  # mke2fs says why below
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        _, complaints = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise StorageError(
            f"mke2fs did not finish the disk {label} in {_DEADLINE:.0f} s"
        ) from error
    if process.returncode:
        said = complaints.decode(errors="replace")[-_KEPT_ERRORS:].strip()
        raise StorageError(
            f"mke2fs failed on the disk {label} with status {process.returncode}: {said}",
            advice="free space in the cache's folder, or name another with HOSTABI_CACHE",
        )


def _write_tar(stream: IO[bytes], entries: Iterable[Entry]) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode = stat.S_IMODE(entry.mode)
            info.mtime = 1
            if stat.S_ISDIR(entry.mode):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif stat.S_ISLNK(entry.mode):
                info.type = tarfile.SYMTYPE
                info.linkname = _content(entry).decode("utf-8", "surrogateescape")
                archive.addfile(info)
            elif stat.S_ISREG(entry.mode):
                data = _content(entry)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                raise InputError(f"{entry.name}: only files, folders and links go on a disk")


def _content(entry: Entry) -> bytes:
    return entry.source.read_bytes() if isinstance(entry.source, Path) else entry.source


def _fitting(entries: Iterable[Entry]) -> int:
    """Bytes that surely hold the entries: whole blocks, inodes, and room for ext4's own tables."""
    blocks = 0
    count = 0
    for entry in entries:
        count += 1
        source = entry.source
        length = source.stat().st_size if isinstance(source, Path) else len(source)
        blocks += 1 + -(-length // _BLOCK)
    content = blocks * _BLOCK + count * 512
    return content + content // 16 + (8 << 20)
