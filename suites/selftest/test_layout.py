"""Layouts of types, and what two witnesses of one may say differently."""

from __future__ import annotations

import pytest
from kernelfakes import BtfWriter

from hostabi.errors import ImageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.layout import Field, Layout, layout

STRUCT, UNION, ARRAY, INT, POINTER = 4, 5, 3, 1, 2


def struct(
    writer: BtfWriter, name: str, size: int, *members: tuple[str, int, int], kind: int = STRUCT
) -> int:
    """Members are a name, a type and an offset in bytes."""
    words = [word for m, t, at in members for word in (writer.name(m), t, at * 8)]
    return writer.add(kind, name, size, *words, parts=len(members))


def words(writer: BtfWriter, number: int) -> list[str]:
    btf = Btf.parse(writer.bytes())
    return layout(btf, btf.type(number)).words


def test_fields_with_what_has_no_tag_of_its_own() -> None:
    w = BtfWriter()
    u32 = w.add(INT, "unsigned int", 4, 32)
    u64 = w.add(INT, "unsigned long long", 8, 64)
    pointer = w.add(POINTER, "", u32)
    grid = w.add(ARRAY, "", 0, w.add(ARRAY, "", 0, u32, u32, 3), u32, 2)
    tail = w.add(ARRAY, "", 0, u64, u32, 0)
    inner = struct(w, "timespec", 16, ("tv_sec", u64, 0), ("tv_nsec", u64, 8))
    named = struct(w, "", 8, ("low", u32, 0), ("high", u32, 4))
    choice = struct(w, "", 8, ("value", u64, 0), ("halves", named, 0), kind=UNION)
    whole = struct(
        w, "thing", 80, ("at", inner, 0), ("", choice, 16), ("p", pointer, 24),
        ("grid", grid, 32), ("data", tail, 56),
    )  # fmt: skip
    assert words(w, whole) == [
        "0 struct at",
        "16 u:4 halves.low",
        "16 u:8 value",
        "20 u:4 halves.high",
        "24 ptr:8 p",
        "32 u[]:24 grid",
        "56 u[] data",
    ]


def test_bit_fields_have_bits() -> None:
    w = BtfWriter()
    u16 = w.add(INT, "unsigned short", 2, 16)
    found = w.add(STRUCT, "tcphdr", 4, w.name("doff"), u16, 4 << 24 | 12, parts=1, flag=True)
    assert words(w, found) == ["1.4 bits:4 doff"]


@pytest.mark.parametrize(
    "name", ["reserved", "__reserved2", "pad", "_pad1", "__spare3", "resv", "sc_unused", "res1"]
)
def test_what_fills_space_is_no_field(name: str) -> None:
    w = BtfWriter()
    u32 = w.add(INT, "unsigned int", 4, 32)
    found = struct(w, "thing", 8, ("flags", u32, 0), (name, u32, 4))
    assert words(w, found) == ["0 u:4 flags"]


@pytest.mark.parametrize("name", ["result", "resolve", "padlock", "address", "reservation"])
def test_names_that_only_look_like_filling(name: str) -> None:
    w = BtfWriter()
    u32 = w.add(INT, "unsigned int", 4, 32)
    assert words(w, struct(w, "thing", 4, (name, u32, 0))) == [f"0 u:4 {name}"]


def test_a_type_without_end_is_an_image_error() -> None:
    w = BtfWriter()
    found = struct(w, "", 8, ("", 1, 0))
    btf = Btf.parse(w.bytes())
    with pytest.raises(ImageError, match="contains itself"):
        layout(btf, btf.type(found))


def test_a_type_with_too_many_fields_is_an_image_error() -> None:
    w = BtfWriter()
    u32 = w.add(INT, "unsigned int", 4, 32)
    row = struct(w, "", 4, *((f"f{i}", u32, 0) for i in range(100)))
    found = struct(w, "wide", 4, *(("", row, 0) for _ in range(50)))
    btf = Btf.parse(w.bytes())
    with pytest.raises(ImageError, match="more than 4096 fields"):
        layout(btf, btf.type(found))


def test_contradictions() -> None:
    one = Layout(8, (Field("a", 0, 4, "u"), Field("data", 32, 0, "u[]")))
    assert one.contradicts(one) == ""
    assert one.contradicts(Layout(16, one.fields)) == "8 and 16 bytes"
    longer = Layout(8, (Field("a", 0, 8, "u"),))
    assert one.contradicts(longer) == "0 u:4 a and 0 u:8 a"
    assert one.contradicts(Layout(8, (Field("a", 32, 4, "u"),))) == "0 u:4 a and 4 u:4 a"
    # the kernel has another name for it, or gives an array a length of its own
    assert one.contradicts(Layout(8, (Field("b", 0, 8, "u"), Field("data", 32, 4, "u[]")))) == ""
