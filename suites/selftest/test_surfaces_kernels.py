"""Captures of a real build: the same from boots on different hardware."""

from __future__ import annotations

import pytest

from hostabi.diff.compare import compare
from hostabi.model import Certainty, Variant
from hostabi.packages.context import Packages
from hostabi.runs.capture import take
from hostabi.runs.guests import Guests


@pytest.mark.kernels
@pytest.mark.slow
def test_boots_of_one_build_do_not_differ() -> None:
    """With more memory and another CPU, and in one look only: no delta, and nothing unexplained."""
    with Guests(Packages.open(), jobs=2) as guests:
        build = guests.build("6.1")
        taken = [
            take(guests, build),
            take(guests, build, hardware=Variant(cpus=1, memory=1024)),
            take(guests, build, twin=False),
        ]
    assert [each.failed for each in taken] == [{}, {}, {}]
    first, other, single = (each.capture for each in taken)
    assert compare(first, other) == []
    assert compare(first, single) == []
    assert {name for name, facts in first.surfaces.items() if len(facts) < 10} == set()
    assert {"syscalls", "sysctls", "procfs", "cgroup1", "cgroup2"} <= first.surfaces.keys()
    torn = {
        fact.key for fact in first.surfaces["syscalls"] if fact.certainty is Certainty.CONTRADICTED
    }
    # entry points that serve ia32 only, or are switched off at boot or in the build
    assert torn <= {"get_thread_area", "set_thread_area", "memfd_secret", "uselib"}
