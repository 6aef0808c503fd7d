"""What happens to a running container: ``update`` of its resources, ``pause`` and ``resume``.

runtime.md names no such operations; both runtimes offer them with the properties of
config-linux.md, "Control groups", and its "checkBeforeUpdate" is about nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.actions import Action
from hostabi.oci.driver import Container, Runtime
from hostabi.oci.records import Cpu, Memory, Pids, Resources
from hostabi.oci.seen import Answers
from hostabi.oci.visits import Step
from hostabi.pytest_plugin import unsupported

MIB = 1 << 20
BEFORE = Resources(
    memory=Memory(limit=96 * MIB, swap=96 * MIB),
    pids=Pids(limit=40),
    cpu=Cpu(quota=80_000, period=100_000, shares=1024),
)
AFTER = Resources(
    memory=Memory(limit=64 * MIB, swap=64 * MIB, reservation=24 * MIB),
    pids=Pids(limit=12),
    cpu=Cpu(quota=50_000, period=50_000, shares=2048, cpus="0"),
)
FORKS = actions.fork(20)


@dataclass(frozen=True)
class Running:
    """A container whose probe waits, to go on when it is told."""

    made: Container
    pid: int

    def file(self, name: str) -> str:
        """A file of its control group."""
        folder = f"/sys/fs/cgroup{self.made.cgroup}"
        return self.made.runtime.agent.read(f"{folder}/{name}").decode().strip()

    def update(self, resources: Resources, *, check: bool = True) -> Step:
        """``update``, with the resources in a file."""
        path = f"{self.made.folder}/resources.json"
        self.made.runtime.agent.write(path, resources.encode())
        return self.made.verb("update", "--resources", path, self.made.id, check=check)

    def finish(self) -> Answers:
        """Let the probe go on, and all that it has answered."""
        self.made.kill("TERM")
        self.made.wait(self.pid)
        return self.made.answers()


@pytest.fixture(autouse=True)
def needs_controllers(controllers) -> None:
    """All here needs these controllers."""
    for needed in ("memory", "pids", "cpu", "cpuset"):
        if needed not in controllers:
            unsupported(f"this kernel has no {needed} controller for cgroup v2")


@contextmanager
def running(runtime: Runtime, resources: Resources, *afterwards: Action) -> Iterator[Running]:
    """A container with these resources, and what it does when it is told to go on."""
    config = bundle.linux(bundle.base(), resources=resources)
    before = (actions.hold(32), actions.signal())
    with runtime.container(config, *before, *afterwards) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        yield Running(made, pid)


def test_update(runtime: Runtime) -> None:
    """Each property is changed in place, those that are not given stay, and a new limit holds."""
    with running(runtime, BEFORE, FORKS) as container:
        assert container.file("memory.max") == str(96 * MIB)
        weight = int(container.file("cpu.weight"))
        container.update(Resources(pids=Pids(limit=30)))
        assert container.file("pids.max") == "30"
        assert container.file("memory.max") == str(96 * MIB)
        assert container.file("cpu.max").split() == ["80000", "100000"]
        container.update(AFTER)
        assert container.file("memory.max") == str(64 * MIB)
        assert container.file("memory.low") == str(24 * MIB)
        assert container.file("pids.max") == "12"
        assert container.file("cpu.max").split() == ["50000", "50000"]
        assert int(container.file("cpu.weight")) > weight
        assert container.file("cpuset.cpus") == "0"
        answers = container.finish()
    assert answers.deed(FORKS).error == "EAGAIN"
    assert answers.deed(FORKS).value <= 12


def test_check_before_update(runtime: Runtime) -> None:
    """ "checkBeforeUpdate": a limit below what is used is rejected instead of killing."""
    if runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    small = Memory(limit=16 * MIB, swap=16 * MIB, check_before_update=True)
    with running(runtime, BEFORE, actions.identity()) as container:
        assert not container.update(Resources(memory=small), check=False).ok
        assert container.file("memory.max") == str(96 * MIB)
        assert container.finish().deed(actions.identity()).error == ""


def test_update_without_check(runtime: Runtime) -> None:
    """Without it the kernel makes room, and if need be by killing: memory.max of cgroup v2."""
    small = Memory(limit=16 * MIB, swap=16 * MIB)
    with running(runtime, BEFORE) as container:
        container.update(Resources(memory=small), check=False)
        container.made.wait(container.pid)
        assert container.made.state().status == "stopped"


def test_pause_and_resume(runtime: Runtime) -> None:
    """A paused container uses no processor time and says that it is paused; then it goes on."""
    with runtime.container(bundle.base(), actions.spin(600_000)) as made:
        made.start()
        group = f"/sys/fs/cgroup{made.cgroup}"

        def used() -> int:
            """Microseconds, before and after the processor was used by another."""
            stat = runtime.agent.read(f"{group}/cpu.stat").decode().split()
            return int(stat[stat.index("usage_usec") + 1])

        def growth() -> int:
            before = used()
            runtime.probe("spin", "100")
            return used() - before

        assert growth() > 0
        made.verb("pause", made.id)
        assert made.state().status == "paused"
        assert "frozen 1" in runtime.agent.read(f"{group}/cgroup.events").decode()
        assert growth() == 0
        made.verb("resume", made.id)
        assert made.state().status == "running"
        assert growth() > 0
        made.kill("KILL")
