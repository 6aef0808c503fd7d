"""``hostabi shell``: a shell in a guest, on this terminal."""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from hostabi.commands.context import Context, Parsers, command, image_options
from hostabi.commands.replaying import chosen, lay, replay_option
from hostabi.errors import InputError

LEAVE = b"\x1d"
"""Ctrl-], as in telnet."""

EXAMPLES = """\
  hostabi shell 6.1
  hostabi shell 7.3 --runtimes         the runtimes' trees are in /runtimes
  hostabi shell 6.12 --replay FILE     what a failing conformance test ran, once more
Leave with Ctrl-] or exit; the guest is thrown away.
"""


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "shell",
        run,
        summary="open a shell in a guest",
        examples=EXAMPLES,
    )
    parser.add_argument("kernel", metavar="KERNEL")
    parser.add_argument("--runtimes", action="store_true", help="with the runtimes' disk")
    replay_option(parser)
    parser.set_defaults(bars=False)
    image_options(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Connect this terminal with the guest's."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("shell needs a terminal", advice="use `hostabi exec KERNEL -- COMMAND`")
    replay = chosen(options)
    with (
        context.guests(options, runtimes=replay.runtimes, engines=replay.engines) as guests,
        guests.machine(options.kernel, replay.variant) as machine,
    ):
        typed = lay(machine.agent, replay)
        machine.agent.shell()
        machine.shell_socket.sendall(typed)
        sys.stdout.write(f"{machine.build.release}; leave with Ctrl-]\r\n")
        sys.stdout.flush()
        with raw_terminal(sys.stdin.fileno()):
            relay(machine.shell_socket, sys.stdin.fileno(), sys.stdout.fileno())
        sys.stdout.write("\r\n")
    return 0


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Pass every key on unseen, and put the terminal back whatever happens (termios(3))."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def relay(guest: socket.socket, keys: int, screen: int) -> None:
    """Copy both ways until Ctrl-], the end of input, or the end of the guest, which exit brings."""
    with selectors.DefaultSelector() as selector:
        selector.register(guest, selectors.EVENT_READ)
        selector.register(keys, selectors.EVENT_READ)
        while True:
            for ready, _ in selector.select():
                if ready.fileobj is guest:
                    try:
                        data = guest.recv(65536)
                    except ConnectionError:  # it ended with keys not read
                        data = b""
                    if not data:
                        return
                    os.write(screen, data)
                else:
                    typed = os.read(keys, 4096)
                    before, found, _ = typed.partition(LEAVE)
                    try:
                        guest.sendall(before)
                    except ConnectionError:
                        return
                    if found or not typed:
                        return
