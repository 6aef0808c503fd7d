"""Structs that grow: which sizes are tried, and what they hold."""

from __future__ import annotations

from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces import structs
from hostabi.syscalls.table import C

BY_CALL = {struct.call: struct for struct in structs.STRUCTS}


def test_every_version_and_both_sides_of_it_are_tried() -> None:
    sizes = BY_CALL["clone3"].sizes()
    assert {56, 64, 80, 88, 96, 4096, 4104} <= set(sizes)
    keys = structs.SURFACE.probes.keys()
    assert {f"clone3.{size}" for size in sizes} <= keys
    assert {"clone3.96.last", "clone3.4104.last"} <= keys
    assert "clone3.64.last" not in keys


def test_the_last_byte_is_the_last_one() -> None:
    struct = BY_CALL["sched_setattr"]
    plain, last = struct.content(64), struct.content(64, last=True)
    assert len(plain) == len(last) == 64
    assert [at for at in range(64) if plain[at] != last[at]] == [63]
    assert int.from_bytes(plain[:4], "little") == 64


def test_too_small_a_struct_has_the_bytes_that_a_kernel_may_read() -> None:
    struct = BY_CALL["perf_event_open"]
    content = struct.content(56)
    assert len(content) == C.PERF_ATTR_SIZE_VER0
    assert int.from_bytes(content[4:8], "little") == 56


def test_a_call_that_is_not_there_is_told_once() -> None:
    facts = [
        Fact("listns.24", "ENOSYS"),
        Fact("listns.32", "ENOSYS"),
        Fact("listns.40.last", "ENOSYS"),
        Fact("openat2.16", "EINVAL"),
        Fact("openat2.24", keys.OK),
        Fact("bpf.BPF_MAP_CREATE.40", "EPERM"),
        Fact("bpf.BPF_MAP_CREATE.48", "EPERM"),
    ]
    told = [fact.value for fact in structs.determined(facts)]
    assert told == [None, "ENOSYS", None, "EINVAL", keys.OK, None, "EPERM"]
