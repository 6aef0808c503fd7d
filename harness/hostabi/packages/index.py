"""Packages indexes: read fast, and kept in a parsed form that loads in no time.

The parsed form holds each package as msgpack in one run of bytes, with a table
from names to places in it: a query decodes what it asks for and nothing else.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hostabi.errors import PackageError

FORM = "packages-1"
"""Name of the parsed form; a change of :class:`Record` or :class:`_Stored` changes it."""

_FIELDS = (
    b"Version",
    b"Architecture",
    b"Filename",
    b"Size",
    b"SHA256",
    b"Depends",
    b"Pre-Depends",
    b"Provides",
    b"Source",
)


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields of one package that are kept, as the index writes them."""

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str
    depends: str
    pre_depends: str
    provides: str
    source: str


class _Stored(msgspec.Struct, array_like=True, gc=False):
    names: dict[str, list[int]]
    """Offset and length of each record of that name, flat."""
    provides: dict[str, list[str]]
    """Names of the packages that provide a virtual one."""
    records: bytes


class Index:
    """The packages of one index, by name."""

    def __init__(self, stored: _Stored) -> None:
        self._stored = stored
        self._decoder = msgspec.msgpack.Decoder(Record)

    def __len__(self) -> int:
        return sum(len(places) // 2 for places in self._stored.names.values())

    def named(self, name: str) -> Iterator[Record]:
        """The packages called ``name``, in the order of the index."""
        places = self._stored.names.get(name, [])
        records = memoryview(self._stored.records)
        for offset, length in zip(places[::2], places[1::2], strict=True):
            yield self._decoder.decode(records[offset : offset + length])

    def matching(self, pattern: str | re.Pattern[str]) -> Iterator[Record]:
        """The packages whose whole name matches a shell pattern or a compiled expression."""
        if isinstance(pattern, str):
            pattern = re.compile(fnmatch.translate(pattern))
        for name in self._stored.names:
            if pattern.fullmatch(name):
                yield from self.named(name)

    def providers(self, name: str) -> list[str]:
        """Names of the packages that provide the virtual package ``name``."""
        return self._stored.provides.get(name, [])

    def save(self, path: Path) -> None:
        """Write the parsed form, after its own checksum."""
        data = msgspec.msgpack.encode(self._stored)
        path.write_bytes(hashlib.sha256(data).digest() + data)

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read the parsed form. :class:`PackageError` when it is damaged."""
        data = memoryview(path.read_bytes())
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            raise PackageError(f"{path} is damaged", advice="remove it; it is made again")
        return cls(msgspec.msgpack.decode(data[32:], type=_Stored))


def parse(text: bytes) -> Index:
    """Parse the text of a Packages file. :class:`PackageError` when it is none."""
    names: dict[str, list[int]] = {}
    provides: dict[str, list[str]] = {}
    records = bytearray()
    encode = msgspec.msgpack.Encoder().encode
    for stanza in text.split(b"\n\n"):
        record = _record(stanza)
        if record is None:
            continue
        packed = encode(record)
        names.setdefault(record.name, []).extend((len(records), len(packed)))
        records += packed
        if record.provides:
            for word in record.provides.split(","):
                virtual = word.partition("(")[0].strip()
                providers = provides.setdefault(virtual, [])
                if record.name not in providers:
                    providers.append(record.name)
    if text.strip() and not names:
        raise PackageError("a Packages index holds no package")
    return Index(_Stored(names, provides, bytes(records)))


def parse_sources(text: bytes) -> Index:
    """Parse the text of a Sources file: a record for each file of each source package.

    They carry the source package's name and version. :class:`PackageError` when it is none.
    """
    names: dict[str, list[int]] = {}
    records = bytearray()
    for stanza in text.split(b"\n\n"):
        for record in _files(stanza):
            packed = msgspec.msgpack.encode(record)
            names.setdefault(record.name, []).extend((len(records), len(packed)))
            records += packed
    if text.strip() and not names:
        raise PackageError("a Sources index holds no package")
    return Index(_Stored(names, {}, bytes(records)))


def _files(stanza: bytes) -> Iterator[Record]:
    stanza = b"\n" + stanza.strip(b"\n")
    name, version, folder, listed = (
        _field(stanza, field)
        for field in (b"Package", b"Version", b"Directory", b"Checksums-Sha256")
    )
    for line in listed.splitlines():
        sha256, size, file = (*line.split(), "", "", "")[:3]
        if name and len(sha256) == 64 and size.isdecimal() and file:
            path = f"{folder}/{file}"
            yield Record(name, version, "source", path, int(size), sha256.lower(), "", "", "", name)


def _record(stanza: bytes) -> Record | None:
    # Searching for each field is several times faster than looking at each line:
    # most of a stanza is description and tags, which nobody asks for.
    stanza = b"\n" + stanza.strip(b"\n")
    name = _field(stanza, b"Package")
    if not name:
        return None
    version, architecture, filename, size, sha256, *rest = (
        _field(stanza, field) for field in _FIELDS
    )
    if not (size.isdecimal() and len(sha256) == 64):
        return None  # without a checksum it can never be used
    return Record(name, version, architecture, filename, int(size), sha256.lower(), *rest)


def _field(stanza: bytes, field: bytes) -> str:
    start = stanza.find(b"\n" + field + b":")
    if start < 0:
        return ""
    start += len(field) + 2
    end = stanza.find(b"\n", start)
    while end >= 0 and stanza[end + 1 : end + 2] in (b" ", b"\t"):
        end = stanza.find(b"\n", end + 1)  # a folded line goes on
    value = stanza[start:] if end < 0 else stanza[start:end]
    return value.decode("utf-8", "replace").strip()
