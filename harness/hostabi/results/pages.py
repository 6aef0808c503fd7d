"""The published pages: Markdown files in the results folder, made from one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hostabi import __version__
from hostabi.diff.verdict import Verdict
from hostabi.errors import StorageError
from hostabi.results import (
    conformance,
    conformance_page,
    deltas,
    findings,
    lockstep,
    reproducers,
    steadiness,
    tables,
)
from hostabi.results.tables import Results
from hostabi.runs.records import Session

_MARKS = (
    "`pass`: as the test demands. `FAIL`: not so. `n/a`: the kernel or the runtime lacks what the"
    " test needs; the reason is below. `error`: the harness failed, which says nothing about the"
    " kernel. `-`: not measured."
)

_FEATURES = (
    "Found by trying. A program that needs a feature runs on the kernels that have it, alone and"
    " in lockstep."
)

_REPRODUCERS = f"{reproducers.FOLDER}/README.md"
_MADE_APART = {
    _REPRODUCERS: f"- [reproducers]({_REPRODUCERS}): a program for each break, run on every kernel",
    steadiness.PAGE: f"- [steadiness]({steadiness.PAGE}): captures of one build, compared in pairs",
    lockstep.PAGE: f"- [lockstep]({lockstep.PAGE}): random programs on all kernels at once",
}


def write(folder: Path, results: Results, verdicts: Sequence[Verdict]) -> list[Path]:
    """Write all pages and return their paths. StorageError when the folder cannot be written."""
    made = [line for name, line in _MADE_APART.items() if (folder / name).is_file()]
    index = _index(results, verdicts, made)
    pages = {"README.md": index, "kernels.md": _kernels(results)}
    for suite in results.suites:
        if suite == conformance.SUITE:
            pages |= conformance_page.write(conformance.Grid(results), _MARKS)
        else:
            pages[f"{suite}.md"] = _suite(results, suite)
    if verdicts:
        pages["deltas.md"] = deltas.markdown(verdicts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (folder / name).write_text(text)
        if verdicts:
            (folder / "deltas.json").write_bytes(findings.as_json(verdicts))
    except OSError as error:
        raise StorageError(
            f"cannot write the tables to {folder}: {error.strerror}",
            advice="name another folder with --results",
        ) from error
    return [folder / name for name in pages]


def _index(results: Results, verdicts: Sequence[Verdict], others: Sequence[str] = ()) -> str:
    """The first page; ``others`` are the lines of pages that other commands have made."""
    parts = ["# Results", "", _status(results), ""]
    parts += ["## Kernels", "", tables.kernels(results, "github"), ""]
    parts += ["## Suites", "", tables.matrix(results, "github"), "", _MARKS, ""]
    if verdicts:
        parts += ["## What changes from kernel to kernel", ""]
        parts += [deltas.summary(verdicts, "github"), ""]
        parts.append("A `known` break is one that the ledger expects and explains.")
        parts.append("")
    failures = results.failures()
    if failures:
        parts += ["## What could not be found out", "", *(f"- {line}" for line in failures), ""]
    parts += ["## Pages", "", "- [kernels](kernels.md): packages and checksums"]
    for suite in results.suites:
        about = "kernels by runtimes" if suite == conformance.SUITE else "test by test"
        parts.append(f"- [{suite}]({suite}.md): {about}")
    if verdicts:
        parts.append("- [deltas](deltas.md): finding by finding")
        parts.append("- [facts](facts): all facts of the last capture of each line, as text")
    parts += others
    return "\n".join(parts) + "\n"


def _status(results: Results) -> str:
    sessions = list(results.contents.of(Session))
    began = sessions[-1] if sessions else None
    if began is None:
        return "Nothing was measured yet."
    end = results.ended.ended if results.ended else "not finished; what is here is a part"
    sources = ", ".join(
        f"{part} {digest}"
        for part, digest in sorted(results.contents.latest().items())
        if "/" not in part
    )
    return (
        f"Made by hostabi {__version__} on {began.host}, accelerator {began.accelerator}. Ended:"
        f" {end}. Digests of the sources that measured: {sources}."
    )


def _kernels(results: Results) -> str:
    parts = ["# Kernels", "", tables.kernels(results, "github"), "", "## Packages", ""]
    return "\n".join([*parts, tables.packages(results)]) + "\n"


def _suite(results: Results, suite: str) -> str:
    parts = [f"# {suite}", "", _MARKS, "", tables.by_test(results, suite)]
    features = tables.features(results) if suite == "syscalls" else ""
    if features:
        parts += ["", "## What not every kernel has", "", _FEATURES, "", features]
    notes = tables.remarks(results, suite)
    if notes:
        parts += ["", "## What did not pass", "", *(f"- {note}" for note in notes)]
    return "\n".join(parts) + "\n"
