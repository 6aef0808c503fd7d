"""Building the C programs: once for each state of their sources, with errors that help."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from hostabi import resources
from hostabi.agent import build, wire
from hostabi.errors import HostabiError, InputError
from hostabi.packages.cache import Cache
from hostabi.progress import Silent, Task


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(resources, "agent_sources", lambda: folder)
    return folder


def test_it_is_static_and_built_once(sources: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = build.binary("agent", cache)
    made = first.stat().st_ino
    assert first.read_bytes().startswith(b"\x7fELF")
    assert b"/ld-musl" not in first.read_bytes()
    assert build.binary("agent", cache) == first
    assert first.stat().st_ino == made
    (sources / "main.c").write_text("int main(void) { return 1; }\n")
    assert build.binary("agent", cache) != first


def test_compiling_is_told_once(sources: Path, tmp_path: Path) -> None:
    steps: list[str] = []

    class Steps(Silent):
        def task(
            self, label: str, total: int | None = None, unit: str = ""
        ) -> AbstractContextManager[Task]:
            steps.append(label)
            return super().task(label, total, unit)

    cache = Cache(tmp_path / "cache", Steps())
    build.binary("agent", cache)
    build.binary("agent", cache)
    assert steps == ["compile the agent for guests (once)"]


def test_a_warning_is_an_error_that_is_shown(sources: Path, tmp_path: Path) -> None:
    (sources / "main.c").write_text("int main(void) { int unused; return 0; }\n")
    with pytest.raises(HostabiError, match="unused"):
        build.binary("agent", Cache(tmp_path / "cache"))


def test_sources_that_change_meanwhile(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(_files: list[Path], _arch: str, _flags: tuple[str, ...], output: Path) -> None:
        output.write_bytes(b"of the old sources")
        (sources / "main.c").write_text("int main(void) { return 2; }\n")

    monkeypatch.setattr(build, "_compile", compiled)
    with pytest.raises(HostabiError, match="changed while"):
        build.binary("agent", Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache" / "binaries").iterdir())


def test_a_header_belongs_to_the_key(sources: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = build.binary("agent", cache)
    (sources / "protocol.h").write_text("/* more */\n")
    assert build.binary("agent", cache) != first


def test_sources_are_told_apart(sources: Path) -> None:
    (sources / "probe.c").write_text("")
    (sources / "probe_more.c").write_text("")
    assert [file.name for file in build.sources("agent")] == ["main.c"]
    assert [file.name for file in build.sources("probe")] == ["probe.c", "probe_more.c"]


def test_what_cannot_be_built_is_bad_input(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="probe"):
        build.binary("probe", Cache(tmp_path / "cache"))
    with pytest.raises(InputError, match="sparc"):
        build.binary("agent", Cache(tmp_path / "cache"), "sparc")


def test_the_layout_covers_each_field_and_leaves_no_hole() -> None:
    layout = wire.layout()
    for name in layout:
        fields = [place for field, place in layout.items() if field.startswith(f"{name}.")]
        if "." in name:
            continue
        assert fields, name
        assert sum(size for _, size in fields) == layout[name][1], f"{name} has padding"
        assert all(offset % min(size, 8) == 0 for offset, size in fields if size in {2, 4, 8})
    longest = max(map(len, layout))
    assert longest < wire.ffi.sizeof("struct wire_layout") - 8


def test_every_struct_keeps_what_follows_aligned() -> None:
    for name, (_, size) in wire.layout().items():
        assert "." in name or size % 8 == 0, name
