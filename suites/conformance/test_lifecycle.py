"""runtime.md, "Lifecycle", "State" and "Operations"."""

from __future__ import annotations

import signal

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime


def test_lifecycle(runtime: Runtime) -> None:
    """create, start, state, kill and delete, each with the status that the specification names.

    One container for all: what is promised is the order.
    """
    wait = actions.signal()
    with runtime.container(bundle.base("lifecycle"), actions.REPORT, wait) as made:
        state = made.state()
        assert (state.id, state.status, state.bundle) == (made.id, "created", made.folder)
        pid = state.pid
        assert pid > 0
        assert made.answers().reports == ()  # "MUST NOT" run the program before start
        made.start()
        made.ready()
        assert made.state().status == "running"
        assert not made.delete(check=False).ok  # only a stopped container may be deleted
        assert not made.start(check=False).ok  # only a created container may be started
        made.kill("TERM")
        made.wait(pid)
        assert made.answers().deed(wait).value == signal.SIGTERM
        assert made.state().status == "stopped"
        assert not made.kill("TERM", check=False).ok  # nor may a stopped one be killed
        made.delete()
        assert not made.verb("state", made.id, check=False).ok


def test_identifier_is_unique(runtime: Runtime) -> None:
    """Create: "id MUST be unique across all containers within the scope of the runtime." """
    with runtime.container(bundle.base(), actions.signal()) as made:
        second = runtime.invoke(
            "create", f"--bundle={made.folder}", made.id, detached=f"{made.folder}/second"
        )
        assert not second.ok
        assert made.state().status == "created"


@pytest.mark.proves("process.args", "process.env", "process.cwd", "process.oomScoreAdj")
def test_process(look) -> None:
    """config.md, "Process": args, env and cwd are those of the program."""
    config = bundle.process(
        bundle.base(), env=("FIRST=1", "EMPTY=", "UTF8=\u00fc"), cwd="/var/tmp", oom_score_adj=321
    )
    seen = look(config, actions.REPORT).report
    assert seen.arguments == ("/probe", "report")
    assert {"FIRST=1", "EMPTY=", "UTF8=\u00fc"} <= set(seen.environment)
    assert seen.cwd == "/var/tmp"
    assert seen.oom_score_adj.strip() == "321"
    assert not seen.terminal
    assert [each.number for each in seen.descriptors] == [0, 1, 2]
