"""What was asked of a guest, in its order: so that a failure can be told whole and done again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Protocol

import msgspec

from hostabi.agent.records import Completed
from hostabi.errors import HostabiError

_KEPT = 3000
"""Bytes kept of the end of each output."""


class Commander(Protocol):
    """The part of an agent that a runtime needs."""

    def command(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 30,
        root: str = "",
        cwd: str = "/",
        limit: int = 4 << 20,
    ) -> Completed:
        """Run a command in the tree ``root``."""

    def read(self, path: str, limit: int = 64 << 20) -> bytes:
        """Read a file; CallError."""

    def write(self, path: str, data: bytes, *, mode: int = 0o644, create: bool = True) -> None:
        """Write a file; CallError."""


class Command(msgspec.Struct, frozen=True, tag="command", omit_defaults=True):
    """A command and how it ended; ``env`` is None for the agent's own environment.

    ``error`` tells why its end is not known.
    """

    argv: tuple[str, ...]
    root: str = ""
    cwd: str = "/"
    env: dict[str, str] | None = None
    stdin: bytes = b""
    status: int = 0
    signal: int = 0
    stdout: str = ""
    stderr: str = ""
    error: str = ""


class Written(msgspec.Struct, frozen=True, tag="written", omit_defaults=True):
    """A file that was written: ``text``, or ``data`` where that is no text."""

    path: str
    text: str = ""
    data: bytes = b""
    mode: int = 0o644
    create: bool = True

    @property
    def content(self) -> bytes:
        """What was written."""
        return self.data or self.text.encode()


class Read(msgspec.Struct, frozen=True, tag="read", omit_defaults=True):
    """A file that was read, and the end of what it held; ``error`` where it could not be."""

    path: str
    text: str = ""
    error: str = ""


Event = Command | Written | Read
Kept = MutableMapping[Hashable, tuple[Event, ...]]
"""The events that several tests share, by what they share."""


class Log:
    """An agent that notes what is asked of it. ``kept`` outlives the log, for :meth:`once`."""

    def __init__(self, agent: Commander, kept: Kept | None = None) -> None:
        self.events: list[Event] = []
        self._agent = agent
        self._kept: Kept = {} if kept is None else kept
        self._aside = False
        self._had: set[Hashable] = set()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Note nothing of what follows: tidying up would take away what one wants to look at."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before

    @contextmanager
    def once(self, key: Hashable) -> Iterator[None]:
        """What follows is done by the first who comes with ``key``, and noted for all of them."""
        if key in self._kept:
            self.events += () if key in self._had else self._kept[key]
            self._had.add(key)
            with self.aside():
                yield
            return
        start = len(self.events)
        yield
        self._kept[key] = tuple(self.events[start:])
        self._had.add(key)

    def command(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 30,
        root: str = "",
        cwd: str = "/",
        limit: int = 4 << 20,
    ) -> Completed:
        """Run a command in the tree ``root``."""
        asked = Command(tuple(argv), root, cwd, dict(env) if env is not None else None, stdin)
        try:
            done = self._agent.command(
                argv, env=env, stdin=stdin, timeout=timeout, root=root, cwd=cwd, limit=limit
            )
        except HostabiError as error:
            self._note(msgspec.structs.replace(asked, error=error.message))
            raise
        self._note(
            msgspec.structs.replace(
                asked,
                status=done.status,
                signal=done.signal,
                stdout=_text(done.stdout),
                stderr=_text(done.stderr),
                error="it did not end" if done.timed_out else "",
            )
        )
        return done

    def read(self, path: str, limit: int = 64 << 20) -> bytes:
        """Read a file; CallError."""
        try:
            data = self._agent.read(path, limit)
        except HostabiError as error:
            self._note(Read(path, error=error.message))
            raise
        self._note(Read(path, _text(data)))
        return data

    def write(self, path: str, data: bytes, *, mode: int = 0o644, create: bool = True) -> None:
        """Write a file; CallError."""
        try:
            noted = Written(path, text=data.decode(), mode=mode, create=create)
        except UnicodeDecodeError:
            noted = Written(path, data=data, mode=mode, create=create)
        self._note(noted)
        self._agent.write(path, data, mode=mode, create=create)

    def _note(self, event: Event) -> None:
        if not self._aside:
            self.events.append(event)


def _text(data: bytes) -> str:
    return data[-_KEPT:].decode("utf-8", "replace")
