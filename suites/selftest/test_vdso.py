"""The vDSO read from images and from a process, and what two witnesses of it say."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelfakes import make_bzimage, make_elf

from hostabi.agent.client import Agent
from hostabi.agent.program import End, Program, Ran
from hostabi.diff.compare import by_key
from hostabi.errors import CallError, HostabiError, ImageError
from hostabi.kernels import vdso
from hostabi.kernels.build import Build
from hostabi.kernels.static import Static
from hostabi.kernels.vdso import Vdso
from hostabi.model import Certainty
from hostabi.packages.cache import Cache
from hostabi.surfaces.source import Source
from hostabi.surfaces.vdso import SURFACE, address, native_facts

SYMBOLS = {"__vdso_time": 2, "__vdso_getcpu": 2, "__kernel_vsyscall": 3}
VERSIONED = {"__kernel_vsyscall": "LINUX_2.5", "__vdso_getcpu": "LINUX_2.6",
             "__vdso_time": "LINUX_2.6"}  # fmt: skip
AUXV = struct.pack("<6Q", 6, 4096, 33, 0x7FFE1000, 0, 0)


def make_vdso(soname: str = "linux-vdso.so.1", *, bits: int = 64, machine: int = 62) -> bytes:
    """A shared object with SYMBOLS, and with a symbol for each of two versions."""
    names = ["", soname, "LINUX_2.6", "LINUX_2.5", *SYMBOLS]
    strings, at = b"", {}
    for name in names:
        at[name] = len(strings)
        strings += name.encode() + b"\0"
    # st_name, st_info, st_other, st_shndx, st_value, st_size; SHN_ABS for a version's own symbol
    rows = [(0, 0), (at["LINUX_2.6"], 0xFFF1), *((at[name], 1) for name in SYMBOLS)]
    wide = "<IBBHQQ"
    symbols = b"".join(
        struct.pack(wide, name, 0x12, 0, where, 64, 8)
        if bits == 64
        else struct.pack("<IIIBBH", name, 64, 8, 0x12, 0, where)
        for name, where in rows
    )
    versions = struct.pack(f"<{len(rows)}H", 0, 2, *SYMBOLS.values())
    definitions = b"".join(
        struct.pack("<HHHHIIIII", 1, 0, index, 1, 0, 20, 28 if index < 3 else 0, at[name], 0)
        for index, name in enumerate(names[1:4], 1)
    )
    # type, link, info, entry size; the last one holds the sections' names
    sections = {
        "": (0, 0, 0, 0, b""),
        ".dynsym": (11, 2, 1, 24 if bits == 64 else 16, symbols),
        ".dynstr": (3, 0, 0, 0, strings),
        ".gnu.version": (0x6FFFFFFF, 1, 0, 2, versions),
        ".gnu.version_d": (0x6FFFFFFD, 2, 3, 0, definitions),
    }
    own = b"\0".join(name.encode() for name in (*sections, ".shstrtab")) + b"\0"
    sections[".shstrtab"] = (3, 0, 0, 0, own)
    return _elf(sections, own, bits, machine)


def _elf(
    sections: dict[str, tuple[int, int, int, int, bytes]], names: bytes, bits: int, machine: int
) -> bytes:
    head, section = ("<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ") if bits == 64 else (
        "<16sHHIIIIIHHHHHH", "<IIIIIIIIII")  # fmt: skip
    start = struct.calcsize(head)
    body, table = b"", b""
    for name, (kind, link, info, entry, content) in sections.items():
        place = names.index(name.encode() + b"\0")
        table += struct.pack(
            section, place, kind, 2, 0, start + len(body), len(content), link, info, 8, entry
        )
        body += content
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    count = len(sections)
    return (
        struct.pack(
            head, ident, 3, machine, 1, 0, 0, start + len(body), 0, start, 0, 0,
            struct.calcsize(section), count, count - 1,
        )
        + body + table
    )  # fmt: skip


NATIVE = make_vdso()
IA32 = make_vdso("linux-gate.so.1", bits=32, machine=3)


def image(*found: bytes) -> bytes:
    """A vmlinux with each of these on a page of its own."""
    head = make_elf({".text": b"\x90" * 16})
    whole = head.ljust(4096, b"\0")
    for one in found:
        whole += one.ljust((len(one) + 4095) & ~4095, b"\0")
    return whole


@dataclasses.dataclass
class FakeAgent:
    """A process with ``mapped`` as its vDSO."""

    auxv: bytes | None = AUXV
    mapped: bytes = NATIVE

    def read(self, path: str, limit: int = 0) -> bytes:
        if self.auxv is None:
            raise CallError(f"{path}: no such file", errno=errno.ENOENT)
        return self.auxv

    def run(self, programs: list[Program]) -> list[Ran]:
        assert [call.arguments[1] for call in programs[0].calls[1:2]] == [0x7FFE1000]
        size = len(self.mapped)
        return [Ran(End.EXITED, 0, (0, size, size), (self.mapped.ljust(32768, b"\0"),))]


def static(elf: bytes, folder: Path) -> Static:
    path = folder / "vmlinuz"
    path.write_bytes(make_bzimage(elf))
    build = SimpleNamespace(image=path, name="x", btf=None)
    return Static(cast(Build, build), Cache(folder / "cache"))


def test_symbols_and_versions() -> None:
    found = vdso.parse(NATIVE + bytes(500))
    assert found == Vdso("x86-64", "linux-vdso.so.1", VERSIONED)
    assert vdso.parse(IA32) == Vdso("ia32", "linux-gate.so.1", VERSIONED)
    assert vdso.parse(make_vdso(bits=32)).abi == "x32"


def test_those_of_an_image_are_told_from_other_elf_files_in_it() -> None:
    other = make_elf({".text": b"\x90" * 16})
    library = make_vdso("libc.so.6")
    found = vdso.find(image(other, library, b"\x7fELF\x02\x01" + b"\xff" * 90, NATIVE, IA32))
    assert {abi: one.soname for abi, one in found.items()} == {
        "x86-64": "linux-vdso.so.1",
        "ia32": "linux-gate.so.1",
    }
    with pytest.raises(ImageError, match="vmlinux: no vDSO"):
        vdso.find(image(other, library), "vmlinux")


def test_one_that_begins_within_a_page_is_none() -> None:
    with pytest.raises(ImageError, match="no vDSO"):
        vdso.find(image(bytes(64) + NATIVE))


@pytest.mark.parametrize("keep", [0, 19, 63, 200, len(NATIVE) - 70])
def test_cut_off(keep: int) -> None:
    with pytest.raises(ImageError, match="the vDSO"):
        vdso.parse(NATIVE[:keep])


@given(st.lists(st.tuples(st.integers(0, len(NATIVE) - 1), st.integers(0, 255)), max_size=6))
def test_damaged(changes: list[tuple[int, int]]) -> None:
    data = bytearray(NATIVE)
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(ImageError):
        assert len(vdso.parse(bytes(data)).symbols) <= 512


def test_address() -> None:
    assert address(AUXV) == 0x7FFE1000
    assert address(AUXV[:17]) == 0
    assert address(b"") == 0


def test_two_witnesses_that_agree(tmp_path: Path) -> None:
    source = Source(cast(Agent, FakeAgent()), static(image(NATIVE, IA32), tmp_path))
    facts = by_key(SURFACE.capture(source))
    assert facts["__vdso_time"].value == "LINUX_2.6"
    assert facts["__vdso_time"].how == "image+memory"
    assert facts["__vdso_time"].certainty is Certainty.READ
    assert facts["ia32:__kernel_vsyscall"].value == "LINUX_2.5"
    assert facts["ia32:soname"].certainty is Certainty.DERIVED
    assert "LINUX_2.6" not in facts


def test_without_a_kernel_the_image_tells(tmp_path: Path) -> None:
    source = Source(None, static(image(NATIVE), tmp_path))
    assert SURFACE.possible(source)
    assert by_key(SURFACE.capture(source))["__vdso_time"].certainty is Certainty.DERIVED


def test_witnesses_that_disagree_are_told() -> None:
    built = Vdso("x86-64", "linux-vdso.so.1", {"__vdso_time": "LINUX_2.6", "time": "LINUX_2.6"})
    mapped = Vdso("x86-64", "linux-vdso.so.1", {"__vdso_time": "LINUX_2.6", "x": "LINUX_9"})
    facts = by_key(native_facts(built, mapped))
    assert facts["__vdso_time"].certainty is Certainty.READ
    assert (facts["time"].value, facts["x"].value) == ("ENOENT", "LINUX_9")
    assert facts["time"].certainty is Certainty.CONTRADICTED
    assert facts["time"].detail == "image: LINUX_2.6, memory: not there"


def test_one_that_is_switched_off_contradicts_the_image(tmp_path: Path) -> None:
    agent = FakeAgent(auxv=struct.pack("<2Q", 0, 0))
    source = Source(cast(Agent, agent), static(image(NATIVE), tmp_path))
    facts = SURFACE.capture(source)
    assert {(fact.value, fact.certainty) for fact in facts} == {("ENOENT", Certainty.CONTRADICTED)}


def test_without_any_witness_it_is_an_error() -> None:
    with pytest.raises(HostabiError, match="cannot be read"):
        SURFACE.capture(Source(cast(Agent, FakeAgent(auxv=None)), None))
    with pytest.raises(HostabiError, match="cannot be read"):
        SURFACE.capture(Source(cast(Agent, FakeAgent(auxv=AUXV[16 * 2 :])), None))
