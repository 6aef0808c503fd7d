"""``hostabi kernels``: what is known, fetched and locked."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tabulate import tabulate

from hostabi.commands.context import Context, Parsers, command, kernels_wanted
from hostabi.errors import HostabiError, PackageError

if TYPE_CHECKING:
    from hostabi.kernels.listing import ListedLine

EXAMPLES = """\
  hostabi kernels list                 lines, their newest build, what is cached
  hostabi kernels list 6.1 6.12        every build of two lines that the suites list
  hostabi kernels list --all           every build of every line
  hostabi kernels fetch                the default lines
  hostabi kernels fetch 6.1.0-53 6.12 --flavour amd64
  hostabi kernels lock                 write down today's builds; `run --locked` uses them
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command and its three verbs."""
    parser = command(
        parsers,
        shared,
        "kernels",
        listing,
        summary="list, fetch and lock kernels",
        examples=EXAMPLES,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    list_ = command(verbs, shared, "list", listing, summary="show what is known and cached")
    list_.add_argument("lines", nargs="*", metavar="LINE", help="these lines, with every build")
    list_.add_argument("--all", action="store_true", help="every build, not only the newest")
    fetch_ = command(verbs, shared, "fetch", fetch, summary="fetch, verify and unpack")
    fetch_.add_argument("kernels", nargs="*", metavar="KERNEL")
    lock_ = command(verbs, shared, "lock", lock, summary="write the lock file")
    lock_.add_argument("kernels", nargs="*", metavar="LINE")
    lock_.add_argument("--kernel", action="append", default=[], metavar="LINE")


def listing(options: argparse.Namespace, context: Context) -> int:
    """Print all lines; 3 when none could be read."""
    from hostabi.kernels.build import DEFAULT_FLAVOUR
    from hostabi.kernels.listing import list_kernels
    from hostabi.kernels.lock import read_lock

    lines = list_kernels(
        context.packages,
        names=options.lines,
        flavour=context.flavour or DEFAULT_FLAVOUR,
        lock=read_lock(),
        every=options.all,
    )
    every = options.all or bool(options.lines)
    rows = []
    for line in lines:
        builds = line.builds if every else line.builds[:1]
        newest = line.newest
        if not every and newest is not None:
            builds = (newest,)
        kind = line.kind if line.tried else f"{line.kind}, not tried"
        head = f"{line.name}{' *' if line.default else ''}"
        for number, build in enumerate(builds):
            rows.append(
                [
                    head if number == 0 else "",
                    kind if number == 0 else "",
                    build.name,
                    build.abi,
                    build.suite,
                    f"{build.size / 1e6:.0f} MB" if build.size else "",
                    "yes" if build.cached else "no" if not build.missing else "gone",
                ]
            )
        if not builds:
            rows.append([head, kind, "-", "", "", "", ""])
    headers = ["line", "kind", "build", "ABI", "suite", "size", "cached"]
    sys.stdout.write(tabulate(rows, headers=headers, disable_numparse=True) + "\n\n")
    notes = [f"{line.name}: {note}\n" for line in lines if (note := _note(line))]
    sys.stdout.write("".join(["* measured by `hostabi run` when no kernel is named\n", *notes]))
    return 0 if any(line.builds for line in lines) else 3


def _note(line: ListedLine) -> str:
    """What is newer than what is at hand, and why a suite could not be read."""
    newer = " and ".join(
        text
        for text, name in (
            ("what is cached", line.newer_than_cached),
            ("the lock", line.newer_than_lock),
        )
        if name
    )
    return "; ".join(filter(None, (f"newer than {newer}" if newer else "", line.problem)))


def fetch(options: argparse.Namespace, context: Context) -> int:
    """Fetch several kernels side by side; the worst outcome is the exit code."""
    wanted = kernels_wanted(options.kernels, context.packages)
    code = 0
    with context.guests(options) as guests, ThreadPoolExecutor(max_workers=3) as pool:
        futures = {spec: pool.submit(guests.build, spec) for spec in wanted}
        for spec, future in futures.items():
            try:
                build = future.result()
            except HostabiError as error:
                sys.stderr.write(f"hostabi: {spec}: {error}\n")
                code = max(code, error.exit_code)
                continue
            note = f" ({build.note})" if build.note else ""
            sys.stdout.write(f"{spec}: {build.name}, {build.release}, {build.image}{note}\n")
    return code


def lock(options: argparse.Namespace, context: Context) -> int:
    """Write down the newest build of each line."""
    from hostabi.kernels.build import DEFAULT_FLAVOUR
    from hostabi.kernels.lock import make_lock, read_lock, write_lock
    from hostabi.runs.journal import now

    wanted = kernels_wanted([*options.kernels, *options.kernel], context.packages)
    made = make_lock(
        wanted,
        context.packages,
        written=now(),
        flavour=context.flavour or DEFAULT_FLAVOUR,
        keep=read_lock(),
    )
    if not made.build:
        raise PackageError("no build could be locked", advice="hostabi kernels list")
    path = write_lock(made)
    for build in made.build:
        sys.stdout.write(f"{build.line} ({build.flavour}): {build.name}\n")
    sys.stdout.write(f"written: {path}\n")
    return 0
