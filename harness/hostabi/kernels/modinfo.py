"""What kernel modules say of themselves in their ``.modinfo`` sections.

Packages carry no modules.dep and no modules.alias, so order and aliases are
derived from here. A build has 900 to 4,500 modules, packed one by one: they
are read by a few threads (decompression runs outside the interpreter lock)
and what was read is kept.
"""

from __future__ import annotations

import hashlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi.errors import ImageError
from hostabi.kernels import compression
from hostabi.kernels.build import Build

if TYPE_CHECKING:
    from hostabi.packages.cache import Cache

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
_LIMIT = 256 << 20
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


class ModuleInfo(msgspec.Struct, frozen=True):
    """One module. ``path`` is relative to lib/modules/RELEASE, empty when it is built in.

    Names have underscores, as in /proc/modules. ``aliases`` are patterns as
    modprobe matches them. ``before`` and ``after`` are its soft dependencies
    (``softdep=pre:`` and ``post:``, modprobe.d(5)); ``fields`` has the rest.
    """

    name: str
    path: str
    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def builtin(self) -> bool:
        """Whether it is part of the image and needs no file."""
        return not self.path


def modules_of(build: Build, cache: Cache) -> dict[str, ModuleInfo]:
    """All modules of ``build`` by name, built-in ones included; empty when it has none.

    Kept in ``cache`` by what the folder holds. Raises ImageError when a module
    is corrupt.
    """
    folder = build.modules
    if folder is None or not folder.is_dir():
        return {}
    files = module_files(folder)
    key = _key(build, folder, files)

    def make(path: Path) -> None:
        path.write_bytes(msgspec.msgpack.encode(read_modules(folder, files)))

    kept = cache.file("modinfo", key, make)
    found = msgspec.msgpack.decode(kept.read_bytes(), type=list[ModuleInfo])
    return {module.name: module for module in found}


def module_files(folder: Path) -> list[str]:
    """Paths of the module files below ``folder``, relative to it, sorted."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("build", "source")]
        base = Path(parent).relative_to(folder)
        found.extend(str(base / name) for name in names if name.endswith(_SUFFIXES))
    return sorted(found)


def read_modules(folder: Path, files: list[str]) -> list[ModuleInfo]:
    """Read ``files`` below ``folder``, and the list of what is built in."""

    def read(name: str) -> ModuleInfo:
        return read_module(folder / name, name)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(read, files))
    return [*_builtin(folder), *found]


def read_module(path: Path, relative: str) -> ModuleInfo:
    """One module file; ImageError when it is truncated, corrupt or no module."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    if form := compression.recognise(data):
        data = compression.unpack(form, memoryview(data), _LIMIT, str(path))
    try:
        text = section(data, b".modinfo")
    except (struct.error, ValueError) as error:
        raise ImageError(
            f"{path}: a truncated or corrupt module of {len(data)} bytes: {error}"
        ) from error
    return _parse(text, relative)


def section(elf: bytes, name: bytes) -> bytes:
    """A section of a little-endian ELF64 file, empty when there is none.

    pyelftools takes several milliseconds a file, which is 20 s for the modules
    of a generic build; this takes microseconds. Raises ValueError or
    struct.error when the file is corrupt.
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not ELF64, little endian")
    header = _HEADER.unpack_from(elf)
    table, entry, count, names = header[6], header[11], header[12], header[13]
    if entry != _SECTION.size or names >= count or table + entry * count > len(elf):
        raise ValueError(f"section headers at byte {table} outside the file")
    sections = list(_SECTION.iter_unpack(elf[table : table + entry * count]))
    strings = _content(elf, sections[names])
    for found in sections:
        at = found[0]
        if strings[at : at + len(name) + 1] == name + b"\0":
            return _content(elf, found)
    return b""


def _content(elf: bytes, found: tuple[int, ...]) -> bytes:
    kind, offset, size = found[1], found[4], found[5]
    if kind == 8:  # SHT_NOBITS takes no room in the file
        return b""
    if offset + size > len(elf):
        raise ValueError(f"a section at byte {offset} outside the file")
    return elf[offset : offset + size]


def module_name(path: str) -> str:
    """``kernel/fs/overlayfs/overlay.ko.xz`` to ``overlay``, with underscores."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _parse(text: bytes, relative: str) -> ModuleInfo:
    pairs = []
    for raw in text.split(b"\0"):
        key, equals, value = raw.decode("utf-8", "replace").partition("=")
        if equals:
            pairs.append((key, value))
    return _module(module_name(relative), relative, pairs)


def _module(name: str, path: str, pairs: list[tuple[str, str]]) -> ModuleInfo:
    depends: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for key, value in pairs:
        if key == "depends":
            depends += [item.replace("-", "_") for item in value.split(",") if item]
        elif key == "softdep":
            into = None
            for word in value.split():
                if word in ("pre:", "post:"):
                    into = before if word == "pre:" else after
                elif into is not None:
                    into.append(word.replace("-", "_"))
    return ModuleInfo(
        name,
        path,
        depends=tuple(depends),
        aliases=tuple(value for key, value in pairs if key == "alias"),
        before=tuple(before),
        after=tuple(after),
        fields=tuple(
            pair for pair in pairs if pair[0] not in ("alias", "depends", "softdep", "name")
        ),
    )


def _builtin(folder: Path) -> list[ModuleInfo]:
    """modules.builtin.modinfo has ``module.key=value`` strings, NUL between them."""
    grouped: dict[str, list[tuple[str, str]]] = {}
    names = folder / "modules.builtin"
    if names.is_file():
        for line in names.read_text("utf-8", "replace").splitlines():
            if line.endswith(".ko"):
                grouped.setdefault(module_name(line), [])
    details = folder / "modules.builtin.modinfo"
    if details.is_file():
        for raw in details.read_bytes().split(b"\0"):
            head, equals, value = raw.decode("utf-8", "replace").partition("=")
            name, dot, key = head.partition(".")
            if equals and dot:
                grouped.setdefault(name.replace("-", "_"), []).append((key, value))
    return [_module(name, "", pairs) for name, pairs in sorted(grouped.items())]


def _key(build: Build, folder: Path, files: list[str]) -> str:
    digest = hashlib.sha256(b"1")
    if build.packages:
        for name, checksum in sorted(build.packages.items()):
            digest.update(f"{name} {checksum}\n".encode())
    else:
        for name in [*files, "modules.builtin", "modules.builtin.modinfo"]:
            path = folder / name
            if path.is_file():
                status = path.stat()
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
