"""What ``shell`` and ``exec`` have in common: a guest in which a failed test is run again."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.model import Variant

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.oci.replay import Replay


@dataclass(frozen=True)
class Chosen:
    """What the options ask for: disks with these runtimes, beside the usual ones, and with these
    engines; None for no such disk."""

    runtimes: tuple[str, ...] | None
    engines: tuple[str, ...] | None = None
    variant: Variant = Variant()
    replay: Replay | None = None


def replay_option(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="run what a failing conformance test ran: a path that its failure printed",
    )


def chosen(options: argparse.Namespace) -> Chosen:
    """Read the options. Raises InputError for a file that is no failure."""
    from hostabi.oci.replay import load

    if options.replay is None:
        return Chosen(() if options.runtimes else None)
    replay = load(options.replay)
    if replay.engine:
        return Chosen(None, (replay.engine,), replay.variant, replay)
    return Chosen((replay.runtime,), None, replay.variant, replay)


def lay(agent: Agent, asked: Chosen) -> bytes:
    """Put the files of the replay into the guest; the line for its shell that runs them."""
    from hostabi.oci.replay import PLACE, SCRIPT

    if asked.replay is None:
        return b""
    agent.command(["/bin/busybox", "mkdir", "-p", PLACE])
    for path, content in asked.replay.files().items():
        agent.write(path, content)
    return f"sh {SCRIPT}\n".encode()
