"""What the reproducers of breaks exited with, as a page and as files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from hostabi.runs.reproduce import Shown, Subject
from hostabi.surfaces.reproducers import AS_EXPECTED, NOT_TRIED, OTHERWISE

_WORDS = {AS_EXPECTED: "yes", OTHERWISE: "no", NOT_TRIED: "not tried"}
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def file_name(shown: Shown) -> str:
    """A file for a reproducer's text: ``sockets-inet.dgram.udplite-0b5f3a1c.c``.

    The digits are of what it is about with its value, so that no two have one name, and a
    name stays whatever else there is.
    """
    subject = shown.subject
    plain = _UNSAFE.sub("-", f"{subject.surface}-{subject.fact.key}").strip("-")
    mark = hashlib.sha256(subject.identity.encode()).hexdigest()[:8]
    return f"{plain[:120]}-{mark}.{shown.reproducer.language}"


def rows(shown: Sequence[Shown], builds: Sequence[str]) -> list[list[str]]:
    """One row for each: the fact, its value, and for each build whether it has that."""
    return [
        [
            each.subject.name,
            _value(each.subject),
            *(_cell(each, build) for build in builds),
            "agrees" if not each.disagreeing else f"DISAGREES on {', '.join(each.disagreeing)}",
        ]
        for each in shown
    ]


def page(shown: Sequence[Shown], lacking: Sequence[Subject], builds: Sequence[str]) -> str:
    """The table as Markdown, and what has no reproducer."""
    head = ["fact", "what is shown", *builds, "with the captures"]
    agreeing = sum(not each.disagreeing for each in shown)
    parts = [
        "# Reproducers",
        "",
        f"{len(shown)} programs, each for one value that a later kernel lacks; {agreeing} say on "
        "every kernel what its capture says. Each was run on every kernel here; `yes`: this "
        "kernel has it.",
        "",
        tabulate(rows(shown, builds), head, tablefmt="github", disable_numparse=True),
    ]
    if lacking:
        parts += ["", f"Without a reproducer: {', '.join(f'`{each.name}`' for each in lacking)}"]
    return "\n".join(parts) + "\n"


def write(
    folder: Path, shown: Sequence[Shown], lacking: Sequence[Subject], builds: Sequence[str]
) -> Path:
    """Write the page and each program below ``folder``. Returns the page."""
    sources = folder / "reproducers"
    sources.mkdir(parents=True, exist_ok=True)
    for old in sources.iterdir():
        if old.suffix in (".c", ".sh"):
            old.unlink()
    for each in shown:
        (sources / file_name(each)).write_text(each.reproducer.text)
    path = folder / "reproducers.md"
    path.write_text(page(shown, lacking, builds))
    return path


def _cell(each: Shown, build: str) -> str:
    got = each.exits.get(build, NOT_TRIED)
    text = _WORDS.get(got, f"exit {got}")
    return f"{text} (!)" if build in each.disagreeing else text


def _value(subject: Subject) -> str:
    value = subject.fact.value
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
