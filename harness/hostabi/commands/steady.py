"""``hostabi steady``: captures of one build must not differ, however it is booted."""

from __future__ import annotations

import argparse
import sys

from hostabi.commands.context import Context, Parsers, command, kernels_wanted, results_folder

EXAMPLES = """\
  hostabi steady                       20 pairs of captures of each default line
  hostabi steady 6.1 --pairs 60
  hostabi steady 7.3 --surface sysctls
Each pair is of different boots: from power-on or restored, 1 or 2 CPUs, 512 or 1024 MiB. What
was measured is kept in results/steady until the sources change: stopped, it goes on from there.
Exit code 1 says that captures differ.
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "steady",
        run,
        summary="prove that captures of one build do not differ from boot to boot",
        examples=EXAMPLES,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="of each build (20)")
    parser.add_argument("--surface", action="append", default=[], metavar="NAME")
    parser.add_argument("--results", metavar="DIR", help="where looks and table go (results/)")


def run(options: argparse.Namespace, context: Context) -> int:
    """Measure, and tell of each build when it is done; 3 when one could not be measured."""
    from hostabi.errors import HostabiError
    from hostabi.results import steadiness
    from hostabi.runs import steady
    from hostabi.surfaces import registry

    chosen = steady.pairs(options.pairs)
    surfaces = registry.named(options.surface) if options.surface else registry.ALL
    folder = results_folder(options)
    found: list[steady.Steadiness] = []
    failed = False
    with context.guests(options) as guests:
        builds = [guests.build(spec) for spec in kernels_wanted(options.kernels, context.packages)]
        pool = steady.Pool(guests, folder / "steady", surfaces)
        for build, looks in pool.fill(builds, steady.needed(chosen)):
            if isinstance(looks, HostabiError):
                failed = True
                sys.stderr.write(f"hostabi: {build.name}: {looks}\n")
                continue
            found.append(steady.judge(chosen, looks))
            for line in steadiness.unsteady(found[-1:]):
                sys.stdout.write(f"{line}\n")
            context.progress.say(f"{build.name}: {len(chosen)} pairs, {found[-1].deltas} deltas")
    if found:
        sys.stdout.write(steadiness.table(found) + "\n")
    if found and not options.surface:
        context.progress.say(f"written: {steadiness.write(folder, found)}")
    if failed:
        return 3
    return 1 if any(build.deltas for build in found) else 0
