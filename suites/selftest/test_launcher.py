"""The launcher, with stand-ins for uv and venv: what it sets up, when, and how often."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hostabi import resources

CHECKOUT = resources.checkout()
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="a wheel has no launcher")

UV = """#!{python}
import os, sys, pathlib
log = pathlib.Path({log!r})
with log.open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "venv":
    bin = pathlib.Path(sys.argv[-1]) / "bin"
    bin.mkdir(parents=True)
    for name in ("hostabi", "pytest"):
        (bin / name).write_text("#!/bin/sh\\necho " + name + ' "$@"\\n')
        (bin / name).chmod(0o755)
    (bin / "python").symlink_to("/bin/false")
sys.exit(int(os.environ.get("UV_FAILS", "0")))
"""


class Fresh:
    """A checkout of nothing but the launcher, with a uv that only pretends."""

    def __init__(self, folder: Path) -> None:
        assert CHECKOUT is not None
        self.folder = folder / "checkout"
        self.folder.mkdir()
        self.log = folder / "uv.log"
        self.tools = folder / "bin"
        self.tools.mkdir()
        shutil.copy(CHECKOUT / "hostabi", self.folder)
        (self.folder / "pyproject.toml").write_text("[project]\n")
        uv = self.tools / "uv"
        uv.write_text(UV.format(python=sys.executable, log=str(self.log)))
        uv.chmod(0o755)
        self.environment = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.folder / "hostabi"), *words],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*words, **environment) as process:
            out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def calls(self, what: str) -> int:
        return sum(line.startswith(what) for line in self.log.read_text().splitlines())


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    return Fresh(tmp_path)


def test_sets_up_once_and_hands_over(fresh: Fresh) -> None:
    code, out, error = fresh.run("run", "6.1", "a b")
    assert (code, out) == (0, "hostabi run 6.1 a b\n")
    assert "setting up" in error
    code, out, error = fresh.run("doctor")
    assert (code, out, error) == (0, "hostabi doctor\n", "")
    assert (fresh.calls("venv"), fresh.calls("pip install")) == (1, 1)


def test_tools_are_installed_when_first_needed(fresh: Fresh) -> None:
    fresh.run("run")
    code, out, _ = fresh.run("tool", "pytest", "-k", "x")
    assert (code, out) == (0, "pytest -k x\n")
    fresh.run("test")
    assert (fresh.calls("venv"), fresh.calls("pip install")) == (1, 2)
    assert "[lint]" in fresh.log.read_text().splitlines()[-1]


def test_a_changed_project_is_installed_anew(fresh: Fresh) -> None:
    fresh.run("run")
    (fresh.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    fresh.run("run")
    assert (fresh.calls("venv"), fresh.calls("pip install")) == (1, 2)


def test_another_python_needs_another_environment(fresh: Fresh) -> None:
    fresh.run("run")
    python = fresh.folder / ".venv" / "bin" / "python"
    python.unlink(missing_ok=True)
    python.symlink_to("/bin/true")
    fresh.run("run")
    assert (fresh.calls("venv"), fresh.calls("pip install")) == (2, 2)


def test_two_at_once_set_up_once(fresh: Fresh) -> None:
    both = [fresh.start("run"), fresh.start("run")]
    for process in both:
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "hostabi run\n"), error
    assert fresh.calls("pip install") == 1


def test_a_setup_that_failed_is_done_again(fresh: Fresh) -> None:
    code, out, error = fresh.run("run", UV_FAILS="1", PIP_NO_INDEX="1", PIP_CONFIG_FILE="/dev/null")
    assert (code, out) == (2, "")
    assert "cannot install" in error
    assert "try: " in error
    code, out, _ = fresh.run("run")
    assert (code, out) == (0, "hostabi run\n")


def test_an_unknown_tool(fresh: Fresh) -> None:
    code, _, error = fresh.run("tool", "nonsense")
    assert code == 2
    assert "no program nonsense" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_checkout_that_cannot_be_written_uses_the_cache(fresh: Fresh, tmp_path: Path) -> None:
    fresh.folder.chmod(0o555)
    try:
        code, out, _ = fresh.run("run")
    finally:
        fresh.folder.chmod(0o755)
    assert (code, out) == (0, "hostabi run\n")
    assert list((tmp_path / "cache" / "hostabi").glob("venv-*/hostabi.stamp"))
