"""config-linux.md, "Memory", "CPU" and "Block IO", on cgroup v1: values, and what they do."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from hostabi.model import Cgroup
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Container, Runtime
from hostabi.oci.records import (
    BlockIO,
    Config,
    Cpu,
    DeviceRule,
    Memory,
    Mount,
    Throttle,
    WeightDevice,
)
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported

pytestmark = pytest.mark.variant(cgroup=Cgroup.V1)

Asked = Callable[[], Answers]
TOP = "/sys/fs/cgroup"
MIB = 1 << 20
LIMIT, RESERVED, SWAP = 48 * MIB, 16 * MIB, 64 * MIB
KERNEL, TCP, SWAPPINESS = 24 * MIB, 8 * MIB, 17
QUOTA, PERIOD, BURST = 40_000, 80_000, 30_000
"""Microseconds: half of a processor."""
USED = 300
"""Milliseconds of processor time that a container asks for."""
RATE = 256 << 10
"""Bytes in a second."""


def file(controller: str, name: str) -> actions.Action:
    """Read a file of the container's group of that controller."""
    return actions.read(f"{TOP}/{controller}/{controller}.{name}")


def counters(text: str) -> dict[str, int]:
    """A file of lines with a name and a number."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


LIMITED = bundle.resources(
    bundle.base(), memory=Memory(limit=LIMIT, reservation=RESERVED, swap=SWAP)
)
FAILED, CONTROL = file("memory", "failcnt"), file("memory", "oom_control")
MEMORY = (
    *(file("memory", f"{name}_in_bytes") for name in ("limit", "soft_limit", "memsw.limit")),
    *(actions.touch(8), actions.touch(96), FAILED, CONTROL),
)


@pytest.fixture
def limited(look, hierarchy: Callable[[str], str]) -> Asked:
    """The answers of a container with limits of memory."""
    hierarchy("memory")
    return lambda: look(LIMITED, *MEMORY)


@pytest.mark.proves("linux.resources.memory.limit", "linux.resources.memory.reservation")
def test_memory_values(limited: Asked) -> None:
    """ "limit: sets limit of memory usage", "reservation: soft limit"."""
    assert limited().deed(file("memory", "limit_in_bytes")).data.strip() == str(LIMIT)
    assert limited().deed(file("memory", "soft_limit_in_bytes")).data.strip() == str(RESERVED)


@pytest.mark.proves("linux.resources.memory.limit")
def test_memory_limit_kills(limited: Asked) -> None:
    """Who touches more is killed; memory.failcnt and memory.oom_control count it."""
    assert (limited().deed(actions.touch(8)).error, limited().deed(actions.touch(8)).signal) == (
        "",
        0,
    )
    beyond = limited().deed(actions.touch(96))
    assert beyond.signal == signal.SIGKILL
    assert beyond.value * MIB <= LIMIT
    assert int(limited().deed(FAILED).data) > 0
    assert counters(limited().deed(CONTROL).data)["oom_kill"] == 1


@pytest.mark.proves("linux.resources.memory.swap")
def test_swap_value(limited: Asked) -> None:
    """ "swap: sets limit of memory+Swap usage", which v1 counts together."""
    seen = limited().deed(file("memory", "memsw.limit_in_bytes"))
    if seen.error:
        unsupported("this kernel counts no swap per control group")
    assert seen.data.strip() == str(SWAP)


@pytest.mark.proves("linux.resources.memory.limit", "linux.resources.memory.swap")
def test_swap_is_enforced(swap: str, limited: Asked, runtime: Runtime) -> None:
    """With swap to go to, more than the limit can be used, up to both together."""
    within, beyond = actions.touch((LIMIT + SWAP) // 2 // MIB), actions.touch(96)
    answers = runtime.run(LIMITED, within, beyond).answers
    assert swap
    if limited().deed(file("memory", "memsw.limit_in_bytes")).error:
        unsupported("this kernel counts no swap per control group")
    assert (answers.deed(within).signal, answers.deed(within).error) == (0, "")
    assert answers.deed(beyond).signal == signal.SIGKILL
    assert answers.deed(beyond).value * MIB <= SWAP


@pytest.fixture
def swap(runtime: Runtime, hierarchy: Callable[[str], str]) -> Iterator[str]:
    """Some swap in the guest, on a file of its own memory."""
    hierarchy("memory")
    path = "/work/hostabi-swap"
    script = (
        f"[ -b /dev/loop0 ] || mknod /dev/loop0 b 7 0; dd if=/dev/zero of={path} bs=1M count=96"
        f" && losetup /dev/loop0 {path} && mkswap /dev/loop0 && swapon /dev/loop0"
    )
    shell = ["/bin/busybox", "sh", "-c"]
    made = runtime.agent.command([*shell, script])
    undo = f"swapoff /dev/loop0; losetup -d /dev/loop0; rm -f {path}"
    if made.status:
        runtime.agent.command([*shell, undo])
        unsupported(f"no swap in this guest: {made.stderr.decode(errors='replace').strip()}")
    yield path
    runtime.agent.command([*shell, undo])


ALONE = {
    "kernel": ("kmem.limit_in_bytes", KERNEL, Memory(kernel=KERNEL)),
    "kernelTCP": ("kmem.tcp.limit_in_bytes", TCP, Memory(kernel_tcp=TCP)),
    "swappiness": ("swappiness", SWAPPINESS, Memory(swappiness=SWAPPINESS)),
    "useHierarchy": ("use_hierarchy", 1, Memory(use_hierarchy=True)),
}
"""What cgroup v2 does not have: the file that tells it, its value, and what is asked for."""


@pytest.mark.proves("linux.resources.memory.{name}")
@pytest.mark.parametrize("name", ALONE)
def test_of_version_1_alone(name: str, runtime: Runtime, look, hierarchy) -> None:
    """ "kernel", "kernelTCP", "swappiness" and "useHierarchy", where the kernel takes such a value;
    the specification does not recommend the first two."""
    told, number, memory = ALONE[name]
    needs_value(runtime, hierarchy("memory"), f"memory.{told}", str(number))
    asked = file("memory", told)
    if look(bundle.base(), asked).deed(asked).data.strip() == str(number):
        unsupported(f"on this kernel memory.{told} is {number} for every group")
    config = bundle.resources(bundle.base(), memory=memory)
    assert look(config, asked).deed(asked).data.strip() == str(number)


def needs_value(runtime: Runtime, folder: str, name: str, value: str) -> None:
    """Unsupported where a group of this kernel has no such file, or does not keep the value."""
    group = f"{folder}/hostabi-probe"
    script = (
        f"mkdir -p {group} && [ -e {group}/{name} ] && echo {value} > {group}/{name}"
        f' && [ "$(cat {group}/{name})" = {value} ]'
    )
    done = runtime.agent.command(["/bin/busybox", "sh", "-c", script])
    runtime.agent.command(["/bin/busybox", "rmdir", group])
    if done.status:
        unsupported(f"this kernel's groups take no {name}")


@pytest.mark.proves("linux.resources.memory.disableOOMKiller")
def test_oom_killer_disabled(runtime: Runtime, hierarchy: Callable[[str], str]) -> None:
    """ "disableOOMKiller": who touches more than the limit waits for room, and is not killed."""
    folder = hierarchy("memory")
    memory = Memory(limit=LIMIT, swap=LIMIT, disable_oom_killer=True)
    config = bundle.resources(bundle.base(), memory=memory)
    with runtime.container(config, actions.touch(96)) as made:
        made.start()
        for _ in range(100):
            control = counters(value(made, folder, "memory.oom_control"))
            if control["under_oom"]:
                break
            runtime.probe("spin", "20")
        assert control["oom_kill_disable"] == 1
        assert control["under_oom"] == 1
        assert control.get("oom_kill", 0) == 0
        assert made.state().status == "running"


def value(made: Container, folder: str, name: str) -> str:
    """A file of the container's group, from outside."""
    return made.runtime.agent.read(f"{folder}{made.cgroup}/{name}").decode().strip()


HALF = bundle.resources(bundle.base(), cpu=Cpu(quota=QUOTA, period=PERIOD, shares=4096))
SPIN, STAT = actions.spin(USED), file("cpu", "stat")
VALUES = {"cfs_quota_us": QUOTA, "cfs_period_us": PERIOD, "shares": 4096}
PROCESSORS = (*(file("cpu", name) for name in VALUES), SPIN, STAT)


SINCE_1_1 = {
    "idle": ("cpu.idle", 1, Cpu(idle=1)),
    "burst": ("cpu.cfs_burst_us", BURST, Cpu(quota=QUOTA, period=PERIOD, burst=BURST)),
}
"""The file that tells it, its value, and what is asked for."""


@pytest.fixture
def half(look, hierarchy: Callable[[str], str]) -> Asked:
    """The answers of a container with half of a processor."""
    hierarchy("cpu")
    return lambda: look(HALF, *PROCESSORS)


@pytest.mark.proves(
    "linux.resources.cpu.shares", "linux.resources.cpu.quota", "linux.resources.cpu.period"
)
def test_cpu_values(half: Asked) -> None:
    """ "shares", "quota" and "period", as they are."""
    seen = {name: half().deed(file("cpu", name)).data.strip() for name in VALUES}
    assert seen == {name: str(number) for name, number in VALUES.items()}


@pytest.mark.proves("linux.resources.cpu.quota")
def test_quota_is_enforced(half: Asked, look) -> None:
    """Who asks for more is held back, which cpu.stat counts; without a quota nobody is."""
    assert half().deed(SPIN).value >= USED
    counted = counters(half().deed(STAT).data)
    assert counted["nr_throttled"] >= USED * 1000 // QUOTA // 2
    assert counted["throttled_time"] > 0
    free = look(bundle.base(), *PROCESSORS)
    assert free.deed(SPIN).value >= USED
    assert counters(free.deed(STAT).data)["nr_throttled"] == 0


@pytest.mark.parametrize("name", SINCE_1_1)
@pytest.mark.proves("linux.resources.cpu.{name}")
def test_since_1_1(name: str, runtime: Runtime, look, since, hierarchy) -> None:
    """ "idle" and "burst", since version 1.1 of the specification."""
    since(1, 1)
    told, number, cpu = SINCE_1_1[name]
    # A burst is no more than the quota, which the group that is probed has none of.
    needs_value(runtime, hierarchy("cpu"), told, "0" if name == "burst" else str(number))
    asked = actions.read(f"{TOP}/cpu/{told}")
    config = bundle.resources(bundle.base(), cpu=cpu)
    assert look(config, asked).deed(asked).data.strip() == str(number)


@pytest.mark.proves("linux.resources.cpu.mems")
def test_mems(look, hierarchy: Callable[[str], str]) -> None:
    """ "mems": memory nodes, as they are in cpuset.mems."""
    hierarchy("cpuset")
    config = bundle.resources(bundle.base(), cpu=Cpu(cpus="0", mems="0"))
    seen = file("cpuset", "mems")
    assert look(config, seen).deed(seen).data.strip() == "0"


@pytest.mark.proves("linux.resources.cpu.cpus")
@pytest.mark.variant(cgroup=Cgroup.V1, cpus=2)
@pytest.mark.parametrize("processor", [0, 1])
def test_cpus_are_enforced(processor: int, look, hierarchy: Callable[[str], str]) -> None:
    """ "cpus": the process may run on these and no others: sched_getaffinity(2)."""
    hierarchy("cpuset")
    config = bundle.resources(bundle.base(), cpu=Cpu(cpus=str(processor)))
    answers = look(config, actions.REPORT, file("cpuset", "cpus"))
    assert answers.deed(file("cpuset", "cpus")).data.strip() == str(processor)
    assert answers.report.cpus == (processor,)
    assert look(bundle.base(), actions.REPORT).report.cpus == (0, 1)


THROTTLED = {
    "read_bps_device": RATE,
    "write_bps_device": 2 * RATE,
    "read_iops_device": 400,
    "write_iops_device": 500,
}
PULL = actions.pull("/disk", RATE)
RATES = tuple(file("blkio", f"throttle.{name}") for name in THROTTLED)


def throttled(disk: tuple[int, int]) -> Config:
    """Reads of the disk held at RATE, and the other limits as values."""

    def at(rate: int) -> tuple[Throttle, ...]:
        return (Throttle(major=disk[0], minor=disk[1], rate=rate),)

    limits = BlockIO(
        read_bps=at(RATE), write_bps=at(2 * RATE), read_iops=at(400), write_iops=at(500)
    )
    allowed = DeviceRule(allow=True, type="b", major=disk[0], minor=disk[1], access="r")
    config = bundle.mounted(
        bundle.base(), Mount(destination="/disk", source="/dev/vda", options=("bind",))
    )
    return bundle.resources(config, block_io=limits, devices=(allowed,))


@pytest.mark.proves(
    "linux.resources.blockIO.throttleReadBpsDevice",
    "linux.resources.blockIO.throttleReadIOPSDevice",
    "linux.resources.blockIO.throttleWriteBpsDevice",
    "linux.resources.blockIO.throttleWriteIOPSDevice",
)
def test_throttle(some_disk: tuple[int, int], look, hierarchy: Callable[[str], str]) -> None:
    """ "throttleReadBpsDevice" and its kin: a file for each, and what is beyond the rate waits."""
    hierarchy("blkio")
    answers = look(throttled(some_disk), *RATES, PULL)
    for (name, rate), asked in zip(THROTTLED.items(), RATES, strict=True):
        lines = answers.deed(asked).data.splitlines()
        assert lines == [f"{some_disk[0]}:{some_disk[1]} {rate}"], name
    assert answers.deed(PULL).error == ""
    # The first slice of time is free.
    assert answers.deed(PULL).value > 500


SCHEDULER = "/sys/block/vda/queue/scheduler"
WEIGHTS = (file("blkio", "bfq.weight"), file("blkio", "bfq.weight_device"))


@pytest.fixture
def bfq(runtime: Runtime, some_disk: tuple[int, int], hierarchy) -> Iterator[tuple[int, int]]:
    """The disk, shared out by the one scheduler that knows weights."""
    folder = hierarchy("blkio")
    shell = ["/bin/busybox", "sh", "-c"]
    before = runtime.agent.read(SCHEDULER).decode().partition("[")[2].partition("]")[0]
    done = runtime.agent.command([*shell, f"echo bfq > {SCHEDULER}"])
    if done.status:
        unsupported("this kernel has no scheduler of disks that knows weights: BFQ")
    probing = f"{folder}/hostabi-probe"
    script = f"mkdir {probing}; [ -e {probing}/blkio.bfq.weight ]; s=$?; rmdir {probing}; exit $s"
    has = runtime.agent.command([*shell, script]).status == 0
    if has:
        yield some_disk
    runtime.agent.command([*shell, f"echo {before} > {SCHEDULER}"])
    if not has:
        unsupported("this kernel's groups have no weight of disks")


@pytest.mark.proves("linux.resources.blockIO.weight")
def test_block_weight(bfq: tuple[int, int], runtime: Runtime) -> None:
    """ "weight: specifies per-cgroup weight"."""
    assert bfq
    config = bundle.resources(bundle.base(), block_io=BlockIO(weight=500))
    answers = runtime.run(config, *WEIGHTS).answers
    assert answers.deed(WEIGHTS[0]).data.strip() == "500"
    assert runtime.run(bundle.base(), *WEIGHTS).answers.deed(WEIGHTS[0]).data.strip() != "500"


@pytest.mark.proves("linux.resources.blockIO.weightDevice")
def test_block_weight_of_a_device(bfq: tuple[int, int], runtime: Runtime) -> None:
    """ "weightDevice: an array of per-device bandwidth weights"."""
    plain = runtime.run(bundle.base(), *WEIGHTS).answers.deed(WEIGHTS[1])
    if plain.error:
        unsupported("this kernel's groups have no weight for one disk")
    major, minor = bfq
    own = WeightDevice(major=major, minor=minor, weight=700)
    config = bundle.resources(bundle.base(), block_io=BlockIO(weight_device=(own,)))
    answers = runtime.run(config, *WEIGHTS).answers
    assert f"{major}:{minor} 700" in answers.deed(WEIGHTS[1]).data.splitlines()
