"""The repository client against a small signed repository on loopback."""

from __future__ import annotations

import base64
import errno
import lzma
import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pysequoia
import pytest
from aptrepo import Repo, answer, deb, new_key, serve, sign, tar

from hostabi.errors import ArchiveError, InputError, PackageError, StorageError, VerificationError
from hostabi.packages import fetch, sources
from hostabi.packages.archives import unpack_tar
from hostabi.packages.fetch import PackageGoneError, UnreachableError
from hostabi.packages.tree import closure, tool
from hostabi.progress import Silent, Task

CONTROL = "Package: hello\nVersion: 1.0\nArchitecture: amd64\n"
HELLO = deb(CONTROL, [("./usr/bin/hello", os.urandom(200_000))])


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    with serve(tmp_path / "repo") as made:
        made.add("hello", "1.0", HELLO, fields="Depends: libhello (>= 1) | other, virtual\n")
        made.add("hello", "1.0~rc1", HELLO)
        made.add("libhello", "2", deb(CONTROL, [("./lib/libhello.so.1", b"so")], zstd=True))
        made.add(
            "real", "1", deb(CONTROL, [("./usr/share/real", b"x")]), fields="Provides: virtual\n"
        )
        made.publish()
        yield made


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF", 0.0)
    monkeypatch.delenv("HOSTABI_REFRESH", raising=False)


def test_resolves_newest_first_and_fetches(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    suite = packages.suite("test")
    assert [package.version for package in suite.named("hello")] == ["1.0", "1.0~rc1"]
    assert [package.name for package in suite.matching("*hello")] == ["hello", "hello", "libhello"]
    assert packages.fetch(suite.named("hello")[0]).read_bytes() == HELLO
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_source_packages_by_their_files(repo: Repo, tmp_path: Path) -> None:
    repo.add_source("hello", "1.0", orig_tar=tar([("hello-1.0/a", b"x")]), debian_tar=b"patches")
    repo.add_source("hello", "1.1", orig_tar=b"")
    repo.publish()
    packages = repo.packages(tmp_path / "cache")
    listed = packages.sources("test")
    assert [(one.version, one.file, one.architecture) for one in listed.named("hello")] == [
        ("1.1", "hello_1.1.orig.tar", "source"),
        ("1.0", "hello_1.0.orig.tar", "source"),
        ("1.0", "hello_1.0.debian.tar", "source"),
    ]
    unpack_tar(packages.fetch(listed.named("hello")[1]), tmp_path / "tree")
    assert (tmp_path / "tree/hello-1.0/a").read_bytes() == b"x"
    assert len(packages.suite("test").named("hello")) == 2, "packages are told apart from sources"
    repo.files["dists/test/main/source/Sources"] += b"\n"
    with pytest.raises(VerificationError):
        repo.packages(tmp_path / "other").sources("test")


def test_a_damaged_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(tar([("a/b", bytes(5000))]))[:-40])
    with pytest.raises(ArchiveError, match=r"x\.tar\.xz"):
        unpack_tar(tmp_path / "x.tar.xz", tmp_path / "tree")


def test_tree_holds_the_closure_merged_into_usr(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    tree = packages.tree(["hello"], "test")
    assert [package.name for package in tree.packages] == ["hello", "libhello", "real"]
    assert (tree.root / "usr/lib/libhello.so.1").read_bytes() == b"so"
    assert (tree.root / "lib").is_symlink()
    asked = len(repo.asked)
    assert repo.packages(tmp_path / "cache").tree(["hello"], "test") == tree
    assert len(repo.asked) == asked, "a second tree asks the mirror for nothing"
    assert [
        p.name for p in closure(["hello"], packages.suite("test"), exclude=frozenset({"real"}))
    ] == [
        "hello",
        "libhello",
    ]
    with pytest.raises(PackageError, match="cannot be run"):
        tool(tree, "usr/bin/hello")


def test_index_is_asked_for_by_hash(repo: Repo, tmp_path: Path) -> None:
    repo.files["dists/test/main/binary-amd64/Packages.xz"] = b"of the next release"
    assert len(repo.packages(tmp_path / "cache").suite("test").named("hello")) == 2


def test_a_key_that_is_not_ours(repo: Repo, tmp_path: Path) -> None:
    repo.publish(new_key())
    with pytest.raises(VerificationError, match="signature"):
        repo.packages(tmp_path / "cache").suite("test")


def test_text_around_the_signed_part_is_not_read(repo: Repo, tmp_path: Path) -> None:
    good = repo.files["dists/test/InRelease"]
    for forged in (b"Suite: evil\n\n" + good, good + b"\nSHA256:\n evil\n"):
        repo.files["dists/test/InRelease"] = forged
        try:
            suite = repo.packages(tmp_path / "cache", refresh=True).suite("test")
        except VerificationError:
            continue
        assert suite.release.suite_field == "test"
        assert not [path for path in suite.release.files if "evil" in path]


def test_release_changed_after_signing(repo: Repo, tmp_path: Path) -> None:
    path = "dists/test/InRelease"
    repo.files[path] = repo.files[path].replace(b"Origin: Test", b"Origin: Best")
    with pytest.raises(VerificationError):
        repo.packages(tmp_path / "cache").suite("test")


def unarmored(block: str) -> bytes:
    """The packets in an armour block whose first line is cut off."""
    lines = block.partition("\n\n")[2].splitlines()
    end = next(at for at, line in enumerate(lines) if line.startswith(("=", "-----")))
    return base64.b64decode("".join(lines[:end]))


def test_one_good_signature_of_two_is_enough(repo: Repo, tmp_path: Path) -> None:
    text, other = repo.release(), new_key()
    mark = "-----BEGIN PGP SIGNATURE-----"
    bodies = [sign(key, text).decode().partition(mark) for key in (other, repo.key)]
    packets = b"".join(unarmored(body) for _, _, body in bodies)
    block = pysequoia.armor(packets, pysequoia.ArmorKind.Signature)
    repo.files["dists/test/InRelease"] = (bodies[0][0] + block).encode()
    suite = repo.packages(tmp_path / "cache").suite("test")
    assert suite.release.signers == (repo.key.extract_certificate().fingerprint,)


@pytest.mark.parametrize(("suite", "codename"), [("other", "other"), ("test", "other")])
def test_another_suite_under_this_name(
    repo: Repo, tmp_path: Path, suite: str, codename: str
) -> None:
    repo.publish(suite=suite, codename=codename)
    with pytest.raises(VerificationError, match="asked for test"):
        repo.packages(tmp_path / "cache").suite("test")


def test_a_page_instead_of_a_release(repo: Repo, tmp_path: Path) -> None:
    repo.files["dists/test/InRelease"] = b"<html>please log in</html>"
    with pytest.raises(VerificationError):
        repo.packages(tmp_path / "cache").suite("test")


def test_expired_release_is_recorded(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "checks_valid_until", lambda: True)
    repo.publish(extra="Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n")
    assert "valid until 2022" in repo.packages(tmp_path / "cache").suite("test").notes[0]


def test_changed_index(repo: Repo, tmp_path: Path) -> None:
    for path in repo.files:
        if "/by-hash/" in path:
            repo.files[path] = bytes(len(repo.files[path]))
    with pytest.raises(VerificationError, match="SHA-256"):
        repo.packages(tmp_path / "cache").suite("test")


def test_changed_package(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    repo.files[package.filename] = HELLO[:-1] + b"?"
    with pytest.raises(VerificationError, match="promises"):
        packages.fetch(package)
    assert packages.cache.blob(package.sha256) is None


def test_a_damaged_file_in_the_cache_is_fetched_anew(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    kept = packages.fetch(package)
    asked = len(repo.asked)
    assert packages.fetch(package) == kept
    assert len(repo.asked) == asked
    for damage in (HELLO[:-1], HELLO[:-1] + bytes([HELLO[-1] ^ 1])):
        kept.write_bytes(damage)
        assert packages.fetch(package).read_bytes() == HELLO


def test_truncated_package(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    repo.files[package.filename] = HELLO[:1000]
    with pytest.raises(VerificationError, match="has 1000 bytes"):
        packages.fetch(package)


def test_more_bytes_than_declared(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    repo.files[package.filename] = HELLO + bytes(5_000_000)
    with pytest.raises(VerificationError, match="more than"):
        packages.fetch(package)


def test_vanished_package(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    del repo.files[package.filename]
    with pytest.raises(PackageGoneError, match="404"):
        packages.fetch(package)
    assert len([path for path, _ in repo.asked if path == package.filename]) == 1


class Counter(Silent):
    """A progress that adds up what it is told."""

    def __init__(self) -> None:
        self.done = 0
        self.steps: list[tuple[str, int | None]] = []

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        counter = self
        counter.steps.append((label, total))

        class Adds:
            def advance(self, amount: int = 1) -> None:
                counter.done += amount

            def note(self, text: str) -> None:
                pass

        yield Adds()


def test_a_tree_is_fetched_as_one_step(repo: Repo, tmp_path: Path) -> None:
    progress = Counter()
    packages = repo.packages(tmp_path / "cache", progress=progress)
    suite = packages.suite("test")
    packages.fetch(suite.named("real")[0])  # is there already, and counts all the same
    progress.steps.clear()
    progress.done = 0
    tree = packages.tree(["hello"], "test")
    total = sum(package.size for package in tree.packages)
    assert progress.steps == [
        ("fetch tree of hello, 3 packages", total),
        ("unpack tree of hello", 3),
    ]
    assert progress.done == total + 3


def test_resumes_after_a_cut_connection(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    cut = len(HELLO) // 2

    def once(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        del repo.faults[package.filename]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:cut])
        handler.close_connection = True

    repo.faults[package.filename] = once
    counter = Counter()
    packages = replace(packages, progress=counter)
    assert packages.fetch(package).read_bytes() == HELLO
    ranges = [wanted for path, wanted in repo.asked if path == package.filename]
    assert ranges == ["", f"bytes={cut}-"]
    assert counter.done == len(HELLO), "bytes sent twice are told once"


def test_a_server_that_ignores_ranges(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    part = packages.cache.blob_path(package.sha256).with_name(package.sha256 + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"junk of an earlier run")
    repo.faults[package.filename] = answer
    assert packages.fetch(package).read_bytes() == HELLO


def test_server_errors_are_tried_again(repo: Repo, tmp_path: Path) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]
    left = [503, 503]

    def busy(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if left:
            handler.send_response(left.pop())
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            answer(handler, body)

    repo.faults[package.filename] = busy
    assert packages.fetch(package).read_bytes() == HELLO


def test_goes_on_without_the_mirror(repo: Repo, tmp_path: Path) -> None:
    repo.packages(tmp_path / "cache").suite("test")

    def down(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(502)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    repo.faults["dists/test/InRelease"] = down
    suite = repo.packages(tmp_path / "cache", refresh=True).suite("test")
    assert suite.named("hello")
    assert "502" in suite.notes[0]
    with pytest.raises(UnreachableError):
        repo.packages(tmp_path / "elsewhere").suite("test")


def test_a_host_that_is_down_is_not_asked_again(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        repo.base = f"http://127.0.0.1:{closed.getsockname()[1]}"
        packages = repo.packages(tmp_path / "cache")
        with pytest.raises(UnreachableError, match=r"after 5 attempts: .*refused"):
            packages.suite("test")
        with pytest.raises(UnreachableError, match=r"cannot be reached: .*refused"):
            packages.suite("test")
        monkeypatch.setattr(fetch, "DOWN", 0.0)
        with pytest.raises(UnreachableError, match="after 5 attempts"):
            packages.suite("test")


def test_a_fresh_release_is_not_asked_for_again(repo: Repo, tmp_path: Path) -> None:
    repo.packages(tmp_path / "cache").suite("test")
    asked = len(repo.asked)
    repo.packages(tmp_path / "cache").suite("test")
    assert len(repo.asked) == asked
    repo.packages(tmp_path / "cache", refresh=True).suite("test")
    assert len(repo.asked) == asked + 1


def test_damaged_parsed_index_is_made_again(repo: Repo, tmp_path: Path) -> None:
    repo.packages(tmp_path / "cache").suite("test")
    [parsed] = (tmp_path / "cache" / "packages-1").iterdir()
    parsed.write_bytes(parsed.read_bytes()[:-7])
    assert repo.packages(tmp_path / "cache").suite("test").named("hello")


def test_full_disk(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = repo.packages(tmp_path / "cache")
    package = packages.suite("test").named("hello")[0]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_copy", full)
    with pytest.raises(StorageError, match="no space left") as caught:
        packages.fetch(package)
    assert "HOSTABI_CACHE" in caught.value.advice


def test_cache_that_cannot_be_written(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot read or write"):
        repo.packages(tmp_path / "file" / "cache").suite("test")


def _fetch_elsewhere(
    base: str, folder: Path, cache: Path, queue: multiprocessing.Queue[str]
) -> None:
    other = Repo(new_key(), folder, base=base)
    packages = other.packages(cache)
    queue.put(str(packages.tree(["hello"], "test").root))


def test_two_processes_at_once(repo: Repo, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (repo.base, repo.folder, tmp_path / "cache", queue)
    workers = [context.Process(target=_fetch_elsewhere, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    roots = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(roots) == 1
    pool = [path for path, _ in repo.asked if path.startswith("pool/")]
    assert len(pool) == len(set(pool)), "each package is fetched once"


def test_a_suite_that_the_mirror_lacks(repo: Repo, tmp_path: Path) -> None:
    del repo.files["dists/test/InRelease"]
    with pytest.raises(PackageGoneError, match="no suite test") as caught:
        repo.packages(tmp_path / "cache").suite("test")
    assert "HOSTABI_MIRROR" in caught.value.advice


def test_unknown_suite(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not known"):
        repo.packages(tmp_path / "cache").suite("woody")
