"""What the shape of a kernel's file is taken to be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.records import Entry
from hostabi.model import Fact, Kind
from hostabi.surfaces import procfs, sysctls, sysfs, trees
from hostabi.surfaces.shapes import shape_of

CASES = {
    "status": (b"Name:\tcat\nCapEff:\t000001ff\n", "keyed", {"Name", "CapEff"}),
    "meminfo": (b"MemTotal:  1 kB\nActive(anon):  2 kB\n", "keyed", {"MemTotal", "Active(anon)"}),
    "smaps": (
        b"00400000-00401000 r--p 00000000 00:01 1 /a\nSize:  4 kB\nVmFlags: rd mr\n",
        "keyed",
        {"Size", "VmFlags"},
    ),
    "crypto": (
        b"name: a\nmin keysize: 1\n\nname: b\nseedsize: 2\n\nname: c\n",
        "keyed",
        {"name"},
    ),
    "sockstat": (
        b"TCP: inuse 1 orphan 0\nRAW: inuse 0\n",
        "keyed",
        {"TCP.inuse", "TCP.orphan", "RAW"},
    ),
    "snmp": (b"Ip: Forwarding TTL\nIp: 1 64\n", "named pairs", {"Ip.Forwarding", "Ip.TTL"}),
    "vmstat": (b"nr_free 1\nnr_zone 2\n", "flat keyed", {"nr_free", "nr_zone"}),
    "stat": (b"cpu  1 2\ncpu0 1 2\nbtime 3\n", "flat keyed", {"cpu", "cpuN", "btime"}),
    "pressure": (b"some avg10=0.00 total=5\n", "flat keyed", {"some.avg10", "some.total"}),
    "cgroups": (
        b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t1\t1\n",
        "table",
        {"subsys_name", "hierarchy", "num_cgroups", "enabled", "row.cpu"},
    ),
    "limits": (
        b"Limit        Soft Limit  Hard Limit  Units\nMax cpu time  unlimited  1  seconds\n",
        "table",
        {"Limit", "Soft Limit", "Hard Limit", "Units", "row.Max cpu time"},
    ),
    "tcp": (b"  sl  local_address rem_address\n   0: 00:00 01:00\n", "table", {"sl"}),
    "unix": (
        b"Num       RefCount Protocol Flags\nffff8000: 00000002 00000000 00010000\n",
        "table",
        {"Num", "RefCount", "Protocol", "Flags"},
    ),
    "filesystems": (b"nodev\tsysfs\n\text4\n", "names", {"sysfs", "ext4"}),
    "mountinfo": (
        b"1 1 0:2 / / rw shared:1 master:2 - tmpfs none rw\n",
        "mounts",
        {"shared", "master"},
    ),
    "choice": (b"always [madvise] never\n", "choice", {"always", "madvise", "never"}),
    "fields": (b"1 (cat) R 1 2 3 4 5 6\n", "fields", set()),
    "ksm_stat": (
        b"ksm_rmap_items 0\nksm_zero_pages 0\nksm_merge_any: no\n",
        "flat keyed",
        {"ksm_rmap_items", "ksm_merge_any"},
    ),
    "number": (b"-5\n", "number", set()),
    "one choice": (b"[none]\n", "choice", {"none"}),
    "words": (b"tsc hpet acpi_pm\n", "text", set()),
    "columns": (b"entries  in_hit out_hit\n", "table", {"entries", "in_hit", "out_hit"}),
    "text": (b"0::/a\n", "text", set()),
    "lines": (b"1:cpu:/a\n0::/a\n", "text", set()),
    "binary": (b"a\0b", "binary", set()),
    "empty": (b"\n", "", set()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_has_a_shape(name: str) -> None:
    content, layout, names = CASES[name]
    shape = shape_of(content)
    assert shape.format == layout
    assert names <= set(shape.names)


def test_what_only_some_records_have_is_not_of_their_form() -> None:
    record = b"name: a\ntype: %s\n\n"
    assert shape_of(record % b"rng\nseedsize: 1" + record % b"hash").names == ("name", "type")
    # the last one may have been cut, and one alone is no list
    assert shape_of(record % b"x" * 2 + b"name: a\n").names == ("name", "type")
    assert shape_of(record % b"rng\nseedsize: 1").names == ("name", "type", "seedsize")
    sections = b"Timers: 1\nmode: 2\n\nTick: 1\nmode: 2\nnext: 3\n\n"
    assert shape_of(sections).names == ("Timers", "mode", "Tick", "next")


def test_fields_without_names_are_counted() -> None:
    assert shape_of(b"1 (cat) R 1 2 3 4 5 6\n").fields == 9
    facts = trees.shape_facts("stat", b"1 2\n3 4\n")
    assert [(fact.key, fact.value) for fact in facts] == [
        ("stat#format", "fields"),
        ("stat#size", 2),
    ]


@given(st.binary(max_size=300) | st.text("aA1:# \n\t.-=[]|", max_size=300).map(str.encode))
def test_any_bytes_have_one(content: bytes) -> None:
    shape = shape_of(content)
    assert len(set(shape.names)) == len(shape.names)
    assert bool(shape.format) == bool(content.strip())


def entry(path: str, kind: str = "f", **rest: object) -> Entry:
    fields: dict[str, object] = {
        "mode": 0o444, "uid": 0, "gid": 0, "size": 0, "rdev": 0, "target": "",
        "content": b"", "error": 0, "writable": False, **rest,
    }  # fmt: skip
    return Entry(path=path, kind=kind, **fields)  # type: ignore[arg-type]


def test_what_a_machine_numbers_has_one_name() -> None:
    paths = ("task/12/stat", "task/13/stat", "fd/3", "fdinfo/4", "map_files/00-1f", "fs/vda-8/x")
    found = procfs.names([entry(f"/proc/self/{path}") for path in paths], "/proc/self", "PID",
                         frozenset({"vda"}))  # fmt: skip
    assert set(found) == {"PID/task/TID/stat", "PID/fd/FD", "PID/fdinfo/FD", "PID/fs/DEVICE/x"}
    general = sysfs._general("devices/system/cpu/cpu12/online", frozenset())
    assert general == "devices/system/cpu/cpuN/online"


def test_access_is_what_could_be_done() -> None:
    assert trees.access_of(None) == "hidden"
    assert trees.access_of(entry("/a", content=None)) == "hidden"
    assert trees.access_of(entry("/a")) == "readable"
    assert trees.access_of(entry("/a", writable=True)) == "writable"
    assert trees.access_of(entry("/a", "l", error=13)) == "hidden"


def test_a_links_target_has_no_numbers() -> None:
    facts = trees.entry_facts("ns/mnt", entry("/x", "l", target="mnt:[4026531840]"))
    assert [(fact.key, fact.value) for fact in facts] == [
        ("ns/mnt", "link"),
        ("ns/mnt#target", "mnt:[N]"),
    ]


def test_what_a_machine_s_own_interfaces_bring_along_follows_the_hardware() -> None:
    header = b"Inter-|   Receive\n face |bytes\n"
    listed = entry("/proc/self/net/dev", content=header + b"    lo: 0\nenp0s3: 7\n")
    paths = ("lo", "enp0s3")
    files = [listed, *(entry(f"/proc/self/net/dev_snmp6/{name}") for name in paths)]
    found = procfs.names(files, "/proc/self", "PID", procfs._devices(files))
    assert "PID/net/dev_snmp6/lo" in found
    assert procfs.of_the_machine(found) == {"PID/net/dev_snmp6/DEVICE": Kind.HARDWARE}
    content = b"Icmp6InMsgs 3\nIcmp6InType134 3\nIcmp6OutType133 1\n"
    kinds = {fact.key: fact.kind for fact in trees.shape_facts("snmp6", content)}
    assert kinds["snmp6#key.Icmp6InMsgs"] is Kind.VALUE
    assert kinds["snmp6#key.Icmp6InTypeN"] is Kind.HARDWARE
    assert kinds["snmp6#key.Icmp6OutTypeN"] is Kind.HARDWARE


def test_interfaces_beyond_lo_are_one() -> None:
    class Walked:
        def walk(self, *_: object, **__: object) -> list[Entry]:
            names = ("all", "lo", "eth0", "wlan0")
            return [entry(f"/proc/sys/net/ipv4/conf/{name}/forwarding") for name in names]

    found = sysctls._read(Walked())  # type: ignore[arg-type]
    names = [name.removeprefix("net.ipv4.conf.") for name in found]
    assert names == ["all.forwarding", "lo.forwarding", "IFACE.forwarding"]
    assert found["net.ipv4.conf.IFACE.forwarding"].path.count("eth0") == 1


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_a_reproducer_finds_each_name(name: str, tmp_path: Path) -> None:
    content, _, names = CASES[name]
    file = tmp_path / "file"

    def exits(key: str, text: bytes) -> int:
        file.write_bytes(text)
        made = trees.reproducer(str(file), f"key.{key}", Fact(f"x#key.{key}", "there"))
        assert made is not None
        return subprocess.run(["sh", "-c", made.text], check=False).returncode

    for key in names:
        assert exits(key, content) == 0
        assert exits(key, b"other: 1\n") == 1


def test_a_reproducer_tells_a_value(tmp_path: Path) -> None:
    for text, value, code in ((b"a [b] c", "b", 0), (b"a [b] c", "a", 1), (b"7\n", "7", 0)):
        (tmp_path / "file").write_bytes(text)
        made = trees.reproducer(str(tmp_path / "file"), "value", Fact("x#value", value))
        assert made is not None
        assert subprocess.run(["sh", "-c", made.text], check=False).returncode == code


def test_a_link_to_a_known_file_is_that_file() -> None:
    link = entry("/sys/kernel/kexec_loaded", "l", target="kexec/loaded")
    file = entry("/sys/kernel/kexec/loaded")
    assert sysfs._followed(link, {file.path: file}) is file
    assert sysfs._followed(link, {}) is link
