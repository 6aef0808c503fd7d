"""Decompress the formats a kernel image or a module may be packed with, within a bound.

Magic numbers are those of ``scripts/extract-vmlinux`` and
``lib/decompress.c`` in the kernel tree. LZ4 is the *legacy* frame that the
kernel's build uses (``lz4 -l``): a magic, then blocks of at most 8 MiB, each
with its length before it.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import lz4.block
import zstandard

from hostabi.errors import ImageError

_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
_ZSTD_WINDOW = 1 << 27
"""The window of ``zstd -22 --ultra``, which the kernel's build uses."""
_XZ_MEMORY = 256 << 20


@dataclass(frozen=True)
class Format:
    """One compression: its name, the bytes it begins with, and how to undo it.

    ``unpack(data, limit)`` returns at most ``limit`` bytes and ignores what
    follows the stream; it raises whatever its library raises.
    """

    name: str
    magic: bytes
    unpack: Callable[[memoryview, int], bytes]


def _gzip(data: memoryview, limit: int) -> bytes:
    worker = zlib.decompressobj(31)
    return _whole(worker.decompress(data, limit), worker.eof, limit)


def _bzip2(data: memoryview, limit: int) -> bytes:
    worker = bz2.BZ2Decompressor()
    return _whole(worker.decompress(data, limit), worker.eof, limit)


def _xz(data: memoryview, limit: int) -> bytes:
    worker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    return _whole(worker.decompress(data, limit), worker.eof, limit)


def _lzma(data: memoryview, limit: int) -> bytes:
    worker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_XZ_MEMORY)
    # The old format may state no length and carry no end mark, so eof proves nothing.
    return worker.decompress(data, limit)


def _zstd(data: memoryview, limit: int) -> bytes:
    worker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    expected = zstandard.get_frame_parameters(data).content_size
    with worker.stream_reader(data) as stream:
        unpacked = stream.read(limit)
    if expected != zstandard.CONTENTSIZE_UNKNOWN and len(unpacked) < min(expected, limit):
        raise EOFError("the stream ends early")
    return unpacked


def _lz4(data: memoryview, limit: int) -> bytes:
    unpacked = io.BytesIO()
    at = len(_LZ4_LEGACY)
    # The x86 build appends the unpacked length as four bytes, which is no block.
    while unpacked.tell() < limit and len(data) - at > 4:
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length == struct.unpack("<I", _LZ4_LEGACY)[0]:
            continue
        if length == 0 or length > len(data) - at:
            raise EOFError(f"a block of {length} bytes where {len(data) - at} are left")
        unpacked.write(lz4.block.decompress(data[at : at + length], uncompressed_size=_LZ4_BLOCK))
        at += length
    return unpacked.getvalue()[:limit]


def _whole(unpacked: bytes, ended: bool, limit: int) -> bytes:
    if not ended and len(unpacked) < limit:
        raise EOFError("the stream ends early")
    return unpacked


FORMATS = (
    Format("gzip", b"\x1f\x8b\x08", _gzip),
    Format("xz", b"\xfd7zXZ\x00", _xz),
    Format("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    Format("lz4", _LZ4_LEGACY, _lz4),
    Format("bzip2", b"BZh", _bzip2),
    Format("lzma", b"\x5d\x00\x00", _lzma),
)


def recognise(data: bytes | memoryview) -> Format | None:
    """The format ``data`` begins with, if it is one we know."""
    head = bytes(data[:8])
    return next((form for form in FORMATS if head.startswith(form.magic)), None)


def unpack(form: Format, data: memoryview, limit: int, what: str) -> bytes:
    """``data`` unpacked; ``what`` is its name in errors.

    Raises ImageError when the stream is cut off or corrupt, or when it holds
    more than ``limit`` bytes.
    """
    try:
        unpacked = form.unpack(data, limit + 1)
    except (
        OSError,
        EOFError,
        ValueError,
        MemoryError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
        lz4.block.LZ4BlockError,
    ) as error:
        raise ImageError(
            f"{what}: its {form.name} data, of {len(data)} bytes, is truncated or corrupt"
            f" ({error})",
            advice="fetch or build the file again",
        ) from error
    if len(unpacked) > limit:
        raise ImageError(
            f"{what}: its {form.name} data, of {len(data)} bytes, unpacks to more than"
            f" {limit >> 20} MiB",
            advice="this is not a kernel; check the file",
        )
    return unpacked


def head(form: Format, data: memoryview, length: int) -> bytes:
    """The first ``length`` unpacked bytes, or nothing when ``data`` is no such stream."""
    try:
        return form.unpack(data, length)
    except Exception:  # whatever the refusal, it is no stream of this format
        return b""
