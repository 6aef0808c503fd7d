"""Descriptions of syscalls, and the programs made of them; without a kernel."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from hostabi.agent.program import Sandbox
from hostabi.errors import InputError
from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Script
from hostabi.syscalls.descriptions.arguments import fd, flags
from hostabi.syscalls.descriptions.choices import Choices
from hostabi.syscalls.descriptions.groups import all_descriptions, group_of, grouped
from hostabi.syscalls.descriptions.model import Kind, Role, describe
from hostabi.syscalls.descriptions.programs import RECORD, Composer, allowed, programs
from hostabi.syscalls.descriptions.writer import Writer, makers
from hostabi.syscalls.table import C

OWN = Sandbox(
    namespaces=C.CLONE_NEWNS
    | C.CLONE_NEWPID
    | C.CLONE_NEWIPC
    | C.CLONE_NEWUTS
    | C.CLONE_NEWNET
    | C.CLONE_NEWCGROUP
)


COMPOSER = Composer.of((), OWN)


def written(description, raw=b"", *, tame=False):
    script = Script(arena=1 << 17)
    writer = Writer(script, COMPOSER.makers)
    writer.add(description, Choices(raw, tame=tame))
    return script.build(), writer


def test_at_least_180_calls_are_described():
    assert len({each.call for each in all_descriptions()}) >= 180


def test_names_are_unique():
    names = [each.name for each in all_descriptions()]
    assert len(names) == len(set(names))


def test_every_kind_is_made_by_something_and_taken_by_something():
    composer = Composer(all_descriptions(), OWN)
    assert {kind for kind in Kind if kind not in composer.makers} == set()
    assert {kind for kind in Kind if kind not in composer.users} == set()


def test_a_description_has_what_its_call_takes():
    for description in all_descriptions():
        built, writer = written(description, tame=True)
        assert writer.written[-1] is description
        count = len(built.steps[-1].values)
        assert count == len(description.registers) <= 6, description.name
        assert built.steps[-1].name == description.call


def test_any_bytes_make_a_program():
    for description in all_descriptions():
        chance = random.Random(description.name)
        for raw in (b"", *(chance.randbytes(RECORD) for _ in range(5))):
            assert written(description, raw)[0] == written(description, raw)[0]


def test_flags_have_real_names():
    """A beginning that no constant has is a spelling mistake."""

    def prefixes(argument):
        yield from getattr(argument, "of", ())
        for _, value in getattr(argument, "fields", ()):
            yield from () if isinstance(value, int) else prefixes(value)
        if hasattr(argument, "argument"):
            yield from prefixes(argument.argument)

    for description in all_descriptions():
        for argument in description.arguments:
            for prefix in prefixes(argument):
                assert table.constants(prefix), f"{description.name}: {prefix}"


def test_unknown_bits_are_those_that_no_header_names():
    register = flags("flags", "MFD_").registers[0]
    assert register.unknown & 1 << 20
    assert not register.unknown & C.MFD_CLOEXEC
    assert flags("flags", "MFD_", ignored=True).registers[0].unknown == 0


def test_what_a_call_needs_is_made_first():
    accept = next(each for each in all_descriptions() if each.name == "accept4")
    built, _ = written(accept)
    assert [step.name for step in built.steps] == [
        "socket", "socket", "bind", "listen", "connect", "accept4",
    ]  # fmt: skip


def test_a_resource_at_hand_is_used_again_until_it_is_gone():
    make, use, end = (
        describe("dup", makes=Kind.FILE),
        describe("fsync", fd("fd", Kind.FILE)),
        describe("close", fd("fd", Kind.FILE, ends=True)),
    )
    script = Script()
    writer = Writer(script, {Kind.FILE: [make]})
    for each in (use, use, end, use):
        writer.add(each, Choices(b""))
    names = [step.name for step in script.build().steps]
    assert names == ["dup", "fsync", "fsync", "close", "dup", "fsync"]
    assert script.build().steps[2].values == (Ref(0),)


@pytest.mark.parametrize("name", ["fchmod", "fchown", "fcntl.F_SET_RW_HINT"])
def test_what_all_nameless_files_share_is_not_changed(name):
    """Programs that come later would find it changed, on kernels where they share an inode."""
    by_name = {each.name: each for each in all_descriptions()}
    seen = set()
    for seed in range(200):
        script = Script()
        writer = Writer(script, makers(all_descriptions()))
        writer.add(by_name["eventfd2"], Choices(b"", tame=True))
        writer.add(by_name[name], Choices(random.Random(seed).randbytes(RECORD), bold=True))
        value = script.build().steps[-1].values[0]
        seen.add(script.build().steps[value.call].name if isinstance(value, Ref) else value)
    assert "eventfd2" not in seen
    assert len(seen) > 2


def test_what_nothing_makes_becomes_nothing():
    listen = next(each for each in all_descriptions() if each.call == "listen")
    assert any(made.of for made in listen.makes)
    writer = Writer(Script(), {})
    writer.add(listen, Choices(b""))
    assert not any(writer.held.values())


def test_nothing_odd_leaves_a_resource():
    odd = bytes([255, 0])
    script = Script()
    writer = Writer(script, {})
    writer.add(describe("dup", fd("fildes", Kind.FILE), makes=Kind.EVENT), Choices(odd))
    assert writer.held.get(Kind.EVENT) is None


def test_a_call_that_leaves_something_behind_needs_namespaces_of_its_own():
    hostname = next(each for each in all_descriptions() if each.call == "sethostname")
    assert not allowed(hostname, Sandbox())
    assert allowed(hostname, OWN)
    assert hostname not in Composer.of(("namespaces",)).descriptions
    with pytest.raises(InputError, match="ipc"):
        Composer.of(("ipc",))


def test_groups_are_chosen_by_name():
    assert {group_of(each) for each in grouped(("pipes", "times"))} == {"pipes", "times"}
    assert grouped(()) == all_descriptions()
    with pytest.raises(InputError, match="nothing"):
        grouped(("nothing",))


def test_a_program_without_one_of_its_records_is_a_program():
    chance = random.Random(7)
    for _ in range(10):
        records = [chance.randbytes(RECORD) for _ in range(10)]
        for gone in range(10):
            case = COMPOSER.compose(records[:gone] + records[gone + 1 :])
            for index, step in enumerate(case.built.steps):
                used = [value.call for value in step.values if isinstance(value, Ref)]
                assert all(call < index for call in used)


def test_zeros_are_the_simplest_program():
    composer = Composer.of(("files",), Sandbox())
    case = composer.compose([bytes(RECORD)])
    assert [each.name for each in case.descriptions] == ["openat.create"]


def test_a_program_knows_the_description_of_each_call():
    case = COMPOSER.compose([bytes(range(k, k + RECORD)) for k in range(0, 200, 20)])
    assert [each.call for each in case.descriptions] == [step.name for step in case.built.steps]


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(cases=programs(sandbox=OWN, together=4))
def _draw(seen, cases):
    seen += [case.built for case in cases]


def test_all_calls_are_drawn_about_as_often():
    """A call that hardly ever comes is one in which nobody finds what changed."""
    seen = []
    _draw(seen)
    count = Counter(step.name for built in seen for step in built.steps)
    calls = {each.call for each in all_descriptions() if allowed(each, OWN) and not each.last}
    assert len(seen) == 800
    assert len({call for call in calls if count[call] < 2}) < 5
    assert len({str(built) for built in seen}) > 790


def test_a_program_of_ten_calls_costs_little():
    """Under 5 ms of processor time, what hypothesis takes for itself included."""
    costs = []
    for _ in range(3):  # of which the first also imports and caches, and others may be disturbed
        seen = []
        start = time.process_time()
        _draw(seen)
        costs.append((time.process_time() - start) / sum(len(built.steps) for built in seen))
    assert min(costs) * 10 < 0.005


def test_roles_tell_rules_what_a_register_is():
    openat2 = next(each for each in all_descriptions() if each.name == "openat2.create")
    roles = [(register.name, register.role) for register in openat2.registers]
    assert roles == [
        ("dfd", Role.FOLDER),
        ("filename", Role.POINTER),
        ("how", Role.POINTER),
        ("usize", Role.SIZE),
    ]
