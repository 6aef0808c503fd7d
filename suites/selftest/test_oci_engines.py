"""The catalogue of engines, the image's layout, the engines' words, and who is to blame."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tarfile
from pathlib import Path

import pytest
from test_oci_runtimes import Guest, completed
from test_plugin import inside

from hostabi import resources
from hostabi.agent.records import Completed
from hostabi.errors import InputError, MachineError
from hostabi.guest.disk import Entry
from hostabi.oci import engines, layout
from hostabi.oci.engine import Engine, EngineError, Limits, State
from hostabi.oci.engine_blame import blame
from hostabi.oci.log import Log
from hostabi.oci.visits import Step

_ = inside  # a fixture

FILES = (
    Entry("bin", 0o040755),
    Entry("bin/busybox", 0o100755, b"program"),
    Entry("bin/sh", 0o120777, b"busybox"),
)


class Host(Guest):
    """A guest in which scripts with one of ``lacking`` in them fail."""

    def __init__(self, *lacking: str, **verbs: Completed) -> None:
        super().__init__(**verbs)
        self.lacking = lacking

    def command(self, argv: list[str], *, root: str = "", **_options: object) -> Completed:
        """Fail, or end as a guest's command does."""
        self.commands.append((root, argv))
        if any(word in argv[-1] for word in self.lacking):
            return completed(1, stderr=b"no such thing")
        verb = next((word for word in argv if word in self.verbs), "")
        return self.verbs.get(verb, completed())


def bound(guest: Guest, name: str) -> Engine:
    """An engine of the catalogue on that guest."""
    return Engine(engines.find(name), Log(guest))


def test_catalogue() -> None:
    """Of each family one by default, and every entry is complete."""
    entries = engines.catalogue()
    assert {entries[name].family for name in engines.default_names()} == set(engines.FAMILIES)
    for entry in entries.values():
        assert entry.family in engines.FAMILIES
        assert entry.packages
        assert not set(entry.packages) & set(entry.excluded)
    with pytest.raises(InputError, match="podman-bookworm"):
        engines.find("no-such-engine")


def test_broken_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engines.toml").write_text('[[engine]]\nname = "x"\n')
    monkeypatch.setattr(resources, "kernels", lambda: tmp_path)
    with pytest.raises(InputError, match=r"engines\.toml"):
        engines.catalogue()


def test_layout() -> None:
    """Every blob is named by its digest, and all of it is reached from the index."""
    files = {entry.name: entry.source for entry in layout.layout_entries(FILES, command=("/x",))}
    assert files == {e.name: e.source for e in layout.layout_entries(FILES, command=("/x",))}
    blobs = {}
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert isinstance(content, bytes)
            blobs[f"sha256:{hashlib.sha256(content).hexdigest()}"] = content
            assert name.rpartition("/")[2] == hashlib.sha256(content).hexdigest()
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert isinstance(files["index.json"], bytes)
    [named] = json.loads(files["index.json"])["manifests"]
    assert layout.manifest_digest(files["index.json"]) == named["digest"]
    assert named["annotations"]["org.opencontainers.image.ref.name"] == layout.REFERENCE
    manifest = json.loads(blobs.pop(named["digest"]))
    for each in (manifest["config"], *manifest["layers"]):
        assert len(blobs[each["digest"]]) == each["size"]
    [layer] = manifest["layers"]
    config = json.loads(blobs.pop(manifest["config"]["digest"]))
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"]["Cmd"] == ["/x"]
    with tarfile.open(fileobj=io.BytesIO(blobs.pop(layer["digest"]))) as archive:
        assert archive.getnames() == [entry.name for entry in FILES]
        assert archive.getmember("bin/sh").linkname == "busybox"
        assert archive.getmember("bin/busybox").mode == 0o755
    assert not blobs


def test_states_as_engines_tell_them() -> None:
    containerd = bound(Guest(), "containerd").words
    table = "TASK     PID    STATUS    \nother 3 RUNNING\nsmoke    545    RUNNING\n"
    assert containerd.parse(table, "smoke") == State(running=True, pid=545)
    assert containerd.parse("TASK PID STATUS\n", "smoke") == State(running=False)
    podman = bound(Guest(), "podman").words
    assert podman.parse("running 202\n", "smoke") == State(running=True, pid=202)
    assert podman.parse("exited 0\n", "smoke") == State(running=False)


def test_how_a_container_ended() -> None:
    said = b'level=warning msg="task smoke exit with non-zero exit code 7"'
    containerd = bound(Guest(), "containerd").words
    assert containerd.ended_with(Step((), completed(stderr=said))) == 7
    assert containerd.ended_with(Step((), completed(status=9))) == 9
    assert containerd.ended_with(Step((), completed())) == 0
    podman = bound(Guest(), "podman").words
    assert podman.ended_with(Step((), completed(stdout=b"7\n"))) == 7
    assert podman.ended_with(Step((), completed(stdout=b"?\n"))) == -1


def test_what_an_engine_is_asked() -> None:
    limits = Limits(memory=1 << 20, tasks=9)
    podman = bound(Guest(), "podman").words.run("x", limits, ("/probe",))
    assert podman[-1] == "/probe"
    for words in (("--network", "none"), ("--memory-swap", "1048576"), ("--pids-limit", "9")):
        assert words in itertools.pairwise(podman)
    containerd = bound(Guest(), "containerd").words.run("x", limits, ("/probe",))
    assert containerd[-3:] == (layout.REFERENCE, "x", "/probe")
    assert "--memory-limit" in containerd


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ((), "engine"),
        (("mount -t overlay", "modprobe overlay"), "configuration: no overlay mounts"),
        (("mount -t overlay",), "kernel: no overlay mounts"),
        (("cgroup/pids",), "kernel: no pids controller"),
    ],
)
def test_blame(lacking: tuple[str, ...], named: str) -> None:
    assert blame(Log(Host(*lacking))).startswith(named)


def test_a_failure_tells_who_is_to_blame() -> None:
    guest = Host("mount -t overlay", "modprobe", load=completed(125, stderr=b"\nno storage\n"))
    guest.files["/work/engine/log"] = b"what the daemon said"
    engine = bound(guest, "podman")
    with engine.serving() as session, pytest.raises(EngineError) as caught:
        session.call(engine.words.pull())
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("configuration: no overlay mounts")
    assert first.endswith("no storage")
    assert "what the daemon said" in rest
    assert isinstance(caught.value, AssertionError)
    assert "modprobe" not in str(engine.agent.events)


def test_a_guest_without_room_is_the_harness_failing() -> None:
    with pytest.raises(MachineError, match="cannot lay out the image"):
        bound(Host("cp -r"), "podman").serving().__enter__()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["containerd", "podman"]),
        (("--engine", "podman-sid"), ["podman-sid"]),
        (("--runtime", "crun"), []),
        (("--runtime", "crun", "--engine", "podman"), ["podman"]),
    ],
)
def test_which_engines_are_tried(
    inside: pytest.Pytester, options: tuple[str, ...], found: list[str]
) -> None:
    inside.makepyfile("def test_one(engine): pass\ndef test_other(runtime): pass")
    result = inside.runpytest("--collect-only", "-q", "--kernel", "6.1", *options)
    names = [
        line.partition("[6.1-")[2].rstrip("]") for line in result.outlines if "::test_one[" in line
    ]
    assert names == found
    assert any("::test_other[6.1-" in line for line in result.outlines)
