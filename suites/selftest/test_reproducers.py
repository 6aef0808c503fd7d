"""Reproducers of what files say, run on files of our own."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from test_diff import capture

from hostabi.model import Class, Delta, Fact, Finding, Kind
from hostabi.results.reproducers import file_name, write
from hostabi.runs.reproduce import Shown, expectations, subjects
from hostabi.surfaces import reproducers, sysctls
from hostabi.surfaces.reproducers import Language, Reproducer


def status(reproducer: Reproducer | None) -> int:
    assert reproducer is not None
    assert reproducer.language is Language.SHELL
    return subprocess.run(["sh", "-c", reproducer.text], check=False).returncode


@pytest.mark.parametrize(
    ("content", "aspect", "value", "expected"),
    [
        ("1\n", "", "file", 0),
        ("1\n", "mode", "0640", 0),
        ("1\n", "mode", "0644", 1),
        ("-12\n", "type", "integer", 0),
        ("1 2\n", "type", "integer", 1),
        ("1\t2\n", "type", "2 integers", 0),
        ("on\n", "type", "integer", 1),
        ("on\n", "type", "text", 0),
        ("17\n", "type", "text", 1),
        ("cubic reno\n", "value", ["reno", "cubic"], 0),
        ("cubic\n", "value", ["reno", "cubic"], 1),
        ("renown cubic\n", "value", ["reno", "cubic"], 1),
    ],
)
def test_files(tmp_path: Path, content, aspect, value, expected):
    path = tmp_path / "it's a file"
    path.write_text(content)
    path.chmod(0o640)
    kind = Kind.MEMBERS if isinstance(value, list) else Kind.VALUE
    fact = Fact(f"it#{aspect}", value, kind)
    assert status(reproducers.of_a_file(str(path), aspect, fact)) == expected
    assert status(reproducers.file_is_there(str(tmp_path / "none"))) == 1


def test_a_sysctl_is_found_by_its_name():
    assert sysctls.path_of("net.ipv4.conf.eth0/1.mtu") == "/proc/sys/net/ipv4/conf/eth0.1/mtu"
    assert sysctls.name_of(sysctls.path_of("kernel.shmmax")) == "kernel.shmmax"
    shown = sysctls.SURFACE.reproducer(Fact("kernel.shmmax#access", "writable"))
    assert shown is not None
    assert '"openat"' in shown.text
    assert sysctls.SURFACE.reproducer(Fact("kernel.shmmax#value", "1", Kind.DEFAULT)) is None


def test_what_a_reproducer_must_say_comes_from_the_captures():
    old, new = Fact("a", "ok"), Fact("a", "EPERM")
    found = Finding(Delta("s", "a", old, new), Class.BREAK, "works-no-more")
    (subject,) = subjects([found, found])
    captures = {
        "one": capture([old]),
        "two": capture([new]),
        "gone": capture([]),
        "unknown": capture([Fact("a", None)]),
        "without": capture([], surface="another"),
    }
    expected = expectations(subject, captures)
    assert expected == {"one": 0, "two": 1, "gone": 1}
    shown = Shown(subject, reproducers.file_is_there("/a"), expected, {"one": 0, "two": 0})
    assert shown.disagreeing == ["two", "gone"]


def test_a_fact_that_breaks_twice_is_shown_twice(tmp_path: Path):
    def broke(key: str, *values: object) -> list[Finding]:
        facts = [Fact(key, value) for value in values]  # type: ignore[arg-type]
        return [
            Finding(Delta("s", key, old, new), Class.BREAK, "value-changed")
            for old, new in pairwise(facts)
        ]

    found = subjects([*broke("a/b", 1, 2, 3), *broke("a-b", 1, 2), *broke("c", ["x"], [])])
    assert [(each.fact.key, each.fact.value) for each in found] == [
        ("a/b", 1),
        ("a/b", 2),
        ("a-b", 1),
        ("c", ["x"]),
    ]
    assert len(set(found)) == 4
    shown = [
        Shown(subject, Reproducer(Language.SHELL, f"echo {number}\n"), {})
        for number, subject in enumerate(found)
    ]
    write(tmp_path, shown, [], [])
    texts = {path.name: path.read_text() for path in (tmp_path / "reproducers").rglob("*.sh")}
    assert texts == {file_name(each): each.reproducer.text for each in shown}
    assert len(texts) == 4
    assert file_name(shown[1]) == file_name(Shown(found[1], shown[1].reproducer, {}))
