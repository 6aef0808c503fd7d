"""The C compiler of the ziglang wheel: nothing has to be installed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hostabi import resources
from hostabi.errors import HostabiError


def run_compiler(
    arguments: Sequence[str], *, folder: Path, deadline: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run ``zig cc`` with ``arguments`` in ``folder``, where its working files go as well.

    ``deadline`` in seconds; the first program that is linked builds musl, too.
    Raises HostabiError when it did not finish. What it thinks of the source is
    in the result.
    """
    # The compiler's own cache lies beside ours, where there may be no home folder.
    env = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder)}
    env.setdefault("ZIG_GLOBAL_CACHE_DIR", str(resources.cache() / "zig"))
    try:
        return subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline,
            check=False,
            cwd=folder,
            env=env,
        )
    except subprocess.TimeoutExpired as error:
        raise HostabiError(
            f"the C compiler did not finish within {deadline:.0f} s",
            advice="look at the load of this machine and try again",
        ) from error
