"""Properties that are dropped on purpose, and what ``--broken`` makes of a test's outcome."""

from __future__ import annotations

import json

import pytest

from hostabi import resources
from hostabi.oci import bundle
from hostabi.oci.broken import drop
from hostabi.oci.records import Mount

DOCUMENT = json.loads(
    bundle.mounted(
        bundle.pids(bundle.base(), 5),
        Mount(destination="/mnt/x", options=("ro", "nosuid")),
    ).encode()
)


def test_a_property_is_dropped_and_nothing_else() -> None:
    """The object above it stays, and the document that was given is as before."""
    before = json.dumps(DOCUMENT)
    changed, count = drop(DOCUMENT, "linux.resources.pids.limit")
    assert count == 1
    assert isinstance(changed, dict)
    assert changed["linux"]["resources"] == {"pids": {}}
    changed["linux"]["resources"]["pids"]["limit"] = 5
    assert changed == DOCUMENT
    assert json.dumps(DOCUMENT) == before


def test_a_value_is_dropped_from_lists() -> None:
    """One option of every mount; and of a list of objects the one with that name."""
    changed, count = drop(DOCUMENT, "mounts.options:ro")
    assert count == sum("ro" in mount.get("options", ()) for mount in DOCUMENT["mounts"]) > 1
    assert isinstance(changed, dict)
    assert changed["mounts"][-1] == {"destination": "/mnt/x", "options": ["nosuid"]}
    changed, count = drop(DOCUMENT, "linux.namespaces.type:pid")
    assert count == 1
    assert isinstance(changed, dict)
    kinds = [one["type"] for one in changed["linux"]["namespaces"]]
    assert kinds == [kind for kind in bundle.NAMESPACES if kind != "pid"]


@pytest.mark.parametrize("name", ["no.such", "linux.resources.memory", "mounts.options:no", "x:y"])
def test_what_is_not_there_is_not_dropped(name: str) -> None:
    """The count tells, so that a test without the property cannot seem to prove it."""
    assert drop(DOCUMENT, name) == (DOCUMENT, 0)


def test_outcomes_are_turned_round(pytester: pytest.Pytester) -> None:
    """A test that fails without its property passes, one that does not fails, others do not run."""
    pytester.makeconftest(
        """
        import pytest

        class Runtime:
            def __init__(self, drops):
                self.drops = drops

        @pytest.fixture
        def runtime(broken_number, request):
            from hostabi.pytest_broken import dropped
            return Runtime(dropped(request.node))
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.proves("a.b", "a.c")
        @pytest.mark.parametrize("kind", ["x", "y"])
        def test_honest(kind, runtime):
            assert not runtime.drops

        @pytest.mark.proves("a.{kind}")
        @pytest.mark.parametrize("kind", ["x", "y"])
        def test_blind(kind, runtime):
            pass

        def test_of_nothing(runtime):
            assert False
        """
    )
    done = pytester.runpytest("--broken", "all")
    done.assert_outcomes(passed=4, failed=2, deselected=1)
    done.stdout.fnmatch_lines(["*although the runtime never saw a.x", "*never saw a.y"])
    pytester.runpytest("--broken", "a.b").assert_outcomes(passed=2, deselected=5)
    pytester.runpytest().assert_outcomes(passed=4, failed=1)
    assert pytester.runpytest("--broken", "z").ret == pytest.ExitCode.USAGE_ERROR


def test_every_property_has_a_test_that_exists() -> None:
    """The list that is generated from the tests is not empty, and names no other document."""
    text = "".join(path.read_text() for path in (resources.suites() / "conformance").glob("*.py"))
    assert text.count("@pytest.mark.proves(") > 80
