"""Reviewed data beside the code: one way to read it, so that all of it fails alike."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from hostabi.errors import InputError

LIMIT = 4 << 20
"""Bytes that a file of such data may have; the largest shipped one has under 100 KB."""

_T = TypeVar("_T", bound=msgspec.Struct)


def read_toml(path: Path, form: type[_T], *, what: str, advice: str) -> _T:
    """The TOML file ``path`` as a record of ``form``; ``what`` is what errors call it.

    Raises InputError, naming the file, for one that is missing, too large or not of this form.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise InputError(f"{path}: larger than {what} can be ({LIMIT >> 20} MiB)")
        return msgspec.toml.decode(data, type=form)
    except OSError as error:
        raise InputError(
            f"{path}: {what} cannot be read: {error.strerror}", advice=advice
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not a usable {what}: {error}", advice=advice) from error
