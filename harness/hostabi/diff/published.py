"""Captures as text that is kept under version control: what moved is what a text diff shows.

A folder holds ``builds.json``, which tells of what the captures are, and for
each surface a file of tab-separated lines::

    builds <TAB> *
    memfd_secret <TAB> 6.1..6.12,7.2.. <TAB> value/probed <TAB> probe <TAB> "ENOSYS" [<TAB> detail]

Each line is a fact: its key, the builds that have it so, its kind and certainty,
how it was determined, and its value as JSON. The first line says which builds
have the surface at all. Builds are named by their line where no two share it:
``6.1..6.12`` is from one to the other, ``7.2..`` is to the newest one, and ``*``
is all of them, so that a new build only changes lines of what it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hostabi.diff.captures import replace_file
from hostabi.diff.compare import by_key
from hostabi.errors import InputError, StorageError
from hostabi.model import (
    SCHEMA,
    Capture,
    Certainty,
    Fact,
    Kind,
    Provenance,
    Value,
    Variant,
)

BUILDS = "builds.json"
_SUFFIX = ".tsv"
LIMIT = 64 << 20
"""Bytes that one file may have; the largest surface has about 1 MB."""

_MOST = 5_000_000
"""Facts in all builds together that one file may come to."""
_HEAD = "builds"
_ALL = "*"
_LABEL = re.compile(r"[\w+~-]+(\.[\w+~-]+)*")
"""What can stand between ``..`` and commas."""
_SURFACE = re.compile(r"[a-z][a-z0-9_-]{0,60}")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_PLAIN = {written: meant for meant, written in _ESCAPES.items()}
_WRITTEN = str.maketrans(_ESCAPES)
_ESCAPED = re.compile(r"\\[\\tnr]")
_VALUES: msgspec.json.Decoder[Value] = msgspec.json.Decoder(Value)
_ADVICE = "take it from version control again, or write it anew with: hostabi run"


class _About(msgspec.Struct, frozen=True, omit_defaults=True):
    """A capture without its facts."""

    build: str
    line: str
    release: str
    variant: Variant
    provenance: Provenance
    twin: Variant | None = None
    moving: dict[str, dict[str, Kind]] = {}


class _Builds(msgspec.Struct, frozen=True):
    captures: list[_About]
    schema: int = SCHEMA


def write(folder: Path, captures: Sequence[Capture]) -> list[Path]:
    """Write all files of ``captures``, oldest first, and remove those of surfaces that are gone.

    Raises InputError for what the form cannot tell apart (two captures of one
    build, odd names), StorageError when the folder cannot be written.
    """
    labels = _labels(captures)
    texts = {
        folder / f"{_checked(name)}{_SUFFIX}": _surface(name, captures, labels)
        for name in sorted({name for capture in captures for name in capture.surfaces})
    }
    about = [
        msgspec.convert(msgspec.structs.asdict(capture), _About, from_attributes=True)
        for capture in captures
    ]
    index = msgspec.json.format(msgspec.json.encode(_Builds(about)), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            replace_file(path, text.encode())
        replace_file(folder / BUILDS, index + b"\n")
        for stale in set(folder.glob(f"*{_SUFFIX}")) - texts.keys():
            stale.unlink()
    except OSError as error:
        raise StorageError(
            f"cannot write the facts to {folder}: {error.strerror}",
            advice="name another folder with --results",
        ) from error
    return [folder / BUILDS, *texts]


def read(folder: Path) -> list[Capture]:
    """The captures in ``folder``, oldest first, their facts by key.

    Raises InputError that names file and line for anything :func:`write` does not write.
    """
    path = folder / BUILDS
    try:
        builds = msgspec.json.decode(_bytes(path), type=_Builds)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: no list of builds: {error}", advice=_ADVICE) from error
    if builds.schema != SCHEMA:
        raise InputError(
            f"{path}: facts of schema {builds.schema}, this hostabi reads {SCHEMA}",
            advice="use the hostabi that wrote them",
        )
    captures = [Capture(surfaces={}, **msgspec.structs.asdict(about)) for about in builds.captures]
    labels = _labels(captures)
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        name = _checked(file.name.removesuffix(_SUFFIX))
        for label, facts in _Reader(file, labels).facts().items():
            captures[labels.index(label)].surfaces[name] = facts
    return captures


def find(captures: Iterable[Capture], name: str) -> Capture:
    """The capture of a line, build or release. Raises InputError that lists what there is."""
    known = list(captures)
    found = [one for one in known if name in (one.line, one.build, one.release)]
    if found:
        # The flavour that needs no naming has the shortest name.
        return min(found, key=lambda one: len(one.build))
    there = ", ".join(f"{capture.line} ({capture.build})" for capture in known)
    raise InputError(
        f"no capture of {name!r} is published",
        advice=f"there are {there}" if there else "name a kernel or a capture file",
    )


def _labels(captures: Sequence[Capture]) -> list[str]:
    """What each capture is called in the files: its line, or its build where that is not unique."""
    lines = [capture.line for capture in captures]
    labels = [
        capture.line if capture.line and lines.count(capture.line) == 1 else capture.build
        for capture in captures
    ]
    for label in labels:
        if not _LABEL.fullmatch(label) or labels.count(label) > 1:
            raise InputError(
                f"captures cannot be told apart by the name {label!r}",
                advice="publish one capture of each build",
            )
    return labels


def _checked(name: str) -> str:
    if not _SURFACE.fullmatch(name):
        raise InputError(f"{name!r} is no name of a surface that can be published")
    return name


def _surface(name: str, captures: Sequence[Capture], labels: Sequence[str]) -> str:
    """The file of one surface."""
    columns = [number for number, capture in enumerate(captures) if name in capture.surfaces]
    names = [labels[number] for number in columns]
    cells: dict[str, dict[tuple[object, ...], tuple[Fact, list[int]]]] = {}
    for place, number in enumerate(columns):
        where = f"{captures[number].build}, surface {name}"
        for key, fact in by_key(captures[number].surfaces[name], where=where).items():
            value = tuple(fact.value) if isinstance(fact.value, list) else fact.value
            # True and 1 are equal, and not the same.
            same = (type(value), value, fact.kind, fact.certainty, fact.how, fact.detail)
            cells.setdefault(key, {}).setdefault(same, (fact, []))[1].append(place)
    lines = [f"{_HEAD}\t{_runs(columns, labels)}"]
    for key in sorted(cells):
        for fact, places in sorted(cells[key].values(), key=lambda cell: cell[1]):
            lines.append(_line(fact, _runs(places, names)))
    return "\n".join(lines) + "\n"


def _line(fact: Fact, builds: str) -> str:
    parts = [
        fact.key.translate(_WRITTEN),
        builds,
        f"{fact.kind}/{fact.certainty}",
        fact.how.translate(_WRITTEN),
        msgspec.json.encode(fact.value).decode(),
    ]
    if fact.detail:
        parts.append(fact.detail.translate(_WRITTEN))
    return "\t".join(parts)


def _runs(places: Sequence[int], labels: Sequence[str]) -> str:
    """``places``, which ascend, as names."""
    if len(places) == len(labels):
        return _ALL
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    parts = []
    for run in runs:
        first, last = labels[run[0]], labels[run[-1]]
        # The newest build is not named, so that one more that is like it changes nothing.
        end = "" if run[-1] == len(labels) - 1 else last
        parts.append(first if len(run) == 1 and end else f"{first}..{end}")
    return ",".join(parts)


class _Reader:
    """Reads one surface's file."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path = path
        self._number = 1
        try:
            self._lines = _bytes(path).decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not text: {error}", advice=_ADVICE) from error
        head, _, builds = self._lines[0].partition("\t")
        if head != _HEAD:
            raise self._wrong("the first line does not say which builds there are")
        self._labels = [labels[at] for at in self._places(builds, labels)]

    def facts(self) -> dict[str, list[Fact]]:
        """The facts of each build."""
        columns: list[dict[str, Fact]] = [{} for _ in self._labels]
        known: dict[str, list[int]] = {}
        count = 0
        for line in self._lines[1:]:
            self._number += 1
            key, builds, fact = self._fact(line)
            if builds not in known:
                known[builds] = self._places(builds, self._labels)
            count += len(known[builds])
            if count > _MOST:
                raise self._wrong(f"more than {_MOST} facts")
            for place in known[builds]:
                if key in columns[place]:
                    raise self._wrong(f"a second fact {key!r} of {self._labels[place]}")
                columns[place][key] = fact
        return {
            label: [column[key] for key in sorted(column)]
            for label, column in zip(self._labels, columns, strict=True)
        }

    def _fact(self, line: str) -> tuple[str, str, Fact]:
        parts = line.split("\t")
        if not 5 <= len(parts) <= 6:
            raise self._wrong(f"{len(parts)} fields instead of 5 or 6")
        key, builds, form, how, value, *rest = parts
        kind, _, certainty = form.partition("/")
        try:
            fact = Fact(
                key=_meant(key),
                value=_VALUES.decode(value),
                kind=Kind(kind),
                how=_meant(how),
                certainty=Certainty(certainty),
                detail=_meant(rest[0]) if rest else "",
            )
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise self._wrong(str(error)) from error
        return fact.key, builds, fact

    def _places(self, builds: str, labels: Sequence[str]) -> list[int]:
        if builds == _ALL:
            return list(range(len(labels)))
        places: list[int] = []
        for run in builds.split(","):
            first, to, last = run.partition("..")
            try:
                begin = labels.index(first)
                end = begin if not to else labels.index(last) if last else len(labels) - 1
            except ValueError:
                raise self._wrong(f"{run!r} is not among the builds {', '.join(labels)}") from None
            if end < begin or (places and begin <= places[-1]):
                raise self._wrong(f"builds out of order in {builds!r}")
            places += range(begin, end + 1)
        return places

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self._path}, line {self._number}: {what}", advice=_ADVICE)


def _meant(text: str) -> str:
    return _ESCAPED.sub(lambda found: _PLAIN[found[0]], text) if "\\" in text else text


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the published facts: {error.strerror}",
            advice="they are in a checkout's results/facts; `hostabi run` writes them",
        ) from error
    if len(data) > LIMIT:
        raise InputError(f"{path}: larger than such a file can be ({LIMIT >> 20} MiB)")
    return data
