"""One kernel that can be booted, and the finding of its parts in an unpacked folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hostabi.errors import ImageError, InputError
from hostabi.kernels import image

_IMAGES = (
    "boot/vmlinuz-*",
    "usr/lib/modules/*/vmlinuz",
    "lib/modules/*/vmlinuz",
    "boot/bzImage*",
    "vmlinuz*",
    "bzImage*",
    "arch/x86/boot/bzImage",
)
DEFAULT_FLAVOUR = "cloud-amd64"
"""The flavour of a line's package that is taken when none is named."""

_MODULES = ("usr/lib/modules", "lib/modules", "modules")
NOTE = ".hostabi-parts.json"
"""Written beside an unpacked kernel: what was found, so that it is hashed once."""


@dataclass(frozen=True)
class Build:
    """One kernel of a line.

    ``name`` is unique and short: ``6.1.192-2`` for the cloud flavour,
    ``6.1.192-2-amd64`` for another, ``running-8HEX`` or ``local-RELEASE-8HEX``
    (see :mod:`hostabi.kernels.identity`).
    ``packages`` maps a package file's name to its SHA-256. ``image`` is
    a bzImage (None only for ``running``), ``modules`` the folder
    lib/modules/RELEASE. ``btf`` is set where BTF is at hand without an image.
    ``note`` tells what else to know: a newer package that is gone, a lock file.
    """

    line: str
    name: str
    release: str
    version: str
    flavour: str
    packages: dict[str, str] = field(hash=False)
    suite: str
    image: Path | None
    config: Path | None
    modules: Path | None
    image_digest: str
    btf: Path | None = None
    note: str = ""


class Parts(msgspec.Struct, frozen=True):
    """What an unpacked kernel consists of; paths are relative to its folder, or empty."""

    release: str
    image: str
    image_digest: str
    config: str = ""
    modules: str = ""


def line_of(release: str) -> str:
    """``6.1`` of ``6.1.0-56-cloud-amd64``; empty when it does not begin with two numbers."""
    found = re.match(r"(\d+\.\d+)(?!\d)", release)
    return found[1] if found else ""


def find_parts(folder: Path, what: str = "") -> Parts:
    """Find image, configuration and modules below ``folder``.

    ``what`` is what errors call it. Raises InputError when there is no kernel
    or more than one; ImageError when the image is not an x86 one.
    """
    what = what or str(folder)
    found: dict[str, Path] = {}
    for pattern in _IMAGES:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.name.endswith((".hmac", ".sig", ".old")):
                found.setdefault(_release(path, folder, what), path)
    if not found:
        raise InputError(
            f"{what}: no kernel image in it",
            advice="it needs boot/vmlinuz-RELEASE, lib/modules/RELEASE/vmlinuz or a bzImage; "
            "of a split package, name linux-binary, linux-modules and linux-base together",
        )
    if len(found) > 1:
        raise InputError(
            f"{what}: several kernels in it: {', '.join(found)}",
            advice="name the packages of one kernel, or one image with --modules and --config",
        )
    ((chosen, path),) = found.items()
    return Parts(
        release=chosen,
        image=str(path.relative_to(folder)),
        image_digest=digest_of(path),
        config=_first(folder, [f"boot/config-{chosen}", *_under(chosen, "config"),
                               f"config-{chosen}", "config", ".config"]),
        modules=_first(folder, _under(chosen, ""), folders=True),
    )  # fmt: skip


def _release(path: Path, folder: Path, what: str) -> str:
    """The image's release; errors name the package, not where it is being unpacked."""
    try:
        return image.release_of(path)
    except ImageError as error:
        said = error.message.removeprefix(f"{path}: ")
        name = f"{what}: {path.relative_to(folder)}"
        raise ImageError(f"{name}: {said}", advice=error.advice) from error


def write_parts(folder: Path, what: str) -> None:
    """Find the parts of ``folder`` and note them there; ``what`` is what errors call it."""
    (folder / NOTE).write_bytes(msgspec.json.encode(find_parts(folder, what)))


def read_parts(folder: Path) -> Parts:
    """The parts that :func:`write_parts` noted."""
    return msgspec.json.decode((folder / NOTE).read_bytes(), type=Parts)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _under(release: str, name: str) -> list[str]:
    return [f"{base}/{release}/{name}".rstrip("/") for base in _MODULES]


def _first(folder: Path, names: list[str], folders: bool = False) -> str:
    for name in names:
        path = folder / name
        if path.is_dir() if folders else path.is_file():
            return name
    return ""
