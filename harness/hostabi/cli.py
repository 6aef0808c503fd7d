"""The ``hostabi`` command: reads the command line, runs a command, and settles the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from hostabi import __version__
from hostabi.commands import (
    bench,
    cache,
    capture,
    context,
    coverage,
    diff,
    doctor,
    exec_,
    explain,
    fuzz,
    kernels,
    report,
    reproduce,
    run,
    shell,
    steady,
    test,
)
from hostabi.commands.context import Context
from hostabi.errors import HostabiError, StorageError
from hostabi.results import terminal

COMMANDS = (
    run,
    test,
    kernels,
    capture,
    diff,
    explain,
    reproduce,
    report,
    coverage,
    exec_,
    shell,
    doctor,
    bench,
    steady,
    fuzz,
    cache,
)

EPILOG = """\
examples:
  hostabi run                        all six default lines: measure, compare, write tables
  hostabi run 6.1 6.12 --short       two lines, few examples
  hostabi kernels list               what is known, what is cached, what is newer
  hostabi diff 6.1 6.12              what 6.12 changes for what ran on 6.1
  hostabi diff running ./bzImage     what a kernel of yours changes against this one
  hostabi explain vm.memfd_noexec    where a fact is seen, since when, and why
  hostabi exec 6.1 -- uname -a       one command in a guest
  hostabi shell 7.2                  a shell in a guest
  hostabi doctor                     what is here and what is missing

exit codes:
  0 nothing broke   1 a break or a failing test   2 bad usage or input   3 could not find out
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    shared = context.common()
    top = argparse.ArgumentParser(
        prog="hostabi",
        description="What does a kernel change under the containers that run on it?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    top.add_argument("--version", action="version", version=f"hostabi {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands, shared)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        progress = terminal.progress() if options.bars else terminal.LineProgress()
        with progress:
            code: int = options.command(options, Context.of(options, progress))
        sys.stdout.flush()
    except HostabiError as error:
        sys.stderr.write(f"hostabi: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("hostabi: stopped; what was recorded stays recorded\n")
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain at exit.
        sys.stdout = None
        return 0
    except OSError as error:
        storage = StorageError(
            f"{error.filename or 'the system'}: {error.strerror or error}",
            advice="`hostabi doctor` shows folders and free space",
        )
        sys.stderr.write(f"hostabi: {storage}\n")
        return storage.exit_code
    return code


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the words. What follows -- is for the guest or for pytest, untouched.

    argparse alone cannot: which words it gives to a command's last argument, and
    what becomes of the --, differs between its versions.
    """
    cut = words.index("--") if "--" in words else len(words)
    options = parser().parse_args(words[:cut])
    rest = list(words[cut + 1 :])
    if options.command is exec_.run:
        options.argv = [*options.argv, *rest]
    elif options.command is test.run:
        options.arguments = rest
    elif rest:
        parser().error(f"this command takes no words after --: {' '.join(rest)}")
    return options


def script() -> NoReturn:
    """Entry for ``python -m hostabi.cli``."""
    sys.exit(main())


if __name__ == "__main__":
    script()
