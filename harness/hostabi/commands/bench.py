"""``hostabi bench``: how fast the harness is, against what it promises."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from tabulate import tabulate

from hostabi.commands.context import Context, Parsers, command, kernels_wanted

EXAMPLES = """\
  hostabi bench                        all measurements, on the default lines
  hostabi bench 6.1 --only cold --only warm
  hostabi bench --json bench.json
"""

PARTS = ("static", "cold", "warm", "wire", "lockstep")


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "bench",
        run,
        summary="measure the harness: boot, restore, wire, lockstep, reading an image",
        examples=EXAMPLES,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to a file")


def run(options: argparse.Namespace, context: Context) -> int:
    """Measure and print; 1 when a promise is not kept."""
    from hostabi.runs import bench

    wanted = kernels_wanted(options.kernels, context.packages)
    figures = []
    with context.guests(options) as guests:
        for name in options.only or PARTS:
            figures += bench.MEASURES[name](guests, wanted)
    rows = [
        [
            figure.what,
            figure.kernel,
            f"{figure.value:.3g} {figure.unit}".strip(),
            f"{'at least' if figure.higher else 'at most'} {figure.goal:g}",
            "ok" if figure.good else "MISSED",
            figure.note,
        ]
        for figure in figures
    ]
    headers = ["what", "kernel", "measured", "goal", "", "note"]
    sys.stdout.write(tabulate(rows, headers=headers, disable_numparse=True) + "\n")
    if options.json:
        data = msgspec.json.format(msgspec.json.encode(figures), indent=1)
        Path(options.json).write_bytes(data + b"\n")
    return 0 if all(figure.good for figure in figures) else 1
