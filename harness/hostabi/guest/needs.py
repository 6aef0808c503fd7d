"""What a kernel must offer to be a guest, judged from its configuration and module files.

Data first: each need with its CONFIG option, the module it may come as, and
what it is for. A kernel whose configuration is unknown is given the benefit of the doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hostabi.errors import MissingFeatureError
from hostabi.kernels.modinfo import ModuleInfo


@dataclass(frozen=True, slots=True)
class Need:
    """One option. ``module`` is empty for what can only be built in."""

    option: str
    purpose: str
    module: str = ""


BASE = (
    Need("CONFIG_BLK_DEV_INITRD", "unpacking the initramfs"),
    Need("CONFIG_BINFMT_ELF", "starting the agent"),
    Need("CONFIG_PROC_FS", "/proc"),
    Need("CONFIG_SYSFS", "/sys"),
    Need("CONFIG_DEVTMPFS", "/dev"),
    Need("CONFIG_TMPFS", "the guest's root"),
    Need("CONFIG_SHMEM", "what the agent shares with programs"),
    Need("CONFIG_SIGNALFD", "the agent's wait for programs"),
    Need("CONFIG_EPOLL", "the agent's wait for the host"),
    Need("CONFIG_FUTEX", "setting up sandboxes"),
    Need("CONFIG_POSIX_TIMERS", "reading files that may block"),
    Need("CONFIG_MULTIUSER", "programs of other users"),
    Need("CONFIG_NET", "hearing of devices"),
    Need("CONFIG_PCI", "finding devices"),
    Need("CONFIG_VIRTIO_PCI", "the agent's channel", "virtio_pci"),
    Need("CONFIG_VIRTIO_CONSOLE", "the agent's channel", "virtio_console"),
)
DISKS = (
    Need("CONFIG_VIRTIO_BLK", "disks", "virtio_blk"),
    Need("CONFIG_EXT4_FS", "disks", "ext4"),
)
PANIC_MODULES = ("pvpanic", "pvpanic_mmio")
"""Drivers of the device that tells a panic; 5.14 split the first (commit f104060813fe)."""


def modules_for(
    needs: Collection[Need],
    config: Mapping[str, str],
    modules: Mapping[str, ModuleInfo],
    build: str,
) -> list[str]:
    """The modules to load for ``needs``.

    Raises MissingFeatureError, naming the option, for what the kernel lacks or
    has as a module whose file is not there.
    """
    wanted = []
    for need in needs:
        setting = config.get(need.option, "n" if config else "")
        module = modules.get(need.module)
        if setting == "y" or (module is not None and module.builtin):
            continue
        if need.module and module is not None:
            wanted.append(need.module)
        elif setting == "m":
            raise MissingFeatureError(
                f"{build}: {need.option}=m ({need.purpose}), but module {need.module} is absent",
                advice="give the folder lib/modules/RELEASE with --modules",
            )
        elif setting:
            raise MissingFeatureError(
                f"{build}: the kernel lacks {need.option}, needed for {need.purpose}",
                advice=f"build it with {need.option}={'y or m' if need.module else 'y'}",
            )
    return wanted


def offers(
    needs: Collection[Need], config: Mapping[str, str], modules: Mapping[str, ModuleInfo]
) -> bool:
    """Whether ``needs`` are met."""
    try:
        modules_for(needs, config, modules, "")
    except MissingFeatureError:
        return False
    return True
