"""Flags by the names that headers give them."""

from __future__ import annotations

from collections.abc import Collection

from hostabi.syscalls.table import constants


def bits(prefix: str, without: Collection[str] = ()) -> dict[str, int]:
    """Flags of one bit whose constants start with ``prefix``, by the rest of their name."""
    found = {}
    for name, value in sorted(constants(prefix).items()):
        short = name.removeprefix(prefix)
        if value > 0 and value & (value - 1) == 0 and short not in without:
            found[short] = value
    return found


def named(prefix: str, *names: str) -> dict[str, int]:
    """The constants ``prefix`` + name, by name."""
    known = constants(prefix)
    return {name: known[f"{prefix}{name}"] for name in names}
