"""``hostabi cache``: how large it is, and how to make it smaller."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tabulate import tabulate

from hostabi import resources
from hostabi.commands.context import Context, Parsers, command

if TYPE_CHECKING:
    from hostabi.packages.cache import Cache

EXAMPLES = """\
  hostabi cache size
  hostabi cache prune --days 30        remove what was not used for 30 days
  hostabi cache prune                  remove everything that is not in use
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command and its two verbs."""
    parser = command(
        parsers, shared, "cache", size, summary="size and prune the cache", examples=EXAMPLES
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    command(verbs, shared, "size", size, summary="bytes in use by kind")
    prune_ = command(verbs, shared, "prune", prune, summary="remove what is not in use")
    prune_.add_argument("--days", type=float, default=0.0, help="keep what was used since")


def _cache() -> Cache:
    from hostabi.packages.cache import Cache

    return Cache(resources.cache())


def size(_options: argparse.Namespace, _context: Context) -> int:
    """Print sizes by kind of content."""
    cache = _cache()
    rows = [[kind, f"{used / 1e6:.1f}"] for kind, used in cache.sizes().items()]
    rows.append(["all", f"{cache.size() / 1e6:.1f}"])
    table = tabulate(rows, headers=["kind", "MB"], colalign=("left", "right"))
    sys.stdout.write(f"{cache.root}\n\n{table}\n")
    return 0


def prune(options: argparse.Namespace, _context: Context) -> int:
    """Remove what was not used for a while."""
    cache = _cache()
    freed = cache.prune(options.days * 86400)
    sys.stdout.write(f"{cache.root}: {freed / 1e6:.1f} MB freed, {cache.size() / 1e6:.1f} left\n")
    return 0
