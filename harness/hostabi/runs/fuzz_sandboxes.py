"""The sandboxes that lockstep runs random programs in, by name.

None is the bare guest: programs kill, mount and write settings, and what they leave in
a guest reaches the next ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hostabi.agent.program import Sandbox
from hostabi.errors import InputError
from hostabi.syscalls.table import C

OWN = C.CLONE_NEWNS | C.CLONE_NEWPID | C.CLONE_NEWIPC | C.CLONE_NEWUTS | C.CLONE_NEWCGROUP
"""The namespaces that each program has afresh."""
_TIMEOUT = 0.5
"""Seconds that a program may take, before an emulated machine stretches it; few block."""
USER = 1000
"""Who root of a user namespace is outside."""

SANDBOXES: Mapping[str, Sandbox] = MappingProxyType(
    {
        "root": Sandbox(namespaces=OWN, timeout=_TIMEOUT),
        "user": Sandbox(namespaces=OWN | C.CLONE_NEWUSER, uid=USER, gid=USER, timeout=_TIMEOUT),
        "network": Sandbox(namespaces=OWN | C.CLONE_NEWNET, timeout=_TIMEOUT),
    }
)
"""root, root of a user namespace, and root with a network of its own."""
USUAL = ("root", "user")
"""Those that take turns unless others are named; a network costs three times as much."""


def named(names: Iterable[str]) -> dict[str, Sandbox]:
    """The sandboxes of those names, the usual ones if there are none. Raises InputError."""
    wanted = tuple(names) or USUAL
    if unknown := [name for name in wanted if name not in SANDBOXES]:
        raise InputError(
            f"no sandbox is called {', '.join(unknown)}", advice=f"there are {', '.join(SANDBOXES)}"
        )
    return {name: SANDBOXES[name] for name in wanted}
