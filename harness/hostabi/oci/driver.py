"""Driving a runtime: bundles on the guest's tmpfs, and the verbs of the specification.

runtime.md, "Operations": create, start, state, kill, delete; and ``run``, which
both runtimes offer for all of them in a row. A runtime works in its own tree
(mount namespace and pivot_root) on the guest's own /proc, /sys, /dev, /run and /work.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from hostabi.agent.records import Completed
from hostabi.errors import CallError, GuestHangError, MachineError
from hostabi.oci import bundle, rootless
from hostabi.oci.actions import Action, command
from hostabi.oci.broken import drop
from hostabi.oci.log import Commander, Kept, Log
from hostabi.oci.records import Config, Process
from hostabi.oci.runtimes import MOUNT, ROOTFS, SUFFIX, Entry, find, split
from hostabi.oci.seen import Answers, decode
from hostabi.oci.visits import ContainerError, ProcessState, State, Step, Visit

_SECONDS = 30.0
"""For one command of a runtime; the agent scales it when emulated."""
_ANSWERS = 4 << 20
"""Bytes kept of what a container prints."""
_GROUP = "/hostabi"
"""The control group that holds those of the containers."""
_IDENTIFIERS = itertools.count(1)


@dataclass
class Container:
    """A container that was created; see :meth:`Runtime.container`."""

    runtime: Runtime
    id: str
    config: Config
    steps: list[Step] = field(default_factory=list)
    deleted: bool = False

    @property
    def folder(self) -> str:
        """Its bundle, in the guest."""
        return f"{self.runtime.work}/{self.id}"

    @property
    def cgroup(self) -> str:
        """Its control group, a path below /sys/fs/cgroup."""
        return self.config.linux.cgroups_path

    def verb(self, *words: str, check: bool = True) -> Step:
        """Run a command of the runtime. Raises ContainerError unless it ends in order."""
        step = self.runtime.invoke(*words)
        self.steps.append(step)
        if check and not step.ok:
            raise ContainerError.of(step, self.config)
        return step

    def start(self, *, check: bool = True) -> Step:
        """runtime.md, "Start"."""
        return self.verb("start", self.id, check=check)

    def state(self) -> State:
        """runtime.md, "Query State". Raises ContainerError for what is no state."""
        step = self.verb("state", self.id)
        try:
            return msgspec.json.decode(step.done.stdout, type=State)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ContainerError(f"no state: {error}\n{step}") from error

    def kill(self, signal: str = "KILL", *, check: bool = True) -> Step:
        """runtime.md, "Kill"."""
        return self.verb("kill", self.id, signal, check=check)

    def delete(self, *, force: bool = False, check: bool = True) -> Step:
        """runtime.md, "Delete"; ``force`` kills first."""
        words = ("delete", *(("--force",) if force else ()), self.id)
        step = self.verb(*words, check=check)
        self.deleted = self.deleted or step.ok
        return step

    def execute(self, process: Process, *actions: Action, check: bool = True) -> Step:
        """Run one more process in the container, to its end: ``exec``, which engines build on."""
        if actions:
            process = replace(process, args=command(actions))
        path = f"{self.folder}/process.json"
        self.runtime.agent.write(path, self.runtime.seen_process(process.encode()))
        return self.verb("exec", f"--process={path}", self.id, check=check)

    def wait(self, pid: int) -> None:
        """Until the process ``pid`` of the guest has ended."""
        step = self.runtime.probe("await", str(pid))
        if not step.ok:
            raise ContainerError(f"process {pid} of {self.id} did not end\n{step}")

    def ready(self) -> None:
        """Until the probe inside waits for its signal; see :func:`hostabi.oci.actions.signal`."""
        argv = ["/bin/busybox", "cat", f"{self.folder}/rootfs/ready"]
        step = stepped(argv, self.runtime.agent.command(argv, timeout=_SECONDS))
        if not step.ok:
            raise ContainerError(f"the probe in {self.id} does not come to wait\n{step}")

    def answers(self) -> Answers:
        """What the probe inside has printed until now."""
        return decode(self.runtime.agent.read(f"{self.folder}/output", _ANSWERS))


@dataclass(frozen=True)
class Listener:
    """Who answers seccomp notifications: a socket for ``listenerPath``."""

    runtime: Runtime
    socket: str
    file: str

    def received(self) -> ProcessState:
        """What the runtime has sent. Raises ContainerError when that is no such state."""
        try:
            text = self.runtime.agent.read(self.file, _ANSWERS)
            return msgspec.json.decode(text, type=ProcessState)
        except (CallError, msgspec.DecodeError) as error:
            raise ContainerError(f"the listener got no state of the process: {error}") from error


@dataclass(frozen=True)
class Runtime:
    """A runtime bound to an agent. ``work`` is where bundles go in the guest, on tmpfs.

    ``drops`` is the property of config.json, or of the process that exec is given, that it
    never sees, to try the tests themselves. ``said`` keeps what its commands told of it, for
    all who ask it on the same kernel. ``user`` is who calls it, if that is not root.
    """

    entry: Entry
    agent: Log
    work: str = "/work/oci"
    state: str = "/run/hostabi-oci"
    trees: str = MOUNT
    drops: str = ""
    said: dict[str, dict[str, object]] = field(default_factory=dict, compare=False)
    user: rootless.User | None = None

    @property
    def name(self) -> str:
        """As in the catalogue, and the mode if it is another one."""
        return self.entry.name + (SUFFIX if self.user else "")

    @property
    def tree(self) -> str:
        """Its own root in the guest."""
        return f"{self.trees}/{self.entry.name}"

    @property
    def program(self) -> str:
        """Where it is called in its tree: an ordinary user may not look at the sealed copy."""
        return f"/{self.entry.binary}" if self.user else self.entry.program

    def invoke(
        self,
        *words: str,
        detached: str = "",
        terminal: tuple[str, str] | None = None,
        limit: int = _ANSWERS,
    ) -> Step:
        """Run one command of the runtime, with its output going to the file ``detached``.

        ``terminal`` is a socket and a file: what a terminal sent to the first shows is
        written to the second.
        """
        argv = (self.program, *self._options(), *words)
        if terminal:
            argv = (f"{self.work}/probe", "terminal", *terminal, *argv)
        if detached:
            # What a created container inherits must not be our pipes: the agent
            # closes them when the command has ended.
            argv = (f"{self.work}/probe", "detach", detached, *argv)
        return self._call(argv, limit=limit)

    def _call(
        self, argv: tuple[str, ...], env: dict[str, str] | None = None, limit: int = _ANSWERS
    ) -> Step:
        """Run a command in its tree, as the one who calls it."""
        if self.user:
            argv = (*self.user.argv(f"{self.work}/probe"), *argv)
            env = {**rootless.ENVIRONMENT, **(env or {})}
        done = self.agent.command(
            list(argv), root=self.tree, timeout=_SECONDS, limit=limit, env=env
        )
        return stepped(argv, done)

    def probe(self, *words: str) -> Step:
        """Run the probe beside the containers, in the guest itself."""
        argv = (f"{self.trees}/{ROOTFS}/probe", *words)
        return stepped(argv, self.agent.command(list(argv), timeout=_SECONDS))

    @contextmanager
    def listener(self, name: str) -> Iterator[Listener]:
        """A process beside the containers that answers seccomp notifications.

        It ends by itself when nobody can send one any more; see harness/agent/probe_seccomp.c.
        """
        made = Listener(self, f"{self.work}/{name}.socket", f"{self.work}/{name}.state")
        self.agent.command(["/bin/busybox", "mkdir", "-p", self.work], timeout=_SECONDS)
        step = self.probe("listen", made.socket, made.file)
        if not step.ok or b'"errno":0' not in step.done.stdout:
            raise MachineError(f"no listener for seccomp notifications: {step}")
        if self.user:
            self.agent.command(self.user.owns(made.socket))
        try:
            yield made
        finally:
            with self.agent.aside():
                self.agent.command(["/bin/busybox", "rm", "-f", made.socket, made.file])

    def _options(self) -> tuple[str, ...]:
        # runc's default is cgroupfs; crun prefers systemd where it finds it.
        manager = ("--cgroup-manager=cgroupfs",) if self.entry.family == "crun" else ()
        if not self.user:
            return (f"--root={self.state}/{self.name}", *manager)
        own = self.user.options(self.entry.family)
        return (f"--root={rootless.HOME}/{self.entry.name}", *own, *manager)

    def version(self) -> str:
        """What ``--version`` says, first line. Raises ContainerError if it does not start."""
        step = self.invoke("--version")
        if not step.ok:
            raise ContainerError(str(step))
        return step.done.stdout.decode("utf-8", "replace").partition("\n")[0]

    def features(self) -> dict[str, object]:
        """features.md: what the runtime says it implements; empty when it has no such command."""
        with self.agent.once(("features", id(self.said))):
            if "features" not in self.said:
                self.said["features"] = self._features()
        return self.said["features"]

    def _features(self) -> dict[str, object]:
        step = self.invoke("features")
        if not step.ok:
            return {}
        try:
            return msgspec.json.decode(step.done.stdout, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError) as error:
            raise ContainerError(f"no features: {error}\n{step}") from error

    def specification(self) -> tuple[int, ...]:
        """The newest version of the specification it claims to know, (1, 0) when it says none."""
        text = str(self.features().get("ociVersionMax", "1.0")).partition("-")[0]
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    def prepare(self, config: Config, identifier: str, setup: str = "") -> Config:
        """Write the bundle; the config with its control group settled.

        ``setup`` is a shell script that changes the bundle, run in its folder.
        Raises MachineError on failure: that tells nothing about the runtime.
        """
        if not config.linux.cgroups_path:
            config = bundle.linux(config, cgroups_path=f"{_GROUP}/{identifier}")
        config = self.suited(config)
        folder = f"{self.work}/{identifier}"
        try:
            # It also leaves the probe beside the bundles, for `detach` in a runtime's tree.
            _done(self.probe("bundle", f"{self.trees}/{ROOTFS}", folder).done)
            if setup:
                script = f"cd {folder} && {{ {setup}\n}}"
                argv = ["/bin/busybox", "sh", "-c", script]
                _done(self.agent.command(argv, timeout=_SECONDS))
            if self.user:
                _done(self.agent.command(self.user.owns(folder), timeout=_SECONDS))
            self.agent.write(f"{folder}/config.json", self._seen(config.encode()))
        except CallError as error:
            raise MachineError(
                f"cannot make the bundle {folder}: {error.message}",
                advice="the guest's memory may be full; the next test gets a fresh guest",
            ) from error
        return config

    def suited(self, config: Config) -> Config:
        """``config`` as the one who calls can run it."""
        return self.user.config(config) if self.user else config

    def group(self, path: str) -> str:
        """The folder, in the guest, of the control group that a bundle calls ``path``."""
        return f"/sys/fs/cgroup{rootless.SERVICE if self.user else ''}{path}"

    def beside(self, config: Config, pid: int) -> Config:
        """``config`` in the user namespace, if there is one, that owns those of process ``pid``."""
        return bundle.namespace(config, "user", f"/proc/{pid}/ns/user") if self.user else config

    def _seen(self, content: bytes) -> bytes:
        """The file as the runtime gets it."""
        if not self.drops:
            return content
        document, _count = drop(msgspec.json.decode(content), self.drops)
        return msgspec.json.encode(document)

    def seen_process(self, content: bytes) -> bytes:
        """The "process" object of exec as the runtime gets it; a drop of it begins with "exec"."""
        name = self.drops.removeprefix("exec.")
        if name == self.drops:
            return content
        document, _count = drop(msgspec.json.decode(content), name)
        return msgspec.json.encode(document)

    def run(
        self, config: Config, *actions: Action, setup: str = "", options: tuple[str, ...] = ()
    ) -> Visit:
        """Run the probe with ``actions`` in a container of its own, to its end.

        ``options`` stand before the verb, as ``--debug`` does.
        """
        identifier = _identifier(self.entry.name)
        if actions:
            config = bundle.args(config, *command(actions))
        config = self.prepare(config, identifier, setup)
        step = self.invoke(*options, "run", f"--bundle={self.work}/{identifier}", identifier)
        self._discard(identifier, gone=step.ok)
        return Visit(config, step)

    def script(self, config: Config, script: str, *actions: Action, setup: str = "") -> Visit:
        """A container whose runtime is called by a shell ``script``, in one mount namespace.

        The script gets $RUNTIME with its options, $ID and $FOLDER, and has the
        container write to $FOLDER/output, where the answers are taken from.
        """
        identifier = _identifier(self.entry.name)
        config = self.prepare(bundle.args(config, *command(actions)), identifier, setup)
        folder = f"{self.work}/{identifier}"
        call = shlex.join((self.program, *self._options()))
        argv = (f"{self.work}/busybox", "sh", "-c", script)
        environment = {"RUNTIME": call, "ID": identifier, "FOLDER": folder}
        step = self._call(argv, environment)
        said = self.agent.read(f"{folder}/output", _ANSWERS) if step.ok else b""
        self._discard(identifier, gone=False)
        return Visit(config, step, said)

    def run_file(self, content: bytes) -> tuple[Step, bool]:
        """Run a bundle whose config.json is ``content``, whatever that is.

        How it ended, and whether the runtime still knows a container of it.
        """
        identifier = _identifier(self.entry.name)
        self.prepare(bundle.base(), identifier)
        self.agent.write(f"{self.work}/{identifier}/config.json", self._seen(content))
        step = self.invoke("run", f"--bundle={self.work}/{identifier}", identifier)
        known = self.invoke("state", identifier).ok
        self._discard(identifier, gone=not known)
        return step, known

    @contextmanager
    def container(
        self, config: Config, *actions: Action, options: tuple[str, ...] = ()
    ) -> Iterator[Container]:
        """A created container (runtime.md, "Create"), deleted when the block ends.

        One with a terminal gets it, and what it shows is what :meth:`Container.answers` reads.
        """
        identifier = _identifier(self.entry.name)
        if actions:
            config = bundle.args(config, *command(actions))
        config = self.prepare(config, identifier)
        folder = f"{self.work}/{identifier}"
        made = Container(self, identifier, config)
        words = ["create", f"--bundle={folder}", *options]
        said_in, terminal = f"{folder}/output", None
        if config.process.terminal:
            terminal = (f"{folder}/console", said_in)
            said_in = f"{folder}/messages"
            words.append(f"--console-socket={folder}/console")
        try:
            step = self.invoke(*words, identifier, detached=said_in, terminal=terminal)
            made.steps.append(step)
            if not step.ok:
                said = self.agent.read(said_in, _ANSWERS).decode("utf-8", "replace")
                raise ContainerError.of(step, config, said)
            yield made
        finally:
            self._discard(identifier, gone=made.deleted)

    def _discard(self, identifier: str, *, gone: bool) -> None:
        """Remove what is left of a container, whatever state it is in."""
        # The group above the containers' own goes with the last of them.
        groups = (self.group(_GROUP), f"/sys/fs/cgroup/*{_GROUP}")
        with self.agent.aside():
            if not gone:
                self.invoke("delete", "--force", identifier)
            self.probe("discard", f"{self.work}/{identifier}", *groups)


def stepped(argv: Sequence[str], done: Completed, seconds: float = _SECONDS) -> Step:
    """A command that ended. Raises GuestHangError for one that did not: nothing is known of it."""
    step = Step(tuple(argv), done)
    if done.timed_out:
        raise GuestHangError(f"no end within {seconds:g} s, before emulation's factor:\n{step}")
    return step


def _done(completed: Completed) -> None:
    """Raises CallError for a command that did not end in order."""
    if completed.status or completed.timed_out:
        said = completed.stderr.decode("utf-8", "replace").strip()
        raise CallError(said or f"status {completed.status}", errno=0)


def _identifier(name: str) -> str:
    return f"{name}-{next(_IDENTIFIERS)}"


def runtime(
    spec: str,
    agent: Commander,
    *,
    drops: str = "",
    kept: Kept | None = None,
    said: dict[str, dict[str, object]] | None = None,
) -> Runtime:
    """The runtime called ``spec``, bound to an agent whose machine has the runtimes' disk.

    With the rootless mode's suffix an ordinary user calls it, for whom the guest is made ready.
    It never sees the property ``drops`` of config.json. ``kept`` is what several of them have
    in common, see :meth:`hostabi.oci.log.Log.once`, and ``said`` what the same runtime told of
    itself on the same kernel.

    Raises InputError for an unknown runtime, MachineError when nobody else can call it.
    """
    told = {} if said is None else said
    bound = Runtime(find(spec), Log(agent, kept), drops=drops, said=told)
    if not split(spec)[1]:
        return bound
    probe = f"{MOUNT}/{ROOTFS}/probe"
    subordinate = rootless.prepare(bound.agent, bound.tree, probe, bound.work)
    return dataclasses.replace(bound, user=rootless.User(subordinate))
