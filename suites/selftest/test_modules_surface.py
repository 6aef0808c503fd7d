"""The surface of modules and their aliases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from hostabi.diff.compare import by_key
from hostabi.errors import HostabiError
from hostabi.kernels.modinfo import ModuleInfo
from hostabi.kernels.static import Static
from hostabi.model import Kind
from hostabi.surfaces.modules import SURFACE, facts, is_device_alias
from hostabi.surfaces.source import Source


def named(*modules: ModuleInfo) -> dict[str, ModuleInfo]:
    return {module.name: module for module in modules}


def test_modules_and_what_is_built_in() -> None:
    found = by_key(facts(named(ModuleInfo("overlay", "kernel/fs/overlay.ko"), ModuleInfo("x", ""))))
    assert {key: fact.value for key, fact in found.items()} == {"overlay": "module", "x": "builtin"}
    assert found["overlay"].kind is Kind.DEFAULT
    assert found["overlay"].detail == "kernel/fs/overlay.ko"


def test_aliases_that_software_asks_for() -> None:
    aes = ModuleInfo("aes", "a.ko", aliases=("crypto-aes", "aes", "cpu:type:x86,ven*"))
    fuse = ModuleInfo("fuse", "f.ko", aliases=("fs-fuse", "devname:fuse", "char-major-10-229"))
    other = ModuleInfo("aes_ni", "n.ko", aliases=("crypto-aes", "aes", "pci:v00008086d*"))
    found = by_key(facts(named(aes, fuse, other)))
    assert [key for key in found if key.startswith("alias:")] == [
        "alias:char-major-10-229",
        "alias:crypto-aes",
        "alias:devname:fuse",
        "alias:fs-fuse",
    ]
    assert found["alias:crypto-aes"].value == "ok"
    assert found["alias:crypto-aes"].detail == "aes, aes_ni"


@pytest.mark.parametrize(
    ("alias", "device"),
    [
        ("acpi*:PNP0C0A:*", True),
        ("dmi*:svnDell*:", True),
        ("virtio:d00000002v*", True),
        ("net-pf-16-proto-16-family-nlctrl", False),
        ("devname:net/tun", False),
        ("nft-expr-2-masq", False),
    ],
)
def test_aliases_of_devices(alias: str, device: bool) -> None:
    assert is_device_alias(alias) is device


def test_a_build_without_modules_is_no_build_that_lost_them() -> None:
    nothing = Source(None, cast(Static, SimpleNamespace(build=SimpleNamespace(modules=None))))
    assert not SURFACE.possible(nothing)
    assert not SURFACE.possible(Source(None, None))
    empty = SimpleNamespace(build=SimpleNamespace(modules="x"), modules={})
    with pytest.raises(HostabiError, match="no modules are known"):
        SURFACE.capture(Source(None, cast(Static, empty)))
