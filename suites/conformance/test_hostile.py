"""Bundles that mean harm or make no sense.

Nothing outside the container's root may be touched: a tree beside it is walked before and
after. The runtime ends with an error, or it runs what it was given, contained; it never hangs,
which the harness would report as an error of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, Mount
from hostabi.oci.visits import Step

CANARY = "/tmp/hostabi-canary"
MARK = actions.write("/mark/file", "x", create=True)
MANY = 10_000
LARGE = 1 << 20

_WALK = (
    f"cd {CANARY} && find . | sort | while read -r name; do"
    ' stat -c "%n %f %u %g %s %Y %Z" "$name"; done;'
    f" find {CANARY} -type f | sort | xargs md5sum; cat /proc/mounts; ls -d /* /tmp/*"
)


Check = Callable[[], None]
Ran = Callable[..., Step]


@pytest.fixture
def untouched(runtime: Runtime) -> Iterator[Check]:
    """A tree outside of every root, with links, rights and content; says that it is the same."""
    shell = ["/bin/busybox", "sh", "-c"]
    runtime.agent.command(
        [
            *shell,
            f"mkdir -p {CANARY}/folder && cd {CANARY} && echo secret > file && chmod 600 file"
            " && ln -s file link && echo deep > folder/deep && mkfifo fifo && mkdir -p empty",
        ]
    )
    before = runtime.agent.command([*shell, _WALK]).stdout.decode().splitlines()
    assert any(line.startswith("./folder/deep ") for line in before)

    def check() -> None:
        after = runtime.agent.command([*shell, _WALK]).stdout.decode().splitlines()
        assert after == before

    yield check
    runtime.agent.command(["/bin/busybox", "rm", "-rf", CANARY])


@pytest.fixture
def run(runtime: Runtime, untouched: Check) -> Ran:
    """Run a bundle, after ``setup``, beside a tree that must stay as it is."""

    def ended(config: Config, *asked: actions.Action, setup: str = "") -> Step:
        step = runtime.run(config, *asked, setup=setup).step
        untouched()
        return step

    return ended


def tmpfs(destination: str) -> Mount:
    """A mount whose place could be meant to lie outside of the root."""
    return Mount(destination=destination, type="tmpfs", source="tmpfs", options=("mode=0777",))


LINKS = {
    "absolute": f"ln -s {CANARY}/folder rootfs/mark",
    "climbing": f"ln -s ../../../../../../../..{CANARY}/folder rootfs/mark",
    "magic": "ln -s /proc/self/cwd/../../.. rootfs/mark",
    "loop": "ln -s mark rootfs/mark",
    "in-the-middle": f"rm -rf rootfs/srv; ln -s {CANARY} rootfs/srv; ln -s /srv/folder rootfs/mark",
    "to-a-file": f"ln -s {CANARY}/file rootfs/mark",
}


@pytest.mark.parametrize("kind", LINKS)
def test_linked_destination(kind: str, run: Ran) -> None:
    """A destination that is a link never leads out: the mount is inside, or there is an error."""
    config = bundle.mounted(bundle.base(), tmpfs("/mark"))
    step = run(config, MARK, actions.REPORT, setup=LINKS[kind])
    assert step.ok or step.done.stderr


@pytest.mark.parametrize(
    "path",
    [f"/../../../../..{CANARY}/folder", f"/mnt/../../../../..{CANARY}/folder", "/..", "/../.."],
)
def test_climbing_destination(path: str, run: Ran) -> None:
    """ "../" in a destination ends at the container's root."""
    config = bundle.mounted(bundle.base(), tmpfs(path))
    step = run(config, actions.write(f"{CANARY}/folder/new", "x", create=True), actions.REPORT)
    assert step.ok or step.done.stderr


@pytest.mark.parametrize(
    "place", ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/self/attr", "/sys"]
)
def test_over_mounts(place: str, run: Ran) -> None:
    """A tmpfs over what a runtime itself reads and writes: contained or refused."""
    step = run(bundle.mounted(bundle.base(), tmpfs(place)), actions.identity())
    assert step.ok or step.done.stderr


@pytest.mark.parametrize("folder", ["proc", "sys", "dev", "etc", "tmp"])
def test_linked_folders_of_the_root(folder: str, run: Ran) -> None:
    """The root's own folders are links to the outside: what is mounted there is mounted inside."""
    setup = f"rm -rf rootfs/{folder}; ln -s {CANARY}/folder rootfs/{folder}"
    paths = ("/etc/group", "/proc/kcore", "/sys/firmware")
    config = bundle.linux(bundle.base(), masked_paths=paths, readonly_paths=("/tmp", "/etc"))
    step = run(config, actions.write("/tmp/x", "x", create=True), setup=setup)
    assert step.ok or step.done.stderr


def without_dev() -> Config:
    """A container that mounts nothing over /dev."""
    kept = tuple(mount for mount in bundle.MOUNTS if not mount.destination.startswith("/dev"))
    return replace(bundle.base(), mounts=kept)


@pytest.mark.parametrize("name", ["null", "console", "ptmx", "fd", "full", "shm"])
def test_linked_devices(name: str, run: Ran) -> None:
    """With no mount over /dev the root's own entries stay: links to the outside are not used."""
    setup = f"ln -s {CANARY}/{'folder' if name == 'shm' else 'file'} rootfs/dev/{name}"
    step = run(without_dev(), actions.identity(), setup=setup)
    assert step.ok or step.done.stderr


QUIET = """
$RUNTIME run --bundle=$FOLDER $ID < /dev/null > /dev/null 2>&1
status=$?
: > $FOLDER/output
exit $status
"""


def test_linked_null_as_output(runtime: Runtime, untouched: Check) -> None:
    """Streams that are /dev/null may be opened again inside, but not as the link of the root."""
    setup = f"ln -s {CANARY}/file rootfs/dev/null"
    assert runtime.script(without_dev(), QUIET, actions.identity()).ok
    runtime.script(without_dev(), QUIET, actions.identity(), setup=setup)
    untouched()


def test_masked_links(run: Ran) -> None:
    """Masked and read-only paths that are links to the outside change nothing there."""
    setup = f"ln -s {CANARY}/file rootfs/masked; ln -s {CANARY}/folder rootfs/kept"
    config = bundle.linux(bundle.base(), masked_paths=("/masked",), readonly_paths=("/kept",))
    step = run(config, actions.identity(), setup=setup)
    assert step.ok or step.done.stderr


@pytest.mark.slow
def test_many_mounts(run: Ran) -> None:
    """10,000 mounts end in a container or in an error, and leave none behind."""
    many = (
        Mount(destination=f"/mnt/{number}", source="/work/oci", options=("bind",))
        for number in range(MANY)
    )
    step = run(bundle.mounted(bundle.base(), *many), actions.identity())
    assert step.ok or step.done.stderr


FILES = {
    "empty": "",
    "cut": '{"ociVersion": "1.0.2", "process": {"args": ["/pro',
    "no-object": "[]",
    "null": "null",
    "binary": "\\x00\\xff\\xfe",
    "deep": "[" * 20_000,
    "number": '{"ociVersion": 1.0, "root": "rootfs"}',
    "no-root": '{"ociVersion": "1.0.2", "process": {"args": ["/probe"], "cwd": "/"}}',
    "foreign-version": '{"ociVersion": "99.0.0", "root": {"path": "rootfs"}}',
}


@pytest.mark.parametrize("kind", FILES)
def test_broken_file(kind: str, runtime: Runtime, untouched: Check) -> None:
    """ "The runtime MUST generate an error" for what is no bundle, and no container is left."""
    step, known = runtime.run_file(FILES[kind].encode("latin-1"))
    untouched()
    assert not step.ok
    assert step.done.stderr
    assert not known


def test_large_file(runtime: Runtime, untouched: Check) -> None:
    """A file of 1 MB is run as it says."""
    config = runtime.suited(bundle.args(bundle.base(), "/probe", "identity"))
    large = bundle.process(config, env=(*config.process.env, f"LARGE={'x' * 100_000}"))
    notes = {f"note-{number}": "x" * 1000 for number in range(LARGE // 1000)}
    visit_file = json.loads(large.encode())
    visit_file["annotations"] = notes
    content = json.dumps(visit_file).encode()
    assert len(content) > LARGE
    step, _known = runtime.run_file(content)
    untouched()
    assert step.ok, str(step)[:3000]


@pytest.mark.parametrize("place", ["top", "process", "linux"])
def test_unknown_properties(place: str, runtime: Runtime, untouched: Check) -> None:
    """config.md, "Extensibility": "Runtimes ... MUST NOT generate an error" for what they
    do not know: "they MUST ignore unknown properties"."""
    config = runtime.suited(bundle.args(bundle.base(), "/probe", "identity"))
    document = json.loads(config.encode())
    target = document if place == "top" else document[place]
    target["org.example.unknown"] = {"nested": [1, 2, {"more": None}]}
    step, _known = runtime.run_file(json.dumps(document).encode())
    untouched()
    assert step.ok, str(step)
