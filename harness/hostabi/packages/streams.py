"""Decompression that is bounded: a stream may not grow past what its reader allows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import BinaryIO, cast

import zstandard

from hostabi.errors import ArchiveError

_MAGIC = {
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zst",
    b"BZh": "bz2",
    b"\x5d\0\0": "lzma",
}
_WINDOW = 1 << 27

DAMAGE = (EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
"""What damaged compressed data raises, whichever the format."""


def decompressed(file: BinaryIO, limit: int, *, name: str = "stream") -> Bounded:
    """``file`` unpacked by its magic number (plain data stays as it is).

    Reading more than ``limit`` bytes out of it raises :class:`ArchiveError`.
    """
    start = file.tell()
    head = file.read(6)
    file.seek(start)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    match kind:
        case "gz":
            inner = cast(BinaryIO, gzip.GzipFile(fileobj=file))
        case "xz" | "lzma":
            inner = cast(BinaryIO, lzma.LZMAFile(file))  # noqa: SIM115
        case "bz2":
            inner = cast(BinaryIO, bz2.BZ2File(file))
        case "zst":
            inner = cast(
                BinaryIO,
                zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
                    file, read_across_frames=True, closefd=False
                ),
            )
        case _:
            inner = file
    return Bounded(inner, limit, name)


class Bounded(io.RawIOBase):
    """Reads ``inner`` up to ``limit`` bytes; one byte more is an :class:`ArchiveError`."""

    def __init__(self, inner: BinaryIO, limit: int, name: str) -> None:
        super().__init__()
        self._inner, self._left, self._name, self._at = inner, limit, name, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def drain(self) -> None:
        """Read to the end, so that the checksums of the format are compared too."""
        while self.read(1 << 20):
            pass

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        parts = []
        while wanted > 0:
            try:
                part = self._inner.read(min(wanted, 1 << 20))
            except (OSError, *DAMAGE) as error:
                raise ArchiveError(f"{self._name} is damaged: {error}") from error
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        data = b"".join(parts)
        self._left -= len(data)
        self._at += len(data)
        if self._left < 0:
            raise ArchiveError(f"{self._name} unpacks to more than it may")
        return data


class Slice(io.RawIOBase):
    """``length`` bytes of ``file`` from where it stands, as a file of its own."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        super().__init__()
        self._file, self._start, self._length, self._at = file, file.tell(), length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, min(self._length, base + offset))
        self._file.seek(self._start + self._at)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._length - self._at
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data
