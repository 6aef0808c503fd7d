"""``hostabi capture``: all facts of a kernel in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hostabi.commands.context import Context, Parsers, command, image_options
from hostabi.errors import InputError

EXAMPLES = """\
  hostabi capture 6.1 -o old.json.zst
  hostabi capture ./bzImage --modules ./lib/modules/6.1.0-dev -o mine.json
  hostabi capture running --surface sysctls -o here.json
  hostabi capture 7.3 --static          only what the image tells; nothing is booted
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "capture",
        run,
        summary="boot one kernel and write its facts to a file",
        examples=EXAMPLES,
    )
    parser.add_argument("kernel", metavar="KERNEL")
    parser.add_argument("-o", "--output", metavar="FILE", help="BUILD.json.zst in this folder")
    parser.add_argument("--surface", action="append", default=[], metavar="NAME")
    parser.add_argument("--static", action="store_true", help="boot nothing")
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Capture one kernel; 3 when a surface could not be captured."""
    from hostabi.diff import captures
    from hostabi.runs import capture
    from hostabi.surfaces import registry

    surfaces = registry.named(options.surface) if options.surface else registry.ALL
    with context.guests(options) as guests:
        build = guests.build(options.kernel)
        taken = capture.take(guests, build, surfaces, static=options.static)
    path = captures.save(taken.capture, Path(options.output or f"{build.name}.json.zst"))
    rows = [f"  {name}: {len(facts)} facts" for name, facts in taken.capture.surfaces.items()]
    sys.stdout.write("\n".join([f"{build.name} in {taken.seconds:.1f} s: {path}", *rows]) + "\n")
    for surface, error in taken.failed.items():
        sys.stderr.write(f"hostabi: surface {surface}: {error}\n")
    if not taken.capture.surfaces and not taken.failed:
        raise InputError("no surface can be captured this way", advice="leave out --static")
    return 3 if taken.failed else 0
