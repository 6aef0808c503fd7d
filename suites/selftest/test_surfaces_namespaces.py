"""Namespaces: each type is made and joined in every way, and no two tables ask the same."""

from __future__ import annotations

from hostabi.surfaces import namespaces
from hostabi.surfaces.probing import VIEWS
from hostabi.syscalls.table import C

EVERYBODY, ROOTS, ROOT = (part.probes for part in namespaces.SURFACE.parts)


def test_no_key_is_asked_in_two_tables() -> None:
    assert len(EVERYBODY.keys() | ROOTS.keys() | ROOT.keys()) == sum(
        len(table) for table in (EVERYBODY, ROOTS, ROOT)
    )


def test_every_type_is_made_and_joined() -> None:
    assert namespaces.SURFACE.parts[0].views == VIEWS
    for kind in namespaces.TYPES:
        assert {f"clone3.CLONE_{kind}", f"setns.pidfd.CLONE_{kind}"} <= EVERYBODY.keys()
    assert "clone.CLONE_NEWTIME" not in EVERYBODY


def test_limits_are_set_in_a_user_namespace_only() -> None:
    """The machine's own would stay, and hit what is captured after."""
    for key, probe in ROOT.items():
        if key.startswith("user.max_"):
            assert probe.plain.namespaces & C.CLONE_NEWUSER


def test_maps_are_as_long_as_they_may_be_and_one_line_longer() -> None:
    probe = ROOTS["uid_map.lines.341"]
    text = bytes(probe.built.program.data)
    assert b"339 339 1\0" in text
    assert b"339 339 1\n340 340 1\0" in text
