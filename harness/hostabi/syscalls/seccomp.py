"""Seccomp policies in the words of the OCI specification, and the BPF filters they mean.

What a policy means is what the runtimes make of it through their library
(seccomp_rule_add(3)), which the specification leaves open:

- A rule that says what happens anyway is no rule, and so is a name that the table of an
  architecture lacks.
- A rule without conditions decides alone, the first one if there are several.
- Of rules with conditions the first that is met decides. All conditions of a rule must be met;
  where two are about the same argument, each is a rule of its own.
- i386 and x32 have arguments of 32 bits. An architecture that is not listed ends the caller.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hostabi.agent.program import Abi
from hostabi.errors import InputError
from hostabi.syscalls import table
from hostabi.syscalls.filters import Assembler, Label
from hostabi.syscalls.table import C

NATIVE = "SCMP_ARCH_X86_64"
ARCHITECTURES = {NATIVE: Abi.NATIVE, "SCMP_ARCH_X86": Abi.IA32, "SCMP_ARCH_X32": Abi.X32}
"""The architectures that a kernel of x86-64 has, config-linux.md, "Seccomp"."""

X32_BIT = 0x40000000
"""__X32_SYSCALL_BIT of asm/unistd.h."""

_SKIPPED = 0xFFFFFFFF
"""The number by which a tracer has a call left out, seccomp(2): no call of x32."""
_GREATER, _AT_LEAST = "SCMP_CMP_GT", "SCMP_CMP_GE"
_MASKED = "SCMP_CMP_MASKED_EQ"
_COMPARISONS = {
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    _GREATER: operator.gt,
    _AT_LEAST: operator.ge,
}
_WIDTHS = {Abi.NATIVE: 64, Abi.IA32: 32, Abi.X32: 32}

# struct seccomp_data of linux/seccomp.h.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ARGUMENT_COUNT = 6


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on argument ``index``; ``operator`` such as ``SCMP_CMP_EQ``.

    For ``SCMP_CMP_MASKED_EQ`` ``value`` is the mask and ``second`` is what is compared.
    """

    index: int
    operator: str
    value: int
    second: int = 0

    def met(self, argument: int, width: int = 64) -> bool:
        """Whether an argument of ``width`` bits meets it."""
        low = (1 << width) - 1
        given, value = argument & low, self.value & low
        compare = _COMPARISONS.get(self.operator)
        return compare(given, value) if compare else given & value == self.second & value


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the calls ``names``: ``action`` such as ``SCMP_ACT_ERRNO``.

    ``errno`` goes with it where the action has one; EPERM when None.
    """

    names: tuple[str, ...]
    action: str
    errno: int | None = None
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole filter: ``default`` for what no rule covers."""

    default: str
    default_errno: int | None = None
    architectures: tuple[str, ...] = (NATIVE,)
    rules: tuple[Rule, ...] = ()


def verdict(
    policy: Policy, number: int, arguments: Sequence[int] = (), abi: Abi = Abi.NATIVE
) -> int:
    """The SECCOMP_RET_* value, data included, for one call. Missing arguments are 0.

    Raises InputError for a policy that names an unknown action, operator or architecture.
    """
    known = _architectures(policy)
    if abi not in known and not (number == _SKIPPED and abi is Abi.X32):
        return C.SECCOMP_RET_KILL_THREAD
    given = (*arguments, *[0] * _ARGUMENT_COUNT)
    for action, conditions in _decisions(policy, abi).get(number, ()):
        if all(each.met(given[each.index], _WIDTHS[abi]) for each in conditions):
            return action
    return _action(policy.default, policy.default_errno)


def compiled(policy: Policy) -> bytes:
    """The policy as an array of struct sock_filter, as :class:`Sandbox` and seccomp(2) take it.

    Raises InputError for an unknown action, operator or architecture, and for a policy that
    needs more than BPF_MAXINSNS instructions.
    """
    known = _architectures(policy)
    code = Assembler()
    native, other = code.label(), code.label()
    code.load(_ARCH)
    code.jump(C.BPF_JEQ, C.AUDIT_ARCH_X86_64, native, other)
    code.place(other)
    if Abi.IA32 in known:
        compat, other = code.label(), code.label()
        code.jump(C.BPF_JEQ, C.AUDIT_ARCH_I386, compat, other)
        code.place(compat)
        _table(code, policy, {0: Abi.IA32})
        code.place(other)
    code.leave(C.SECCOMP_RET_KILL_THREAD)
    code.place(native)
    _table(code, policy, {0: Abi.NATIVE, X32_BIT: Abi.X32 if Abi.X32 in known else None})
    made = code.assemble()
    if len(made) > C.BPF_MAXINSNS:
        raise InputError(
            f"the seccomp policy needs {len(made)} instructions, and a kernel takes "
            f"{C.BPF_MAXINSNS} (linux/bpf_common.h)",
            advice="merge rules that differ in nothing but their names",
        )
    return b"".join(made)


_Decision = tuple[tuple[int, tuple[Condition, ...]], ...]
"""Actions with their conditions, in turn; the policy's default when none is met."""


def _architectures(policy: Policy) -> frozenset[Abi]:
    unknown = set(policy.architectures) - set(ARCHITECTURES)
    if unknown:
        raise InputError(
            f"x86-64 has no architecture {', '.join(sorted(unknown))}",
            advice=f"known are {', '.join(ARCHITECTURES)}",
        )
    return frozenset(ARCHITECTURES[name] for name in (NATIVE, *policy.architectures))


@lru_cache(maxsize=32)
def _decisions(policy: Policy, abi: Abi) -> dict[int, _Decision]:
    """What a policy says about each call that it names, by number."""
    numbers = table.numbers(abi)
    default = _action(policy.default, policy.default_errno)
    found: dict[int, list[tuple[int, tuple[Condition, ...]]]] = {}
    for rule in policy.rules:
        action = _action(rule.action, rule.errno)
        if action == default:
            continue
        for name in rule.names:
            if name in numbers:
                said = found.setdefault(numbers[name], [])
                said.extend((action, conditions) for conditions in _alternatives(rule))
    return {number: _decided(said) for number, said in found.items()}


def _decided(said: list[tuple[int, tuple[Condition, ...]]]) -> _Decision:
    alone = next((each for each in said if not each[1]), None)
    return (alone,) if alone else tuple(said)


def _alternatives(rule: Rule) -> list[tuple[Condition, ...]]:
    for condition in rule.conditions:
        if condition.operator not in {*_COMPARISONS, _MASKED}:
            raise InputError(f"no operator of seccomp is called {condition.operator!r}")
        if not 0 <= condition.index < _ARGUMENT_COUNT:
            raise InputError(f"a syscall has no argument {condition.index}")
    if len({condition.index for condition in rule.conditions}) < len(rule.conditions):
        return [(condition,) for condition in rule.conditions]
    return [rule.conditions]


def _action(name: str, number: int | None) -> int:
    known = {
        "SCMP_ACT_ALLOW": C.SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO": C.SECCOMP_RET_ERRNO,
        "SCMP_ACT_KILL": C.SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_THREAD": C.SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": C.SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_LOG": C.SECCOMP_RET_LOG,
        "SCMP_ACT_NOTIFY": C.SECCOMP_RET_USER_NOTIF,
        "SCMP_ACT_TRACE": C.SECCOMP_RET_TRACE,
        "SCMP_ACT_TRAP": C.SECCOMP_RET_TRAP,
    }
    if name not in known:
        raise InputError(f"no action of seccomp is called {name!r}", advice=", ".join(known))
    if name not in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}:
        return known[name]
    return known[name] | (errno.EPERM if number is None else number) & C.SECCOMP_RET_DATA


def _table(code: Assembler, policy: Policy, parts: dict[int, Abi | None]) -> None:
    """The choice by number, where each part of the numbers belongs to an ABI or is forbidden."""
    default = ((_action(policy.default, policy.default_errno), ()),)
    forbidden = ((C.SECCOMP_RET_KILL_THREAD, ()),)
    starts: dict[int, tuple[_Decision, int]] = {}
    for first, abi in parts.items():
        width = _WIDTHS[abi] if abi else 64
        starts[first] = (default if abi else forbidden, width)
        decided = _decisions(policy, abi) if abi else {_SKIPPED: default}
        for number, decision in sorted(decided.items()):
            starts[number] = (decision, width)
            if number < _SKIPPED:
                starts.setdefault(number + 1, (default, width))
    ordered = sorted(starts.items())
    merged = [
        each for before, each in zip([None, *ordered], ordered, strict=False)
        if before is None or before[1] != each[1]
    ]  # fmt: skip
    code.load(_NUMBER)
    _search(code, merged, default[0][0])


def _search(code: Assembler, spans: list[tuple[int, tuple[_Decision, int]]], default: int) -> None:
    """A binary search for the span of numbers that the loaded one lies in."""
    if len(spans) == 1:
        decision, width = spans[0][1]
        _decide(code, decision, width, default)
        return
    middle = len(spans) // 2
    upper, lower = code.label(), code.label()
    code.jump(C.BPF_JGE, spans[middle][0], upper, lower)
    code.place(lower)
    _search(code, spans[:middle], default)
    code.place(upper)
    _search(code, spans[middle:], default)


def _decide(code: Assembler, decision: _Decision, width: int, default: int) -> None:
    for action, conditions in decision:
        other = code.label()
        for condition in conditions:
            met = code.label()
            _compare(code, condition, width, met, other)
            code.place(met)
        code.leave(action)
        code.place(other)
    if all(conditions for _, conditions in decision):
        code.leave(default)


_INVERSE = {"SCMP_CMP_NE": "SCMP_CMP_EQ", "SCMP_CMP_LT": _AT_LEAST, "SCMP_CMP_LE": _GREATER}


def _compare(code: Assembler, condition: Condition, width: int, met: Label, other: Label) -> None:
    """Go to ``met`` or ``other``; words of 32 bits, the high one first."""
    asked = condition.operator
    if asked in _INVERSE:
        asked, met, other = _INVERSE[asked], other, met
    words = list(_words(condition, width))
    for offset, mask, value in words:
        last = offset == words[-1][0]
        code.load(_ARGUMENTS + 8 * condition.index + offset)
        if asked == _MASKED:
            code.mask(mask)
        if asked in {_GREATER, _AT_LEAST}:
            if last:
                code.jump(C.BPF_JGT if asked == _GREATER else C.BPF_JGE, value, met, other)
                return
            equal = code.label()
            code.jump(C.BPF_JGT, value, met, equal)
            code.place(equal)
        lower = met if last else code.label()
        code.jump(C.BPF_JEQ, value, lower, other)
        if not last:
            code.place(lower)


def _words(condition: Condition, width: int) -> Iterator[tuple[int, int, int]]:
    """Offset, mask and wanted value of an argument's words; x86 has the low one first."""
    masked = condition.operator == _MASKED
    mask = condition.value if masked else (1 << 64) - 1
    value = condition.second & mask if masked else condition.value
    for offset in (4, 0) if width == 64 else (0,):
        yield offset, mask >> 8 * offset & 0xFFFFFFFF, value >> 8 * offset & 0xFFFFFFFF
