"""Control groups: how their files are read, and that what is tried is well formed."""

from __future__ import annotations

import errno
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from hostabi.agent.program import End, Ran
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.model import Fact, Kind
from hostabi.surfaces import cgroup1_probes, cgroup2, cgroup2_probes, cgroup_writes, cgroupfs
from hostabi.surfaces.probing import Probe, outcome


def entry(name: str, content: str | None, mode: int = 0o444, error: int = 0) -> Entry:
    raw = None if content is None else content.encode()
    return Entry(f"/c/{name}", "f", mode, 0, 0, 0, 0, "", raw, error, False)


def facts_of(name: str, content: str | None, mode: int = 0o444, **more: str) -> dict[str, Fact]:
    used = {name: entry(name, more["used"])} if "used" in more else None
    others = [{name: entry(name, more["other"])}] if "other" in more else []
    files = {name: entry(name, content, mode)}
    facts = cgroupfs.file_facts(files, others=others, used=used)
    return {fact.key.partition("#")[2]: fact for fact in facts}


@pytest.mark.parametrize(
    ("text", "settable", "named"),
    [
        ("", True, ""),
        ("max", True, "value"),
        ("max 100000", True, "values"),
        ("max 0", False, "flat keyed"),
        ("populated 0\nfrozen 0", False, "flat keyed"),
        ("1\n22\n333", False, "lines"),
        ("1", False, "value"),
        ("some avg10=0.00 total=0\nfull avg10=0.00 total=0", True, "nested keyed"),
        ("254:0 rbytes=1 wbytes=2", False, "nested keyed"),
    ],
)
def test_formats_are_told_apart(text: str, settable: bool, named: str) -> None:
    assert cgroupfs.format_of(text, settable=settable) == named


def test_devices_and_nodes_are_no_keys() -> None:
    stat = facts_of("io.stat", "254:0 rbytes=1 wbytes=2\n7:0 rbytes=0 wbytes=0")
    assert "keys" not in stat
    assert stat["fields"].value == ["rbytes", "wbytes"]
    numa = facts_of("memory.numa_stat", "anon N0=0 N1=0\nfile N0=0 N1=0")
    assert numa["keys"].value == ["anon", "file"]
    assert "fields" not in numa
    assert "value" not in numa


def test_keys_come_from_the_group_that_had_work() -> None:
    facts = facts_of("io.stat", "", used="254:0 rbytes=1")
    assert facts["format"].value == "nested keyed"
    assert facts["fields"].value == ["rbytes"]


def test_processes_and_what_moves_have_no_value() -> None:
    assert facts_of("cgroup.procs", "1\n2\n")["value"].kind is Kind.VOLATILE
    moved = facts_of("memory.current", "4096", other="8192")["value"]
    assert (moved.value, moved.kind) == (None, Kind.VOLATILE)
    still = facts_of("memory.max", "max", 0o644, other="max")["value"]
    assert (still.value, still.kind) == ("max", Kind.DEFAULT)


def test_cpus_follow_the_machine() -> None:
    assert facts_of("cpuset.cpus.effective", "0-1")["value"].kind is Kind.HARDWARE
    assert facts_of("cpuset.cpus", "")["value"].kind is Kind.DEFAULT
    assert facts_of("hugetlb.1GB.max", "max", 0o644)[""].kind is Kind.HARDWARE


def test_a_file_that_cannot_be_read_says_why() -> None:
    assert "value" not in facts_of("cgroup.kill", None, 0o200)
    files = {"x": entry("x", None, 0o444, error=95)}
    assert [f.value for f in cgroupfs.file_facts(files) if f.key == "x#value"] == ["EOPNOTSUPP"]


def test_access_of_somebody_else() -> None:
    open_to_all = entry("a", "1")
    inside = {"a": open_to_all, "b": entry("b", None, 0o600, error=13)}
    facts = cgroupfs.access_facts(["a", "b", "c"], inside)
    assert [fact.value for fact in facts] == ["readable", "hidden", "hidden"]


def test_texts_say_what_the_file_reads_afterwards() -> None:
    table = (("f", ("1", "2 =>", "3 => three", " => ", " =>", "1")),)
    found = [(w.text, w.reads, w.repeated) for w in cgroup_writes.writes(table)]
    assert found == [
        ("1", "1", False),
        ("2", None, False),
        ("3", "three", False),
        ("", "", False),
        ("", None, True),
        ("1", "1", True),
    ]


def test_a_thing_that_is_not_there_has_no_aspects() -> None:
    facts = [Fact("a#accepts:1", "ENOENT"), Fact("b#mode", "0644"), Fact("b", "file")]
    assert [fact.key for fact in cgroupfs.with_subject(facts)] == ["b", "b#mode"]


def test_lines_of_a_device_do_not_change_a_format() -> None:
    for text in ("Total 0", "254:0 Read 0\n254:0 Total 0\nTotal 0"):
        facts = facts_of("blkio.throttle.io_serviced", text)
        assert facts["format"].value == "flat keyed"
        assert facts["keys"].value == ["Total"]


def test_a_number_for_each_cpu_follows_the_machine() -> None:
    assert facts_of("cpuacct.usage_percpu", "0 0")["value"].kind is Kind.HARDWARE
    assert facts_of("cpu.max", "0 0", 0o644)["value"].kind is Kind.DEFAULT


V2 = (
    *cgroup2_probes.write_probes(cgroup2.DISK),
    *cgroup2_probes.for_root(),
    *cgroup2_probes.mount_probes(),
)
V1 = (
    *cgroup1_probes.mount_probes(),
    *cgroup1_probes.write_probes(cgroup2.DISK),
    *cgroup1_probes.probes(),
)


@pytest.mark.parametrize("probes", [V1, V2], ids=["v1", "v2"])
def test_every_question_is_asked_once(probes: tuple[Probe, ...]) -> None:
    asked = Counter(probe.key for probe in probes)
    assert [key for key, times in asked.items() if times > 1] == []


def test_every_file_of_version_1_is_tried() -> None:
    """Each row of the table finds the hierarchy that its file belongs to."""
    asked = {keys.subject(probe.key) for probe in V1}
    assert {file for file, _ in cgroup_writes.V1} <= asked


def test_shell_lines_show_what_a_file_says(tmp_path: Path) -> None:
    """Each exits 0 for a file that is so, and 1 for one that is not."""
    file = tmp_path / "cpu.max"
    file.write_text("max 100000\nnr.x 1\n")
    file.chmod(0o644)
    for fact, holds in (
        (Fact("cpu.max", "file"), 0),
        (Fact("cpu.max#mode", "0644"), 0),
        (Fact("cpu.max#mode", "0444"), 1),
        (Fact("cpu.max#value", "max 100000 nr.x 1"), 0),
        (Fact("cpu.max#value", "max"), 1),
        (Fact("cpu.max#keys", ["max", "nr.x"], Kind.MEMBERS), 0),
        (Fact("cpu.max#keys", ["max", "nr_x"], Kind.MEMBERS), 1),
    ):
        made = cgroupfs.reproducer(fact, str(file))
        assert made is not None
        done = subprocess.run(["/bin/sh", "-c", made.text], check=False, capture_output=True)
        assert done.returncode == holds, fact.key
    for unknown in (Fact("cpu.max#value", None, Kind.VOLATILE), Fact("cpu.max#format", "value")):
        assert cgroupfs.reproducer(unknown, str(file)) is None


def test_nothing_is_said_about_threads_and_a_controller_that_is_not_there() -> None:
    probe = {probe.key: probe for probe in cgroup2_probes.for_root()}["controller.misc#threaded"]
    (known,) = probe.given
    values = [3] * len(probe.built.program.calls)
    assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] == keys.OK
    values[known.call] = -errno.EINVAL
    assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] is None
