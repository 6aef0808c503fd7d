"""BPF: what is asked is well formed and whole, and answers are read right."""

from __future__ import annotations

import struct

import pytest

from hostabi.agent.program import End, Pointer, Ran
from hostabi.diff import keys
from hostabi.kernels.btf import Btf
from hostabi.model import Fact, Kind, Value
from hostabi.surfaces import bpf, bpf_btf, bpf_helpers, bpf_kernel, bpf_maps, bpf_types
from hostabi.surfaces.bpf_calls import MARK, place
from hostabi.surfaces.bpf_instructions import (
    FP,
    R0,
    R1,
    SIZE,
    Wide,
    assembled,
    atomic,
    call,
    leave,
    load,
    put,
)
from hostabi.surfaces.probing import Probe, Questions, outcome
from hostabi.syscalls import table
from hostabi.syscalls.table import C

EVERYBODY, TOKENS, MACHINE = (part.probes for part in bpf.SURFACE.parts)


def answer(probe: Probe, returned: dict[int, int], written: bytes = b"") -> Value:
    """What the probe says when calls return these numbers, all others 3; and what its own wrote."""
    program = probe.built.program
    values = [returned.get(index, 3) for index in range(len(program.calls))]
    outputs = tuple(
        written.ljust(output.length, b"\0")
        if output.call == probe.ref.call
        else bytes(output.length)
        for output in program.outputs
    )
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_every_type_of_the_headers_is_tried() -> None:
    assert {f"prog.{kind}" for kind in bpf_types.TYPES} <= MACHINE.keys()
    assert {f"map.{kind}" for kind in bpf_maps.TYPES} <= MACHINE.keys()
    kinds = {name.removeprefix("BTF_KIND_") for name in table.constants("BTF_KIND_")}
    asked = {key.split(".")[1] for key in MACHINE if key.startswith("btf.")}
    assert kinds - {"UNKN", "MAX"} <= asked


def test_every_attach_type_of_control_groups_is_tried() -> None:
    others = ("BPF_CGROUP_ITER_",)
    names = {n for n in table.constants("BPF_CGROUP_") if not n.startswith(others)}
    assert names == set(bpf_types.CGROUP)
    assert {f"cgroup.{name}{more}" for name in names for more in ("", ".link")} <= MACHINE.keys()


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        (put(R0, 1), "b700000001000000"),
        (put(R0, -1), "b7000000ffffffff"),
        (leave()[0], "9500000000000000"),
        (call(5), "8500000005000000"),
        (call(1, C.BPF_PSEUDO_CALL), "8510000001000000"),
        (load(R0, FP, -8, C.BPF_DW), "79a0f8ff00000000"),
        (atomic(C.BPF_CMPXCHG, C.BPF_DW), "db1af8fff1000000"),
    ],
)
def test_instructions_are_as_the_kernel_reads_them(code: bytes, raw: str) -> None:
    assert code.hex() == raw


def test_a_wide_number_takes_two_places_and_is_put_in_its_half() -> None:
    q = Questions()
    slot = assembled(q, [put(R0, 0), Wide(R1, C.BPF_PSEUDO_MAP_FD, q.string("x"), 7)])
    q.call("getpid")
    assert slot.size == 3 * SIZE
    assert [store.offset - slot.offset for store in slot.stores] == [SIZE + 4]
    assert isinstance(slot.stores[0].value, Pointer)
    raw = q.build().program.data[slot.offset :][: slot.size]
    assert raw[SIZE:] == bytes.fromhex("18110000000000000000000007000000")


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ("map_flags", (16, 4)),
        ("map_name", (28, 16)),
        ("insns", (8, 8)),
        ("replace_bpf_fd", (16, 4)),
        ("test.retval", (4, 4)),
        ("query.prog_cnt", (24, 4)),
        ("link_create.kprobe_multi.syms", (24, 8)),
    ],
)
def test_a_field_is_found_by_its_name(field: str, where: tuple[int, int]) -> None:
    assert place(field) == where


def test_types_can_be_read_back() -> None:
    lock = bpf_btf.Described("STRUCT", "lock", 4, 1, rest=("val", 1, 0))
    read = Btf.parse(bpf_btf.btf(bpf_btf.INT, lock))
    assert read.name(1) == "int"
    found = read.struct("lock")
    assert found is not None
    assert found.size == 4


def test_a_helper_is_there_where_what_it_is_given_is_looked_at() -> None:
    probe = bpf_helpers.one("XDP", ["map_lookup_elem", "ktime_get_ns", "tail_call", "loop"])
    assert probe.kind is Kind.MEMBERS
    loads = [index for index, step in enumerate(probe.built.steps) if step.name == "bpf"][1:]
    said = dict(zip(loads, (-C.EACCES, 4, -C.EINVAL, -C.EPERM), strict=True))
    assert answer(probe, said) == ["ktime_get_ns", "map_lookup_elem"]


def test_helpers_that_another_kernel_has_besides_show_nothing() -> None:
    fact = Fact("helpers.XDP", ["map_lookup_elem"], Kind.MEMBERS)
    probe = bpf_helpers.one("XDP", fact.value if isinstance(fact.value, list) else [])
    assert len([step for step in probe.built.steps if step.name == "bpf"]) == 2
    assert bpf.SURFACE.reproducer(fact) is None


def test_a_program_that_returns_another_number_does_not_work() -> None:
    probe = MACHINE["instruction.sdiv"]
    for number, told in ((-3, keys.OK), (3, "returns 3")):
        written = struct.pack("<i", number)
        assert answer(probe, {probe.ref.call: 0}, written) == told


def test_a_query_that_writes_too_far_is_seen() -> None:
    probe = MACHINE["cgroup.query.until.prog_cnt"]
    outputs = probe.built.program.outputs
    rest = next(output.length for output in outputs if output.call == probe.ref.call)
    marks = MARK.to_bytes(4, "little") * (rest // 4)
    assert answer(probe, {}, marks) == keys.OK
    revision = place("query.revision")[0] - sum(place("query.prog_cnt"))
    spoilt = marks[:revision] + struct.pack("<Q", 3) + marks[revision + 8 :]
    assert answer(probe, {}, spoilt) == "writes beyond"


def test_nothing_is_said_about_what_is_not_there() -> None:
    facts = [
        Fact("map.RHASH", "EINVAL"),
        Fact("map.RHASH.BPF_MAP_UPDATE_ELEM", "EINVAL"),
        Fact("map.HASH", "ok"),
        Fact("map.HASH.BPF_MAP_UPDATE_ELEM", "ENOTSUPP"),
        Fact("map.HASH.BPF_MAP_UPDATE_ELEM.BPF_EXIST", "EINVAL"),
        Fact("info.link", "ok"),
        Fact("info.link#size", 64),
        Fact("command.X#userns", "EPERM"),
        Fact("command.X.more", "ok"),
        Fact("command.X.more#userns", "EPERM"),
    ]
    told = {fact.key: fact.value for fact in bpf.of_what_is_there(facts)}
    assert [key for key, value in told.items() if value is None] == [
        "map.RHASH.BPF_MAP_UPDATE_ELEM",
        "map.HASH.BPF_MAP_UPDATE_ELEM.BPF_EXIST",
        "command.X.more#userns",
    ]


def test_the_switch_is_put_back_as_it_was() -> None:
    built = MACHINE["user.prog.SOCKET_FILTER"].built
    read = next(i for i, step in enumerate(built.steps) if step.name == "pread64")
    last = built.steps[-1]
    assert last.name == "pwrite64"
    assert last.values[:2] == built.steps[read].values[:2]


def test_groups_are_left_before_they_are_removed() -> None:
    for key in ("cgroup.BPF_CGROUP_DEVICE", "cgroup.rules.multi", "cgroup.query#prog_cnt"):
        names = [step.name for step in MACHINE[key].built.steps]
        made, removed = names.count("mkdir"), names.count("rmdir")
        assert made == removed
        assert names[-removed - 1 :] == ["close"] + ["rmdir"] * removed


def test_of_the_kernel_what_its_types_name_is_asked() -> None:
    own = (bpf_btf.INT, bpf_btf.NOTHING, bpf_btf.Described("FUNC", "bpf_iter_task", 2))
    (probe,) = bpf_kernel.of_functions(Btf.parse(bpf_btf.btf(*own)))
    assert probe.key == "iterator.task"
    assert answer(probe, {probe.needs[-2].call: -C.EINVAL}) == "EINVAL"
