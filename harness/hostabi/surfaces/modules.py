"""Modules: which there are, in files or built in, and by which names they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostabi.diff import keys
from hostabi.errors import HostabiError
from hostabi.kernels.modinfo import ModuleInfo
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.surfaces.source import Source

MODULE, BUILTIN = "module", "builtin"


class Modules:
    """Facts: ``NAME`` is ``module`` or ``builtin``, ``alias:ALIAS`` is ``ok``.

    They are of kind DEFAULT, as the configuration is: code that becomes a fixed part
    of the kernel stops being a module and loses its aliases (``net-pf-1`` when
    CONFIG_UNIX could no longer be ``m``), so absence alone is no loss. What is lost with a
    module is seen where its operation is tried.
    """

    name = "modules"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A build whose lib/modules/RELEASE is at hand, running or not."""
        static = source.static
        return static is not None and static.build.modules is not None

    def capture(self, source: Source) -> list[Fact]:
        """Read it from the modules and the list of what is built in."""
        if source.static is None or not source.static.modules:
            raise HostabiError(
                "no modules are known of this build", advice="name their folder with --modules"
            )
        return facts(source.static.modules)


SURFACE = Modules()


def facts(modules: Mapping[str, ModuleInfo]) -> list[Fact]:
    """Facts of the modules and of the aliases that software asks for, sorted by key."""
    found = [
        _fact(module.name, BUILTIN if module.builtin else MODULE, module.path)
        for module in modules.values()
    ]
    for alias, names in _aliases(modules.values()).items():
        found.append(_fact(f"alias:{alias}", keys.OK, ", ".join(sorted(names))))
    return sorted(found, key=lambda fact: fact.key)


def is_device_alias(alias: str) -> bool:
    """Whether an alias names hardware that a bus found (``pci:v00008086d*``).

    Those have the bus and a colon first (kernel: scripts/mod/file2alias.c). Of what
    software asks for, only ``devname:`` has one (kernel: Documentation/admin-guide/devices.rst).
    """
    return ":" in alias and not alias.startswith("devname:")


def _aliases(modules: Iterable[ModuleInfo]) -> dict[str, set[str]]:
    """Aliases that software asks for, with the modules that answer."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for alias in module.aliases:
            if not is_device_alias(alias):
                found.setdefault(alias, set()).add(module.name)
    # MODULE_ALIAS_CRYPTO (include/linux/crypto.h) gives each name with a prefix and without
    return {alias: names for alias, names in found.items() if f"crypto-{alias}" not in found}


def _fact(key: str, value: str, detail: str) -> Fact:
    return Fact(key, value, Kind.DEFAULT, "modinfo", Certainty.DERIVED, detail)
