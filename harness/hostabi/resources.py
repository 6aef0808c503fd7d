"""Where the files that travel with the package are, and where the caches go.

From a checkout the data lies at the top of the tree; from a wheel it lies in
``hostabi/data``.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent
_IN_CHECKOUT = (_CHECKOUT / "harness" / "hostabi").is_dir() and (_CHECKOUT / "suites").is_dir()
_DATA = _CHECKOUT if _IN_CHECKOUT else _PACKAGE / "data"


def checkout() -> Path | None:
    """The top of the source tree, or None when hostabi runs from a wheel."""
    return _CHECKOUT if _IN_CHECKOUT else None


def suites() -> Path:
    """The folder of pytest suites."""
    return _DATA / "suites"


def kernels() -> Path:
    """The folder of catalogues, keys and the ledger."""
    return _DATA / "kernels"


def agent_sources() -> Path:
    """The folder of the agent's C sources and protocol.h."""
    return _DATA / "harness" / "agent" if _IN_CHECKOUT else _DATA / "agent"


def tox_ini() -> Path:
    """The tox configuration."""
    return _DATA / "tox.ini"


def cache() -> Path:
    """The cache's folder: ``HOSTABI_CACHE``, else the user's cache folder. Not created here."""
    named = os.environ.get("HOSTABI_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("hostabi"))


def results() -> Path:
    """Where journals and tables go: ``HOSTABI_RESULTS``, else results/ here."""
    named = os.environ.get("HOSTABI_RESULTS")
    if named:
        return Path(named)
    return (_CHECKOUT if _IN_CHECKOUT else Path.cwd()) / "results"
