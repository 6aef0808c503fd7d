"""The system as a whole: its names, its memory, its file systems and its random numbers."""

from __future__ import annotations

import errno
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, plain_sandbox
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
PART = 65
"""Bytes of each part of struct new_utsname, of which the last is 0: uname(2)."""
NAMES = ("sysname", "nodename", "release", "version", "machine", "domainname")


def read(script: Script, path: str, room: int = 4096) -> tuple[Ref, Slot]:
    fd = script.works("openat", CWD, script.string(path), C.O_RDONLY, 0)
    into = script.buffer(room)
    ref = script.works("read", fd, into, room, out=[into])
    script.returns(0, "close", fd)
    return ref, into


def text(trace, found: tuple[Ref, Slot]) -> bytes:
    ref, into = found
    return bytes(trace.bytes(ref, into)[: trace[ref]])


def part(raw: bytes, name: str) -> bytes:
    at = NAMES.index(name) * PART
    return raw[at : at + PART]


def drawn(size: int, flags: int) -> Case:
    """Two answers of some length are never alike, and leave no byte out."""
    script = Script()
    wrong = flags & ~7 or flags & 6 == 6
    rooms = [script.buffer(size + 8) for _ in range(2)]
    refs = [
        script.returns(-errno.EINVAL if wrong else size, "getrandom", room, size, flags, out=[room])
        for room in rooms
    ]

    def check(trace) -> None:
        one, two = (trace.bytes(ref, room) for ref, room in zip(refs, rooms, strict=True))
        assert one[size:] == two[size:] == bytes(8), "written past the end"
        if wrong:
            assert one == two == bytes(size + 8)
        elif size >= 16:
            assert one != two, "the same random bytes twice"
        if not wrong and size >= 256:
            assert len(set(one[:size])) > 32, "few of all bytes"
            assert any(one[size - 16 : size]), "the end was left out"

    script.ensure(check)
    return script.case()


sizes = st.one_of(st.integers(0, 40), st.integers(200, 300), st.just(4000))
random_flags = st.sampled_from([0, C.GRND_NONBLOCK, C.GRND_INSECURE, 6, 8, 1 << 20])


@given(batch=batches(st.builds(drawn, sizes, random_flags)))
def test_random_bytes_fill_the_buffer(agent, features, batch):
    """As many as asked for, never the same, nothing beyond; EINVAL for flags that contradict.

    getrandom(2).
    """
    hold(agent, batch, features)


def called(names: list[bytes], too_long: int, user: bool) -> Case:
    """A host's name and its domain's, in a UTS namespace of one's own."""
    script = Script()
    uts = script.room("struct new_utsname")
    for index, name in enumerate(names):
        verb, field = (("sethostname", "nodename"), ("setdomainname", "domainname"))[index % 2]
        script.returns(0, verb, script.content(name), len(name))
        ref = script.returns(0, "uname", uts, out=[uts])
        shown = read(script, f"/proc/sys/kernel/{field.replace('nodename', 'hostname')}", 256)

        def check(trace, ref=ref, shown=shown, field=field, name=name) -> None:
            assert part(trace.bytes(ref, uts), field) == name.ljust(PART, b"\0")
            assert text(trace, shown) == name.split(b"\0")[0] + b"\n"

        script.ensure(check)
        script.returns(-errno.EINVAL, verb, script.buffer(200), too_long)
        script.returns(-errno.EINVAL, verb, script.buffer(8), -1)
    if user:
        script.returns(0, "unshare", C.CLONE_NEWUSER)
        script.returns(-errno.EPERM, "sethostname", script.content(b"mine"), 4)
    own = replace(plain_sandbox(), namespaces=C.CLONE_NEWUSER | C.CLONE_NEWUTS)
    return script.case(own)


names = st.lists(
    st.one_of(st.text("abc-.", max_size=20).map(str.encode), st.just(b"h" * (PART - 1))), max_size=4
)


@given(batch=batches(st.builds(called, names, st.integers(65, 200), st.booleans()), 5))
def test_a_host_has_the_name_it_was_given(agent, features, batch):
    """uname and /proc show it whole; longer ones are EINVAL, and others' namespaces EPERM.

    sethostname(2), setdomainname(2), uname(2), uts_namespaces(7).
    """
    hold(agent, batch, features)


PARTS = {"ostype": "sysname", "osrelease": "release", "version": "version"}


def described(parts: list[str]) -> Case:
    script = Script()
    uts = script.room("struct new_utsname")
    ref = script.returns(0, "uname", uts, out=[uts])
    shown = [(file, read(script, f"/proc/sys/kernel/{file}")) for file in parts]
    whole = read(script, "/proc/version")

    def check(trace) -> None:
        raw = trace.bytes(ref, uts)
        for file, found in shown:
            assert text(trace, found) == part(raw, PARTS[file]).split(b"\0")[0] + b"\n"
        line = text(trace, whole)
        for name in PARTS.values():
            assert part(raw, name).split(b"\0")[0] in line
        assert part(raw, "machine") == b"x86_64".ljust(PART, b"\0")

    script.ensure(check)
    return script.case()


@given(batch=batches(st.lists(st.sampled_from(sorted(PARTS)), max_size=3).map(described), 5))
def test_the_kernel_has_one_name(agent, features, batch):
    """uname, /proc/sys/kernel and /proc/version say the same: uname(2), proc_version(5)."""
    hold(agent, batch, features)


def measured(rounds: int) -> Case:
    """sysinfo between two readings of the clock, and beside /proc."""
    script = Script()
    found = []
    for _ in range(rounds):
        before, after = (script.struct("struct __kernel_timespec") for _ in range(2))
        info = script.room("struct sysinfo")
        start = script.returns(0, "clock_gettime", C.CLOCK_BOOTTIME, before, out=[before])
        ref = script.returns(0, "sysinfo", info, out=[info])
        end = script.returns(0, "clock_gettime", C.CLOCK_BOOTTIME, after, out=[after])
        found.append(((start, before), (ref, info), (end, after)))
    memory = read(script, "/proc/meminfo")
    threads = read(script, "/proc/loadavg")

    def check(trace) -> None:
        lines = dict(line.split(b":") for line in text(trace, memory).splitlines())
        total, swap = (int(lines[key].split()[0]) for key in (b"MemTotal", b"SwapTotal"))
        for start, (ref, info), end in found:
            seen = trace.struct(ref, info)
            first, last = trace.struct(*start).tv_sec, trace.struct(*end).tv_sec
            # The seconds are rounded up.
            assert first <= seen.uptime <= last + 1
            assert seen.totalram * seen.mem_unit // 1024 == total
            assert seen.totalswap * seen.mem_unit // 1024 == swap
            assert seen.freeram <= seen.totalram
            assert seen.freeswap <= seen.totalswap
        assert int(text(trace, threads).split()[3].split(b"/")[1]) > 0

    script.ensure(check)
    return script.case()


@given(batch=batches(st.integers(1, 4).map(measured), 5))
def test_sysinfo_is_what_proc_says(agent, features, batch):
    """Uptime lies between two readings of the clock, memory and swap are those of /proc/meminfo.

    sysinfo(2), proc_meminfo(5).
    """
    hold(agent, batch, features)


STATFS = 120
"""Bytes of struct statfs: type, block size, blocks, free, available, files, free ones, two
numbers of the file system, the longest name, fragment size, flags and spares, 8 bytes each."""


def counted(sizes: list[int], length: int) -> Case:
    """statfs(2): what is free and what may be had of it."""
    script = Script()
    path = script.string("f")
    fd = script.works("openat", CWD, path, C.O_RDWR | C.O_CREAT, 0o600)
    pairs = []
    for size in sizes:
        script.returns(0, "ftruncate", fd, size)
        one, two = script.buffer(STATFS), script.buffer(STATFS)
        first = script.returns(0, "statfs", path, one, out=[one])
        second = script.returns(0, "fstatfs", fd, two, out=[two])
        pairs.append(((first, one), (second, two)))

    def check(trace) -> None:
        for pair in pairs:
            found = []
            for ref, room in pair:
                raw = trace.bytes(ref, room)
                found.append([int.from_bytes(raw[at : at + 8], "little") for at in range(0, 96, 8)])
            assert found[0][:3] == found[1][:3], "one file lies on two file systems"
            assert found[0][7:] == found[1][7:]
            _, block, blocks, free, able, files, rest, _, longest, *_ = found[0]
            assert able <= free <= blocks
            assert rest <= files
            assert longest == 255
            assert block & (block - 1) == 0

    script.ensure(check)
    name = script.string("n" * length)
    arguments = ("openat", CWD, name, C.O_CREAT | C.O_WRONLY, 0o600)
    if length > 255:
        script.returns(-errno.ENAMETOOLONG, *arguments)
    else:
        script.works(*arguments)
    script.returns(-errno.ENOENT, "statfs", script.string("none"), script.buffer(STATFS))
    return script.case()


counts = st.builds(
    counted,
    st.lists(st.integers(0, 5000), max_size=3),
    st.sampled_from([1, 100, 254, 255, 256, 300]),
)


@given(batch=batches(counts))
def test_a_file_system_says_what_it_has(agent, features, batch):
    """statfs and fstatfs agree, no more is free than there is, and names go up to its bound.

    statfs(2), path_resolution(7) on ENAMETOOLONG.
    """
    hold(agent, batch, features)
