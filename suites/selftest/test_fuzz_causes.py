"""Where kernels part ways in a program, and which causes of that are known."""

from __future__ import annotations

import dataclasses

import pytest

from hostabi.agent.program import End, Ran
from hostabi.errors import InputError
from hostabi.runs.fuzz.causes import (
    OUT,
    STATE,
    VALUE,
    Difference,
    Spot,
    alike,
    arguments,
    read_known,
    shipped,
    spot,
)
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.table import C


def ran(*values: int, outputs=(), state: bytes = b"", end: End = End.EXITED, code: int = 0) -> Ran:
    return Ran(end, code, values, outputs, "", state)


def dups(count: int):
    b = Builder()
    for _ in range(count):
        b.call("dup", 0)
    return b.build()


def test_the_first_difference_is_told():
    built = dups(2)
    found = spot(built, {"a": ran(3, -9), "b": ran(3, 4)})
    assert found == Spot(VALUE, 1, "dup", {"a": "EBADF", "b": "ok"})
    found = spot(built, {"a": ran(3, 4), "b": ran(3, end=End.SIGNALLED, code=31)})
    assert found == Spot(VALUE, 1, "dup", {"a": "ok", "b": "SIGSYS"})
    assert spot(built, {"a": ran(3, 4), "b": ran(3, 4)}) is None
    found = spot(built, {"a": ran(3, 4, state=b"fd 3: x flags=1"), "b": ran(3, 4, state=b"")})
    assert (found.kind, found.item) == (STATE, "fd")
    left = {
        "a": b"Umask: 0022\nfile /a: mode=1 size=2",
        "b": b"Umask: 0022\nfile /a: mode=1 size=3",
    }
    found = spot(built, {name: ran(3, 4, state=raw) for name, raw in left.items()})
    assert (found.item, found.outcomes) == ("file", {"a": "size=2", "b": "size=3"})
    found = spot(built, {"a": ran(3, 4, state=b"mount: / x"), "b": ran(3, 4, state=b"")})
    assert (found.item, found.outcomes) == ("mount:", {"a": "there", "b": "-"})


def test_fields_that_differ_are_named():
    b = Builder()
    limit = b.room("struct rlimit64")
    b.call("prlimit64", 0, C.RLIMIT_NOFILE, 0, limit, out=[limit])
    built = b.build()
    raws = {"a": (1).to_bytes(8, "little") * 2, "b": (1).to_bytes(8, "little") + bytes(8)}
    found = spot(built, {name: ran(0, outputs=(raw,)) for name, raw in raws.items()})
    assert (found.kind, found.outcomes) == (OUT, {"a": "rlim_max=0x1", "b": "rlim_max=0x0"})


def test_bytes_that_begin_alike_are_told_apart():
    b = Builder()
    room = b.buffer(64)
    b.call("getrandom", room, 64, 0, out=[room])
    raws = {"a": bytes(64), "b": bytes(40) + b"x" + bytes(23)}
    found = spot(b.build(), {name: ran(64, outputs=(raw,)) for name, raw in raws.items()})
    assert found.outcomes == {"a": "+40:" + "00" * 24, "b": "+40:78" + "00" * 23}


def test_outcomes_are_alike_whatever_the_numbers():
    assert alike(VALUE, {"a": "3", "b": "4"}, {"a": "7", "b": "8"})
    assert not alike(VALUE, {"a": "3", "b": "4"}, {"a": "7", "b": "7"})
    assert not alike(VALUE, {"a": "3", "b": "3"}, {"a": "7", "b": "8"})
    assert not alike(VALUE, {"a": "EIO", "b": "ok"}, {"a": "ok", "b": "EIO"})
    assert alike(OUT, {"a": "x=0x1", "b": "x=0x2"}, {"a": "x=0x3", "b": "x=0x4"})
    assert not alike(OUT, {"a": "x=0x1", "b": "x=0x2"}, {"a": "y=0x3", "b": "y=0x4"})


def test_a_known_difference_is_pinned():
    b = Builder()
    b.call("openat", C.AT_FDCWD, b.string("f"), C.O_CREAT | 0x80, 0o600)
    built = b.build()
    lines = {"old": "6.1", "mid": "6.6", "new": "6.12"}
    found = Spot(VALUE, 0, "openat", {"old": "EINVAL", "mid": "EINVAL", "new": "ok"})
    outcomes = {"6.1": "EINVAL", "6.12": "ok"}
    assert Difference("openat", VALUE, outcomes, "2=0x80").explains(built, found, lines)
    assert Difference("openat", VALUE, outcomes).explains(built, found, lines)
    for other in (
        Difference("openat", VALUE, outcomes, "2=0x100"),
        Difference("openat2", VALUE, outcomes),
        Difference("openat", VALUE, {"6.1": "EINVAL", "6.6": "ok"}),
        Difference("openat", VALUE, {"6.1": "EPERM", "6.12": "ok"}),
        Difference("openat", OUT, outcomes),
    ):
        assert not other.explains(built, found, lines)


def test_one_change_may_show_in_several_ways():
    b = Builder()
    b.call("fcntl", 0, C.F_DUPFD_QUERY, 7)
    lines = {"old": "6.1", "new": "6.12"}
    known = Difference("fcntl|dup", VALUE, {"6.1": "EINVAL", "6.10": "ok|EBADF"}, "1:0x1|0x403")
    for seen in ("ok", "EBADF"):
        found = Spot(VALUE, 0, "fcntl", {"old": "EINVAL", "new": seen})
        assert known.explains(b.build(), found, lines)
    other = Builder()
    other.call("fcntl", 0, C.F_GETFL, 0)
    assert not known.explains(other.build(), found, lines)
    worse = Spot(VALUE, 0, "fcntl", {"old": "EINVAL", "new": "EPERM"})
    assert not known.explains(b.build(), worse, lines)
    lines["newest"] = "7.3"
    for newest in ("EBADF", "ok"):
        found = Spot(VALUE, 0, "fcntl", {"old": "EINVAL", "new": "ok", "newest": newest})
        assert known.explains(b.build(), found, lines) == (newest == "ok")
    found = Spot(VALUE, 0, "fcntl", {"new": "ok", "newest": "EBADF"})
    assert not known.explains(b.build(), found, lines)


def test_what_hangs_on_an_earlier_call_is_explained_after_it():
    known = Difference("write", VALUE, {"6.1": "ok", "6.12": "EINVAL"}, after="eventfd|eventfd2")
    found = Spot(VALUE, 1, "write", {"6.1": "ok", "6.12": "EINVAL"})
    for maker in ("eventfd2", "timerfd_create"):
        b = Builder()
        b.call("write", b.call(maker, 0, 0), b.string("x"), 1)
        assert known.explains(b.build(), found, {"6.1": "6.1", "6.12": "6.12"}) == (
            maker == "eventfd2"
        )


def test_what_is_left_is_explained_by_a_call_of_the_program():
    known = Difference("dup2", STATE, {"6.1": "mode=1", "6.12": "mode=2"}, item="fd")
    found = Spot(STATE, None, "close", {"6.1": "mode=1", "6.12": "mode=2"}, "fd")
    lines = {"6.1": "6.1", "6.12": "6.12"}
    b = Builder()
    b.call("dup", 0)
    assert not known.explains(b.build(), found, lines)
    b.call("dup2", 0, 7)
    b.call("close", 0)
    assert known.explains(b.build(), found, lines)


def test_what_data_leaves_out_counts_as_zero():
    b = Builder()
    b.call("openat2", -100, b.string("f"), b.struct("struct open_how", flags=0x40), 24)
    built = b.build()
    cut = dataclasses.replace(built.program, data=built.program.data.rstrip(b"\0"))
    assert len(cut.data) < len(built.program.data)
    assert arguments(dataclasses.replace(built, program=cut), 0) == "2.flags=0x40"


def test_the_file_of_known_differences(tmp_path):
    path = tmp_path / "lockstep.toml"
    good = """
[[cause]]
reason = "it was changed for a reason"
citation = 'commit 0123456789ab ("a subject")'
differences = [
  { syscall = "dup", kind = "value", outcomes = { "5.10" = "EBADF", "6.1" = "ok" } },
]
"""
    path.write_text(good)
    (known,) = read_known(path)
    assert known.difference.outcomes == {"5.10": "EBADF", "6.1": "ok"}
    for bad in (
        good.replace("commit 0", "seen in 0"),
        good.replace('"EBADF"', '"ok"'),
        good.replace("it was changed for a reason", "so"),
        good.replace("kind", "sort"),
    ):
        path.write_text(bad)
        with pytest.raises(InputError, match=r"lockstep\.toml"):
            read_known(path)


def test_the_shipped_differences_can_be_read():
    known = shipped()
    assert {each.difference.syscall for each in known} > {"mseal", "openat"}
    mseal = next(each.difference for each in known if each.difference.syscall == "mseal")
    assert [mseal.expected(line) for line in ("5.10", "6.6", "6.10", "7.3")] == [
        *("ENOSYS", "ENOSYS"),
        *("there", "there"),
    ]
