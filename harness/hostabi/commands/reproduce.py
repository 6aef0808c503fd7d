"""``hostabi reproduce``: run the programs that show breaks, on every kernel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hostabi.commands.context import (
    Context,
    Parsers,
    command,
    image_options,
    journal_file,
    kernels_wanted,
    results_folder,
)

EXAMPLES = """\
  hostabi reproduce                          every break between the default kernels
  hostabi reproduce 6.1 6.12 7.3             between these
  hostabi reproduce --fact sockets:inet6     only facts whose name begins so
  hostabi reproduce 6.1 6.12 -o here         the programs, and a page, in a folder
The programs are C or shell and need nothing of hostabi. What a build was asked before
with the same program is not run again. exit code 3: one of them says another thing
than the captures do
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "reproduce",
        run,
        summary="run the programs that show each break on every kernel",
        examples=EXAMPLES,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--fact", action="append", default=[], metavar="SURFACE:KEY")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="default: the results' folder, for all"
    )
    parser.add_argument("--journal", metavar="FILE", help="whose captures to reuse")
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Make and run reproducers; 3 when one of them disagrees with a capture."""
    from hostabi.commands.sides import Sides
    from hostabi.diff.verdict import judge_in_turn
    from hostabi.model import Class
    from hostabi.results import reproducers
    from hostabi.runs.reproduce import reproduce, subjects

    with context.guests(options) as guests:
        specs = kernels_wanted(options.kernels, guests.packages)
        sides = Sides(guests, journal_file(options))
        captures = {capture.build: capture for capture in map(sides.get, specs)}
        verdicts = judge_in_turn(list(captures.values()))
        wanted = [
            subject
            for subject in subjects(f for verdict in verdicts for f in verdict.of(Class.BREAK))
            if not options.fact or any(subject.name.startswith(name) for name in options.fact)
        ]
        shown, lacking = reproduce(
            guests, wanted, captures, dict(zip(captures, specs, strict=True)), guests.progress
        )
    place = ""
    if options.output or not options.fact:  # what is published is never a part of them
        folder = Path(options.output) if options.output else results_folder(options)
        place = f": {reproducers.write(folder, shown, lacking, list(captures))}"
    wrong = [each for each in shown if each.disagreeing]
    for each in wrong:
        sys.stdout.write(f"{each.subject.name}: disagrees on {', '.join(each.disagreeing)}\n")
    for none in lacking:
        sys.stdout.write(f"{none.subject.name}: no reproducer: {none.why}\n")
    sys.stdout.write(
        f"{len(shown)} reproducers on {len(captures)} kernels, {len(wrong)} disagree, "
        f"{len(lacking)} breaks have none{place}\n"
    )
    return 3 if wrong else 0
