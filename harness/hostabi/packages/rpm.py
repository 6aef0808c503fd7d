"""The .rpm format, as far as unpacking needs it: two headers and a cpio archive.

Source: the RPM project's "RPM Package File Structure" (V4), and cpio(5) for newc.

The rpmfile library is not used: it reads a zstd payload into memory whatever
its size, seeks backwards in an xz one (and unpacks it anew from the start each
time), trusts the counts in a header, and tells neither hard links nor devices
from files. What remains besides that is the two headers below.
"""

from __future__ import annotations

import stat
from io import BytesIO
from typing import BinaryIO

from hostabi.errors import ArchiveError
from hostabi.packages.streams import Bounded, decompressed
from hostabi.packages.unpack import BYTES, Folder

MAGIC = b"\xed\xab\xee\xdb"

_LEAD = 96
_HEADER_MAGIC = b"\x8e\xad\xe8\x01"
_ENTRIES = 65536
_STORE = 256 << 20
_NAME = 4096
_STRINGS = {1000: "Package", 1001: "Version", 1002: "Release", 1022: "Architecture"}
_TYPES_OF_STRING = {6, 9}


def read_control(file: BinaryIO) -> dict[str, str]:
    """``Package``, ``Version``, ``Release`` and ``Architecture``."""
    file.seek(_LEAD)
    _header(file)
    file.seek(-file.tell() % 8, 1)
    found = _header(file)
    if "Package" not in found:
        raise ArchiveError("its header names no package")
    return found


def unpack(file: BinaryIO, folder: Folder) -> None:
    """Unpack the payload of the .rpm ``file``."""
    if file.read(4) != MAGIC:
        raise ArchiveError("it is not an .rpm")
    file.seek(0)
    read_control(file)
    _cpio(decompressed(file, BYTES, name="the payload"), folder)


def _header(file: BinaryIO) -> dict[str, str]:
    """Read one header structure and give the strings of interest."""
    head = file.read(16)
    if len(head) < 16 or head[:4] != _HEADER_MAGIC:
        raise ArchiveError("an rpm header is damaged")
    count, length = int.from_bytes(head[8:12], "big"), int.from_bytes(head[12:16], "big")
    if count > _ENTRIES or length > _STORE:
        raise ArchiveError("an rpm header is larger than it may be")
    entries, store = file.read(16 * count), file.read(length)
    if len(entries) < 16 * count or len(store) < length:
        raise ArchiveError("it is truncated inside its header")
    found = {}
    for start in range(0, len(entries), 16):
        tag, kind, offset = (
            int.from_bytes(entries[start + at : start + at + 4], "big") for at in (0, 4, 8)
        )
        if tag in _STRINGS and kind in _TYPES_OF_STRING and offset < length:
            value = store[offset : offset + _NAME].partition(b"\0")[0]
            found[_STRINGS[tag]] = value.decode("utf-8", "replace")
    return found


def _cpio(stream: Bounded, folder: Folder) -> None:
    """Unpack a newc archive. Of hard links only the last name carries the content."""
    waiting: dict[int, list[str]] = {}
    while True:
        head = stream.read(110)
        if len(head) < 110 or head[:6] not in {b"070701", b"070702"}:
            raise ArchiveError("its cpio archive is damaged or of a form other than newc")
        try:
            number = [int(head[at : at + 8], 16) for at in range(6, 110, 8)]
        except ValueError as error:
            raise ArchiveError("a cpio header is damaged") from error
        inode, mode, links, mtime, size, length = (number[at] for at in (0, 1, 4, 5, 6, 11))
        if not 0 < length <= _NAME:
            raise ArchiveError("a cpio member's name is longer than a path may be")
        raw = stream.read(length + (-(110 + length) % 4))
        name = raw[: length - 1].decode("utf-8", "surrogateescape")
        if name == "TRAILER!!!":
            stream.drain()
            return

        clean = folder.accept(name, size)
        _member(stream, folder, clean, (inode, mode, links, mtime, size), waiting)
        stream.read(-size % 4)


def _member(
    stream: Bounded,
    folder: Folder,
    name: str | None,
    numbers: tuple[int, int, int, int, int],
    waiting: dict[int, list[str]],
) -> None:
    inode, mode, links, mtime, size = numbers
    if name is None:
        _skip(stream, size)
    elif stat.S_ISDIR(mode):
        folder.folder(name, mode)
        _skip(stream, size)
    elif stat.S_ISLNK(mode):
        if size > _NAME:
            raise ArchiveError(f"link {name!r} is longer than a path may be")
        folder.symlink(name, stream.read(size).decode("utf-8", "surrogateescape"))
    elif stat.S_ISREG(mode) and links > 1 and size == 0:
        names = waiting.setdefault(inode, [])
        names.append(name)
        folder.regular(name, mode, 0, BytesIO(), mtime)
    elif stat.S_ISREG(mode):
        folder.regular(name, mode, size, stream, mtime)
        for other in waiting.pop(inode, []):
            folder.hardlink(other, name)
    else:
        _skip(stream, size)


def _skip(stream: Bounded, size: int) -> None:
    while size:
        data = stream.read(min(size, 1 << 20))
        if not data:
            raise ArchiveError("its cpio archive ends early")
        size -= len(data)
