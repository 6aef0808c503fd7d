"""What the surfaces look at: the kernel under test, running and as an image."""

from __future__ import annotations

import pytest

from hostabi.agent.client import Agent
from hostabi.kernels.build import Build
from hostabi.kernels.static import Static
from hostabi.packages.context import Packages
from hostabi.surfaces.source import Source


@pytest.fixture
def static(kernel: Build, packages: Packages) -> Static:
    """The build under test, read without booting."""
    return Static(kernel, packages.cache)


@pytest.fixture
def source(agent: Agent, static: Static) -> Source:
    """Both views of the kernel under test."""
    return Source(agent, static)
