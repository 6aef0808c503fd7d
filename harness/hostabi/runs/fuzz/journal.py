"""The journal of lockstep: what was run, found and confirmed, one record for each line."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from hostabi.closing import Closing
from hostabi.errors import InputError, StorageError
from hostabi.runs.fuzz.causes import OUT, VALUE, Difference, Known, Spot, cause
from hostabi.runs.fuzz.examples import Example, restored
from hostabi.syscalls.builder import Built

T = TypeVar("T")

FILE = "journal.jsonl"
FINDINGS = "findings"
"""The folder beside the journal, with a text for each find and the C program that shows it."""
AGAIN = " again"
"""What the name of a build's second guest ends in, where a build is held against itself."""
LINE = 1 << 20
"""Bytes of a record at most; a longer line was not written by us."""


class Began(msgspec.Struct, frozen=True, tag_field="record", tag="began"):
    """One sitting. ``builds`` by the name that each kernel goes by in later records."""

    seed: int
    started: str
    builds: dict[str, str]
    source: str
    sandboxes: tuple[str, ...]
    groups: tuple[str, ...] = ()
    lines: dict[str, str] = {}
    """The line of each kernel, by its name."""


class Went(msgspec.Struct, frozen=True, tag_field="record", tag="went"):
    """How far a sitting got: what the seed gave up to batch ``next`` has been run."""

    seed: int
    next: int
    programs: int
    calls: int
    seconds: float
    known: dict[str, int] = {}
    """How often each known difference was met, by its name or its reason; told now and then."""


class Found(msgspec.Struct, frozen=True, tag_field="record", tag="found"):
    """A difference and what became of it. Drawn again by ``seed``, ``batch`` and ``index``.

    With the batch -1 it was met by the program of an earlier find.
    """

    name: str
    kernels: tuple[str, ...]
    seed: int
    batch: int
    index: int
    sandbox: str
    kind: str
    syscall: str
    outcomes: dict[str, str]
    argument: str = ""
    item: str = ""
    calls: int = 0
    call: int = -1
    """The call of the program that differs; -1 where none does."""
    confirmed: int = 0
    """In how many of the freshly restored guests of each side it came again."""
    tried: int = 0
    exits: dict[str, int] = {}
    """What the C program exited with, by kernel."""
    note: str = ""
    example: Example | None = None
    """The program itself, for later sittings; those of older journals have none."""

    @property
    def whole(self) -> bool:
        """Whether it came every time, and its program tells the two sides apart."""
        return (
            self.tried > 0 and self.confirmed == self.tried and set(self.exits.values()) == {0, 1}
        )

    @property
    def stands(self) -> bool:
        """Whether it may well be there: one that never came in fresh guests was left by others."""
        return not self.tried or self.confirmed > 0

    @property
    def difference(self) -> Difference:
        """What it says of kernels, as something to compare others with."""
        return Difference(self.syscall, self.kind, self.outcomes, self.argument, self.item)

    @property
    def what(self) -> str:
        """In what kernels differ."""
        return " ".join(part for part in (self.kind, self.item, self.argument) if part)

    @property
    def sides(self) -> str:
        """Which kernels make what of it."""
        sides: dict[str, list[str]] = {}
        for name, outcome in self.outcomes.items():
            sides.setdefault(outcome, []).append(name)
        return "; ".join(f"{', '.join(names)}: {outcome}" for outcome, names in sides.items())

    def shown(self) -> tuple[Built, Spot] | None:
        """The program that shows it and where; None where no program was kept."""
        if self.example is None:
            return None
        built = restored(self.example)
        place = self.call
        if place < 0 and self.kind in {VALUE, OUT}:  # an older journal: most programs end there
            same = (n for n, step in enumerate(built.steps) if step.name == self.syscall)
            place = max(same, default=-1)
        where = place if 0 <= place < len(built.steps) else None
        return built, Spot(self.kind, where, self.syscall, self.outcomes, self.item)

    def cause(self, known: Sequence[Known], lines: Mapping[str, str]) -> Known | None:
        """Why it is there, as far as anybody knows. ``lines`` has the line of each kernel."""
        shown = self.shown()
        return cause(known, *shown, lines) if shown else None

    def among(self, names: Collection[str]) -> Found | None:
        """What it is on some kernels only; None where these do not differ."""
        outcomes = {name: seen for name, seen in self.outcomes.items() if name in names}
        if len(set(outcomes.values())) < 2:
            return None
        return msgspec.structs.replace(self, outcomes=outcomes)


class Broke(msgspec.Struct, frozen=True, tag_field="record", tag="broke"):
    """A guest that failed while programs ran there. ``text`` has the program, if it was found."""

    name: str
    kernel: str
    seed: int
    batch: int
    sandbox: str
    error: str
    text: str = ""
    console: str = ""


Record = Began | Went | Found | Broke
_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Records(Closing):
    """A journal that is open for writing, by one process at a time.

    Raises InputError when another one writes to it, StorageError when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another run writes to {path}", advice="wait until it ends, or name another folder"
            ) from error
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", advice="see --results") from error
        self._mend()

    def _mend(self) -> None:
        """Cut off half a record, which a run that was killed has left."""
        self._file.seek(0)
        raw = self._file.read()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            self._file.truncate(whole)

    def add(self, record: Record) -> None:
        """Write one record; it is on disk when this returns."""
        try:
            self._file.write(_ENCODER.encode(record) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path}: {error.strerror}", advice="free some space; the run resumes"
            ) from error

    def close(self) -> None:
        """Let others write."""
        self._file.close()


def read(path: Path) -> Iterator[Record]:
    """What a journal holds; see :func:`decoded`."""
    return decoded(path, _DECODER, "lockstep")


def decoded(path: Path, decoder: msgspec.json.Decoder[T], what: str) -> Iterator[T]:
    """The records of a file, one for each line; nothing where there is none.

    Half a record at its end, of a run that was killed, is passed over. Raises InputError
    for what is no record; ``what`` says of what it should be one.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                if len(line) > LINE:
                    raise msgspec.DecodeError("too long")
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise InputError(
                    f"{path}:{number}: not a record of {what}: {error}",
                    advice="name another folder with --results",
                ) from error
