"""``--engine``: the container engines that the smoke tests of engines are run with.

Without it the default ones are taken, and none where --runtime asks for certain runtimes. In
the journal an engine stands where a runtime does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from hostabi import pytest_replay
from hostabi.kernels.build import Build
from hostabi.kernels.identity import is_running
from hostabi.runs import outcomes
from hostabi.runs.guests import Guests, split_specs

if TYPE_CHECKING:
    from hostabi.machine.machine import Machine
    from hostabi.oci.engine import Engine

FIXTURE = "engine"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("hostabi").addoption(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="a container engine of kernels/engines.toml; may be repeated or a comma list",
    )


def names(config: pytest.Config) -> tuple[str, ...]:
    """The engines under test."""
    from hostabi.oci.engines import default_names  # noqa: PLC0415

    asked = split_specs(config.getoption("--engine"))
    return asked or (() if config.getoption("--runtime") else default_names())


def uses(item: pytest.Item) -> bool:
    """Whether a test is one of an engine."""
    return FIXTURE in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of engines out where there is none."""
    if names(config):
        return
    left_out = [item for item in items if uses(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not uses(item)]


@pytest.fixture
def engine(
    runtime_name: str, kernel: Build, guests: Guests, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    """A container engine in a guest of its own: what it leaves behind is nobody's business."""
    if is_running(kernel.name):
        pytest.skip(f"{outcomes.UNSUPPORTED}engines are tried in guests only")
    from hostabi.oci.engine import engine as bound  # noqa: PLC0415

    machine: Machine = request.getfixturevalue("machine")
    kept = request.config.stash.setdefault(pytest_replay.KEPT, {})
    made = bound(runtime_name, machine.agent, kept=kept)
    yield made
    if made.used:
        guests.spoil(machine)
