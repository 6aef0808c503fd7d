"""Driving a container engine: an image from a layout, and one container from run to remove.

An engine works in its own tree as a runtime does (:mod:`hostabi.oci.driver`), but in one
mount namespace for all of its commands, as on a host: what one command mounts the next one
finds. Its writable state lies on the guest's tmpfs. There is no network.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from hostabi.errors import CallError, MachineError
from hostabi.oci import engine_blame
from hostabi.oci.driver import stepped
from hostabi.oci.engines import IMAGE, MOUNT, Entry, find
from hostabi.oci.layout import REFERENCE
from hostabi.oci.log import Commander, Kept, Log
from hostabi.oci.visits import Step

WORK = "/work/engine"
"""Where an engine writes, in the guest and in its tree."""

_RUN = "/run/hostabi-engine"
_BUSYBOX = f"{WORK}/busybox"
_LOG = f"{WORK}/log"
_SOCKET = f"{_RUN}/socket"
_NAMESPACE = f"{_RUN}/namespace"
"""A link to the mount namespace that the commands of an engine share."""
_HOLDER = f"{_RUN}/holder"
"""Has the process that holds it."""
_SECONDS = 90.0
"""For one command of an engine, which is a large program; the agent scales it when emulated."""
_STOP = 20
"""Seconds that a container is given to end by itself."""

_EXIT_CODE = re.compile(rb"exit code (\d{1,3})")

MAPPED = (100_000, 65_536)
"""The ids of the guest that a container's user namespace has, and how many."""


class EngineError(AssertionError):
    """An engine did not do what it was asked, and what it needs is there.

    An assertion and no harness error: it speaks about the engine on this kernel.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a container: ``memory`` in bytes, without swap, and ``tasks``, 0 for none."""

    memory: int
    tasks: int


@dataclass(frozen=True, slots=True)
class State:
    """A container as its engine sees it; ``pid`` is 0 when it does not run."""

    running: bool
    pid: int = 0


class Words(Protocol):
    """The command line of a family: pure functions."""

    limits_tasks: bool
    """Whether it takes a limit of tasks."""

    def daemon(self) -> tuple[str, ...]:
        """What has to run while the engine is used; empty for an engine without a daemon."""

    def pull(self) -> tuple[str, ...]:
        """Import the image."""

    def images(self) -> tuple[str, ...]:
        """List the digests of manifests."""

    def run(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """Create and start a container that stays."""

    def limited(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """Run a container to its end."""

    def mapped(
        self, name: str, volume: str, command: Sequence[str], *, shifting: bool
    ) -> tuple[str, ...]:
        """Run a container in a user namespace to its end, with the id-mapped folder ``volume``
        at /data if there is one. ``shifting`` is what :meth:`shifts` says."""

    def execute(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """Run one more process."""

    def state(self, name: str) -> tuple[str, ...]:
        """What :meth:`parse` reads."""

    def parse(self, text: str, name: str) -> State:
        """A container's state."""

    def stop(self, name: str) -> tuple[str, ...]:
        """Ask a container to end."""

    def logs(self, name: str) -> tuple[str, ...]:
        """Print what a container has written."""

    def status(self, name: str) -> tuple[str, ...]:
        """What :meth:`ended_with` reads."""

    def ended_with(self, step: Step) -> int:
        """The status that a container ended with."""

    def remove(self, name: str) -> tuple[str, ...]:
        """Remove a container that has ended."""

    def containers(self) -> tuple[str, ...]:
        """List containers."""

    def shifting(self) -> tuple[str, ...]:
        """Whether its overlayfs maps the ids of an image's files, so that it need not copy them."""

    def shifts(self, text: str) -> bool:
        """What that says."""


class Containerd:
    """ctr, the command line that containerd is tested with; it takes no limit of tasks."""

    limits_tasks = False
    _base = ("/usr/bin/ctr", "--address", _SOCKET, "--namespace", "hostabi")

    def daemon(self) -> tuple[str, ...]:
        """The daemon itself."""
        folders = ("--root", f"{WORK}/root", "--state", f"{_RUN}/state")
        return ("/usr/bin/containerd", *folders, "--address", _SOCKET)

    def pull(self) -> tuple[str, ...]:
        """ctr takes a layout as an archive."""
        return (*self._base, "image", "import", f"{WORK}/image.tar")

    def images(self) -> tuple[str, ...]:
        """A table."""
        return (*self._base, "image", "list")

    def run(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """The output goes to a file, as nobody is attached."""
        options = ("--memory-limit", str(limits.memory), "--log-uri", f"file://{WORK}/{name}.log")
        return (*self._base, "run", "--detach", *options, REFERENCE, name, *command)

    def limited(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """The output is that of ctr itself."""
        options = ("--rm", "--memory-limit", str(limits.memory))
        return (*self._base, "run", *options, REFERENCE, name, *command)

    def mapped(
        self, name: str, volume: str, command: Sequence[str], *, shifting: bool
    ) -> tuple[str, ...]:
        """ctr has no id-mapped volumes; the snapshotter maps the image's files if it can, or ctr
        gives copies of them to the mapped root."""
        del volume
        ids = "0:{}:{}".format(*MAPPED)
        labels = ("--remap-labels",) if shifting else ()
        options = ("--uidmap", ids, "--gidmap", ids, *labels)
        return (*self._base, "run", "--rm", *options, REFERENCE, name, *command)

    def execute(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """An identifier is needed for each."""
        return (*self._base, "task", "exec", "--exec-id", "joined", name, *command)

    def state(self, name: str) -> tuple[str, ...]:
        """A table of all."""
        del name
        return (*self._base, "task", "list")

    def parse(self, text: str, name: str) -> State:
        """``TASK PID STATUS``."""
        for line in text.splitlines():
            task, pid, status = (*line.split(), "", "", "")[:3]
            if task == name:
                return State(status == "RUNNING", int(pid) if pid.isdigit() else 0)
        return State(running=False)

    def stop(self, name: str) -> tuple[str, ...]:
        """It does not wait."""
        return (*self._base, "task", "kill", "--signal", "SIGTERM", name)

    def logs(self, name: str) -> tuple[str, ...]:
        """containerd keeps none itself."""
        return (_BUSYBOX, "cat", f"{WORK}/{name}.log")

    def status(self, name: str) -> tuple[str, ...]:
        """Deleting a task tells its status."""
        return (*self._base, "task", "delete", name)

    def ended_with(self, step: Step) -> int:
        """A warning, "exit with non-zero exit code 7", or ctr's own status."""
        said = _EXIT_CODE.search(step.done.stdout + step.done.stderr)
        return int(said[1]) if said else step.done.status

    def remove(self, name: str) -> tuple[str, ...]:
        """The container, its snapshot included."""
        return (*self._base, "container", "delete", name)

    def containers(self) -> tuple[str, ...]:
        """Identifiers only."""
        return (*self._base, "container", "list", "--quiet")

    def shifting(self) -> tuple[str, ...]:
        """The capabilities of the snapshotter."""
        return (*self._base, "plugins", "list", "--detailed", "id==overlayfs")

    def shifts(self, text: str) -> bool:
        """One of them."""
        return "remap-ids" in text


class Podman:
    """podman as root, with cgroupfs as there is no systemd, and without a journal."""

    limits_tasks = True
    _base = (
        "/usr/bin/podman",
        *("--root", f"{WORK}/root", "--runroot", f"{_RUN}/run"),
        *("--cgroup-manager", "cgroupfs", "--events-backend", "none", "--log-level", "warn"),
    )

    def daemon(self) -> tuple[str, ...]:
        """It has none."""
        return ()

    def pull(self) -> tuple[str, ...]:
        """From the archive too: what is pulled from a folder is named after that by podman 4."""
        return (*self._base, "load", "--input", f"{WORK}/image.tar")

    def images(self) -> tuple[str, ...]:
        """Digests only."""
        return (*self._base, "images", "--all", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}")

    def run(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """With the log in a file, as there is no journal."""
        options = ("--detach", "--log-driver", "k8s-file")
        return (*self._base, "run", *options, *self._limited(name, limits), *command)

    def limited(self, name: str, limits: Limits, command: Sequence[str]) -> tuple[str, ...]:
        """The output is that of podman itself."""
        return (*self._base, "run", "--rm", *self._limited(name, limits), *command)

    def _limited(self, name: str, limits: Limits) -> tuple[str, ...]:
        memory = ("--memory", str(limits.memory), "--memory-swap", str(limits.memory))
        tasks = ("--pids-limit", str(limits.tasks)) if limits.tasks else ()
        return ("--network", "none", "--name", name, *memory, *tasks, REFERENCE)

    def mapped(
        self, name: str, volume: str, command: Sequence[str], *, shifting: bool
    ) -> tuple[str, ...]:
        """A volume is id-mapped by an option of its own."""
        del shifting
        ids = "0:{}:{}".format(*MAPPED)
        options = ("--network", "none", "--name", name, "--uidmap", ids, "--gidmap", ids)
        mount = ("--volume", f"{volume}:/data:ro,idmap") if volume else ()
        return (*self._base, "run", "--rm", *options, *mount, REFERENCE, *command)

    def execute(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """To its end."""
        return (*self._base, "exec", name, *command)

    def state(self, name: str) -> tuple[str, ...]:
        """Status and process."""
        return (*self._base, "inspect", "--format", "{{.State.Status}} {{.State.Pid}}", name)

    def parse(self, text: str, name: str) -> State:
        """``running 321``."""
        del name
        status, _, pid = text.strip().partition(" ")
        return State(status == "running", int(pid) if pid.isdigit() else 0)

    def stop(self, name: str) -> tuple[str, ...]:
        """It waits for the end."""
        return (*self._base, "stop", "--time", str(_STOP), name)

    def logs(self, name: str) -> tuple[str, ...]:
        """Both streams."""
        return (*self._base, "logs", name)

    def status(self, name: str) -> tuple[str, ...]:
        """As a number."""
        return (*self._base, "inspect", "--format", "{{.State.ExitCode}}", name)

    def ended_with(self, step: Step) -> int:
        """That number."""
        said = step.done.stdout.strip()
        return int(said) if said.isdigit() else -1

    def remove(self, name: str) -> tuple[str, ...]:
        """The container and its storage."""
        return (*self._base, "rm", name)

    def containers(self) -> tuple[str, ...]:
        """Names only."""
        return (*self._base, "ps", "--all", "--format", "{{.Names}}")

    def shifting(self) -> tuple[str, ...]:
        """What the storage has found out."""
        wanted = '{{index .Store.GraphStatus "Supports shifting"}}'
        return (*self._base, "info", "--format", wanted)

    def shifts(self, text: str) -> bool:
        """``true``."""
        return text.strip() == "true"


_FAMILIES: dict[str, Words] = {"containerd": Containerd(), "podman": Podman()}


@dataclass(frozen=True)
class Engine:
    """An engine bound to an agent whose machine has the engines' disk."""

    entry: Entry
    agent: Log
    used: list[str] = field(default_factory=list)
    """What was started in the guest; while it is empty the guest is as it was."""

    @property
    def name(self) -> str:
        """As in the catalogue."""
        return self.entry.name

    @property
    def words(self) -> Words:
        """Its command line."""
        return _FAMILIES[self.entry.family]

    @property
    def tree(self) -> str:
        """Its tree in the guest."""
        return f"{MOUNT}/{self.name}"

    def probe(self, *words: str) -> Step:
        """Run the probe in the guest itself."""
        return self._command((f"{MOUNT}/probe", *words))

    def outside(self, script: str) -> str:
        """What a shell script prints that is run in the guest itself. Raises MachineError for one
        that fails."""
        step = self._command(("/bin/busybox", "sh", "-c", script))
        if not step.ok:
            raise MachineError(f"the guest cannot be asked: {step}")
        return step.text

    @contextmanager
    def serving(self) -> Iterator[Session]:
        """The engine with its image at hand, until the block ends.

        Raises MachineError where the guest has no room for it, EngineError when the engine
        does not start.
        """
        self._lay()
        daemon = self.words.daemon()
        # podman 4 unpacks archives in /var/tmp, whatever TMPDIR says, and trees have no /var.
        # Somebody has to hold the mount namespace of an engine without a daemon.
        held = shlex.join(daemon or (_BUSYBOX, "sleep", "100000"))
        script = (
            f"mkdir -p /var/tmp; {held} >{_LOG} 2>&1 </dev/null & echo $! >{_HOLDER}\n"
            f"ln -s /proc/$!/ns/mnt {_NAMESPACE}"
        )
        self.used.append(self.name)
        step = self._command((_BUSYBOX, "sh", "-c", script), root=self.tree)
        if not step.ok:
            raise MachineError(f"cannot enter the tree of {self.name}: {step}")
        try:
            session = Session(self)
            if daemon:
                session.await_daemon()
            yield session
        finally:
            # What it started goes with the reset of the guest; its mounts with their namespace.
            with self.agent.aside():
                self.outside(f"kill -KILL $(cat {_HOLDER}) || true")

    def _lay(self) -> None:
        script = (
            f"set -e; rm -rf {WORK} {_RUN}; mkdir -p {WORK} {_RUN}; cp /bin/busybox {_BUSYBOX}\n"
            f"cp -r {MOUNT}/{IMAGE} {WORK}/image; cd {WORK}/image; tar -cf ../image.tar *"
        )
        step = self._command(("/bin/busybox", "sh", "-c", script))
        if not step.ok:
            raise MachineError(
                f"cannot lay out the image for {self.name}: {step}",
                advice="the guest's memory may be full; the next test gets a fresh guest",
            )

    def _command(self, argv: Sequence[str], root: str = "") -> Step:
        done = self.agent.command(list(argv), root=root, timeout=_SECONDS, limit=4 << 20)
        return stepped(argv, done, _SECONDS)


@dataclass(frozen=True)
class Session:
    """An engine at work."""

    engine: Engine

    def call(self, argv: Sequence[str], *, check: bool = True) -> Step:
        """Run one of its commands. EngineError, with who is to blame, unless it ends in order."""
        inside = ("/bin/busybox", "nsenter", f"--mount={_NAMESPACE}", "--", *argv)
        done = self.engine.agent.command(
            list(inside), timeout=_SECONDS, limit=4 << 20, env=_ENVIRONMENT
        )
        step = stepped(argv, done, _SECONDS)
        if check and not step.ok:
            raise self.failure(step.complaint, str(step))
        return step

    def state(self, name: str) -> State:
        """How a container is."""
        words = self.engine.words
        return words.parse(self.call(words.state(name)).text, name)

    def ended(self, pid: int) -> None:
        """Until that process of the guest has ended. EngineError when it does not."""
        step = self.engine.probe("await", str(pid))
        if not step.ok:
            raise self.failure(f"process {pid} of a container did not end", str(step))

    def failure(self, complaint: str, told: str) -> EngineError:
        """What went wrong, and whether kernel, configuration or engine is to blame."""
        with self.engine.agent.aside():
            blame = engine_blame.blame(self.engine.agent)
            try:
                log = self.engine.agent.read(_LOG)[-2000:].decode("utf-8", "replace")
            except CallError:
                log = ""
        return EngineError(f"{blame}: {complaint}\n{told}\nlog of {self.engine.name}:\n{log}")

    def await_daemon(self) -> None:
        """Until the socket is there."""
        script = (
            f"for i in $(seq 600); do [ -S {_SOCKET} ] && exit; "
            f"kill -0 $(cat {_HOLDER}) || exit 1; sleep 0.1; done; exit 1"
        )
        argv = ("/bin/busybox", "sh", "-c", script)
        done = self.engine.agent.command(list(argv), timeout=_SECONDS)
        if done.status or done.timed_out:
            raise self.failure("the daemon does not come up", str(Step(argv, done)))


_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",  # noqa: S108  # podman's default, /var/tmp, is a part of the read-only tree
}


def engine(name: str, agent: Commander, *, kept: Kept | None = None) -> Engine:
    """The engine called ``name``, bound to an agent. Raises InputError for an unknown one."""
    return Engine(find(name), Log(agent, kept))
