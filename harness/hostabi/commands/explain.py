"""``hostabi explain``: all that is known of one fact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.commands.context import Context, Parsers, command, journal_file
from hostabi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostabi.diff.shallow import Shallow
    from hostabi.results.explained import Explanation, Library

EXAMPLES = """\
  hostabi explain sysctls:kernel.sched_child_runs_first
  hostabi explain CONFIG_MEMCG_V1        a key that only one surface has
  hostabi explain kernel.sched_          a list, where several are meant
  hostabi explain io_uring_disabled --capture old.json.zst new.json.zst
  hostabi explain syscalls:uselib --reproducer > uselib.c
Looks into the captures of the last run, else into the published ones.
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "explain",
        run,
        summary="tell where a fact is seen, what changed when, who is hit, and what is known",
        examples=EXAMPLES,
    )
    parser.add_argument("fact", metavar="FACT", help="[SURFACE:]KEY, or the beginning of it")
    parser.add_argument(
        "--capture",
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="captures to look into, oldest build first",
    )
    parser.add_argument("--journal", metavar="FILE", help="whose captures to look into")
    parser.add_argument(
        "--ledger", action="append", default=[], metavar="FILE", help="entries of your own as well"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="a long list whole")
    form.add_argument("--json", action="store_true")
    form.add_argument(
        "--reproducer", action="store_true", help="print a program that shows the fact"
    )


def run(options: argparse.Namespace, context: Context) -> int:
    """Explain one fact, or list those that may be meant."""
    import msgspec

    from hostabi.diff import ledger
    from hostabi.results import explained, reproducers, terminal

    library = explained.Library(tuple(_captures(options)))
    names = library.find(options.fact)
    own = ledger.shipped().with_own(map(Path, options.ledger))
    if len(names) > 1:
        if options.json or options.reproducer:
            raise InputError(
                f"{options.fact!r} is not one fact but {len(names)}",
                advice=f"name one: {', '.join(f'{where}:{key}' for where, key in names[:6])}",
            )
        sys.stdout.write(explained.listing(library, names, every=options.all))
        return 0
    told = library.explain(names[0], own)
    shown = [each for each in reproducers.measured() if explained.is_about(told, each)]
    told = msgspec.structs.replace(told, reproducers=tuple(shown))
    if options.json:
        data = msgspec.json.format(msgspec.json.encode(told), indent=1)
        sys.stdout.write(data.decode() + "\n")
    elif options.reproducer:
        sys.stdout.write(_reproducer(library, told))
    else:
        sys.stdout.write(explained.text(told, terminal.width()))
    return 0


def _captures(options: argparse.Namespace) -> Sequence[Shallow]:
    """The files named, else the last run's captures, else the published ones."""
    from hostabi.commands.sides import last_run
    from hostabi.diff.shallow import Shallow
    from hostabi.results import publication

    paths = [Path(name) for name in options.capture] or last_run(journal_file(options))
    if paths:
        return [Shallow.load(path) for path in paths]
    return [Shallow.of(capture) for capture in publication.captures()]


def _reproducer(library: Library, told: Explanation) -> str:
    """A program for the fact as the newest capture that has it tells it, else what is published."""
    from hostabi.results import reproducers
    from hostabi.surfaces import registry
    from hostabi.surfaces.reproducers import Reproducible

    facts = [one.fact for seen in list(told.seen.values())[:1] for one in seen if one.fact]
    (surface,) = registry.named([told.surface])
    found = surface.reproducer(facts[-1]) if isinstance(surface, Reproducible) and facts else None
    if found is None:
        texts = [reproducers.source(None, each) for each in told.reproducers]
        if any(texts):
            return next(filter(None, texts))
        raise InputError(
            f"there is no reproducer for {told.surface}:{told.subject}",
            advice="leave out --reproducer to see how it was determined",
        )
    return found.text
