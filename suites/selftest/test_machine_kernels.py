"""Machines on real kernels, emulated: boot, restore, and each way to die."""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostabi.errors import (
    AgentLostError,
    EmulatorExitError,
    GuestHangError,
    GuestMemoryError,
    GuestOopsError,
    GuestPanicError,
    InputError,
    MachineError,
)
from hostabi.guest import image
from hostabi.guest.image import guest_image
from hostabi.kernels.build import Build
from hostabi.kernels.resolve import resolve
from hostabi.machine import machine as machines
from hostabi.machine.machine import Machine, start
from hostabi.model import Cgroup, Variant
from hostabi.packages.context import Packages

pytestmark = pytest.mark.kernels

SPEC = os.environ.get("HOSTABI_SELFTEST_KERNEL", "6.12")
OLDEST = "5.10"


class Said:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, label: str, total: int | None = None, unit: str = "") -> object:
        from contextlib import nullcontext

        return nullcontext()


@pytest.fixture(scope="module")
def packages() -> Packages:
    return Packages.open()


@pytest.fixture(scope="module")
def build(packages: Packages) -> Build:
    return resolve(SPEC, packages)


@pytest.fixture
def machine(build: Build, packages: Packages) -> Iterator[Machine]:
    with start(build, packages, accel="tcg") as started:
        yield started


def shell(machine: Machine, text: str, timeout: float = 30) -> bytes:
    return machine.agent.command(["/bin/sh", "-c", text], timeout=timeout).stdout


def test_cold(build: Build, packages: Packages) -> None:
    with start(build, packages, accel="tcg", warm=False) as machine:
        assert not machine.restored
        assert machine.agent.hello.release == build.release
        assert machine.agent.hello.pid1
        assert machine.accelerator == "tcg"


def test_warm(machine: Machine, build: Build) -> None:
    assert machine.restored
    assert machine.agent.hello.release == build.release
    assert shell(machine, "modprobe overlay; grep -c overlay /proc/filesystems") == b"1\n"
    now = int(shell(machine, "busybox date +%s"))
    assert abs(now - int(subprocess.check_output(["date", "+%s"]))) < 3


def test_two_restored_guests_differ(build: Build, packages: Packages) -> None:
    seen = set()
    for _ in range(2):
        with start(build, packages, accel="tcg") as machine:
            seen.add(shell(machine, "cat /proc/sys/kernel/random/uuid"))
    assert len(seen) == 2


def test_a_flipped_byte_is_found_and_the_guest_boots(build: Build, packages: Packages) -> None:
    variant = Variant(memory=320)  # a state of our own to break
    with start(build, packages, variant=variant, accel="tcg") as machine:
        state = machine.state
    assert state is not None
    with state.open("r+b") as file:
        file.seek(state.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    said = Said()
    with start(build, packages, variant=variant, accel="tcg", progress=said) as machine:  # type: ignore[arg-type]
        assert not machine.restored
        assert machine.agent.ping() < 5
    assert any("damaged" in line for line in said.lines)
    packages.cache.forget("states", state.parent.name)


def test_panic(machine: Machine) -> None:
    with pytest.raises(GuestPanicError) as caught:
        shell(machine, "echo c > /proc/sysrq-trigger")
    assert "Kernel panic - not syncing: sysrq triggered crash" in caught.value.console


def test_hang(machine: Machine) -> None:
    machine.run.monitor.execute("stop")
    machine.agent.timeout_scale = 0.1
    with pytest.raises(GuestHangError, match="paused"):
        machine.agent.ping()


def test_killed(machine: Machine) -> None:
    os.kill(machine.run.process.pid, signal.SIGKILL)
    with pytest.raises(EmulatorExitError, match="SIGKILL"):
        machine.agent.ping()


def test_the_agents_channel_goes_away(machine: Machine) -> None:
    """The port's driver is taken from it, as happens when the agent dies without a panic.

    Other drivers stay, and the machine goes on: nothing else ends the wait than the port's event.
    """
    unbind = (
        "cd /sys/bus/virtio/drivers/virtio_console;"
        "for d in virtio*; do echo $d > unbind; done; busybox sleep 60"
    )
    began = time.monotonic()
    with pytest.raises(AgentLostError, match="while the machine still runs"):
        shell(machine, unbind)
    assert time.monotonic() - began < 30, "told by an event, not by the deadline"
    assert machine.run.process.status() is None


def test_out_of_memory(machine: Machine) -> None:
    with pytest.raises(GuestMemoryError, match="Out of memory: Killed process") as caught:
        machine.agent.command(["/bin/busybox", "tail", "/dev/zero"], timeout=60)
    assert "memory" in caught.value.advice


def test_a_cgroup_without_memory_is_its_own_affair(machine: Machine) -> None:
    text = (
        "mkdir /sys/fs/cgroup/x; cd /sys/fs/cgroup/x; echo 8M > memory.max; echo $$ > cgroup.procs;"
        "exec busybox tail /dev/zero"
    )
    assert machine.agent.command(["/bin/sh", "-c", text], timeout=60).signal == signal.SIGKILL
    machine.agent.reset()


def test_an_oops(machine: Machine) -> None:
    """As the console shows it; the cloud kernels have no module that makes a real one."""
    shell(machine, "echo '<1>BUG: unable to handle page fault, acted out' > /dev/kmsg")
    with pytest.raises(GuestOopsError, match="acted out"):
        machine.agent.reset()


def test_the_death_of_the_parent(build: Build, packages: Packages) -> None:
    code = (
        "import sys\n"
        "from hostabi.kernels.resolve import resolve\n"
        "from hostabi.machine.machine import start\n"
        "from hostabi.packages.context import Packages\n"
        "packages = Packages.open()\n"
        f"with start(resolve({SPEC!r}, packages), packages, accel='tcg') as machine:\n"
        "    print(machine.run.process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    watched = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    ready, _, _ = select.select([watched], [], [], 5)
    os.close(watched)
    assert ready, "QEMU outlived the one that started it"


def test_an_initramfs_larger_than_the_memory(
    build: Build, packages: Packages, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(64 << 20))
    with pytest.raises(InputError, match="too small"):
        guest_image(build, packages, Variant(memory=256), extra={"large": large})
    with pytest.raises(InputError, match="too small"):
        start(build, packages, variant=Variant(memory=64), accel="tcg")


@pytest.mark.parametrize("lines", [-1, 2], ids=["another file", "the directives"])
def test_an_initramfs_that_was_cut_off(
    build: Build,
    packages: Packages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: int,
) -> None:
    """A tmpfs may take half of what the archive leaves of the memory, and then it is full."""
    monkeypatch.setattr(image, "check_memory", lambda *_: None)
    plain = guest_image(build, packages, Variant(memory=320))
    large = tmp_path / "large"
    large.write_bytes(b"x" * ((110 << 20) if lines < 0 else 1))
    if lines >= 0:
        whole = image.boot_directives
        monkeypatch.setattr(
            image,
            "boot_directives",
            lambda *a, **k: "".join(whole(*a, **k).splitlines(keepends=True)[:-1]) + "e",
        )
    made = guest_image(build, packages, Variant(memory=320), extra={"large": large})
    assert made.key != plain.key
    monkeypatch.setattr(machines, "guest_image", lambda *_, **__: made)
    lost = "/large" if lines < 0 else "/hostabi/boot"
    with pytest.raises(InputError, match=f"lacks {lost}; .*cut") as caught:
        start(build, packages, variant=Variant(memory=320), accel="tcg")
    assert "more than 320 MiB" in caught.value.advice


def test_a_disk_that_does_not_come(
    build: Build, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_PATIENCE", 1000)
    made = guest_image(build, packages, extra={"note": Path(__file__)})
    monkeypatch.setattr(
        machines,
        "guest_image",
        lambda *_, **__: dataclasses.replace(made, disks=(), key="no disks"),
    )
    with pytest.raises(MachineError, match="disk modules at /lib/modules: No such device"):
        start(build, packages, accel="tcg", warm=False)


def test_cgroup_v1_and_two_cpus(build: Build, packages: Packages) -> None:
    variant = Variant(cgroup=Cgroup.V1, cpus=2)
    with start(build, packages, variant=variant, accel="tcg", warm=False) as machine:
        assert machine.agent.hello.cpus == 2
        assert "cgroup1" in machine.agent.hello.features


@pytest.mark.slow
@pytest.mark.parametrize("spec", sorted({OLDEST, SPEC}))
@pytest.mark.parametrize("cpus", [1, 2])
def test_text_patching_under_load(packages: Packages, spec: str, cpus: int) -> None:
    """What QEMU's multi-threaded emulation does not survive, see machine.argv."""
    script = """
        set -e
        switch=/proc/sys/kernel/sched_schedstats
        for i in 1 2; do (while :; do :; done) & done
        i=0
        while [ $i -lt 300 ]; do
            for want in 1 0; do
                echo $want > $switch
                is=$(cat $switch)  # read would ask byte by byte and get one
                [ $is = $want ]
            done
            i=$((i+1))
        done
        echo $i
        kill %1 %2
        busybox dmesg | grep -cE 'Oops|BUG|lockup' || true
    """
    build = resolve(spec, packages)
    with start(build, packages, variant=Variant(cpus=cpus), accel="tcg") as machine:
        assert shell(machine, script, timeout=90).split() == [b"300", b"0"]
        assert machine.agent.ping() < 5
        machine.agent.reset()
