"""Which kernel modules to load in which order, and the files modprobe reads.

Distribution packages carry no modules.dep and no modules.alias, as depmod makes
them when a package is installed. Both are derived here from what each module
says about itself in its .modinfo section. Format: modules.dep(5), modprobe.d(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostabi.kernels.modinfo import ModuleInfo

# Aliases that only a hotplug daemon asks for, by the bus of a device. Guests
# run none, and modprobe reads the whole file each time the kernel calls it.
_BUSES = (
    "acpi", "amba", "auxiliary", "bcma", "cpu", "dfl", "dmi", "eisa", "fsl-mc", "hdaudio", "hid",
    "i2c", "ieee1394", "input", "ipack", "isapnp", "mdio", "mei", "mhi", "ntb", "nvmem", "of",
    "parport", "pci", "pcmcia", "platform", "pnp", "rapidio", "rpmsg", "scmi_protocol", "sdio",
    "sdw", "serio", "slim", "spi", "ssb", "tbsvc", "tee", "typec", "ulpi", "usb", "virtio",
    "vmbus", "wmi", "xen", "xenbus", "zorro",
)  # fmt: skip


def load_order(
    modules: Mapping[str, ModuleInfo],
    wanted: Iterable[str],
    named: Mapping[str, str] | None = None,
) -> list[str]:
    """Names of ``wanted`` and all they need, each after what it needs.

    Names absent from ``modules`` are taken to be built in and are left out.
    ``named`` is :func:`plain_aliases` of the modules, for who asks often.
    """
    known = plain_aliases(modules) if named is None else named
    done: dict[str, None] = {}

    def visit(name: str, path: frozenset[str]) -> None:
        real = name if name in modules else known.get(name, name)
        module = modules.get(real)
        if module is None or module.builtin or real in done or real in path:
            return
        for needed in (*module.depends, *module.before):
            visit(needed, path | {real})
        done[real] = None

    for name in wanted:
        visit(name.replace("-", "_"), frozenset())
    return list(done)


def plain_aliases(modules: Mapping[str, ModuleInfo]) -> dict[str, str]:
    """Which module answers to an alias without patterns, as soft dependencies name them.

    ext4 wants "crc32c", which several modules offer. The generic one is taken,
    as it runs on every CPU; a built-in one is better still.
    """
    result: dict[str, str] = {}
    for name in sorted(modules, key=lambda each: (modules[each].builtin, "generic" in each, each)):
        for alias in modules[name].aliases:
            if not set(alias) & set("*?[:"):
                result[alias.replace("-", "_")] = name
    return result


def dep_text(modules: Mapping[str, ModuleInfo], paths: Mapping[str, str]) -> str:
    """modules.dep: each module's path, then the paths of all it needs, nearest first.

    Soft dependencies are listed as well, as busybox modprobe knows no other way to them.
    """
    named = plain_aliases(modules)
    lines = []
    for name in sorted(paths):
        order = load_order(modules, [name], named)[:-1]
        needed = " ".join(paths[each] for each in reversed(order))
        lines.append(f"{paths[name]}: {needed}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def alias_text(modules: Mapping[str, ModuleInfo]) -> str:
    """modules.alias without the aliases of devices on a bus, see ``_BUSES``."""
    return "".join(
        f"alias {alias} {name}\n"
        for name, module in sorted(modules.items())
        if not module.builtin
        for alias in module.aliases
        if ":" not in alias or alias.partition(":")[0] not in _BUSES
    )


def softdep_text(modules: Mapping[str, ModuleInfo]) -> str:
    """modules.softdep, for a modprobe that reads it."""
    lines = []
    for name, module in sorted(modules.items()):
        words = []
        if module.before:
            words += ["pre:", *module.before]
        if module.after:
            words += ["post:", *module.after]
        if words and not module.builtin:
            lines.append(f"softdep {name} {' '.join(words)}\n")
    return "".join(lines)
