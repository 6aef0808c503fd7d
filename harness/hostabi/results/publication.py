"""What travels with the results: the last capture of each line as text, and replays of failures.

See :mod:`hostabi.diff.published` and :mod:`hostabi.oci.replay` for their forms.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hostabi import resources
from hostabi.diff import published
from hostabi.errors import StorageError
from hostabi.model import Capture
from hostabi.packages.version import Version

FOLDER = "facts"
"""Within the results."""
_OWN = ("", "local")
"""Suites of builds that come from no archive."""


def captures(results: Path | None = None) -> list[Capture]:
    """What is published, oldest line first: in ``results``, else in the checkout's own.

    Raises InputError when there is nothing, or when it is damaged.
    """
    folders = [results or resources.results()]
    checkout = resources.checkout()
    if results is None and checkout is not None:
        folders.append(checkout / "results")
    there = [folder for folder in folders if (folder / FOLDER / published.BUILDS).is_file()]
    return published.read((there or folders)[0] / FOLDER)


def publish(results: Path, fresh: Iterable[Capture]) -> list[Path]:
    """Put ``fresh`` captures in the place of those of their lines, and leave the others.

    Only builds that an archive serves are published, for only those can be had
    again by others. Returns what was written: nothing when there is none of them.
    """
    served = [capture for capture in fresh if capture.provenance.suite not in _OWN]
    if not served:
        return []
    there = (results / FOLDER / published.BUILDS).is_file()
    known = published.read(results / FOLDER) if there else []
    return published.write(results / FOLDER, merged(known, served))


def replays(folder: Path, files: Iterable[Path]) -> None:
    """Have these files in ``folder``, those of them that are there, and no others.

    Raises StorageError when it cannot be written.
    """
    found = {path.name: path.read_bytes() for path in files if path.is_file()}
    try:
        for path in folder.glob("*.json"):
            path.unlink()
        for name, content in found.items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write the replays to {folder}: {error.strerror}") from error


def merged(known: Iterable[Capture], fresh: Iterable[Capture]) -> list[Capture]:
    """One capture of each line and flavour, the last one given, oldest release first."""
    last = {_place(capture): capture for capture in [*known, *fresh]}
    return sorted(last.values(), key=lambda capture: Version(capture.build))


def _place(capture: Capture) -> tuple[str, str]:
    """Line and flavour: ``6.1.0-56-cloud-amd64`` has the flavour after its ABI's number."""
    words = capture.release.split("-")
    return capture.line, "-".join(word for word in words if not word[:1].isdigit())
