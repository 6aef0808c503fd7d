"""Syscall numbers, UAPI constants and errno names.

Numbers and constants come from the headers of the newest kernel that Debian
packages (``data/x86_64.json``, made by :mod:`hostabi.syscalls.generate`): the
ABI only grows, so the newest headers name everything older kernels know.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from hostabi.agent.program import BEGUN, UNMADE, Abi, Deed
from hostabi.errors import InputError

DATA = Path(__file__).parent / "data" / "x86_64.json"
_HEADERS = {
    Abi.NATIVE: "asm/unistd_64.h",
    Abi.X32: "asm/unistd_x32.h",
    Abi.IA32: "asm/unistd_32.h",
    Abi.DEED: "hostabi.agent.program.Deed",
}


class Tables(msgspec.Struct, frozen=True):
    """Syscall numbers and constants by name, and the package whose headers gave them."""

    package: str
    version: str
    sha256: str
    syscalls: dict[str, int]
    ia32: dict[str, int]
    """Numbers of the 32-bit entry, asm/unistd_32.h."""
    x32: dict[str, int]
    """Numbers of the x32 ABI, asm/unistd_x32.h, with its bit set."""
    constants: dict[str, int]


@cache
def tables() -> Tables:
    """The tables that travel with hostabi."""
    return msgspec.json.decode(DATA.read_bytes(), type=Tables)


def numbers(abi: Abi) -> dict[str, int]:
    """The numbers of an ABI's syscalls by name."""
    if abi is Abi.IA32:
        return tables().ia32
    if abi is Abi.DEED:
        return {deed.name.lower(): deed.value for deed in Deed}
    return tables().x32 if abi is Abi.X32 else tables().syscalls


def number(name: str, abi: Abi = Abi.NATIVE) -> int:
    """The number of the syscall ``name``. Raises InputError for an unknown name."""
    try:
        return numbers(abi)[name]
    except KeyError:
        raise InputError(
            f"no {abi} syscall is called {name!r}",
            advice=f"names are those of {_HEADERS[abi]} ({tables().version})",
        ) from None


@cache
def _names(abi: Abi) -> dict[int, str]:
    return {number: name for name, number in numbers(abi).items()}


def name(number: int, abi: Abi = Abi.NATIVE) -> str:
    """The syscall's name, or ``syscall_NUMBER`` when the headers have none."""
    return _names(abi).get(number, f"syscall_{number}")


def constant(name: str) -> int:
    """The value of the UAPI constant ``name``. Raises InputError for an unknown name."""
    try:
        return tables().constants[name]
    except KeyError:
        raise InputError(f"no constant is called {name!r}") from None


def constants(prefix: str) -> dict[str, int]:
    """All constants whose name starts with ``prefix``."""
    found = tables().constants.items()
    return {name: value for name, value in found if name.startswith(prefix)}


class _Constants:
    """Attribute access to the constants: ``C.O_CREAT``."""

    def __getattr__(self, name: str) -> int:
        try:
            return tables().constants[name]
        except KeyError:
            raise AttributeError(f"no UAPI constant is called {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(tables().constants)


C = _Constants()
"""UAPI constants as attributes, e.g. ``C.AT_FDCWD``."""

_INTERNAL = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 524: "ENOTSUPP"}


_USUAL = {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}
"""Numbers of which Python knows another name last, and the manual pages use this one."""


def errno_name(value: int) -> str:
    """``EINVAL`` for 22, also for the kernel's internal codes; ``errno 999`` for others."""
    return (
        _USUAL.get(value) or errno.errorcode.get(value) or _INTERNAL.get(value) or f"errno {value}"
    )


@cache
def _errno_numbers() -> dict[str, int]:
    known = {errno_name(value): value for value in range(1, 600)}
    return {name: value for name, value in known.items() if not name.startswith("errno ")}


def errno_names() -> frozenset[str]:
    """The names of all errnos, the kernel's internal ones among them."""
    return frozenset(_errno_numbers())


def errno_number(name: str) -> int:
    """The number of an errno by its name. Raises InputError for a name that is none."""
    try:
        return _errno_numbers()[name]
    except KeyError:
        raise InputError(f"no errno is called {name!r}") from None


_NONE = {UNMADE: "not reached", BEGUN: "begun"}


def result_name(value: int) -> str:
    """A call's result for people: ``-EINVAL``, ``3``, ``0x7f0000000000``."""
    if -4095 <= value < 0:
        return "-" + errno_name(-value)
    if value in _NONE:
        return _NONE[value]
    return hex(value) if value > 1 << 24 else str(value)
