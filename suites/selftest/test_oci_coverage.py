"""The conformance suite's coverage: every topic is there, and so is every test it names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hostabi import cli, resources
from hostabi.errors import InputError
from hostabi.oci import coverage
from hostabi.oci.coverage import Topic
from hostabi.results import topics


def functions(path: Path) -> set[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text())
    found = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("source", ["validation", "runc", "linux"])
def test_every_topic_is_there(source: str) -> None:
    """No topic is forgotten, and none is made up."""
    wanted = getattr(coverage.sources(), source)
    assert len(wanted) == len(set(wanted)) > 50
    assert {topic.name for topic in coverage.topics() if topic.source == source} == set(wanted)


def test_every_test_exists() -> None:
    """A test that was renamed takes its name along."""
    for topic in coverage.topics():
        for test in topic.tests:
            file, _, function = test.partition("::")
            path = coverage.folder() / file
            assert path.is_file(), f"{topic.name}: no file {file}"
            assert functions(path), f"{topic.name}: no tests in {file}"
            assert not function or function in functions(path), f"{topic.name}: no {test}"


def test_every_topic_has_tests_or_a_reason() -> None:
    """An empty list would be neither."""
    for topic in coverage.topics():
        assert bool(topic.tests) != bool(topic.reason), topic.name


def test_every_file_of_the_suite_covers_something() -> None:
    """A file that no topic names is either new or about nothing."""
    named = {test.partition("::")[0] for topic in coverage.topics() for test in topic.tests}
    named.add("test_engines.py")  # the runtime specification knows no engines
    assert {path.name for path in coverage.folder().glob("test_*.py")} <= named


def test_table() -> None:
    """A row for each topic, and counts by source."""
    found = (
        Topic("runc", "kill", ("test_a.py::test_b", "test_c.py")),
        Topic("runc", "rdma", (), "needs an RDMA device"),
        Topic("runc", "update", (), "not covered yet"),
    )
    assert [topic.state for topic in found] == ["tested", "untestable", "open"]
    lines = topics.table(found).splitlines()
    assert lines[1].split() == ["runc", "kill", "test_a.py::test_b"]
    assert "needs an RDMA device" in lines[3]
    assert topics.summary(found).splitlines()[1].split()[-3:] == ["1", "1", "1"]


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    """All topics, or only the open ones."""
    assert cli.main(["coverage"]) == 0
    assert "pidfile" in capsys.readouterr().out
    assert cli.main(["coverage", "--open"]) == 0
    assert "pidfile" not in capsys.readouterr().out


def test_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the file names the file."""
    (tmp_path / "conformance").mkdir()
    (tmp_path / "conformance" / "coverage.toml").write_text("[validation]\nkill = 5\n")
    monkeypatch.setattr(resources, "suites", lambda: tmp_path)
    coverage.topics.cache_clear()
    try:
        with pytest.raises(InputError, match=r"coverage\.toml"):
            coverage.topics()
    finally:
        coverage.topics.cache_clear()
