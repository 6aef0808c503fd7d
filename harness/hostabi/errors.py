"""Errors that name the thing, the cause and the next step.

Every error a user can cause or meet derives from :class:`HostabiError`. The
command line prints it without a traceback and leaves with its exit code:
0 nothing broke, 1 a break or a failing test, 2 bad usage or bad input,
3 could not find out.
"""

from __future__ import annotations


class HostabiError(Exception):
    """Something a user can act on: what happened, and in ``advice`` what to try."""

    exit_code = 3

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.advice}" if self.advice else self.message


class InputError(HostabiError):
    """The user's input is at fault: a name, a file, an option."""

    exit_code = 2


class PackageError(HostabiError):
    """A package, an index or a signature could not be had or trusted."""


class VerificationError(InputError):
    """Bytes that are not what a signature or a checksum promised."""


class ArchiveError(InputError):
    """An archive that is truncated, corrupt, or reaches outside its folder."""


class ImageError(InputError):
    """A kernel image that cannot be unpacked or read."""


class StorageError(InputError):
    """A folder that cannot be written, or a disk that is full."""


class MachineError(HostabiError):
    """A machine failed. ``console`` is the tail of what its kernel printed."""

    def __init__(self, message: str, *, advice: str = "", console: str = "") -> None:
        super().__init__(message, advice=advice)
        self.console = console

    def __str__(self) -> str:
        text = super().__str__()
        if not self.console:
            return text
        tail = "\n".join(f"  | {line}" for line in self.console.splitlines()[-20:])
        return f"{text}\n  console:\n{tail}"


class GuestPanicError(MachineError):
    """The guest's kernel panicked (pvpanic or a QMP event said so)."""


class GuestOopsError(MachineError):
    """The guest's kernel oopsed or locked up and went on; what it says since is worth nothing."""


class GuestMemoryError(MachineError):
    """The guest ran out of memory, and its kernel killed a process for it."""


class GuestHangError(MachineError):
    """The machine runs, but nothing answers before the deadline."""


class AgentLostError(MachineError):
    """The agent died or its channel closed while the machine still runs."""


class EmulatorExitError(MachineError):
    """QEMU itself exited."""


class MissingFeatureError(MachineError):
    """The kernel lacks what a guest needs; the message names the option."""

    exit_code = 2


class ProtocolError(MachineError):
    """A frame that breaks the protocol: bad magic, length, type or content.

    What a guest sends is input like a file's bytes, and the kernel that sent it
    was the user's choice: hence the exit code of bad input.
    """

    exit_code = 2


class CallError(HostabiError):
    """A request to the agent that the guest's kernel refused; ``errno`` says why."""

    def __init__(self, message: str, *, errno: int, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.errno = errno


class SandboxError(HostabiError):
    """The sandbox of a program could not be made, so the kernel was not asked anything."""
