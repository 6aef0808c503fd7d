"""netfilter: messages and tables are laid out as kernels read them, and answers are read right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostabi.agent.program import End, Ran
from hostabi.diff import keys
from hostabi.model import Fact, Value
from hostabi.surfaces import netfilter, netfilter_messages, netfilter_nft, netfilter_xtables
from hostabi.surfaces.netfilter_extensions import extensions
from hostabi.surfaces.netfilter_modules import wanted
from hostabi.surfaces.probing import HOST, USER, USERNS, Probe, View, outcome
from hostabi.syscalls import types
from hostabi.syscalls.table import C, constants, errno_name

PARTS = netfilter.SURFACE.parts


def asked(view: View) -> dict[str, Probe]:
    return {
        key: probe for part in PARTS if view in part.views for key, probe in part.probes.items()
    }


def answer(probe: Probe, code: int, **others: int) -> Value:
    """What the probe says when the kernel's answer holds this code; the same for other keys."""
    program = probe.built.program
    values = [3] * len(program.calls)
    for key, told in {probe.key: code, **others}.items():
        values[asked(HOST)[key].ref.call] = told
    return outcome(probe, Ran(End.EXITED, 0, tuple(values)))[0]


def rows(raw: bytes, length: int, align: int, place: slice) -> Iterator[bytes]:
    """Things one after another, of which each tells its own size; all has to be used up."""
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at:][place], "little")
        assert length <= size <= len(raw) - at
        yield raw[at : at + size]
        at += (size + align - 1) // align * align
    assert at == len(raw)


def messages(raw: bytes) -> list[bytes]:
    return list(rows(raw, 16, 4, slice(0, 4)))


@pytest.mark.parametrize("view", [HOST, USERNS, USER])
def test_no_question_is_in_two_parts(view: View) -> None:
    assert len(asked(view)) == sum(len(part.probes) for part in PARTS if view in part.views)


@pytest.mark.parametrize("view", [USERNS, USER])
def test_what_others_are_asked_root_is_asked_as_well(view: View) -> None:
    assert asked(view).keys() <= asked(HOST).keys()


def test_every_key_flag_and_kind_is_asked() -> None:
    known = asked(HOST)
    for name in constants("NFT_META_"):
        short = name.removeprefix("NFT_META_")
        family = "bridge" if short.startswith("BRI_") else "inet"
        of = f"nft.{family}.meta.{short}"
        assert short == "IFTYPE" or {of, f"{of}-set"} & known.keys(), name
    for name in constants("NFT_CT_"):
        of = f"nft.inet.ct.{name.removeprefix('NFT_CT_')}"
        assert name == "NFT_CT_MAX" or {of, f"{of}-set"} & known.keys(), name
    for name in constants("NFT_MSG_DESTROY"):
        what = name.removeprefix("NFT_MSG_DESTROY").lower()
        subject = {"setelem": "inet.element", "obj": "inet.object", "table": "table"}
        assert f"nft.{subject.get(what, f'inet.{what}')}.DESTROY.absent" in known


def test_attributes_are_padded_and_nested() -> None:
    inner = netfilter_messages.big(2, 5, 2)
    assert inner == bytes((6, 0, 2, 0, 0, 5, 0, 0))
    outer = netfilter_messages.nested(1, inner, netfilter_messages.text(3, "abc"))
    assert outer == bytes((20, 0, 1, 0x80)) + inner + bytes((8, 0, 3, 0)) + b"abc\0"


def test_of_a_transaction_only_the_last_message_is_answered() -> None:
    made = netfilter_nft.batch(netfilter_nft.table("ip"), netfilter_nft.chain("ip", "c"))
    several = messages(made)
    kinds = [int.from_bytes(each[4:6], "little") for each in several]
    assert (kinds[0], kinds[-1]) == (C.NFNL_MSG_BATCH_BEGIN, C.NFNL_MSG_BATCH_END)
    answered = [int.from_bytes(each[6:8], "little") & C.NLM_F_ACK for each in several]
    assert answered == [0, 0, C.NLM_F_ACK, 0]


def test_every_message_that_is_sent_is_whole() -> None:
    for part in PARTS:
        for built in {id(probe.built): probe.built for probe in part.probes.values()}.values():
            for call, step in zip(built.program.calls, built.steps, strict=True):
                if step.name == "sendto":
                    start, length = call.arguments[1], call.arguments[2]
                    offset = getattr(start, "offset", None)
                    assert isinstance(offset, int)
                    assert isinstance(length, int)
                    assert messages(built.program.data[offset : offset + length])


@pytest.mark.parametrize(("table", "hook"), [("filter", 2), ("nat", 4), ("mangle", 0), ("raw", 3)])
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_table_is_laid_out_as_the_kernel_checks_it(family: str, table: str, hook: int) -> None:
    for each in extensions():
        if (each.table, family) == (table, next(iter(each.content))):
            break
    name = {"ip": "ipt", "ip6": "ip6t"}[family]
    entry = netfilter_xtables._rule(family, each)
    raw = netfilter_xtables._replacement(family, table, hook, entry, 9)
    head = types.decode(f"struct {name}_replace", raw[:96])
    assert (head.size, head.num_counters) == (len(raw) - 96, 9)
    place = 90 if family == "ip" else 142
    starts, at = [], 0
    for one in rows(raw[96:], 112, 8, slice(place, place + 2)):
        assert len(one) % 8 == 0
        starts.append(at)
        at += len(one)
    hooks = [n for n in range(5) if head.valid_hooks >> n & 1]
    assert len(starts) == head.num_entries == len(hooks) + 2
    begins, ends = [head.hook_entry[n] for n in hooks], [head.underflow[n] for n in hooks]
    assert begins == sorted(set(begins))
    assert ends == sorted(set(ends))
    assert set(begins) | set(ends) <= set(starts)
    assert [n for n in hooks if head.hook_entry[n] != head.underflow[n]] == [hook]


def test_an_answer_is_the_value() -> None:
    probe = asked(HOST)["queue"]
    assert answer(probe, 0) == keys.OK
    assert answer(probe, -1) == "EPERM"
    # family, version and resource of an answer that is data
    assert answer(probe, 0x05000002) == keys.OK
    assert answer(probe, -0x7FFFFFFE) == keys.OK


def test_what_a_question_needs_fails_first() -> None:
    probe = asked(HOST)["nft.inet.counter"]
    assert answer(probe, 0, **{"nft.inet": -95, "nft.inet.chain.filter.pre": -2}) == "EOPNOTSUPP"


def test_errors_of_ipset_are_no_success() -> None:
    value = answer(asked(HOST)["ipset.hash:ip.6"], -4098)
    assert value == errno_name(4098)
    assert keys.failed(value)


def test_nothing_is_said_about_the_forms_of_what_is_not_there() -> None:
    facts = [
        Fact("nft.inet.last", "ENOENT"),
        Fact("nft.inet.last.set", "ENOENT"),
        Fact("nft.inet.last.set#userns", "EPERM"),
        Fact("nft.inet.lasting", "EINVAL"),
    ]
    values = [fact.value for fact in netfilter.of_what_is_there(facts)]
    assert values == ["ENOENT", None, "EPERM", "EINVAL"]


def test_modules_have_the_names_that_kernels_ask_for() -> None:
    names = wanted()
    assert {"nft-expr-nat", "nft-chain-2-nat", "ipt_MARK", "ip6t_MARK", "iptable_raw"} <= {*names}
    assert {"ip_set_hash:net,iface", "nfnetlink-subsys-1", "ebt_mark"} <= {*names}
    assert len(names) == len({*names})
