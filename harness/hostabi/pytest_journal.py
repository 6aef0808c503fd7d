"""Records each cell of a pytest session in the journal, and leaves out what is recorded already."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostabi.model import Outcome, Variant
from hostabi.runs import outcomes
from hostabi.runs.journal import Journal
from hostabi.runs.records import BuildUsed, CellKey, Features, Planned, TestCell, together

OUTCOME = pytest.StashKey[Outcome]()
REPLAY = pytest.StashKey[Path]()
"""Where what a failing test ran in containers was written."""
VARIANT = Variant()


@dataclass
class _Cell:
    """What the phases of one test have said so far."""

    started: float
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    detail: list[str] = field(default_factory=list)


def parameters(item: pytest.Item) -> dict[str, object]:
    """The parameters of a test, empty when it has none."""
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec is not None else {}


def variant(item: pytest.Item) -> Variant:
    """How the guest of this test is booted: the default, changed by its ``variant`` marker."""
    marker = item.get_closest_marker("variant")
    return Variant(**marker.kwargs) if marker else VARIANT


def cell_name(item: pytest.Item) -> str:
    """The test without its kernel and runtime: ``syscalls/test_pipes.py::test_order[small]``."""
    name = item.nodeid.partition("::")[2]
    values = parameters(item)
    for parameter in ("kernel_spec", "runtime_name"):
        if parameter in values and "[" in name:
            base, _, rest = name.partition("[")
            inner = rest.removesuffix("]").removeprefix(_identifier(values[parameter]))
            name = f"{base}[{inner.removeprefix('-')}]"
    return f"{item.path.parent.name}/{item.path.name}::{name.removesuffix('[]')}"


def _identifier(value: object) -> str:
    return str(value).rsplit("/", 1)[-1]


def over_all(item: pytest.Item) -> bool:
    """Whether a test runs once over all kernels: in lockstep, or with every build in hand."""
    return not {"lockstep", "kernels"}.isdisjoint(getattr(item, "fixturenames", ()))


class Recorder:
    """A pytest plugin that writes to ``journal``. ``names`` maps each --kernel to its build."""

    def __init__(self, journal: Journal, names: dict[str, str]) -> None:
        self.journal = journal
        self.reused = 0
        self._names = names
        self._noted: set[tuple[str, str]] = set()
        self._cells: dict[str, _Cell] = {}

    def key(self, item: pytest.Item) -> CellKey | None:
        """The cell of a test, or None for a test that uses no kernel."""
        values = parameters(item)
        if "kernel_spec" in values:
            build = self._names[str(values["kernel_spec"])]
        elif over_all(item):
            build = together(self._names.values())
        else:
            return None
        booted = variant(item)
        return CellKey(
            build=build,
            test=cell_name(item),
            runtime=_identifier(values.get("runtime_name", "")),
            variant="" if booted == VARIANT else booted.label,
        )

    def note_build(self, build: BuildUsed) -> None:
        """Record a build's provenance, once a session."""
        if (build.name, "build") not in self._noted:
            self._noted.add((build.name, "build"))
            self.journal.append(build)

    def note_features(self, spec: str, features: Iterable[str]) -> None:
        """Record what the suites found a kernel to have, once a session."""
        name = self._names[spec]
        if (name, "features") not in self._noted:
            self._noted.add((name, "features"))
            self.journal.append(Features(self.journal.session, name, tuple(sorted(features))))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Announce all cells, and deselect those whose outcome is known."""
        planned: Counter[tuple[str, str]] = Counter()
        kept: list[pytest.Item] = []
        known: list[pytest.Item] = []
        for item in items:
            key = self.key(item)
            if key is not None:
                planned[(key.build, key.test.partition("/")[0])] += 1
            (known if key is not None and self.journal.has(key) else kept).append(item)
        for (build, suite), cells in planned.items():
            self.journal.append(Planned(self.journal.session, build, suite, cells))
        if known:
            self.reused = len(known)
            config.hook.pytest_deselected(items=known)
            items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note how each phase of a test went."""
        report = yield
        cell = self._cells.setdefault(item.nodeid, _Cell(time.monotonic() - call.duration))
        if call.excinfo is not None and cell.outcome in (Outcome.PASS, Outcome.UNSUPPORTED):
            error = call.excinfo.value
            cell.outcome = item.stash.get(OUTCOME, Outcome.ERROR)
            cell.reason = outcomes.reason(error)
            if cell.outcome is not Outcome.UNSUPPORTED:
                cell.detail.append(report.longreprtext)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record the cell once its last phase is over; an interrupted test records nothing."""
        result = yield
        cell = self._cells.pop(item.nodeid, None)
        key = self.key(item)
        if cell is not None and key is not None:
            self.journal.append(
                TestCell(
                    session=self.journal.session,
                    build=key.build,
                    test=key.test,
                    runtime=key.runtime,
                    variant=key.variant,
                    outcome=cell.outcome,
                    reason=cell.reason,
                    seconds=round(time.monotonic() - cell.started, 3),
                    detail="\n".join(cell.detail),
                    replay=self._replay(item),
                    measured={name: str(value) for name, value in item.user_properties},
                )
            )
        return result

    def _replay(self, item: pytest.Item) -> str:
        path = item.stash.get(REPLAY, None)
        return str(path.relative_to(self.journal.path.parent)) if path else ""

    def pytest_report_collectionfinish(self) -> str:
        """Say how many cells the journal already has."""
        if not self.reused:
            return ""
        return f"hostabi: {self.reused} cells are in {self.journal.path} already"

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """A session in which everything was recorded before has nothing to run, and is fine."""
        result = yield
        if self.reused and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK
        return result
