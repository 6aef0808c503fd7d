"""What a diff compares: from what a user names as a side to its capture.

A side is a kernel (see :mod:`hostabi.kernels.resolve`), a capture file, or
``published:6.12`` for the capture that travels with the results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.errors import HostabiError, InputError, PackageError
from hostabi.model import Capture

if TYPE_CHECKING:
    from hostabi.packages.context import Packages
    from hostabi.runs.guests import Guests

PUBLISHED = "published:"
_FILES = (".json", ".json.zst", ".zst")


@dataclass
class Sides:
    """Gets captures. ``failed`` fills with what could not be captured, by build and surface."""

    guests: Guests
    journal: Path
    """Whose captures are reused."""
    surfaces: Sequence[str] = ()
    """Names of those that are asked for; empty for all."""
    fresh: bool = False
    static: bool = False
    failed: dict[tuple[str, str], HostabiError] = field(default_factory=dict)

    def get(self, name: str) -> Capture:
        """The capture that ``name`` stands for. Raises HostabiError as resolving and booting do."""
        capture = stored(name) if is_stored(name) else self._of_kernel(name)
        return only(capture, self.surfaces)

    def all(self, names: Sequence[str]) -> list[Capture]:
        """The captures of several sides, in this order.

        Without a boot they are made two at a time: most of it is unpacking, and that runs
        outside the interpreter's lock.
        """
        if not self.static:
            return [self.get(name) for name in names]
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(self.get, names))

    def releases(self, specs: Iterable[str]) -> list[Capture]:
        """Captures of those of ``specs`` that can be had; what the mirror lost is left out.

        Raises PackageError when fewer than two are left.
        """
        from hostabi.packages.fetch import PackageGoneError

        found = []
        for spec in specs:
            try:
                found.append(self.get(spec))
            except PackageGoneError as error:
                self.guests.progress.say(f"left out: {error.message}")
        if len(found) < 2:
            raise PackageError(
                "fewer than two of these releases can be had", advice="hostabi kernels list --all"
            )
        return found

    def _of_kernel(self, name: str) -> Capture:
        from hostabi.diff import captures
        from hostabi.runs import capture
        from hostabi.surfaces import registry

        surfaces = registry.named(self.surfaces) if self.surfaces else registry.ALL
        build = self.guests.build(name)
        known = None if self.fresh or self.static else recorded(self.journal, build.name)
        if known is not None:
            self.guests.progress.say(f"{build.name}: reusing {known}")
            return captures.load(known)
        taken = capture.take(self.guests, build, surfaces, static=self.static)
        for surface, error in taken.failed.items():
            self.failed[build.name, surface] = error
        return taken.capture


def is_stored(name: str) -> bool:
    """Whether a side is a capture that was made before, and no kernel."""
    return name.startswith(PUBLISHED) or (name.endswith(_FILES) and Path(name).is_file())


def stored(name: str) -> Capture:
    """The capture that a stored side stands for. Raises InputError for one that is unusable."""
    from hostabi.diff import captures

    if name.startswith(PUBLISHED):
        return published(name.removeprefix(PUBLISHED))
    return captures.load(Path(name))


def only(capture: Capture, surfaces: Sequence[str]) -> Capture:
    """The capture with those surfaces that are asked for; none named means all."""
    from msgspec.structs import replace

    if not surfaces:
        return capture
    kept = {name: facts for name, facts in capture.surfaces.items() if name in surfaces}
    return replace(capture, surfaces=kept)


def recorded(path: Path, build: str) -> Path | None:
    """The capture that a run with these sources made of ``build``, if there is one."""
    from hostabi.runs import journal, sources

    if not path.is_file():
        return None
    contents = journal.read(path)
    return journal.recorded_capture(path, contents.since(sources.digests()), build)


def last_run(path: Path) -> list[Path]:
    """The captures of the journal at ``path`` that are there still, oldest line first."""
    from hostabi.packages.version import Version
    from hostabi.runs import journal

    if not path.is_file():
        return []
    done = journal.read(path).captures().values()
    ordered = sorted(done, key=lambda record: Version(record.build))
    return [file for record in ordered if (file := path.parent / record.file).is_file()]


def published(name: str) -> Capture:
    """The published capture of a line or a build. Raises InputError when there is none."""
    from hostabi.diff import published as facts
    from hostabi.results import publication

    return facts.find(publication.captures(), name)


def point_releases(spec: str, packages: Packages, flavour: str) -> list[str]:
    """Names of the builds to compare for ``--releases LINE`` or ``LINE-FLAVOUR``, oldest first."""
    from hostabi.kernels.build import DEFAULT_FLAVOUR, line_of
    from hostabi.kernels.releases import releases
    from hostabi.kernels.resolve import split_flavour

    line, wanted = split_flavour(spec, flavour or DEFAULT_FLAVOUR)
    if line_of(line) != line:
        raise InputError(f"{spec!r} is no line", advice="name one such as 6.1 or 6.1-amd64")
    found = [one.name for one in releases(line, packages, flavour=wanted)]
    packages.progress.say(f"{len(found)} releases of {line} are listed: {', '.join(found)}")
    return found
