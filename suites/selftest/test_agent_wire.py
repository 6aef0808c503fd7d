"""What the host makes of an agent that is wrong, hostile or silent."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import fakes
import pytest
from fakes import FakeAgent, Request, fake_agent, frame
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent import messages, wire
from hostabi.agent.channel import SocketChannel
from hostabi.agent.client import Agent
from hostabi.agent.program import Call, End, Output, Pointer, Program, Result, Sandbox, Store, Word
from hostabi.agent.wire import constants
from hostabi.errors import (
    AgentLostError,
    CallError,
    GuestHangError,
    InputError,
    MachineError,
    ProtocolError,
)

HELLO = constants.WIRE_HELLO
PING = constants.WIRE_PING
RUN = constants.WIRE_RUN
ONE = Program((Call(39),), outputs=(Output(0, 0, 4),))


def ran(**changes: int) -> bytes:
    """The record of ONE: a value and four bytes, unless changed."""
    fields = {"end": constants.WIRE_EXITED, "values": 1, "outputs": 1, **changes}
    head = wire.pack("wire_ran", **fields)
    return head + struct.pack("<qII", 7, 1, 0) + b"abcd\0\0\0\0"


def test_a_correct_answer_is_understood() -> None:
    fake = FakeAgent({RUN: lambda request: frame(request, ran())})
    with fake_agent(fake) as agent:
        assert agent.hello.release == "6.1.0-fake"
        assert agent.run([ONE])[0].values == (7,)
        assert agent.run([ONE])[0].outputs == (b"abcd",)
        assert agent.run([ONE])[0].end is End.EXITED


def test_another_version_is_refused() -> None:
    fake = FakeAgent({HELLO: lambda r: frame(r, fakes.hello_payload(version=99))})
    with pytest.raises(ProtocolError, match="version 99"), fake_agent(fake):
        pass


@pytest.mark.parametrize("name", ["wire_frame.id", "wire_call", "wire_ran.step"])
def test_another_layout_is_refused(name: str) -> None:
    rows = dict(wire.layout())
    offset, size = rows[name]
    rows[name] = (offset, size + 4)
    fake = FakeAgent({HELLO: lambda r: frame(r, fakes.hello_payload(rows=rows))})
    with pytest.raises(ProtocolError, match=name), fake_agent(fake):
        pass


def test_a_layout_with_a_field_less_is_refused() -> None:
    rows = dict(list(wire.layout().items())[:-1])
    fake = FakeAgent({HELLO: lambda r: frame(r, fakes.hello_payload(rows=rows))})
    with pytest.raises(ProtocolError, match="structs and fields"), fake_agent(fake):
        pass


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda r: b"\xffgarbage" * 8, "garbage"),
        (lambda r: frame(r, length=0xFFFF_FFFF), "4294967295"),
        (lambda r: frame(r, length=wire.LIMIT + 1), "announced"),
        (lambda r: frame(r, id=r.id + 1), "answered request"),
        (lambda r: frame(r, type=RUN), "answered request"),
        (lambda r: frame(r, status=-5), "status"),
        (lambda r: frame(r, status=70000), "status"),
    ],
    ids=["garbage", "4G", "limit", "id", "type", "negative status", "large status"],
)
def test_a_bad_frame_is_a_protocol_error(answer, reason: str) -> None:
    with fake_agent(FakeAgent({PING: answer})) as agent:
        with pytest.raises(ProtocolError, match=reason):
            agent.ping()
        with pytest.raises(ProtocolError, match=reason):
            agent.ping()  # it stays broken, instead of reading on in the middle


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        ran(values=2),
        ran(values=0xFFFF_FFFF),
        ran(outputs=0),
        ran(outputs=0xFFFF_FFFF),
        ran(end=77),
        ran()[:-8],
        ran() + b"more",
    ],
    ids=["empty", "values", "4G values", "outputs", "4G outputs", "end", "short", "long"],
)
def test_counts_that_exceed_the_frame_are_refused(payload: bytes) -> None:
    fake = FakeAgent({RUN: lambda r: frame(r, payload)})
    with fake_agent(fake) as agent, pytest.raises(ProtocolError):
        agent.run([ONE])


@pytest.mark.parametrize(
    "payload",
    [
        wire.pack("wire_walked", entries=1),
        wire.pack("wire_walked", entries=0xFFFF_FFFF),
        wire.pack("wire_walked", entries=1) + wire.pack("wire_entry", path=0xFFFF_FFFF),
        wire.pack("wire_walked", entries=1) + wire.pack("wire_entry", content=0x7FFF_FFFF),
    ],
    ids=["missing", "4G entries", "4G path", "2G content"],
)
def test_a_walk_that_exceeds_its_frame_is_refused(payload: bytes) -> None:
    fake = FakeAgent({constants.WIRE_WALK: lambda r: frame(r, payload)})
    with fake_agent(fake) as agent, pytest.raises(ProtocolError):
        agent.walk("/")


def test_output_longer_than_the_frame_is_refused() -> None:
    payload = wire.pack("wire_completed", output=1 << 31)
    fake = FakeAgent({constants.WIRE_COMMAND: lambda r: frame(r, payload)})
    with fake_agent(fake) as agent, pytest.raises(ProtocolError):
        agent.command(["true"])


def test_more_bytes_than_were_asked_for_are_refused() -> None:
    fake = FakeAgent({constants.WIRE_READ: lambda r: frame(r, b"123")})
    with fake_agent(fake) as agent, pytest.raises(ProtocolError):
        agent.read("/f", limit=2)


def test_silence_ends_at_the_deadline() -> None:
    start = time.monotonic()
    fake = FakeAgent({PING: lambda r: b""})
    with fake_agent(fake, timeout=0.2) as agent, pytest.raises(GuestHangError):
        agent.ping()
    assert time.monotonic() - start < 5


def test_silence_from_the_start() -> None:
    ours, its = socket.socketpair()
    with its, pytest.raises(GuestHangError):
        Agent(SocketChannel(ours), hello_timeout=0.2)


@pytest.mark.parametrize("part", [b"", b"\x48\x41", "half"])
def test_a_channel_that_closes_is_a_lost_agent(part: bytes | str) -> None:
    ours, its = socket.socketpair()
    sent = frame(Request(HELLO, 1, b""), fakes.hello_payload())
    its.sendall(sent[: len(sent) // 2] if part == "half" else part)
    its.shutdown(socket.SHUT_WR)
    with its, pytest.raises(AgentLostError):
        Agent(SocketChannel(ours), hello_timeout=5)


def test_the_machine_may_say_what_a_closed_channel_means() -> None:
    with fake_agent(FakeAgent({PING: lambda r: None})) as agent:
        agent.diagnose = lambda error: MachineError("it is on fire", console="smoke")
        with pytest.raises(MachineError, match="on fire"):
            agent.ping()


def test_an_errno_is_a_call_error_and_breaks_nothing() -> None:
    fake = FakeAgent({constants.WIRE_READ: lambda r: frame(r, b"open", status=2)})
    with fake_agent(fake) as agent:
        with pytest.raises(CallError, match="/nowhere") as caught:
            agent.read("/nowhere")
        assert caught.value.errno == 2
        assert agent.ping() > 0


def test_a_request_that_is_too_long_is_not_sent() -> None:
    fake = FakeAgent()
    with fake_agent(fake) as agent:
        with pytest.raises(InputError):
            agent.submit([Program((), data=bytes(1 << 20), arena=1 << 20)] * 40)
        assert agent.ping() > 0
    assert [request.type for request in fake.seen] == [HELLO, PING]


def test_programs_of_one_message_are_bounded_in_time() -> None:
    record = wire.pack("wire_ran", values=0)
    counts: list[int] = []

    def answer(request: Request) -> bytes:
        counts.append(wire.Reader(request.payload).struct("wire_run").programs)
        return frame(request, record * counts[-1])

    with fake_agent(FakeAgent({RUN: answer}), timeout=5) as agent:
        assert len(agent.run([Program((Call(39),))] * 100, Sandbox(timeout=2))) == 100
        assert sum(counts) == 100
        assert max(counts) * 2 <= 30
        counts.clear()
        agent.run([Program((Call(39),))] * 2, Sandbox(timeout=60))
        assert counts == [1, 1]


def decoders() -> dict[str, tuple[Callable[[bytes], object], bytes]]:
    """Each decoder of an answer, with a correct answer."""
    entry = wire.pack("wire_entry", kind=ord("f"), path=2, content=3) + b"/fabc\0\0\0"
    return {
        "hello": (messages.decode_hello, fakes.hello_payload(lost=b"/x\0", broken=b"y\0")),
        "ran": (lambda raw: messages.decode_ran(wire.Reader(raw), ONE), ran()),
        "completed": (
            messages.decode_completed,
            wire.pack("wire_completed", output=3, error=2) + b"outer",
        ),
        "walked": (messages.decode_walked, wire.pack("wire_walked", entries=2) + entry * 2),
    }


@pytest.mark.parametrize("name", decoders())
@given(data=st.data())
def test_any_bytes_give_a_record_or_a_protocol_error(name: str, data: st.DataObject) -> None:
    decode, whole = decoders()[name]
    decode(whole)
    raw = bytearray(whole)
    # Behind hello's table of layouts lies what is of interest; a changed row is refused anyway.
    last = min(len(raw), 512) - 1
    places = st.integers(0, last) | st.integers(len(raw) - 16, len(raw) - 1)
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        raw[at] = byte
    cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    with suppress(ProtocolError):
        decode(bytes(raw[:cut]) + data.draw(st.binary(max_size=16)))


def test_a_kind_that_is_no_letter_is_unknown() -> None:
    payload = wire.pack("wire_walked", entries=1)
    payload += wire.pack("wire_entry", kind=0x166, path=2, content=-1) + b"/f".ljust(8, b"\0")
    entries, _ = messages.decode_walked(payload)
    assert entries[0].kind == "?"


def test_many_programs_go_in_several_messages() -> None:
    small = Program((Call(39),), data=bytes(1 << 20), arena=1 << 20)
    record = wire.pack("wire_ran", values=0)
    counts: list[int] = []

    def answer(request: Request) -> bytes:
        count = wire.Reader(request.payload).struct("wire_run").programs
        counts.append(count)
        return frame(request, record * count)

    with fake_agent(FakeAgent({RUN: answer}), timeout=5) as agent:
        assert len(agent.run([small] * 20)) == 20
    assert sum(counts) == 20
    assert len(counts) > 1


@pytest.mark.parametrize(
    "program",
    [
        Program((Call(1, (0,) * 7),)),
        Program((Call(1 << 63),)),
        Program((Call(1, stores=(Store(-1, 0),)),)),
        Program((Call(1),), outputs=(Output(0, 0, 1 << 32),)),
    ],
)
def test_a_program_that_cannot_be_said_is_bad_input(program: Program) -> None:
    with pytest.raises(InputError):
        messages.encode_program(program)


def test_a_ten_call_program_is_encoded_quickly() -> None:
    call = Call(1, (Result(0), Pointer(8), Word(4), -100, 5, 6), (Store(0, Pointer(4)),))
    program = Program((call,) * 10, data=bytes(100), outputs=(Output(9, 0, 64),))
    start = time.perf_counter()
    for _ in range(100):
        messages.encode_program(program)
    # Measured 0.02 ms; the bound leaves room for a busy machine.
    assert (time.perf_counter() - start) / 100 < 0.001


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_with_a_nul_is_bad_input(path: str) -> None:
    with fake_agent() as agent, pytest.raises(InputError):
        agent.read(path)
