"""Filters of seccomp(2) as bytes, and that no action is left out."""

from __future__ import annotations

import struct

from hostabi.surfaces import seccomp, seccomp_filters
from hostabi.syscalls.table import C, constants

EVERYBODY, ROOT = (part.probes for part in seccomp.SURFACE.parts)


def test_every_action_is_asked_for_and_tried() -> None:
    of_headers = set(constants("SECCOMP_RET_")) - {
        "SECCOMP_RET_KILL",
        "SECCOMP_RET_ACTION",
        "SECCOMP_RET_ACTION_FULL",
        "SECCOMP_RET_DATA",
    }
    assert {f"SECCOMP_RET_{name}" for name in seccomp.ACTIONS} == of_headers
    assert of_headers <= set(EVERYBODY)
    assert {f"action.{name}" for name in seccomp.ACTIONS} <= set(ROOT)


def test_every_flag_is_tried() -> None:
    assert set(constants("SECCOMP_FILTER_FLAG_")) <= set(EVERYBODY)


def test_a_filter_jumps_over_its_action_for_other_calls() -> None:
    filter_ = seccomp_filters.on_call(39, C.SECCOMP_RET_LOG)
    code, jump_true, jump_false, number = struct.unpack("<HBBI", filter_[1])
    assert (code, number) == (C.BPF_JMP | C.BPF_JEQ | C.BPF_K, 39)
    returned = [struct.unpack("<HBBI", filter_[2 + jump])[3] for jump in (jump_true, jump_false)]
    assert returned == [C.SECCOMP_RET_LOG, C.SECCOMP_RET_ALLOW]


def test_a_long_filter_ends_by_allowing() -> None:
    filter_ = seccomp_filters.allow(4096)
    assert len(filter_) == 4096
    assert filter_[-1] == seccomp_filters.allow()[0]
