"""prctl(2): a setting counts as read back only when it is the one that was set."""

from __future__ import annotations

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Value
from hostabi.surfaces import prctl
from hostabi.surfaces.probing import outcome

PROBES = prctl.SURFACE.probes


def told(key: str, answer: int) -> Value:
    """The fact ``key``, where its call returns ``answer`` and all others work."""
    probe = PROBES[key]
    values = [0] * len(probe.built.program.calls)
    values[probe.ref.call] = answer
    outputs = tuple(bytes(output.length) for output in probe.built.program.outputs)
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_a_setting_is_read_back() -> None:
    assert told("PR_GET_TIMERSLACK", 70000) == keys.OK
    assert told("PR_GET_TIMERSLACK", 50000) == "50000"
    assert told("PR_GET_TIMERSLACK#default", 50000) == "50000"


def test_what_cannot_be_set_is_not_read_back() -> None:
    probe = PROBES["PR_GET_MDWE"]
    values = [0] * len(probe.built.program.calls)
    values[PROBES["PR_SET_MDWE"].ref.call] = -22
    assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] == "EINVAL"


def test_who_may_set_what_no_process_can_have_gets_another_errno() -> None:
    assert told("PR_SET_MM_ARG_START", -22) == keys.OK
    assert told("PR_SET_MM_ARG_START", -1) == "EPERM"
