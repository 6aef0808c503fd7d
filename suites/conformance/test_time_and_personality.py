"""config-linux.md, "Offset for Time Namespace" and "Personality"."""

from __future__ import annotations

import pytest

from hostabi.errors import CallError
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, Personality, TimeOffset
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.table import C

SECOND = 1000
OFFSETS = {
    "monotonic": TimeOffset(secs=86_400, nanosecs=250_000_000),
    "boottime": TimeOffset(secs=604_800),
}
CLOCKS = {"monotonic": C.CLOCK_MONOTONIC, "boottime": C.CLOCK_BOOTTIME}
QUESTIONS = (actions.REPORT, *(actions.clock(number) for number in CLOCKS.values()))


@pytest.fixture
def shifted(runtime: Runtime, since) -> Config:
    """A container with both clocks moved, where kernel and runtime have time namespaces."""
    since(1, 1)
    try:
        runtime.agent.read("/proc/self/timens_offsets")
    except CallError:
        unsupported("this kernel has no time namespaces")
    return bundle.linux(bundle.namespace(bundle.base(), "time"), time_offsets=OFFSETS)


@pytest.mark.proves("linux.namespaces.type:time")
def test_time_namespace_is_new(shifted: Config, look, outside) -> None:
    """Namespaces, "time: the container will be able to have its own clocks"; not listed, it is
    inherited."""
    assert look(shifted, *QUESTIONS).report.namespaces["time"] != outside.namespaces["time"]
    assert (
        look(bundle.base(), actions.REPORT).report.namespaces["time"] == outside.namespaces["time"]
    )


@pytest.mark.parametrize("name", OFFSETS)
@pytest.mark.proves("linux.timeOffsets.{name}")
def test_offsets(name: str, shifted: Config, look, runtime: Runtime) -> None:
    """ "secs" and "nanosecs": what the container's clock is ahead of the guest's."""
    answers = look(shifted, *QUESTIONS)
    rows = [line.split() for line in answers.report.timens_offsets.splitlines()]
    wanted = OFFSETS[name]
    assert [name, str(wanted.secs), str(wanted.nanosecs)] in rows
    inside = answers.deed(actions.clock(CLOCKS[name])).value
    now = runtime.probe(*actions.clock(CLOCKS[name]).words).answers.deeds[0].value
    ahead = wanted.secs * SECOND + wanted.nanosecs // 1_000_000
    # The guest's clock was read later.
    assert ahead - 600 * SECOND < inside - now <= ahead


@pytest.mark.parametrize(
    ("domain", "number", "system"),
    [("LINUX32", C.PER_LINUX32, "i686"), ("LINUX", C.PER_LINUX, "x86_64")],
)
@pytest.mark.proves("linux.personality", unless=("x86_64",))
def test_personality(domain: str, number: int, system: str, look) -> None:
    """ "domain": personality(2), which is what makes uname(2) tell another machine."""
    config = bundle.linux(bundle.base(), personality=Personality(domain=domain))
    report = look(config, actions.REPORT).report
    assert (report.personality, report.machine) == (number, system)


@pytest.mark.proves("linux.personality")
def test_unknown_personality(refused) -> None:
    """config.md, "Valid values": the specification names two domains."""
    config = bundle.linux(bundle.base(), personality=Personality(domain="HOSTABI"))
    refused(config, actions.REPORT)
