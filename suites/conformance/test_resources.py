"""config-linux.md, "Memory", "Block IO", "Huge page limits", "Unified" and "Memory policy"."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from hostabi.errors import CallError
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import (
    BlockIO,
    Config,
    DeviceRule,
    HugepageLimit,
    Memory,
    MemoryPolicy,
    Mount,
    Throttle,
)
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported

Asked = Callable[[], Answers]
MIB = 1 << 20
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
HUGE = "/sys/kernel/mm/hugepages/hugepages-2048kB"
RATE = 256 << 10
"""Bytes in a second."""
UNIFIED = {"memory.high": str(40 * MIB), "pids.max": "33", "memory.oom.group": "1"}

SWAPPING = bundle.resources(bundle.base(), memory=Memory(limit=48 * MIB, swap=80 * MIB))
UNLIMITED = bundle.resources(bundle.base(), memory=Memory(limit=-1, swap=-1))


@pytest.fixture(autouse=True)
def needs_memory(controllers) -> None:
    """All here needs the memory controller."""
    if "memory" not in controllers:
        unsupported("this kernel has no memory controller for cgroup v2")


def swap_limit(answers: Answers) -> str:
    """memory.swap.max; unsupported where the kernel counts no swap."""
    value = answers.report.cgroup_files.get("memory.swap.max")
    if value is None:
        unsupported("this kernel counts no swap per control group")
    return value.strip()


@pytest.mark.proves("linux.resources.memory.swap")
def test_swap_beyond_memory(look) -> None:
    """ "swap: sets limit of memory+Swap usage": on v2 what is beyond memory."""
    assert swap_limit(look(SWAPPING, actions.REPORT)) == str(32 * MIB)


def test_minus_one_is_unlimited(look) -> None:
    """ "values ... -1 means unlimited"."""
    answers = look(UNLIMITED, actions.REPORT)
    assert answers.report.cgroup_files["memory.max"].strip() == "max"
    assert swap_limit(answers) == "max"


@pytest.mark.proves("linux.resources.unified")
def test_unified(look) -> None:
    """ "unified: cgroup v2 parameters": each file as written, and one of them at work."""
    more = actions.fork(64)
    answers = look(bundle.resources(bundle.base(), unified=UNIFIED), actions.REPORT, more)
    files = answers.report.cgroup_files
    assert {name: files[name].strip() for name in UNIFIED} == UNIFIED
    assert answers.deed(more).error == "EAGAIN"


@pytest.mark.proves("linux.resources.unified")
@pytest.mark.parametrize("name", ["no-such-controller.max", "memory.no-such-file"])
def test_unified_unknown_file(name: str, visit) -> None:
    """ "The OCI runtime MUST generate an error" for what the hierarchy does not have."""
    assert not visit(bundle.resources(bundle.base(), unified={name: "1"}), actions.identity()).ok


@pytest.fixture
def hugetlb(runtime: Runtime, controllers) -> Iterator[str]:
    """Some huge pages in the guest; the limit's property for one of them."""
    if "hugetlb" not in controllers:
        unsupported("this kernel has no hugetlb controller for cgroup v2")
    try:
        runtime.agent.write(HUGE_PAGES, b"4", create=False)
        free = int(runtime.agent.read(f"{HUGE}/free_hugepages"))
    except CallError as error:
        unsupported(f"this kernel has no huge pages of 2 MiB: {error}")
    if free < 4:
        unsupported("this machine's memory has no room for huge pages")
    yield "2MB"
    runtime.agent.write(HUGE_PAGES, b"0", create=False)


@pytest.mark.proves("linux.resources.hugepageLimits")
def test_hugepage_limit(hugetlb: str, runtime: Runtime) -> None:
    """ "limit in bytes of hugepagesize": the first page is had, the second is refused.

    By SIGBUS when it is touched, or when it is mapped, where the runtime limits
    reservations too.
    """
    limit = HugepageLimit(page_size=hugetlb, limit=2 * MIB)
    one, two = actions.huge(1), actions.huge(2)
    config = bundle.resources(bundle.base(), hugepage_limits=(limit,))
    answers = runtime.run(config, actions.REPORT, one, two).answers
    assert answers.report.cgroup_files["hugetlb.2MB.max"].strip() == str(2 * MIB)
    assert (answers.deed(one).value, answers.deed(one).signal) == (1, 0)
    beyond = answers.deed(two)
    assert beyond.value == 1
    assert beyond.signal == signal.SIGBUS or beyond.error == "ENOMEM"
    free = runtime.run(bundle.base(), two).answers.deed(two)
    assert (free.value, free.signal) == (2, 0)


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


@pytest.mark.privileged("the disk that is read belongs to root")
@pytest.mark.proves(
    "linux.resources.blockIO.throttleReadBpsDevice",
    "linux.resources.blockIO.throttleReadIOPSDevice",
    "linux.resources.blockIO.throttleWriteBpsDevice",
    "linux.resources.blockIO.throttleWriteIOPSDevice",
)
def test_throttle(disk: tuple[int, int], look) -> None:
    """ "throttleReadBpsDevice" and its kin: io.max, and what is read beyond the rate waits."""
    pull = actions.pull("/disk", RATE)
    answers = look(throttled(disk), actions.REPORT, pull)
    if not answers.report.cgroup_files.get("io.max"):
        assert "io.max" in answers.report.cgroup_files, "no throttling in this kernel"
    limits = dict(word.split("=") for word in answers.report.cgroup_files["io.max"].split()[1:])
    wanted = {"rbps": RATE, "wbps": 2 * RATE, "riops": 400, "wiops": 500}
    assert limits == {name: str(value) for name, value in wanted.items()}
    assert answers.report.cgroup_files["io.max"].startswith(f"{disk[0]}:{disk[1]} ")
    assert answers.deed(pull).error == ""
    # The first slice of time is free.
    assert answers.deed(pull).value > 500


@pytest.mark.proves("linux.resources.blockIO.weight")
def test_block_weight(controllers, look) -> None:
    """ "weight: specifies per-cgroup weight", where a kernel shares a disk by weight."""
    if "io" not in controllers:
        unsupported("this kernel has no io controller for cgroup v2")
    if "io.weight" not in look(bundle.base(), actions.REPORT).report.cgroup_files:
        unsupported("this kernel has no io.weight")
    config = bundle.resources(bundle.base(), block_io=BlockIO(weight=500))
    seen = look(config, actions.REPORT).report.cgroup_files["io.weight"]
    plain = look(bundle.base(), actions.REPORT).report.cgroup_files["io.weight"]
    assert seen != plain
    assert 100 < int(seen.split()[-1]) < 10_000


@pytest.fixture
def mappings(runtime: Runtime, look) -> Callable[[MemoryPolicy | None], str]:
    """numa_maps of proc(5) in a container with a policy: where each mapping's memory is from."""
    linux = runtime.features().get("linux")
    if not isinstance(linux, dict) or "memoryPolicy" not in linux:
        unsupported(f"{runtime.name} does not claim memory policies")
    maps = actions.read("/proc/self/numa_maps")
    if look(bundle.base(), maps).deed(maps).error:
        unsupported("this kernel has no memory nodes: CONFIG_NUMA")
    return lambda policy: (
        look(bundle.linux(bundle.base(), memory_policy=policy), maps).deed(maps).data
    )


@pytest.mark.proves("linux.memoryPolicy")
def test_memory_policy(mappings) -> None:
    """ "Memory policy": a mode, and nodes of memory; without it the kernel's own."""
    bound = mappings(MemoryPolicy(mode="MPOL_BIND", nodes="0"))
    assert " default " in mappings(None)
    assert " bind:0 " in bound
    assert " default " not in bound


@pytest.mark.parametrize("flag", ["static", "relative"])
@pytest.mark.proves("linux.memoryPolicy.flags")
def test_memory_policy_flags(flag: str, mappings) -> None:
    """ "flags", of set_mempolicy(2): to what the nodes refer when those that may be used change."""
    policy = MemoryPolicy("MPOL_BIND", "0", (f"MPOL_F_{flag.upper()}_NODES",))
    assert f" bind={flag}:0 " in mappings(policy)
