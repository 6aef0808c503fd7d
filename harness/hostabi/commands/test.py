"""``hostabi test``: the project's own tests, through tox."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostabi import resources
from hostabi.commands.context import Context, Parsers, command

EXAMPLES = """\
  hostabi test                         lint, selftest, a short pass on the oldest and newest line
  hostabi test lint                    one tox environment
  hostabi test suites-6.1              the suites on one line, in full
  hostabi test selftest -- -k journal  arguments for pytest
"""

SHORT = ("suites-oldest", "suites-newest")
"""The environments of a short pass: the two ends of the default lines."""


@dataclass(frozen=True)
class Step:
    """One environment and how it ended."""

    name: str
    code: int
    seconds: float


def add(parsers: Parsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = command(
        parsers,
        shared,
        "test",
        run,
        summary="run the project's tests: lint, selftest, and the suites on two kernels",
        examples=EXAMPLES,
        bars=False,
    )
    parser.add_argument("environments", nargs="*", metavar="ENVIRONMENT")
    parser.set_defaults(arguments=[])


def run(options: argparse.Namespace, context: Context) -> int:
    """Run each environment in turn and sum up; 1 when one failed."""
    plan = plan_of(options.environments, options.arguments, _common(context))
    last = [] if options.environments else plan[-len(SHORT) :]
    steps = [step for one in plan if one not in last for step in _together([one])]
    steps += _together(last)
    sys.stdout.write(summary(steps))
    return 1 if not steps or any(step.code for step in steps) else 0


def _together(plan: list[tuple[str, list[str]]]) -> list[Step]:
    """Run environments side by side; what the first one prints is seen at once, the others' later.

    One guest keeps one core busy, so two kernels take as long as one.
    """
    with contextlib.ExitStack() as stack:
        running: list[tuple[str, str, subprocess.Popen[bytes], IO[bytes] | None, float]] = []
        for name, arguments in plan:
            argv = _tox(name, arguments) if resources.checkout() else _pytest(name, arguments)
            if argv is None:
                sys.stdout.write(f"{name}: left out, for it needs a checkout of the sources\n")
                continue
            title = f"\n== {name}: {' '.join(argv[1:])}\n"
            later = stack.enter_context(tempfile.TemporaryFile()) if running else None
            if later is None:
                sys.stdout.write(title)
                sys.stdout.flush()
            process = stack.enter_context(
                subprocess.Popen(
                    argv, cwd=resources.checkout(), stdout=later, stderr=later and subprocess.STDOUT
                )
            )
            running.append((name, title, process, later, time.monotonic()))
        return [_ended(*each) for each in running]


def _ended(
    name: str, title: str, process: subprocess.Popen[bytes], later: IO[bytes] | None, began: float
) -> Step:
    """Wait for an environment, and print what it said meanwhile."""
    code = process.wait()
    seconds = time.monotonic() - began
    if later is not None:
        later.seek(0)
        sys.stdout.write(title)
        sys.stdout.flush()
        shutil.copyfileobj(later, sys.stdout.buffer)
        sys.stdout.flush()
    return Step(name, code, seconds)


def plan_of(names: list[str], extra: list[str], common: list[str]) -> list[tuple[str, list[str]]]:
    """Environments in order with pytest's arguments; the default is everything, in short."""
    if names:
        return [(name, [*_for(name, common), *extra]) for name in names]
    first: list[tuple[str, list[str]]] = [("lint", []), ("selftest", extra)]
    return [*first, *((name, ["--short", *common, *extra]) for name in SHORT)]


def summary(steps: list[Step]) -> str:
    """One line for each environment, and one for all."""
    lines = ["", "== summary"]
    lines += [
        f"{step.name}: {'passed' if step.code == 0 else f'FAILED ({step.code})'}"
        f" in {step.seconds:.0f} s"
        for step in steps
    ]
    failed = sum(1 for step in steps if step.code)
    passed = len(steps) - failed
    total = sum(step.seconds for step in steps)
    counts = f"{failed} failed, {passed} passed" if failed else f"{passed} passed"
    return "\n".join([*lines, f"== environments: {counts} in {total:.0f} s"]) + "\n"


def _for(name: str, common: list[str]) -> list[str]:
    return common if name.startswith("suites") else []


def _common(context: Context) -> list[str]:
    """The options that mean something to the suites."""
    arguments = ["--accel", context.accel] if context.accel != "auto" else []
    if context.mirror:
        arguments += ["--mirror", context.mirror]
    if context.jobs:
        arguments += ["--jobs", str(context.jobs)]
    return arguments


def _tox(name: str, arguments: list[str]) -> list[str]:
    argv = [sys.executable, "-m", "tox", "run", "-c", str(resources.tox_ini()), "-e", name]
    return [*argv, "--", *arguments] if arguments else argv


def _pytest(name: str, arguments: list[str]) -> list[str] | None:
    """Without a checkout: the same tests by this installation's pytest."""
    suites = resources.suites()
    argv = [sys.executable, "-m", "pytest", "-p", "pytester", "-p", "no:cacheprovider", "-ra"]
    argv += ["--rootdir", str(suites), "-c", "/dev/null"]
    if name == "selftest":
        return [*argv, str(suites / "selftest"), *arguments]
    if name.startswith("suites-"):
        folders: list[Path] = [suites / part for part in ("syscalls", "conformance", "surfaces")]
        kernel = name.removeprefix("suites-")
        return [*argv, *map(str, folders), "--kernel", kernel, *arguments]
    return None
