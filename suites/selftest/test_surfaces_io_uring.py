"""io_uring: completions are read from where the kernel says, and what is said is read as bits."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from hostabi.agent.client import Agent
from hostabi.agent.program import End, Program, Ran, Sandbox
from hostabi.model import Value
from hostabi.surfaces import io_uring
from hostabi.surfaces.io_uring_rings import PARAMETERS, completion
from hostabi.surfaces.probing import Probe, outcome
from hostabi.surfaces.source import Source
from hostabi.syscalls.table import C

EVERYBODY, MACHINE = (part.probes for part in io_uring.SURFACE.parts)

CLOSE = struct.pack("<6I", 8, 12, 20, 28, 44, 64)
FAR = struct.pack("<6I", 128, 192, 260, 268, 272, 320)


def rings(offsets: bytes, *entries: tuple[int, int]) -> bytes:
    """Memory of a ring with completions."""
    at = struct.unpack("<6I", offsets)
    raw = bytearray(4096)
    for where, number in ((at[1], len(entries)), (at[2], 15)):
        struct.pack_into("<I", raw, where, number)
    for index, (mark, result) in enumerate(entries):
        struct.pack_into("<QiI", raw, at[5] + (index & 15) * 16, mark, result, 0)
    return bytes(raw)


def answer(probe: Probe, returned: int, *written: bytes) -> Value:
    program = probe.built.program
    values = [3] * len(program.calls)
    values[probe.ref.call] = returned
    own = iter(written)
    outputs = tuple(next(own, b"").ljust(output.length, b"\0") for output in program.outputs)
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


@pytest.mark.parametrize("offsets", [CLOSE, FAR])
def test_a_completion_is_found_by_its_mark(offsets: bytes) -> None:
    raw = rings(offsets, (6, 0), (7, -22), (8, 5))
    assert completion(raw, offsets, 7) == -22
    assert completion(raw, offsets, 8) == 5


@pytest.mark.parametrize("name", ["SETXATTR", "GETXATTR", "FSETXATTR", "FGETXATTR"])
def test_a_file_system_without_attributes_shows_that_the_operation_is_done(name: str) -> None:
    parameters = bytes(PARAMETERS - 40) + CLOSE
    for result, value in ((-errno.EOPNOTSUPP, "ok"), (-errno.EINVAL, "EINVAL"), (1, "ok")):
        seen = rings(CLOSE, *((mark, result) for mark in range(1, 17)))
        probe = EVERYBODY[f"op.{name}"]
        assert answer(probe, 4096, parameters, *[seen] * len(probe.built.program.outputs)) == value


def test_what_lies_beyond_the_tail_is_no_completion() -> None:
    raw = bytearray(rings(CLOSE, (6, 0), (7, -22)))
    struct.pack_into("<I", raw, 12, 1)
    assert completion(bytes(raw), CLOSE, 7) is None


@pytest.mark.parametrize("lie", [0, 4090, 2**32 - 1])
def test_offsets_that_lie_find_nothing(lie: int) -> None:
    raw = rings(CLOSE, (7, -22))
    assert completion(raw, struct.pack("<6I", 8, 12, 20, 28, 44, 1 << 31 | lie), 7) is None
    assert completion(raw, struct.pack("<6I", *[lie | 4096] * 6), 7) is None
    endless = struct.pack("<6I", 4092, 12, 20, 28, 44, 64)
    assert completion(raw[:12] + b"\xff" * 4 + raw[16:], endless, 99) is None


def test_a_feature_is_a_bit() -> None:
    parameters = bytearray(PARAMETERS)
    struct.pack_into("<I", parameters, 20, C.IORING_FEAT_NODROP)
    assert answer(EVERYBODY["feature.IORING_FEAT_NODROP"], 3, bytes(parameters)) is True
    assert answer(EVERYBODY["feature.IORING_FEAT_EXT_ARG"], 3, bytes(parameters)) is False


def test_an_operation_is_announced_by_its_number() -> None:
    said = bytearray(16 + 8 * 256)
    struct.pack_into("<H", said, 16 + 8 * C.IORING_OP_OPENAT2 + 2, C.IO_URING_OP_SUPPORTED)
    assert answer(EVERYBODY["op.OPENAT2#announced"], 0, bytes(said)) is True
    assert answer(EVERYBODY["op.OPENAT#announced"], 0, bytes(said)) is False


def test_the_switch_is_put_back() -> None:
    probe = MACHINE["io_uring_disabled.2.unprivileged"]
    *_, given_up, last = probe.built.steps
    assert (given_up.name, given_up.values) == ("setresuid", (-1, 0, -1))
    assert last.name == "pwrite64"
    read = next(step for step in probe.built.steps if step.name == "pread64")
    assert last.values[1] == read.values[1]


def test_a_switch_that_is_not_there_tells_nothing() -> None:
    class Kernel:
        hello = SimpleNamespace(euid=0)

        def run(self, programs: Sequence[Program], sandbox: Sandbox) -> list[Ran]:
            return [Ran(End.EXITED, 0, (-errno.ENOENT,)) for _ in programs]

    facts = io_uring.SURFACE.capture(Source(cast(Agent, Kernel()), None))
    assert facts
    assert not any(io_uring.is_switched(fact) for fact in facts)


def test_every_operation_is_announced_under_the_name_it_is_done_by() -> None:
    done = {key.split(".")[1] for key in EVERYBODY if key.startswith("op.") and "#" not in key}
    announced = {key.partition("#")[0][3:] for key in EVERYBODY if key.endswith("#announced")}
    assert done - announced == {"no-such-operation"}
