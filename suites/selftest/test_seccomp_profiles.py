"""Seccomp policies: what they mean, that their filters mean the same, and the shipped profiles."""

from __future__ import annotations

import ctypes
import errno
import json
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hostabi.agent.program import Abi
from hostabi.errors import InputError
from hostabi.oci import bundle
from hostabi.packages.context import Packages
from hostabi.syscalls import profiles, seccomp, table
from hostabi.syscalls.seccomp import NATIVE, X32_BIT, Condition, Policy, Rule
from hostabi.syscalls.table import C

ALLOW, EPERM = C.SECCOMP_RET_ALLOW, C.SECCOMP_RET_ERRNO | errno.EPERM
ENOSYS = C.SECCOMP_RET_ERRNO | errno.ENOSYS
KILL = C.SECCOMP_RET_KILL_THREAD
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
ARCHES = {Abi.NATIVE: C.AUDIT_ARCH_X86_64, Abi.X32: C.AUDIT_ARCH_X86_64}
NAMES = ("read", "personality", "socketcall", "socket", "clone", "time", "ptrace", "no_such_call")
SKIPPED = 0xFFFFFFFF


def run(code: bytes, abi: Abi, number: int, arguments: Sequence[int]) -> int:
    """What a kernel makes of a filter: the instructions of networking/filter.rst."""
    padded = [*arguments, *[0] * 6][:6]
    data = struct.pack("<IIQ6Q", number, ARCHES.get(abi, C.AUDIT_ARCH_I386), 0, *padded)
    lines = list(struct.iter_unpack("<HBBI", code))
    place = loaded = 0
    while True:
        operation, yes, no, k = lines[place]
        place += 1
        match operation:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                loaded = struct.unpack_from("<I", data, k)[0]
            case 0x54:  # BPF_ALU | BPF_AND | BPF_K
                loaded &= k
            case 0x05:  # BPF_JMP | BPF_JA
                place += k
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                place += yes if loaded == k else no
            case 0x25:  # BPF_JMP | BPF_JGT | BPF_K
                place += yes if loaded > k else no
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                place += yes if loaded >= k else no
            case 0x06:  # BPF_RET | BPF_K
                return k
            case _:
                raise AssertionError(f"statement {place - 1} is {operation:#x}")


words = st.sampled_from([0, 1, 8, 9, 0xFFFFFFFF])
values = st.builds(lambda high, low: high << 32 | low, words, words)
conditions = st.builds(
    Condition,
    st.integers(0, 2),
    st.sampled_from(OPERATORS).map("SCMP_CMP_{}".format),
    values,
    values,
)
rules = st.builds(
    Rule,
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["ALLOW", "ERRNO", "KILL_PROCESS", "TRACE"]).map("SCMP_ACT_{}".format),
    st.sampled_from([None, 0, errno.ENOSYS, 4095]),
    st.lists(conditions, max_size=3).map(tuple),
)
policies = st.builds(
    Policy,
    st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"]),
    st.sampled_from([None, errno.ENOSYS]),
    st.sets(st.sampled_from(list(seccomp.ARCHITECTURES))).map(tuple),
    st.lists(rules, max_size=6).map(tuple),
)
ABIS = list(seccomp.ARCHITECTURES.values())
FIRST = {Abi.NATIVE: 0, Abi.IA32: 0, Abi.X32: X32_BIT}
known = st.tuples(st.sampled_from(ABIS), st.sampled_from(NAMES[:-1])).map(
    lambda asked: (asked[0], table.numbers(asked[0]).get(asked[1], FIRST[asked[0]]))
)
edges = st.sampled_from([0, X32_BIT - 1, X32_BIT, SKIPPED - 1, SKIPPED])
unknown = edges.map(lambda number: (Abi.X32 if number >= X32_BIT else Abi.NATIVE, number))
calls = st.one_of(known, known, unknown, edges.map(lambda number: (Abi.IA32, number)))


@given(policy=policies, call=calls, arguments=st.lists(values, min_size=6, max_size=6))
@example(
    policy=Policy("SCMP_ACT_ERRNO", architectures=()), call=(Abi.X32, SKIPPED), arguments=[0] * 6
)
def test_filters_mean_what_the_policy_says(policy, call, arguments) -> None:
    """The filter and the evaluation of the rules agree, on every architecture."""
    abi, number = call
    expected = seccomp.verdict(policy, number, arguments, abi)
    assert run(seccomp.compiled(policy), abi, number, arguments) == expected


def equal(index: int, value: int) -> Condition:
    """The most usual condition."""
    return Condition(index, "SCMP_CMP_EQ", value)


def test_what_rules_mean() -> None:
    """The choices that the specification leaves to the runtimes' library, one by one."""
    deny = Rule(("personality",), "SCMP_ACT_ERRNO")
    allow = Rule(("personality",), "SCMP_ACT_ALLOW")
    number = table.number("personality")

    def said(*given_rules: Rule, first: int = 8, second: int = 0, default: int = 38) -> int:
        policy = Policy("SCMP_ACT_ERRNO", default, rules=given_rules)
        return seccomp.verdict(policy, number, (first, second))

    about = Rule(("personality",), "SCMP_ACT_ALLOW", conditions=(equal(0, 8),))
    other = Rule(("personality",), "SCMP_ACT_ERRNO", 5, conditions=(equal(1, 0),))
    both = Rule(("personality",), "SCMP_ACT_ALLOW", conditions=(equal(0, 8), equal(1, 1)))
    either = Rule(("personality",), "SCMP_ACT_ALLOW", conditions=(equal(0, 7), equal(0, 8)))
    assert said() == ENOSYS
    assert (said(deny, allow), said(allow, deny)) == (EPERM, ALLOW)
    assert (said(deny, about), said(about, deny)) == (EPERM, EPERM)
    assert (said(about, other), said(other, about)) == (ALLOW, C.SECCOMP_RET_ERRNO | 5)
    assert (said(both), said(both, second=1), said(either)) == (ENOSYS, ALLOW, ALLOW)
    assert said(deny, allow, default=errno.EPERM) == ALLOW, "a rule for what happens anyway"
    assert said(about, first=1 << 32 | 8) == ENOSYS
    narrow = Policy("SCMP_ACT_ERRNO", 38, ("SCMP_ARCH_X86",), (about,))
    compat = table.number("personality", Abi.IA32)
    assert seccomp.verdict(narrow, compat, (1 << 32 | 8,), Abi.IA32) == ALLOW


@pytest.mark.parametrize(
    "policy",
    [
        Policy("SCMP_ACT_MAYBE"),
        Policy("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_ARM",)),
        Policy("SCMP_ACT_ALLOW", rules=(Rule(("read",), "SCMP_ACT_KILL", None, (equal(6, 0),)),)),
        Policy(
            "SCMP_ACT_ALLOW",
            rules=(Rule(("read",), "SCMP_ACT_KILL", None, (Condition(0, "SCMP_CMP_IS", 0),)),),
        ),
    ],
    ids=["action", "architecture", "argument", "operator"],
)
def test_unknown_words_are_refused(policy: Policy) -> None:
    """A filter that does something else than its policy says would be worse than none."""
    with pytest.raises(InputError):
        seccomp.compiled(policy)
    with pytest.raises(InputError):
        seccomp.verdict(policy, table.number("read"))


def test_far_jumps_and_the_limit() -> None:
    """Jumps further than 255 statements, and more statements than BPF_MAXINSNS."""
    every = tuple(table.numbers(Abi.NATIVE))

    def policy(count: int) -> Policy:
        asked = tuple(
            Rule((name,), "SCMP_ACT_ALLOW", conditions=(Condition(0, "SCMP_CMP_GE", index),))
            for index, name in enumerate(every[:count])
        )
        return Policy("SCMP_ACT_ERRNO", rules=asked)

    code = seccomp.compiled(policy(300))
    assert 300 * 8 * 5 < len(code) <= C.BPF_MAXINSNS * 8
    for index, name in enumerate(every):
        for argument in {max(index - 1, 0), index}:
            allowed = argument >= index and index < 300
            said = run(code, Abi.NATIVE, table.number(name), [argument])
            assert said == (ALLOW if allowed else EPERM)
    with pytest.raises(InputError, match="a kernel takes 4096"):
        seccomp.compiled(Policy("SCMP_ACT_ERRNO", rules=policy(300).rules * 3))


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": NATIVE, "subArchitectures": ["SCMP_ARCH_X86"]},
    ],
    "syscalls": [
        {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None, "comment": "for people"},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["iopl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["x86", "amd64"]}},
        {"names": ["stime"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        {"names": ["ioperm"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
    ],
}


@pytest.mark.parametrize(
    ("capabilities", "names"),
    [
        ((), ["read", "bpf", "iopl"]),
        (("CAP_A",), ["read", "iopl"]),
        (("CAP_A", "CAP_B"), ["read", "bpf", "iopl"]),
    ],
)
def test_parts_hold_for_an_architecture_and_capabilities(capabilities, names) -> None:
    """containers-seccomp.json(5): all of "includes" and none of "excludes"."""
    policy = profiles.decode(json.dumps(PROFILE).encode()).policy(capabilities)
    assert [name for rule in policy.rules for name in rule.names] == names
    assert policy.architectures == (NATIVE, "SCMP_ARCH_X86")
    assert (policy.default, policy.default_errno) == ("SCMP_ACT_ERRNO", 38)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no seccomp profile"),
        ('{"syscalls": []}', "defaultAction"),
        (" " * ((1 << 20) + 1), "bytes"),
        (
            json.dumps(
                {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [
                        {
                            "names": ["ptrace"],
                            "action": "SCMP_ACT_KILL",
                            "includes": {"minKernel": "4.8"},
                        }
                    ],
                }
            ),
            "ptrace depends on the kernel's release",
        ),
    ],
    ids=["syntax", "incomplete", "large", "release"],
)
def test_what_is_no_profile(text: str, said: str) -> None:
    """The error names what is wrong."""
    with pytest.raises(InputError, match=said):
        profiles.decode(text.encode())


def test_bundles_under_a_profile() -> None:
    """The bundle has the rules for its own bounding set, as the specification spells them."""
    given_profile = profiles.decode(json.dumps(PROFILE).encode())
    config = bundle.profiled(bundle.base(), given_profile)
    written = json.loads(config.encode())["linux"]["seccomp"]
    assert written["defaultErrnoRet"] == errno.ENOSYS
    assert written["architectures"] == [NATIVE, "SCMP_ARCH_X86"]
    assert [each["names"] for each in written["syscalls"]] == [["read"], ["bpf"], ["iopl"]]
    held = bundle.process(bundle.base(), capabilities=bundle.capabilities(("CAP_A",)))
    fewer = json.loads(bundle.profiled(held, given_profile).encode())["linux"]["seccomp"]
    assert [each["names"] for each in fewer["syscalls"]] == [["read"], ["iopl"]]


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def of_the_library(path: Path, policy: Policy) -> bytes:
    """The filter that runtimes load: what libseccomp makes of the policy's rules."""
    library = ctypes.CDLL(str(path))
    library.seccomp_init.restype = ctypes.c_void_p

    def action(name: str, number: int | None) -> int:
        given_errno = errno.EPERM if number is None else number
        return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": C.SECCOMP_RET_ERRNO | given_errno}[name]

    default = action(policy.default, policy.default_errno)
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for name in policy.architectures:
        token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        assert library.seccomp_arch_add(context, token) in (0, -errno.EEXIST)
    for rule in policy.rules:
        wanted = ctypes.c_uint32(action(rule.action, rule.errno))
        array = (Compare * 6)()
        for place, each in zip(array, rule.conditions, strict=False):
            place.arg, place.first, place.second = each.index, each.value, each.second
            place.op = 1 + OPERATORS.index(each.operator.removeprefix("SCMP_CMP_"))
        for name in rule.names:
            number = library.seccomp_syscall_resolve_name(name.encode())
            assert number != -1, f"this library knows no {name}"
            count = len(rule.conditions)
            done = library.seccomp_rule_add_array(context, wanted, number, count, array)
            assert done == 0, name
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        file.seek(0)
        code = file.read()
    library.seccomp_release(context)
    return code


SPECIAL = (0, 8, 9, 16, 40, 0x20000, 0x20008, 0xFFFFFFFF, 1 << 32, 1 << 32 | 16, (1 << 64) - 1)
HELD = (
    bundle.CAPABILITIES,
    (),
    tuple(name for name in bundle.CAPABILITIES if name != "CAP_AUDIT_WRITE"),
    (*bundle.CAPABILITIES, "CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"),
)


@pytest.fixture(scope="module")
def packages() -> Packages:
    """Debian packages; needs a mirror, or a cache that holds these."""
    return Packages.open()


@pytest.mark.kernels
@pytest.mark.parametrize("held", HELD, ids=["usual", "none", "no-audit", "many"])
@pytest.mark.parametrize("name", profiles.catalogue())
def test_shipped_profiles_are_what_their_own_library_makes(name, held, packages) -> None:
    """Every call of every architecture is decided as by the libseccomp of the same suite."""
    entry = profiles.catalogue()[name]
    policy = profiles.fetch(packages, name).policy(held)
    library = packages.tree(["libseccomp2"], entry.suite).root
    theirs = of_the_library(library / "usr/lib/x86_64-linux-gnu/libseccomp.so.2", policy)
    ours = seccomp.compiled(policy)
    assert len(ours) < len(theirs)
    conditional = {call for rule in policy.rules if rule.conditions for call in rule.names}
    for abi in ABIS:
        limits = {0, X32_BIT - 1, X32_BIT, SKIPPED} if abi is not Abi.X32 else set()
        for number in {*table.numbers(abi).values(), *limits}:
            words = SPECIAL if table.name(number, abi) in conditional else (0,)
            for arguments in ((first, 0, third) for first in words for third in words):
                said = run(ours, abi, number, arguments)
                assert said == run(theirs, abi, number, arguments), (abi, number, arguments)
                real = Abi.X32 if abi is Abi.NATIVE and number >= X32_BIT else abi
                assert said == seccomp.verdict(policy, number, arguments, real)
