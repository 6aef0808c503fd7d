"""``hostabi coverage``: which topics of the OCI runtime specification have tests."""

from __future__ import annotations

import argparse
import sys

from hostabi.commands.context import Context, Parsers, command

EXAMPLES = """\
  hostabi coverage                     every topic with its tests, or why it has none
  hostabi coverage --open              only what could be tested and is not yet
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "coverage",
        run,
        summary="what of the OCI runtime specification the conformance suite tests",
        examples=EXAMPLES,
    )
    parser.add_argument("--open", action="store_true", help="only topics that are not covered yet")


def run(options: argparse.Namespace, context: Context) -> int:
    """Print the table."""
    from hostabi.oci import coverage
    from hostabi.results import topics

    del context
    found = coverage.topics()
    shown = [topic for topic in found if topic.state == "open"] if options.open else found
    sys.stdout.write(f"{topics.table(shown)}\n\n{topics.summary(found)}\n")
    return 0
