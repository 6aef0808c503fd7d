"""pause and resume, which engines build on: the processes stop, and go on."""

from __future__ import annotations

import signal

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Container, Runtime
from hostabi.pytest_plugin import unsupported

# Longer than everything that is done meanwhile.
SPIN = actions.spin(600_000)
WAIT_MS = "200"

pytestmark = pytest.mark.usefixtures("controllers")


def used(made: Container) -> int:
    """Processor time of the container in microseconds (cgroup v2, cpu.stat)."""
    text = made.runtime.agent.read(f"/sys/fs/cgroup{made.cgroup}/cpu.stat").decode()
    return int(text.split()[1])


def pass_time(made: Container) -> None:
    """Let others have the processor for a while."""
    assert made.runtime.probe("spin", WAIT_MS).ok


@pytest.fixture
def freezer(runtime: Runtime) -> None:
    """Ends a test as unsupported where control groups cannot be frozen."""
    script = "mkdir /sys/fs/cgroup/frozen; test -e /sys/fs/cgroup/frozen/cgroup.freeze"
    done = runtime.agent.command(["/bin/busybox", "sh", "-c", script])
    runtime.agent.command(["/bin/busybox", "rmdir", "/sys/fs/cgroup/frozen"])
    if done.status:
        unsupported("this kernel cannot freeze a control group")


def test_frozen_processes_stop(runtime: Runtime, freezer: None) -> None:
    """No processor time is used, no signal is handled; after resume both are."""
    del freezer
    with runtime.container(bundle.base(), actions.signal(), SPIN) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        made.kill("TERM")
        pass_time(made)
        made.verb("pause", made.id)
        assert made.state().status == "paused"
        before = used(made)
        pass_time(made)
        assert used(made) == before
        made.verb("resume", made.id)
        assert made.state().status == "running"
        pass_time(made)
        pass_time(made)
        assert used(made) > before
        made.kill("KILL")
        made.wait(pid)
        assert made.answers().deed(actions.signal()).value == signal.SIGTERM


def test_signal_waits_for_resume(runtime: Runtime, freezer: None) -> None:
    """What is sent to a frozen process reaches it when it goes on."""
    del freezer
    with runtime.container(bundle.base(), actions.signal()) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        made.verb("pause", made.id)
        assert runtime.agent.command(["/bin/busybox", "kill", "-TERM", str(pid)]).status == 0
        pass_time(made)
        assert made.answers().deeds == ()
        made.verb("resume", made.id)
        made.wait(pid)
        assert made.answers().deed(actions.signal()).value == signal.SIGTERM


def test_nothing_to_freeze(runtime: Runtime, freezer: None) -> None:
    """A container that has stopped cannot be paused."""
    del freezer
    with runtime.container(bundle.base(), actions.REPORT) as made:
        pid = made.state().pid
        made.start()
        made.wait(pid)
        assert not made.verb("pause", made.id, check=False).ok
