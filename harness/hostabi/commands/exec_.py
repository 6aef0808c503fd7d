"""``hostabi exec``: one command in a guest."""

from __future__ import annotations

import argparse
import sys

from hostabi.commands.context import Context, Parsers, command, image_options
from hostabi.commands.replaying import chosen, lay, replay_option
from hostabi.errors import InputError
from hostabi.kernels.identity import RUNNING

EXAMPLES = """\
  hostabi exec 6.1 -- uname -a
  hostabi exec 7.3 --runtimes -- ls /runtimes
  echo hello | hostabi exec 6.12 -- cat
  hostabi exec 6.12 --replay FILE      what a failing conformance test ran, once more
The guest has busybox. The exit code is the command's, or 128 and the signal's number.
"""

_SHELL = ("/bin/busybox", "sh", "-c", 'exec "$@"', "sh")
"""Looks the command up, as a file of the guest or as one of busybox's own."""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "exec",
        run,
        summary="run one command in a guest and print what it prints",
        examples=EXAMPLES,
    )
    parser.add_argument("kernel", metavar="KERNEL")
    parser.add_argument("argv", nargs="*", metavar="COMMAND", help="after --", default=[])
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--runtimes", action="store_true", help="with the runtimes' disk")
    replay_option(parser)
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Run a command and hand its output and status on."""
    argv, asked = options.argv, chosen(options)
    if not argv and asked.replay is None:
        raise InputError("no command is given", advice="hostabi exec 6.1 -- uname -a")
    if asked.replay is not None and options.kernel == RUNNING:
        raise InputError("--replay needs a guest", advice="name a line such as 6.12")
    stdin = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    with (
        context.guests(options, runtimes=asked.runtimes, engines=asked.engines) as guests,
        guests.agent(options.kernel, asked.variant) as agent,
    ):
        argv = lay(agent, asked).decode().split() or argv
        if options.kernel != RUNNING:
            argv = [*_SHELL, *argv]
        done = agent.command(argv, env=_ENVIRONMENT, stdin=stdin, timeout=options.timeout)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.flush()
    if done.timed_out:
        sys.stderr.write(f"hostabi: stopped after {options.timeout:g} s (--timeout)\n")
        return 124
    return 128 + done.signal if done.signal else done.status
