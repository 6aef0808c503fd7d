"""Whether a build's headers have what C says that they declare."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostabi.errors import PackageError
from hostabi.kernels.headers import compiles
from hostabi.kernels.uapi import include_of

if TYPE_CHECKING:
    from hostabi.kernels.build import Build
    from hostabi.packages.context import Packages

_INCLUDE = re.compile(r"^#include <([^>]+)>$", re.MULTILINE)


def declares(build: Build, packages: Packages, source: str) -> bool | None:
    """Whether C that only declares compiles with the headers of the build's own version.

    The last header that it includes is the one in question. None where the
    headers cannot be had, or where that one does not compile with what else is included.
    """
    try:
        include = include_of(build, packages)
    except PackageError:
        return None
    if compiles(include, source):
        return True
    named = _INCLUDE.findall(source)
    if named and not any((top / named[-1]).is_file() for top in include):
        return False
    alone = "\n".join(f"#include <{name}>" for name in named)
    return False if compiles(include, alone) else None
