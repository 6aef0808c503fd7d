"""Limits: how the auxiliary vector is read, and that every limit is asked on both sides."""

from __future__ import annotations

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Kind, Value
from hostabi.surfaces import limits
from hostabi.surfaces.probing import Probe, outcome
from hostabi.syscalls.table import C

EVERYBODY, ROOT = (part.probes for part in limits.SURFACE.parts)


def vector(*entries: tuple[int, int]) -> bytes:
    """An auxiliary vector as /proc/PID/auxv has it, with something after its end."""
    words = [word for entry in (*entries, (C.AT_NULL, 0), (99, 99)) for word in entry]
    return b"".join(word.to_bytes(8, "little") for word in words)


def answer(probe: Probe, content: bytes) -> Value:
    """What the probe says when the file it reads has this content."""
    program = probe.built.program
    values = [3] + [len(content)] * (len(program.calls) - 1)
    outputs = tuple(content.ljust(output.length, b"\0") for output in program.outputs)
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_entries_of_the_auxiliary_vector() -> None:
    content = vector((C.AT_PAGESZ, 4096), (C.AT_HWCAP, 7), (77, 1))
    asked = {
        name: answer(EVERYBODY[f"auxv.{name}"], content)
        for name in ("AT_PAGESZ", "AT_RSEQ_ALIGN", "AT_PAGESZ#value", "others")
    }
    assert asked == {
        "AT_PAGESZ": keys.OK,
        "AT_RSEQ_ALIGN": "ENOENT",
        "AT_PAGESZ#value": 4096,
        "others": ["77"],
    }
    assert answer(EVERYBODY["auxv.AT_RSEQ_ALIGN#value"], content) is None


def test_what_the_kernel_fills_in_is_a_measure_and_what_it_advises_is_none() -> None:
    content = vector((C.AT_RSEQ_FEATURE_SIZE, 33), (C.AT_RSEQ_ALIGN, 64))
    size = EVERYBODY["auxv.AT_RSEQ_FEATURE_SIZE#size"]
    assert keys.aspect(size.key) in keys.MEASURES
    assert answer(size, content) == 33
    assert EVERYBODY["auxv.AT_RSEQ_ALIGN#value"].kind is Kind.DEFAULT
    assert EVERYBODY["auxv.AT_MINSIGSTKSZ#value"].kind is Kind.HARDWARE
    assert keys.aspect(EVERYBODY["pipe.size#size"].key) in keys.MEASURES


def test_what_ends_in_the_middle_is_read_as_far_as_it_goes() -> None:
    assert answer(EVERYBODY["auxv.AT_PAGESZ"], vector((C.AT_PAGESZ, 4096))[:11]) == "ENOENT"


def test_a_limit_that_is_none() -> None:
    probe = ROOT["rlimit.CORE#hard"]
    room = C.RLIM64_INFINITY.to_bytes(8, "little") * 2
    program = probe.built.program
    ran = Ran(End.EXITED, 0, (0,) * len(program.calls), (room,) * len(program.outputs))
    assert outcome(probe, ran)[0] == "unlimited"


def test_no_key_is_asked_in_two_tables() -> None:
    assert not EVERYBODY.keys() & ROOT.keys()
