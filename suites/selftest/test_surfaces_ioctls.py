"""Requests on handles: that each is asked once, and that a bit of PIDFD_GET_INFO is looked at."""

from __future__ import annotations

import errno

from hostabi.agent.program import End, Ran
from hostabi.model import Value
from hostabi.surfaces import ioctls
from hostabi.surfaces.probing import outcome
from hostabi.syscalls.table import C, constants

EVERYBODY, ROOT = (part.probes for part in ioctls.SURFACE.parts)


def told(key: str, mask: int) -> Value:
    """The fact ``key`` where PIDFD_GET_INFO says that it filled in ``mask``."""
    probe = EVERYBODY[key]
    program = probe.built.program
    values = [3] * len(program.calls)
    outputs = tuple(mask.to_bytes(8, "little").ljust(o.length, b"\0") for o in program.outputs)
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_every_bit_of_the_information_is_asked() -> None:
    bits = {name for name in constants("PIDFD_INFO_") if "_SIZE_" not in name}
    assert bits <= set(EVERYBODY)


def test_what_was_not_filled_in_is_not_there() -> None:
    assert told("PIDFD_INFO_EXIT", C.PIDFD_INFO_PID) is False
    assert told("PIDFD_INFO_EXIT", C.PIDFD_INFO_PID | C.PIDFD_INFO_EXIT) is True


def test_a_request_that_is_not_known_is_told_once() -> None:
    forms = [key for key in EVERYBODY if key.startswith(("PIDFD_GET_INFO", "PIDFD_INFO_"))]
    built = EVERYBODY["PIDFD_GET_INFO"].built
    values = [-errno.ENOTTY if step.name == "ioctl" else 3 for step in built.steps]
    ran = Ran(End.EXITED, 0, tuple(values))
    assert [key for key in forms if outcome(EVERYBODY[key], ran)[0]] == ["PIDFD_GET_INFO"]


def test_parts_do_not_ask_for_the_same() -> None:
    assert EVERYBODY
    assert ROOT
    assert not set(EVERYBODY) & set(ROOT)
