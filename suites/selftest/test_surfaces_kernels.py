"""Surfaces of a real build: the same from a cold boot and from a saved state."""

from __future__ import annotations

import pytest

from hostabi.diff.compare import compare
from hostabi.kernels.build import Build
from hostabi.kernels.resolve import resolve
from hostabi.kernels.static import Static
from hostabi.machine.machine import start
from hostabi.model import Capture, Certainty, Provenance, Variant
from hostabi.packages.context import Packages
from hostabi.surfaces.registry import measure
from hostabi.surfaces.source import Source


def captured(build: Build, packages: Packages, variant: Variant, *, warm: bool) -> Capture:
    with start(build, packages, variant=variant, warm=warm) as machine:
        measured = measure(Source(machine.agent, Static(build, packages.cache), variant))
    assert measured.failed == {}
    return Capture(
        build=build.name,
        line=build.line,
        release=build.release,
        variant=variant,
        provenance=Provenance("selftest"),
        surfaces=measured.surfaces,
    )


@pytest.mark.kernels
@pytest.mark.slow
def test_boots_of_one_build_do_not_differ() -> None:
    """Cold and restored, with more memory and another CPU: no delta, and nothing unexplained."""
    packages = Packages.open()
    build = resolve("6.1", packages)
    first = captured(build, packages, Variant(), warm=False)
    assert compare(first, captured(build, packages, Variant(), warm=True)) == []
    assert compare(first, captured(build, packages, Variant(cpus=2, memory=1024), warm=False)) == []
    assert {name: len(facts) > 500 for name, facts in first.surfaces.items()} == {
        "config": True,
        "syscalls": True,
        "sysctls": True,
    }
    torn = {
        fact.key for fact in first.surfaces["syscalls"] if fact.certainty is Certainty.CONTRADICTED
    }
    # entry points that serve ia32 only, or are switched off at boot or in the build
    assert torn <= {"get_thread_area", "set_thread_area", "memfd_secret", "uselib"}
