"""Captures as files: msgspec JSON, compressed with zstd when the name ends in ``.zst``.

A capture file may come from anywhere, so reading one is bounded and every
fault in it is an InputError that names the file.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec
import zstandard

from hostabi.diff.compare import by_key
from hostabi.errors import InputError, StorageError
from hostabi.model import SCHEMA, Capture

LIMIT = 128 << 20
"""Bytes of JSON a capture may have; a full one has about 1 MB."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


_T = TypeVar("_T", bound=msgspec.Struct)


class _Header(msgspec.Struct):
    schema: int


def save(capture: Capture, path: Path) -> Path:
    """Write a capture, whole or not at all. Raises StorageError when it cannot."""
    data = msgspec.json.encode(capture)
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor(level=9).compress(data)
    else:
        data = msgspec.json.format(data, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot write the capture: {error.strerror}",
            advice="choose a folder that can be written and has space",
        ) from error
    return path


def load(path: Path) -> Capture:
    """Read a capture file, compressed or not.

    Raises InputError for a file that is missing, damaged, too large, of a newer
    schema, or that is no capture at all.
    """
    return decode(content(path), str(path))


def content(path: Path) -> bytes:
    """The bytes of a capture file, as they lie there. Raises InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the capture: {error.strerror}",
            advice="make one with: hostabi capture KERNEL",
        ) from error


def decode(data: bytes, name: str) -> Capture:
    """The capture in ``data``; ``name`` is what errors call it. Raises InputError as load does."""
    capture = read_as(Capture, data, name)
    for surface, facts in capture.surfaces.items():
        by_key(facts, where=f"{name}, surface {surface}")
    return capture


def read_as(form: type[_T], data: bytes, name: str) -> _T:
    """The record in ``data``, which may know less of a capture than :class:`Capture` does.

    Raises InputError as load does, but for facts that ``form`` does not look at.
    """
    if data.startswith(_ZSTD_MAGIC):
        data = _decompressed(data, name)
    if len(data) > LIMIT:
        raise InputError(f"{name}: larger than a capture can be ({LIMIT >> 20} MiB)")
    advice = "take the capture again with: hostabi capture KERNEL"
    try:
        header = msgspec.json.decode(data, type=_Header)
        if header.schema != SCHEMA:
            raise InputError(
                f"{name}: capture of schema {header.schema}, this hostabi reads {SCHEMA}",
                advice="use the hostabi that wrote it, or take the capture again",
            )
        return msgspec.json.decode(data, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{name}: not a capture, of {len(data)} bytes: {error}", advice=advice
        ) from error


def replace_file(path: Path, data: bytes) -> None:
    """Give ``path`` this content through a temporary sibling, never half written."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    sibling = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        sibling.replace(path)
    finally:
        sibling.unlink(missing_ok=True)


def _decompressed(data: bytes, name: str) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            plain = reader.read(LIMIT + 1)
    except zstandard.ZstdError as error:
        raise InputError(
            f"{name}: damaged zstd data of {len(data)} bytes: {error}",
            advice="take the capture again with: hostabi capture KERNEL",
        ) from error
    return plain
