"""The journal: what was measured, one JSON record per line, appended and flushed as it happens.

The file is the lock: whoever writes holds an exclusive ``flock`` (flock(2)) on
it. The lock belongs to the open file description, so a child that is given the
descriptor writes under its parent's lock, and keeps it if the parent is killed.
Each record is one ``write`` to a descriptor opened with ``O_APPEND``, so records
of several processes never mix. A process killed in the middle of a write leaves
a torn last line; the next writer cuts it off and says so. What is torn in the
middle, because others went on writing, is passed over and counted.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import os
import platform
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from hostabi import __version__
from hostabi.closing import Closing
from hostabi.errors import InputError, StorageError
from hostabi.model import SCHEMA, Outcome
from hostabi.oci import deviations
from hostabi.runs import sources
from hostabi.runs.records import (
    KNOWN,
    BuildUsed,
    CaptureDone,
    CellKey,
    Features,
    Finished,
    Planned,
    Record,
    Session,
    SuitesDone,
    SurfaceError,
    TestCell,
)

ENVIRONMENT = "HOSTABI_JOURNAL_DESCRIPTOR"
"""Names the descriptor of a journal that a parent process holds open and locked."""

_LINE_LIMIT = 1 << 20
_DETAIL_LIMIT = 16_000
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_ENCODER = msgspec.json.Encoder()
_R = TypeVar("_R", bound=msgspec.Struct)


@dataclass(frozen=True)
class Contents:
    """All records of a journal, oldest first.

    ``torn`` is what was left of a last line, ``skipped`` counts lines before it
    that are no records.
    """

    records: tuple[Record, ...]
    torn: bytes = b""
    skipped: int = 0

    def damage(self, path: Path) -> str:
        """What could not be read of the journal at ``path``, as a line; empty when nothing."""
        parts = [f"{self.skipped} lines that are no records"] if self.skipped else []
        parts += [f"{len(self.torn)} bytes of a last record torn in two"] if self.torn else []
        return f"{path}: left out {' and '.join(parts)}" if parts else ""

    def of(self, kind: type[_R]) -> Iterator[_R]:
        """The records of one kind, oldest first."""
        return (record for record in self.records if isinstance(record, kind))

    def cells(self) -> dict[CellKey, TestCell]:
        """The last outcome of each cell. What is known is what a deviation explains today."""
        return {cell.key: _explained(cell) for cell in self.of(TestCell)}

    def builds(self) -> dict[str, BuildUsed]:
        """The last provenance of each build, by name."""
        return {build.name: build for build in self.of(BuildUsed)}

    def captures(self) -> dict[str, CaptureDone]:
        """The last capture of each build, by name."""
        return {capture.build: capture for capture in self.of(CaptureDone)}

    def last_run(self) -> tuple[Contents, Finished | None]:
        """What was recorded since the run before the last one ended, and how the last one ended.

        None when it did not: a session began after the last end. A run that was
        stopped and gone on with is one run.
        """
        ends = [at for at, record in enumerate(self.records) if isinstance(record, Finished)]
        last = ends[-1] if ends else -1
        if any(isinstance(record, Session) for record in self.records[last + 1 :]) or not ends:
            return Contents(self.records[last + 1 :]), None
        before = ends[-2] if len(ends) > 1 else -1
        end = self.records[last]
        assert isinstance(end, Finished)
        return Contents(self.records[before + 1 :]), end

    def since(self, digests: Mapping[str, str]) -> Contents:
        """Only what was measured by the same sources; ``digests`` are of each part.

        Who measured and with what (sessions, builds, ends) stays.
        """
        of_session = {session.session: session.sources for session in self.of(Session)}

        def counts(record: Record) -> bool:
            its = of_session.get(record.session, {})
            return all(its.get(part) == digests.get(part) for part in _parts(record))

        kept = tuple(record for record in self.records if counts(record))
        return Contents(kept, self.torn, self.skipped)

    def latest(self) -> dict[str, str]:
        """The digest by which each part was measured last: several runs may have a part each."""
        of_session = {session.session: session.sources for session in self.of(Session)}
        return {
            part: its
            for record in self.records
            for part in _parts(record)
            if (its := of_session.get(record.session, {}).get(part))
        }


def parse(data: bytes, name: str) -> Contents:
    """Decode a journal's bytes; ``name`` is used in errors.

    Raises InputError for a file that has lines and no record among them, and for
    a journal written by a newer hostabi. A last line without its newline is torn,
    not an error; other lines that are no records are counted.
    """
    *lines, torn = data.split(b"\n")
    records: list[Record] = []
    bad: tuple[int, Exception] | None = None
    skipped = 0
    for number, line in enumerate(lines, 1):
        if not line:
            continue  # begun anew after a torn record
        try:
            record = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            bad = bad or (number, error)
            skipped += 1
            continue
        if isinstance(record, Session) and record.schema > SCHEMA:
            raise InputError(
                f"{name} has schema {record.schema}; this hostabi {__version__} knows {SCHEMA}",
                advice="use the newer hostabi that wrote it, or name another file with --journal",
            )
        records.append(record)
    if bad is not None and not records:
        raise InputError(
            f"{name}, line {bad[0]}: not a record of this hostabi's journal: {bad[1]}",
            advice="name another file with --journal, or move this one away",
        ) from bad[1]
    return Contents(tuple(records), torn, skipped)


def read(path: Path) -> Contents:
    """Read a journal without locking it. InputError when it is missing or foreign."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"cannot read journal {path}: {error.strerror}",
            advice="make one with `hostabi run`, or name another file with --journal",
        ) from error


def recorded_capture(path: Path, contents: Contents, build: str) -> Path | None:
    """The file of a build's last capture in the journal at ``path``, if it is whole and unharmed.

    A capture in which a surface failed is not whole: it is worth another try.
    """
    done = contents.captures().get(build)
    if done is None or any(
        (error.build, error.session) == (build, done.session) for error in contents.of(SurfaceError)
    ):
        return None
    file = path.parent / done.file
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
    return file if digest == done.sha256 else None


class Journal(Closing):
    """An open journal: a context manager; safe for several threads."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        contents: Contents,
        *,
        owned: bool,
        digests: Mapping[str, str],
    ) -> None:
        self.path = path
        self.session = ""
        self.digests = dict(digests)
        self.damage = contents.damage(path)
        self._descriptor = descriptor
        self._owned = owned
        self._mutex = threading.Lock()
        self._cells = contents.since(self.digests).cells()

    @classmethod
    def open(cls, path: Path, *, short: bool = False) -> Self:
        """Open ``path`` for writing, making it and its folder if needed.

        What a ``short`` session found, with few examples, is not reused by a full one.
        Raises InputError when another run writes to it or when it is not ours
        to append to, StorageError when it cannot be written.
        """
        inherited = os.environ.get(ENVIRONMENT, "")
        if inherited:
            return cls._inherit(path, inherited)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"cannot write journal {path}: {error.strerror}",
                advice="name a file in a folder you can write with --journal",
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path} is not a regular file, so it cannot be a journal")
            _lock(descriptor, path)
            contents = parse(_read_all(descriptor), str(path))
            if contents.torn:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(contents.torn))
            digests = sources.digests(short=short)
            return cls(path, descriptor, contents, owned=True, digests=digests)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def _inherit(cls, path: Path, number: str) -> Self:
        try:
            descriptor = int(number)
            same = os.path.samestat(os.fstat(descriptor), path.stat())
        except (OSError, ValueError):
            same = False
        if not same:
            raise InputError(
                f"{ENVIRONMENT}={number} is not an open descriptor of {path}",
                advice=f"unset {ENVIRONMENT}; it is set by hostabi for its own child processes",
            )
        contents = parse(_read_all(descriptor), str(path))
        # The parent's digests: sources that were edited since do not split its run in two.
        begun = [session.sources for session in contents.of(Session)]
        return cls(path, descriptor, contents, owned=False, digests=begun[-1] if begun else {})

    @property
    def descriptor(self) -> int:
        """To be passed to a child, whose environment names it as :data:`ENVIRONMENT`."""
        return self._descriptor

    def begin(self, *, accelerator: str = "auto", arguments: Iterable[str] = ()) -> str:
        """Record a new session and return its name."""
        self.session = secrets.token_hex(4)
        self.append(
            Session(
                session=self.session,
                started=now(),
                tool=__version__,
                sources=self.digests,
                process=os.getpid(),
                accelerator=accelerator,
                host=f"{platform.system()} {platform.release()} {platform.machine()}",
                arguments=tuple(arguments),
            )
        )
        return self.session

    def append(self, record: Record) -> None:
        """Write one record; it is on disk when this returns. StorageError when it cannot be."""
        if isinstance(record, TestCell) and len(record.detail) > _DETAIL_LIMIT:
            record = msgspec.structs.replace(record, detail=record.detail[-_DETAIL_LIMIT:])
        line = _ENCODER.encode(record) + b"\n"
        if len(line) > _LINE_LIMIT:
            raise InputError(f"a record of {len(line)} bytes is too long for the journal")
        with self._mutex:
            try:
                # A child that was killed while it wrote has left half a line.
                torn = _ends_torn(self._descriptor)
                _write_whole(self._descriptor, b"\n" + line if torn else line)
                os.fsync(self._descriptor)
            except OSError as error:
                raise StorageError(
                    f"cannot write journal {self.path}: {error.strerror}",
                    advice="free some space; the run resumes where it stopped",
                ) from error
            if isinstance(record, TestCell):
                self._cells[record.key] = record

    def has(self, key: CellKey) -> bool:
        """Whether the cell's outcome is known: recorded by the same source, and not ``error``."""
        cell = self._cells.get(key)
        return cell is not None and cell.outcome is not Outcome.ERROR

    def contents(self) -> Contents:
        """Everything in the file now, with what child processes appended."""
        return parse(_read_all(self._descriptor), str(self.path))

    def capture(self, build: str) -> Path | None:
        """The saved capture of ``build`` by the same source, if :func:`recorded_capture` has it."""
        return recorded_capture(self.path, self.contents().since(self.digests), build)

    def forget(self) -> None:
        """Begin anew: remove every record."""
        os.ftruncate(self._descriptor, 0)
        self._cells.clear()

    def close(self) -> None:
        """Give the lock up. A descriptor that was inherited stays open."""
        if self._owned:
            os.close(self._descriptor)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _parts(record: Record) -> tuple[str, ...]:
    """Whose sources decide what a record says."""
    match record:
        case TestCell():
            return sources.parts_of(record.test)
        case Planned():
            return (sources.part_of(record.suite),)
        case CaptureDone() | SurfaceError():
            return (sources.CAPTURES,)
        case Features():
            return ("syscalls",)
        case SuitesDone():
            suites = [part for part in sources.SUITES if part in record.arguments]
            return (*suites, *(file for suite in suites for file in sources.files_of(suite)))
        case _:
            return ()


def _explained(cell: TestCell) -> TestCell:
    if cell.outcome is not Outcome.FAIL:
        return cell
    why = deviations.explanation(cell.test, runtime=cell.runtime, build=cell.build)
    return msgspec.structs.replace(cell, reason=f"{KNOWN}{why}") if why else cell


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise StorageError(
                f"cannot lock journal {path}: {error.strerror}",
                advice="name a file on a local file system with --journal",
            ) from error
        raise InputError(
            f"another run{_owner(descriptor, path)} writes to {path}",
            advice="wait until it ends, or name another file with --journal",
        ) from error


def _owner(descriptor: int, path: Path) -> str:
    try:
        sessions = list(parse(_read_all(descriptor), str(path)).of(Session))
    except InputError:
        return ""
    return f" (process {sessions[-1].process})" if sessions else ""


def _read_all(descriptor: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(descriptor, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _write_whole(descriptor: int, line: bytes) -> None:
    """Write ``line`` or nothing of it, so that a full disk leaves no half record."""
    written = os.write(descriptor, line)
    if written == len(line):
        return
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
