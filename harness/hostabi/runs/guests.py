"""Warm guests on demand: one machine per build and variant, handed to one user at a time.

A machine that is given back in order is kept for the next user; one that
failed is closed, so that the next user gets a fresh one. How many are alive
is bounded by ``jobs``; the least recently used idle machine makes room.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from hostabi.closing import Closing
from hostabi.errors import HostabiError, InputError, MachineError
from hostabi.kernels.identity import is_running
from hostabi.kernels.local import is_path
from hostabi.model import Variant
from hostabi.progress import SILENT, Progress

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.guest.disk import Disk
    from hostabi.kernels.build import Build
    from hostabi.kernels.lock import Lock
    from hostabi.machine.machine import Machine
    from hostabi.packages.context import Packages

_ATTEMPTS = 2
"""Starts of a build that may fail in a row; then it fails at once, as each costs a deadline."""

_OVERHEAD = 192
"""MiB that QEMU needs beside the guest's memory, rounded up from its resident size."""


class Start(Protocol):
    """Boots a build: :func:`hostabi.machine.machine.start` or a stand-in."""

    def __call__(self, build: Build, variant: Variant, disks: Sequence[Disk]) -> Machine:
        """Return a machine whose agent has said hello. Raises MachineError."""


def available_memory() -> int:
    """MiB that new processes may use without swapping (proc_meminfo(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 1024


def default_jobs(variant: Variant = Variant()) -> int:
    """How many guests may work at a time: bounded by our cores and by memory, at least one."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, available_memory() // (variant.memory + _OVERHEAD)))


def split_specs(values: Iterable[str]) -> tuple[str, ...]:
    """Kernel names from repeated options with comma lists, each once, in order.

    Files next to each other are one kernel: a split set of packages is a list of paths.
    """
    specs: list[str] = []
    for value in values:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        for files, group in itertools.groupby(parts, is_path):
            together = list(group)
            specs += [",".join(together)] if files else together
    return tuple(dict.fromkeys(specs))


@dataclass(frozen=True)
class _Key:
    build: str
    image: str
    variant: Variant
    cold: bool = False


@dataclass
class _Pool:
    """What is alive. Every field is guarded by ``changed``."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    idle: OrderedDict[_Key, Machine] = field(default_factory=OrderedDict)
    busy: dict[_Key, int] = field(default_factory=dict)
    lent: dict[int, Machine] = field(default_factory=dict)
    """The machines in use, by identity."""
    spoiled: set[int] = field(default_factory=set)
    """Those of them that are not to be used again."""
    closed: bool = False

    def alive(self) -> int:
        return len(self.idle) + sum(self.busy.values())


class Guests(Closing):
    """Builds and their machines, made when first asked for. A context manager; thread-safe.

    With ``alterable`` their agents are builds for tests, see agent.build.
    """

    def __init__(
        self,
        packages: Packages,
        *,
        accel: str = "auto",
        jobs: int | None = None,
        flavour: str = "",
        modules: Path | None = None,
        config: Path | None = None,
        lock: Lock | None = None,
        disks: Callable[[], Sequence[Disk]] = tuple,
        progress: Progress = SILENT,
        start: Start | None = None,
        resolve: Callable[[str], Build] | None = None,
        builds: Mapping[str, Build] = MappingProxyType({}),
        alterable: bool = False,
    ) -> None:
        self.packages = packages
        self.accel = accel
        self.accelerator = ""
        """What the last machine was started with, once there is one."""
        self.flavour = flavour
        self.modules = modules
        self.config = config
        self._lock = lock
        self.progress = progress
        self._alterable = alterable
        self._limit = jobs if jobs is not None else default_jobs()
        self._disks = disks
        self._start = start or self._start_machine
        self._boot = start or self._boot_machine
        self._resolve = resolve or self._resolve_build
        self._builds: dict[str, Build] = dict(builds)
        self._resolving: dict[str, threading.Lock] = {}
        self._failures: dict[_Key, list[MachineError]] = {}
        self._pool = _Pool()
        self._mutex = threading.Lock()

    @property
    def jobs(self) -> int:
        """How many machines may be alive at a time."""
        return self._limit

    @property
    def resolved(self) -> dict[str, Build]:
        """Every build that was asked for so far, by its name."""
        return {build.name: build for build in list(self._builds.values())}

    def build(self, spec: str) -> Build:
        """Resolve and fetch ``spec`` once. Errors are those of the resolver."""
        with self._mutex:
            lock = self._resolving.setdefault(spec, threading.Lock())
        with lock:
            if spec not in self._builds:
                self._builds[spec] = self._resolve(spec)
            return self._builds[spec]

    @contextmanager
    def machine(
        self, spec: str | Build, variant: Variant = Variant(), *, cold: bool = False
    ) -> Iterator[Machine]:
        """A machine of ``spec``, ours alone until the block ends.

        ``cold`` boots one from power-on: two that were restored from one saved
        state share its random numbers, and all that its boot came to.

        It is kept warm if the block ends in order. After a MachineError, or if
        it cannot be reset, it is closed and the next user gets a fresh one.
        """
        build = self.build(spec) if isinstance(spec, str) else spec
        if build.image is None:
            raise InputError(
                f"{build.name} has no image here that could be booted",
                advice="name a line such as 6.1, or a kernel file",
            )
        key = _Key(build.name, build.image_digest, variant, cold)
        machine = self._take(key) or self._fresh(key, build)
        with self._pool.changed:
            self._pool.lent[id(machine)] = machine
        sound = False
        try:
            yield machine
            sound = True
        except MachineError:
            raise
        except BaseException:
            sound = True
            raise
        finally:
            self._give_back(key, machine, sound=sound)

    @contextmanager
    def agent(self, spec: str | Build, variant: Variant = Variant()) -> Iterator[Agent]:
        """The agent of a machine of ``spec``; for ``running``, a local unprivileged process."""
        name = spec if isinstance(spec, str) else spec.name
        if is_running(name):
            from hostabi.agent.build import binary  # noqa: PLC0415
            from hostabi.agent.local import local_agent  # noqa: PLC0415

            program = binary("agent", self.packages.cache, alterable=self._alterable)
            with local_agent(program) as agent:
                yield agent
        else:
            with self.machine(spec, variant) as machine:
                yield machine.agent

    @contextmanager
    def agents(
        self, specs: Sequence[str], variant: Variant = Variant()
    ) -> Iterator[Mapping[str, Agent]]:
        """One agent for each of ``specs``, all alive at the same time, whatever ``jobs`` says.

        Raises InputError when they do not fit into memory.
        """
        with self.room(len(specs), variant), ExitStack() as stack:
            yield {spec: stack.enter_context(self.agent(spec, variant)) for spec in specs}

    @contextmanager
    def room(self, count: int, variant: Variant = Variant()) -> Iterator[None]:
        """Let ``count`` machines be alive at the same time, whatever ``jobs`` says.

        Raises InputError when they do not fit into memory.
        """
        needed = count * (variant.memory + _OVERHEAD)
        with self._pool.changed:
            kept = self._pool.alive() * (variant.memory + _OVERHEAD)
        if needed > available_memory() + kept:
            raise InputError(
                f"{count} guests at once need {needed} MiB, "
                f"of which {available_memory()} MiB are free",
                advice="name fewer kernels with --kernel",
            )
        before = self._limit
        self._limit = max(before, count)
        try:
            yield
        finally:
            self._limit = before

    def spoil(self, machine: Machine) -> None:
        """Say that ``machine`` failed: it is closed when given back."""
        with self._pool.changed:
            self._pool.spoiled.add(id(machine))

    def spoil_all(self) -> None:
        """Say that every machine in use now failed."""
        with self._pool.changed:
            self._pool.spoiled.update(self._pool.lent)

    def close(self) -> None:
        """Close every idle machine; those in use are closed when given back."""
        with self._pool.changed:
            self._pool.closed = True
        self.close_idle()

    def abort(self) -> None:
        """Close every machine, also those in use, whose users get a MachineError."""
        self.close()
        with self._pool.changed:
            lent = list(self._pool.lent.values())
        for machine in lent:
            _close(machine)

    def close_idle(self) -> None:
        """Close every machine that nobody uses; the next user starts a fresh one."""
        with self._pool.changed:
            idle = list(self._pool.idle.values())
            self._pool.idle.clear()
            self._pool.changed.notify_all()
        for machine in idle:
            _close(machine)

    def _take(self, key: _Key) -> Machine | None:
        """An idle machine of ``key``, or None with a place reserved to start one."""
        pool = self._pool
        while True:
            with pool.changed:
                if pool.closed:
                    raise MachineError("the guests are being closed")
                if key in pool.idle:
                    machine = pool.idle.pop(key)
                    pool.busy[key] = pool.busy.get(key, 0) + 1
                    return machine
                if pool.alive() < self._limit:
                    pool.busy[key] = pool.busy.get(key, 0) + 1
                    return None
                victim = pool.idle.popitem(last=False)[1] if pool.idle else None
                if victim is None:
                    pool.changed.wait()
            if victim is not None:
                _close(victim)

    def _fresh(self, key: _Key, build: Build) -> Machine:
        try:
            known = self._failures.get(key, [])
            if len(known) >= _ATTEMPTS:
                raise known[-1]
            starter = self._boot if key.cold else self._start
            machine = starter(build, key.variant, self._disks())
            self.accelerator = machine.accelerator
        except BaseException as error:
            if isinstance(error, MachineError):
                self._failures[key] = [*self._failures.get(key, []), error]
            self._release(key)
            raise
        self._failures.pop(key, None)
        return machine

    def _give_back(self, key: _Key, machine: Machine, *, sound: bool) -> None:
        with self._pool.changed:
            sound = sound and id(machine) not in self._pool.spoiled
            self._pool.lent.pop(id(machine), None)
            self._pool.spoiled.discard(id(machine))
        if sound:
            try:
                machine.agent.reset()
            except HostabiError as error:
                sound = False
                self._tell(key, error)
        with self._pool.changed:
            keep = sound and not self._pool.closed and key not in self._pool.idle
            keep = keep and self._pool.alive() <= self._limit
            if keep:
                self._pool.idle[key] = machine
            self._drop(key)
        if not keep:
            _close(machine)

    def _tell(self, key: _Key, error: HostabiError) -> None:
        """Say what only came to light when a machine was given back, in order as it seemed.

        Who used it has gone, and may owe a result to a kernel that was broken already.
        """
        with self._pool.changed:
            closed = self._pool.closed
        if not closed:
            self.progress.say(
                f"{key.build}: a guest failed when it was given back: {error.message}; "
                "what was done there last may be wrong, and a fresh one takes its place"
            )

    def _release(self, key: _Key) -> None:
        with self._pool.changed:
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        """Take one user off ``key``; the caller holds the pool."""
        self._pool.busy[key] -= 1
        self._pool.changed.notify_all()

    def _boot_machine(self, build: Build, variant: Variant, disks: Sequence[Disk]) -> Machine:
        return self._start_machine(build, variant, disks, warm=False)

    def _start_machine(
        self, build: Build, variant: Variant, disks: Sequence[Disk], *, warm: bool = True
    ) -> Machine:
        from hostabi.machine.machine import start  # noqa: PLC0415

        return start(
            build,
            self.packages,
            variant=variant,
            accel=self.accel,
            disks=disks,
            warm=warm,
            alterable=self._alterable,
            progress=self.progress,
        )

    def _resolve_build(self, spec: str) -> Build:
        from hostabi.kernels.build import DEFAULT_FLAVOUR  # noqa: PLC0415
        from hostabi.kernels.resolve import resolve  # noqa: PLC0415

        flavour = self.flavour or DEFAULT_FLAVOUR
        local = is_path(spec)
        return resolve(
            spec,
            self.packages,
            flavour=flavour,
            modules=self.modules if local else None,
            config=self.config if local else None,
            lock=self._lock,
        )


def _close(machine: Machine) -> None:
    """Close a machine that nobody uses; how it fails to go away is of no use to anyone."""
    try:
        machine.__exit__(None, None, None)
    except HostabiError:
        return
