"""Engines as smoke tests: what containerd with ctr, and podman, make of an image and a kernel.

No specification says how an engine is used. What is held to is what its own command line
promises, and what it passes on to a runtime: config.md and config-linux.md of the runtime
specification. An engine is driven once from import to remove, and its tests ask what was seen.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hostabi.kernels.build import Build
from hostabi.oci import actions
from hostabi.oci.engine import MAPPED, WORK, Engine, EngineError, Limits, Session
from hostabi.oci.engine_blame import blame
from hostabi.oci.engines import IMAGE, MOUNT
from hostabi.oci.layout import REFERENCE, manifest_digest
from hostabi.oci.seen import Answers
from hostabi.oci.visits import Step
from hostabi.pytest_plugin import unsupported

pytestmark = pytest.mark.slow

MIB = 1 << 20
LIMITS = Limits(memory=48 * MIB, tasks=32)
NAME = "smoke"
STATUS = 7
WAITING = (
    "/bin/sh",
    "-c",
    f'trap "echo stopping; exit {STATUS}" TERM; echo started; while :; do sleep 0.2; done',
)
TOUCH = actions.touch(96)
FORK = actions.fork(64)
INIT = actions.read("/proc/1/cmdline")
FILE = actions.stat("/probe")
FOLDER = actions.stat("/data")
VOLUME = "/usr/share"
"""A folder of every engine's tree, on its read-only disk; root's."""
GROUPS = "find /sys/fs/cgroup -type d"
# Meanwhile an engine may remove what nobody needs any more, which find says and is no matter.
COPIES = f"find {WORK}/root -name probe -user {MAPPED[0]}; true"


@dataclass(frozen=True)
class Story:
    """What was seen of a container from import to remove, of a second one that goes beyond its
    limits, and of a third one with other ids."""

    images: str
    running: bool
    group: str
    """The container's control group below /sys/fs/cgroup, as the guest names it."""
    limits: dict[str, str]
    """The files of that group that hold limits, by name."""
    joined: Answers
    beyond: Answers
    """Of a second container with the same limits, whose process asked for more."""
    logs: str
    status: int
    left: str
    """The containers that the engine knows, and the control groups, after the end."""
    mapped: Step
    shifts: bool
    copies: str
    """The image's files that belong to the third container's root outside of it."""


Told = Callable[[], Story]


@pytest.fixture(scope="session")
def stories() -> dict[tuple[str, str], Story | EngineError]:
    """By kernel and engine; an engine that failed is not asked again."""
    return {}


@pytest.fixture
def story(
    engine: Engine, kernel: Build, stories: dict[tuple[str, str], Story | EngineError]
) -> Told:
    """A container's life."""
    key = (kernel.name, engine.name)

    def tell() -> Story:
        with engine.agent.once(("engine", *key)):
            if key not in stories:
                try:
                    with engine.serving() as session:
                        stories[key] = _live(session)
                except EngineError as error:
                    stories[key] = error
        told = stories[key]
        if isinstance(told, EngineError):
            raise told
        return told

    return tell


def _live(session: Session) -> Story:
    engine, words = session.engine, session.engine.words
    session.call(words.pull())
    images = session.call(words.images()).text
    session.call(words.run(NAME, LIMITS, WAITING))
    state = session.state(NAME)
    group = engine.outside(f"sed -n s/^0:://p /proc/{state.pid}/cgroup; true").strip()
    limits = engine.outside(f"cd /sys/fs/cgroup{group}; grep . memory.max pids.max; true")
    asked = actions.command((actions.REPORT, INIT))
    joined = session.call(words.execute(NAME, asked)).answers
    session.call(words.stop(NAME))
    session.ended(state.pid)
    logs = session.call(words.logs(NAME)).text
    status = words.ended_with(session.call(words.status(NAME)))
    session.call(words.remove(NAME))
    left = session.call(words.containers()).text + engine.outside(GROUPS)
    asked = actions.command((FORK, TOUCH))
    beyond = session.call(words.limited(f"{NAME}-beyond", LIMITS, asked)).answers
    volume = VOLUME if maps_ids(engine, f"{engine.tree}{VOLUME}") else ""
    asked = actions.command((actions.REPORT, FILE, FOLDER))
    shifts = words.shifts(session.call(words.shifting()).text)
    run = words.mapped(f"{NAME}-mapped", volume, asked, shifting=shifts)
    mapped = session.call(run, check=False)
    copies = engine.outside(COPIES)
    return Story(
        images,
        state.running,
        group,
        dict(line.split(":", 1) for line in limits.splitlines()),
        joined,
        beyond,
        logs,
        status,
        left,
        mapped,
        shifts,
        copies,
    )


def maps_ids(engine: Engine, path: str) -> bool:
    """Whether this kernel can mount that folder id-mapped."""
    return b'"errno":0' in engine.probe("idmap", path).done.stdout


def test_import(engine: Engine, story: Told) -> None:
    """The image of the layout is there under its name, and is the same: its manifest's digest."""
    index = engine.agent.read(f"{MOUNT}/{IMAGE}/index.json")
    [line] = [each for each in story().images.splitlines() if each.startswith(REFERENCE)]
    assert manifest_digest(index) in line


def test_run(engine: Engine, story: Told) -> None:
    """The container runs what it was told, with the image's environment, on an overlay."""
    assert story().running
    report = story().joined.report
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in report.environment
    kind = report.mount("/").type
    assert kind == "overlay", f"{kind}; to blame: {blame(engine.agent)}"


def test_exec(story: Told) -> None:
    """A further process is in the container: its first process is the one that was run."""
    assert story().joined.deed(INIT).data.split("\0")[:2] == ["/bin/sh", "-c"]
    assert story().joined.report.pid > 1


def test_memory_limit(story: Told) -> None:
    """The limit reaches the control group (config-linux.md, "Memory"), and kills."""
    assert story().limits.get("memory.max") == str(LIMITS.memory)
    touched = story().beyond.deed(TOUCH)
    assert touched.signal == signal.SIGKILL
    assert touched.value * MIB <= LIMITS.memory


def test_task_limit(engine: Engine, story: Told) -> None:
    """The limit reaches the control group (config-linux.md, "PIDs"), and refuses."""
    if not engine.words.limits_tasks:
        unsupported(f"the command line of {engine.entry.family} takes no limit of tasks")
    assert story().limits.get("pids.max") == str(LIMITS.tasks)
    assert story().beyond.deed(FORK).error == "EAGAIN"
    assert story().beyond.deed(FORK).value < LIMITS.tasks


def test_logs(story: Told) -> None:
    """What it wrote, until its end."""
    assert story().logs.splitlines() == ["started", "stopping"]


def test_stop(story: Told) -> None:
    """It is asked to end, not killed, and its status is kept."""
    assert story().status == STATUS


def test_remove(story: Told) -> None:
    """The container is gone, and so is its control group."""
    assert NAME not in story().left.split()
    assert len(story().group) > 1
    assert f"/sys/fs/cgroup{story().group}" not in story().left.splitlines()


def test_user_namespace(engine: Engine, story: Told) -> None:
    """Root in the container is another user outside, and the image's files are its own."""
    if story().shifts and not story().mapped.ok and not maps_ids(engine, "/work"):
        unsupported(
            f"{engine.name} copies no image, and this kernel's tmpfs has no id-mapped mounts"
        )
    assert story().mapped.ok, str(story().mapped)
    answers = story().mapped.answers
    assert answers.report.uid_map.split() == ["0", *map(str, MAPPED)]
    assert answers.deed(FILE).data.split()[1:3] == ["0", "0"]


def test_mapped_image(engine: Engine, story: Told) -> None:
    """Its files are not copied for that: the overlay's layers are mounted id-mapped."""
    if not maps_ids(engine, "/work"):
        unsupported("this kernel's tmpfs has no id-mapped mounts")
    if not story().shifts:
        unsupported(f"{engine.name} does not claim to map the ids of an overlay's layers")
    assert story().mapped.ok, str(story().mapped)
    assert story().copies == ""


def test_mapped_volume(engine: Engine, story: Told) -> None:
    """A volume that is mounted id-mapped: root's folder is the container's root's."""
    if engine.entry.family != "podman":
        unsupported("ctr has no id-mapped volumes")
    if not maps_ids(engine, f"{engine.tree}{VOLUME}"):
        unsupported("this kernel's ext4 has no id-mapped mounts")
    assert story().mapped.ok, str(story().mapped)
    assert story().mapped.answers.deed(FOLDER).data.split()[1:3] == ["0", "0"]
