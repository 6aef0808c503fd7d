"""The vDSO: the small library that the kernel maps into every process (vdso(7)).

An image has one for each way of calling the kernel. Each is an ELF file of a few
pages that begins on a page of its own (kernel: arch/x86/entry/vdso/vdso2c.c).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from hostabi.errors import ImageError

LIMIT = 64 << 10
"""Bytes one may have; today's have 4 to 12 KiB."""

_PAGE = 4096
_MAGIC = b"\x7fELF"
_ABIS = {(2, 62): "x86-64", (1, 62): "x32", (1, 3): "ia32"}
"""By ELF class and machine."""
_SONAMES = ("linux-vdso.so.1", "linux-vdso32.so.1", "linux-gate.so.1")
"""What it calls itself (arch/x86/entry/vdso/*.lds.S and its Makefile): not some other library."""
_SYMBOLS, _VERSIONS, _SECTIONS = 512, 16, 64
"""Bounds on what a file may declare; a vDSO has 20 symbols and two versions."""


@dataclass(frozen=True, slots=True)
class Vdso:
    """One vDSO: ``symbols`` are exported names with their versions (empty for none)."""

    abi: str
    """``x86-64``, ``x32`` or ``ia32``."""
    soname: str
    symbols: dict[str, str]


def find(elf: bytes, name: str = "the image") -> dict[str, Vdso]:
    """The vDSOs in a vmlinux by ABI. Raises ImageError when it has none."""
    found: dict[str, Vdso] = {}
    at = elf.find(_MAGIC, 1)
    while at >= 0:
        if at % _PAGE == 0 and _abi(elf[at : at + 64]):
            try:
                one = parse(elf[at : at + LIMIT], f"{name}, offset {at:#x}")
            except ImageError:
                one = None  # an ELF file of another kind; the purgatory of kexec is one
            if one is not None:
                found.setdefault(one.abi, one)
        at = elf.find(_MAGIC, at + 1)
    if not found:
        raise ImageError(f"{name}: no vDSO found in it", advice="the file may be damaged")
    return found


def parse(data: bytes, name: str = "the vDSO") -> Vdso:
    """Read one; what follows it in ``data`` is ignored.

    Raises ImageError when it is truncated, corrupt or no vDSO for x86.
    """
    abi = _abi(data[:64])
    if not abi:
        raise ImageError(f"{name}: no shared ELF file for x86 in its {len(data)} bytes")
    try:
        file = ELFFile(io.BytesIO(data[:LIMIT]))
        if file.num_sections() > _SECTIONS:
            raise ImageError(f"{name}: it declares {file.num_sections()} sections")
        definitions = _definitions(file)
        symbols = dict(_symbols(file, definitions))
    except ImageError:
        raise
    except Exception as error:  # pyelftools lets whatever its parser trips over through
        raise ImageError(
            f"{name}: the ELF structures of its {len(data)} bytes are corrupt ({error!r})"
        ) from error
    # the first definition is that of the file itself (Linux Standard Base, symbol versioning)
    soname = definitions.get(1, "")
    if soname not in _SONAMES or not symbols:
        raise ImageError(f"{name}: a library called {soname or 'nothing'}, which is no vDSO")
    return Vdso(abi, soname, dict(sorted(symbols.items())))


def _abi(head: bytes) -> str:
    """The ABI of a little-endian shared object that an ELF header describes; empty for others."""
    if len(head) < 20 or head[:4] != _MAGIC or head[5] != 1:
        return ""
    kind, machine = struct.unpack_from("<HH", head, 16)
    return _ABIS.get((head[4], machine), "") if kind == 3 else ""


def _definitions(file: ELFFile) -> dict[int, str]:
    """Version names by their index in .gnu.version."""
    section = file.get_section_by_name(".gnu.version_d")
    if not isinstance(section, GNUVerDefSection):
        return {}
    found = {}
    for version, names in islice(section.iter_versions(), _VERSIONS):
        first = next(names, None)
        if first is not None:
            found[int(version["vd_ndx"])] = str(first.name)
    return found


def _symbols(file: ELFFile, definitions: dict[int, str]) -> Iterator[tuple[str, str]]:
    table = file.get_section_by_name(".dynsym")
    versions = file.get_section_by_name(".gnu.version")
    if not isinstance(table, SymbolTableSection):
        return
    for index, symbol in enumerate(islice(table.iter_symbols(), _SYMBOLS)):
        version = ""
        if isinstance(versions, GNUVerSymSection):
            number = versions.get_symbol(index)["ndx"]
            # the highest bit hides a version from new links
            version = definitions.get(number & 0x7FFF, "") if isinstance(number, int) else ""
        # each version has a symbol of its own name, which is no function
        if symbol.name and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS"):
            yield str(symbol.name), version
