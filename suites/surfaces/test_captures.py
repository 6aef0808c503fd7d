"""A capture says the same of a kernel each time it is taken."""

from __future__ import annotations

import pytest

from hostabi.diff.compare import compare
from hostabi.kernels.build import Build
from hostabi.model import Capture, Provenance
from hostabi.pytest_plugin import unsupported
from hostabi.surfaces.registry import ALL, measure
from hostabi.surfaces.source import Source, Surface


def captured(source: Source, kernel: Build, surface: Surface) -> Capture:
    measured = measure(source, [surface])
    for error in measured.failed.values():
        raise error
    if measured.skipped:
        unsupported("neither this kernel nor what is at hand of it has what the surface looks at")
    return Capture(
        build=kernel.name,
        line=kernel.line,
        release=kernel.release,
        variant=source.variant,
        provenance=Provenance("suites"),
        surfaces=measured.surfaces,
    )


@pytest.mark.parametrize("surface", ALL, ids=lambda surface: surface.name)
def test_two_captures_of_one_build_are_equal(
    source: Source, kernel: Build, surface: Surface
) -> None:
    """What moves between two looks must be recognised as such, or every diff has noise."""
    first = captured(source, kernel, surface)
    second = captured(source, kernel, surface)
    assert compare(first, second) == []
    assert any(first.surfaces.values())
