"""The BTF parser: what it reads, and that damaged bytes only ever raise ImageError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelfakes import BtfWriter, sample_btf

from hostabi.errors import ImageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind, Member

SAMPLE = sample_btf()


def test_struct_layout():
    btf = Btf.parse(SAMPLE)
    how = btf.struct("open_how")
    assert how is not None
    assert how.size == 24
    assert [(m.name, m.offset, btf.spell(m.type)) for m in how.members] == [
        ("flags", 0, "int"),
        ("mode", 32, "umode_t"),
        ("resolve", 64, "int[4]"),
    ]
    assert btf.size_of(how.members[2].type) == 16
    assert btf.struct("missing") is None


def test_bit_fields_and_enums():
    btf = Btf.parse(SAMPLE)
    bits = btf.struct("bits")
    assert bits is not None
    assert bits.members == (Member("low", 1, 0, 3), Member("high", 1, 3, 5))
    (state,) = btf.named(Kind.ENUM, "state")
    assert btf.type(state).values == (("GOOD", 1), ("BAD", -1))
    (wide,) = btf.named(Kind.ENUM64, "wide")
    assert btf.type(wide).values == (("FAR", 1 << 32 | 1),)


def test_syscalls_with_and_without_types():
    found = Btf.parse(SAMPLE).syscalls()
    assert list(found) == ["fork", "newuname", "openat2"]
    assert (found["fork"].entry, found["fork"].parameters) == ("__do_sys_fork", ())
    assert found["openat2"].entry == "__x64_sys_openat2"
    assert found["newuname"].parameters is None
    assert found["openat2"].parameters == (
        ("dfd", "int"),
        ("filename", "const char *"),
        ("how", "struct open_how *"),
    )


def test_every_type_spells_and_names_are_found():
    btf = Btf.parse(SAMPLE)
    spelt = [btf.spell(number) for number in range(btf.count)]
    assert "int (*)(int, const char *, struct open_how *)" in spelt
    assert "struct later" in spelt
    assert "const char * restrict" in spelt
    assert set(btf.functions()) == {
        "__do_sys_fork",
        "__do_sys_openat2",
        "__x64_sys_openat2",
        "__x64_sys_newuname",
        "__x64_sys_ni_syscall",
    }


def test_split_btf_needs_and_uses_its_base():
    base = Btf.parse(SAMPLE)
    module = BtfWriter()
    module.strings = b"extra\0"
    at = len(SAMPLE) - SAMPLE.index(b"\0int\0")  # strings end the file
    module.types = struct.pack("<6I", at, 4 << 24 | 1, 4, 1, 1, 0)
    data = module.bytes()
    with pytest.raises(ImageError, match="needs its kernel's BTF"):
        Btf.parse(data)
    split = Btf.parse(data, base)
    found = split.type(base.count)
    assert (found.name, found.members[0].name, split.spell(1)) == ("extra", "int", "int")


def patched(at: int, form: str, value: int) -> bytes:
    data = bytearray(SAMPLE)
    struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (SAMPLE[:20], "truncated"),
        (SAMPLE[:-1], "beyond"),
        (patched(0, "<H", 0x9FEB), "big endian"),
        (patched(0, "<H", 0x1234), "not BTF"),
        (patched(2, "<B", 9), "not BTF"),
        (patched(4, "<I", 4), "beyond"),
        (patched(8, "<I", 0x7FFFFFFF), "beyond"),
        (patched(12, "<I", 0xFFFFFFFC), "beyond"),
        (patched(20, "<I", 0xFFFFFFFF), "beyond"),
        (patched(28, "<I", 99 << 24), "unknown kind"),
        (patched(28, "<I", 4 << 24 | 0xFFFFFF), "cut off"),
    ],
)
def test_headers_that_lie(data, why):
    with pytest.raises(ImageError, match=why):
        Btf.parse(data)


def test_name_and_type_out_of_range():
    btf = Btf.parse(patched(24, "<I", 1 << 30))
    with pytest.raises(ImageError, match="outside the strings"):
        btf.type(1)
    with pytest.raises(ImageError, match="no type"):
        btf.type(btf.count)
    with pytest.raises(ImageError, match="no type"):
        btf.type(-1)


def test_types_that_refer_to_themselves():
    writer = BtfWriter()
    writer.add(10, "", 1)
    writer.add(2, "", 2)
    writer.add(3, "", 0, 3, 3, 2)
    writer.add(13, "", 4, 0, 4, parts=1)
    btf = Btf.parse(writer.bytes())
    for number in (1, 3):
        with pytest.raises(ImageError, match="refers to itself"):
            btf.size_of(number)
    for number in (1, 2, 3, 4):
        with pytest.raises(ImageError, match="refers to itself"):
            btf.spell(number)


def test_spelling_is_bounded():
    writer = BtfWriter()
    below = writer.add(1, "int", 4, 32)
    for _ in range(12):
        below = writer.add(13, "", below, *([0, below] * 30), parts=30)
        below = writer.add(2, "", below)
    with pytest.raises(ImageError, match="characters"):
        Btf.parse(writer.bytes()).spell(below)


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=12
    ),
    cut=st.one_of(st.just(0), st.integers(0, len(SAMPLE))),
)
def test_damage_is_an_image_error_and_nothing_else(changes, cut):
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    try:
        btf = Btf.parse(bytes(data[: len(data) - cut]))
    except ImageError:
        return
    for number in range(min(btf.count, 64)):
        for look in (btf.type, btf.spell, btf.size_of):
            try:
                look(number)
            except ImageError:
                continue
    for look_all in (btf.syscalls, btf.functions):
        try:
            look_all()
        except ImageError:
            continue
