"""What the surfaces look at: the kernel under test, running and as an image."""

from __future__ import annotations

import pytest

from hostabi.agent.client import Agent
from hostabi.kernels.build import Build
from hostabi.kernels.static import Static
from hostabi.model import Fact
from hostabi.packages.context import Packages
from hostabi.surfaces import syscalls
from hostabi.surfaces.source import Source


@pytest.fixture
def static(kernel: Build, packages: Packages) -> Static:
    """The build under test, read without booting."""
    return Static(kernel, packages.cache, packages)


@pytest.fixture
def source(agent: Agent, static: Static) -> Source:
    """Both views of the kernel under test."""
    return Source(agent, static)


@pytest.fixture(scope="session")
def _tables() -> dict[str, dict[str, Fact]]:
    return {}


@pytest.fixture
def syscall_facts(
    source: Source, kernel: Build, _tables: dict[str, dict[str, Fact]]
) -> dict[str, Fact]:
    """The syscall table of the kernel under test by name, captured once for all tests."""
    if kernel.name not in _tables:
        _tables[kernel.name] = {fact.key: fact for fact in syscalls.SURFACE.capture(source)}
    return _tables[kernel.name]
