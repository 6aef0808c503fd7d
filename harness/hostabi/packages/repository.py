"""One suite of a signed archive: Release file, index, packages."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from hostabi.errors import ArchiveError, HostabiError, InputError, PackageError, VerificationError
from hostabi.packages import index, release, sources
from hostabi.packages.cache import Cache, storage_errors
from hostabi.packages.fetch import Fetcher, PackageGoneError, UnreachableError, Wanted
from hostabi.packages.index import Index, Record
from hostabi.packages.release import Listed, Release
from hostabi.packages.streams import decompressed
from hostabi.packages.trust import Archive
from hostabi.packages.version import Version

FRESH = 30 * 60.0
"""Seconds for which a Release file is not asked for again."""

_INDEX_LIMIT = 1 << 30


@dataclass(frozen=True)
class Package:
    """One package that an index lists."""

    name: str
    version: str
    architecture: str
    filename: str
    """Path below ``base``."""
    size: int
    sha256: str
    depends: str
    pre_depends: str
    provides: str
    source: str
    suite: str
    base: str

    @property
    def url(self) -> str:
        """Where the package file is."""
        return f"{self.base}/{self.filename}"

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.filename.rpartition("/")[2]


@dataclass(frozen=True)
class Repository:
    """One suite, verified. ``notes`` tell what a report should say about it."""

    suite: str
    archive: str
    base: str
    release: Release
    indexes: tuple[Index, ...]
    notes: tuple[str, ...] = ()

    def named(self, name: str) -> list[Package]:
        """The packages called ``name``, the newest first."""
        return self._sorted(record for index in self.indexes for record in index.named(name))

    def matching(self, pattern: str | re.Pattern[str]) -> list[Package]:
        """Packages whose whole name matches a shell pattern or a compiled expression.

        The newest come first within a name.
        """
        return self._sorted(record for index in self.indexes for record in index.matching(pattern))

    def newest(self, name: str) -> Package | None:
        """The newest package called ``name``, or None."""
        return next(iter(self.named(name)), None)

    def providers(self, name: str) -> list[str]:
        """Names of the packages that provide the virtual package ``name``."""
        return [provider for index in self.indexes for provider in index.providers(name)]

    def _sorted(self, records: Iterable[Record]) -> list[Package]:
        found = [self._package(record) for record in records]
        found.sort(key=lambda package: Version(package.version), reverse=True)
        found.sort(key=lambda package: package.name)
        return found

    def _package(self, record: Record) -> Package:
        return Package(**msgspec.structs.asdict(record), suite=self.suite, base=self.base)


@dataclass(frozen=True)
class Opener:
    """Opens suites of archives through ``fetcher``."""

    cache: Cache
    fetcher: Fetcher
    mirror: sources.Mirror
    architecture: str = "amd64"
    refresh: bool = False

    def open(self, suite: str) -> Repository:
        """The suite, from the mirror, or as it was last verified when that cannot be reached.

        Raises :class:`InputError` for an unknown suite or mirror, :class:`VerificationError`,
        :class:`PackageError` (:class:`PackageGoneError` when the mirror has no such suite).
        """
        archive = self.mirror.trusted.of_suite(suite)
        try:
            base = self.mirror.base(archive.name)
        except InputError:
            kept = self._newest_kept(archive, suite)
            if kept is None:
                raise
            return self._offline(kept, archive, suite, "no mirror is known")
        kept = self._kept_path(archive, suite, base)
        if not self.refresh and not os.environ.get("HOSTABI_REFRESH") and _is_fresh(kept):
            with suppress(HostabiError):
                return self._from_kept(kept, archive, suite, "")
        try:
            with self.fetcher.progress.task(f"ask the mirror for {suite}"):
                return self._online(kept, archive, suite, base)
        except UnreachableError as error:
            if not kept.is_file():
                raise
            return self._offline(kept, archive, suite, error.message)

    def sources(self, repository: Repository) -> Repository:
        """The source packages of an opened suite: each of their files, called as they are.

        Raises :class:`VerificationError`, :class:`PackageError`.
        """
        indexes = tuple(
            self._index(
                repository.release,
                repository.base,
                f"{component}/source/Sources",
                index.parse_sources,
            )
            for component in self.mirror.trusted.of_suite(repository.suite).components
        )
        return replace(repository, indexes=indexes)

    def _online(self, kept: Path, archive: Archive, suite: str, base: str) -> Repository:
        try:
            signed = self.fetcher.small(f"{base}/dists/{suite}/InRelease", release.LIMIT)
        except PackageGoneError as error:
            raise PackageGoneError(
                f"{base} has no suite {suite}",
                advice=f"name a mirror that has it with {sources.variable(archive.name)}",
            ) from error
        verified = release.verify(signed, archive, suite)
        repository = self._repository(verified, archive, base, notes=())
        # Kept only now: what is kept must be usable without the mirror, index and all.
        with storage_errors(self.cache.root), self.cache.lock(f"release-{kept.name}"):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f".{kept.name}.part")
            part.write_bytes(base.encode() + b"\n" + signed)
            part.replace(kept)
        return repository

    def _from_kept(self, kept: Path, archive: Archive, suite: str, note: str) -> Repository:
        base, _, signed = kept.read_bytes().partition(b"\n")
        verified = release.verify(signed, archive, suite)
        notes = (note,) if note else ()
        return self._repository(verified, archive, base.decode(), notes=notes)

    def _offline(self, kept: Path, archive: Archive, suite: str, why: str) -> Repository:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(kept.stat().st_mtime))
        note = f"{suite}: using the index verified on {when}: {why}"
        repository = self._from_kept(kept, archive, suite, note)
        self.fetcher.progress.say(note)
        return repository

    def _repository(
        self, verified: Release, archive: Archive, base: str, *, notes: tuple[str, ...]
    ) -> Repository:
        if verified.expired():
            note = f"{verified.suite}: its Release file was valid until {verified.valid_until}"
            notes = (*notes, note)
            if sources.checks_valid_until():
                self.fetcher.progress.say(f"{note}; the mirror may be out of date")
        architectures = [self.architecture, *(["all"] if verified.all_apart else [])]
        indexes = tuple(
            self._index(verified, base, f"{component}/binary-{architecture}/Packages")
            for component in archive.components
            for architecture in architectures
        )
        return Repository(verified.suite, archive.name, base, verified, indexes, notes)

    def _index(
        self,
        verified: Release,
        base: str,
        path: str,
        parse: Callable[[bytes], Index] = index.parse,
    ) -> Index:
        plain = verified.files.get(path)
        packed = next(
            (
                verified.files[path + suffix]
                for suffix in (".xz", ".zst", ".gz", "")
                if path + suffix in verified.files
            ),
            None,
        )
        if packed is None:
            raise PackageError(f"{verified.suite}'s Release file lists no {path}")

        def build(target: Path) -> None:
            blob = self._download(verified, base, packed)
            parse(_text(blob, plain)).save(target)

        for attempt in range(2):
            made = self.cache.file(
                index.FORM, packed.sha256, build, label=f"index of {verified.suite}"
            )
            try:
                return Index.load(made)
            except (PackageError, ValueError):
                if attempt:
                    raise
                self.cache.forget(index.FORM, packed.sha256)
        raise AssertionError("unreachable")

    def _download(self, verified: Release, base: str, listed: Listed) -> Path:
        if listed.size > _INDEX_LIMIT:
            raise PackageError(f"{listed.path} would be {listed.size} bytes")
        folder = f"{base}/dists/{verified.suite}"
        label = f"{verified.suite} index"
        direct = Wanted(f"{folder}/{listed.path}", listed.sha256, listed.size, label)
        if verified.by_hash:
            # The file's plain name may already be of the next Release (Acquire-By-Hash).
            above = listed.path.rpartition("/")[0]
            url = f"{folder}/{above}/by-hash/SHA256/{listed.sha256}"
            with suppress(PackageGoneError):
                return self.fetcher.fetch(Wanted(url, listed.sha256, listed.size, label))
        return self.fetcher.fetch(direct)

    def _kept_path(self, archive: Archive, suite: str, base: str) -> Path:
        mark = hashlib.sha256(base.encode()).hexdigest()[:12]
        return self.cache.root / "releases" / f"{archive.name}.{suite}.{mark}"

    def _newest_kept(self, archive: Archive, suite: str) -> Path | None:
        found: Iterator[Path] = (self.cache.root / "releases").glob(f"{archive.name}.{suite}.*")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _is_fresh(kept: Path) -> bool:
    try:
        return 0 <= time.time() - kept.stat().st_mtime < FRESH
    except OSError:
        return False


def _text(blob: Path, plain: Listed | None) -> bytes:
    """The index's text, bounded by the size and checked by the SHA-256 of its plain form."""
    limit = plain.size if plain else _INDEX_LIMIT
    with blob.open("rb") as file:
        try:
            text = decompressed(io.BytesIO(file.read()), limit, name="a Packages index").read()
        except ArchiveError as error:
            raise VerificationError(error.message) from error
    if plain and hashlib.sha256(text).hexdigest() != plain.sha256:
        raise VerificationError("a Packages index is not what the Release file promises")
    return text
