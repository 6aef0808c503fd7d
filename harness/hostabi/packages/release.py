"""Release files: verified in process, and only the bytes that the signature covers are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pysequoia

from hostabi.errors import InputError, PackageError, VerificationError
from hostabi.packages.sources import stanzas
from hostabi.packages.trust import Archive

LIMIT = 8 << 20
"""Bytes; Debian's largest InRelease has 0.2 MB."""

_ENTRIES = 200_000


@dataclass(frozen=True)
class Listed:
    """One file that a Release file vouches for."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """A verified Release file."""

    suite: str
    """The name that was asked for."""
    suite_field: str
    codename: str
    date: datetime | None
    valid_until: datetime | None
    by_hash: bool
    all_apart: bool
    """Packages of architecture "all" have an index of their own."""
    signers: tuple[str, ...]
    """Fingerprints of the pinned keys that made good signatures."""
    files: dict[str, Listed]

    def expired(self, now: datetime | None = None) -> bool:
        """Whether Valid-Until has passed."""
        return self.valid_until is not None and (now or datetime.now(UTC)) > self.valid_until


def read_keys(paths: Iterable[Path]) -> list[pysequoia.Cert]:
    """The pinned certificates. Raises :class:`InputError` for a file that is missing or no key."""
    certificates: list[pysequoia.Cert] = []
    for path in paths:
        try:
            certificates += pysequoia.Cert.split_bytes(path.read_bytes())
        except Exception as error:  # pysequoia raises what anyhow gives it
            raise InputError(f"cannot read the key {path}: {_first(error)}") from error
    return certificates


def verify(signed: bytes, archive: Archive, suite: str) -> Release:
    """The Release data inside ``signed``, the bytes of an InRelease file.

    One good signature by one of ``archive``'s keys is enough. Raises
    :class:`VerificationError` for a bad or missing signature, and for a file
    that was signed for another suite.
    """
    keys = read_keys(archive.keys)
    pinned = {key.fingerprint.lower() for key in keys}
    try:
        result = pysequoia.verify(signed, lambda _ids: keys)
        signers = tuple(signature.certificate.lower() for signature in result.valid_sigs)
    except Exception as error:  # pysequoia raises what anyhow gives it
        raise VerificationError(
            f"the signature of {suite}'s InRelease is not good: {_first(error)}",
            advice=f"only the keys pinned for {archive.name} are accepted; the mirror may be "
            "damaged or answer with a page of its own, so try another one with --mirror",
        ) from error
    if result.bytes is None or not set(signers) & pinned:
        raise VerificationError(f"{suite}'s InRelease has no signature by a pinned key")
    return _parse(result.bytes, archive, suite, signers)


def _first(error: Exception) -> str:
    """The first line of a message; a stack trace of the OpenPGP library may follow it."""
    return str(error).partition("\n")[0]


def _parse(data: bytes, archive: Archive, suite: str, signers: tuple[str, ...]) -> Release:
    fields = next(stanzas(data.decode("utf-8", "replace")), {})
    codename, suite_field = fields.get("codename", ""), fields.get("suite", "")
    expected = archive.suites[suite]
    # Where several suites share a codename (Ubuntu's pockets), Suite tells them apart.
    # Where none does, Suite is no help: it says "stable" one year and "oldstable" the next.
    ambiguous = expected != suite or list(archive.suites.values()).count(expected) > 1
    if codename != expected or (ambiguous and suite_field != suite):
        raise VerificationError(
            f"asked for {suite} (codename {expected}), but the mirror's signed Release file is of "
            f"suite {suite_field or '?'}, codename {codename or '?'}",
            advice="the mirror serves one suite in place of another; use another mirror",
        )
    return Release(
        suite=suite,
        suite_field=suite_field,
        codename=codename,
        date=_date(fields.get("date")),
        valid_until=_date(fields.get("valid-until")),
        by_hash=fields.get("acquire-by-hash", "").lower() == "yes",
        all_apart="all" in fields.get("architectures", "").split()
        and "Packages" not in fields.get("no-support-for-architecture-all", ""),
        signers=signers,
        files=_files(fields.get("sha256", ""), suite),
    )


def _files(section: str, suite: str) -> dict[str, Listed]:
    lines = section.split("\n")
    if len(lines) > _ENTRIES:
        raise PackageError(f"{suite}'s Release lists {len(lines)} files, more than {_ENTRIES}")
    files = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and len(words[0]) == 64 and words[1].isdecimal():
            files[words[2]] = Listed(words[2], words[0].lower(), int(words[1]))
    return files


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        # Debian writes "UTC", which email.utils takes for a zone without an offset.
        found = parsedate_to_datetime(text.replace("UTC", "+0000"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
