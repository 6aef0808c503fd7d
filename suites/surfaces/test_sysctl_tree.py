"""Sysctls that containers and those who run them rely on."""

from __future__ import annotations

import errno

import pytest

from hostabi.agent.client import Agent
from hostabi.errors import CallError
from hostabi.surfaces import sysctls
from hostabi.surfaces.source import Source

NAMESPACED = (
    # runtime-spec, config-linux.md, sysctl: what a container may set for itself
    "net/ipv4/ip_forward",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
)

SPEECHLESS = (errno.EIO, errno.EINVAL, errno.EAGAIN, errno.ENODEV, errno.EOPNOTSUPP)
"""How a sysctl that has nothing to tell refuses: net.ipv6.conf.*.stable_secret is EIO until set."""


def test_what_may_be_read_can_be_read(agent: Agent) -> None:
    """A sysctl whose mode lets us read it gives a value, or says that it has none (proc(5))."""
    root = agent.hello.euid == 0
    refused = []
    for entry in agent.walk(sysctls.ROOT, contents=4096):
        readable = entry.mode & (0o444 if root else 0o004)
        if entry.kind == "f" and readable and entry.content is None:
            refused.append((entry.path, errno.errorcode.get(entry.error)))
    known = [errno.errorcode[number] for number in SPEECHLESS]
    assert [item for item in refused if item[1] not in known] == []


@pytest.mark.parametrize("name", NAMESPACED, ids=lambda name: name.rpartition("/")[2])
def test_a_container_may_set_its_network(agent: Agent, name: str) -> None:
    """Root of a user namespace may write the sysctls of a network namespace that it owns.

    network_namespaces(7); without it a rootless engine cannot honour --sysctl.
    """
    try:
        inside = agent.walk(
            f"{sysctls.ROOT}/{name}", contents=4096, sandbox=sysctls.container(agent)
        )
    except CallError as error:
        pytest.skip(f"unsupported: no user namespaces for us here: {error.message}")
    (entry,) = inside
    assert entry.content
    assert entry.writable


def test_a_container_cannot_set_its_host(agent: Agent) -> None:
    """Nothing outside the namespaces that a container owns is open to it for writing.

    Only sysctls of namespaces may be: net.*, user.*, those of IPC (ipc_namespaces(7)),
    and kernel.ns_last_pid (pid_namespaces(7)).
    """
    try:
        inside = agent.walk(sysctls.ROOT, contents=1, sandbox=sysctls.container(agent))
    except CallError as error:
        pytest.skip(f"unsupported: no user namespaces for us here: {error.message}")
    written = [sysctls.name_of(entry.path) for entry in inside if entry.writable]
    own = ("net.", "user.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")
    others = {"kernel.auto_msgmni", "kernel.ns_last_pid"}
    assert [name for name in written if not name.startswith(own) and name not in others] == []


def test_the_surface_is_not_empty(source: Source) -> None:
    """A capture holds the sysctls that engines check for (moby, contrib/check-config.sh)."""
    facts = {fact.key for fact in sysctls.SURFACE.capture(source)}
    assert {"net.ipv4.ip_forward", "kernel.keys.root_maxkeys", "user.max_user_namespaces"} <= facts
