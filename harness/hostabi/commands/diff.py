"""``hostabi diff``: what one kernel changes against another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, image_options, journal_file

if TYPE_CHECKING:
    from hostabi.model import Capture
    from hostabi.runs.guests import Guests

EXAMPLES = """\
  hostabi diff 6.1 6.12                  boots both, unless the last run captured them
  hostabi diff old.json.zst new.json     two capture files
  hostabi diff 6.1 6.12 6.18 --json      each with the next one
  hostabi diff running ./bzImage         a kernel of yours against this machine's
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
    parser.add_argument("sides", nargs="+", metavar="KERNEL|FILE")
    parser.add_argument("--all", action="store_true", help="every finding by name")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="do not reuse captures of a run")
    parser.add_argument("--journal", metavar="FILE", help="whose captures to reuse")
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Compare each side with the next."""
    from hostabi.diff.verdict import judge_in_turn
    from hostabi.errors import InputError
    from hostabi.results import deltas, terminal

    if len(options.sides) < 2:
        raise InputError("diff needs two sides or more", advice="hostabi diff 6.1 6.12")
    with context.guests(options) as guests:
        sides = [_side(side, options, guests) for side in options.sides]
    verdicts = judge_in_turn(sides)
    if options.json:
        sys.stdout.write(deltas.as_json(verdicts).decode() + "\n")
    elif options.markdown:
        sys.stdout.write(deltas.markdown(verdicts, deltas.ALL if options.all else None))
    else:
        detail = deltas.ALL if options.all else None
        sys.stdout.write(deltas.terminal(verdicts, terminal.width(), detail))
    return 1 if any(verdict.open_breaks for verdict in verdicts) else 0


def _side(side: str, options: argparse.Namespace, guests: Guests) -> Capture:
    """A capture file, the capture of the last run, or a fresh capture."""
    from hostabi.diff import captures
    from hostabi.errors import MachineError
    from hostabi.runs import capture

    path = Path(side)
    if path.is_file() and path.name.endswith((".json", ".json.zst", ".zst")):
        return captures.load(path)
    build = guests.build(side)
    known = None if options.fresh else _recorded(journal_file(options), build.name)
    if known is not None:
        guests.progress.say(f"{build.name}: reusing {known}")
        return captures.load(known)
    taken = capture.take(guests, build)
    for surface, error in taken.failed.items():
        raise MachineError(f"{build.name}: surface {surface}: {error.message}") from error
    return taken.capture


def _recorded(path: Path, build: str) -> Path | None:
    from hostabi.runs import journal

    if not path.is_file():
        return None
    contents = journal.read(path)
    return journal.recorded_capture(path, contents.since(journal.source_digest()), build)
