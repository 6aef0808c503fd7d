"""QEMU's command line, as pure functions of what a machine should be.

Options are those that QEMU 7.2 and 10.0 share, see qemu(1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostabi.guest.disk import Disk

PORT = "hostabi.agent"
"""Name of the virtio-serial port that the agent looks for."""

PORT_ID = "agent-port"
"""QEMU's name for that port's device, as in its events."""

SCRATCH = "scratch"
"""Serial of the disk whose writes are thrown away when QEMU ends."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptor numbers QEMU inherits: connected sockets, and the file for the console's log."""

    agent: int
    monitor: int
    shell: int
    console: int


@dataclass(frozen=True, slots=True)
class Options:
    """What a machine is made of. ``memory`` in MiB; ``accelerator`` is "kvm" or "tcg"."""

    kernel: Path
    initramfs: Path
    accelerator: str
    memory: int = 512
    cpus: int = 1
    parameters: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    scratch: Path | None = None


def arguments(options: Options, descriptors: Descriptors, *, restore: bool = False) -> list[str]:
    """All arguments after the program's name; with ``restore`` it waits for a saved state."""
    return [
        *machine(options),
        *boot(options),
        *channels(descriptors),
        *drives(options.disks, options.scratch),
        *reactions(),
        *(["-S", "-incoming", "defer"] if restore else []),
    ]


def machine(options: Options) -> list[str]:
    """Board, accelerator, CPUs and memory, with nothing on it that was not asked for.

    Emulation always runs in one thread: QEMU's multi-threaded TCG races with
    the kernel's text patching and ends in an oops that is no kernel's fault.
    Five-level page tables (la57) are off when emulated; they cost a tenth of the boot's time.
    """
    if options.accelerator == "kvm":
        accelerator, cpu = "kvm", "host"
    else:
        accelerator, cpu = "tcg,thread=single", "max,la57=off"
    return [
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,smm=off,sata=off,usb=off,vmport=off,dump-guest-core=off"),
        *("-accel", accelerator),
        *("-cpu", cpu),
        *("-smp", str(options.cpus)),
        *("-m", f"{options.memory}M"),
        *("-nic", "none"),
    ]


def boot(options: Options) -> list[str]:
    """The kernel, its initramfs and its command line."""
    return [
        *("-kernel", str(options.kernel)),
        *("-initrd", str(options.initramfs)),
        *("-append", command_line(options.parameters)),
    ]


def command_line(parameters: Sequence[str]) -> str:
    """The kernel's command line. It is part of what is measured, so it stays short.

    ``panic=-1`` makes an early panic end the machine at once; ``quiet`` as an
    emulated serial port costs about 0.1 ms a character (a panic or an oops prints all the same).
    ``no_timer_check`` leaves out a test of the timer that counts ticks against the processor's
    own time, which an emulator on a loaded machine fails: "IO-APIC + timer doesn't work"
    (admin-guide/kernel-parameters.txt).
    """
    return " ".join(("console=ttyS0", "quiet", "panic=-1", "no_timer_check", *parameters))


def channels(descriptors: Descriptors) -> list[str]:
    """Agent's port, monitor, console log, and a second serial line for a shell."""
    return [
        *("-chardev", f"socket,id=monitor,fd={descriptors.monitor}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"file,id=console,append=on,path=/proc/self/fd/{descriptors.console}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=shell,fd={descriptors.shell}"),
        *("-serial", "chardev:shell"),
        *("-chardev", f"socket,id=agent,fd={descriptors.agent}"),
        *("-device", "virtio-serial-pci,id=ports,max_ports=2"),
        *("-device", f"virtserialport,bus=ports.0,id={PORT_ID},chardev=agent,name={PORT}"),
        *("-device", "pvpanic"),
    ]


def drives(disks: Sequence[Disk], scratch: Path | None) -> list[str]:
    """Read-only disks, found by the guest through their serial, and the scratch disk."""
    result: list[str] = []
    for disk in disks:
        result += drive(disk.serial, disk.path, "readonly=on")
    if scratch is not None:
        result += drive(SCRATCH, scratch, "snapshot=on")
    return result


def drive(serial: str, path: Path, access: str) -> list[str]:
    """One virtio disk. ``access`` is ``readonly=on`` or ``snapshot=on``."""
    return [
        *("-drive", f"if=none,id=disk-{serial},format=raw,{access},file={escaped(path)}"),
        *("-device", f"virtio-blk-pci,drive=disk-{serial},serial={serial}"),
    ]


def reactions() -> list[str]:
    """A panic is told as an event and the guest goes on to reboot, which ends QEMU."""
    return ["-action", "panic=none,reboot=shutdown,shutdown=poweroff,watchdog=none"]


def escaped(path: Path) -> str:
    """A path inside an option: QEMU ends it at a comma unless that is doubled."""
    return str(path).replace(",", ",,")


def identity(options: Options) -> list[str]:
    """The arguments without what differs from run to run although the machine is the same."""
    named = dataclasses.replace(
        options,
        kernel=Path(options.kernel.name),
        initramfs=Path(options.initramfs.name),
        disks=tuple(dataclasses.replace(disk, path=Path(disk.path.name)) for disk in options.disks),
        scratch=Path(options.scratch.name) if options.scratch else None,
    )
    return arguments(named, Descriptors(0, 0, 0, 0))
