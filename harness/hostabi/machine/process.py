"""An emulator process that cannot outlive the one that started it.

Three nets: the context manager kills it, the kernel kills it when we die
(parent-death signal, set by setpriv(1) between fork and exec), and it holds no
terminal, as it has a session of its own.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hostabi.closing import Closing
from hostabi.errors import EmulatorExitError
from hostabi.machine import background, console

_KEPT = 4 << 10
"""Bytes of what a process said that are told of."""
_MOST = 1 << 20
"""Bytes of it that may be on disk before the older ones are dropped."""
_LOOK = 5.0
"""Seconds between two looks at how much there is."""

# A parent that died before the signal was set, and so sends none, is noticed by its pid.
_CHECK = 'test "$PPID" = "$0" && exec "$@"'

# Where there is no setpriv.
_FALLBACK = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]): os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process(Closing):
    """A running emulator. The last of its standard error is kept, for when it fails."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start ``command``, which inherits ``descriptors`` under their numbers.

        Raises EmulatorExitError when it cannot be started at all.
        """
        # Appending, as the beginning may be cut off; it lives as long as the process.
        self._errors = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        words = [*death_signal(), *command]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=tuple(descriptors),
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

        try:
            self._popen: subprocess.Popen[bytes] = background.call(start)
        except OSError as error:
            self._errors.close()
            raise EmulatorExitError(
                f"{command[0]}: cannot be started: {error.strerror}",
                advice="run `hostabi doctor`, or name a QEMU with HOSTABI_QEMU",
            ) from error
        path = Path(f"/proc/{os.getpid()}/fd/{self._errors.fileno()}")
        self._stop_looking = background.every(
            _LOOK, lambda: console.bound(path, limit=_MOST, kept=_KEPT)
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def status(self) -> int | None:
        """Exit status (negative: killed by that signal), None while it runs."""
        return self._popen.poll()

    def wait(self, deadline: float) -> int | None:
        """Wait at most ``deadline`` seconds for the end; the status, or None."""
        try:
            return self._popen.wait(deadline)
        except subprocess.TimeoutExpired:
            return None

    def wait_for_end(self) -> int:
        """Wait for the end, however long it takes."""
        return self._popen.wait()

    def errors(self) -> str:
        """The last of what it wrote to standard error."""
        if self._errors.closed:
            return ""
        number = self._errors.fileno()
        length = os.fstat(number).st_size
        text = os.pread(number, _KEPT, max(0, length - _KEPT))
        return text.decode("utf-8", "replace").strip()

    def describe_end(self) -> str:
        """How it ended, in words."""
        status = self.status()
        if status is None:
            return "still runs"
        if status >= 0:
            return f"exited with status {status}"
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"

    def kill(self) -> None:
        """End it at once and collect it. Calling it again does nothing."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()

    def close(self) -> None:
        """Kill it and let go of what it wrote."""
        self.kill()
        if not self._errors.closed:
            self._stop_looking()
            self._errors.close()


@functools.cache
def _setpriv() -> str:
    """Path of a setpriv that knows --pdeathsig (util-linux 2.33 and later), else empty."""
    found = shutil.which("setpriv")
    if found is None:
        return ""
    tried = subprocess.run(
        [found, "--pdeathsig", "KILL", "--", "/bin/true"], capture_output=True, check=False
    )
    return found if tried.returncode == 0 else ""


def death_signal() -> list[str]:
    """The words before a command that make it die with this process."""
    if found := _setpriv():
        return [found, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _CHECK, str(os.getpid())]
    return [sys.executable, "-I", "-S", "-c", _FALLBACK, str(os.getpid())]
