"""Errnos by rules that all calls share: what is asked, and with which arguments."""

from __future__ import annotations

from hostabi.model import Fact
from hostabi.surfaces import errnos
from hostabi.syscalls import table, types
from hostabi.syscalls.descriptions.groups import all_descriptions
from hostabi.syscalls.table import C

PROBES = errnos.SURFACE.parts[0].probes
PRIVILEGED = errnos.SURFACE.parts[1].probes


def arguments(key):
    probe = PROBES[key]
    return probe.built.steps[probe.ref.call].values


def test_every_argument_that_a_rule_speaks_of_is_asked():
    asked = {key for key in PROBES if key.startswith("openat2#")}
    assert asked == {
        "openat2#fd:dfd",
        "openat2#pointer:filename",
        "openat2#pointer:how",
        "openat2#flags:how.flags",
        "openat2#flags:how.flags:high",
        "openat2#flags:how.resolve",
        "openat2#flags:how.resolve:high",
        "openat2#size:how:small",
        "openat2#size:how:zeros",
        "openat2#size:how:tail",
    }


def test_one_argument_is_wrong_and_the_others_are_not():
    assert arguments("openat2#fd:dfd")[0] == errnos.NOT_OPEN
    assert arguments("openat2#pointer:filename")[1] == errnos.NOWHERE
    assert arguments("openat2#pointer:filename")[0] == C.AT_FDCWD
    flags = arguments("memfd_create#flags:flags")[1]
    usual = C.MFD_ALLOW_SEALING
    assert flags & ~usual
    assert flags & ~usual not in table.constants("MFD_").values()


def test_what_is_behind_a_larger_struct_is_zero_or_not():
    for word, last in (("zeros", 0), ("tail", 0x80)):
        probe = PROBES[f"openat2#size:how:{word}"]
        _, _, how, size = probe.built.steps[probe.ref.call].values
        raw = probe.built.program.data[how.offset : how.offset + size]
        assert size > how.size == types.size("struct open_how")
        assert raw[how.size : -8] == bytes(size - how.size - 8)
        assert set(raw[-8:]) == {last}


def test_what_works_has_a_program_of_its_own():
    """A map that one question froze is frozen for the next, and a message taken is gone."""
    zeros = {key for key in PROBES if key.endswith(":zeros")}
    assert len(zeros) > 15
    for key in (*zeros, "mq_timedreceive#pointer:u_msg_prio", "accept#pointer:upeer_addrlen"):
        assert PROBES[key].questions == (PROBES[key].ref,)


def test_what_has_no_least_size_is_not_asked_for_less():
    sizes = {key for key in PROBES if key.startswith("bpf.PROG_LOAD#size")}
    assert sizes == {"bpf.PROG_LOAD#size:uattr:zeros", "bpf.PROG_LOAD#size:uattr:tail"}


def test_a_file_to_be_executed_may_be():
    """Else it is said that it may not, by kernels that open it before they read arguments."""
    probe = PROBES["execve#pointer:argv"]
    name, argv, _ = arguments("execve#pointer:argv")
    made = [probe.built.steps[ref.call] for ref in probe.given]
    assert [step.name for step in made] == ["mknodat"]
    assert made[0].values[2] == C.S_IFREG | 0o755
    assert probe.built.program.data[name.offset :].startswith(b"n1\0")
    assert argv == errnos.NOWHERE


def test_a_request_of_a_multiplexer_is_a_call_of_its_own():
    assert "fcntl.F_GETLK#pointer:arg" in PROBES
    assert "openat.create#fd:dfd" not in PROBES


def test_all_calls_are_subjects_but_those_that_end_a_program():
    calls = {each.call for each in errnos.subjects().values()}
    assert {each.call for each in all_descriptions()} - calls == {
        "exit",
        "exit_group",
        "wait4",
        "waitid",
    }


def test_what_a_call_needs_is_no_answer_of_its_own():
    probe = PROBES["landlock_add_rule#fd:ruleset_fd"]
    assert [probe.built.steps[ref.call].name for ref in probe.given] == [
        "landlock_create_ruleset",
        "mkdirat",
        "openat",
    ]
    assert probe.needs == ()


def test_privileged_calls_are_asked_first_hand():
    assert "fsopen#privilege" in PRIVILEGED
    assert "fsmount#privilege" not in PRIVILEGED  # it takes what fsopen made


def test_a_call_that_is_not_there_is_told_once():
    facts = [
        Fact("listns#flags:flags", "ENOSYS"),
        Fact("listns#pointer:req", "ENOSYS"),
        Fact("openat#fd:dfd", "EBADF"),
    ]
    assert [fact.value for fact in errnos.determined(facts)] == ["ENOSYS", None, "EBADF"]
