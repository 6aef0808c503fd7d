"""A failure with its bundles, command lines and outputs, and the script that does it again.

The script is for the guest's own shell: it writes the same files and runs the
same commands, each in the root it had, and leaves the bundles where they are.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hostabi.agent.client import DEFAULT_ENVIRONMENT
from hostabi.errors import InputError, StorageError
from hostabi.model import SCHEMA, Variant
from hostabi.oci.log import Command, Event, Read, Written

FOLDER = "failures"
"""Where failures are kept, beside their journal or in the cache."""

PLACE = "/work/replay"
"""Where the script and the files that it writes lie in a guest."""

SCRIPT = f"{PLACE}/run"

_SHELL = "/bin/busybox sh"
_KEPT = 200
_NAME = 80
_WIDE, _LONG = 400, 300
"""Columns and lines that are told of an output; the file has the rest."""

# What harness/agent/root.c does for a command in a tree of its own. The program that seal.c
# would have in memory is the tree's own file here.
_ENTER = """\
set -e
new=/scratch/root
mkdir -p $new
mount -t tmpfs -o mode=755 root $new
cd "$1"
for each in *; do
    case $each in proc|sys|dev|run|tmp|work|lost+found) continue;; esac
    if [ -L "$each" ]; then ln -s "$(readlink "$each")" "$new/$each"; continue; fi
    if [ -d "$each" ]; then mkdir "$new/$each"; else : >"$new/$each"; fi
    mount -o rbind "$1/$each" "$new/$each"
done
for each in proc sys dev run tmp work; do
    [ -e /$each ] || continue
    mkdir -p $new/$each
    mount -o rbind /$each $new/$each
done
if [ -f .sealed ]; then
    program=$(cat .sealed)
    ln -s "/$program" "$new/${program##*/}"
fi
cd $new
pivot_root . .
umount -l .
cd "$2"
shift 2
exec "$@"
"""


class Replay(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a test asked of a guest until it failed.

    ``runtime`` is a name or a binary's path, and empty where there is an ``engine``.
    """

    build: str
    runtime: str
    test: str
    variant: Variant
    events: tuple[Event, ...]
    engine: str = ""
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """Of its file: readable, and the same for each run of the test on this pair."""
        words = (self.build, self.engine or Path(self.runtime).name, self.test.partition("/")[2])
        plain = re.sub(r"[^A-Za-z0-9.~-]+", "-", "-".join(words)).strip("-")[:_NAME]
        whole = repr((self.build, self.engine or self.runtime, self.test, self.variant))
        return f"{plain}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}.json"

    def save(self, folder: Path) -> Path:
        """Write it to ``folder``, of whose files the newest are kept. Raises StorageError."""
        path = folder / self.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        except OSError as error:
            raise StorageError(f"cannot write the failure to {path}: {error.strerror}") from error
        return path

    def __str__(self) -> str:
        return "\n".join(map(_told, self.events))

    def script(self) -> str:
        """The shell script."""
        pair = f"{self.engine or self.runtime} on {self.build}"
        lines = [f"# {self.test}, {pair}", f"cd {PLACE}"]
        for number, event in enumerate(self.events):
            lines += ["echo", f"echo {shlex.quote(_heading(event))}", *_lines(number, event)]
        return "\n".join(lines) + "\n"

    def files(self) -> dict[str, bytes]:
        """What has to be in a guest before :data:`SCRIPT` can be run there, by path."""
        found = {SCRIPT: self.script().encode(), f"{PLACE}/enter": _ENTER.encode()}
        for number, event in enumerate(self.events):
            if isinstance(event, Written):
                found[f"{PLACE}/{number}"] = event.content
            elif isinstance(event, Command) and event.stdin:
                found[f"{PLACE}/{number}"] = event.stdin
        return found


def load(path: Path) -> Replay:
    """Read what :meth:`Replay.save` wrote. Raises InputError."""
    try:
        replay = msgspec.json.decode(path.read_bytes(), type=Replay)
    except OSError as error:
        raise InputError(f"cannot read the failure {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} is no failure of a conformance test: {error}",
            advice="take a path that such a failure printed",
        ) from error
    if replay.schema > SCHEMA:
        raise InputError(f"{path} was written by a newer hostabi")
    return replay


def prune(folder: Path, most: int = _KEPT) -> None:
    """Keep the newest files of ``folder``."""
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[most:]:
        path.unlink(missing_ok=True)


def _heading(event: Event) -> str:
    match event:
        case Command():
            where = f"  # in {event.root}" if event.root else ""
            return f"$ {shlex.join(event.argv)}{where}"
        case Written():
            return f"write {event.path}, {len(event.content)} bytes"
        case Read():
            return f"read {event.path}"


def _told(event: Event) -> str:
    """One event as text."""
    match event:
        case Command():
            ended = f"signal {event.signal}" if event.signal else f"status {event.status}"
            below = [event.stdout, event.stderr, event.error or ended]
        case Written():
            below = [event.text or f"{event.data!r}"]
        case Read():
            below = [event.text, event.error]
    lines = [f"  | {line[:_WIDE]}" for text in below for line in text.splitlines()]
    more = len(lines) - _LONG
    if more > 1:
        lines = [*lines[:_LONG], f"  | and {more} lines more, which are in its file"]
    return "\n".join([_heading(event), *lines])


def _lines(number: int, event: Event) -> list[str]:
    """What the script does for one event; a command's end is told with the one it had."""
    match event:
        case Command():
            before = f"signal {event.signal}" if event.signal else f"status {event.status}"
            return [
                f"{_command(event)} <{number if event.stdin else '/dev/null'}",
                f'echo "  status $? (before: {event.error or before})"',
            ]
        case Written():
            target = shlex.quote(event.path)
            mode = [f"chmod {event.mode:o} {target}"] if event.create else []
            return [f"cat {number} >{target}", *mode]
        case Read():
            return [f"cat {shlex.quote(event.path)}"]


def _command(event: Command) -> str:
    environment = DEFAULT_ENVIRONMENT if event.env is None else event.env
    words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    if event.root:
        # With -m alone busybox makes all mounts private, as the agent does.
        enter = [f"{PLACE}/enter", event.root, event.cwd]
        return shlex.join(
            [*words, "/bin/busybox", "unshare", "-m", *_SHELL.split(), *enter, *event.argv]
        )
    if event.cwd != "/":
        inside: Sequence[str] = [
            *_SHELL.split(),
            "-c",
            'cd "$1"; shift; exec "$@"',
            "sh",
            event.cwd,
        ]
        words += inside
    else:
        words += [*_SHELL.split(), "-c", 'cd /; exec "$@"', "sh"]
    return shlex.join([*words, *event.argv])
