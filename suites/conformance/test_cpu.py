"""config-linux.md, "CPU", on cgroup v2: values, and what they do to processor time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from hostabi.errors import CallError
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Container, Runtime
from hostabi.oci.records import Config, Cpu
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported

Asked = Callable[[], Answers]
QUOTA, PERIOD, BURST = 40_000, 80_000, 30_000
"""Microseconds: half of a processor."""
USED = 300
"""Milliseconds of processor time that a container asks for."""
WORK = 40
"""Milliseconds of processor time for which containers compete."""
MOST, LEAST = 262_144, 2
"""The range of cpu.shares: the ends of cpu.weight's, 10000 and 1, are theirs in every formula."""

STAT = actions.read("/sys/fs/cgroup/cpu.stat")
SPIN = actions.spin(USED)
PACE = actions.pace(WORK)
HALF = bundle.resources(
    bundle.base(), cpu=Cpu(quota=QUOTA, period=PERIOD, shares=4096, cpus="0", mems="0")
)


def counters(text: str) -> dict[str, int]:
    """A flat keyed file of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst)."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


@pytest.fixture(autouse=True)
def needs_cpu(controllers) -> None:
    """All here needs both controllers of processors."""
    for needed in ("cpu", "cpuset"):
        if needed not in controllers:
            unsupported(f"this kernel has no {needed} controller for cgroup v2")


@pytest.fixture
def half(look) -> Asked:
    """The answers of a container with half of a processor."""
    return lambda: look(HALF, actions.REPORT, SPIN, STAT)


@pytest.mark.proves("linux.resources.cpu.quota", "linux.resources.cpu.period")
def test_quota_and_period(half: Asked) -> None:
    """ "quota ... total amount of time ... the cgroup can run during one period": cpu.max."""
    assert half().report.cgroup_files["cpu.max"].split() == [str(QUOTA), str(PERIOD)]


@pytest.mark.proves("linux.resources.cpu.quota")
def test_quota_is_enforced(half: Asked) -> None:
    """Who asks for more is held back, which cpu.stat counts as throttled time."""
    assert half().deed(SPIN).value >= USED
    counted = counters(half().deed(STAT).data)
    assert counted["nr_throttled"] >= USED * 1000 // QUOTA // 2
    assert counted["throttled_usec"] > 0


def test_no_quota_no_throttling(look) -> None:
    """Without a quota the same work is never held back."""
    counted = counters(look(bundle.base(), actions.REPORT, SPIN, STAT).deed(STAT).data)
    assert counted["usage_usec"] >= USED * 1000
    assert counted.get("nr_throttled", 0) == 0


@pytest.mark.proves("linux.resources.cpu.cpus", "linux.resources.cpu.mems")
def test_cpuset(half: Asked) -> None:
    """ "cpus" and "mems": lists of processors and memory nodes, cpuset.cpus and cpuset.mems."""
    files = half().report.cgroup_files
    assert (files["cpuset.cpus"].strip(), files["cpuset.mems"].strip()) == ("0", "0")


@pytest.mark.proves("linux.resources.cpu.shares")
def test_shares_become_a_weight(half: Asked, look) -> None:
    """ "shares: relative share of CPU time": more shares, more cpu.weight, and all of the range.

    Which weight 4096 shares are has changed once (cgroups(7) of runtimes: linear, then not).
    """
    least = weight(look, LEAST)
    assert (least, weight(look, MOST)) == (1, 10_000)
    assert least < int(half().report.cgroup_files["cpu.weight"]) < 10_000
    default = look(bundle.base(), actions.REPORT, SPIN, STAT).report.cgroup_files["cpu.weight"]
    assert int(half().report.cgroup_files["cpu.weight"]) > int(default)


def shared(shares: int) -> Config:
    """A container with these shares."""
    return bundle.resources(bundle.base(), cpu=Cpu(shares=shares))


def weight(look, shares: int) -> int:
    """The weight that these shares become."""
    return int(look(shared(shares), actions.REPORT).report.cgroup_files["cpu.weight"])


def waiting(stack: ExitStack, runtime: Runtime, shares: int) -> tuple[Container, int]:
    """A container with these shares that waits for a signal, and its process.

    Where processor time is short a runtime takes long to start, so that comes first.
    """
    made = stack.enter_context(runtime.container(shared(shares), actions.signal(), PACE))
    made.start()
    pid = made.state().pid
    made.ready()
    return made, pid


def pace(made: Container, pid: int) -> int:
    """How long it then takes for its work, in milliseconds."""
    made.kill("TERM")
    made.wait(pid)
    return made.answers().deed(PACE).value


@pytest.mark.proves("linux.resources.cpu.shares")
def test_shares_are_enforced(runtime: Runtime) -> None:
    """Beside one that wants all, few shares mean waiting, and many hardly any.

    Two alike would each wait as long as they run, so both would take twice the time.
    """
    with ExitStack() as stack:
        many, few = (waiting(stack, runtime, shares) for shares in (MOST, LEAST))
        busy = stack.enter_context(runtime.container(bundle.base(), actions.spin(600_000)))
        busy.start()
        quick, slow = pace(*many), pace(*few)
    assert slow > WORK * 4
    assert slow > quick * 3


@pytest.mark.proves("linux.resources.cpu.idle")
def test_idle(runtime: Runtime, look) -> None:
    """ "idle: cgroups are configured with minimum weight", which cpu.weight then tells too."""
    if runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    needs_file(runtime, "cpu.idle")
    config = bundle.resources(bundle.base(), cpu=Cpu(idle=1))
    files = look(config, actions.REPORT).report.cgroup_files
    assert files["cpu.idle"].strip() == "1"
    # 0 at first, and 1 since the file shows no less than can be written.
    assert int(files["cpu.weight"]) <= 1


@pytest.mark.proves("linux.resources.cpu.burst")
def test_burst(runtime: Runtime, look) -> None:
    """ "burst: maximum amount of accumulated time", since version 1.1 of the specification."""
    if runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    needs_file(runtime, "cpu.max.burst")
    config = bundle.resources(bundle.base(), cpu=Cpu(quota=QUOTA, period=PERIOD, burst=BURST))
    files = look(config, actions.REPORT).report.cgroup_files
    assert files["cpu.max.burst"].strip() == str(BURST)


def needs_file(runtime: Runtime, name: str) -> None:
    """Unsupported where this kernel's groups have no such file."""
    made = "/sys/fs/cgroup/hostabi-probe"
    busybox = ["/bin/busybox"]
    runtime.agent.command([*busybox, "mkdir", "-p", made])
    try:
        runtime.agent.read(f"{made}/{name}")
    except CallError:
        unsupported(f"this kernel has no {name}")
    finally:
        runtime.agent.command([*busybox, "rmdir", made])


@pytest.mark.proves("linux.resources.cpu.cpus")
@pytest.mark.variant(cpus=2)
@pytest.mark.parametrize("processor", [0, 1])
def test_cpus_are_enforced(processor: int, look) -> None:
    """The process may run on the listed processors and no other: sched_getaffinity(2)."""
    config = bundle.resources(bundle.base(), cpu=Cpu(cpus=str(processor)))
    assert look(config, actions.REPORT).report.cpus == (processor,)
    assert look(bundle.base(), actions.REPORT).report.cpus == (0, 1)
