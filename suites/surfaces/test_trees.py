"""Files of the kernel that runtimes, engines and what runs in containers read."""

from __future__ import annotations

import pytest

from hostabi.agent.client import Agent
from hostabi.model import Fact
from hostabi.surfaces import procfs, sysfs
from hostabi.surfaces.source import Source

OF_A_PROCESS = (
    # proc_pid_status(5): what an engine reads of a container's processes
    "status#key.NSpid",
    "status#key.CapEff",
    "status#key.Seccomp",
    "status#key.NoNewPrivs",
    # runtime-spec, config.md: oomScoreAdj, apparmorProfile, and joining namespaces by path
    "oom_score_adj",
    "attr/current",
    "ns/net",
    "ns/user",
    "uid_map",
    "setgroups",
    # proc_pid_mountinfo(5), proc_pid_cgroup(5): how runtimes find their own mounts and groups
    "mountinfo#format",
    "cgroup",
    "smaps_rollup#key.Pss",
    "limits#key.row.Max open files",
)
FOR_ALL = ("filesystems", "meminfo", "cpuinfo", "stat", "uptime", "loadavg", "PID/status")
"""What programs in a container read without any privileges, proc(5)."""


@pytest.fixture
def proc_facts(source: Source) -> dict[str, Fact]:
    """Facts of /proc by key."""
    return {fact.key: fact for fact in procfs.SURFACE.capture(source)}


def test_a_process_has_what_runtimes_read(proc_facts: dict[str, Fact]) -> None:
    """The files and keys that the runtime-spec's properties are set and checked by."""
    assert [name for name in OF_A_PROCESS if f"PID/{name}" not in proc_facts] == []


@pytest.mark.parametrize("name", FOR_ALL)
def test_an_ordinary_user_may_read(proc_facts: dict[str, Fact], name: str) -> None:
    """A file whose mode lets all read it can be read without privileges."""
    assert proc_facts[f"{name}#access#user"].value in {"readable", "writable"}


def test_the_kernels_memory_is_not_for_users(proc_facts: dict[str, Fact]) -> None:
    """/proc/kcore is read by those with CAP_SYS_RAWIO only (proc_kcore(5))."""
    for who in ("user", "userns"):
        fact = proc_facts.get(f"kcore#access#{who}")
        assert fact is None or fact.value == "hidden"


def test_a_processs_files_belong_to_its_user(proc_facts: dict[str, Fact]) -> None:
    """The effective user owns them, as long as the process is dumpable (proc_pid(5))."""
    assert proc_facts["PID/status#owner"].value == "process"


def test_two_looks_at_one_boot_are_the_same(source: Source) -> None:
    """Nothing that is told counts, times or numbers anything."""
    for surface in (procfs.SURFACE, sysfs.SURFACE):
        surface.capture(source)
        looks = [{fact.key: fact.value for fact in surface.capture(source)} for _ in range(2)]
        differing = {
            key
            for key in looks[0].keys() | looks[1].keys()
            if looks[0].get(key) != looks[1].get(key)
        }
        # what the kernel has to say since the last look is told once, syslog(2)
        assert {key for key in differing if not key.startswith("kmsg#")} == set()


def test_nothing_stays_mounted(agent: Agent, source: Source) -> None:
    """Looking from namespaces leaves the machine's own mounts as they were."""
    before = agent.read("/proc/self/mountinfo")
    procfs.SURFACE.capture(source)
    sysfs.SURFACE.capture(source)
    assert agent.read("/proc/self/mountinfo").count(b"\n") == before.count(b"\n")
