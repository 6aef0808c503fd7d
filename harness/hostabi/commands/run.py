"""``hostabi run``: measure kernels, compare them, write the tables."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hostabi.commands.context import (
    Context,
    Parsers,
    command,
    image_options,
    journal_file,
    kernels_wanted,
    results_folder,
)

if TYPE_CHECKING:
    from hostabi.runs.plan import Options, Report

EXAMPLES = """\
  hostabi run                          the six default lines
  hostabi run 6.1 6.12                 two lines
  hostabi run 6.12 ./linux.deb         a kernel package of yours against 6.12
  hostabi run --short --jobs 1         few examples, one guest at a time
  hostabi run --suite conformance --runtime crun
A run that was stopped goes on where it stopped; a second one measures only what is new.
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "run",
        run,
        summary="fetch kernels, boot them, measure, compare, and write tables",
        examples=EXAMPLES,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="line, version, path, running")
    parser.add_argument("--suite", action="append", choices=("syscalls", "conformance", "surfaces"))
    parser.add_argument("--runtime", action="append", default=[], help="OCI runtime or path to one")
    parser.add_argument("--engine", action="append", default=[], help="container engine")
    parser.add_argument(
        "--rootless",
        choices=("without", "with", "only"),
        default="without",
        help="also, or only, have an ordinary user call the runtimes: crun (rootless)",
    )
    parser.add_argument("--short", action="store_true", help="few examples, no slow tests")
    parser.add_argument("--no-captures", action="store_true", help="run the suites only")
    parser.add_argument("--no-suites", action="store_true", help="capture and compare only")
    parser.add_argument("--fresh", action="store_true", help="begin a new journal")
    parser.add_argument("--locked", action="store_true", help="builds of the lock file only")
    parser.add_argument("--journal", metavar="FILE", help="where results are recorded")
    parser.add_argument("--results", metavar="DIR", help="where journal and tables go (results/)")
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Do a run and report it."""
    from hostabi.commands import report
    from hostabi.runs import plan
    from hostabi.runs.journal import Journal

    path = journal_file(options)
    with Journal.open(path, short=options.short) as journal, context.guests(options) as guests:
        if journal.damage:
            context.progress.say(journal.damage)
        if options.fresh:
            journal.forget()
        journal.begin(accelerator=context.accel, arguments=sys.argv[1:])
        wanted = _options(options, kernels_wanted(options.kernels, context.packages))
        context.progress.say(
            f"kernels: {', '.join(wanted.specs)}; {guests.jobs} at a time; journal: {path}"
        )
        one = plan.Run(wanted, guests, journal, context.progress)
        done = one.execute()
        contents = journal.contents().since(journal.digests)
        verdicts = report.verdicts(journal.path, contents, [build.name for build in done.builds])
        breaks = sum(len(verdict.open_breaks) for verdict in verdicts)
        code = plan.exit_code(done, contents, breaks)
        one.finish(code)
        contents = journal.contents().since(journal.digests)
    report.show(results_folder(options), contents, verdicts, context.progress)
    names = [build.name for build in done.builds]
    report.publish(results_folder(options), path, contents, names, context.progress)
    _say_reuse(done, context)
    return code


def _options(options: argparse.Namespace, specs: tuple[str, ...]) -> Options:
    from hostabi.runs import plan

    arguments = ["--short"] if options.short else []
    for name in options.runtime:
        arguments += ["--runtime", name]
    for name in options.engine:
        arguments += ["--engine", name]
    if options.rootless != "without":
        arguments += ["--rootless", options.rootless]
    return plan.Options(
        specs=specs,
        suites=() if options.no_suites else tuple(options.suite or plan.SUITES),
        captures=not options.no_captures,
        arguments=tuple(arguments),
    )


def _say_reuse(done: Report, context: Context) -> None:
    reused = len(done.reused)
    if reused and not done.captured:
        context.progress.say(f"nothing new to capture: {reused} captures were reused")
    for what, why in done.failed.items():
        context.progress.say(f"could not find out: {what}: {why}")
