"""Calls that show what a program left, so that a program in C can compare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hostabi.agent.program import Call, Output, Pointer
from hostabi.syscalls import types
from hostabi.syscalls.builder import Built, Slot, Step, Value
from hostabi.syscalls.table import C, number

_FOLDER = "/cwd"
"""How the path of a program's folder ends, harness/agent/scratch.c."""


class _Appending:
    """Adds calls to the end of a program."""

    def __init__(self, built: Built) -> None:
        self._program = built.program
        self._steps = list(built.steps)
        self._types = list(built.types)
        self._calls = list(built.program.calls)
        self._outputs = list(built.program.outputs)
        self._data = bytearray(built.program.data)
        self._arena = built.program.arena

    def string(self, text: str) -> Slot:
        """A string beyond the memory of the program itself."""
        raw = text.encode() + b"\0"
        slot = Slot(self._arena, len(raw), "", raw[:-1])
        self._data += bytes(self._arena - len(self._data)) + raw
        self._arena += (len(raw) + 15) & ~15
        return slot

    def room(self, size: int, kind: str = "") -> Slot:
        """Zeros beyond the memory of the program itself."""
        slot = Slot(self._arena, size, kind, kind or f"room_{self._arena:x}")
        self._arena += (size + 15) & ~15
        return slot

    def call(self, name: str, *values: Value, out: Slot | None = None) -> None:
        """One call; with ``out`` the memory to compare."""
        arguments = tuple(
            Pointer(value.offset) if isinstance(value, Slot) else value
            for value in values
            if isinstance(value, (Slot, int))
        )
        self._calls.append(Call(number(name), arguments))
        self._steps.append(Step(name, values))
        if out is not None:
            self._outputs.append(Output(len(self._calls) - 1, out.offset, out.size))
            self._types.append(out.type)

    def built(self) -> Built:
        """The program with them."""
        program = dataclasses.replace(
            self._program,
            calls=tuple(self._calls),
            outputs=tuple(self._outputs),
            data=bytes(self._data),
            arena=self._arena,
        )
        return Built(program, tuple(self._steps), tuple(self._types))


def witness(built: Built, line: str) -> Built | None:
    """The program with calls that tell of the state's line ``NAME: VALUE``; None: nothing does."""
    name = line.removeprefix("no ").partition(": ")[0]
    first, _, rest = name.partition(" ")
    how = _WAYS.get(first) or _WAYS.get(name)
    if how is None:
        return None
    appending = _Appending(built)
    how(appending, rest)
    return appending.built()


def _descriptor(b: _Appending, rest: str) -> None:
    fd = int(rest)
    status = b.room(types.size("struct stat"), "struct stat")
    b.call("fcntl", fd, C.F_GETFD, 0)
    b.call("fcntl", fd, C.F_GETFL, 0)
    b.call("fstat", fd, status, out=status)
    b.call("lseek", fd, 0, C.SEEK_CUR)


def _file(b: _Appending, rest: str) -> None:
    path = b.string(f".{rest}" if rest else ".")
    status = b.room(types.size("struct stat"), "struct stat")
    b.call("newfstatat", C.AT_FDCWD, path, status, C.AT_SYMLINK_NOFOLLOW, out=status)
    names, content = b.room(512), b.room(4096)
    b.call("llistxattr", path, names, 512, out=names)
    b.call("readlinkat", C.AT_FDCWD, path, content, 4096, out=content)
    b.call("openat", C.AT_FDCWD, path, C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK)
    b.call("close_range", 900, 1000, 0)


def _umask(b: _Appending, _: str) -> None:
    b.call("umask", 0)


def _blocked(b: _Appending, _: str) -> None:
    old = b.room(8)
    b.call("rt_sigprocmask", C.SIG_BLOCK, 0, old, 8, out=old)


def _pending(b: _Appending, _: str) -> None:
    waiting = b.room(8)
    b.call("rt_sigpending", waiting, 8, out=waiting)


def _identity(call: str) -> Callable[[_Appending, str], None]:
    def ask(b: _Appending, _: str) -> None:
        ids = b.room(12)
        b.call(call, ids, ids.at(4, 4), ids.at(8, 4), out=ids)

    return ask


def _groups(b: _Appending, _: str) -> None:
    groups = b.room(256)
    b.call("getgroups", 64, groups, out=groups)


def _capabilities(b: _Appending, _: str) -> None:
    head, sets = b.string("\x22\x05\x08\x20" + "\0" * 4), b.room(24)
    b.call("capget", head, sets, out=sets)


def _limit(b: _Appending, rest: str) -> None:
    limit = b.room(16, "struct rlimit64")
    b.call("prlimit64", 0, int(rest), 0, limit, out=limit)


def _option(option: str) -> Callable[[_Appending, str], None]:
    def ask(b: _Appending, _: str) -> None:
        b.call("prctl", getattr(C, option), 0, 0, 0, 0)

    return ask


def _option_out(option: str, size: int) -> Callable[[_Appending, str], None]:
    def ask(b: _Appending, _: str) -> None:
        value = b.room(size)
        b.call("prctl", getattr(C, option), value, 0, 0, 0, out=value)

    return ask


def _plain(call: str, *values: int) -> Callable[[_Appending, str], None]:
    def ask(b: _Appending, _: str) -> None:
        b.call(call, *values)

    return ask


_WAYS: dict[str, Callable[[_Appending, str], None]] = {
    "fd": _descriptor,
    "file": _file,
    "Umask": _umask,
    "SigBlk": _blocked,
    "SigPnd": _pending,
    "ShdPnd": _pending,
    "Uid": _identity("getresuid"),
    "Gid": _identity("getresgid"),
    "Groups": _groups,
    "CapInh": _capabilities,
    "CapPrm": _capabilities,
    "CapEff": _capabilities,
    "limit": _limit,
    "dumpable": _option("PR_GET_DUMPABLE"),
    "keepcaps": _option("PR_GET_KEEPCAPS"),
    "securebits": _option("PR_GET_SECUREBITS"),
    "timerslack": _option("PR_GET_TIMERSLACK"),
    "NoNewPrivs": _option("PR_GET_NO_NEW_PRIVS"),
    "io flusher": _option("PR_GET_IO_FLUSHER"),
    "subreaper": _option_out("PR_GET_CHILD_SUBREAPER", 4),
    "death signal": _option_out("PR_GET_PDEATHSIG", 4),
    "name": _option_out("PR_GET_NAME", 16),
    "nice": _plain("getpriority", 0, 0),
    "policy": _plain("sched_getscheduler", 0),
    "personality": _plain("personality", 0xFFFFFFFF),
}
"""How each line is seen by a call; paths are not, as a program in C has another folder."""
