"""A machine: a build that runs in QEMU and obeys through its agent."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostabi.agent.channel import SocketChannel
from hostabi.agent.client import Agent
from hostabi.closing import Closing
from hostabi.errors import (
    HostabiError,
    InputError,
    MachineError,
    MissingFeatureError,
    StorageError,
    VerificationError,
)
from hostabi.guest.disk import Disk
from hostabi.guest.image import GuestImage, guest_image
from hostabi.kernels.build import Build
from hostabi.machine import accelerator, argv, emulator, states
from hostabi.machine.emulator import Emulator
from hostabi.machine.run import Run
from hostabi.model import Variant
from hostabi.packages.context import Packages
from hostabi.progress import SILENT, Progress

__all__ = ["Disk", "Machine", "start"]

_BOOT = 30.0
_MOVE = 60.0
_SCALES = {"kvm": 1.0, "tcg": 4.0}
"""What every deadline is multiplied with."""
_WIDE = 16 << 30
"""Bytes a second for moving a state; QEMU's own limit is meant for networks."""


class Machine(Closing):
    """A running guest. A context manager that owns the QEMU process.

    ``console`` is the log of the guest's console, readable while the machine
    lives. ``emulator`` is QEMU's version, ``accelerator`` "kvm" or "tcg",
    ``state`` is the saved state it was restored from, None after a boot;
    ``started_in`` the seconds from QEMU's start to hello.
    """

    def __init__(
        self, plan: Plan, run: Run, agent: Agent, *, began: float, state: Path | None = None
    ) -> None:
        self.build = plan.build
        self.variant = plan.variant
        self.accelerator = plan.options.accelerator
        self.emulator = plan.emulator.version
        self.agent = agent
        self.state = state
        self.started_in = time.monotonic() - began
        self._run = run
        run.phase = "serving"

    @property
    def restored(self) -> bool:
        """Whether this was a warm start."""
        return self.state is not None

    @property
    def console(self) -> Path:
        """The console's log."""
        return self._run.console

    @property
    def console_tail(self) -> str:
        """The last lines of the console."""
        return self._run.tail()

    @property
    def shell_socket(self) -> socket.socket:
        """The host's end of the second serial line, on which the agent can start a shell."""
        return self._run.shell

    @property
    def run(self) -> Run:
        """The QEMU process, its monitor and its events."""
        return self._run

    def close(self) -> None:
        """End the machine; nothing it wrote is kept."""
        self._run.close()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that was decided before QEMU is started."""

    build: Build
    variant: Variant
    emulator: Emulator
    image: GuestImage
    options: argv.Options

    @property
    def scale(self) -> float:
        """What deadlines are multiplied with."""
        return _SCALES[self.options.accelerator]

    @property
    def state_key(self) -> str:
        """Names the saved state of this machine."""
        return states.key_of(
            self.build.image_digest,
            self.image.key,
            f"{self.emulator.version} {self.emulator.key}",
            self.options.accelerator,
            argv.identity(self.options),
        )


def start(
    build: Build,
    packages: Packages,
    *,
    variant: Variant | None = None,
    accel: str = "auto",
    disks: Sequence[Disk] = (),
    warm: bool = True,
    alterable: bool = False,
    progress: Progress = SILENT,
) -> Machine:
    """Start ``build`` and return when its agent has said hello.

    With ``warm`` a saved state is restored (and made on first use); when that
    fails the machine boots and ``progress`` is told. ``alterable`` is for tests of
    those who have to find what differs: see agent.build. Raises MachineError and
    its kinds, or InputError when the guest cannot be made.
    """
    chosen = variant or Variant()
    found = emulator.find(packages)
    image = guest_image(build, packages, chosen, disks, alterable=alterable)

    def try_kvm() -> None:
        # A plain guest, for a variant's parameters may stop the kernel without KVM's doing.
        plain = Variant()
        plan = _plan(build, plain, found, guest_image(build, packages, plain), "kvm")
        boot(plan, deadline=accelerator.PROBE_DEADLINE).close()

    taken = accelerator.choose(
        accel, found, packages.cache, try_kvm, lasting=bool(build.packages), progress=progress
    )
    plan = _plan(build, chosen, found, image, taken)
    if not warm:
        return boot(plan)
    try:
        return _warm(plan, packages, progress)
    except _NotSavedError as error:
        raise error.reason from error.reason.__cause__
    except (MachineError, VerificationError, StorageError) as error:
        progress.say(f"{build.name}: booting, as the saved machine is of no use: {error.message}")
        return boot(plan)


def _plan(build: Build, variant: Variant, found: Emulator, image: GuestImage, taken: str) -> Plan:
    if build.image is None:
        raise InputError(
            f"{build.name}: there is no image to boot",
            advice="name a kernel line, a version or a file with --kernel",
        )
    options = argv.Options(
        kernel=build.image,
        initramfs=image.initramfs,
        accelerator=taken,
        memory=variant.memory,
        cpus=variant.cpus,
        parameters=variant.parameters,
        disks=image.disks,
        scratch=image.scratch,
    )
    return Plan(build, variant, found, image, options)


def boot(plan: Plan, deadline: float = _BOOT) -> Machine:
    """Boot from power-on. ``deadline`` in seconds until hello, scaled when emulated."""
    began = time.monotonic()
    run = Run(plan.emulator, plan.options, log=_log(plan))
    try:
        run.phase = "boot"
        agent = _agent(plan, run, deadline)
        return Machine(plan, run, agent, began=began)
    except BaseException:
        run.close()
        raise


def _agent(plan: Plan, run: Run, deadline: float) -> Agent:
    try:
        agent = Agent(
            SocketChannel(run.channel),
            diagnose=run.diagnose,
            inspect=run.trouble,
            timeout_scale=plan.scale,
            hello_timeout=deadline,
        )
    except MachineError as error:
        if lost := _LOST.search(error.console):
            raise _cut_off(plan, lost[1]) from error
        raise
    if agent.hello.missing:
        raise _cut_off(plan, ", ".join(agent.hello.missing[:5]))
    if agent.hello.failed:
        raise _lacking(plan, run, agent.hello.failed)
    return agent


_LOST = re.compile(r"hostabi: initramfs: (\S+) is missing")
"""What the agent prints, as without its modules it may never get as far as to say hello."""


def _cut_off(plan: Plan, what: str) -> InputError:
    return InputError(
        f"{plan.build.name}: the guest lacks {what}; the kernel cut its initramfs off",
        advice=f"give the guest more than {plan.variant.memory} MiB of memory",
    )


def _lacking(plan: Plan, run: Run, failed: Sequence[str]) -> MachineError:
    """Nothing measured in a guest without its disks, modules or cgroups would be worth anything."""
    message = f"{plan.build.name}: the guest is not complete: {'; '.join(failed[:5])}"
    if any(text.startswith("cgroup") for text in failed):
        return MissingFeatureError(
            message, advice="build the kernel with CONFIG_CGROUPS=y", console=run.tail()
        )
    return MachineError(
        message,
        advice="the console's last lines may say why; `hostabi cache prune` has disks made anew",
        console=run.tail(),
    )


class _NotSavedError(Exception):
    """The boot before the first save failed; booting again would only fail again."""

    def __init__(self, reason: HostabiError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _warm(plan: Plan, packages: Packages, progress: Progress) -> Machine:
    key = plan.state_key

    def make(path: Path) -> None:
        with progress.task(f"boot {plan.build.name} and save it"):
            try:
                machine = boot(plan)
            except HostabiError as error:
                raise _NotSavedError(error) from error
            with machine:
                _save(machine, path)

    try:
        saved = states.obtain(packages.cache, key, make, plan.emulator.version)
        return restore(plan, saved)
    except (MachineError, VerificationError):
        # A state that failed once is made anew by the next start, not tried again.
        packages.cache.forget(states.KIND, key)
        raise


def _save(machine: Machine, path: Path) -> None:
    run = machine.run
    monitor = run.monitor
    run.phase = "save"
    _set_up_migration(run)
    monitor.execute("stop")
    with path.open("wb") as file:
        monitor.hand_over("state", file.fileno())
        monitor.execute("migrate", {"uri": "fd:state"})
        run.wait_migration(_MOVE)


def _set_up_migration(run: Run) -> None:
    run.reset_migration()
    run.monitor.execute(
        "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
    )
    run.monitor.execute("migrate-set-parameters", {"max-bandwidth": _WIDE})


def restore(plan: Plan, saved: states.Saved) -> Machine:
    """Wake a saved machine. Raises VerificationError when the state is damaged, or MachineError."""
    began = time.monotonic()
    descriptor = states.open_for_reading(saved)
    try:
        check = states.Check(saved)
        run = Run(plan.emulator, plan.options, restore=True, inherit=(descriptor,), log=_log(plan))
    finally:
        os.close(descriptor)
    try:
        run.phase = "restore"
        _set_up_migration(run)
        run.monitor.execute("migrate-incoming", {"uri": f"fd:{descriptor}"})
        run.wait_migration(_MOVE)
        check.verify(_MOVE)
        run.monitor.execute("cont")
        agent = _agent(plan, run, _BOOT)
        agent.set_clock_and_entropy(time.time(), os.urandom(64))
        return Machine(plan, run, agent, began=began, state=saved.path)
    except BaseException:
        run.close()
        raise


def _log(plan: Plan) -> IO[bytes] | None:
    """A console log that is kept, where HOSTABI_LOGS names a folder."""
    named = os.environ.get("HOSTABI_LOGS")
    if not named:
        return None
    path = Path(named) / f"{plan.build.name}-{os.getpid()}-{time.monotonic_ns()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w+b")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", advice="see HOSTABI_LOGS") from error
