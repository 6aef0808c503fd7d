"""Settings of hypothesis, and fixtures of the syscall properties."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from hostabi import resources
from hostabi.agent.program import Scratch
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.budget import bounded
from hostabi.syscalls.cases import SCRATCH
from hostabi.syscalls.counting import counted
from hostabi.syscalls.probes import features as probe

_COMMON = {
    "deadline": None,
    "max_examples": 20,  # batches, of about sixteen programs each
    "suppress_health_check": [
        HealthCheck.function_scoped_fixture,  # an agent gives every program a fresh child
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
    # Without "explain", which takes longer than all the others and only knows Python lines.
    "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    "print_blob": True,
}
settings.register_profile("repeatable", derandomize=True, **_COMMON)
settings.register_profile("repeatable-short", settings.get_profile("repeatable"), max_examples=5)
settings.register_profile(
    "explore",
    derandomize=False,
    database=DirectoryBasedExampleDatabase(resources.cache() / "hypothesis"),
    **_COMMON,
)
settings.register_profile("explore-short", settings.get_profile("explore"), max_examples=5)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """The same programs in every run, unless a seed or a profile is named."""
    SCRATCH.set(Scratch(config.getoption("--scratch")))
    if config.getoption("--hypothesis-profile", default=None):
        return
    seeded = config.getoption("--hypothesis-seed", default=None) is not None
    short = config.getoption("--short", default=False)
    settings.load_profile(("explore" if seeded else "repeatable") + ("-short" if short else ""))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Make no failure smaller for longer than anyone waits, and pass nothing that ran nothing."""
    with bounded(), counted() as count:
        result = yield
    if count.nothing:
        unsupported(count.nothing)
    return result


@pytest.fixture
def features(agent) -> frozenset[str]:
    """What the kernel under test has, found by trying."""
    return probe(agent)
