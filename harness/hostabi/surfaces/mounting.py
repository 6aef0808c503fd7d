"""Mounts made in one of two ways, each in a folder of its own."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence

from hostabi.surfaces.probing import Questions
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

Parameter = tuple[str, "str | int | Ref | None"]
"""A name and what it is set to: text, a descriptor, or nothing for a flag."""


class Way(enum.StrEnum):
    """How a mount is made. The value is what the key of a fact ends with."""

    MOUNT = ""
    """mount(2) with one string of options."""
    FSMOUNT = ".fsmount"
    """fsopen(2), fsconfig(2) for each parameter and FSCONFIG_CMD_CREATE, fsmount(2)."""


class Mounter:
    """Asks for mounts by the questions ``q``."""

    def __init__(self, q: Questions, way: Way) -> None:
        self.q = q
        self._way = way
        self._count = 0

    def ask(
        self,
        key: str,
        kind: str,
        parameters: Iterable[Parameter] = (),
        *,
        needs: Sequence[Ref] = (),
        fine: Collection[str] = (),
    ) -> Ref:
        """Whether a file system of this type can be mounted with these parameters.

        ``needs`` are calls without whose success there is no answer.
        """
        if self._way is Way.FSMOUNT:
            return self._fsmount(key, kind, parameters, needs, fine)
        q, source = self.q, kind
        texts = []
        for name, value in parameters:
            if name == "source":
                source = str(value)
            else:
                texts.append(name if value is None else f"{name}={value}")
        here = self.folder()
        options: Value = q.string(",".join(texts)) if texts else 0
        way = (q.string(source), q.string(here), q.string(kind), 0, options)
        return q.ask(f"{key}{self._way}", "mount", *way, needs=needs, fine=fine)

    def folder(self) -> str:
        """A fresh one, to mount something on."""
        self._count += 1
        name = f"m{self._count}"
        self.q.call("mkdir", self.q.string(name), 0o755)
        return name

    def _fsmount(
        self,
        key: str,
        kind: str,
        parameters: Iterable[Parameter],
        needs: Sequence[Ref],
        fine: Collection[str],
    ) -> Ref:
        q = self.q
        fs = q.call("fsopen", q.string(kind), C.FSOPEN_CLOEXEC)
        before = [*needs, fs]
        for name, value in parameters:
            before.append(self._set(fs, name, value))
        create = (fs, C.FSCONFIG_CMD_CREATE, 0, 0, 0)
        if fine:
            # what it says instead of a mount is the answer
            return q.ask(f"{key}{self._way}", "fsconfig", *create, needs=before, fine=fine)
        before.append(q.call("fsconfig", *create))
        return q.ask(f"{key}{self._way}", "fsmount", fs, C.FSMOUNT_CLOEXEC, 0, needs=before)

    def _set(self, fs: Ref, name: str, value: str | int | Ref | None) -> Ref:
        q, word = self.q, self.q.string(name)
        match value:
            case None:
                return q.call("fsconfig", fs, C.FSCONFIG_SET_FLAG, word, 0, 0)
            case str():
                return q.call("fsconfig", fs, C.FSCONFIG_SET_STRING, word, q.string(value), 0)
        return q.call("fsconfig", fs, C.FSCONFIG_SET_FD, word, 0, value)


def mounting(way: Way) -> Mounter:
    """Questions about mounts that go with the program that made them."""
    return Mounter(Questions(namespaces=C.CLONE_NEWNS, timeout=5.0), way)
