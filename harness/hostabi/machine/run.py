"""One run of QEMU: its process, sockets, events and console, and what its failures mean."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import IO

from hostabi.agent.channel import ChannelTimeoutError
from hostabi.errors import (
    AgentLostError,
    EmulatorExitError,
    GuestHangError,
    GuestMemoryError,
    GuestOopsError,
    GuestPanicError,
    HostabiError,
    MachineError,
    ProtocolError,
)
from hostabi.machine import argv, background, console
from hostabi.machine.emulator import Emulator
from hostabi.machine.process import Process
from hostabi.machine.qmp import Event, Monitor, MonitorError, event_data, event_name

_LOOK = 5.0
"""Seconds between two looks at the console's length."""

_SETTLE = 3.0
"""Seconds for the end of QEMU, or for an event, that should follow what was just seen."""


_NONSENSE = "the guest's memory or agent is damaged; start a fresh machine, or try --accel tcg"


class Run:
    """A started QEMU. Close it to end the process; nothing is left on disk."""

    def __init__(
        self,
        emulator: Emulator,
        options: argv.Options,
        *,
        restore: bool = False,
        inherit: tuple[int, ...] = (),
        log: IO[bytes] | None = None,
        spawn_deadline: float = 15.0,
    ) -> None:
        """Start QEMU and greet its monitor. Raises EmulatorExitError when it will not start."""
        self.emulator = emulator
        self.phase = "start"
        self.panic = False
        self.paused = False
        self.reason = ""
        self.port_closed = False
        self._migration = ""
        self._read = 0
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._monitor: Monitor | None = None
        self._log = log or tempfile.TemporaryFile(prefix="hostabi-console-")  # noqa: SIM115
        self.console = Path(f"/proc/{os.getpid()}/fd/{self._log.fileno()}")
        self.channel, agent = socket.socketpair()
        monitor, theirs = socket.socketpair()
        self.shell, shell = socket.socketpair()
        descriptors = argv.Descriptors(
            agent.fileno(), theirs.fileno(), shell.fileno(), self._log.fileno()
        )
        command = [*emulator.command, *argv.arguments(options, descriptors, restore=restore)]
        try:
            with agent, theirs, shell:
                self.process = Process(
                    command,
                    descriptors=(
                        descriptors.agent,
                        descriptors.monitor,
                        descriptors.shell,
                        descriptors.console,
                        *inherit,
                    ),
                    environment=emulator.environment,
                )
        except BaseException:
            monitor.close()
            self._close_sockets()
            raise
        threading.Thread(target=self._collect, name="hostabi-wait", daemon=True).start()
        self._stop_looking = background.every(_LOOK, lambda: console.bound(self.console))
        try:
            self._monitor = Monitor(monitor, self._on_event, spawn_deadline)
        except MonitorError as error:
            failure = self._refusal(error)
            self.close()
            raise failure from error
        except BaseException:
            self.close()
            raise

    @property
    def monitor(self) -> Monitor:
        """The monitor of the running QEMU."""
        if self._monitor is None:
            raise MonitorError("the machine has no monitor any more")
        return self._monitor

    def tail(self) -> str:
        """The last lines of the console."""
        return console.tail(self.console)

    # What happens, told by the background thread and by the one that waits for the process.

    def _on_event(self, event: Event) -> None:
        name, data = event_name(event), event_data(event)
        with self._changed:
            if name == "GUEST_PANICKED":
                self.panic = True
            elif name in ("SHUTDOWN", "RESET"):
                self.reason = str(data.get("reason", ""))
            elif name == "VSERPORT_CHANGE" and data.get("id") == argv.PORT_ID:
                self.port_closed = data.get("open") is False
            elif name in ("STOP", "RESUME"):
                self.paused = name == "STOP"
            elif name == "MIGRATION":
                self._migration = str(data.get("status", ""))
            self._changed.notify_all()
        if self.panic or self.port_closed or name == "SHUTDOWN":
            self._wake()

    def _collect(self) -> None:
        self.process.wait_for_end()
        if self._monitor is not None and not self._closed:
            self._monitor.drain()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._wake()

    def _wake(self) -> None:
        """End a wait for the agent: nothing will come."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)

    def wait_migration(self, deadline: float) -> None:
        """Wait until a state was written or read. Raises MachineError when that failed."""
        final = ("completed", "failed", "cancelled")
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._migration in final, deadline)
            if self._migration == "completed":
                return
        if self.process.status() is not None:
            raise self.exit_error()
        raise MachineError(
            f"QEMU did not move a machine's state: {self._migration or 'nothing'} after"
            f" at most {deadline:.0f} s; {self.process.errors()}"
        )

    def reset_migration(self) -> None:
        """Forget the outcome of the last one."""
        with self._changed:
            self._migration = ""

    # What a failure means.

    def diagnose(self, error: Exception) -> HostabiError:
        """Turn a channel that is silent, closed or full of nonsense into what happened."""
        if isinstance(error, ProtocolError):
            return ProtocolError(
                f"{error.message} ({self.phase})",
                advice=error.advice or _NONSENSE,
                console=self.tail(),
            )
        silent = isinstance(error, ChannelTimeoutError)
        with self._changed:
            if not silent:
                self._changed.wait_for(self._over, _SETTLE)
            if self.panic:  # let it print to the end: it reboots, which ends QEMU
                self._changed.wait_for(lambda: self._ended, _SETTLE)
            panic, ended = self.panic, self._ended
        if panic or (ended and console.panicked(self.console)):
            return GuestPanicError(
                f"the guest's kernel panicked ({self.phase})",
                advice="the console's last lines say why; "
                "`hostabi exec --accel tcg` shows whether it depends on the accelerator",
                console=self.tail(),
            )
        if ended:
            return self.exit_error()
        if silent:
            return self.hang_error(error)
        return AgentLostError(
            f"the agent's channel closed while the machine still runs ({self.phase})",
            advice="the agent died or was killed; start a fresh machine",
            console=self.tail(),
        )

    def _over(self) -> bool:
        return self._ended or self.panic

    def exit_error(self) -> EmulatorExitError:
        """QEMU ended: how, and what it said."""
        said = self.process.errors()
        why = f" because of {self.reason}" if self.reason else ""
        if self.reason == "guest-reset" and self.phase == "boot":
            return EmulatorExitError(
                "the guest reset itself before the agent said hello",
                advice="the kernel died early: give it more memory, or drop boot parameters",
                console=self.tail(),
            )
        return EmulatorExitError(
            f"QEMU {self.process.describe_end()}{why} ({self.phase})"
            + (f": {said}" if said else ""),
            advice="`hostabi doctor` shows which QEMU and accelerator are used; try --accel tcg",
            console=self.tail(),
        )

    def trouble(self) -> MachineError | None:
        """What is new on the console and tells of a kernel that broke without a panic."""
        line, self._read = console.trouble(self.console, self._read)
        if not line:
            return None
        if console.MEMORY in line:
            return GuestMemoryError(
                f"the guest ran out of memory ({self.phase}): {line}",
                advice="give the guest more memory, or have the test need less",
                console=self.tail(),
            )
        return GuestOopsError(
            f"the guest's kernel broke ({self.phase}): {line}",
            advice="start a fresh machine; if it comes again with --accel kvm, or with another"
            " QEMU (HOSTABI_QEMU=pinned), it is the kernel and not the emulator",
            console=self.tail(),
        )

    def hang_error(self, error: Exception) -> MachineError:
        """Nothing answers, and QEMU runs."""
        if broken := self.trouble():
            return broken
        state = "paused" if self.paused else "running"
        with contextlib.suppress(MonitorError):
            answer = self.monitor.execute("query-status", deadline=_SETTLE)
            if isinstance(answer, dict):
                state = str(answer.get("status", state))
        tail = self.tail()
        if self.phase == "boot" and not tail:
            advice = "the kernel printed nothing: try --accel tcg, or another kernel"
        elif self.phase == "boot":
            advice = "the console's last lines show how far it came; a slow host needs --jobs 1"
        else:
            advice = "the guest is stuck or too slow; try --jobs 1"
        return GuestHangError(
            f"the guest does not answer ({self.phase}; QEMU says it is {state}): {error}",
            advice=advice,
            console=tail,
        )

    def _refusal(self, error: MonitorError) -> MachineError:
        if self.process.wait(_SETTLE) is not None:
            return self.exit_error()
        return GuestHangError(
            f"QEMU started and does not talk: {error.message}",
            advice="the host may be overloaded; try --jobs 1",
        )

    def close(self) -> None:
        """End QEMU. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._stop_looking()
        self.process.kill()
        if self._monitor is not None:
            self._monitor.close()
        self.process.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        self.channel.close()
        self.shell.close()
        self._log.close()
