"""The conformance tests themselves, in a guest: each fails when its property is dropped."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from hostabi import resources
from hostabi.oci.runtimes import default_names

PARTS = 6
"""Each of which ends within a test's deadline, also on a machine that has other work."""


@pytest.mark.kernels
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_test_passes_without_what_it_proves(part: int) -> None:
    """The list is made from the tests' markers, and none of it is passed over."""
    folder = resources.suites() / "conformance"
    proving = [path for path in sorted(folder.glob("test_*.py")) if "proves(" in path.read_text()]
    argv = [
        *(sys.executable, "-m", "pytest", *map(str, proving[part::PARTS])),
        *("--kernel", "newest", "--runtime", ",".join(default_names(short=True))),
        *("--broken", "all", "--short", "-q", "-rfEs"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 20
