"""runtime.md, "Operations": what each refuses, and what it leaves alone."""

from __future__ import annotations

import signal

import msgspec
import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, Root

ABSENT = "hostabi-absent"
ANNOTATIONS = {"org.hostabi.one": "1", "org.hostabi.empty": "", "plain": "\u00fc"}
WAITING = (actions.REPORT, actions.signal())


class Future(Config, frozen=True, kw_only=True):
    """A config.json with properties that no version of the specification has."""

    hostabi_unknown: dict[str, int] = msgspec.field(default_factory=dict)
    hostabi_list: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "words",
    [
        ("state", ABSENT),
        ("start", ABSENT),
        ("kill", ABSENT, "KILL"),
        ("delete", ABSENT),
        ("state",),
        ("start",),
        ("kill",),
        ("delete",),
        ("create",),
    ],
    ids="-".join,
)
def test_needs_a_container(words: tuple[str, ...], runtime: Runtime) -> None:
    """ "MUST generate an error if it is not provided the ID", and "attempting to ... a container
    that does not exist MUST generate an error"."""
    step = runtime.invoke(*words)
    assert not step.ok
    assert step.done.stderr or step.done.stdout


@pytest.mark.parametrize("identifier", ["", "../escape", "a/b", "."])
def test_identifier_that_is_not_valid(identifier: str, runtime: Runtime) -> None:
    """Create: an id that "is not valid in any other way" is an error and no new container."""
    with runtime.container(bundle.base(), *WAITING) as made:
        step = runtime.invoke(
            *("create", f"--bundle={made.folder}", identifier), detached=f"{made.folder}/second"
        )
        if step.ok:
            runtime.invoke("delete", "--force", identifier)
        assert not step.ok


def test_start_twice(runtime: Runtime) -> None:
    """Start: "attempting to start a container that is not created MUST have no effect on the
    container and MUST generate an error"."""
    with runtime.container(bundle.base(), *WAITING) as made:
        made.start()
        made.ready()
        pid = made.state().pid
        assert not made.start(check=False).ok
        assert (made.state().status, made.state().pid) == ("running", pid)
        made.kill("KILL")
        made.wait(pid)
        assert not made.start(check=False).ok
        assert len(made.answers().reports) == 1


def test_kill_before_start(runtime: Runtime) -> None:
    """Kill: a created container gets the signal, its program is never run."""
    with runtime.container(bundle.base(), *WAITING) as made:
        pid = made.state().pid
        made.kill("KILL")
        made.wait(pid)
        assert made.state().status == "stopped"
        assert made.answers().reports == ()


@pytest.mark.parametrize("name", ["HUP", "SIGUSR1", "10", "40"])
def test_kill_sends_that_signal(name: str, runtime: Runtime) -> None:
    """Kill: "MUST send the specified signal to the container process", by name and by number."""
    numbers = {"HUP": signal.SIGHUP, "SIGUSR1": signal.SIGUSR1, "10": 10, "40": 40}
    with runtime.container(bundle.base(), *WAITING) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        made.kill(name)
        made.wait(pid)
        assert made.answers().deed(actions.signal()).value == numbers[name]


def test_kill_after_the_end_has_no_effect(runtime: Runtime) -> None:
    """Kill: "not created nor running MUST have no effect on the container and MUST generate an
    error"."""
    with runtime.container(bundle.base(), actions.REPORT) as made:
        pid = made.state().pid
        made.start()
        made.wait(pid)
        assert not made.kill("KILL", check=False).ok
        assert made.state().status == "stopped"


def test_delete_while_running(runtime: Runtime) -> None:
    """Delete: "a container that is not stopped MUST have no effect on the container and MUST
    generate an error"; by force it is killed first, and its group and state go."""
    with runtime.container(bundle.base(), *WAITING) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        assert not made.delete(check=False).ok
        assert made.state().status == "running"
        made.delete(force=True)
        made.wait(pid)
        assert not made.verb("state", made.id, check=False).ok
        gone = runtime.agent.command(["/bin/busybox", "test", "-d", f"/sys/fs/cgroup{made.cgroup}"])
        assert gone.status == 1


def test_identifier_can_be_used_again(runtime: Runtime) -> None:
    """Delete: "once a container is deleted its ID MAY be used by a subsequent container"."""
    with runtime.container(bundle.base(), actions.REPORT) as made:
        made.delete(force=True)
        step = runtime.invoke(
            *("create", f"--bundle={made.folder}", made.id), detached=f"{made.folder}/second"
        )
        assert step.ok, str(step)
        made.deleted = False
        assert made.state().status == "created"


def test_delete_leaves_what_it_did_not_create(runtime: Runtime) -> None:
    """Delete: "resources associated with the container, but not created by this container, MUST
    NOT be deleted": the bundle stays."""
    with runtime.container(bundle.base(), actions.REPORT) as made:
        made.delete(force=True)
        assert runtime.agent.read(f"{made.folder}/config.json") == made.config.encode()
        assert runtime.agent.read(f"{made.folder}/rootfs/etc/passwd")


@pytest.mark.proves("annotations")
def test_state(runtime: Runtime) -> None:
    """State: id, bundle, annotations and version stay; the pid is of the process as the guest sees
    it, and no longer once it has stopped."""
    config = replace(bundle.base(), annotations=ANNOTATIONS)
    with runtime.container(config, *WAITING) as made:
        states = [made.state()]
        made.start()
        made.ready()
        states.append(made.state())
        pid = states[0].pid
        assert f"/{made.id}" in runtime.agent.read(f"/proc/{pid}/cgroup").decode()
        made.kill("KILL")
        made.wait(pid)
        states.append(made.state())
    assert [state.status for state in states] == ["created", "running", "stopped"]
    assert states[1].pid == pid
    assert states[2].pid in {0, pid}
    for state in states:
        assert (state.id, state.bundle) == (made.id, made.folder)
        assert state.annotations.items() >= ANNOTATIONS.items()
        assert state.oci_version.split(".")[0] == "1"


def test_changes_after_create_have_no_effect(runtime: Runtime) -> None:
    """Create: "any changes made to the config.json file after this operation will not have an
    effect on the container"."""
    with runtime.container(bundle.base("before"), *WAITING) as made:
        other = bundle.process(bundle.base("after"), args=("/bin/sh", "-c", "exit 1"))
        runtime.agent.write(f"{made.folder}/config.json", other.encode())
        made.start()
        made.ready()
        assert made.answers().report.hostname == "before"
        runtime.agent.write(f"{made.folder}/config.json", b"no longer any JSON")
        assert made.state().status == "running"
        made.delete(force=True)


def test_pid_file(runtime: Runtime) -> None:
    """What engines find the process by: the file has the pid of the state."""
    path = f"{runtime.work}/pid"
    with runtime.container(bundle.base(), *WAITING, options=(f"--pid-file={path}",)) as made:
        assert int(runtime.agent.read(path)) == made.state().pid
    runtime.agent.command(["/bin/busybox", "rm", "-f", path])


def test_unknown_properties_are_ignored(look) -> None:
    """config.md, "Extensibility": "MUST NOT generate an error if they encounter an unknown
    property. Instead they MUST ignore unknown properties"; and so unknown annotations."""
    base = bundle.base("future")
    fields = {name: getattr(base, name) for name in base.__struct_fields__}
    unknown = Future(**fields, hostabi_unknown={"deep": 1}, hostabi_list=("one",))
    config = replace(unknown, annotations={"org.hostabi.unknown": "x"})
    assert b'"hostabiUnknown": {' in config.encode()
    assert look(config, actions.REPORT).report.hostname == "future"


@pytest.mark.parametrize("version", ["", "hostabi", "99.0.0"])
def test_version_that_is_not_supported(version: str, refused) -> None:
    """config.md, "Specification version": "MUST be in SemVer format"; a container of another major
    version is an invalid or unsupported value."""
    refused(replace(bundle.base(), oci_version=version), actions.REPORT)


@pytest.mark.parametrize("path", ["absent", "config.json", ""])
def test_root_that_is_none(path: str, refused) -> None:
    """config.md, "Root": "a directory MUST exist at the path declared by the field"."""
    refused(replace(bundle.base(), root=Root(path=path)), actions.REPORT)


def test_bundle_that_is_none(runtime: Runtime) -> None:
    """Create: "MUST generate an error if it is not provided a path to the bundle"."""
    step = runtime.invoke("create", f"--bundle={runtime.work}/absent", ABSENT)
    assert not step.ok
    assert not runtime.invoke("state", ABSENT).ok


def test_failed_create_leaves_nothing(runtime: Runtime, refused) -> None:
    """Errors: "MUST leave the state of the environment as if the operation were never
    attempted"."""
    config = bundle.process(bundle.base(), args=("/no/such/program",))
    refused(bundle.linux(config, cgroups_path="/hostabi/refused"))
    listed = runtime.invoke("list", "--format=json").done.stdout
    assert not msgspec.json.decode(listed)
    left = runtime.probe("list", runtime.group("/hostabi/refused")).answers.deeds[0]
    assert left.error == "ENOENT", "its control group is left"
