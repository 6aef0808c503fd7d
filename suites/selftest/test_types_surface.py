"""The surface of types and constants, from headers and from an image alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from kernelfakes import BtfWriter

from hostabi.diff import keys
from hostabi.diff.compare import by_key, compare
from hostabi.errors import HostabiError, ImageError, PackageError
from hostabi.kernels.btf import Btf
from hostabi.kernels.layout import Field, Layout
from hostabi.kernels.static import Static
from hostabi.kernels.uapi import Uapi
from hostabi.model import Capture, Certainty, Fact, Kind, Provenance, Variant
from hostabi.surfaces import types
from hostabi.surfaces.source import Source
from hostabi.surfaces.type_roots import agreed

HOW = Layout(16, (Field("flags", 0, 8, "u"), Field("mode", 64, 8, "u")))


def declared(**more: object) -> Uapi:
    parts: dict[str, object] = {
        "types": {"struct open_how": HOW},
        "enums": {"enum state": {"GOOD": 1, "BAD": 2, "STATE_MAX": 3, "__STATE_PRIVATE": 9}},
        "constants": {"MFD_CLOEXEC": 1},
        "derived": frozenset(),
    }
    parts |= more
    names = [name for part in ("types", "enums", "constants") for name in cast(dict, parts[part])]
    places = dict.fromkeys(names, "linux/x.h") | cast(dict, more.get("places", {}))
    return Uapi(package="p", left_out=(), **(parts | {"places": places}))  # type: ignore[arg-type]


def image(size: int = 16, name: str = "mode", *, alike: bool = True) -> Btf:
    """BTF with a struct open_how, and an enum state."""
    w = BtfWriter()
    u64 = w.add(1, "unsigned long long", 8, 64)
    for offset in (64,) if alike else (64, 128):
        fields = (w.name("flags"), u64, 0, w.name(name), u64, offset)
        w.add(4, "open_how", size, *fields, parts=2)
    w.add(6, "state", 4, w.name("GOOD"), 1, w.name("BAD"), 2, w.name("STATE_MAX"), 3, parts=3)
    return Btf.parse(w.bytes())


def test_layouts_sizes_and_values() -> None:
    facts = by_key(types.declared(declared(), None))
    assert {key: fact.value for key, fact in facts.items()} == {
        "struct open_how": ["0 u:8 flags", "8 u:8 mode"],
        "struct open_how#size": 16,
        "enum state": ["GOOD = 1", "BAD = 2"],
        "MFD_CLOEXEC": 1,
    }
    assert facts["struct open_how"].kind is Kind.MEMBERS
    assert {fact.how for fact in facts.values()} == {keys.HEADERS}


def test_an_image_that_agrees_is_a_second_witness() -> None:
    fact = by_key(types.declared(declared(), image()))["struct open_how"]
    assert fact.how == "headers+btf"
    assert fact.certainty is Certainty.DERIVED


def test_an_image_that_contradicts_is_told() -> None:
    facts = by_key(types.declared(declared(), image(size=24)))
    assert facts["struct open_how"].certainty is Certainty.CONTRADICTED
    assert "16 and 24 bytes" in facts["struct open_how"].detail
    assert facts["struct open_how#size"].certainty is Certainty.CONTRADICTED


def test_one_type_of_that_name_that_agrees_is_enough() -> None:
    fact = by_key(types.declared(declared(), image(alike=False)))["struct open_how"]
    assert fact.certainty is Certainty.DERIVED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("O_CLOEXEC", Kind.VALUE),
        ("SEEK_END", Kind.DEFAULT),
        ("IFLA_MAX_MTU", Kind.VALUE),
        ("__NR_openat2", Kind.VALUE),
        ("O_TMPFILE", Kind.DEFAULT),
        ("FUSE_KERNEL_VERSION", Kind.DEFAULT),
        ("CAP_COUNT", Kind.DEFAULT),
        ("AT_VECTOR_SIZE_ARCH", Kind.DEFAULT),
        ("TCP_RESERVED_BITS", Kind.DEFAULT),
        ("IFLA_MAX", None),
        ("__IFLA_MAX", None),
    ],
)
def test_which_constants_move(name: str, kind: Kind | None) -> None:
    content = declared(constants={name: 1}, derived=frozenset({"O_TMPFILE", "IFLA_MAX"}))
    fact = by_key(types.declared(content, None)).get(name)
    assert (fact.kind if fact else None) == kind


def test_constants_of_single_devices_are_left_out() -> None:
    content = declared(constants={"KEY_A": 30}, places={"KEY_A": "linux/input-event-codes.h"})
    assert "KEY_A" not in by_key(types.declared(content, None))


def test_a_name_in_the_middle_of_an_enumeration_is_no_end() -> None:
    values = {"A": 1, "SET_COUNT": 2, "B": 3, "OP_LAST": 4, "FLAG": 1 << 31}
    fact = by_key(types.declared(declared(enums={"enum e": values}), None))["enum e"]
    assert fact.value == ["A = 1", "SET_COUNT = 2", "B = 3", f"FLAG = {1 << 31}"]


def without_headers(btf: Btf | None) -> Source:
    class FakeStatic:
        build = SimpleNamespace(name="6.1.9-1")

        @property
        def uapi(self) -> Uapi:
            raise PackageError("6.1.9-1: no index lists them")

        @property
        def btf(self) -> Btf:
            if btf is None:
                raise ImageError("no .BTF section")
            return btf

    return Source(None, cast(Static, FakeStatic()))


def test_without_headers_the_image_tells_and_says_that_it_is_not_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roots = ("enum state", "struct gone", "struct open_how")
    monkeypatch.setattr(types, "roots", lambda: roots)
    facts = by_key(types.SURFACE.capture(without_headers(image())))
    assert list(facts) == [keys.INCOMPLETE, "enum state", "struct open_how", "struct open_how#size"]
    assert facts[keys.INCOMPLETE].detail == "no index lists them"
    assert facts["struct open_how"].how == keys.IMAGE_TYPES
    # two layouts of one name: which of them is user space's cannot be told
    assert "struct open_how" not in by_key(types.from_image(image(alike=False), ""))


def test_without_headers_and_types_it_is_an_error() -> None:
    with pytest.raises(PackageError, match="no index"):
        types.SURFACE.capture(without_headers(None))
    assert not types.SURFACE.possible(Source(None, None))
    with pytest.raises(HostabiError, match="no build"):
        types.SURFACE.capture(Source(None, None))


def test_what_is_absent_from_an_image_s_types_is_unknown() -> None:
    def capture(facts: list[Fact]) -> Capture:
        return Capture("b", "1", "1", Variant(), Provenance("test"), {"types": facts})

    whole = capture([Fact("A", 1), Fact("B", 1)])
    part = capture([Fact(keys.INCOMPLETE, None), Fact("B", 2), Fact("C", 1)])
    assert [delta.key for delta in compare(whole, part)] == ["B", "C"]
    assert [delta.key for delta in compare(part, whole)] == ["B", "C"]
    assert compare(part, capture([Fact("B", 2), Fact("C", 1), Fact("D", 1)])) == []


def test_agreed_types_are_those_to_look_for() -> None:
    content = declared(enums={"enum state": {"GOOD": 1, "BAD": 2, "STATE_MAX": 3}})
    assert agreed(content, image()) == {"struct open_how": True, "enum state": True}
    assert agreed(content, image(name="m"))["struct open_how"] is False
    assert agreed(declared(types={}), image()) == {"enum state": False}


def test_shipped_names_are_sorted_and_types() -> None:
    names = types.roots()
    assert list(names) == sorted(set(names))
    assert {name.split()[0] for name in names} == {"struct", "union", "enum"}
    assert {"struct open_how", "struct clone_args", "enum bpf_cmd"} <= set(names)
