"""Filters of seccomp(2), statement by statement."""

from __future__ import annotations

from collections.abc import Sequence

from hostabi.syscalls.builder import Builder, Slot
from hostabi.syscalls.filters import statement
from hostabi.syscalls.table import C


def on_call(number: int, action: int) -> list[bytes]:
    """A filter: ``action`` for one call, and all others are allowed."""
    return [
        statement(C.BPF_LD | C.BPF_W | C.BPF_ABS, 0),
        statement(C.BPF_JMP | C.BPF_JEQ | C.BPF_K, number, 0, 1),
        statement(C.BPF_RET | C.BPF_K, action),
        statement(C.BPF_RET | C.BPF_K, C.SECCOMP_RET_ALLOW),
    ]


def loaded(q: Builder, statements: Sequence[bytes]) -> Slot:
    """A struct sock_fprog for the statements."""
    filter_ = q.content(b"".join(statements))
    return q.struct("struct sock_fprog", len=len(statements), filter=filter_)


def allow(length: int = 1) -> list[bytes]:
    """A filter of so many statements that allows everything."""
    load = statement(C.BPF_LD | C.BPF_W | C.BPF_ABS, 0)
    return [load] * (length - 1) + [statement(C.BPF_RET | C.BPF_K, C.SECCOMP_RET_ALLOW)]
