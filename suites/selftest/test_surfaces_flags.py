"""Flags: every one that the headers name is asked for, once, and answers are read right."""

from __future__ import annotations

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.surfaces import flags
from hostabi.surfaces.flag_names import bits
from hostabi.surfaces.probing import outcome
from hostabi.syscalls.table import constants

ROOT, CONTAINERS = (part.probes for part in flags.SURFACE.parts)
EVERY = ROOT.keys() | CONTAINERS.keys()


def test_no_key_is_asked_in_two_tables() -> None:
    assert not ROOT.keys() & CONTAINERS.keys()


def test_every_flag_that_headers_name_is_asked_for() -> None:
    """A flag that newer headers bring needs no new line here."""
    for call, prefix in (
        ("openat2.resolve", "RESOLVE_"),
        ("open_tree", "OPEN_TREE_"),
        ("fsmount", "FSMOUNT_"),
        ("close_range", "CLOSE_RANGE_"),
        ("eventfd2", "EFD_"),
        ("statmount", "STATMOUNT_"),
        ("pidfd_send_signal", "PIDFD_SIGNAL_"),
    ):
        assert {f"{call}.{prefix}{name}" for name in bits(prefix)} <= EVERY
    advice = {name for name in constants("MADV_") if "POISON" not in name and "SOFT" not in name}
    assert {f"madvise.{name}" for name in advice} <= EVERY
    assert {f"process_madvise.{name}" for name in advice - {"MADV_COLLAPSE"}} <= EVERY


def test_flags_are_single_bits() -> None:
    assert bits("OPEN_TREE_", ("CLONE",)) == {"CLOEXEC": 1 << 19, "NAMESPACE": 2}
    assert "STRICTATIME" in bits("MOUNT_ATTR_")
    assert "_ATIME" not in bits("MOUNT_ATTR_")


def test_a_mask_is_accepted_when_it_is_answered() -> None:
    probe = ROOT["statmount.STATMOUNT_FS_TYPE"]
    program = probe.built.program
    values = (3,) * len(program.calls)
    for told, value in ((0x20, keys.OK), (0x40, "not told")):
        outputs = (told.to_bytes(8, "little"),) * len(program.outputs)
        assert outcome(probe, Ran(End.EXITED, 0, values, outputs))[0] == value
