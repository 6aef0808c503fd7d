"""Archives that are fine, damaged, or try to write outside of their folder."""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
from pathlib import Path

import pytest
from aptrepo import TarEntry, deb, link, rpm

from hostabi.errors import ArchiveError
from hostabi.packages import streams, unpack
from hostabi.packages.archives import read_control, unpack_deb
from hostabi.packages.archives import unpack as unpack_any
from hostabi.packages.unpack import resolve

CONTROL = "Package: hello\nVersion: 1.0\nArchitecture: amd64\nPre-Depends: libc6\n"


def unpacked(tmp_path: Path, entries: list[TarEntry], *, zstd: bool = False) -> Path:
    """``entries`` as a .deb, unpacked."""
    package, root = tmp_path / "made.deb", tmp_path / "inner" / "root"
    package.write_bytes(deb(CONTROL, entries, zstd=zstd))
    root.mkdir(parents=True, exist_ok=True)
    unpack_deb(package, root)
    return root


@pytest.mark.parametrize("zstd", [False, True])
def test_unpacks_files_folders_and_links(tmp_path: Path, zstd: bool) -> None:
    root = unpacked(
        tmp_path,
        [
            ("./", None),
            ("./usr/", None),
            ("./usr/bin/tool", b"#!"),
            link("./usr/bin/short", "tool"),
            link("./usr/bin/far", "/etc/alternatives/far"),
            link("./usr/bin/same", "./usr/bin/tool", tarfile.LNKTYPE),
        ],
        zstd=zstd,
    )
    assert (root / "usr/bin/short").read_bytes() == b"#!"
    assert (root / "usr/bin/far").readlink() == Path("../../etc/alternatives/far")
    assert (root / "usr/bin/same").stat().st_ino == (root / "usr/bin/tool").stat().st_ino
    assert read_control(tmp_path / "made.deb")["Pre-Depends"] == "libc6"


def test_setuid_and_devices_are_left_out(tmp_path: Path) -> None:
    tool, device = tarfile.TarInfo("./su"), tarfile.TarInfo("./null")
    tool.mode, device.type = 0o4755, tarfile.CHRTYPE
    root = unpacked(tmp_path, [tool, device])
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert not (root / "null").exists()


@pytest.mark.parametrize(
    "entries",
    [
        [("/etc/passwd", b"x")],
        [("../escaped", b"x")],
        [("./usr/../../escaped", b"x")],
        [link("./out", "../.."), ("./out/escaped", b"x")],
        [link("./usr/out", "../../escaped")],
        [link("./out", "/../escaped")],
        [link("./here", "."), link("./out", "here/../../escaped")],
        [link("./a", "b"), link("./b", "a"), ("./a/x", b"")],
        [link("./hard", "/etc/passwd", tarfile.LNKTYPE)],
        [link("./hard", "../escaped", tarfile.LNKTYPE)],
        [link("./soft", "/etc/hostname"), link("./hard", "./soft", tarfile.LNKTYPE)],
        [("./both", None), ("./both", b"x")],
        # the first link is harmless until the second one changes what it passes through
        [link("./far", "deep/../../escaped"), link("./deep", ".")],
    ],
)
def test_nothing_leaves_the_folder(tmp_path: Path, entries: list[TarEntry]) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "escaped").write_text("before")
    with pytest.raises(ArchiveError):
        unpacked(tmp_path, entries)
    assert (tmp_path / "inner" / "escaped").read_text() == "before"
    assert not (tmp_path / "escaped").exists()


def test_absolute_links_stay_inside(tmp_path: Path) -> None:
    root = unpacked(tmp_path, [link("./out", "/etc"), ("./out/made", b"x")])
    assert (root / "etc" / "made").read_bytes() == b"x"


@pytest.mark.parametrize("keep", [4, 60, 200, -40])
def test_truncated_deb(tmp_path: Path, keep: int) -> None:
    package = tmp_path / "cut.deb"
    package.write_bytes(deb(CONTROL, [("./a", bytes(range(256)) * 50)])[:keep])
    with pytest.raises(ArchiveError, match=r"cut\.deb"):
        unpack_any(package, tmp_path)


@pytest.mark.parametrize("zstd", [False, True])
def test_damaged_member(tmp_path: Path, zstd: bool) -> None:
    whole = bytearray(deb(CONTROL, [("./a", bytes(range(256)) * 50)], zstd=zstd))
    at = whole.index(b"data.tar") + 60 + 20
    whole[at : at + 8] = b"\xff" * 8
    (tmp_path / "bad.deb").write_bytes(whole)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_deb(tmp_path / "bad.deb", tmp_path)


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "BYTES", 100_000)
    with pytest.raises(ArchiveError, match="more than"):
        unpacked(tmp_path, [("./zeros", bytes(200_000))])
    packed = io.BytesIO(lzma.compress(bytes(10_000)))
    with pytest.raises(ArchiveError, match="more than it may"):
        streams.decompressed(packed, 9_999).read()


def test_resolve_follows_links_inside(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    assert resolve(tmp_path, "lib/x/../y") == str(tmp_path / "usr/lib/y")
    with pytest.raises(ArchiveError):
        resolve(tmp_path, "lib/../../..")


def test_rpm(tmp_path: Path) -> None:
    package, root = tmp_path / "made.rpm", tmp_path / "root"
    root.mkdir()
    package.write_bytes(
        rpm(
            [
                ("./lib", 0o040755, b""),
                ("./lib/vmlinuz", 0o100644, b"bytes"),
                ("./l", 0o120777, b"lib"),
            ]
        )
    )
    unpack_any(package, root)
    assert (root / "l/vmlinuz").read_bytes() == b"bytes"
    assert read_control(package)["Version"] == "6.6.1"


@pytest.mark.parametrize("name", ["../escaped", "/escaped"])
def test_rpm_that_reaches_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.rpm").write_bytes(rpm([(name, 0o100644, b"x")]))
    with pytest.raises(ArchiveError, match="outside"):
        unpack_any(tmp_path / "bad.rpm", tmp_path)


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"\x7fELF" * 9, "neither")])
@pytest.mark.parametrize("name", ["x.rpm", "x.deb"])
def test_what_is_no_package(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveError, match=said):
        unpack_any(tmp_path / name, tmp_path / "root")
    with pytest.raises(ArchiveError, match=said):
        read_control(tmp_path / name)


def test_truncated_rpm(tmp_path: Path) -> None:
    whole = rpm([("./a", 0o100644, bytes(range(256)) * 40)])
    for keep in (50, 110, 200, len(whole) - 20):
        (tmp_path / "cut.rpm").write_bytes(whole[:keep])
        with pytest.raises(ArchiveError):
            unpack_any(tmp_path / "cut.rpm", tmp_path)
