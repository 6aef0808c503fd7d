"""Calls by other entries, and calls for those without privileges."""

from __future__ import annotations

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Call, End, Program
from hostabi.model import Fact
from hostabi.surfaces import reach
from hostabi.surfaces.source import Source
from hostabi.syscalls import table

NOBODYS = ("acct", "init_module", "kexec_load", "settimeofday", "swapon", "vhangup")
"""What capabilities(7) reserves to privileges over the machine, which no namespace gives."""


def test_an_ordinary_user_is_kept_from_the_machine(source: Source) -> None:
    """Neither a user nor the root of a user namespace gets what is the whole machine's."""
    facts = {fact.key: fact.value for fact in reach.SURFACE.capture(source)}
    for name in NOBODYS:
        for who in ("user", "userns"):
            assert facts[f"{name}#{who}"] in {None, "EPERM", "ENOSYS"}, (name, who)


def test_ia32_has_what_the_native_table_has(
    agent: Agent, source: Source, syscall_facts: dict[str, Fact]
) -> None:
    """Calls from openat2 on have one number in all tables and are added to all of them.

    Where the entry of 32-bit programs works, such a call is implemented by both or by none
    (kernel: process/adding-syscalls.rst).
    """
    facts = {fact.key: fact for fact in reach.SURFACE.capture(source)}
    if facts["ia32"].value != "ok":
        return
    numbers = table.numbers(Abi.IA32)
    shared = [
        name
        for name, number in table.tables().syscalls.items()
        if 424 <= number == numbers.get(name)
    ]
    only_native = {"map_shadow_stack"}  # 64-bit programs only, arch/x86/shstk.rst
    native = {name for name in shared if name in syscall_facts}
    differing = {
        name for name in native if syscall_facts[name].value != facts[f"ia32.{name}"].value
    }
    assert differing <= only_native


def test_another_entry_makes_the_same_call(agent: Agent) -> None:
    """getpid(2) gives one answer by either entry (kernel: arch/x86/entry_64.rst)."""
    calls = (
        Call(table.number("getpid")),
        Call(table.number("getpid", Abi.IA32), abi=Abi.IA32),
    )
    (ran,) = agent.run([Program(calls)])
    if ran.end is End.EXITED:
        assert ran.values[0] == ran.values[1]
