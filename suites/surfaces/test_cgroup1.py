"""A guest of a host that still has control groups of version 1 (cgroups(7))."""

from __future__ import annotations

import pytest

from hostabi.machine.machine import Machine
from hostabi.model import Cgroup

pytestmark = pytest.mark.variant(cgroup=Cgroup.V1, cpus=2)

TOP = "/sys/fs/cgroup"
JOINED = {"cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct", "net_cls": "net_cls,net_prio"}
"""How systemd mounts them, and so where container runtimes look."""


def shell(machine: Machine, script: str) -> list[str]:
    done = machine.agent.command(["/bin/sh", "-c", script], timeout=30)
    assert done.status == 0, done
    return done.stdout.decode().split()


def test_every_hierarchy_that_is_mounted_is_of_version_1(machine: Machine) -> None:
    """None is of version 2: a controller that one of them uses is missing in the others."""
    assert "cgroup1" in machine.agent.hello.features
    assert "cgroup2" not in machine.agent.hello.features
    lines = machine.agent.read("/proc/self/mountinfo").decode().splitlines()
    mounted = [line.split(" - ")[1].split()[0] for line in lines if f" {TOP}" in line]
    assert mounted.count("cgroup") >= 4
    assert "cgroup2" not in mounted
    assert machine.agent.hello.cpus == 2


@pytest.mark.parametrize("controller", ["cpu", "cpuacct", "net_cls", "freezer", "devices", "pids"])
def test_a_controller_is_where_runtimes_look(machine: Machine, controller: str) -> None:
    """config-linux.md, "Control groups": a process is put into a group of each controller."""
    group = f"{TOP}/{JOINED.get(controller, controller)}/hostabi-test"
    script = f"mkdir {group} && sh -c 'echo $$ > {group}/cgroup.procs; cat /proc/self/cgroup'"
    lines = shell(machine, f"{script}; rmdir {group}")
    here = [line for line in lines if controller in line.split(":")[1].split(",")]
    assert [line.rpartition(":")[2] for line in here] == ["/hostabi-test"]


def test_a_limit_on_tasks_is_enforced(machine: Machine) -> None:
    """config-linux.md, "PIDs": the fork beyond the limit fails, and without one it does not."""
    group = f"{TOP}/pids/hostabi-test"
    script = f"""
        mkdir {group}
        for limit in max 1; do
            echo $limit > {group}/pids.max
            sh -c 'echo $$ > {group}/cgroup.procs; (:) && echo ran || echo refused' 2>/dev/null
        done
        rmdir {group}
    """
    out = machine.agent.command(["/bin/sh", "-c", script], timeout=30).stdout.decode().split()
    assert out[0] == "ran"
    assert "ran" not in out[1:]
