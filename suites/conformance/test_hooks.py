"""config.md, "POSIX-platform Hooks": who is called when, where, and with what."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from msgspec.structs import replace

from hostabi.kernels.build import Build
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, Hook, Hooks, Mount
from hostabi.oci.seen import Answers, Report, decode
from hostabi.oci.visits import ContainerError, State

# A file of the guest that every hook writes to, and its name in the container.
LOG = "/work/hostabi-hooks"
INSIDE = "/hooks"

RUNTIME = ("prestart", "createRuntime", "poststart", "poststop")
CONTAINER = ("createContainer", "startContainer")
CREATING = ("prestart", "createRuntime", "createContainer")
FIELDS = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
# What startContainer leaves for the program to find.
MARK = "/opt/started"
STATUS = 7
SLOW = actions.spin(500)
FAILED = re.compile(rb"hook.*\b7\b")
"""The message that a hook ended with that status, in the words of each runtime."""
# Two of one kind, as their order is promised too.
TURNS = (
    *("prestart", "prestart-second", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop", "poststop-second"),
)
NAMESPACES = ("net", "uts", "ipc")
ANNOTATIONS = {"org.hostabi.test": "hooks"}


@dataclass(frozen=True, slots=True)
class Ran:
    """One hook that was called: its name, what it saw, and the state on its input."""

    name: str
    report: Report
    state: State


@dataclass(frozen=True, slots=True)
class Story:
    """A container's life: the hooks that had run after each operation, and its own report."""

    created: tuple[Ran, ...]
    started: tuple[Ran, ...]
    deleted: tuple[Ran, ...]
    container: Answers
    state: State

    def hook(self, name: str) -> Ran:
        """The first hook of that name."""
        found = [ran for ran in self.deleted if ran.name == name]
        assert found, f"no {name} hook was called, but {[ran.name for ran in self.deleted]}"
        return found[0]


def hook(runtime: Runtime, name: str, *last: actions.Action) -> Hook:
    """A hook that tells all it sees, and then does what comes ``last``."""
    kind = name.partition("-")[0]
    inside = kind == "startContainer"
    program, log = ("/probe", INSIDE) if inside else (_outside(runtime), LOG)
    # Who does not wait for a hook in the container is always overtaken by the next.
    first = (SLOW,) if inside else ()
    doing = (actions.into(log), *first, actions.REPORT, actions.stdin(name), *last)
    words = actions.command(doing)[1:]
    return Hook(path=program, args=(f"hook-{name}", *words), env=(f"HOOK={name}", "EMPTY="))


def _outside(runtime: Runtime) -> str:
    # Beside the bundles: not below the container's root, so it is found by the runtime only.
    return f"{runtime.work}/probe"


def hooked(config: Config, *hooks: Hook) -> Config:
    """``config`` with these hooks, each of the kind that its name starts with."""
    kinds: dict[str, tuple[Hook, ...]] = {}
    for each in hooks:
        field = FIELDS[each.args[0].split("-")[1]]
        kinds[field] = (*kinds.get(field, ()), each)
    log = Mount(destination=INSIDE, type="bind", source=LOG, options=("bind", "rw"))
    return replace(bundle.mounted(config, log), hooks=Hooks(**kinds), annotations=ANNOTATIONS)


def ran(runtime: Runtime) -> tuple[Ran, ...]:
    """The hooks that were called until now, in order."""
    answers = decode(runtime.agent.read(LOG))
    return tuple(
        Ran(name, report, _state(answers.deed(actions.stdin(name)).data))
        for report in answers.reports
        for name in [_name(report)]
    )


def _state(text: str) -> State:
    try:
        return msgspec.json.decode(text, type=State)
    except msgspec.DecodeError as error:
        raise AssertionError(f"no state on the input of a hook: {error}: {text!r}") from error


def _name(report: Report) -> str:
    found = [each for each in report.environment if each.startswith("HOOK=")]
    assert found, f"a hook without its environment: {report.environment}"
    return found[0].removeprefix("HOOK=")


def lives(runtime: Runtime, config: Config) -> bool:
    """Whether the container can be created and started."""
    try:
        with runtime.container(config, actions.REPORT) as made:
            made.start()
    except ContainerError:
        return False
    return True


def names(hooks: tuple[Ran, ...]) -> list[str]:
    """Their names."""
    return [each.name for each in hooks]


@pytest.fixture
def log(runtime: Runtime) -> None:
    """An empty log."""
    runtime.agent.write(LOG, b"", mode=0o666)


@pytest.fixture(scope="session")
def stories() -> dict[tuple[str, str, str], Story]:
    """The story of each pair of kernel and runtime; it is told once."""
    return {}


@pytest.fixture
def story(
    runtime: Runtime, kernel: Build, stories: dict[tuple[str, str, str], Story], log: None
) -> Callable[[], Story]:
    """A container with hooks of all kinds, from create to delete."""
    del log

    def told() -> Story:
        key = (kernel.name, runtime.name, runtime.drops)
        with runtime.agent.once(("hooks", *key)):
            if key not in stories:
                stories[key] = _live(runtime)
        return stories[key]

    return told


def _live(runtime: Runtime) -> Story:
    marking = actions.write(MARK, "x", create=True)
    last = {"startContainer": (marking,)}
    hooks = (hook(runtime, name, *last.get(name, ())) for name in TURNS)
    doing = (actions.REPORT, actions.opened(MARK), actions.signal())
    with runtime.container(hooked(bundle.base("hooked"), *hooks), *doing) as made:
        created = ran(runtime)
        made.start()
        made.ready()
        started = ran(runtime)
        state = made.state()
        made.kill("KILL")
        made.wait(state.pid)
        assert names(ran(runtime)) == names(started)
        container = made.answers()
        made.delete()
        deleted = ran(runtime)
    return Story(created, started, deleted, container, state)


def test_order(story) -> None:
    """runtime.md, "Lifecycle": three kinds by the end of create, two by the end of start, one by
    the end of delete; and "hooks MUST be called in the listed order"."""
    told = story()
    assert names(told.created) == list(TURNS[:4])
    assert names(told.started) == list(TURNS[:6])
    assert names(told.deleted) == list(TURNS)


@pytest.mark.proves("hooks.startContainer")
def test_program_runs_after_start_container(story) -> None:
    """startContainer: "before the user-specified process is executed"."""
    assert story().container.deed(actions.opened(MARK)).error == ""


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_namespace(name: str, story, outside) -> None:
    """These hooks "MUST be executed in the runtime namespace"."""
    report = story().hook(name).report
    for kind in NAMESPACES:
        assert report.namespaces[kind] == outside.namespaces[kind]
    assert report.namespaces["mnt"] != story().container.report.namespaces["mnt"]
    assert report.hostname == outside.hostname


@pytest.mark.parametrize("name", CONTAINER)
def test_container_namespace(name: str, story) -> None:
    """These hooks "MUST be executed in the container namespace"."""
    report = story().hook(name).report
    for kind in (*NAMESPACES, "mnt"):
        assert report.namespaces[kind] == story().container.report.namespaces[kind]


def test_start_container_sees_its_root(story) -> None:
    """startContainer: the path "MUST resolve in the container namespace", so after the root was
    changed; createContainer before that."""
    roots = {name: story().hook(name).report.mount("/") for name in CONTAINER}
    assert roots["startContainer"].device == story().container.report.mount("/").device
    assert roots["startContainer"].root == story().container.report.mount("/").root
    assert roots["createContainer"].root != roots["startContainer"].root


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.proves("hooks.{name}", "hooks.{name}.env")
def test_arguments_and_environment(name: str, story) -> None:
    """ "args" and "env": as execve(2) has them, the first argument too."""
    report = story().hook(name).report
    assert report.arguments[0] == f"hook-{name}"
    assert "stdin" in report.arguments
    assert {f"HOOK={name}", "EMPTY="} <= set(report.environment)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.proves("annotations")
def test_state_on_input(name: str, story) -> None:
    """ "The state of the container MUST be passed to hooks over stdin"."""
    state = story().hook(name).state
    own = story().state
    assert (state.id, state.bundle) == (own.id, own.bundle)
    assert state.annotations == ANNOTATIONS
    assert state.oci_version


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        *((name, {"creating", "created"}) for name in CREATING),
        # A runtime "MAY" have names for what lies between.
        ("startContainer", {"created", "starting"}),
        ("poststart", {"running"}),
        ("poststop", {"stopped"}),
    ],
)
def test_status_on_input(name: str, statuses: set[str], story) -> None:
    """runtime.md, "State", status: as far as the container has come."""
    assert story().hook(name).state.status in statuses


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "poststart"])
def test_process_on_input(name: str, story) -> None:
    """runtime.md, "State", pid: these hooks find the container's process by it, as those that set
    up its network do."""
    assert story().hook(name).state.pid == story().state.pid


@pytest.mark.parametrize("name", CREATING)
@pytest.mark.proves("hooks.{name}", "hooks.{name}.args")
def test_failing_while_creating(name: str, runtime: Runtime, log: None) -> None:
    """runtime.md, "Lifecycle": "the runtime MUST generate an error, stop the container, and
    continue the lifecycle" where it is destroyed."""
    del log
    failing = hook(runtime, name, actions.leave(STATUS))
    config = hooked(bundle.base(), failing, hook(runtime, f"{name}-second"))
    assert not lives(runtime, config)
    assert names(ran(runtime)) == [name]


def test_failing_while_starting(runtime: Runtime, log: None) -> None:
    """The same for startContainer: an error of start, and the program is not run."""
    del log
    config = hooked(bundle.base(), hook(runtime, "startContainer", actions.leave(STATUS)))
    with runtime.container(config, actions.REPORT) as made:
        pid = made.state().pid
        step = made.start(check=False)
        made.wait(pid)
        assert names(ran(runtime)) == ["startContainer"]
        # The runtime may have written its own message here.
        assert b'"action"' not in runtime.agent.read(f"{made.folder}/output")
        assert not step.ok


@pytest.mark.proves("hooks.poststart")
def test_failing_after_start(runtime: Runtime, log: None) -> None:
    """poststart: to be warned of up to version 1.2 of the specification, and an error that stops
    the container in drafts since. Either is told, and the container is where that says."""
    del log
    config = hooked(bundle.base(), hook(runtime, "poststart", actions.leave(STATUS)))
    with runtime.container(config, actions.signal()) as made:
        pid = made.state().pid
        step = made.verb("--debug", "start", made.id, check=False)
        assert names(ran(runtime)) == ["poststart"]
        assert FAILED.search(step.done.stderr), f"the failing hook was not told\n{step}"
        if step.ok:
            made.ready()
            assert made.state().status == "running"
        else:
            made.wait(pid)


@pytest.mark.proves("hooks.poststop")
def test_failing_after_delete(runtime: Runtime, log: None) -> None:
    """poststop: "the runtime MUST log a warning, but the remaining hooks and lifecycle continue as
    if the hook had succeeded"."""
    del log
    config = hooked(
        bundle.base(),
        hook(runtime, "poststop", actions.leave(STATUS)),
        hook(runtime, "poststop-second"),
    )
    with runtime.container(config, actions.REPORT) as made:
        pid = made.state().pid
        made.start()
        made.wait(pid)
        step = made.verb("--debug", "delete", made.id)
        made.deleted = True
        assert FAILED.search(step.done.stderr), f"the failing hook was not told\n{step}"
        assert names(ran(runtime)) == ["poststop", "poststop-second"]
        assert not made.verb("state", made.id, check=False).ok


@pytest.mark.proves("hooks.createRuntime")
def test_timeout(runtime: Runtime, log: None) -> None:
    """ "timeout ... the number of seconds before aborting the hook": create fails and returns."""
    del log
    endless = replace(hook(runtime, "createRuntime", actions.call("pause")), timeout=1)
    assert not lives(runtime, hooked(bundle.base(), endless))
    assert names(ran(runtime)) == ["createRuntime"]


@pytest.mark.parametrize("path", ["/no/such/hook", "probe"])
def test_path_that_cannot_be_called(path: str, runtime: Runtime, log: None) -> None:
    """ "path MUST be absolute", and a hook that cannot be executed has failed."""
    del log
    config = hooked(bundle.base(), replace(hook(runtime, "createRuntime"), path=path))
    assert not lives(runtime, config)
    assert ran(runtime) == ()
