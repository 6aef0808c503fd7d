"""Sockets: tables of options are whole, and answers are read right."""

from __future__ import annotations

import errno
import struct

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Fact, Value
from hostabi.surfaces import sockets, sockets_options
from hostabi.surfaces.probing import Probe, outcome
from hostabi.surfaces.slots import controls
from hostabi.syscalls.table import C

EVERYBODY, NAMESPACED, MACHINE = (part.probes for part in sockets.SURFACE.parts)


def answer(probe: Probe, returned: int, *written: bytes) -> Value:
    """What the probe says when its call returns a number and leaves these bytes."""
    program = probe.built.program
    values = [3] * len(program.calls)
    values[probe.ref.call] = returned
    own = iter(written)
    outputs = tuple(
        next(own).ljust(output.length, b"\0")
        if output.call == probe.ref.call
        else bytes(output.length)
        for output in program.outputs
    )
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_no_question_is_in_two_tables() -> None:
    assert not EVERYBODY.keys() & NAMESPACED.keys()
    assert not (EVERYBODY.keys() | NAMESPACED.keys()) & MACHINE.keys()


def test_every_option_is_read_and_set() -> None:
    for table in sockets_options.TABLES:
        for name in table.both.split():
            assert f"{table.socket}.{name}.get" in EVERYBODY
            assert f"{table.socket}.{name}.set" in EVERYBODY
            assert f"{table.socket}.{name}.get#default" in MACHINE


def test_a_default_is_a_signed_number() -> None:
    probe = MACHINE["socket.SO_PEEK_OFF.get#default"]
    assert answer(probe, 0, struct.pack("<i", -1)) == "-1"


def test_a_struct_tells_its_size() -> None:
    assert answer(MACHINE["tcp.TCP_INFO.get#size"], 0, struct.pack("<I", 232)) == 232


def test_nothing_is_said_about_an_option_that_is_not_there() -> None:
    gone = Fact("tcp.TCP_INFO.get#size", "ENOPROTOOPT")
    assert sockets.of_what_is_there(gone).value is None
    refused = Fact("tcp.TCP_INFO.get", "EOPNOTSUPP")
    assert sockets.of_what_is_there(refused) == refused


def test_nothing_is_said_about_options_of_a_socket_that_is_not_there() -> None:
    for probe, error in (
        (EVERYBODY["mptcp.TCP_NODELAY.get"], errno.EPROTONOSUPPORT),
        (EVERYBODY["mptcp.TCP_NODELAY.set"], errno.EPROTONOSUPPORT),
        (EVERYBODY["packet.PACKET_FANOUT.PACKET_FANOUT_LB"], errno.EAFNOSUPPORT),
        (MACHINE["tls.AES_GCM_128.TX.1.2"], errno.ENOENT),
    ):
        (made,) = probe.given
        values = [3] * len(probe.built.program.calls)
        values[made.call] = -error
        assert outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0] is None


def test_a_clock_that_loopback_has_not_is_a_flag_that_is_known() -> None:
    probe = EVERYBODY["udp.SO_TIMESTAMPING.SOF_TIMESTAMPING_BIND_PHC"]
    assert answer(probe, -errno.EOPNOTSUPP) == keys.OK
    assert answer(probe, -errno.EINVAL) == "EINVAL"


def test_what_comes_with_a_message_is_looked_for_by_its_kind() -> None:
    probe = EVERYBODY["unix.SO_PASSCRED.received"]
    came = struct.pack("<Qii3I", 28, C.SOL_SOCKET, C.SCM_CREDENTIALS, 1, 2, 3)
    assert answer(probe, 1, came, struct.pack("<Q", len(came))) == keys.OK
    assert answer(probe, 1, came, struct.pack("<Q", 0)) == "nothing came"


def test_control_messages_that_lie_about_their_length() -> None:
    good = struct.pack("<QiiI", 20, 1, 2, 7) + bytes(4)
    assert controls(good, len(good)) == [(1, 2, struct.pack("<I", 7))]
    for length in (0, 15, 1 << 40, 2**64 - 1):
        assert controls(struct.pack("<Qii", length, 1, 2) + good, 40) == []
    assert controls(good, 10**9) == [(1, 2, struct.pack("<I", 7))]
