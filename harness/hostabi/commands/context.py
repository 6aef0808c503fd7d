"""What every command shares: its options, and the packages, guests and progress they lead to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hostabi import resources
from hostabi.progress import SILENT, Progress

if TYPE_CHECKING:
    from hostabi.guest.disk import Disk
    from hostabi.packages.context import Packages
    from hostabi.runs.guests import Guests

Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command is added to."""


Command: TypeAlias = "Callable[[argparse.Namespace, Context], int]"
"""Does a command's work and returns the exit code. Raises HostabiError."""


def common() -> argparse.ArgumentParser:
    """Options that every command takes, before or after its name."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("options of every command")
    group.add_argument(
        "--mirror", metavar="URL", help="of the Debian archive; else HOSTABI_MIRROR, else apt's"
    )
    group.add_argument("--cache", metavar="DIR", help="else HOSTABI_CACHE, else ~/.cache/hostabi")
    group.add_argument(
        "--accel",
        choices=("auto", "kvm", "tcg"),
        help="how guests run; auto tries KVM by booting a kernel (default)",
    )
    group.add_argument(
        "--jobs", type=_positive, metavar="N", help="guests at work at a time (cores and memory)"
    )
    group.add_argument("--flavour", help="of a line's kernel package (cloud-amd64)")
    return parser


@dataclass(frozen=True)
class Context:
    """What the common options came to."""

    progress: Progress = SILENT
    mirror: str | None = None
    accel: str = "auto"
    jobs: int | None = None
    flavour: str = ""

    @classmethod
    def of(cls, options: argparse.Namespace, progress: Progress) -> Context:
        """Read the options. ``--cache`` is put into the environment, for children to see."""
        given = vars(options)
        if "cache" in given:
            os.environ["HOSTABI_CACHE"] = str(Path(given["cache"]).resolve())
        return cls(
            progress=progress,
            mirror=given.get("mirror"),
            accel=given.get("accel", "auto"),
            jobs=given.get("jobs"),
            flavour=given.get("flavour", ""),
        )

    @property
    def packages(self) -> Packages:
        """Debian packages; nothing is fetched by asking for them."""
        from hostabi.packages.context import Packages

        return Packages.open(self.mirror, progress=self.progress)

    @contextmanager
    def guests(
        self,
        options: argparse.Namespace,
        *,
        runtimes: Sequence[str] | None = None,
        engines: Sequence[str] | None = None,
        alterable: bool = False,
    ) -> Iterator[Guests]:
        """Guests; with the disks of ``runtimes`` and ``engines`` that are given. All are gone
        afterwards.

        ``alterable`` gives them the agent's build for tests.
        """
        from hostabi.kernels.lock import read_lock
        from hostabi.runs.guests import Guests

        packages = self.packages
        given = vars(options)

        def disks() -> list[Disk]:
            from hostabi.oci.disk import engines_disk, runtimes_disk

            first = [] if runtimes is None else [runtimes_disk(packages, runtimes)]
            return [*first, *([] if engines is None else [engines_disk(packages, engines)])]

        with Guests(
            packages,
            accel=self.accel,
            jobs=self.jobs,
            flavour=self.flavour,
            modules=_path(given.get("modules")),
            config=_path(given.get("config")),
            lock=read_lock() if given.get("locked") else None,
            disks=disks,
            progress=self.progress,
            alterable=alterable,
        ) as guests:
            yield guests


def image_options(parser: argparse.ArgumentParser) -> None:
    """Options that go with a kernel image of the user's own."""
    parser.add_argument("--modules", metavar="DIR", help="lib/modules/RELEASE of a kernel image")
    parser.add_argument("--config", metavar="FILE", help="configuration of a kernel image")


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None


def kernels_wanted(names: Sequence[str], packages: Packages) -> tuple[str, ...]:
    """The kernels named on the command line, or the default lines when none is."""
    from hostabi.kernels.catalogue import default_lines
    from hostabi.runs.guests import split_specs

    lines = default_lines(packages) if not names or "all" in names else ()
    chosen = [name for given in names for name in (lines if given == "all" else [given])]
    return split_specs(chosen) or tuple(lines)


def results_folder(options: argparse.Namespace) -> Path:
    """Where journal, captures and tables go."""
    given = vars(options).get("results")
    return Path(given) if given else resources.results()


def journal_file(options: argparse.Namespace) -> Path:
    """The journal: ``--journal``, else in the results' folder."""
    given = vars(options).get("journal")
    return Path(given) if given else results_folder(options) / "journal.jsonl"


def command(
    parsers: Parsers,
    shared: argparse.ArgumentParser,
    name: str,
    run: Command,
    *,
    summary: str,
    examples: str = "",
    bars: bool = True,
) -> argparse.ArgumentParser:
    """Add a subcommand. ``bars`` is false where another process draws on the terminal."""
    parser: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.set_defaults(command=run, bars=bars)
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
