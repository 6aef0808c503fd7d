"""From what a user names to a build on this machine.

A spec is a line (``6.1``), ``stable`` or ``mainline``, a package version
(``6.1.192-2``), an upstream version (``6.1.192``), an ABI (``6.1.0-53``),
one or more paths, or ``running``. A flavour may follow any of the first, as it
does in a release and in a build's name: ``6.1-amd64``, ``6.1.0-53-cloud-amd64``.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.errors import InputError, PackageError
from hostabi.kernels import candidates, local
from hostabi.kernels.build import DEFAULT_FLAVOUR, Build, line_of, read_parts, write_parts
from hostabi.kernels.candidates import Candidate
from hostabi.kernels.catalogue import catalogue
from hostabi.kernels.lock import Lock
from hostabi.packages.archives import unpack_deb
from hostabi.packages.fetch import PackageGoneError
from hostabi.packages.tree import fetch_all
from hostabi.packages.version import Version

if TYPE_CHECKING:
    from hostabi.packages.context import Packages
    from hostabi.packages.repository import Package

_FLAVOURED = re.compile(r"(.+?)-([a-z][a-z0-9-]*)")
"""What names a build, and its flavour; no version has a part that begins with a letter."""

_NEAR = 6
"""How many other builds an error names."""

FOLDERS = "builds"
"""The kind under which unpacked builds lie in the cache."""


def resolve(
    spec: str,
    packages: Packages,
    *,
    flavour: str = DEFAULT_FLAVOUR,
    modules: Path | None = None,
    config: Path | None = None,
    lock: Lock | None = None,
) -> Build:
    """Find the kernel that ``spec`` names, fetch and unpack it.

    ``modules`` and ``config`` go with a bare image. With ``lock`` a line is
    the build that was locked for it. A line's package that is listed but gone
    gives way to the next newest, which progress and ``Build.note`` say; a build
    that was named exactly never does.

    Raises InputError for a spec that nothing matches, ImageError for a file
    that is no kernel, PackageGoneError, PackageError, VerificationError and
    StorageError from fetching.
    """
    spec = spec.strip()
    if spec == "running":
        return local.running()
    if local.is_path(spec):
        return local.build(spec, packages.cache, modules=modules, config=config)
    if modules or config:
        raise InputError(
            f"--modules and --config go with an image file, not with {spec!r}",
            advice="name the image by its path",
        )
    text, wanted = split_flavour(spec, flavour)
    if text in ("stable", "mainline"):
        newest = catalogue().newest(packages)
        text = newest.stable if text == "stable" else newest.mainline
    name = line_of(text)
    if not name:
        raise _unknown(spec, ())
    wanted = catalogue().line(name).flavour(wanted)
    if lock is not None and text == name:
        return _locked(lock, name, wanted, packages)
    suites = catalogue().suites(name, exact=text != name)
    return _from_suites(text, wanted, suites, packages)


def fetch(candidate: Candidate, packages: Packages, note: str = "") -> Build:
    """The build that ``candidate`` describes, unpacked in the cache.

    Raises what :meth:`Packages.fetch` raises, and ImageError when the packages
    hold no x86 kernel.
    """

    def make(folder: Path) -> None:
        files = fetch_all(candidate.packages, packages, label)
        with packages.progress.task(f"unpack {label}", len(files), "packages") as task:
            for file in files:
                unpack_deb(file, folder, members=is_kernel_file)
                task.advance()
            write_parts(folder, ", ".join(package.file for package in candidate.packages))

    label = f"kernel {candidate.name}"
    folder = packages.cache.folder(FOLDERS, cache_key(candidate.packages), make, label=label)
    parts = read_parts(folder)
    return Build(
        line=candidate.line,
        name=candidate.name,
        release=parts.release,
        version=candidate.version,
        flavour=candidate.flavour,
        packages={package.file: package.sha256 for package in candidate.packages},
        suite=candidate.suite,
        image=folder / parts.image,
        config=folder / parts.config if parts.config else None,
        modules=folder / parts.modules if parts.modules else None,
        image_digest=parts.image_digest,
        note=note,
    )


def cache_key(listed: tuple[Package, ...]) -> str:
    """The key of an unpacked build: a digest over its packages'."""
    text = "\n".join(sorted(package.sha256 for package in listed))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_kernel_file(name: str) -> bool:
    """Whether a package's member is wanted: not the documents and changelogs."""
    name = name.removeprefix("./")
    return name.startswith(("boot/", "lib/modules/", "usr/lib/modules/"))


def _from_suites(text: str, flavour: str, suites: tuple[str, ...], packages: Packages) -> Build:
    is_line = text == line_of(text)
    gone: list[str] = []
    error: PackageGoneError | None = None
    seen: list[Candidate] = []
    for candidate in _matching(text, flavour, suites, packages, seen):
        if not is_line and gone and candidate.name != gone[0]:
            break
        if candidate.name in gone:
            continue
        note = f"{', '.join(gone)} is listed but gone from the mirror" if gone else ""
        try:
            return fetch(candidate, packages, note)
        except PackageGoneError as failure:
            error = failure
            gone.append(candidate.name)
            if is_line:
                packages.progress.say(
                    f"{candidate.name} is listed but gone from the mirror: taking the next newest"
                )
    if error is not None:
        others = [
            one.name
            for one in seen
            if one.flavour == flavour and one.name not in gone and not one.missing
        ]
        near = ", ".join(_nearest(text, others)) or "none is left"
        raise PackageGoneError(
            f"{', '.join(gone)}: listed by {', '.join(suites)}, but gone from the mirror",
            advice=f"take another build of the line: {near}",
        ) from error
    raise _unknown(text, seen, flavour)


def _matching(
    text: str,
    flavour: str,
    suites: tuple[str, ...],
    packages: Packages,
    seen: list[Candidate],
) -> Iterator[Candidate]:
    """Candidates in order of preference; those of later suites are looked up when asked for.

    All kernels of the line, whatever their flavour, are added to ``seen``. A
    suite that cannot be read is passed over if another one can.
    """
    failures: list[PackageError] = []
    readable = 0
    for suite in suites:
        try:
            listed = candidates.of_suite(packages, suite)
        except PackageError as failure:
            failures.append(failure)
            packages.progress.say(f"{suite} cannot be read: {failure.message}")
            continue
        readable += 1
        line = line_of(text)
        of_line = [one for one in listed if one.line == line]
        seen.extend(of_line if of_line else listed)
        yield from choose(text, [one for one in of_line if one.flavour == flavour])
    if failures and not readable:
        raise failures[0]


def choose(text: str, listed: list[Candidate]) -> list[Candidate]:
    """Those of ``listed`` (newest first, one flavour) that ``text`` means, best first.

    Raises InputError when ``text`` leaves out a suffix that tells builds apart,
    or when what it names lacks packages.
    """
    readings = (
        [one for one in listed if one.line == text],
        [one for one in listed if one.version == text],
        [one for one in listed if one.abi == text],
        [one for one in listed if one.version.startswith(f"{text}~")],
        [one for one in listed if one.upstream == text],
    )
    found = next((reading for reading in readings if reading), [])
    if found is readings[3] and len({one.version for one in found}) > 1:
        raise InputError(
            f"{text} is ambiguous: {', '.join(one.version for one in found)}",
            advice="name one of them in full",
        )
    whole = [one for one in found if not one.missing]
    if found and not whole:
        raise InputError(
            f"{found[0].name}: {found[0].suite} lists it without {', '.join(found[0].missing)},"
            " which hold its files",
            advice="the suite has moved on; take a newer line (hostabi kernels list)",
        )
    return whole


def _locked(lock: Lock, line: str, flavour: str, packages: Packages) -> Build:
    entry = lock.find(line, flavour)
    try:
        return fetch(entry.candidate(packages), packages, note="from the lock file")
    except PackageGoneError as error:
        raise PackageGoneError(
            f"{entry.name}: locked for line {line}, but gone from the mirror",
            advice="refresh the lock with `hostabi kernels lock`, or run without it",
        ) from error


def split_flavour(spec: str, flavour: str) -> tuple[str, str]:
    """``6.1.0-53-amd64`` to ``6.1.0-53`` and ``amd64``; without one, ``flavour`` it is."""
    found = _FLAVOURED.fullmatch(spec)
    return (found[1], found[2]) if found else (spec, flavour)


def _unknown(
    spec: str, seen: list[Candidate] | tuple[Candidate, ...], flavour: str = ""
) -> InputError:
    """What to say of a spec that nothing matches; ``seen`` is what was looked through."""
    lines = [line.name for line in catalogue().named]
    if not re.match(r"\d", spec):
        return InputError(
            f"unknown kernel {spec!r}",
            advice=f"name a line ({', '.join(lines)}, stable, mainline), a version such as"
            " 6.1.192-2, a path with a slash in it, or `running`",
        )
    line = line_of(spec)
    of_line = [one for one in seen if one.line == line and not one.missing]
    flavours = {one.flavour for one in of_line}
    if spec == line and flavours and flavour not in flavours:
        return InputError(
            f"no suite lists line {line} in flavour {flavour}",
            advice=f"it has {', '.join(sorted(flavours))}",
        )
    near = _near_builds(spec, [one for one in of_line if one.flavour == flavour])
    if not near:
        names = list(dict.fromkeys([*lines, *(one.line for one in seen)]))
        near = difflib.get_close_matches(spec, names, n=_NEAR, cutoff=0.4) or names[:_NEAR]
    return InputError(
        f"unknown kernel {spec!r}" + (f" (flavour {flavour})" if flavour else ""),
        advice=f"near ones: {', '.join(near)} (`hostabi kernels list {line}` shows all);"
        " what no suite serves can be named as a file, such as ./bzImage",
    )


def _near_builds(spec: str, of_line: list[Candidate]) -> list[str]:
    """Names of the builds next to ``spec``, after ABIs that are spelled much like it."""
    abis = list(dict.fromkeys(one.abi for one in of_line))
    alike = difflib.get_close_matches(spec, abis, n=2, cutoff=0.8) if "-" in spec else []
    return [*alike, *_nearest(spec, (one.name for one in of_line))][:_NEAR]


def _nearest(text: str, names: Iterable[str]) -> list[str]:
    """Of the builds called ``names`` those next to ``text`` in Debian's order, oldest first."""
    ordered = sorted(dict.fromkeys(names), key=Version)
    place = sum(Version(name) < Version(text) for name in ordered)
    start = max(0, min(place - _NEAR // 2, len(ordered) - _NEAR))
    return ordered[start : start + _NEAR]
