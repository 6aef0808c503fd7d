"""features.md and features-linux.md: what a runtime says it implements is so."""

from __future__ import annotations

import re

import msgspec
import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.pytest_plugin import unsupported

HOOKS = {
    *("prestart", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop"),
}
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
# What is left is of devpts alone.
FLAGS = {"nosuid", "noexec", "nodev", "ro", "relatime", "strictatime"}
USED = {option for mount in bundle.MOUNTS for option in mount.options} & FLAGS


class Said(msgspec.Struct, frozen=True, rename="camel"):
    """Properties are optional, so each has a default that claims nothing."""


class Cgroup(Said, frozen=True):
    """features-linux.md, "Cgroup"."""

    v1: bool | None = None
    v2: bool | None = None
    systemd: bool | None = None
    systemd_user: bool | None = None
    rdma: bool | None = None


class Seccomp(Said, frozen=True):
    """features-linux.md, "Seccomp"."""

    enabled: bool | None = None
    actions: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    known_flags: tuple[str, ...] = ()
    supported_flags: tuple[str, ...] = ()


class Enabled(Said, frozen=True):
    """AppArmor, SELinux, network devices, id-mapped mounts."""

    enabled: bool | None = None


class IntelRdt(Said, frozen=True):
    """features-linux.md, "Intel RDT"."""

    enabled: bool | None = None
    schemata: bool | None = None
    monitoring: bool | None = None


class MemoryPolicy(Said, frozen=True):
    """features-linux.md, "Memory policy"."""

    modes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class MountExtensions(Said, frozen=True):
    """features-linux.md, "MountExtensions"."""

    idmap: Enabled | None = None


class LinuxFeatures(Said, frozen=True):
    """features-linux.md."""

    namespaces: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] | None = None
    cgroup: Cgroup | None = None
    seccomp: Seccomp | None = None
    apparmor: Enabled | None = None
    selinux: Enabled | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    mount_extensions: MountExtensions | None = None
    net_devices: Enabled | None = None


class Features(Said, frozen=True):
    """features.md."""

    oci_version_min: str
    oci_version_max: str
    hooks: tuple[str, ...] = ()
    mount_options: tuple[str, ...] = ()
    linux: LinuxFeatures = LinuxFeatures()


@pytest.fixture
def said(runtime: Runtime) -> Features:
    """What ``features`` prints, each property of the type that the specification gives it."""
    found = runtime.features()
    if not found:
        unsupported(f"{runtime.name} has no command that tells its features")
    return msgspec.convert(found, Features)


def test_versions(said: Features) -> None:
    """ "ociVersionMin", "ociVersionMax": semantic versions, in order, and ours between them."""
    parts = [VERSION.fullmatch(text) for text in (said.oci_version_min, said.oci_version_max)]
    assert all(parts)
    low, high = (tuple(int(part[at]) for at in (1, 2, 3)) for part in parts if part)
    ours = tuple(int(word) for word in bundle.VERSION.split("."))
    assert low <= ours <= high


def test_hooks(said: Features) -> None:
    """ "hooks": all six kinds, as test_hooks.py finds them called."""
    assert set(said.hooks) == HOOKS


def test_mount_options(said: Features) -> None:
    """ "mountOptions": at least those that the base is mounted with."""
    assert set(said.mount_options) >= USED


def test_namespaces(said: Features, look, outside) -> None:
    """ "namespaces": each type that is named can be made, if the kernel has it."""
    links = {"network": "net", "mount": "mnt"}
    named = said.linux.namespaces
    assert named
    kinds = [kind for kind in named if links.get(kind, kind) in outside.namespaces]
    assert set(kinds) >= set(bundle.NAMESPACES)
    config = bundle.user_namespace(bundle.base()) if "user" in kinds else bundle.base()
    for kind in set(kinds) - {"user"}:
        config = bundle.namespace(config, kind)
    inside = look(config, actions.REPORT).report.namespaces
    for kind in kinds:
        link = links.get(kind, kind)
        assert inside[link] != outside.namespaces[link], kind


def test_capabilities(said: Features, look, outside) -> None:
    """ "capabilities": each that is named can be granted, as far as the kernel has it."""
    named = said.linux.capabilities
    assert named
    assert set(named) >= set(bundle.CAPABILITIES)
    config = bundle.process(bundle.base(), capabilities=bundle.capabilities(named))
    held = look(config, actions.REPORT).report.capabilities.bounding
    assert held.bit_count() == min(len(set(named)), outside.capabilities.bounding.bit_count())


def test_cgroup(said: Features, controllers) -> None:
    """ "cgroup": on a machine that only has cgroup v2, v2 is what these tests ran on."""
    assert controllers
    assert said.linux.cgroup is not None
    assert said.linux.cgroup.v2


def test_seccomp(said: Features) -> None:
    """ "seccomp": the actions and operators by libseccomp's names; supported flags are known."""
    seccomp = said.linux.seccomp
    assert seccomp is not None
    if not seccomp.enabled:
        unsupported("this runtime says that it has no seccomp")
    assert {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"} <= set(seccomp.actions)
    assert {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"} <= set(seccomp.operators)
    assert not seccomp.archs or "SCMP_ARCH_X86_64" in seccomp.archs
    assert set(seccomp.supported_flags) <= set(seccomp.known_flags) or not seccomp.known_flags
