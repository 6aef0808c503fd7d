"""The page of lockstep: how long random programs were run, and what became of what differed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from tabulate import tabulate

from hostabi.errors import StorageError
from hostabi.runs.fuzz import journal, teeth
from hostabi.runs.fuzz.causes import Known
from hostabi.runs.fuzz.journal import AGAIN, FINDINGS, Began, Broke, Found, Went
from hostabi.runs.fuzz.teeth import Tooth

FOLDER = "lockstep"
"""Within the results: the journal, the finds, and this page."""
PAGE = f"{FOLDER}/README.md"
_FEW = 3
"""Programs of a cause that are named."""
_SOON = 120.0
"""Seconds within which an alteration is to be found."""

_TEXT = """\
# Lockstep

Random programs, each run on all kernels at once: what the calls return and write, how the program
ends and what it leaves behind is compared. A difference is made smaller, tried again in freshly
restored guests, and, where a call can see it, shown by a C program that exits 0 on one kernel and 1
on the other. Those below "Explained" have a cause in `kernels/lockstep.toml`; those below "Open"
have none yet.
"""
_FALLEN = """\
They did not come in fresh guests, as programs that ran before had left something there, or not in
a later sitting, as a kernel or what compares them was mended."""


@dataclass(frozen=True)
class Sitting:
    """One sitting and what was recorded in it; ``went`` is the last that it told."""

    began: Began
    went: Went | None = None
    found: Mapping[str, Found] = field(default_factory=dict)
    broke: Sequence[Broke] = ()

    @property
    def itself(self) -> bool:
        """Whether each build was held against itself."""
        return any(name.endswith(AGAIN) for name in self.began.builds)


def sittings(records: Iterable[journal.Record]) -> list[Sitting]:
    """What a journal holds, sitting by sitting; a find as it was told last there."""
    made: list[Sitting] = []
    for record in records:
        if isinstance(record, Began):
            made.append(Sitting(record))
            continue
        if not made:
            continue
        last = made.pop()
        if isinstance(record, Went):
            known = record.known or (last.went.known if last.went else {})
            last = replace(last, went=msgspec.structs.replace(record, known=known))
        elif isinstance(record, Found):
            last = replace(last, found={**last.found, record.name: record})
        else:
            last = replace(last, broke=(*last.broke, record))
        made.append(last)
    return made


def write(folder: Path, known: Sequence[Known]) -> Path | None:
    """Write the page from what lies in ``folder``/lockstep; None where nothing was run.

    Raises InputError for a journal that is none, StorageError when it cannot be written.
    """
    place = folder / FOLDER
    sat = sittings(journal.read(place / journal.FILE))
    tried = list(teeth.read(place / teeth.FILE))
    if not sat and not tried:
        return None
    parts = [_TEXT]
    if sat:
        several = [each for each in sat if not each.itself]
        parts += [_times(sat), "", *(_finds(several, known, place) if several else ())]
        parts += _alone([each for each in sat if each.itself], place)
        parts += _failures(sat)
    parts += _teeth(tried) if tried else []
    try:
        place.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).write_text("\n".join(parts).rstrip() + "\n")
    except OSError as error:
        raise StorageError(
            f"cannot write {folder / PAGE}: {error.strerror}",
            advice="name another folder with --results",
        ) from error
    return folder / PAGE


def _times(sat: Sequence[Sitting]) -> str:
    """A row for each set of kernels, sandboxes and seed: how much was run."""
    together: dict[tuple[str, str, str, int], list[Sitting]] = defaultdict(list)
    for each in sat:
        names = [name for name in each.began.builds if not name.endswith(AGAIN)]
        kernels = ", ".join(each.began.builds[name] for name in names)
        how = f"{kernels}, each against itself" if each.itself else kernels
        sandboxes, groups = ", ".join(each.began.sandboxes), ", ".join(each.began.groups)
        together[how, sandboxes, groups, each.began.seed].append(each)
    rows = []
    for (how, sandboxes, groups, seed), own in together.items():
        went = [each.went for each in own if each.went]
        programs, seconds = sum(w.programs for w in went), sum(w.seconds for w in went)
        calls = sum(w.calls for w in went)
        rate = f"{programs / seconds:.1f}" if seconds else "-"
        ran = [f"{seconds / 60:.0f} min", programs, calls, rate]
        rows.append([how, sandboxes, groups or "all", seed, len(own), *ran])
    headers = ["kernels", "sandboxes", "calls of", "seed", "sittings"]
    headers += ["time", "programs", "calls", "a second"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _finds(sat: Sequence[Sitting], known: Sequence[Known], place: Path) -> list[str]:
    """The tables of what has a cause and of what has none."""
    found: dict[str, Found] = {}
    why: dict[str, Known | None] = {}
    met: Counter[str] = Counter()
    for each in sat:
        found |= each.found
        met.update(each.went.known if each.went else {})
        lines = {name: name for name in each.began.builds} | each.began.lines
        why |= {name: find.cause(known, lines) for name, find in each.found.items()}
    cited = {each.reason: each.citation for each in known}
    shown: dict[str, list[str]] = defaultdict(list)
    for name, known_cause in why.items():
        if known_cause:
            shown[known_cause.reason].append(name)
    times = Counter({reason: len(names) for reason, names in shown.items()})
    for key, count in met.items():
        own = why.get(key)
        times[own.reason if own else key.split(" ", 2)[-1]] += count
    rows = [
        [_cell(reason), _cell(cited[reason]), _programs(place, shown.get(reason, ())), count]
        for reason, count in times.most_common()
        if reason in cited
    ]
    parts = ["## Explained", ""]
    parts.append(
        tabulate(rows, headers=["cause", "source", "programs", "met"], tablefmt="github")
        if rows
        else "Nothing."
    )
    opened = [each for name, each in found.items() if why[name] is None]
    standing = [each for each in opened if each.stands]
    parts += ["", "## Open", "", _table(standing, place) if standing else "Nothing.", ""]
    if fallen := [each for each in opened if not each.stands]:
        parts += ["## Not seen again", "", _FALLEN, "", _table(fallen, place), ""]
    return parts


def _cell(text: str) -> str:
    """Text of anybody for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _table(found: Sequence[Found], place: Path) -> str:
    rows = []
    for each in sorted(found, key=lambda each: each.name):
        again = f"{each.confirmed} of {each.tried}" if each.tried else "not tried"
        ends = ", ".join(f"{name}: {code}" for name, code in each.exits.items())
        rows.append(
            [
                _link(place, f"{FINDINGS}/{each.name}.txt", each.name),
                _cell(each.what),
                _cell(each.sides),
                each.sandbox,
                each.calls,
                again,
                _link(place, f"{FINDINGS}/{each.name}.c", ends) if ends else _cell(each.note),
            ]
        )
    headers = ["find", "what", "kernels", "sandbox", "calls", "came again", "C program exits"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _programs(place: Path, names: Sequence[str]) -> str:
    """The programs that show a cause, a few of them by name."""
    own = sorted(names, key=lambda name: (not (place / f"{FINDINGS}/{name}.c").is_file(), name))
    told = ", ".join(_link(place, f"{FINDINGS}/{name}.c", name) for name in own[:_FEW])
    return told + (f" and {len(own) - _FEW} more" if len(own) > _FEW else "")


def _link(place: Path, name: str, text: str) -> str:
    return f"[{text}]({name})" if (place / name).is_file() else text


def _alone(sat: Sequence[Sitting], place: Path) -> list[str]:
    """What differed between two guests of one build."""
    if not sat:
        return []
    found: dict[str, Found] = {}
    for each in sat:
        found |= each.found
    text = _table(list(found.values()), place) if found else "Nothing."
    return ["## What differs between guests of one build", "", text, ""]


def _failures(sat: Sequence[Sitting]) -> list[str]:
    broke = [each for sitting in sat for each in sitting.broke]
    if not broke:
        return []
    rows = [
        f"- {each.name}: {each.kernel}, {each.sandbox}, batch {each.batch} of seed {each.seed}:"
        f" {each.error}" + (" (its program is in the journal)" if each.text else "")
        for each in broke
    ]
    return ["## Guests that failed", "", *rows, ""]


def _teeth(tried: Sequence[Tooth]) -> list[str]:
    """Alterations that were to be found."""
    good = sum(each.good for each in tried)
    soon = sum(each.good and each.seconds <= _SOON for each in tried)
    missed = [f"- {each.what}" for each in tried if not each.good]
    parts = [
        "## Kernels that were made to differ",
        "",
        f"{len(tried)} alterations of one call on one of two guests, drawn at random: {good} were"
        f" found and shown by 3 calls or fewer, {soon} of them within {_SOON:.0f} s.",
        "",
    ]
    return [*parts, "Not so:", "", *missed, ""] if missed else parts
