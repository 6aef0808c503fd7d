"""Netlink: messages are built as linux/netlink.h says, answers read right, tables whole."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Value
from hostabi.surfaces import netlink
from hostabi.surfaces import netlink_messages as messages
from hostabi.surfaces.netlink_links import FORMS, KINDS, RARE
from hostabi.surfaces.netlink_talk import having
from hostabi.surfaces.probing import Probe, outcome
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.table import C

EVERYBODY, NETWORKS, MACHINE = (part.probes for part in netlink.SURFACE.parts)
EAGAIN, ENODATA, EPERM = -11, -61, -1


def answer(probe: Probe, returned: int, written: bytes = b"", **failed: int) -> Value:
    """What the probe says when its call returns a number and leaves these bytes.

    ``failed`` are results by the name of the call that the probe needs.
    """
    program = probe.built.program
    values = [3] * len(program.calls)
    for ref in (*probe.given, *probe.needs):
        values[ref.call] = failed.get(probe.built.steps[ref.call].name, 3)
    values[probe.ref.call] = returned
    outputs = tuple(
        written.ljust(output.length, b"\0")
        if output.call == probe.ref.call
        else bytes(output.length)
        for output in program.outputs
    )
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def family(*attributes: messages.Piece) -> bytes:
    """The answer to CTRL_CMD_GETFAMILY."""
    made = messages.generic(C.GENL_ID_CTRL, C.CTRL_CMD_NEWFAMILY, *attributes, version=2)
    return made.raw


def test_no_question_is_in_two_tables() -> None:
    assert not EVERYBODY.keys() & NETWORKS.keys()
    assert not (EVERYBODY.keys() | NETWORKS.keys()) & MACHINE.keys()


def test_every_kind_of_device_is_made() -> None:
    for kind in KINDS:
        assert f"link.{kind.name}" in NETWORKS
    for kind in (*RARE, *FORMS):
        assert f"link.{kind.name}" in MACHINE


def test_a_message_has_its_length_and_padded_attributes() -> None:
    made = messages.message(C.RTM_NEWLINK, C.NLM_F_ACK, messages.attribute(3, messages.text("lo")))
    length, kind, flags, _, _ = struct.unpack_from("<IHHII", made.raw)
    assert (length, kind, flags) == (24, C.RTM_NEWLINK, C.NLM_F_ACK | C.NLM_F_REQUEST)
    assert made.raw[16:] == struct.pack("<HH4s", 7, 3, b"lo\0\0")


def test_what_is_known_late_stays_in_its_place() -> None:
    b = Builder()
    fd = b.call("getpid")
    inner = messages.attribute(C.IFLA_NET_NS_FD, messages.u32(fd))
    made = messages.message(C.RTM_NEWLINK, 0, messages.u32(7), messages.nest(1, inner))
    assert made.late == ((16 + 4 + 4 + 4, 4, fd),)
    assert made.raw[20:24] == struct.pack("<HH", 12, 1 | C.NLA_F_NESTED)


def test_attributes_are_found_by_their_path() -> None:
    inner = messages.nest(2, messages.attribute(7, messages.u32(5)))
    made = messages.message(1, 0, messages.u32(0), messages.attribute(1), inner)
    content = messages.content(made.raw, 4)
    assert messages.find(content, (2, 7)) == struct.pack("<I", 5)
    assert messages.find(content, (2, 8)) is None
    assert messages.find(content, (7,)) is None


def test_attributes_that_lie_about_their_length() -> None:
    good = struct.pack("<HHI", 8, 1, 7)
    for length in (0, 3, 9, 0xFFFF):
        assert messages.attributes(struct.pack("<HH", length, 1) + bytes(4)) == []
        assert messages.attributes(good + struct.pack("<HH", length, 1)) == [(1, good[4:])]
    assert messages.attributes(good[:6]) == []


@given(st.binary(max_size=300), st.lists(st.integers(0, 20), max_size=3))
def test_no_answer_leads_astray(raw: bytes, path: list[int]) -> None:
    for _, content in messages.attributes(raw):
        assert content in raw
    messages.find(messages.content(raw, 4), path)
    for probe in MACHINE.values():
        if probe.key in ("genl.ethtool#commands", "genl.ethtool#groups"):
            value = answer(probe, len(raw), raw)
            assert value is None or isinstance(value, list)


def test_the_code_of_an_answer_is_the_value() -> None:
    probe = NETWORKS["link.veth"]
    assert answer(probe, 0) == keys.OK
    assert answer(probe, EPERM) == "EPERM"
    assert answer(probe, ENODATA) == "ENODATA"
    assert answer(probe, 0, sendto=-111) == "ECONNREFUSED"


def test_nothing_is_said_about_options_of_what_is_not_there() -> None:
    assert answer(MACHINE["link.netkit.IFLA_NETKIT_MODE"], 0, lseek=-95) is None
    assert answer(MACHINE["link.netkit"], 0, socket=-93) is None


def test_a_setting_that_is_refused_says_why() -> None:
    probe = NETWORKS["device.IFLA_PROTO_DOWN"]
    refused = {ref.call for ref in probe.needs} - {ref.call for ref in probe.given}
    values = [-95 if call in refused else 3 for call in range(len(probe.built.program.calls))]
    ran = Ran(End.EXITED, 0, tuple(values), ())
    assert outcome(probe, ran)[0] == "EOPNOTSUPP"


def test_a_family_tells_its_commands_and_groups() -> None:
    ops = [
        messages.nest(
            index,
            messages.attribute(C.CTRL_ATTR_OP_ID, messages.u32(number)),
            messages.attribute(C.CTRL_ATTR_OP_FLAGS, messages.u32(flags)),
        )
        for index, (number, flags) in enumerate(((2, 0x2), (1, 0x6 | 0x8)), 1)
    ]
    named = messages.attribute(C.CTRL_ATTR_MCAST_GRP_NAME, messages.text("monitor"))
    told = family(
        messages.nest(C.CTRL_ATTR_OPS, *ops),
        messages.nest(C.CTRL_ATTR_MCAST_GROUPS, messages.nest(1, named)),
    )
    commands, groups = (MACHINE[f"genl.ethtool#{name}"] for name in ("commands", "groups"))
    assert answer(commands, len(told), told) == ["1 do", "1 dump", "2 do"]
    assert answer(groups, len(told), told) == ["monitor"]
    error = messages.message(C.NLMSG_ERROR, 0, messages.u32(2)).raw
    assert answer(commands, len(error), error) is None


def _run(program: list[tuple[int, int, int, int]], packet: bytes) -> int:
    """A classic BPF machine, as far as filters here need one: networking/filter.rst."""
    accumulator = index = at = 0
    while True:
        code, yes, no, number = program[at]
        at += 1
        width = {0: 4, 0x08: 2, 0x10: 1}[code & 0x18]
        if code & 7 == C.BPF_RET:
            return number
        if code & 7 == C.BPF_LDX:
            index = number
        elif code & 7 == C.BPF_MISC:
            index = accumulator
        elif code & 7 == C.BPF_JMP:
            at += yes if accumulator == number else no
        elif code & 0xE0 == C.BPF_IMM:
            accumulator = number
        elif number < 0:
            start = accumulator
            if number == C.SKF_AD_OFF + C.SKF_AD_NLATTR_NEST:
                start += 4
                end = accumulator + int.from_bytes(packet[accumulator : accumulator + 2], "little")
            else:
                end = len(packet)
            accumulator = _attribute_at(packet[:end], start, index)
        else:
            start = number + (index if code & 0xE0 == C.BPF_IND else 0)
            accumulator = int.from_bytes(packet[start : start + width], "big")


def _attribute_at(packet: bytes, at: int, kind: int) -> int:
    while at + 4 <= len(packet):
        size, found = struct.unpack_from("<HH", packet, at)
        if found & 0x3FFF == kind:
            return at
        at += (size + 3) & ~3
    return 0


@pytest.mark.parametrize(("size", "value"), [(1, 5), (2, 0x1234), (4, 0x12345678)])
def test_a_filter_lets_pass_what_has_the_attribute(size: int, value: int) -> None:
    inner = messages.nest(2, messages.attribute(7, messages.numbers(size, value)))
    packet = messages.message(C.RTM_NEWLINK, 0, messages.u32(0), messages.attribute(1), inner).raw
    packet = packet[:8] + messages.u32(9).raw + packet[12:]
    assert _run(having(9, 20, (2, 7), (size, value)), packet)
    assert _run(having(9, 20, (2, 7)), packet)
    assert not _run(having(8, 20, (2, 7)), packet)
    assert not _run(having(9, 20, (2, 7), (size, value + 1)), packet)
    assert not _run(having(9, 20, (2, 8)), packet)
    assert not _run(having(9, 20, (3, 7)), packet)
    error = messages.message(C.NLMSG_ERROR, 0, messages.u32(1)).raw
    assert _run(having(9, 20, (3, 7)), error)
