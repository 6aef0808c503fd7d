"""config.md, "Process": terminal and consoleSize; config-linux.md, "Default Devices"."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostabi.kernels.build import Build
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import ConsoleSize
from hostabi.oci.seen import Answers

CONFIG = bundle.process(
    bundle.base(), terminal=True, console_size=ConsoleSize(height=33, width=111)
)
# Numbers of the terminals of devpts: admin-guide/devices.rst.
UNIX98_SLAVES = 136
CONSOLE = actions.opened("/dev/console", "+")


@pytest.fixture(scope="session")
def screens() -> dict[tuple[str, str, str], Answers]:
    """What the probe wrote to its terminal, by kernel and runtime."""
    return {}


@pytest.fixture
def screen(
    runtime: Runtime, kernel: Build, screens: dict[tuple[str, str, str], Answers]
) -> Callable[[], Answers]:
    """The answers of a probe with a terminal, read at the other end of it."""

    def read() -> Answers:
        key = (kernel.name, runtime.name, runtime.drops)
        with runtime.agent.once(("terminal", *key)):
            if key not in screens:
                doing = (actions.REPORT, actions.WINDOW, CONSOLE, actions.signal())
                with runtime.container(CONFIG, *doing) as made:
                    made.start()
                    made.ready()
                    _shown(runtime, f"{made.folder}/output", CONSOLE)
                    screens[key] = made.answers()
        return screens[key]

    return read


def _shown(runtime: Runtime, output: str, last: actions.Action) -> None:
    """Wait until the terminal's other end, which another process reads, has the ``last`` answer."""
    whole = f'^{{"action":"{last.words[0]}".*}}'
    script = f"until grep -q '{whole}' {output}; do sleep 0.02; done"
    done = runtime.agent.command(["/bin/busybox", "sh", "-c", script], timeout=30)
    assert not done.status
    assert not done.timed_out


@pytest.mark.proves("process.terminal")
def test_terminal(screen) -> None:
    """ "terminal ... a pseudoterminal is allocated": the standard streams are one, of the
    container's own devpts, and it controls the session."""
    report = screen().report
    assert report.terminal
    targets = {each.number: each.target for each in report.descriptors}
    assert sorted(targets) == [0, 1, 2]
    assert len(set(targets.values())) == 1
    assert targets[0].startswith("/dev/")
    assert screen().deed(actions.WINDOW).data.split()[2] == "1"


@pytest.mark.proves("process.consoleSize")
def test_size(screen) -> None:
    """ "consoleSize": height and width in characters."""
    assert screen().deed(actions.WINDOW).data.split()[:2] == ["33", "111"]


def test_console(screen) -> None:
    """ "/dev/console is set up if terminal is enabled in the config": it is the same terminal, be
    it bind mounted, as the specification says, or linked, and can be opened."""
    assert screen().deed(CONSOLE).error == ""
    console = screen().report.device("/dev/console")
    terminal = screen().report.device(console.target or "/dev/pts/0")
    assert (terminal.type, terminal.major) == ("c", UNIX98_SLAVES)
    if console.type != "l":
        assert (console.major, console.minor) == (terminal.major, terminal.minor)
