"""What the reproducers of breaks exited with, as a page and as files."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from tabulate import tabulate

from hostabi import resources
from hostabi.packages.cache import storage_errors
from hostabi.runs.reproduce import Lacking, Shown, Subject
from hostabi.surfaces.reproducers import AS_EXPECTED, NOT_TRIED, OTHERWISE
from hostabi.syscalls import printers

FOLDER = "reproducers"
"""Within the results."""
_PROGRAMS, _EXITS = "programs", "exits.jsonl"
_ROOM = 1_500_000
"""Bytes of programs that are published."""
_INCLUDED = re.compile(r'^#include "(shared-\d+\.h)"\n', re.MULTILINE)
_LONG = 16_000
"""Bytes of one program from which it is left out where there are too many."""

_WORDS = {AS_EXPECTED: "yes", OTHERWISE: "no", NOT_TRIED: "not tried"}
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reproducer exited with on each build; ``file`` is below the results, if it is there.

    ``value`` is what it shows, in short; ``disagreeing`` are builds whose capture says otherwise.
    """

    surface: str
    key: str
    value: str
    exits: dict[str, int]
    disagreeing: tuple[str, ...] = ()
    file: str = ""


_DECODER = msgspec.json.Decoder(Measured)


def file_name(shown: Shown) -> str:
    """A file for a reproducer's text: ``sockets-inet.dgram.udplite-0b5f3a1c.c``.

    The digits are of what it is about with its value, so that no two have one name, and a
    name stays whatever else there is.
    """
    subject = shown.subject
    plain = _UNSAFE.sub("-", f"{subject.surface}-{subject.fact.key}").strip("-")
    mark = hashlib.sha256(subject.identity.encode()).hexdigest()[:8]
    return f"{plain[:120]}-{mark}.{shown.reproducer.language}"


def rows(shown: Sequence[Shown], builds: Sequence[str]) -> list[list[str]]:
    """One row for each: the fact, its value, and for each build whether it has that."""
    return [
        [
            each.subject.name,
            _value(each.subject),
            *(_cell(each, build) for build in builds),
            "agrees" if not each.disagreeing else f"DISAGREES on {', '.join(each.disagreeing)}",
        ]
        for each in shown
    ]


def page(
    shown: Sequence[Shown],
    lacking: Sequence[Lacking],
    builds: Sequence[str],
    kept: str = "",
    files: Collection[str] = (),
) -> str:
    """The table as Markdown, and what has no reproducer.

    ``kept`` is a sentence about the programs that are here as ``files``.
    """
    head = ["fact", "what is shown", *builds, "with the captures", "program"]
    table = [
        [*row, _link(each, files)] for row, each in zip(rows(shown, builds), shown, strict=True)
    ]
    agreeing = sum(not each.disagreeing for each in shown)
    parts = [
        "# Reproducers",
        "",
        f"{len(shown)} programs, each for one value that a later kernel lacks; {agreeing} say on "
        "every kernel what its capture says. Each was run on every kernel here; `yes`: this "
        "kernel has it. A program exits 0, 1 or 3 for `yes`, `no` and `not tried`.",
        "",
        *([kept, ""] if kept else []),
        tabulate(table, head, tablefmt="github", disable_numparse=True),
    ]
    if lacking:
        parts += ["", "## Without a reproducer", ""]
        parts += [f"- `{each.subject.name}`: {each.why}" for each in lacking]
    return "\n".join(parts) + "\n"


def write(
    folder: Path, shown: Sequence[Shown], lacking: Sequence[Lacking], builds: Sequence[str]
) -> Path:
    """Write the page, the exits and the programs below ``folder``. Returns the page.

    Programs share what is the same in all, and are left out where all together
    are too large: first those of breaks that the ledger expects.
    """
    top = folder / FOLDER
    sources = top / _PROGRAMS
    with storage_errors(folder):
        shutil.rmtree(sources, ignore_errors=True)
        sources.mkdir(parents=True)
        files, kept = _files(shown)
        for name, text in files.items():
            (sources / name).write_text(text)
        lines = [msgspec.json.encode(_measured(each, files)) for each in shown]
        (top / _EXITS).write_bytes(b"\n".join([*lines, b""]))
        path = top / "README.md"
        path.write_text(page(shown, lacking, builds, kept, files))
    return path


def measured(results: Path | None = None) -> list[Measured]:
    """What was published last in ``results``, or in the checkout's own; none where nothing was.

    Lines that are no records are passed over.
    """
    path = next((p for one in _places(results) if (p := one / FOLDER / _EXITS).is_file()), None)
    found = []
    for line in path.read_bytes().splitlines() if path is not None else ():
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            found.append(_DECODER.decode(line))
    return found


def source(results: Path | None, one: Measured) -> str:
    """The program of what :func:`measured` gave, as one file; empty where it is not there."""
    path = next(
        (p for top in _places(results) if one.file and (p := top / one.file).is_file()), None
    )
    if path is None:
        return ""

    def put_back(line: re.Match[str]) -> str:
        part = path.with_name(line[1])
        return part.read_text() if part.is_file() else line[0]

    return _INCLUDED.sub(put_back, path.read_text())


def _places(results: Path | None) -> list[Path]:
    checkout = resources.checkout()
    own = [checkout / "results"] if results is None and checkout is not None else []
    return [results or resources.results(), *own]


def _measured(each: Shown, files: Mapping[str, str]) -> Measured:
    name = file_name(each)
    return Measured(
        each.subject.surface,
        each.subject.fact.key,
        _value(each.subject),
        dict(each.exits),
        tuple(each.disagreeing),
        f"{FOLDER}/{_PROGRAMS}/{name}" if name in files else "",
    )


def _files(shown: Sequence[Shown]) -> tuple[dict[str, str], str]:
    """The programs by their files' names, and a sentence about which they are."""
    parts = printers.shared_files()
    whole = {each: printers.including(each.reproducer.text, parts) for each in shown}
    opened = {each: text for each, text in whole.items() if not each.subject.known}
    which = "All of them"
    if sum(map(len, whole.values())) > _ROOM:
        which, whole = "Those of open breaks", opened
    if sum(map(len, whole.values())) > _ROOM:
        short = {each: text for each, text in whole.items() if len(text) <= _LONG}
        which, whole = f"Those of open breaks of at most {_LONG} bytes", short
    files = {file_name(each): text for each, text in whole.items()}
    printed = "`hostabi explain FACT --reproducer` prints any as one file."
    if not files:
        return {}, f"{which} would be kept beside this page, and there are none. {printed}"
    used = {name for text in files.values() for name in _INCLUDED.findall(text)}
    sentence = (
        f"{which} are in [{_PROGRAMS}]({_PROGRAMS}): `cc FILE.c`, `sh FILE.sh`; what "
        f"FILE.decl.c declares has to compile with a kernel's headers. {printed}"
    )
    return files | {name: parts[name] for name in used}, sentence


def _link(each: Shown, files: Collection[str]) -> str:
    name = file_name(each)
    language = each.reproducer.language
    return f"[{language}]({_PROGRAMS}/{name})" if name in files else str(language)


def _cell(each: Shown, build: str) -> str:
    got = each.exits.get(build, NOT_TRIED)
    text = _WORDS.get(got, f"exit {got}")
    return f"{text} (!)" if build in each.disagreeing else text


def _value(subject: Subject) -> str:
    value = subject.fact.value
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
