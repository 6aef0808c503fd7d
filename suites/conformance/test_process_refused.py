"""config.md, "POSIX process" and "Linux Process": values that must be an error."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Capabilities, Rlimit

LIMITS = {
    "unknown": (Rlimit(type="RLIMIT_TEST", soft=1, hard=1),),
    "twice": (
        Rlimit(type="RLIMIT_NOFILE", soft=64, hard=64),
        Rlimit(type="RLIMIT_NOFILE", soft=32, hard=32),
    ),
    "soft-above-hard": (Rlimit(type="RLIMIT_NOFILE", soft=64, hard=32),),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.proves("process.rlimits")
def test_rlimits(name: str, refused) -> None:
    """ "The runtime MUST generate an error for any values which cannot be mapped to a relevant
    kernel interface", and "if rlimits contains duplicated entries with same type"."""
    refused(bundle.process(bundle.base(), rlimits=LIMITS[name]), actions.REPORT)


@pytest.mark.proves("process.capabilities")
def test_unknown_capability(runtime: Runtime, visit) -> None:
    """A name that is no capability is told: an error up to version 1.0.2 of the specification, a
    warning since; all others are granted."""
    names = (*bundle.CAPABILITIES, "CAP_HOSTABI")
    config = bundle.process(bundle.base(), capabilities=bundle.capabilities(names))
    seen = runtime.run(config, actions.REPORT, options=("--debug",))
    assert "CAP_HOSTABI" in seen.error
    if seen.ok:
        plain = visit(bundle.base(), actions.REPORT).answers.report.capabilities
        assert seen.answers.report.capabilities == plain


@pytest.mark.proves("process.capabilities")
def test_effective_beyond_permitted(refused) -> None:
    """capabilities(7): what is effective has to be permitted, so the kernel refuses the set."""
    sets = Capabilities(
        bounding=("CAP_CHOWN", "CAP_KILL"), permitted=("CAP_KILL",), effective=("CAP_CHOWN",)
    )
    refused(bundle.process(bundle.base(), capabilities=sets), actions.REPORT)


@pytest.mark.proves("process.apparmorProfile")
def test_unknown_apparmor_profile(refused) -> None:
    """ "apparmorProfile": a profile that is not loaded, or a kernel without AppArmor, is an error
    and not a process without its confinement."""
    refused(bundle.process(bundle.base(), apparmor_profile="hostabi-absent"), actions.REPORT)


@pytest.mark.proves("process.selinuxLabel")
def test_selinux_label_without_selinux(refused, runtime) -> None:
    """ "selinuxLabel": a kernel that does not enforce it is an error, not an unlabelled process."""
    label = "system_u:system_r:container_t:s0"
    mounts = runtime.agent.read("/proc/mounts").decode()
    assert "selinuxfs" not in mounts, "this guest has SELinux: test the label itself"
    refused(bundle.process(bundle.base(), selinux_label=label), actions.REPORT)
