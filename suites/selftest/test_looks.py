"""How often a build is booted for its surfaces, and what a boot that fails costs."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from hostabi.errors import MachineError
from hostabi.model import Cgroup, Fact, Variant
from hostabi.runs.capture import _joined
from hostabi.runs.looks import Boot, Look, boots
from hostabi.surfaces.source import Source, Surface

HARDWARE = Variant(cpus=2, memory=1024)


@dataclass(frozen=True)
class Named:
    name: str
    loads: bool = False
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        return True

    def capture(self, source: Source) -> list[Fact]:
        return []


PLAIN, OTHER = Named("plain"), Named("other")
LOADING = Named("loading", loads=True)
OLD = Named("old", variants=(Variant(cgroup=Cgroup.V1),))


def planned(*surfaces: Surface) -> list[tuple[Cgroup, bool, list[str]]]:
    return [
        (boot.variant.cgroup, boot.own, [surface.name for surface in boot.surfaces])
        for boot in boots(surfaces, HARDWARE)
    ]


def test_surfaces_share_a_boot_unless_they_need_or_leave_another_kernel() -> None:
    assert planned(PLAIN, LOADING, OLD, OTHER) == [
        (Cgroup.V2, False, ["plain", "other"]),
        (Cgroup.V2, True, ["loading"]),
        (Cgroup.V1, True, ["old"]),
    ]
    assert all(
        (boot.variant.cpus, boot.variant.memory) == (2, 1024)
        for boot in boots((PLAIN, OLD), HARDWARE)
    )


def looked(name: str) -> Future[Look]:
    future: Future[Look] = Future()
    future.set_result(Look(HARDWARE, facts={name: [Fact("a", 1)]}))
    return future


def failed() -> Future[Look]:
    future: Future[Look] = Future()
    future.set_exception(MachineError("no boot"))
    return future


def test_a_boot_of_its_own_that_fails_costs_its_surfaces_only() -> None:
    shared, own = (Boot(HARDWARE, (one,), own=one.loads) for one in (PLAIN, LOADING))
    look = _joined({shared: looked("plain"), own: failed()}, HARDWARE)
    assert set(look.facts) == {"plain"}
    assert set(look.failed) == {"loading"}
    with pytest.raises(MachineError):
        _joined({shared: failed(), own: looked("loading")}, HARDWARE)
