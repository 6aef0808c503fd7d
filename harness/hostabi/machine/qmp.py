"""QEMU's monitor: commands and events over a socket, by the qemu.qmp library.

The library is asynchronous; it runs in the background thread, and callers
here block with a deadline.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from typing import cast

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from hostabi.errors import MachineError
from hostabi.machine import background

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what fails is raised, not logged

Event = Mapping[str, object]
_CLOSING = 2.0


class MonitorError(MachineError):
    """The monitor refused a command, broke off, or did not answer in time."""


class Monitor:
    """A connection to QEMU's monitor. ``on_event`` is called in the background thread."""

    def __init__(
        self, connection: socket.socket, on_event: Callable[[Event], None], deadline: float = 10.0
    ) -> None:
        """Greet over a connected socket, which is owned from here on."""
        self._client = QMPClient("hostabi")
        self._on_event = on_event
        self._follower: asyncio.Task[None] | None = None
        try:
            background.wait(self._open(connection), deadline)
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            self.close()
            raise MonitorError(f"QEMU's monitor did not greet: {_reason(error)}") from error

    async def _open(self, connection: socket.socket) -> None:
        await self._client.connect(connection)
        self._follower = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self._client.events:
            self._on_event(event)

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, deadline: float = 10.0
    ) -> object:
        """Run a command and return its answer; MonitorError when it fails."""
        return self._run(command, arguments, None, deadline)

    def hand_over(self, name: str, descriptor: int, deadline: float = 10.0) -> None:
        """Give QEMU a descriptor under ``name`` (``getfd``)."""
        self._run("getfd", {"fdname": name}, descriptor, deadline)

    def _run(
        self,
        command: str,
        arguments: Mapping[str, object] | None,
        descriptor: int | None,
        deadline: float,
    ) -> object:
        async def work() -> object:
            if descriptor is not None:
                self._client.send_fd_scm(descriptor)
            return await self._client.execute(command, cast("dict[str, object] | None", arguments))

        try:
            return background.wait(work(), deadline)
        except ExecuteError as error:
            raise MonitorError(f"QEMU refused {command}: {error}") from error
        except TimeoutError as error:
            raise MonitorError(f"QEMU did not answer {command} within {deadline:.0f} s") from error
        except (QMPError, OSError, EOFError, concurrent.futures.CancelledError) as error:
            raise MonitorError(
                f"QEMU's monitor broke off at {command}: {_reason(error)}"
            ) from error

    def drain(self, deadline: float = 1.0) -> None:
        """Once QEMU has ended: let what it said last be heard."""

        async def work() -> None:
            while self._client.runstate is Runstate.RUNNING:
                await self._client.runstate_changed()
            for _ in range(8):  # the follower is woken in the loop's next rounds
                await asyncio.sleep(0)

        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            background.wait(work(), deadline)

    def close(self) -> None:
        """Leave the connection. Errors of a QEMU that is gone already are of no interest."""

        async def work() -> None:
            if self._follower is not None:
                self._follower.cancel()
            with contextlib.suppress(QMPError, OSError, EOFError):
                await self._client.disconnect()

        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            background.wait(work(), _CLOSING)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def event_name(event: Message | Event) -> str:
    """The event's name, empty for something else."""
    name = event.get("event")
    return name if isinstance(name, str) else ""


def event_data(event: Message | Event) -> Mapping[str, object]:
    """The event's details, empty when there are none."""
    data = event.get("data")
    return cast("Mapping[str, object]", data) if isinstance(data, dict) else {}
