"""Capabilities: none is left out, and what each opens is asked without it and with it alone."""

from __future__ import annotations

import struct

from hostabi.agent.program import End, Ran
from hostabi.surfaces import capabilities
from hostabi.surfaces.probing import Probe, outcome
from hostabi.syscalls.table import C, constants

EVERYBODY, GATES, OTHERS = (part.probes for part in capabilities.SURFACE.parts)


def in_effect(probe: Probe) -> int:
    """The capabilities with which a gate is tried."""
    program = probe.built.program
    step = probe.built.steps[probe.needs[-1].call]
    assert step.name == "capset"
    offset = step.values[1].offset
    low, _, _, high, _, _ = struct.unpack_from("<6I", program.data, offset)
    return low | high << 32


def test_none_is_left_out() -> None:
    named = set(constants("CAP_")) - {"CAP_LAST_CAP"}
    assert set(capabilities.names()) == named
    assert named <= set(EVERYBODY)


def test_capabilities_of_both_words() -> None:
    for name, content in (("CAP_KILL", (32, 0)), ("CAP_BPF", (0, 128))):
        probe = EVERYBODY[f"{name}#effective"]
        raw = struct.pack("<6I", content[0], 0, 0, content[1], 0, 0)
        values = [0] * len(probe.built.program.calls)
        for written, told in ((raw, True), (bytes(24), False)):
            outputs = tuple(written.ljust(o.length, b"\0") for o in probe.built.program.outputs)
            assert outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0] is told


def test_a_gate_is_tried_with_all_others_and_with_the_one_alone() -> None:
    every = (1 << C.CAP_LAST_CAP + 1) - 1
    for key, probe in {**GATES, **OTHERS}.items():
        _, way, name = key.rsplit(".", 2)
        bit = 1 << getattr(C, name)
        assert in_effect(probe) == (bit if way == "with" else every & ~bit)


def test_what_takes_another_user_is_not_asked_where_there_is_none() -> None:
    assert {key.partition(".")[0] for key in OTHERS} >= {"chown", "setresuid"}
    assert not set(GATES) & set(OTHERS)
