"""What is written to the interface files of a control group, to see what they accept.

One table for each version of control groups: the files in the order in which
they are tried, and for each what is written, one after another, ending with
what leaves the group as it was. The forms and ranges are those of the kernel's
documents: admin-guide/cgroup-v2.rst, admin-guide/cgroup-v1/, accounting/psi.rst.
``DEV`` stands for the number of a disk; ``A => B`` says that the file reads B
after A was written, where that is not A itself, and ``A =>`` that it need not
say anything about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostabi.diff import keys
from hostabi.surfaces.probing import Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

DEVICE = "DEV"
_SAID = 128
"""Bytes looked at of what a file says; those that are compared are shorter."""

_LIMIT = ("4096", "1048576", "1M => 1048576", "2m => 2097152", "4K => 4096", "1000 => 0")
_PAGES = ("2097152", "2M => 2097152", "4K => 0", "0", "-1 =>", "nonsense =>", "max")
_WRONG = ("-1 =>", "50% =>", "nonsense =>", " =>")
_SWITCH = ("1", "0", "2 =>", "-1 =>", "nonsense =>")
_TRIGGERS = (
    "some 150000 1000000 =>",
    "full 150000 1000000 =>",
    "some 1000000 2000000 =>",
    "some 100000 400000 =>",
    "some 2000000 1000000 =>",
    "none 150000 1000000 =>",
)

Table = tuple[tuple[str, tuple[str, ...]], ...]
"""Files with what is written to each."""

V2: Table = (
    ("cgroup.max.depth", ("0", "5", "-1 =>", "nonsense =>", "max")),
    ("cgroup.max.descendants", ("0", "5", "-1 =>", "nonsense =>", "max")),
    ("cgroup.freeze", _SWITCH),
    ("cgroup.kill", ("1 =>", "0 =>", "2 =>")),
    ("cgroup.pressure", ("0", "2 =>", "-1 =>", "1")),
    ("cgroup.procs", ("-1 =>", "4194304 =>", "nonsense =>")),
    ("cgroup.threads", ("0 =>", "4194304 =>")),
    ("cgroup.type", ("domain =>", "domain threaded =>", "nonsense =>")),
    ("cgroup.subtree_control", ("+nonsense =>", "nonsense =>", "-memory =>")),
    (
        "cpu.max",
        (
            "100000 => 100000 100000",
            "10000 100000",
            "50000 1000000",
            "1000 1000",
            "max 50000",
            "999 100000 =>",
            "10000 999 =>",
            "10000 1000001 =>",
            "0 =>",
            "-1 =>",
            "10000 100000 1 =>",
            "nonsense =>",
            "max 100000",
        ),
    ),
    ("cpu.max.burst", ("1000 =>", "0", "-1 =>", "max =>")),
    (
        "cpu.weight",
        ("1", "10000", "0 =>", "10001 =>", "-1 =>", "idle =>", "default =>", "100"),
    ),
    ("cpu.weight.nice", ("-20", "19", "-21 =>", "20 =>", "0")),
    ("cpu.idle", _SWITCH),
    ("cpu.uclamp.min", ("50 => 50.00", "100.00 => max", "100.01 =>", "max", "-1 =>", "0 => 0.00")),
    ("cpu.uclamp.max", ("50 => 50.00", "0 => 0.00", "100.01 =>", "-1 =>", "max")),
    ("cpuset.mems", ("0", "99999 =>", " => ")),
    ("cpuset.cpus.exclusive", ("0", "99999 =>", " => ")),
    ("cpuset.cpus", (" => ", "99999 =>", "0,nonsense =>", "0")),
    ("cpuset.cpus.partition", ("nonsense =>", "member")),
    ("cpuset.cpus", (" => ",)),
    ("memory.min", (*_LIMIT, *_WRONG, "max", "0")),
    ("memory.low", (*_LIMIT, *_WRONG, "max", "0")),
    ("memory.high", (*_LIMIT, *_WRONG, "0", "max")),
    ("memory.max", (*_LIMIT, *_WRONG, "0", "max")),
    ("memory.swap.high", (*_LIMIT, *_WRONG, "0", "max")),
    ("memory.swap.max", (*_LIMIT, *_WRONG, "0", "max")),
    ("memory.zswap.max", (*_LIMIT, *_WRONG, "0", "max")),
    ("memory.zswap.writeback", ("0", "2 =>", "-1 =>", "nonsense =>", "1")),
    ("memory.oom.group", _SWITCH),
    (
        "memory.reclaim",
        (
            "0 =>",
            "0K =>",
            "0 swappiness=0 =>",
            "0 swappiness=60 =>",
            "0 swappiness=200 =>",
            "0 swappiness=201 =>",
            "0 swappiness=max =>",
            "0 swappiness=-1 =>",
            "0 nonsense=1 =>",
            "-1 =>",
            "max =>",
            " =>",
        ),
    ),
    ("memory.peak", ("0 =>", "reset =>")),
    ("memory.swap.peak", ("0 =>", "reset =>")),
    (
        "io.weight",
        (
            "200 => default 200",
            "default 1",
            "default 10000",
            "default 0 =>",
            "default 10001 =>",
            "nonsense =>",
            "default 100",
        ),
    ),
    ("io.bfq.weight", ("default 200 =>", "default 0 =>", "default 100 =>")),
    (
        "io.max",
        (
            "DEV rbps=1048576 => DEV rbps=1048576 wbps=max riops=max wiops=max",
            "DEV wbps=1048576 wiops=120 => DEV rbps=1048576 wbps=1048576 riops=max wiops=120",
            "DEV rbps=0 =>",
            "DEV rbps=-1 =>",
            "DEV rbps=1M =>",
            "DEV nonsense=1 =>",
            "DEV =>",
            "0:0 rbps=1 =>",
            "DEV rbps=max wbps=max riops=max wiops=max => ",
        ),
    ),
    (
        "io.prio.class",
        (
            "no-change",
            "none-to-rt",
            "promote-to-rt",
            "restrict-to-be",
            "idle",
            "rt-to-be =>",
            "nonsense =>",
            "none-to-rt",
            "no-change",
        ),
    ),
    (
        "hugetlb.2MB.max",
        ("2097152", "2M => 2097152", "4K => 0", "0", "-1 =>", "nonsense =>", "max"),
    ),
    ("hugetlb.2MB.rsvd.max", _PAGES),
    (
        "pids.max",
        ("1", "0", "4194303", "4194304 =>", "4194305 =>", "-1 =>", "nonsense =>", "max"),
    ),
    ("pids.peak", ("0 =>",)),
    ("rdma.max", ("nonsense hca_handle=1 =>", "nonsense =>")),
    ("misc.max", ("nonsense 1 =>", "nonsense =>")),
    ("dmem.max", ("nonsense 1 =>",)),
)

PRESSURE_V2: Table = (
    ("cpu.pressure", _TRIGGERS[:2]),
    ("memory.pressure", _TRIGGERS),
    ("io.pressure", _TRIGGERS[:2]),
    ("irq.pressure", _TRIGGERS[:2]),
)
"""Triggers; each makes a kernel thread and waits for all CPUs, so root alone asks."""

ROOT_V2: Table = (
    ("cgroup.pressure", ("0", "1")),
    ("cgroup.subtree_control", ("+nonsense =>",)),
    ("memory.pressure", _TRIGGERS[:2]),
    ("memory.reclaim", ("0 =>", "0 swappiness=60 =>", "0 swappiness=max =>")),
    ("memory.zswap.writeback", ("0", "1")),
)


_MOST = "9223372036854771712"
"""No limit, as version 1 says it: whole pages that a signed number of 64 bits can count."""
_LIMIT_V1 = (
    "4194304",
    "4M => 4194304",
    "1000 => 0",
    "max =>",
    "-2 =>",
    "nonsense =>",
    f"-1 => {_MOST}",
)
_RATE = ("DEV 1048576", "DEV 1M =>", "DEV -1 =>", "0:0 1 =>", "nonsense =>", "DEV 0 => ")

V1: Table = (
    ("tasks", ("-1 =>", "4194304 =>", "nonsense =>")),
    ("cgroup.procs", ("-1 =>", "4194304 =>", "nonsense =>")),
    ("notify_on_release", ("1", "2 =>", "nonsense =>", "0")),
    ("cgroup.clone_children", ("1", "nonsense =>", "0")),
    ("memory.limit_in_bytes", _LIMIT_V1),
    ("memory.soft_limit_in_bytes", _LIMIT_V1),
    ("memory.memsw.limit_in_bytes", _LIMIT_V1),
    ("memory.kmem.limit_in_bytes", ("1048576", *_LIMIT_V1)),
    ("memory.kmem.tcp.limit_in_bytes", _LIMIT_V1),
    ("memory.swappiness", ("0", "100", "101 =>", "200 =>", "201 =>", "-1 =>", "60")),
    ("memory.use_hierarchy", ("0", "2 =>", "1")),
    ("memory.oom_control", ("1 =>", "2 =>", "nonsense =>", "0 =>")),
    ("memory.move_charge_at_immigrate", ("1", "3", "4 =>", "0")),
    ("memory.force_empty", ("0 =>", "1 =>")),
    ("memory.failcnt", ("0 =>",)),
    ("memory.max_usage_in_bytes", ("0 =>",)),
    ("cgroup.event_control", ("0 0 =>", "nonsense =>")),
    ("cpu.shares", ("2", "1 => 2", "0 => 2", "262144", "262145 => 262144", "-1 =>", "1024")),
    ("cpu.cfs_period_us", ("1000", "1000000", "999 =>", "1000001 =>", "0 =>", "-1 =>", "100000")),
    ("cpu.cfs_quota_us", ("10000", "1000", "999 =>", "0 =>", "-2 =>", "max =>", "-1")),
    ("cpu.cfs_burst_us", ("1000 =>", "-1 =>", "0")),
    ("cpu.rt_runtime_us", ("1000 =>", "-1 =>", "0")),
    ("cpu.rt_period_us", ("0 =>", "1000000")),
    ("cpu.idle", _SWITCH),
    ("cpuacct.usage", ("1 =>", "0 =>")),
    ("cpuset.cpus", ("99999 =>", "0,nonsense =>", "0")),
    ("cpuset.mems", ("99999 =>", "0")),
    *(
        (f"cpuset.{name}", ("1", "2 =>", "0"))
        for name in ("cpu_exclusive", "mem_exclusive", "mem_hardwall", "memory_migrate")
    ),
    ("cpuset.memory_spread_page", ("1 =>", "0")),
    ("cpuset.memory_spread_slab", ("1 =>", "0")),
    ("cpuset.sched_load_balance", ("0", "1")),
    ("cpuset.sched_relax_domain_level", ("0", "-2 =>", "99 =>", "-1")),
    ("cpuset.cpus", (" => ",)),
    ("cpuset.mems", (" => ",)),
    *(
        (f"blkio.throttle.{way}_{what}_device", _RATE)
        for way in ("read", "write")
        for what in ("bps", "iops")
    ),
    ("blkio.reset_stats", ("1 =>",)),
    ("blkio.bfq.weight", ("200", "0 =>", "100")),
    ("devices.deny", ("c 1:3 rwm =>", "nonsense =>", "a =>")),
    ("devices.allow", ("c 1:3 rwm =>", "b *:* m =>", "c 1:3 x =>", "nonsense =>", "a =>")),
    ("freezer.state", ("FROZEN", "FREEZING =>", "nonsense =>", "THAWED")),
    ("pids.max", ("1", "0", "4194304 =>", "4194305 =>", "-1 =>", "nonsense =>", "max")),
    ("net_cls.classid", ("0x100001 => 1048577", "-1 =>", "nonsense =>", "0")),
    ("net_prio.ifpriomap", ("lo 5 =>", "nonsense 5 =>", "lo -1 =>", "lo 0 =>")),
    (
        "hugetlb.2MB.limit_in_bytes",
        ("2097152", "2M => 2097152", "max =>", "nonsense =>", "-1 => 9223372036852678656"),
    ),
    ("hugetlb.2MB.rsvd.limit_in_bytes", ("2097152", "-1 => 9223372036852678656")),
    ("rdma.max", ("nonsense hca_handle=1 =>",)),
    ("misc.max", ("nonsense 1 =>",)),
)


@dataclass(frozen=True, slots=True)
class Write:
    """One text for one file. ``reads`` is what the file says afterwards; None for no matter."""

    file: str
    text: str
    reads: str | None
    repeated: bool
    """The same text was written before; now it only restores."""


def writes(table: Table) -> Iterator[Write]:
    """All texts of a table in their order."""
    seen: set[tuple[str, str]] = set()
    for file, texts in table:
        for text in texts:
            what, arrow, reads = text.partition(" =>")
            said = None if arrow and not reads else reads.strip() if arrow else what
            yield Write(file, what, said, (file, what) in seen)
            seen.add((file, what))


def tell(q: Questions, path: str, text: str) -> Ref:
    """Write ``text`` to the file of a group, whether it may or not; what write(2) returned."""
    fd = q.call("openat", C.AT_FDCWD, q.string(path), C.O_WRONLY | C.O_CLOEXEC)
    done = q.call("write", fd, q.string(text), len(text))
    q.call("close", fd)
    return done


def ask_writes(
    q: Questions, folder: str, table: Table, *, device: str, prefix: str = "", needs: Sequence[Ref]
) -> None:
    """Questions ``PREFIX FILE#accepts:TEXT`` for each text of ``table``, to a group.

    ``device`` is the number of a disk; empty where no text has one.

    Each is answered ``ok`` when the text was taken and the file then says what it should;
    where it says something else, with that.
    """
    for write in writes(table):
        text = (write.text.replace(DEVICE, device) if device else write.text) or "\n"
        mode = C.O_WRONLY if write.reads is None else C.O_RDWR
        path = q.string(f"{folder}/{write.file}")
        fd = q.call("openat", C.AT_FDCWD, path, mode | C.O_CLOEXEC)
        key = f"{prefix}{write.file}#accepts:{write.text or 'nothing'}"
        content = q.string(text)
        if write.repeated:
            q.call("write", fd, content, len(text))
        elif write.reads is None:
            q.ask(key, "write", fd, content, len(text), needs=(*needs, fd))
        else:
            done = q.call("write", fd, content, len(text))
            room = q.buffer(_SAID)
            said = _says(write.reads, device, room)
            every = (*needs, fd, done)
            q.ask(key, "pread64", fd, room, _SAID, 0, needs=every, read=said, out=[room])
        q.call("close", fd)


def _says(expected: str, device: str, room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> str:
        raw = trace.bytes(ref, room)[: trace[ref]]
        said = raw.decode(errors="backslashreplace")
        text = " ".join((said.replace(device, DEVICE) if device else said).split())
        return keys.OK if text == expected else f"reads {text}"

    return read
