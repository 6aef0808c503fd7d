"""The point releases of a line, from the suites that list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kernelfakes import FakeArchive

from hostabi.errors import InputError, PackageError
from hostabi.kernels.listing import list_kernels
from hostabi.kernels.releases import releases


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    made = FakeArchive(tmp_path)
    made.add_kernel("bookworm-security", "6.1.0-55", "6.1.192-1")
    made.add_kernel("bookworm-security", "6.1.0-56", "6.1.192-2")
    made.add_kernel("bookworm-security", "6.1.0-56", "6.1.192-2", "amd64")
    made.add_kernel("bookworm", "6.1.0-50", "6.1.176-1")
    made.add_kernel("bullseye-security", "6.1.0-0.deb11.50", "6.1.176-1~deb11u1")
    made.add_kernel("bookworm-backports", "6.1.0-9~bpo12", "6.1.99-1~bpo12+1")
    made.add_split("trixie-backports", "7.1.13+deb13", "7.1.13-1~bpo13+1", without="modules")
    made.add_split("sid", "7.4.1+deb14", "7.4.1-1")
    return made


def test_one_build_for_each_upstream_version_oldest_first(archive: Any) -> None:
    found = releases("6.1", archive)
    assert [one.name for one in found] == ["6.1.99-1~bpo12+1", "6.1.176-1", "6.1.192-2"]
    assert [one.name for one in releases("6.1", archive, flavour="amd64")] == ["6.1.192-2-amd64"]


def test_what_cannot_be_had_is_no_release(archive: Any) -> None:
    with pytest.raises(InputError, match=r"no suite lists line 7\.1"):
        releases("7.1", archive)
    archive.unreadable = set(archive.suites) | {"trixie-backports", "experimental", "forky"}
    with pytest.raises(PackageError, match=r"line 7\.1: "):
        releases("7.1", archive)


def test_every_build_that_is_listed_anywhere(archive: Any) -> None:
    (line,) = list_kernels(archive, names=["6.1"])
    assert "6.1.99-1~bpo12+1" in [build.name for build in line.builds]
    (line,) = [one for one in list_kernels(archive) if one.name == "6.1"]
    assert "6.1.99-1~bpo12+1" not in [build.name for build in line.builds]
    (line,) = list_kernels(archive, names=["7.4"])
    assert [build.name for build in line.builds] == ["7.4.1-1"]
    with pytest.raises(InputError, match=r"unknown line '7\.9'"):
        list_kernels(archive, names=["7.9"])
