"""What modules say of themselves, read from files packed in any way."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernelfakes import FakeArchive, make_elf, make_module

from hostabi.errors import ImageError
from hostabi.kernels import modinfo
from hostabi.kernels.modinfo import module_files, modules_of, read_module, read_modules, section
from hostabi.kernels.resolve import resolve

DEMO = make_module(
    name="demo_fs",
    depends_="fat,nls-base",
    alias="fs-demo",
    softdep="pre: crc32c post: helper-one",
    license="GPL",
)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".ko", bytes),
        (".ko.xz", lzma.compress),
        (".ko.zst", zstandard.compress),
        (".ko.gz", gzip.compress),
    ],
)
def test_module_of_each_packing(suffix, pack, tmp_path):
    path = tmp_path / f"demo-fs{suffix}"
    path.write_bytes(pack(DEMO))
    module = read_module(path, f"kernel/fs/{path.name}")
    assert module.name == "demo_fs"
    assert module.path == f"kernel/fs/demo-fs{suffix}"
    assert module.depends == ("fat", "nls_base")
    assert module.aliases == ("fs-demo",)
    assert (module.before, module.after) == (("crc32c",), ("helper_one",))
    assert module.fields == (("license", "GPL"),)
    assert not module.builtin
    path.write_bytes(pack(DEMO)[:-40])
    with pytest.raises(ImageError, match="demo-fs"):
        read_module(path, path.name)


def test_builtin_modules_are_listed(tmp_path):
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/a/plain-one.ko\n")
    (tmp_path / "modules.builtin.modinfo").write_bytes(
        b"ext4.license=GPL\0ext4.alias=fs-ext4\0ext4.file=fs/ext4/ext4\0nonsense\0"
    )
    found = {module.name: module for module in read_modules(tmp_path, [])}
    assert found["ext4"].builtin
    assert found["ext4"].aliases == ("fs-ext4",)
    assert found["plain_one"].builtin


def test_links_to_sources_are_not_followed(tmp_path):
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/a.ko").write_bytes(DEMO)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/b.ko").write_bytes(DEMO)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert module_files(tmp_path) == ["kernel/a.ko"]


def test_what_was_read_is_kept(tmp_path, monkeypatch):
    archive = FakeArchive(tmp_path)
    archive.add_kernel("bookworm-security", "6.1.0-56", "6.1.192-2")
    build = resolve("6.1", archive)
    first = modules_of(build, archive.cache)
    monkeypatch.setattr(modinfo, "read_modules", None)
    assert modules_of(build, archive.cache) == first
    assert list(first) == ["demo"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(DEMO) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    cut=st.integers(0, len(DEMO)),
)
def test_damage_is_an_image_error_and_nothing_else(changes, cut, tmp_path):
    data = bytearray(DEMO)
    for at, value in changes:
        data[at] = value
    path = tmp_path / "demo.ko"
    path.write_bytes(data[: len(data) - cut])
    with contextlib.suppress(ImageError):
        read_module(path, "demo.ko")


def test_section_that_ends_beyond_the_file_is_refused():
    data = bytearray(make_elf({".modinfo": b"license=GPL"}))
    (table,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<Q", data, table + 64 + 32, 1 << 20)
    with pytest.raises(ValueError, match="outside the file"):
        section(bytes(data), b".modinfo")


def test_section_is_found_by_its_whole_name():
    elf = make_elf({".modinfo.more": b"no", ".modinfo": b"yes"})
    assert section(elf, b".modinfo") == b"yes"
    assert section(elf, b".absent") == b""
