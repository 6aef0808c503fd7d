"""Kernels that are files here: packages, an image, a folder, or the one that runs."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.errors import InputError
from hostabi.kernels import image
from hostabi.kernels.build import (
    NOTE,
    Build,
    Parts,
    digest_of,
    find_parts,
    line_of,
    read_parts,
    write_parts,
)
from hostabi.kernels.identity import local_name, running_name
from hostabi.packages.archives import read_control, unpack

if TYPE_CHECKING:
    from hostabi.packages.cache import Cache

_PACKAGES = (".deb", ".rpm")
_MACHINES = ("amd64", "x86_64", "all", "noarch")
_WANTED = ("boot/", "lib/modules/", "usr/lib/modules/")
_SKIPPED = ("-headers-", "-dbg_", "-dbgsym_", "-doc_", "-devel-", "-debuginfo-")


def is_path(spec: str) -> bool:
    """Whether ``spec`` names files rather than a kernel of the catalogue."""
    return any(
        "/" in part
        or part.startswith(".")
        or part.endswith(_PACKAGES)
        # A folder called 6.1 in the current one must not hide the line.
        or (not line_of(part) and _exists(Path(part)))
        for part in spec.split(",")
        if part
    )


def build(
    spec: str, cache: Cache, *, modules: Path | None = None, config: Path | None = None
) -> Build:
    """The build in the files that ``spec`` names, commas between them.

    It may be one or several .deb or .rpm files, a folder of them, a folder
    with an unpacked kernel, or a bzImage with ``modules`` and ``config``.
    Raises InputError and ImageError that name the file.
    """
    paths = [_expanded(part) for part in spec.split(",") if part]
    for path in (*paths, *filter(None, (modules, config))):
        if not _exists(path):
            raise InputError(f"{path}: no such file or folder", advice=_nearby(path))
    if len(paths) == 1 and paths[0].is_dir():
        inside = [
            path
            for path in sorted(paths[0].iterdir())
            if path.name.endswith(_PACKAGES) and not any(part in path.name for part in _SKIPPED)
        ]
        if not inside:
            return _checked(_from_folder(paths[0].resolve()), modules, config)
        paths = inside
    if all(path.name.endswith(_PACKAGES) for path in paths):
        return _checked(_from_packages(paths, cache), modules, config)
    if len(paths) > 1:
        raise InputError(
            f"{spec}: several files that are not all packages",
            advice="name one image, or the .deb or .rpm files of one kernel",
        )
    return _checked(_from_image(paths[0].resolve()), modules, config)


def running() -> Build:
    """The kernel this runs on. Its image, configuration and modules are None if not readable."""
    status = os.uname()
    release = status.release
    found = _readable(
        Path(f"/boot/vmlinuz-{release}"),
        Path(f"/usr/lib/modules/{release}/vmlinuz"),
        Path(f"/lib/modules/{release}/vmlinuz"),
    )
    return Build(
        line=line_of(release) or release,
        name=running_name(release, status.version),
        release=release,
        version=status.version,
        flavour="",
        packages={},
        suite="",
        image=found,
        config=_readable(
            Path("/proc/config.gz"),
            Path(f"/boot/config-{release}"),
            Path(f"/usr/lib/modules/{release}/config"),
        ),
        modules=_folder(Path(f"/usr/lib/modules/{release}"), Path(f"/lib/modules/{release}")),
        image_digest=digest_of(found) if found else "",
        btf=_readable(Path("/sys/kernel/btf/vmlinux")),
    )


def _from_packages(paths: list[Path], cache: Cache) -> Build:
    controls = [read_control(path) for path in paths]
    for path, control in zip(paths, controls, strict=True):
        if (made_for := control.get("Architecture", "")) not in _MACHINES:
            raise InputError(
                f"{path}: made for {made_for or 'no architecture'}; only x86-64 is supported",
                advice="name the package for amd64 (x86_64)",
            )
    digests = {path.name: digest_of(path) for path in paths}
    key = hashlib.sha256("\n".join(sorted(digests.values())).encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        with cache.progress.task(f"unpack {label}", len(paths), "packages") as task:
            for path in paths:
                unpack(path, folder, members=_is_wanted)
                task.advance()
        write_parts(folder, ", ".join(map(str, paths)) if len(paths) < 5 else str(paths[0].parent))

    label = f"the kernel in {paths[0].name}"
    folder = cache.folder("builds", f"local-{key}", make, label=label)
    version = "-".join(filter(None, map(controls[0].get, ("Version", "Release"))))
    return _of_parts(folder, read_parts(folder), digests, version)


def _from_folder(folder: Path) -> Build:
    noted = folder / NOTE
    parts = read_parts(folder) if noted.is_file() else find_parts(folder)
    return _of_parts(folder, parts, {})


def _from_image(path: Path) -> Build:
    if not path.is_file():
        raise InputError(f"{path}: neither a file nor a folder")
    release = image.release_of(path)
    beside = path.parent
    parts = Parts(release=release, image=path.name, image_digest=digest_of(path))
    made = _of_parts(beside, parts, {})
    return _with(
        made,
        config=_readable(beside / f"config-{release}"),
        modules=_folder(beside.parent / "lib/modules" / release),
    )


def _of_parts(folder: Path, parts: Parts, packages: dict[str, str], version: str = "") -> Build:
    return Build(
        line=line_of(parts.release) or parts.release,
        name=local_name(parts.release, parts.image_digest),
        release=parts.release,
        version=version or parts.release,
        flavour="",
        packages=packages,
        suite="local",
        image=folder / parts.image,
        config=folder / parts.config if parts.config else None,
        modules=folder / parts.modules if parts.modules else None,
        image_digest=parts.image_digest,
    )


def _checked(made: Build, modules: Path | None, config: Path | None) -> Build:
    """``made`` with what the user named besides; its image is unpacked once to see that it can."""
    assert made.image is not None
    image.vmlinux(made.image)
    if modules is not None:
        modules = modules.resolve()
        for below in (Path(), Path(made.release), Path("lib/modules", made.release)):
            if (modules / below / "kernel").is_dir():
                modules = modules / below
                break
        else:
            raise InputError(
                f"{modules}: no folder kernel/ of modules in it for {made.release}",
                advice="name lib/modules/RELEASE (make modules_install makes it)",
            )
    made = _with(
        made,
        config=config.resolve() if config else made.config,
        modules=modules or made.modules,
    )
    name = local_name(made.release, made.image_digest, made.config, made.modules)
    return dataclasses.replace(made, name=name)


def _with(made: Build, *, config: Path | None, modules: Path | None) -> Build:
    return dataclasses.replace(made, config=config, modules=modules)


def _expanded(part: str) -> Path:
    try:
        return Path(part).expanduser()
    except RuntimeError:  # ~somebody, who has no home here
        return Path(part)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, or a folder that may not be searched
        return False


def _is_wanted(name: str) -> bool:
    return name.removeprefix("./").removeprefix("/").startswith(_WANTED)


def _readable(*paths: Path) -> Path | None:
    for path in paths:
        try:
            with path.open("rb") as file:
                if file.read(1):
                    return path
        except OSError:
            continue
    return None


def _folder(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_dir()), None)


def _nearby(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return f"{path.parent} cannot be listed either; check the path"
    likely = [name for name in names if name.startswith(("vmlinuz", "bzImage", "linux-"))]
    return f"in {path.parent}: {', '.join((likely or names)[:6]) or 'nothing'}"
