"""How arguments read: flag words as names, strings as C writes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from hostabi.syscalls import table

_OPEN = ("O_",)
FLAGS: Mapping[tuple[str, int], tuple[str, ...]] = MappingProxyType(
    {
        ("openat", 2): _OPEN,
        ("open", 1): _OPEN,
        ("pipe2", 1): _OPEN,
        ("dup3", 2): _OPEN,
        ("renameat2", 4): ("RENAME_",),
        ("memfd_create", 1): ("MFD_",),
        ("eventfd2", 1): ("EFD_",),
        ("signalfd4", 3): ("SFD_",),
        ("epoll_create1", 0): ("EPOLL_CLOEXEC",),
        ("close_range", 2): ("CLOSE_RANGE_",),
        ("fallocate", 1): ("FALLOC_FL_",),
        ("mmap", 2): ("PROT_",),
        ("mmap", 3): ("MAP_",),
        ("mprotect", 2): ("PROT_",),
        ("splice", 5): ("SPLICE_F_",),
        ("tee", 3): ("SPLICE_F_",),
    }
)
"""(syscall, argument) -> prefixes of the flags that make up that argument."""

CHOICES: Mapping[tuple[str, int], tuple[str, ...]] = MappingProxyType(
    {
        ("fcntl", 1): ("F_ADD_SEALS", "F_DUPFD", "F_GET", "F_SET"),
        ("ioctl", 1): ("FIO", "FS_IOC", "TIOC"),
        ("lseek", 2): ("SEEK_",),
        ("rt_sigprocmask", 0): ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"),
        ("epoll_ctl", 1): ("EPOLL_CTL_",),
        ("prlimit64", 1): ("RLIMIT_",),
    }
)
"""(syscall, argument) -> prefixes of the constants of which the argument is one."""

_ALIASES = frozenset({"O_NDELAY"})
"""Second names that nobody expects to read."""

_FOLDER_ARGUMENTS = frozenset(
    {("openat", 0), ("openat2", 0), ("renameat2", 0), ("renameat2", 2), ("mkdirat", 0),
     ("unlinkat", 0), ("symlinkat", 1), ("linkat", 0), ("linkat", 2), ("newfstatat", 0),
     ("readlinkat", 0), ("faccessat", 0)}
)  # fmt: skip


def argument(syscall: str, index: int, value: int | str) -> str:
    """One argument as text; what is text already stays as it is."""
    if isinstance(value, str):
        return value
    place = (syscall, index)
    if place in _FOLDER_ARGUMENTS and value == -100:
        return "AT_FDCWD"
    if place in FLAGS:
        return flags(value, FLAGS[place])
    if place in CHOICES:
        return _one_of(CHOICES[place]).get(value, str(value))
    return hex(value) if value > 1 << 20 else str(value)


def flags(value: int, prefixes: tuple[str, ...]) -> str:
    """``O_RDWR|O_CREAT``; bits without a name stay a number."""
    if value <= 0:
        return str(value)
    named, rest = [], value
    for name, bits in _bits(prefixes):
        if bits and bits & rest == bits:
            named.append(name)
            rest &= ~bits
    return "|".join([*named, *([hex(rest)] if rest else [])])


@cache
def _bits(prefixes: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    found = {
        v: k
        for p in prefixes
        for k, v in sorted(table.constants(p).items(), reverse=True)
        if k not in _ALIASES
    }
    plain = [(name, value) for value, name in found.items() if value > 0]
    return tuple(sorted(plain, key=lambda entry: (-entry[1].bit_count(), entry[1])))


@cache
def _one_of(prefixes: tuple[str, ...]) -> dict[int, str]:
    return {v: k for p in prefixes for k, v in sorted(table.constants(p).items(), reverse=True)}


def quoted(raw: bytes, limit: int = 40) -> str:
    """``raw`` as a C string literal, cut after ``limit`` bytes for reading."""
    return c_string(raw[:limit]) + ("..." if len(raw) > limit else "")


def c_string(raw: bytes) -> str:
    """``raw`` as a C string literal, every byte exact.

    Octal escapes have three digits, so that what follows is never read as part of them.
    """
    parts = []
    for byte in raw:
        char = chr(byte)
        plain = 32 <= byte < 127 and char not in '"\\?'
        parts.append(char if plain else f"\\{byte:03o}")
    return '"' + "".join(parts) + '"'
