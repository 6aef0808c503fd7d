"""``hostabi fuzz``: random programs on all kernels in lockstep, for as long as one likes."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, kernels_wanted, results_folder
from hostabi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostabi.runs.fuzz.journal import Began, Found, Record
    from hostabi.runs.fuzz.sitting import Fuzz
    from hostabi.runs.guests import Guests

EXAMPLES = """\
  hostabi fuzz --for 10m                      the default lines, each program on all of them
  hostabi fuzz --kernels 6.1,7.3 --for 1h
  hostabi fuzz --kernels 6.1 --itself         two guests of one build: nothing may differ
  hostabi fuzz --sandbox user --group files --seed 7
  hostabi fuzz --kernels 6.1 --teeth 100      kernels made to differ: are they found?
A seed gives the same programs every time; a run goes on where the last one of its seed
stopped, after the programs of all earlier finds. What differs is made smaller, confirmed
in fresh guests, and kept with a C program in results/lockstep, whose README.md tells what
has a cause in kernels/lockstep.toml and what is open. Exit code 1 says that there are
differences nobody has explained.
"""
_UNITS = {"s": 1, "m": 60, "h": 3600}


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "fuzz",
        run,
        summary="run random programs on all kernels at once and tell where they part ways",
        examples=EXAMPLES,
    )
    parser.add_argument("--kernels", action="append", default=[], metavar="LIST")
    parser.add_argument(
        "--for", dest="seconds", type=_duration, default=600.0, metavar="TIME", help="10m"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the programs (1)")
    parser.add_argument("--sandbox", action="append", default=[], metavar="NAME")
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME", help="of syscalls; else all"
    )
    parser.add_argument(
        "--itself", action="store_true", help="each kernel against another guest of its own build"
    )
    parser.add_argument(
        "--confirm", type=int, default=3, metavar="N", help="fresh guests for each find (3)"
    )
    parser.add_argument(
        "--teeth", type=int, metavar="N", help="alter N calls, each on one of two guests, and look"
    )
    parser.add_argument("--results", metavar="DIR", help="where finds go (results/)")


def run(options: argparse.Namespace, context: Context) -> int:
    """Explore, confirm, tell; 1 when kernels differ and nobody explained it, or a guest failed."""
    from hostabi.results import lockstep
    from hostabi.runs.fuzz import causes

    wanted = kernels_wanted(options.kernels, context.packages)
    results = results_folder(options)
    folder = results / lockstep.FOLDER
    if options.teeth:
        with context.guests(options, alterable=True) as guests:
            code = _teeth(options, guests, wanted[0], folder)
        lockstep.write(results, causes.shipped())
        return code
    with context.guests(options) as guests:
        done = _sitting(options, guests, wanted, folder)
    lockstep.write(results, causes.shipped())
    for found, _, _ in done.found.values():
        shown = f", C program: {dict(found.exits)}" if found.exits else ""
        again = f"came again {found.confirmed} of {found.tried} times" if found.tried else ""
        sys.stdout.write(f"{found.name}: {again}{shown} {found.note}".rstrip() + "\n")
    sys.stdout.write(f"{done.count}; seed {done.plan.seed}, {folder}\n")
    differing = any(found.stands for found, _, _ in done.found.values())
    return 1 if differing or done.count.broken else 0


def _sitting(
    options: argparse.Namespace, guests: Guests, wanted: Sequence[str], folder: Path
) -> Fuzz:
    from hostabi.kernels.identity import is_running
    from hostabi.runs import sources
    from hostabi.runs.fuzz import causes, journal
    from hostabi.runs.fuzz.plan import Plan
    from hostabi.runs.fuzz.sandboxes import named
    from hostabi.runs.fuzz.sitting import Fuzz
    from hostabi.runs.fuzz.team import Team
    from hostabi.runs.journal import now
    from hostabi.syscalls.descriptions.programs import programs

    members = {spec: spec for spec in wanted}
    if options.itself:
        members |= {f"{spec}{journal.AGAIN}": spec for spec in wanted}
    elif len(members) < 2:
        raise InputError(
            "lockstep needs two kernels", advice="name more with --kernels, or give --itself"
        )
    builds = {name: guests.build(spec) for name, spec in members.items()}
    sandboxes = named(options.sandbox, guests.packages, beside_others=any(map(is_running, wanted)))
    began = journal.Began(
        seed=options.seed,
        started=now(),
        builds={name: build.name for name, build in builds.items()},
        source=sources.digest(sources.CAPTURES),
        sandboxes=tuple(sandboxes),
        groups=tuple(options.group),
        lines={name: build.line or name for name, build in builds.items()},
    )
    path = folder / journal.FILE
    before = list(journal.read(path))
    finds = [] if options.itself else _finds(before)
    with journal.Records(path) as records, Team(guests, members) as team:
        plan = Plan(
            seed=options.seed,
            sandboxes=sandboxes,
            strategies={
                name: programs(options.group, sandbox=box) for name, box in sandboxes.items()
            },
            lines=began.lines,
            folder=folder,
            start=_start(before, began),
            known=() if options.itself else causes.shipped(),
            before=[found for each in finds if each.stands and (found := each.among(members))],
            examples=finds,
            times=options.confirm,
        )
        records.add(began)
        fuzz = Fuzz(team, plan, records, guests.packages.cache, guests.progress)
        fuzz.run(options.seconds)
    return fuzz


def _teeth(options: argparse.Namespace, guests: Guests, spec: str, folder: Path) -> int:
    """Alterations, and how many of them were found; 1 when it is under 95 of 100."""
    from hostabi.kernels.identity import is_running
    from hostabi.runs.fuzz.plan import Plan
    from hostabi.runs.fuzz.sandboxes import named
    from hostabi.runs.fuzz.teeth import FILE, PROGRAMS, Teeth
    from hostabi.syscalls.descriptions.programs import programs

    boxes = named(options.sandbox, guests.packages, beside_others=is_running(spec))
    plan = Plan(
        seed=options.seed,
        sandboxes=boxes,
        strategies={name: programs(options.group, sandbox=box) for name, box in boxes.items()},
        lines={},
        folder=folder,
    )
    teeth = Teeth(guests, spec, plan, guests.packages.cache, options.group)
    good = count = 0
    for tooth in teeth.run(folder / FILE, options.teeth):
        count += 1
        good += tooth.good
        how = f"found, {tooth.calls} calls" if tooth.found else "NOT FOUND"
        sys.stdout.write(
            f"{tooth.index:4} {how:16} {tooth.programs:6} programs {tooth.seconds:6.1f} s"
            f"  {tooth.what}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{good} of {count} found within {PROGRAMS} programs, in 3 calls or fewer\n")
    return 0 if good >= 0.95 * count else 1


def _start(before: Sequence[Record], began: Began) -> int:
    """The chunk after the last one of a sitting like this one."""
    from hostabi.runs.fuzz.journal import Began, Went

    last, start = None, 0
    for record in before:
        if isinstance(record, Began):
            last = record
        elif isinstance(record, Went) and last is not None and _alike(last, began):
            start = record.next
    return start


def _alike(one: Began, other: Began) -> bool:
    return (one.seed, one.builds, one.source, one.sandboxes, one.groups) == (
        other.seed,
        other.builds,
        other.source,
        other.sandboxes,
        other.groups,
    )


def _finds(before: Sequence[Record]) -> list[Found]:
    """What was found before, each as it was told last."""
    from hostabi.runs.fuzz.journal import Found

    return list({each.name: each for each in before if isinstance(each, Found)}.values())


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m or 1h")
    return float(int(match[1]) * _UNITS[match[2] or "s"])
