"""Kernels through a signed repository on loopback: Ubuntu's form, and the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from aptrepo import Repo, deb, serve
from kernelfakes import kernel_files

from hostabi import cli
from hostabi.errors import VerificationError
from hostabi.kernels import lock
from hostabi.kernels.catalogue import catalogue
from hostabi.kernels.resolve import resolve

GENERIC = "5.15.0-{}-generic"


def package(repo: Repo, name: str, version: str, files: dict[str, bytes], depends: str = "") -> str:
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
    entries = [(f"./{path}", content) for path, content in files.items()]
    fields = f"Depends: {depends}\n" if depends else ""
    return repo.add(name, version, deb(control, [*entries], zstd=True), fields=fields)


def ubuntu_kernel(repo: Repo, number: int) -> str:
    """The packages of one kernel as Ubuntu splits it; the path of the one with the image."""
    release, version = GENERIC.format(number), f"5.15.0-{number}.{number + 10}"
    files = kernel_files(release)
    image = {name: data for name, data in files.items() if name.startswith("boot/vmlinuz")}
    rest = {name: data for name, data in files.items() if name not in image}
    package(repo, f"linux-modules-{release}", version, rest)
    package(repo, f"linux-image-unsigned-{release}", version, image, f"linux-modules-{release}")
    return package(
        repo,
        f"linux-image-{release}",
        version,
        image,
        f"kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-{release}",
    )


def test_an_ubuntu_line(tmp_path: Path) -> None:
    suites = {"jammy": "jammy", "jammy-security": "jammy", "jammy-updates": "jammy"}
    with serve(tmp_path / "repo", "ubuntu", suites) as repo:
        ubuntu_kernel(repo, 25)
        repo.publish(at="jammy", suite="jammy", codename="jammy")
        repo.publish(at="jammy-updates", suite="jammy-updates", codename="jammy")
        newest = ubuntu_kernel(repo, 119)
        package(repo, "linux-image-generic", "5.15.0.119.119", {}, "linux-image-5.15.0-119-generic")
        repo.publish(at="jammy-security", suite="jammy-security", codename="jammy")

        packages = repo.packages(tmp_path / "cache")
        build = resolve("5.15", packages)
        assert (build.name, build.suite) == ("5.15.0-119.129-generic", "jammy-security")
        assert build.release == "5.15.0-119-generic"
        assert build.modules is not None
        assert build.config is not None
        assert sorted(name.split("_")[0] for name in build.packages) == [
            "linux-image-5.15.0-119-generic",
            "linux-modules-5.15.0-119-generic",
        ]
        assert resolve("5.15.0-25", packages).version == "5.15.0-25.35"

        del repo.files[newest]
        build = resolve("5.15", repo.packages(tmp_path / "elsewhere"))
        assert build.version == "5.15.0-25.35"
        assert "5.15.0-119.129-generic is listed but gone" in build.note

        # One pocket must not stand in for another, though all carry one codename.
        repo.publish(at="jammy-security", suite="jammy", codename="jammy")
        with pytest.raises(VerificationError, match="asked for jammy-security"):
            resolve("5.15", repo.packages(tmp_path / "third"))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line before a repository that serves two builds of 6.1 and one of 7.3."""
    known = {suite for line in catalogue().named for suite in line.suites}
    suites = {name: name for name in {*known, *catalogue().rolling, *catalogue().elsewhere}}
    with serve(tmp_path / "repo", "debian", suites) as repo:
        for abi, version in (("6.1.0-55", "6.1.192-1"), ("6.1.0-56", "6.1.192-2")):
            name = f"linux-image-{abi}-cloud-amd64"
            package(repo, name, version, kernel_files(f"{abi}-cloud-amd64"))
        repo.publish(at="bookworm-security", suite="oldstable", codename="bookworm-security")
        repo.empty()
        for name in suites.keys() - {"bookworm-security", "trixie-backports", "bullseye-security"}:
            repo.publish(at=name, suite="x", codename=name)
        package(
            repo,
            "linux-image-7.3.4+deb13-cloud-amd64",
            "7.3.4-1",
            kernel_files("7.3.4+deb13-cloud-amd64"),
        )
        repo.publish(at="trixie-backports", suite="x", codename="trixie-backports")
        monkeypatch.setenv("HOSTABI_MIRROR", repo.base)
        monkeypatch.setenv("HOSTABI_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HOSTABI_REPOSITORIES", str(repo.folder / "repositories.toml"))
        monkeypatch.setattr("hostabi.kernels.lock.lock_file", lambda: tmp_path / "lock.toml")
        yield repo


def test_list_fetch_and_lock(
    shell: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(*words: str) -> list[str]:
        assert cli.main(["kernels", *words]) == 0
        return capsys.readouterr().out.splitlines()

    listed = lines("list", "6.1")
    first, second = (line for line in listed if "6.1.0-" in line)
    # A suite that the mirror lacks is a note, not the end.
    assert "6.1.192-2  6.1.0-56" in first
    assert any(line.startswith("6.1: ") and "has no suite bull" in line for line in listed)
    assert second.split() == ["6.1.192-1", "6.1.0-55", "bookworm-security", "0", "MB", "no"]
    assert not any("7.3.4" in line for line in listed)
    assert any("7.3.4-1" in line for line in lines("list"))

    (told,) = lines("fetch", "6.1.0-55")
    assert told.startswith("6.1.0-55: 6.1.192-1, 6.1.0-55-cloud-amd64, ")
    assert Path(told.split(", ")[-1]).is_file()
    assert "6.1: newer than what is cached" in "\n".join(lines("list"))

    assert "6.1 (cloud-amd64): 6.1.192-2" in lines("lock", "6.1")
    locked = lock.read_lock()
    assert locked is not None
    assert locked.find("6.1").version == "6.1.192-2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "9.9"], "unknown line '9.9'"),
        (["fetch", "9.9"], "9.9: unknown kernel"),
        (["fetch", "6.1.0-57"], "6.1.0-56"),
        (["lock", "9.9"], "9.9"),
    ],
)
def test_what_is_not_known(
    shell: Repo, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["kernels", *words]) == 2
    assert said in capsys.readouterr().err
