"""The sandboxes that lockstep runs random programs in, by name.

None is the bare guest: programs kill, mount and write settings, and what they leave in
a guest reaches the next ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from hostabi.agent.program import Sandbox
from hostabi.errors import InputError
from hostabi.syscalls import profiles, seccomp
from hostabi.syscalls.table import C

if TYPE_CHECKING:
    from hostabi.packages.context import Packages

OWN = C.CLONE_NEWNS | C.CLONE_NEWPID | C.CLONE_NEWIPC | C.CLONE_NEWUTS | C.CLONE_NEWCGROUP
"""The namespaces that each program has afresh."""
_TIMEOUT = 0.5
"""Seconds that a program may take, before an emulated machine stretches it; few block."""
USER = 1000
"""Who root of a user namespace is outside."""
CONTAINER = "container"
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL"),
    *("CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"),
    "CAP_SYS_CHROOT",
)
"""What engines leave a container by default, containers.conf(5): the profile depends on it."""

SANDBOXES: Mapping[str, Sandbox] = MappingProxyType(
    {
        "root": Sandbox(namespaces=OWN, timeout=_TIMEOUT),
        "user": Sandbox(namespaces=OWN | C.CLONE_NEWUSER, uid=USER, gid=USER, timeout=_TIMEOUT),
        CONTAINER: Sandbox(namespaces=OWN, timeout=_TIMEOUT),
        "network": Sandbox(namespaces=OWN | C.CLONE_NEWNET, timeout=_TIMEOUT),
    }
)
"""Root, root of a user namespace, root under the default profile, and root with a network."""
USUAL = ("root", "user", CONTAINER)
"""Those that take turns unless others are named; a network costs three times as much."""


def named(
    names: Iterable[str], packages: Packages, *, beside_others: bool = False
) -> dict[str, Sandbox]:
    """The sandboxes of those names, the usual ones if there are none. Raises InputError.

    ``beside_others`` is for the kernel we are on: there only what has its own users and
    processes can do no harm, and that is all an ordinary user gets.
    """
    wanted = tuple(names) or (("user",) if beside_others else USUAL)
    if unknown := [name for name in wanted if name not in SANDBOXES]:
        raise InputError(
            f"no sandbox is called {', '.join(unknown)}", advice=f"there are {', '.join(SANDBOXES)}"
        )
    chosen = {name: SANDBOXES[name] for name in wanted}
    if CONTAINER in chosen:
        newest = list(profiles.catalogue())[-1]
        policy = profiles.fetch(packages, newest).policy(CAPABILITIES)
        chosen[CONTAINER] = replace(chosen[CONTAINER], seccomp=seccomp.compiled(policy))
    if not beside_others:
        return chosen
    if refused := [n for n, box in chosen.items() if not box.namespaces & C.CLONE_NEWUSER]:
        raise InputError(
            f"the sandbox {', '.join(refused)} is for guests", advice="leave --sandbox out"
        )
    return {name: replace(box, uid=0, gid=0) for name, box in chosen.items()}
