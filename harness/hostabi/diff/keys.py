"""The grammar of a fact's key: ``subject`` or ``subject#aspect``.

The subject's own fact says that the thing is there (``kernel.shmmax``); an
aspect says something about it (``kernel.shmmax#mode``). Aspects whose name is
known here compare by their meaning, whatever the surface.
"""

from __future__ import annotations

import errno
import re

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

SIZE, LIMIT, VERSION = MEASURES = ("size", "limit", "version")
"""How much there is of it; user space relies on at least as much as there was."""

USERNS = "userns"
"""What the root of a fresh user namespace gets, made by an ordinary user: a rootless container."""
USER = "user"
"""What an ordinary user without any privileges gets."""
VIEWS = (USERNS, USER)

OK = "ok"
"""Value of a fact about an operation that works; one that does not has its errno's name."""
HANGS, ENDS = "hangs", "ends"
"""Values of an operation that does not return, or whose process ends; a signal has its name."""
OFF = "n"
"""Value of a switch of the build that exists and is off."""

HEADERS, IMAGE_TYPES = DECLARED = ("headers", "image types")
"""How a fact is known that is a declaration: from headers, or from the types in an image."""
INCOMPLETE = "?"
"""Key of a fact that says that its surface could not be looked at as a whole: what is absent
there is unknown. ``detail`` has the reason."""

REFUSALS: tuple[frozenset[str], ...] = (
    frozenset(("ENOSYS",)),
    frozenset(("EAFNOSUPPORT", "EPFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT")),
    frozenset(("E2BIG", "ENOPROTOOPT", "ENOTTY")),
    frozenset(("EINVAL", "ENODEV")),
    frozenset(("ENOTSUP", "EOPNOTSUPP")),
)
"""Errnos by which a kernel says what it does not know, by how far a request got: the call, the
socket it is about, the request or its size, an argument, and whether this object can do it."""

_ERRNOS = frozenset(name for name in dir(errno) if name.startswith("E"))
"""All names that a number has: ENOTSUP and EOPNOTSUPP are one."""
INTERNAL = frozenset(("ENOTSUPP", "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND"))
"""Errnos that kernels keep to themselves, and let slip now and then."""
_NUMBERED = re.compile(r"SIG[A-Z0-9]+|signal \d+|errno \d+")


def subject(key: str) -> str:
    """The thing a key is about."""
    return key.partition("#")[0]


def aspect(key: str) -> str:
    """What the key says about its subject, whoever looks; empty for the subject itself."""
    return "#".join(part for part in key.split("#")[1:] if part not in VIEWS)


def view(key: str) -> str:
    """Who looks: one of :data:`VIEWS`, or empty for the machine's root."""
    return next((part for part in key.split("#")[1:] if part in VIEWS), "")


def progress(value: object) -> int:
    """How far a request got that failed with this errno, by :data:`REFUSALS`.

    Any other errno is no longer about what the kernel knows.
    """
    return next((step for step, known in enumerate(REFUSALS) if value in known), len(REFUSALS))


def failed(value: object) -> bool:
    """Whether a value says that an operation does not work."""
    return isinstance(value, str) and (
        value in _ERRNOS | INTERNAL or value in (HANGS, ENDS) or bool(_NUMBERED.fullmatch(value))
    )
