"""``hostabi capture``: all facts of a kernel in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, image_options
from hostabi.errors import InputError
from hostabi.model import Kind

if TYPE_CHECKING:
    from hostabi.model import Capture, Variant

_LEAST, _MOST = 128, 1 << 20
"""MiB of RAM: below, no kernel here finds room for its initramfs."""

EXAMPLES = """\
  hostabi capture 6.1 -o old.json.zst
  hostabi capture ./bzImage --modules ./lib/modules/6.1.0-dev -o mine.json
  hostabi capture running --surface sysctls -o here.json
  hostabi capture 7.3 --static          only what the image tells; nothing is booted
  hostabi capture 7.3 --memory 2048     what the kernel derives from hardware, for that hardware
A second look, at a twin with other RAM and CPUs, tells which values follow the hardware and
which move by themselves; --no-twin takes the surfaces' word for it, in half the time.
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
    parser.add_argument("--no-twin", action="store_true", help="one look has to do")
    parser.add_argument("--cpus", type=int, choices=range(1, 65), metavar="N", help="else 2")
    parser.add_argument("--memory", type=int, metavar="MIB", help="RAM of the guest, else 512")
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Capture one kernel; 3 when a surface could not be captured."""
    from hostabi.diff import captures
    from hostabi.runs import capture
    from hostabi.surfaces import registry

    surfaces = registry.named(options.surface) if options.surface else registry.ALL
    with context.guests(options) as guests:
        build = guests.build(options.kernel)
        taken = capture.take(
            guests,
            build,
            surfaces,
            static=options.static,
            twin=not options.no_twin,
            hardware=_hardware(options),
        )
    path = captures.save(taken.capture, Path(options.output or f"{build.name}.json.zst"))
    took = taken.by_surface
    rows = [
        f"  {name}: {len(facts)} facts in {took[name]:.2f} s"
        for name, facts in taken.capture.surfaces.items()
    ]
    look = f"a look takes {sum(took.values()):.1f} s; {_twin(taken.capture)}"
    lines = [f"{build.name} in {taken.seconds:.1f} s: {path}", *rows, look]
    sys.stdout.write("\n".join(lines) + "\n")
    for surface, error in taken.failed.items():
        sys.stderr.write(f"hostabi: surface {surface}: {error}\n")
    if not taken.capture.surfaces and not taken.failed:
        raise InputError("no surface can be captured this way", advice="leave out --static")
    return 3 if taken.failed else 0


def _hardware(options: argparse.Namespace) -> Variant:
    from msgspec.structs import replace

    from hostabi.runs.capture import VARIANT

    wanted = replace(
        VARIANT, cpus=options.cpus or VARIANT.cpus, memory=options.memory or VARIANT.memory
    )
    if not _LEAST <= wanted.memory <= _MOST:
        raise InputError(
            f"a guest cannot have {wanted.memory} MiB",
            advice=f"--memory takes {_LEAST} to {_MOST}",
        )
    return wanted


def _twin(capture: Capture) -> str:
    if capture.twin is None:
        return "no twin"
    follow = sum(
        fact.kind is Kind.HARDWARE for facts in capture.surfaces.values() for fact in facts
    )
    moving = sum(
        fact.kind is Kind.VOLATILE for facts in capture.surfaces.values() for fact in facts
    )
    return f"with the twin, {follow} facts follow the hardware and {moving} move by themselves"
