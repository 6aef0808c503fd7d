"""``hostabi bench``: how fast the harness is, against what it promises."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi.commands.context import Context, Parsers, command, kernels_wanted
from hostabi.errors import HostabiError, InputError

if TYPE_CHECKING:
    from hostabi.runs.figure import Figure

EXAMPLES = """\
  hostabi bench                        all measurements, on the default lines
  hostabi bench 6.1 --only cold --only warm
  hostabi bench --json bench.json
"""

_LINE = "{:13} {:18} {:>14}  {:12}  {:6}  {}"


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "bench",
        run,
        summary="measure the harness: boot, restore, wire, lockstep, captures and their diff",
        examples=EXAMPLES,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument(
        "--only", action="append", metavar="WHAT", help="one measurement; may be repeated"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to a file")


def run(options: argparse.Namespace, context: Context) -> int:
    """Measure, and print each part as it ends; 1 when a promise is not kept, 3 when one failed."""
    from hostabi.runs.bench import MEASURES

    names = options.only or list(MEASURES)
    if unknown := [name for name in names if name not in MEASURES]:
        raise InputError(
            f"no measurement is called {', '.join(unknown)}",
            advice=f"there are {', '.join(MEASURES)}",
        )
    wanted = kernels_wanted(options.kernels, context.packages)
    sys.stdout.write(_LINE.format("what", "kernel", "measured", "goal", "", "note") + "\n")
    figures: list[Figure] = []
    failed = False
    with context.guests(options) as guests:
        for name in names:
            try:
                part = MEASURES[name](guests, wanted)
            except HostabiError as error:
                failed = True
                lines = [_LINE.format(name, "", "-", "", "FAILED", error.message)]
            else:
                figures += part
                lines = [_line(figure) for figure in part]
            sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))
            sys.stdout.flush()
            if options.json:
                data = msgspec.json.format(msgspec.json.encode(figures), indent=1)
                Path(options.json).write_bytes(data + b"\n")
    if failed:
        return 3
    return 0 if all(figure.good for figure in figures) else 1


def _line(figure: Figure) -> str:
    return _LINE.format(
        figure.what,
        figure.kernel,
        f"{figure.value:.3g} {figure.unit}".strip(),
        f"{'at least' if figure.higher else 'at most'} {figure.goal:g}",
        "ok" if figure.good else "MISSED",
        figure.note,
    )
