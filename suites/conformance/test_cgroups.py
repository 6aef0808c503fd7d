"""config-linux.md, "Control groups": memory and pids limits on cgroup v2, enforced."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import (
    BlockIO,
    Config,
    Cpu,
    DeviceRule,
    HugepageLimit,
    Memory,
    Pids,
    Throttle,
)
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported

Asked = Callable[[], Answers]
MIB = 1 << 20
LIMIT = 48 * MIB
RESERVED = 16 * MIB
TASKS = 16

LIMITED = bundle.resources(
    bundle.base(),
    memory=Memory(limit=LIMIT, reservation=RESERVED, swap=LIMIT),
    pids=Pids(limit=TASKS),
)
EVENTS = actions.read("/sys/fs/cgroup/memory.events")
REFUSALS = actions.read("/sys/fs/cgroup/pids.events")
QUESTIONS = (
    actions.REPORT,
    actions.touch(8),
    actions.touch(96),
    EVENTS,
    actions.fork(4),
    actions.fork(32),
    REFUSALS,
)


def counters(text: str) -> dict[str, int]:
    """A flat keyed file of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst)."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


@pytest.fixture
def limited(look, controllers) -> Asked:
    """The answers of a container with a memory and a pids limit."""
    for needed in ("memory", "pids"):
        if needed not in controllers:
            unsupported(f"this kernel has no {needed} controller for cgroup v2")
    return lambda: look(LIMITED, *QUESTIONS)


@pytest.mark.proves("linux.resources.memory.limit", "linux.resources.memory.reservation")
def test_memory_values(limited: Asked) -> None:
    """ "limit: sets limit of memory usage", "reservation: soft limit"; on v2 max and low."""
    files = limited().report.cgroup_files
    assert files["memory.max"].strip() == str(LIMIT)
    assert files["memory.low"].strip() == str(RESERVED)


@pytest.mark.proves("linux.resources.memory.limit")
def test_memory_limit_kills(limited: Asked) -> None:
    """Who touches more than the limit is killed, and memory.events counts it."""
    assert limited().deed(actions.touch(8)).error == ""
    assert limited().deed(actions.touch(8)).signal == 0
    beyond = limited().deed(actions.touch(96))
    assert beyond.signal == signal.SIGKILL
    assert beyond.value * MIB <= LIMIT
    events = counters(limited().deed(EVENTS).data)
    assert events["oom_kill"] == 1
    assert events["max"] > 0


@pytest.mark.proves("linux.resources.memory.swap")
def test_no_swap_when_limit_is_all(limited: Asked) -> None:
    """ "swap: sets limit of memory+Swap usage": equal to the limit leaves no swap."""
    value = limited().report.cgroup_files.get("memory.swap.max")
    if value is None:
        unsupported("this kernel counts no swap per control group")
    assert value.strip() == "0"


@pytest.mark.proves("linux.resources.pids.limit")
def test_pids_value(limited: Asked) -> None:
    """ "limit: specifies the maximum number of tasks in the cgroup." """
    assert limited().report.cgroup_files["pids.max"].strip() == str(TASKS)


@pytest.mark.proves("linux.resources.pids.limit")
def test_pids_limit_refuses(limited: Asked) -> None:
    """fork(2) beyond the limit is EAGAIN, below it works, and pids.events counts it."""
    assert limited().deed(actions.fork(4)).error == ""
    beyond = limited().deed(actions.fork(32))
    assert beyond.error == "EAGAIN"
    # The probe and the child that forks are tasks as well.
    assert beyond.value == TASKS - 2
    assert counters(limited().deed(REFUSALS).data)["max"] >= 1


def test_unlimited(look, controllers) -> None:
    """Without resources the container's group has no limits."""
    assert controllers
    files = look(bundle.base(), actions.REPORT).report.cgroup_files
    assert files["memory.max"].strip() == "max"


@pytest.mark.proves("linux.cgroupsPath")
def test_path_and_values_from_outside(runtime: Runtime, controllers) -> None:
    """ "cgroupsPath ... absolute: relative to the cgroups mount point": the group is there while
    the container is, holds its process and its limits, and is gone after delete."""
    assert controllers
    path = "/hostabi/outside"
    config = bundle.linux(LIMITED, cgroups_path=path)
    with runtime.container(config, actions.REPORT, actions.signal()) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        folder = runtime.group(path)
        read = runtime.agent.read
        assert read(f"{folder}/memory.max").decode().strip() == str(LIMIT)
        assert read(f"{folder}/pids.max").decode().strip() == str(TASKS)
        # Some runtimes put the process into a group below.
        inside = read(f"/proc/{pid}/cgroup").decode().strip()
        assert inside.partition("::")[2].startswith(folder.removeprefix("/sys/fs/cgroup"))
        made.kill("KILL")
        made.wait(pid)
        made.delete()
    gone = runtime.agent.command(["/bin/busybox", "test", "-d", folder])
    assert gone.status == 1


NODE = "/tmp/node"
# Of the range that is for local use, and of no driver: an open that is allowed is ENXIO.
MADE = actions.attempt("mknod", NODE, 0o020600, 239 << 8 | 5)
OPENED = actions.opened(NODE, "r")


def all_limits(disk: tuple[int, int], controllers: frozenset[str]) -> tuple[Config, dict[str, str]]:
    """A container with a limit of each kind, and what its group's files then hold."""
    throttle = Throttle(major=disk[0], minor=disk[1], rate=400)
    config = bundle.resources(
        LIMITED,
        cpu=Cpu(quota=50_000, period=100_000),
        block_io=BlockIO(read_iops=(throttle,)),
        devices=(DeviceRule(allow=False, access="rwm"),),
    )
    files = {
        "memory.max": str(LIMIT),
        "pids.max": str(TASKS),
        "cpu.max": "50000 100000",
        "io.max": f"{disk[0]}:{disk[1]} rbps=max wbps=max riops=400 wiops=max",
    }
    if "hugetlb" in controllers:
        limit = HugepageLimit(page_size="2MB", limit=4 * MIB)
        config = bundle.resources(config, hugepage_limits=(limit,))
        files["hugetlb.2MB.max"] = str(4 * MIB)
    return config, files


@pytest.mark.privileged("rules about devices are a program that only root may attach")
@pytest.mark.proves(
    "linux.cgroupsPath", "linux.resources.hugepageLimits", "linux.resources.devices"
)
def test_relative_path(runtime: Runtime, disk: tuple[int, int], controllers) -> None:
    """ "relative: the runtime MAY interpret the path relative to a runtime-determined location",
    and "a given value of cgroupsPath" MUST always lead to the same place."""
    config, files = all_limits(disk, controllers)
    config = bundle.linux(config, cgroups_path="hostabi-relative/inner")
    found = []
    for _ in range(2):
        with runtime.container(config, MADE, OPENED, actions.signal()) as made:
            made.start()
            made.ready()
            line = runtime.agent.read(f"/proc/{made.state().pid}/cgroup").decode().strip()
            group = line.partition("::")[2]
            assert "hostabi-relative/inner" in group
            folder = group[: group.index("/inner")] + "/inner"
            for name, value in files.items():
                seen = runtime.agent.read(f"/sys/fs/cgroup{folder}/{name}").decode()
                assert seen.strip() == value, name
            assert made.answers().deed(OPENED).error == "EPERM"
            found.append(group)
    assert found[0] == found[1]


WRITABLE = replace(
    bundle.user_namespace(bundle.base()),
    mounts=tuple(
        replace(mount, options=("nosuid", "noexec", "nodev", "rw"))
        if mount.destination == "/sys/fs/cgroup"
        else mount
        for mount in bundle.MOUNTS
    ),
)


def test_ownership(look, controllers) -> None:
    """ "Cgroup ownership": where the hierarchy is mounted writable in a user namespace, the runtime
    may give the group to its root, who can then make groups below; read-only, nobody can."""
    assert controllers
    made = actions.attempt("mkdir", "/sys/fs/cgroup/below", 0o755)
    owner = actions.stat("/sys/fs/cgroup")
    refused = look(bundle.user_namespace(bundle.base()), made, owner)
    assert refused.deed(made).error == "EROFS"
    answers = look(WRITABLE, made, owner)
    if answers.deed(owner).data.split()[1] == "65534":
        unsupported("this runtime does not make use of that permission")
    assert answers.deed(owner).data.split()[1] == "0"
    assert answers.deed(made).error == ""
