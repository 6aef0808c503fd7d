"""Where values come from that are no choice of the kernel's authors: RAM, CPUs, or what went on.

The data is ``sysctls.toml`` beside this file. It adds what the kernel documents
to what two looks at a running kernel can tell by themselves.
"""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

from hostabi.model import Kind

DATA = Path(__file__).parent / "sysctls.toml"


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the values of some sysctls are not compared like others."""

    kind: Kind
    names: tuple[str, ...]
    reason: str
    source: str
    """A document of the kernel, or the file that computes the value."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: tuple[Origin, ...]


@functools.cache
def origins() -> dict[str, Origin]:
    """The documented origin of each sysctl that has one."""
    content = msgspec.toml.decode(DATA.read_bytes(), type=_File)
    return {name: origin for origin in content.origin for name in origin.names}
