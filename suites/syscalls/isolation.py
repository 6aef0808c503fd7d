"""Namespaces of a program's own, so that nothing that it makes outlives it."""

from __future__ import annotations

from dataclasses import replace

from hostabi.agent.program import Sandbox
from hostabi.syscalls.cases import plain_sandbox
from hostabi.syscalls.table import C

FEW = 4
"""Cases of a batch, as it takes longer to make and unmake these than to run a program."""
PATIENCE = 20.0
"""Seconds for a probe that may have to load a module."""


def own_network() -> Sandbox:
    """A network with a loopback device that is down."""
    return _own(C.CLONE_NEWNET)


def own_ipc() -> Sandbox:
    """No System V objects and no message queues."""
    return _own(C.CLONE_NEWIPC)


def _own(namespace: int) -> Sandbox:
    """In a user namespace as well, so that nobody needs be root outside."""
    return replace(plain_sandbox(), namespaces=C.CLONE_NEWUSER | namespace)
