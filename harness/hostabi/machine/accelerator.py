"""KVM or emulation: tried by booting a real kernel, and remembered.

A ``/dev/kvm`` that opens may still not run a stock kernel: QEMU aborts on a
register it may not set, or the guest hangs before it prints anything.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from hostabi.errors import InputError, MachineError, MissingFeatureError
from hostabi.machine.emulator import Emulator
from hostabi.machine.states import host_processor
from hostabi.packages.cache import Cache
from hostabi.progress import SILENT, Progress

Choice = Literal["auto", "kvm", "tcg"]
DEVICE = Path("/dev/kvm")
KIND = "accelerators"
PROBE_DEADLINE = 20.0
"""Seconds in which a kernel must have said hello under KVM; it takes one or two."""


LASTING = 86_400.0
"""Seconds after which KVM gets another chance, for an overloaded host looks like one without."""

_told: set[str] = set()
"""Reasons that were said already; every start of a machine asks."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether KVM runs kernels here, and if not, why. ``when`` in seconds since 1970."""

    works: bool
    why: str = ""
    when: float = 0.0


def openable(device: Path = DEVICE) -> str:
    """Empty when ``device`` can be opened, else why not."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device}: {error.strerror}"
    return ""


def key_of(emulator: Emulator) -> str:
    """Names the host kernel, its CPU and QEMU: a verdict holds as long as these do."""
    return hashlib.sha256(f"{host_processor()}\n{emulator.key}".encode()).hexdigest()[:32]


def remembered(cache: Cache, emulator: Emulator) -> Verdict | None:
    """The verdict of an earlier probe, if there is one; a bad one only for a day."""
    path = cache.root / KIND / key_of(emulator)
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None
    fresh = 0 <= time.time() - verdict.when < LASTING
    return verdict if verdict.works or fresh else None


def choose(
    choice: str,
    emulator: Emulator,
    cache: Cache,
    boot: Callable[[], None],
    *,
    lasting: bool = True,
    progress: Progress = SILENT,
) -> str:
    """``kvm`` or ``tcg`` for a choice of ``auto``, ``kvm`` or ``tcg``.

    ``boot`` boots a kernel under KVM within PROBE_DEADLINE or raises
    MachineError, which is a verdict; whatever else it raises says nothing about
    KVM and comes through. It is called when no earlier verdict is known. With
    ``lasting=False`` a bad verdict is not kept, as the kernel may be at fault.
    Raises InputError for another choice, MachineError when ``kvm`` is asked for and absent.
    """
    if choice not in ("auto", "kvm", "tcg"):
        raise InputError(f"accelerator {choice!r} is unknown", advice="auto, kvm or tcg")
    if choice == "tcg":
        return "tcg"
    closed = openable()
    if choice == "kvm":
        if closed:
            raise MachineError(f"KVM was asked for: {closed}", advice="use --accel auto or tcg")
        return "kvm"
    if closed:
        return "tcg"
    verdict = remembered(cache, emulator)
    if verdict is None:
        verdict = _probe(emulator, cache, boot, lasting=lasting, progress=progress)
    if not verdict.works and verdict.why not in _told:
        _told.add(verdict.why)
        first = verdict.why.partition("\n")[0]
        progress.say(f"emulating, as KVM does not run kernels here: {first}")
    return "kvm" if verdict.works else "tcg"


def _probe(
    emulator: Emulator, cache: Cache, boot: Callable[[], None], *, lasting: bool, progress: Progress
) -> Verdict:
    made: list[Verdict] = []

    def attempt() -> Verdict:
        with progress.task("trying KVM"):
            try:
                boot()
            except MissingFeatureError:
                raise  # the kernel's own lack
            except MachineError as error:
                return Verdict(works=False, why=error.message, when=time.time())
        return Verdict(works=True, when=time.time())

    def keep(path: Path) -> None:
        made.append(attempt())
        path.write_bytes(msgspec.json.encode(made[0]))

    if lasting:
        cache.forget(KIND, key_of(emulator))  # out of date, or damaged
        path = cache.file(KIND, key_of(emulator), keep)
        verdict = made[0] if made else msgspec.json.decode(path.read_bytes(), type=Verdict)
    else:
        verdict = attempt()
    return verdict
