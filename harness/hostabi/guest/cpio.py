"""Write cpio archives in the newc format, which is what the kernel unpacks as initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst. The result
depends on the entries alone: owner root, time 0, inodes counted from 1.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. ``name`` is relative to the root; ``mode`` has the file type's bits.

    ``data`` is the content of a file or the target of a symbolic link;
    ``device`` the major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    """A folder."""
    return Entry(name, stat.S_IFDIR | mode)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def link(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def node(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device."""
    return Entry(name, stat.S_IFCHR | mode, b"", (major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of ``entries``, in their order; folders above them are added where missing.

    Raises ValueError for a name that is absolute, empty or has ``..`` in it.
    """
    parts: list[bytes] = []
    seen: set[str] = set()
    inode = 0
    for entry in entries:
        for member in (*_missing_parents(entry.name, seen), entry):
            inode += 1
            seen.add(member.name)
            parts.append(_member(member, inode))
    parts.append(_member(Entry(_TRAILER, 0), 0))
    return b"".join(parts)


def _missing_parents(name: str, seen: set[str]) -> list[Entry]:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise ValueError(f"not a plain relative name: {name!r}")
    above = [str(parent) for parent in reversed(path.parents) if str(parent) != "."]
    return [directory(parent) for parent in above if parent not in seen]


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # owner
        0,  # group
        links,
        0,  # time
        len(entry.data),
        0,  # device the file was on
        0,
        *entry.device,
        len(name),
        0,  # checksum, unused in newc
    )
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
