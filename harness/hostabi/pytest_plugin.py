"""The pytest plugin: ``--kernel`` and its kin, and fixtures that hand out guests.

A test that uses ``agent``, ``kernel`` or ``machine`` runs once for each
``--kernel``, one that uses ``runtime`` also for each ``--runtime``, and one that
uses ``lockstep`` or ``kernels`` runs once over all kernels together. Identifiers
stay readable: ``test_hostname[6.1-runc]``.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import pytest

from hostabi import pytest_broken, pytest_engines, pytest_replay
from hostabi.errors import HostabiError, InputError
from hostabi.kernels.identity import RUNNING, is_running
from hostabi.model import Cgroup, Outcome, Variant
from hostabi.progress import SILENT, Progress, Silent
from hostabi.pytest_journal import (
    OUTCOME,
    Recorder,
    cell_name,
    over_all,
    parameters,
    variant,
)
from hostabi.runs import journal as journal_module
from hostabi.runs import outcomes
from hostabi.runs.child import PARENT, handed
from hostabi.runs.guests import Guests, split_specs
from hostabi.runs.provenance import used

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.guest.disk import Disk
    from hostabi.kernels.build import Build
    from hostabi.machine.machine import Machine
    from hostabi.oci.driver import Runtime
    from hostabi.packages.context import Packages
    from hostabi.runs.lockstep import Lockstep

GUESTS = pytest.StashKey[Guests]()
"""Where the session's guests are kept; a test of the plugin puts stand-ins here."""

_MARKERS = (
    "kernels: boots real kernels under QEMU",
    "slow: takes more than a few seconds",
    "variant: how the guest is booted, as keywords of hostabi.model.Variant",
    "privileged(reason): what it promises cannot be had by an ordinary user's runtime, and why",
)
_LOST = pytest.StashKey[bool]()
_SPECS = pytest.StashKey[tuple[str, ...]]()
_RUNTIMES = pytest.StashKey[tuple[str, ...]]()
_USED = pytest.StashKey[frozenset[str]]()
_SAID = pytest.StashKey[dict[tuple[str, str], dict[str, dict[str, object]]]]()
_PR_SET_PDEATHSIG = 1


def unsupported(reason: str) -> NoReturn:
    """End the test as ``unsupported``: this kernel or runtime lacks what it needs, and why."""
    pytest.skip(f"{outcomes.UNSUPPORTED}{reason}")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add hostabi's options, and the plugins that try the tests themselves, and engines."""
    pluginmanager.register(pytest_broken, "hostabi-broken")
    pluginmanager.register(pytest_engines, "hostabi-engines")
    group = parser.getgroup("hostabi", "kernels under test")
    group.addoption(
        "--kernel",
        action="append",
        default=[],
        metavar="SPEC",
        help="a line (6.1), version, file, folder, oldest, newest, all or running; may be "
        "repeated or a comma list. Default: running, the kernel you are on, as an "
        "unprivileged process without a guest",
    )
    group.addoption(
        "--runtime",
        action="append",
        default=[],
        metavar="NAME",
        help="an OCI runtime of the catalogue or a path to one; may be repeated or a comma list",
    )
    group.addoption(
        "--rootless",
        choices=("with", "only", "without"),
        default="without",
        help="also, or only, have an ordinary user call the runtimes: crun (rootless)",
    )
    group.addoption(
        "--accel",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="how guests run; kvm fails where it does not work",
    )
    group.addoption("--jobs", type=int, default=None, help="guests alive at a time")
    group.addoption("--journal", type=Path, help="record each cell here, and skip recorded ones")
    group.addoption("--mirror", help="where Debian packages come from; else apt's sources")
    group.addoption("--flavour", default="", help="of the kernel package; default cloud-amd64")
    group.addoption("--modules", type=Path, help="lib/modules/RELEASE of a kernel image")
    group.addoption("--kernel-config", type=Path, help="configuration of a kernel image")
    group.addoption("--builds", type=Path, help="kernels as a run resolved them, by name")
    group.addoption(
        "--short", action="store_true", help="few examples, no slow tests, quick runtimes only"
    )
    group.addoption(
        "--lockstep",
        choices=("with", "only", "without"),
        default="with",
        help="tests that run over all kernels at once; they need two kernels or more",
    )
    group.addoption(
        "--scratch",
        choices=("tmpfs", "ext4", "overlay"),
        default="tmpfs",
        help="the file system that programs of syscalls work on in a guest",
    )
    group.addoption("--deadline", type=float, default=600.0, help="seconds for one test")


def pytest_configure(config: pytest.Config) -> None:
    """Settle which kernels and runtimes are under test."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    try:
        config.stash[_SPECS] = _expand(config)
    except HostabiError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_RUNTIMES] = split_specs(config.getoption("--runtime"))
    if config.getoption("--scratch") != "tmpfs" and config.getoption("--journal"):
        raise pytest.UsageError("--scratch: a journal's cells are those of tmpfs; leave out one")


def _expand(config: pytest.Config) -> tuple[str, ...]:
    """The kernels named, with ``oldest``, ``newest`` and ``all`` put as lines."""
    specs = split_specs(config.getoption("--kernel"))
    if not {"oldest", "newest", "all"}.intersection(specs):
        return specs or (RUNNING,)
    from hostabi.kernels.catalogue import default_lines  # noqa: PLC0415

    lines = default_lines(_packages(config))
    named = {"oldest": lines[:1], "newest": lines[-1:], "all": lines}
    return tuple(dict.fromkeys(spec for name in specs for spec in named.get(name, (name,))))


class _Lines(Silent):
    """Progress as lines of pytest's own output, past its capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def say(self, text: str) -> None:
        """Print one line."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"hostabi: {text}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the journal, which needs the names of all builds, before anything is collected."""
    config = session.config
    path = config.getoption("--journal")
    if path is None:
        return
    try:
        _start_journal(config, path)
    except HostabiError as error:
        raise pytest.UsageError(str(error)) from error


def _start_journal(config: pytest.Config, path: Path) -> None:
    if os.environ.get(journal_module.ENVIRONMENT):
        # The run that started us was killed if we outlive it: prctl(2).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        parent = os.environ.get(PARENT, "")
        if parent and parent != str(os.getppid()):  # it was killed before we asked
            raise InputError(f"the run that started these suites is gone (process {parent})")
    pool = _guests(config)
    names = {spec: pool.build(spec).name for spec in config.stash[_SPECS]}
    journal = journal_module.Journal.open(path, short=config.getoption("--short"))
    config.add_cleanup(journal.close)
    journal.begin(
        accelerator=config.getoption("--accel"),
        arguments=[str(argument) for argument in config.invocation_params.args],
    )
    config.pluginmanager.register(Recorder(journal, names), "hostabi-recorder")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each kernel, and for each runtime if it uses one."""
    config = metafunc.config
    if "kernel_spec" in metafunc.fixturenames:
        specs = config.stash[_SPECS]
        metafunc.parametrize(
            "kernel_spec", specs, scope="session", ids=[Path(spec).name for spec in specs]
        )
    if "runtime_name" in metafunc.fixturenames:
        if pytest_engines.FIXTURE in metafunc.fixturenames:
            names: tuple[str, ...] = pytest_engines.names(config) or ("none",)  # left out then
        else:
            names = config.stash[_RUNTIMES] or _default_runtimes(short=config.getoption("--short"))
            names = _in_modes(names, config.getoption("--rootless"))
        metafunc.parametrize(
            "runtime_name", names, scope="session", ids=[Path(name).name for name in names]
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the options exclude: lockstep over one kernel, slow tests of a short run.

    What is left of one guest is put together, as going back to an earlier one may be a restore.
    """
    mode = config.getoption("--lockstep")
    alone = len(config.stash[_SPECS]) < 2
    short = config.getoption("--short")

    def wanted(item: pytest.Item) -> bool:
        together = over_all(item)
        if together and (mode == "without" or alone):
            return False
        if mode == "only" and not together:
            return False
        return not (short and item.get_closest_marker("slow") is not None)

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]
    turns: dict[tuple[object, Variant], int] = {}
    items.sort(
        key=lambda item: turns.setdefault(
            (parameters(item).get("kernel_spec"), variant(item)), len(turns)
        )
    )
    used = frozenset(name for item in items for name in getattr(item, "fixturenames", ()))
    config.stash[_USED] = used & {"runtime", "payload", pytest_engines.FIXTURE}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Bound a test by --deadline. A wait that it interrupts ends with an error."""
    seconds = item.config.getoption("--deadline")
    _expect_known(item)

    def expired(_number: int, _frame: FrameType | None) -> NoReturn:
        raise outcomes.TestDeadlineError(f"the test took longer than {seconds:g} s (--deadline)")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _expect_known(item: pytest.Item) -> None:
    """Let a deviation that is known fail without failing the run.

    Not strict: a build or a runtime that was repaired is no failure either.
    """
    from hostabi.oci.deviations import explanation  # noqa: PLC0415

    build = getattr(item, "funcargs", {}).get("kernel")
    runtime = str(parameters(item).get("runtime_name", ""))
    name = build.name if build else ""
    why = explanation(cell_name(item), runtime=runtime, build=name)
    if why:
        item.add_marker(pytest.mark.xfail(raises=AssertionError, reason=why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the harness's failures from the kernel's, and remember a guest that was lost."""
    report = yield
    if call.excinfo is not None:
        error = call.excinfo.value
        outcome = outcomes.judge(error)
        if hasattr(report, "wasxfail"):
            outcome = Outcome.FAIL  # and the reason in the journal says that it is known
        elif call.when != "call" and outcome is Outcome.FAIL:
            outcome = Outcome.ERROR
        item.stash[OUTCOME] = outcome
        item.stash[_LOST] = item.stash.get(_LOST, False) or outcomes.guest_lost(error)
        report.user_properties.append(("hostabi_outcome", outcome.value))
        if isinstance(error, HostabiError):
            report.longrepr = f"{type(error).__name__}: {error}"
        if outcome in (Outcome.FAIL, Outcome.ERROR):
            pytest_replay.tell(item, report)
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Show the harness's failures as errors, also when they come out of a test's body."""
    properties = getattr(report, "user_properties", ())
    if report.failed and ("hostabi_outcome", Outcome.ERROR.value) in properties:
        return "error", "E", "ERROR"
    return None


def _packages(config: pytest.Config) -> Packages:
    from hostabi.packages.context import Packages  # noqa: PLC0415

    return Packages.open(config.getoption("--mirror"), progress=_progress(config))


def _progress(config: pytest.Config) -> Progress:
    return _Lines(config) if config.pluginmanager.has_plugin("terminalreporter") else SILENT


def _guests(config: pytest.Config) -> Guests:
    """The session's guests, made at first use and closed with the session."""
    if GUESTS not in config.stash:
        builds = config.getoption("--builds")
        pool = Guests(
            _packages(config),
            builds=handed(builds) if builds else {},
            accel=config.getoption("--accel"),
            jobs=config.getoption("--jobs"),
            flavour=config.getoption("--flavour"),
            disks=lambda: _disks(config),
            modules=config.getoption("--modules"),
            config=config.getoption("--kernel-config"),
            progress=_progress(config),
        )
        config.add_cleanup(pool.close)
        config.stash[GUESTS] = pool
    return config.stash[GUESTS]


def _disks(config: pytest.Config) -> tuple[Disk, ...]:
    """The trees of runtimes, payloads and engines, when a test of this session uses them."""
    used = config.stash.get(_USED, frozenset())
    if not used:
        return ()
    from hostabi.oci.disk import engines_disk, runtimes_disk  # noqa: PLC0415
    from hostabi.oci.payloads import payloads_disk  # noqa: PLC0415

    packages, named = _guests(config).packages, config.stash[_RUNTIMES]
    disks = []
    if "runtime" in used:
        disks.append(runtimes_disk(packages, named))
    if "payload" in used:
        disks.append(payloads_disk(packages))
    if pytest_engines.FIXTURE in used:
        disks.append(engines_disk(packages, pytest_engines.names(config)))
    return tuple(disks)


def _default_runtimes(*, short: bool) -> tuple[str, ...]:
    from hostabi.oci.runtimes import default_names  # noqa: PLC0415

    return default_names(short=short)


def _in_modes(names: tuple[str, ...], mode: str) -> tuple[str, ...]:
    """The runtimes as --rootless says: as they are, called by an ordinary user, or both."""
    from hostabi.oci.runtimes import SUFFIX  # noqa: PLC0415

    suffixes = {"with": ("", SUFFIX), "only": (SUFFIX,), "without": ("",)}[mode]
    return tuple(name + suffix for name in names for suffix in suffixes)


@pytest.fixture(scope="session")
def guests(request: pytest.FixtureRequest) -> Guests:
    """The guests of this session."""
    return _guests(request.config)


@pytest.fixture(scope="session")
def packages(guests: Guests) -> Packages:
    """Debian packages, fetched when needed."""
    return guests.packages


@pytest.fixture(scope="session")
def kernel(kernel_spec: str, guests: Guests) -> Build:
    """The build under test."""
    return guests.build(kernel_spec)


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest, guests: Guests) -> tuple[Build, ...]:
    """All builds given by --kernel."""
    return tuple(guests.build(spec) for spec in request.config.stash[_SPECS])


@pytest.fixture
def machine(request: pytest.FixtureRequest, kernel: Build, guests: Guests) -> Iterator[Machine]:
    """A warm machine of the build, ours alone during the test."""
    if is_running(kernel.name):
        unsupported("the kernel we are on has no machine; name a line with --kernel")
    with guests.machine(kernel, variant(request.node)) as warm:
        _note_use(request.config, kernel, warm)
        yield warm
        if request.node.stash.get(_LOST, False):
            guests.spoil(warm)


@pytest.fixture
def agent(request: pytest.FixtureRequest, kernel: Build, guests: Guests) -> Iterator[Agent]:
    """The agent on the build, reset before the test."""
    if not is_running(kernel.name):
        yield request.getfixturevalue("machine").agent
        return
    with guests.agent(kernel) as local:
        _note_use(request.config, kernel, None)
        yield local


@pytest.fixture
def lockstep(request: pytest.FixtureRequest, guests: Guests) -> Iterator[Lockstep]:
    """All kernels at once, each with its own agent."""
    from hostabi.runs.lockstep import Lockstep  # noqa: PLC0415

    specs = request.config.stash[_SPECS]
    with guests.agents(specs, variant(request.node)) as agents:
        together = Lockstep(agents)
        yield together
        if "features" in vars(together):  # tried by this test, so the kernels answered
            _note_features(request, together)
        if request.node.stash.get(_LOST, False):
            guests.spoil_all()


def _note_features(request: pytest.FixtureRequest, together: Lockstep) -> None:
    """Say on which kernels what could not be run."""
    request.node.add_report_section("teardown", "features", together.features_text())
    recorder = request.config.pluginmanager.get_plugin("hostabi-recorder")
    if isinstance(recorder, Recorder):
        for spec, features in together.features.items():
            recorder.note_features(spec, features)


@pytest.fixture
def broken_number() -> int:
    """Which of its properties a test goes without; see :mod:`hostabi.pytest_broken`."""
    return 0


@pytest.fixture
def runtime(
    runtime_name: str,
    kernel: Build,
    agent: Agent,
    broken_number: int,
    request: pytest.FixtureRequest,
) -> Runtime:
    """An OCI runtime, ready to run bundles through the agent."""
    del broken_number
    if is_running(kernel.name):
        unsupported("runtimes are tried in guests only; name a line with --kernel")
    refuse_rootless(runtime_name, request.node)
    from hostabi.oci.driver import runtime as bound  # noqa: PLC0415

    return bound(
        runtime_name,
        agent,
        drops=pytest_broken.dropped(request.node),
        kept=request.config.stash.setdefault(pytest_replay.KEPT, {}),
        said=request.config.stash.setdefault(_SAID, {}).setdefault((kernel.name, runtime_name), {}),
    )


def refuse_rootless(name: str, item: pytest.Item) -> None:
    """Unsupported where an ordinary user's runtime cannot do what the test asks for."""
    from hostabi.oci.runtimes import split  # noqa: PLC0415

    if not split(name)[1]:
        return
    marker = item.get_closest_marker("privileged")
    if marker is not None:
        unsupported(f"rootless: {marker.args[0]}")
    if variant(item).cgroup is not Cgroup.V2:
        unsupported("rootless: only cgroup v2 hands groups to an ordinary user")


def _note_use(config: pytest.Config, build: Build, machine: Machine | None) -> None:
    recorder = config.pluginmanager.get_plugin("hostabi-recorder")
    if isinstance(recorder, Recorder):
        recorder.note_build(used(recorder.journal.session, build, machine))
