"""Where mirrors come from, the order of versions, and the cache by itself."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import filelock
import pytest

from hostabi.errors import InputError, StorageError
from hostabi.packages import cache as caching
from hostabi.packages import trust
from hostabi.packages.cache import Cache
from hostabi.packages.release import read_keys
from hostabi.packages.sources import Mirror, parse_deb822, parse_one_line
from hostabi.packages.tree import dependencies
from hostabi.packages.version import Version
from hostabi.progress import Silent

DEB822 = """\
# a comment
Types: deb deb-src
# another one
URIs: http://mirror.example.org/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://disabled.example.org/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://sources.example.org/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://commented.example.org/debian bookworm main
deb-src http://sources.example.org/debian bookworm main
deb [arch=arm64] http://other-cpu.example.org/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://vendor.example.org/linux bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb http://vendor.example.org/linux/debian bookworm stable
deb http://mirror.example.org/debian bookworm main contrib # words
deb http://sec.example.org/debian-security bookworm-security main
"""


def mirror(tmp_path: Path, *, explicit: str | None = None, **environ: str) -> Mirror:
    return Mirror(explicit, environ, tmp_path)


def test_deb822(tmp_path: Path) -> None:
    [source] = parse_deb822(DEB822)
    assert source.suites == ("bookworm", "bookworm-updates")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    found = mirror(tmp_path)
    assert found.main == "http://mirror.example.org/debian"
    assert found.security == "http://mirror.example.org/debian-security"
    assert found.security_guessed


def test_one_line(tmp_path: Path) -> None:
    assert len(parse_one_line(ONE_LINE)) == 6
    (tmp_path / "sources.list").write_text(ONE_LINE)
    found = mirror(tmp_path)
    assert found.main == "http://mirror.example.org/debian"
    assert found.security == "http://sec.example.org/debian-security"
    assert not found.security_guessed


def test_mirror_file(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text("http://mirror.example.org/debian\tpriority:1\n")
    line = f"deb mirror+file:{tmp_path}/debian.list trixie main\n"
    (tmp_path / "sources.list").write_text(line)
    assert mirror(tmp_path).main == "http://mirror.example.org/debian"


def test_named_by_hand_stands_before_apt(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    named = mirror(tmp_path, HOSTABI_MIRROR="http://env.example.org/debian/")
    assert named.main == "http://env.example.org/debian"
    assert named.security == "http://env.example.org/debian-security"
    named = mirror(
        tmp_path,
        explicit="http://cli.example.org/debian,ubuntu=http://cli.example.org/ubuntu",
        HOSTABI_MIRROR="http://env.example.org/debian",
    )
    assert named.main == "http://cli.example.org/debian"
    assert named.base("ubuntu") == "http://cli.example.org/ubuntu"


@pytest.mark.parametrize(
    ("archive", "variable"),
    [
        ("debian", "HOSTABI_MIRROR or --mirror to"),
        ("debian-security", "HOSTABI_MIRROR or --mirror to"),
        ("ubuntu", "HOSTABI_MIRROR_UBUNTU or --mirror ubuntu=ADDRESS to"),
    ],
)
def test_no_mirror_says_what_to_set(tmp_path: Path, archive: str, variable: str) -> None:
    with pytest.raises(InputError, match="no mirror") as caught:
        mirror(tmp_path).base(archive)
    assert variable in caught.value.advice


@pytest.mark.parametrize("address", ["ftp://example.org/debian", "example.org", "file:/srv"])
def test_addresses_that_cannot_be_used(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="address"):
        _ = mirror(tmp_path, HOSTABI_MIRROR=address).main


def test_shipped_keys_can_be_read() -> None:
    for archive in trust.load().archives.values():
        keys = read_keys(archive.keys)
        assert len(keys) == len(archive.keys)
        assert not any(key.is_revoked for key in keys)


def test_versions_in_order() -> None:
    ordered = [
        "1.0~rc1-1",
        "1.0-1~bpo12+1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-2",
        "1.0a-1",
        "1.0.1-1",
        "6.1.9-1",
        "6.1.172-1",
        "7.3~rc7-1~exp1",
        "7.3-1",
        "1:0.1-1",
    ]
    assert sorted(sorted(ordered), key=Version) == ordered
    assert Version("1.0-0") == Version("1.0") == Version("0:1.00")


def test_dependencies() -> None:
    text = "libc6 (>= 2.36), python3:any | python3-minimal, foo [amd64], ,"
    assert list(dependencies(text)) == [["libc6"], ["python3", "python3-minimal"], ["foo"]]


def test_cache_keeps_nothing_half_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        cache.folder("trees", "key", fails)
    assert not list((tmp_path / "cache" / "trees").iterdir())
    made = cache.folder("trees", "key", lambda folder: (folder / "a").touch())
    assert cache.folder("trees", "key", fails) == made


def test_cache_prune_frees_what_is_unused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.folder("trees", "a", lambda folder: (folder / "x").write_bytes(bytes(1000)) and None)
    assert cache.prune(unused_for=3600) == 0
    with cache.lock("trees-a"):
        assert cache.size() == 1000
    assert cache.prune() == 1000
    assert cache.sizes()["trees"] == 0


def test_cache_prune_leaves_what_is_being_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def build(folder: Path) -> None:
        (folder / "half").touch()
        cache.prune()
        assert (folder / "half").exists()

    assert (cache.folder("trees", "a", build) / "half").exists()


def test_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    """What is beyond the count goes, unless somebody is at work on it."""
    cache = Cache(tmp_path)
    places = [cache.file("states", f"k{number}", Path.touch) for number in range(5)]
    for number, path in enumerate(places):
        os.utime(path, (number, number))
    cache.file("states", "k0", Path.touch)  # used again
    making = tmp_path / "states" / ".making-k9.abc"
    making.mkdir()
    os.utime(making, (0, 0))
    with cache.lock("states-k1"):
        cache.keep("states", 2)
    assert [path.exists() for path in places] == [True, True, False, False, True]
    assert making.exists()
    cache.keep("states", 2)
    assert [path.exists() for path in places] == [True, False, False, False, True]
    cache.keep("nothing yet", 2)


def test_cache_lock_is_held_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with (
        cache.lock("trees-a"),
        pytest.raises(StorageError, match="another process"),
        Cache(tmp_path / "cache").lock("trees-a", wait=0),
    ):
        pass


def test_cache_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    cache = Cache(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(Path, "exists", refuse)
    for ask in (lambda: cache.blob("ab" * 32), lambda: cache.file("kind", "key", Path.touch)):
        with pytest.raises(StorageError, match="cannot read or write below") as caught:
            ask()
        assert "HOSTABI_CACHE" in caught.value.advice


class Lines(Silent):
    """A progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        self.heard.set()


def test_waiting_for_another_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_PATIENCE", 0.01)
    lines = Lines()
    ours = Cache(tmp_path / "cache", lines)
    (tmp_path / "cache" / "locks").mkdir(parents=True)
    other = filelock.FileLock(tmp_path / "cache" / "locks" / "trees-a.lock", thread_local=False)

    def let_go() -> None:
        assert lines.heard.wait(20)
        other.release()

    other.acquire()
    waiter = threading.Thread(target=let_go)
    waiter.start()
    with ours.lock("trees-a", label="tree of x", wait=20):
        assert lines.said == ["waiting for another hostabi that is at work on tree of x"]
    waiter.join()


def test_waiting_for_a_thread_of_ours_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_PATIENCE", 0.01)
    lines = Lines()
    cache = Cache(tmp_path / "cache", lines)
    with cache.lock("trees-a"), pytest.raises(StorageError), cache.lock("trees-a", wait=0.1):
        pass
    assert lines.said == []
