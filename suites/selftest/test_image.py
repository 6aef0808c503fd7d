"""Unpacking of kernel images: every compression, and files that are not what they seem."""

from __future__ import annotations

import contextlib
import gzip
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernelfakes import PACKERS, make_bzimage, make_elf, sample_btf

from hostabi.errors import ImageError
from hostabi.kernels import compression, image
from hostabi.kernels.btf import btf_section
from hostabi.kernels.config import config_text, embedded_config, parse_config

ELF = make_elf({".text": bytes(range(256)) * 64, ".BTF": sample_btf()})


@pytest.mark.parametrize("packer", PACKERS)
def test_payload_of_each_compression_unpacks(packer, tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(ELF, packer))
    assert image.vmlinux(path) == ELF
    assert image.release_of(path) == "6.1.0-99-test-amd64"


@pytest.mark.parametrize("packer", PACKERS)
def test_payload_cut_short_is_an_image_error(packer, tmp_path):
    path = tmp_path / "vmlinuz"
    whole = make_bzimage(ELF, packer)
    for keep in (0x100, 0x230, 1100, len(whole) - 60):
        path.write_bytes(whole[:keep])
        with pytest.raises(ImageError, match="vmlinuz"):
            image.vmlinux(path)


def test_several_lz4_blocks(tmp_path):
    elf = make_elf({".text": bytes(20 << 20)})
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(elf, "lz4"))
    assert image.vmlinux(path) == elf


def test_payload_length_beyond_the_file(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(ELF, payload_length=0xFFFFFF00))
    with pytest.raises(ImageError, match="payload should take"):
        image.vmlinux(path)


def test_length_that_the_payload_does_not_have(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(ELF, "zstd", declared=len(ELF) + 1))
    with pytest.raises(ImageError, match="corrupt"):
        image.vmlinux(path)


@pytest.mark.parametrize("packer", PACKERS)
def test_bomb_is_bounded(packer, tmp_path, monkeypatch):
    monkeypatch.setattr(image, "LIMIT", 1 << 20)
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(make_elf({".text": bytes(8 << 20)}), packer))
    with pytest.raises(ImageError, match="more than 1 MiB"):
        image.vmlinux(path)


def test_old_boot_protocol_is_scanned(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(ELF, protocol=0x206))
    assert image.vmlinux(path) == ELF


def test_plain_and_packed_vmlinux(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(ELF)
    assert image.vmlinux(path) == ELF
    path.write_bytes(gzip.compress(ELF))
    assert image.vmlinux(path) == ELF


def arm64_image() -> bytes:
    return b"MZ" + bytes(0x36) + b"ARM\x64" + bytes(4096)


@pytest.mark.parametrize(
    ("data", "machine"),
    [
        (arm64_image(), "arm64"),
        (make_elf({}, machine=183), "arm64"),
        (make_bzimage(make_elf({}, machine=3)), "i386"),
        (b"MZ\0\0zimg" + bytes(4096), "zboot"),
    ],
)
def test_other_machines_are_named(data, machine, tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=machine):
        image.vmlinux(path)


def test_what_is_no_kernel(tmp_path):
    path = tmp_path / "notes.txt"
    for data in (b"", b"hello", b"MZ" + bytes(5000), gzip.compress(b"hello" * 100)):
        path.write_bytes(data)
        with pytest.raises(ImageError):
            image.vmlinux(path)
    with pytest.raises(ImageError, match="No such file"):
        image.vmlinux(tmp_path / "missing")


def test_release_that_would_leave_its_folder_is_refused(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_bzimage(ELF, release="6.1/../../etc"))
    with pytest.raises(ImageError, match="names no release"):
        image.release_of(path)


SMALL = make_elf({".text": b"a" * 64})


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    packer=st.sampled_from(sorted(PACKERS)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 200),
)
def test_damage_is_an_image_error_and_nothing_else(packer, changes, cut, tmp_path):
    data = bytearray(make_bzimage(SMALL, packer))
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "vmlinuz"
    path.write_bytes(data[: len(data) - cut])
    try:
        image.vmlinux(path)
        image.release_of(path)
    except ImageError:
        pass


@given(data=st.binary(max_size=200), form=st.sampled_from(compression.FORMATS))
def test_garbage_after_a_magic_is_an_image_error(data, form):
    with contextlib.suppress(ImageError):
        compression.unpack(form, memoryview(form.magic + data), 1 << 20, "file")


def test_no_btf_says_which_option():
    with pytest.raises(ImageError, match="CONFIG_DEBUG_INFO_BTF"):
        btf_section(make_elf({".text": b"x"}))


@given(at=st.integers(0, len(SMALL) - 1), value=st.integers(0, 255))
def test_elf_headers_that_lie_are_an_image_error(at, value):
    data = bytearray(make_elf({".BTF": b"x" * 32}))
    data[at % len(data)] = value
    with contextlib.suppress(ImageError):
        btf_section(bytes(data))


def test_configuration_is_parsed(tmp_path):
    text = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C="x y"\nCONFIG_D=0x10\nnoise\nCONFIG_E=n\n'
    expected = {"CONFIG_B": "y", "CONFIG_C": "x y", "CONFIG_D": "0x10"}
    assert parse_config(text) == expected
    path = tmp_path / "config.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert parse_config(config_text(path)) == expected
    path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match="no CONFIG_"):
        config_text(path)


def test_configuration_inside_the_image_is_found():
    packed = b"IKCFG_ST" + gzip.compress(b"CONFIG_X=m\n") + b"IKCFG_ED"
    assert embedded_config(make_elf({".rodata": b"junk" + packed})) == "CONFIG_X=m\n"
    assert embedded_config(ELF) == ""


def test_setup_sectors_of_zero_mean_four(tmp_path):
    data = bytearray(make_bzimage(ELF))
    data[0x1F1] = 0
    # Four sectors and the boot sector: the payload starts 1536 bytes later.
    moved = bytes(data[:1024]) + bytes(1536) + bytes(data[1024:])
    path = tmp_path / "vmlinuz"
    path.write_bytes(moved)
    assert image.vmlinux(path) == ELF
    assert struct.unpack_from("<H", moved, 0x206)[0] >= 0x208
