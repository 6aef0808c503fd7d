"""Keyrings: capabilities byte by byte, and types that want other payloads."""

from __future__ import annotations

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Value
from hostabi.surfaces import keyrings
from hostabi.surfaces.probing import outcome

PROBES = keyrings.SURFACE.probes


def told(key: str, answer: int = 0, content: bytes = b"") -> Value:
    """The fact ``key``, where its call returns ``answer`` and writes ``content``."""
    probe = PROBES[key]
    values = [0] * len(probe.built.program.calls)
    values[probe.ref.call] = answer
    outputs = tuple(content.ljust(o.length, b"\0") for o in probe.built.program.outputs)
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_a_capability_is_a_bit_of_its_byte() -> None:
    assert told("KEYCTL_CAPS0_MOVE", 2, b"\x80\x00") is True
    assert told("KEYCTL_CAPS1_NOTIFICATIONS", 2, b"\xff\x03") is False
    assert told("KEYCTL_CAPS1_NOTIFICATIONS", 2, b"\x00\x04") is True


def test_a_type_that_wants_another_payload_is_there() -> None:
    assert told("type.encrypted", -22) == keys.OK
    assert told("type.encrypted", -19) == "ENODEV"
    assert told("type.user.32768", -22) == "EINVAL"


def test_nothing_reaches_the_parent() -> None:
    assert "KEYCTL_SESSION_TO_PARENT" not in PROBES
