"""``hostabi report``: tables from a journal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, journal_file, results_folder

if TYPE_CHECKING:
    from hostabi.diff.verdict import Verdict
    from hostabi.progress import Progress
    from hostabi.results.tables import Results
    from hostabi.runs.journal import Contents

EXAMPLES = """\
  hostabi report                       tables of the last run
  hostabi report --journal other.jsonl --results /tmp/tables
  hostabi report --readme              also the table in the checkout's README
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "report",
        run,
        summary="print and write the tables of what a journal holds, without measuring",
        examples=EXAMPLES,
    )
    parser.add_argument("--journal", metavar="FILE", help="the journal to read")
    parser.add_argument("--results", metavar="DIR", help="where the tables go (results/)")
    parser.add_argument(
        "--readme", action="store_true", help="also put a table into this checkout's README.md"
    )


def run(options: argparse.Namespace, context: Context) -> int:
    """Render a journal."""
    from hostabi.results.tables import Results
    from hostabi.runs import journal

    path = journal_file(options)
    contents = journal.read(path)
    if damage := contents.damage(path):
        context.progress.say(damage)
    contents = contents.since(contents.latest())
    names = [build.name for build in Results.of(contents).builds]
    compared = verdicts(path, contents, names)
    show(results_folder(options), contents, compared, context.progress)
    publish(results_folder(options), path, contents, names, context.progress)
    if options.readme:
        _publish(results_folder(options), Results.of(contents), compared, context.progress)
    return 0


def _publish(folder: Path, results: Results, compared: list[Verdict], progress: Progress) -> None:
    from hostabi import resources
    from hostabi.errors import InputError
    from hostabi.results import readme

    checkout = resources.checkout()
    if checkout is None or not folder.resolve().is_relative_to(checkout):
        raise InputError(
            f"{folder} is not in a checkout, whose README could point there",
            advice="leave out --readme, or leave out --results in a checkout",
        )
    page = folder.resolve().relative_to(checkout) / "README.md"
    readme.put(checkout / "README.md", readme.text(results, compared, str(page)))
    progress.say(f"written: {checkout / 'README.md'}")


def verdicts(journal: Path, contents: Contents, names: Iterable[str]) -> list[Verdict]:
    """Compare the captures of ``names``, each with the next newer one."""
    from hostabi.diff import captures
    from hostabi.diff.verdict import judge_in_turn
    from hostabi.results.tables import Results

    done = contents.captures()
    builds = [build.name for build in Results.of(contents, names).builds if build.name in done]
    return judge_in_turn([captures.load(journal.parent / done[name].file) for name in builds])


def publish(
    folder: Path, journal: Path, contents: Contents, names: Iterable[str], progress: Progress
) -> None:
    """Write beside the tables the captures of ``names`` as text, and the replays they link."""
    from hostabi.diff import captures
    from hostabi.results import conformance, conformance_page, publication, tables
    from hostabi.runs.journal import recorded_capture

    files = [recorded_capture(journal, contents, name) for name in names]
    written = publication.publish(folder, [captures.load(file) for file in files if file])
    if written:
        progress.say(f"facts written to {written[0].parent}: {len(written)} files")
    grid = conformance.Grid(tables.Results.of(contents))
    linked = [journal.parent / name for name in conformance_page.replays(grid)]
    publication.replays(folder / conformance_page.REPLAYS, linked)


def show(folder: Path, contents: Contents, compared: list[Verdict], progress: Progress) -> None:
    """Print the tables, and write the pages to ``folder``."""
    from hostabi.results import (
        conformance,
        conformance_page,
        deltas,
        lockstep,
        pages,
        tables,
        terminal,
    )
    from hostabi.runs.fuzz import causes

    results = tables.Results.of(contents)
    width = terminal.width()
    parts = [tables.kernels(results), tables.matrix(results, width=width)]
    remarks = tables.remarks(results, width=width, without=conformance.SUITE)
    remarks += conformance_page.lines(conformance.Grid(results), width, folder)
    parts += ["\n".join(remarks)] if remarks else []
    if compared:
        parts.append(deltas.summary(compared))
    if opened := deltas.open_breaks(compared):
        parts.append(f"{opened}\n\nThe ledger does not expect these; all deltas are in deltas.md.")
    if results.ended is None:
        parts.append("The run did not come to its end: this is a part of it.")
    sys.stdout.write("\n\n".join(parts) + "\n")
    sys.stdout.flush()
    written = pages.write(folder, results, compared)
    progress.say(f"tables written to {folder}: {', '.join(path.name for path in written)}")
    lockstep.write(folder, causes.shipped())
