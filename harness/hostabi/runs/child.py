"""The suites as a child process: what it is started with, and the builds it is handed.

The child measures what its parent resolved. Were it to look the kernels up
again, a mirror that moved on would give it others, and a lock file would not hold.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi import resources
from hostabi.errors import InputError
from hostabi.kernels.build import Build
from hostabi.runs.journal import ENVIRONMENT

if TYPE_CHECKING:
    from hostabi.runs.guests import Guests

PARENT = "HOSTABI_PARENT"
"""Names the process that started the suites: they end with it."""


def argv(
    guests: Guests, journal: Path, builds: str, arguments: Sequence[str], folders: Sequence[str]
) -> list[str]:
    """pytest over ``folders``; ``builds`` is the file that :func:`handed` reads."""
    words = [sys.executable, "-m", "pytest", "-v", "-o", "console_output_style=count"]
    words += ["-p", "no:cacheprovider", "--no-header"]
    words += ["--tb", "no", "-rN"]  # the journal keeps what failed and why
    words += ["--rootdir", str(resources.suites()), "--journal", str(journal)]
    # What was tried need not be tried, and told, again by every child.
    emulated = guests.accel == "auto" and guests.accelerator == "tcg"
    words += ["--builds", builds, "--accel", "tcg" if emulated else guests.accel]
    if guests.packages.mirror.explicit:
        words += ["--mirror", guests.packages.mirror.explicit]
    return [*words, *arguments, *folders]


def environment(journal: int) -> dict[str, str]:
    """Ours, with the journal's descriptor and who the parent is."""
    return {
        **os.environ,
        ENVIRONMENT: str(journal),
        PARENT: str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
    }


def hand_over(builds: Mapping[str, Build]) -> int:
    """A descriptor, to be passed on and closed, of a file in memory with ``builds`` by name."""
    descriptor = os.memfd_create("builds")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(msgspec.json.encode(builds, enc_hook=str))
    return descriptor


def handed(path: Path) -> dict[str, Build]:
    """The builds in such a file. Raises InputError for anything else."""
    try:
        data = path.read_bytes()
        return msgspec.json.decode(data, type=dict[str, Build], dec_hook=_path)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"{path}: no builds can be read from it: {error}",
            advice="leave out --builds, which hostabi uses for its own child processes",
        ) from error


def _path(_kind: type, value: object) -> Path:
    return Path(str(value))
