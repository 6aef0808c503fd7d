"""The grammar of a fact's key: ``subject`` or ``subject#aspect``.

The subject's own fact says that the thing is there (``kernel.shmmax``); an
aspect says something about it (``kernel.shmmax#mode``). Aspects whose name is
known here compare by their meaning, whatever the surface.
"""

from __future__ import annotations

MODE = "mode"
"""Permission bits as octal text, for example ``0644``."""
TYPE = "type"
"""What a value looks like: ``integer``, ``3 integers``, ``text``."""
SIGNATURE = "arguments"
"""Types of a call's arguments as the kernel's own headers spell them."""

ACCESS = "access"
"""What somebody with fewer privileges may do with it: one of :data:`ACCESSES`."""
HIDDEN, READABLE, WRITABLE = ACCESSES = ("hidden", "readable", "writable")
"""From less to more."""

OK = "ok"
"""Value of a fact about an operation that works; one that does not has its errno's name."""
OFF = "n"
"""Value of a switch of the build that exists and is off."""


def subject(key: str) -> str:
    """The thing a key is about."""
    return key.partition("#")[0]


def aspect(key: str) -> str:
    """What the key says about its subject; empty for the subject itself."""
    return key.partition("#")[2]
