"""prctl(2) and arch_prctl(2), one description for each request."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import After, out, text
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, describe
from hostabi.syscalls.table import C

_BIT = pick("arg2", 1, 0, odd=(2, -1))
_CAPABILITY = pick("arg2", C.CAP_CHOWN, C.CAP_SYS_ADMIN, C.CAP_LAST_CAP, odd=(64, -1))


def _zeros(first: int) -> tuple[Argument, ...]:
    return tuple(just(f"arg{index}", 0) for index in range(first, 6))


def _asks(name: str) -> Description:
    """A request without arguments."""
    return describe(f"prctl.{name}", just("option", getattr(C, name)), *_zeros(2))


def _tells(name: str, argument: Argument, *, privilege: str = "") -> Description:
    """A request with one."""
    option = just("option", getattr(C, name))
    return describe(f"prctl.{name}", option, argument, *_zeros(3), privilege=privilege)


def _ambient(name: str, capability: Argument) -> Description:
    number: int = getattr(C, f"PR_CAP_AMBIENT_{name}")
    return describe(
        f"prctl.PR_CAP_AMBIENT_{name}",
        just("option", C.PR_CAP_AMBIENT),
        just("arg2", number),
        capability,
        *_zeros(4),
    )


DESCRIPTIONS: tuple[Description, ...] = (
    _tells("PR_SET_NAME", text("arg2", "one", "a-name-that-is-too-long", "")),
    _tells("PR_GET_NAME", out("arg2", "uint64_t", 2)),
    _tells("PR_SET_PDEATHSIG", pick("arg2", 0, C.SIGCONT, C.SIGKILL, odd=(65, -1))),
    _tells("PR_GET_PDEATHSIG", out("arg2", "int")),
    _asks("PR_GET_DUMPABLE"),
    _tells("PR_SET_DUMPABLE", _BIT),
    _asks("PR_GET_KEEPCAPS"),
    _tells("PR_SET_KEEPCAPS", _BIT),
    _asks("PR_GET_SECUREBITS"),
    _tells(
        "PR_SET_SECUREBITS",
        flags("arg2", usual=(0, 1, 4, 0x10, 0x2F), ignored=True),
        privilege="CAP_SETPCAP",
    ),
    _asks("PR_GET_NO_NEW_PRIVS"),
    _tells("PR_SET_NO_NEW_PRIVS", just("arg2", 1)),
    _asks("PR_GET_SECCOMP"),
    _tells("PR_CAPBSET_READ", _CAPABILITY),
    _tells("PR_CAPBSET_DROP", _CAPABILITY, privilege="CAP_SETPCAP"),
    _ambient("IS_SET", pick("arg3", C.CAP_CHOWN, C.CAP_SYS_ADMIN, odd=(64,))),
    _ambient(
        "RAISE", After(Kind.INHERITABLE, pick("arg3", C.CAP_CHOWN, C.CAP_SYS_ADMIN, odd=(64,)))
    ),
    _ambient("LOWER", pick("arg3", C.CAP_CHOWN, C.CAP_SYS_ADMIN, odd=(64,))),
    _ambient("CLEAR_ALL", just("arg3", 0)),
    _tells("PR_GET_CHILD_SUBREAPER", out("arg2", "int")),
    _tells("PR_SET_CHILD_SUBREAPER", _BIT),
    _asks("PR_GET_TIMERSLACK"),
    _tells("PR_SET_TIMERSLACK", pick("arg2", 1, 50000, 0)),
    _asks("PR_GET_THP_DISABLE"),
    _tells("PR_SET_THP_DISABLE", _BIT),
    _asks("PR_GET_TIMING"),
    _asks("PR_MCE_KILL_GET"),
    _tells("PR_GET_TSC", out("arg2", "int")),
    _asks("PR_GET_IO_FLUSHER"),
    _tells("PR_SET_IO_FLUSHER", _BIT, privilege="CAP_SYS_RESOURCE"),
    _asks("PR_GET_MDWE"),
    _tells("PR_SET_MDWE", flags("arg2", "PR_MDWE_", usual=(0, C.PR_MDWE_REFUSE_EXEC_GAIN))),
    _asks("PR_GET_MEMORY_MERGE"),
    _tells("PR_SET_MEMORY_MERGE", _BIT),
    _tells("PR_GET_TID_ADDRESS", out("arg2", "uint64_t", kept=False)),
    describe(
        "prctl.PR_GET_SPECULATION_CTRL",
        just("option", C.PR_GET_SPECULATION_CTRL),
        pick("arg2", C.PR_SPEC_STORE_BYPASS, C.PR_SPEC_INDIRECT_BRANCH, odd=(99,)),
        *_zeros(3),
        opaque=True,
    ),
    describe(
        "prctl.PR_SET_VMA_ANON_NAME",
        just("option", C.PR_SET_VMA),
        just("arg2", C.PR_SET_VMA_ANON_NAME),
        takes("arg3", Kind.MEMORY, odd=(1,)),
        pick("arg4", 4096, 0, odd=(-1,)),
        text("arg5", "one", odd=("x" * 100, "[")),
        unsuccessful="Debian builds kernels without CONFIG_ANON_VMA_NAME",
    ),
    describe(
        "prctl.PR_SCHED_CORE_GET",
        just("option", C.PR_SCHED_CORE),
        just("arg2", C.PR_SCHED_CORE_GET),
        just("arg3", 0),
        just("arg4", C.PR_SCHED_CORE_SCOPE_THREAD),
        out("arg5", "uint64_t", kept=False),
        unsuccessful="the guest's processor has no siblings to be kept apart from",
    ),
    describe(
        "arch_prctl.ARCH_GET_FS",
        just("option", C.ARCH_GET_FS),
        out("arg2", "uint64_t", kept=False),
    ),
    describe(
        "arch_prctl.ARCH_SET_GS",
        just("option", C.ARCH_SET_GS),
        pick("arg2", 0, 4096, odd=(-1,)),
    ),
    describe(
        "arch_prctl.ARCH_GET_CPUID",
        just("option", C.ARCH_GET_CPUID),
        just("arg2", 0),
    ),
)
