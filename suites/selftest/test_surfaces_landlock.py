"""Landlock: every right of the headers is asked for, and tried."""

from __future__ import annotations

import errno

import pytest

from hostabi.agent.program import End, Ran
from hostabi.surfaces import landlock
from hostabi.surfaces.probing import outcome
from hostabi.syscalls.table import constants

PROBES = landlock.SURFACE.probes


@pytest.mark.parametrize("prefix", ["ACCESS_FS_", "ACCESS_NET_", "SCOPE_"])
def test_every_right_is_asked_for_and_tried(prefix: str) -> None:
    names = {name.removeprefix("LANDLOCK_") for name in constants(f"LANDLOCK_{prefix}")}
    assert names <= set(PROBES)
    assert {f"{name}.denied" for name in names} <= set(PROBES)


def test_errata_are_told_one_by_one() -> None:
    probe = PROBES["errata.2"]
    for answer, told in ((0b10, True), (0b1101, False)):
        values = [answer] * len(probe.built.program.calls)
        assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] is told


def test_where_the_right_is_not_known_nothing_is_tried() -> None:
    probe = PROBES["ACCESS_FS_TRUNCATE.denied"]
    values = [0] * len(probe.built.program.calls)
    (ruleset,) = (ref.call for ref in probe.given)
    assert probe.built.steps[ruleset].name == "landlock_create_ruleset"
    assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] == "ok"
    values[ruleset] = -errno.EINVAL
    assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] is None


def test_a_version_has_all_that_those_before_it_have() -> None:
    for number, told in ((6, True), (7, True), (8, False)):
        probe = PROBES[f"version.{number}"]
        values = [7] * len(probe.built.program.calls)
        assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] is told
