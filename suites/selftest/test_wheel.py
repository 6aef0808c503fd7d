"""The wheel: the same command, with suites, data and the agent's sources inside."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hostabi import resources

CHECKOUT = resources.checkout()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHECKOUT is None, reason="a wheel is built from a checkout"),
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "HOSTABI_RESULTS": str(folder / "results"),
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_is_the_wheels(unpacked: Path, tmp_path: Path) -> None:
    where = python(unpacked, tmp_path, "-c", "import hostabi; print(hostabi.__file__)")
    assert where.stdout.strip() == str(unpacked / "hostabi" / "__init__.py")
    entry = (next(unpacked.glob("*.dist-info")) / "entry_points.txt").read_text()
    assert "hostabi = hostabi.cli:main" in entry
    assert python(unpacked, tmp_path, "-m", "hostabi.cli", "run", "--help").returncode == 0


def test_data_and_suites_are_inside(unpacked: Path, tmp_path: Path) -> None:
    program = """
from hostabi import resources
from hostabi.kernels.catalogue import default_lines
from hostabi.oci.runtimes import default_names
from hostabi.diff import impact, ledger
assert resources.checkout() is None
assert len(default_lines()) == 6 and default_names()
impact.shipped(), ledger.shipped()
assert (resources.suites() / "syscalls" / "test_pipes.py").is_file()
assert list((resources.kernels() / "keys").glob("*.gpg"))
assert (resources.agent_sources() / "protocol.h").is_file()
"""
    done = python(unpacked, tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr


def test_no_leftovers_are_inside(unpacked: Path) -> None:
    record = (next(unpacked.glob("*.dist-info")) / "RECORD").read_text()
    assert "hostabi/data/suites/" in record
    assert ".pyc" not in record


def test_suites_run_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    suites = unpacked / "hostabi" / "data" / "suites" / "syscalls"
    done = python(
        unpacked, tmp_path, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider",
        "--short", "--kernel", "running", "-k", "eventfd", str(suites),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
