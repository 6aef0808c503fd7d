"""The catalogue of runtimes, their disk's entries, and the driver against a runtime that is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hostabi import resources
from hostabi.agent.records import Completed
from hostabi.errors import CallError, GuestHangError, InputError, MachineError
from hostabi.oci import actions, bundle, disk, engines, runtimes
from hostabi.oci.deviations import known
from hostabi.oci.driver import Runtime
from hostabi.oci.log import Log
from hostabi.oci.visits import ContainerError

REPORTLESS = b'{"action": "identity", "arguments": [], "value": 0}\n'


def completed(status: int = 0, stdout: bytes = b"", stderr: bytes = b"") -> Completed:
    """The end of a command."""
    return Completed(status, 0, stdout, stderr, timed_out=False, truncated=False)


class Guest:
    """A guest whose runtime answers from a script: verb to result."""

    def __init__(self, **verbs: Completed) -> None:
        self.verbs = verbs
        self.commands: list[tuple[str, list[str]]] = []
        self.files: dict[str, bytes] = {}

    def command(self, argv: list[str], *, root: str = "", **_options: object) -> Completed:
        """Note the command; a runtime's verb has its scripted end, all else succeeds."""
        self.commands.append((root, argv))
        verb = next((word for word in argv if word in self.verbs), "") if root else ""
        return self.verbs.get(verb, completed())

    def read(self, path: str, limit: int = 0) -> bytes:
        """A file that was written before."""
        del limit
        if path not in self.files:
            raise CallError(f"{path}: none", errno=2)
        return self.files[path]

    def write(self, path: str, data: bytes, **_options: object) -> None:
        """Keep a file."""
        self.files[path] = data

    def ran(self, verb: str) -> bool:
        """Whether the runtime was asked for this verb."""
        return any(root and verb in argv for root, argv in self.commands)


def bound(guest: Guest, name: str = "crun") -> Runtime:
    """A runtime of the catalogue on that guest."""
    return Runtime(runtimes.find(name), Log(guest))


def test_catalogue() -> None:
    """Two runtimes by default, and every entry is complete."""
    assert runtimes.default_names() == ("runc", "crun")
    assert runtimes.default_names(short=True) == ("crun",)
    entries = runtimes.catalogue()
    assert len(entries) >= 8
    for entry in entries.values():
        assert entry.family in runtimes.FAMILIES
        assert entry.packages
        assert not entry.binary.startswith("/")


def test_unknown_runtime() -> None:
    """The error names what there is."""
    with pytest.raises(InputError, match="crun-bookworm"):
        runtimes.find("no-such-runtime")


def test_local_binary(tmp_path: Path) -> None:
    """A local binary is named by its content, so that a rebuilt one is another runtime."""
    path = tmp_path / "runc-mine"
    path.write_bytes(b"\x7fELF one")
    first = runtimes.find(str(path))
    path.write_bytes(b"\x7fELF two")
    assert first.family == "runc"
    assert first.name != runtimes.find(str(path)).name
    path.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(InputError, match="no ELF"):
        runtimes.find(str(path))
    other = tmp_path / "mine"
    other.write_bytes(b"\x7fELF one")
    with pytest.raises(InputError, match="runc or crun"):
        runtimes.find(str(other))


def test_broken_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the file names the file."""
    (tmp_path / "runtimes.toml").write_text('[[runtime]]\nname = "x"\n')
    monkeypatch.setattr(resources, "kernels", lambda: tmp_path)
    with pytest.raises(InputError, match=r"runtimes\.toml"):
        runtimes.catalogue()


def test_tree_entries(tmp_path: Path) -> None:
    """Without documentation; with the user's binary; and not without the runtime itself."""
    for name in ("usr/bin/crun", "usr/share/doc/crun/copyright", "usr/lib/libx.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [entry.name for entry in disk.tree_entries(runtimes.find("crun"), tmp_path)]
    assert "crun/usr/bin/crun" in names
    assert "crun/usr/lib/libx.so.1" in names
    assert not [name for name in names if "share/doc" in name]
    with pytest.raises(InputError, match="usr/sbin/runc"):
        list(disk.tree_entries(runtimes.find("runc"), tmp_path))
    local = tmp_path / "crun-mine"
    local.write_bytes(b"\x7fELF")
    entry = runtimes.find(str(local))
    placed = {one.name: one for one in disk.tree_entries(entry, tmp_path)}
    assert placed[f"{entry.name}/usr/local/bin/crun-mine"].mode & 0o111
    assert f"{entry.name}/usr/local/bin" in placed


def test_rootfs_entries(tmp_path: Path) -> None:
    """Folders come before what is in them, and the probe can be executed."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_bytes(b"x")
    entries = list(disk.rootfs_entries(tmp_path / "probe", tmp_path))
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names))
    for name in names:
        parent = str(Path(name).parent)
        assert parent == "." or names.index(parent) < names.index(name)
    assert {entry.name: entry for entry in entries}["probe"].mode == stat.S_IFREG | 0o755


def test_run() -> None:
    """The bundle is written, run in the runtime's tree, and removed again."""
    guest = Guest(run=completed(stdout=REPORTLESS))
    visit = bound(guest).run(bundle.base(), actions.identity())
    assert visit.answers.deed(actions.identity()).value == 0
    [config] = guest.files.values()
    assert b'"/probe"' in config
    assert b"/hostabi/crun-" in config  # a control group of its own
    [argv] = [argv for root, argv in guest.commands if root]
    assert "--cgroup-manager=cgroupfs" in argv
    _probe, verb, folder, *_groups = guest.commands[-1][1]
    assert verb == "discard"
    assert folder.startswith("/work/oci/crun-")
    assert not guest.ran("delete")


def test_refused_bundle() -> None:
    """A runtime that fails is the test's failure, told with command, output and bundle."""
    guest = Guest(run=completed(1, stderr=b"no such thing"))
    visit = bound(guest, "runc").run(bundle.base("mine"))
    assert not visit.ok
    assert guest.ran("delete")
    with pytest.raises(ContainerError) as caught:
        _ = visit.answers
    assert isinstance(caught.value, AssertionError)
    for part in ("$ /runc", "no such thing", "status 1", '"hostname": "mine"'):
        assert part in str(caught.value)


def test_container_is_always_deleted() -> None:
    """Also when the test inside the block fails; but not twice."""
    guest = Guest()
    with pytest.raises(ZeroDivisionError), bound(guest).container(bundle.base()):
        raise ZeroDivisionError
    assert guest.ran("--force")
    guest = Guest()
    with bound(guest).container(bundle.base()) as made:
        made.delete()
    assert not guest.ran("--force")


def test_state_that_is_none() -> None:
    """What the runtime prints is not trusted."""
    guest = Guest(state=completed(stdout=b"[1, 2"))
    with bound(guest).container(bundle.base()) as made, pytest.raises(ContainerError):
        made.state()


def test_specification_version() -> None:
    """From ``features``, and the oldest when there is no such command."""
    said = Guest(features=completed(stdout=b'{"ociVersionMax": "1.2.0+dev"}'))
    assert bound(said).specification() >= (1, 1)
    assert bound(Guest(features=completed(1))).specification() < (1, 1)


def test_deviations_name_what_exists() -> None:
    """Each names tests and runtimes that are there, or whole builds, and who says so."""
    names = {*runtimes.catalogue(), *engines.catalogue()}
    for deviation in known():
        file, _, function = deviation.test.partition("::")
        source = (resources.suites() / file).read_text()
        assert f"def {function}(" in source
        assert set(deviation.runtimes) <= names
        assert all("-" in build for build in deviation.builds), "a build, not a line"
        assert deviation.reference.startswith("https://")
        assert deviation.reason


def test_a_time_out_is_the_harness_failing_and_not_the_runtime() -> None:
    stuck = Completed(-1, 9, b"", b"", timed_out=True, truncated=False)
    runtime = bound(Guest(run=stuck, state=stuck))
    with pytest.raises(GuestHangError, match=r"no end within 30 s[^$]*\$ /crun"):
        runtime.run(bundle.base())
    with runtime.container(bundle.base()) as made, pytest.raises(GuestHangError):
        made.state()


def test_a_bundle_that_cannot_be_written_tells_nothing_about_the_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guest = Guest()

    def full(*_: object, **_options: object) -> None:
        raise CallError("config.json: No space left on device", errno=28)

    monkeypatch.setattr(guest, "write", full)
    with pytest.raises(MachineError, match=r"cannot make the bundle /work/oci/.*No space"):
        bound(guest).run(bundle.base())
    ends = completed(status=1, stderr=b"cp: full")
    monkeypatch.setattr(guest, "command", lambda *_, **_options: ends)
    with pytest.raises(MachineError, match="cp: full"):
        bound(guest).run(bundle.base())
