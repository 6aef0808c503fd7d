"""What the conformance tests share: containers that were run once and are asked many times.

Starting a container is what costs, above all in an emulated guest. So a visit is
kept by its bundle and actions, and tests with the same bundle share one container.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostabi.errors import CallError
from hostabi.kernels.build import Build
from hostabi.oci.actions import Action
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config
from hostabi.oci.seen import Answers, Report, decode
from hostabi.oci.visits import Visit
from hostabi.pytest_journal import variant
from hostabi.pytest_plugin import unsupported

Look = Callable[..., Answers]
Key = tuple[str, str, str, str, bytes, tuple[Action, ...]]


@pytest.fixture(scope="session")
def visits() -> dict[Key, Visit]:
    """Every container of this session that ran to its end."""
    return {}


@pytest.fixture
def visit(
    runtime: Runtime, kernel: Build, visits: dict[Key, Visit], request: pytest.FixtureRequest
) -> Callable[..., Visit]:
    """Run a bundle with the probe's actions, once for all tests that ask the same."""
    booted = variant(request.node).label

    def run(config: Config, *actions: Action) -> Visit:
        key = (kernel.name, booted, runtime.name, runtime.drops, config.encode(), actions)
        with runtime.agent.once(key):
            if key not in visits:
                visits[key] = runtime.run(config, *actions)
        return visits[key]

    return run


@pytest.fixture
def look(visit: Callable[..., Visit]) -> Look:
    """As ``visit``, and the answers of a container that ran in order."""

    def answers(config: Config, *actions: Action) -> Answers:
        return visit(config, *actions).answers

    return answers


@pytest.fixture(scope="session")
def outside_reports() -> dict[tuple[str, str], Report]:
    """What a process beside the containers sees, by build and how it was booted."""
    return {}


@pytest.fixture
def outside(
    runtime: Runtime,
    kernel: Build,
    outside_reports: dict[tuple[str, str], Report],
    request: pytest.FixtureRequest,
) -> Report:
    """What a process in the guest itself sees, outside of every container.

    Its network, ipc, uts, pid, cgroup and user namespaces are the runtime's as well; its mount
    namespace is not.
    """
    key = (kernel.name, variant(request.node).label)
    if key not in outside_reports:
        step = runtime.probe("report")
        assert step.ok, str(step)
        outside_reports[key] = decode(step.done.stdout).report
    return outside_reports[key]


@pytest.fixture
def controllers(runtime: Runtime) -> frozenset[str]:
    """The controllers of the guest's cgroup v2 hierarchy; on cgroup v1 the test is unsupported."""
    try:
        listed = runtime.agent.read("/sys/fs/cgroup/cgroup.controllers")
    except CallError:
        unsupported("this machine has no cgroup v2 hierarchy at /sys/fs/cgroup")
    return frozenset(listed.decode().split())


@pytest.fixture
def hierarchy(runtime: Runtime) -> Callable[[str], str]:
    """Where a controller of cgroup v1 is mounted in the guest; without it the test is
    unsupported."""

    def folder(controller: str) -> str:
        path = f"/sys/fs/cgroup/{controller}"
        try:
            runtime.agent.read(f"{path}/cgroup.procs")
        except CallError:
            unsupported(f"this kernel has no {controller} controller for cgroup v1")
        return path

    return folder


@pytest.fixture
def disk(some_disk: tuple[int, int], controllers: frozenset[str]) -> tuple[int, int]:
    """The numbers of a disk of the guest, which cgroup v2 can limit."""
    if "io" not in controllers:
        unsupported("this kernel has no io controller for cgroup v2")
    return some_disk


@pytest.fixture
def some_disk(runtime: Runtime) -> tuple[int, int]:
    """The numbers of a disk of the guest."""
    found = runtime.probe("stat", "/dev/vda").done.stdout.decode()
    words = found.partition('"data":"')[2].partition('"')[0].split()
    if not words:
        unsupported("this machine has no disk /dev/vda")
    return int(words[3]), int(words[4])


@pytest.fixture
def refused(visit: Callable[..., Visit]) -> Callable[..., Visit]:
    """A bundle that must be an error (config.md, "Valid values"): refused, with a message, and
    without the program having run."""

    def refusal(config: Config, *actions: Action) -> Visit:
        seen = visit(config, *actions)
        assert not seen.ok, f"this bundle was run:\n{config.encode().decode()}"
        assert b'"action"' not in seen.step.done.stdout
        assert seen.error.strip() or seen.step.done.stdout.strip(), "refused without a word"
        return seen

    return refusal


@pytest.fixture
def since(runtime: Runtime) -> Callable[..., None]:
    """Ends a test as unsupported when the runtime claims no such version of the specification."""

    def claimed(*version: int) -> None:
        known = runtime.specification()
        if known < version:
            wanted = ".".join(map(str, version))
            unsupported(f"{runtime.name} does not claim version {wanted} of the specification")

    return claimed
