"""Saved machine states: a guest that has said hello, frozen, to be woken many times.

A state is one file and its checksum, in the cache. QEMU reads the file while
we sum it, and is told to go on only when the sum is right: a flipped byte in
the guest's memory would otherwise restore and answer without a word.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostabi.errors import MachineError, VerificationError
from hostabi.packages.cache import Cache

KIND = "states"
_KEPT = 30
"""States in the cache, of about 100 MB each; a change of anything they are made from leaves one."""
_STATE = "state"
_NOTE = "note.json"
_BLOCK = 1 << 20
_FORMAT = 1


class Note(msgspec.Struct, frozen=True):
    """Stored beside a state: what it should be, and what it was made with."""

    digest: str
    size: int
    emulator: str
    format: int = _FORMAT


class StateError(MachineError):
    """A saved state could not be made or restored."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A state on disk."""

    path: Path
    note: Note


def key_of(
    image_digest: str, guest: str, emulator: str, accelerator: str, arguments: Sequence[str]
) -> str:
    """Names all that must be equal for a state to be restored.

    ``arguments`` are QEMU's, with paths and descriptors that differ from run
    to run replaced. Under KVM the guest has seen the host's CPU.
    """
    parts = [str(_FORMAT), image_digest, guest, emulator, accelerator, *arguments]
    if accelerator == "kvm":
        parts.append(host_processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def host_processor() -> str:
    """Model and features of the first CPU, and the running kernel's release."""
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0].splitlines()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    kept = [line for line in lines if line.partition(":")[0].strip() in wanted]
    return "\n".join([*kept, platform.release()])


def obtain(cache: Cache, key: str, make: Callable[[Path], None], emulator: str) -> Saved:
    """The state ``key``; ``make`` writes it to the path given, once for all processes.

    Raises what ``make`` raises, and VerificationError when the note beside
    the state is damaged.
    """

    def build(folder: Path) -> None:
        state = folder / _STATE
        make(state)
        note = Note(digest_of(state), state.stat().st_size, emulator)
        (folder / _NOTE).write_bytes(msgspec.json.encode(note))

    folder = cache.folder(KIND, key, build, label="a saved machine")
    cache.keep(KIND, _KEPT)
    try:
        note = msgspec.json.decode((folder / _NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError) as error:
        raise VerificationError(f"{folder}: the note of a saved machine is damaged") from error
    return Saved(folder / _STATE, note)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Check:
    """Sums a state in a thread of its own while QEMU reads it (hashing lets go of the lock)."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._found = ""
        self._thread = threading.Thread(target=self._run, name="hostabi-sum", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = digest_of(self._saved.path)
        except OSError as error:
            self._found = f"unreadable: {error.strerror}"

    def verify(self, deadline: float) -> None:
        """Wait for the sum; VerificationError when it is not the noted one."""
        self._thread.join(deadline)
        if self._found != self._saved.note.digest:
            raise VerificationError(
                f"{self._saved.path}: a saved machine is damaged"
                f" (SHA-256 {self._found[:16] or 'not known in time'},"
                f" expected {self._saved.note.digest[:16]})",
                advice="look at the disk the cache lies on",
            )


def open_for_reading(saved: Saved) -> int:
    """A descriptor of the state, for QEMU to read; VerificationError when its size is wrong."""
    try:
        descriptor = os.open(saved.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VerificationError(f"{saved.path}: {error.strerror}") from error
    if os.fstat(descriptor).st_size != saved.note.size:
        os.close(descriptor)
        raise VerificationError(f"{saved.path}: a saved machine is cut off")
    return descriptor
