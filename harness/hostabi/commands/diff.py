"""``hostabi diff``: what one kernel changes against another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, image_options, journal_file
from hostabi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostabi.commands.sides import Sides
    from hostabi.diff.verdict import Verdict
    from hostabi.model import Capture

EXAMPLES = """\
  hostabi diff 6.1 6.12                  boots both, unless the last run captured them
  hostabi diff 6.1.170 6.1.192           two point releases; any version that an index lists
  hostabi diff --releases 6.1            each point release of a line with the next
  hostabi diff 6.12 6.12-amd64           one flavour against another
  hostabi diff old.json.zst new.json     two capture files
  hostabi diff published:6.12 ./mine.deb a build of yours against what is published
  hostabi diff --static ./old.deb ./new.deb   only what the images tell; nothing is booted
  hostabi diff 6.1 6.12 6.18 --json      each with the next one
  hostabi diff running ./bzImage         a kernel of yours against this machine's
  hostabi diff 6.1 6.12 --open 3         the third line in full, with rule, evidence and ledger
  hostabi diff 6.1 6.12 --ledger my.toml what you expect beside what is known
A line of the table is one cause; its number opens it. Classes: a break is something that worked
and does not, or not as it did; `hostabi explain FACT` tells more about one fact. The form of
--json is the JSON Schema that --json-schema prints.
exit code 1 says that something breaks which the ledger does not expect
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "diff",
        run,
        summary="compare kernels or capture files, gravest findings first",
        examples=EXAMPLES,
    )
    parser.add_argument("sides", nargs="*", metavar="KERNEL|FILE")
    what = parser.add_argument_group("what is compared")
    what.add_argument("--releases", metavar="LINE", help="each point release with the next")
    what.add_argument("--static", action="store_true", help="only what images tell; boot nothing")
    what.add_argument(
        "--surface", action="append", default=[], metavar="NAME", help="this one only; repeatable"
    )
    what.add_argument("--fresh", action="store_true", help="do not reuse captures of a run")
    what.add_argument("--journal", metavar="FILE", help="whose captures to reuse")
    what.add_argument(
        "--ledger",
        action="append",
        default=[],
        metavar="FILE",
        help="expect what is in it as well; repeatable",
    )
    image_options(parser)
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--all", action="store_true", help="every finding by name")
    shown.add_argument("--open", metavar="N|NAME", help="a line, a surface or a key in full")
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs; see --json-schema")
    form.add_argument("--markdown", action="store_true")
    form.add_argument(
        "--junit", action="store_true", help="XML for a CI: a break is a failing case"
    )
    form.add_argument("--json-schema", action="store_true", help="print the form of --json")
    shown.add_argument(
        "-o", "--output", metavar="FILE", help="write the form there, and the table to the terminal"
    )


def run(options: argparse.Namespace, context: Context) -> int:
    """Compare each side with the next; 1 for an open break, 3 when something was not found out."""
    if options.json_schema:
        from hostabi.results import findings

        sys.stdout.write(findings.schema().decode())
        return 0
    _check(options)
    from hostabi.diff import ledger as ledgers
    from hostabi.diff.verdict import judge_in_turn

    ledger = ledgers.shipped().with_own(map(Path, options.ledger))
    captures, complete = _captures(options, context)
    verdicts = judge_in_turn(captures, ledger=ledger)
    _show(options, verdicts)
    if any(verdict.open_breaks for verdict in verdicts):
        return 1
    return 0 if complete else 3


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options that do not go together."""
    if options.releases and options.sides:
        raise InputError(
            "--releases takes the place of kernels to compare", advice="hostabi diff --releases 6.1"
        )
    if not options.releases and len(options.sides) < 2:
        raise InputError("diff needs two sides or more", advice="hostabi diff 6.1 6.12")
    if options.output and not (options.json or options.markdown or options.junit):
        raise InputError(
            "--output needs a form to write", advice="add --json, --markdown or --junit"
        )


def _captures(options: argparse.Namespace, context: Context) -> tuple[list[Capture], bool]:
    """The captures to compare, and whether they are whole."""
    from hostabi.commands.sides import is_stored, only, stored

    # What is there already needs no guests, and not the time to get ready for some.
    if options.sides and all(map(is_stored, options.sides)):
        captures = [only(stored(name), options.surface) for name in options.sides]
        complete = True
    else:
        captures, complete = _taken(options, context)
    if not any(capture.surfaces for capture in captures):
        raise InputError(
            "nothing was captured that could be compared",
            advice="leave out --static, or name another --surface",
        )
    return captures, complete


def _taken(options: argparse.Namespace, context: Context) -> tuple[list[Capture], bool]:
    """Captures of which some have to be taken first, and whether all could be taken whole."""
    from hostabi.commands.sides import Sides, point_releases

    with context.guests(options) as guests:
        sides = Sides(
            guests=guests,
            journal=journal_file(options),
            surfaces=options.surface,
            fresh=options.fresh,
            static=options.static,
        )
        if options.releases:
            specs = point_releases(options.releases, guests.packages, context.flavour)
            captures = sides.releases(specs)
        else:
            captures = sides.all(options.sides)
    _say_failures(sides)
    return captures, not sides.failed


def _say_failures(sides: Sides) -> None:
    for (build, surface), error in sides.failed.items():
        sys.stderr.write(f"hostabi: {build}: {surface} could not be captured: {error}\n")


def _show(options: argparse.Namespace, verdicts: Sequence[Verdict]) -> None:
    form = _form(options, verdicts)
    if options.output:
        Path(options.output).write_bytes(form)
    elif form:
        sys.stdout.write(form.decode())
        return
    from hostabi.results import deltas, story, terminal

    width = terminal.width()
    if options.open:
        text = deltas.in_full(verdicts, options.open, width)
        if not text:
            raise InputError(
                f"no line, surface or key of this diff is called {options.open!r}",
                advice="the first column of the table has the numbers; --all names every key",
            )
        sys.stdout.write(text + "\n")
    else:
        detail = story.ALL if options.all else None
        sys.stdout.write(deltas.terminal(verdicts, width, detail))


def _form(options: argparse.Namespace, verdicts: Sequence[Verdict]) -> bytes:
    """What was asked for besides the table; empty when nothing was."""
    from hostabi.results import deltas, findings, junit, story

    if options.json:
        return findings.as_json(verdicts) + b"\n"
    if options.junit:
        return junit.as_junit(verdicts)
    if options.markdown:
        return deltas.markdown(verdicts, story.ALL if options.all else None).encode()
    return b""
