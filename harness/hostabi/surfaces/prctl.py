"""prctl(2) and arch_prctl(2): what each option takes, and that a setting can be read back."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Kind
from hostabi.surfaces.answers import returned
from hostabi.surfaces.probing import Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_PAGE = 4096
_SETTINGS = (
    ("SECUREBITS", C.SECBIT_NO_SETUID_FIXUP),
    ("KEEPCAPS", 1),
    ("DUMPABLE", 0),
    ("TIMERSLACK", 70000),
    ("THP_DISABLE", 1),
    ("IO_FLUSHER", 1),
    ("NO_NEW_PRIVS", 1),
    ("MEMORY_MERGE", 1),
    ("TIMING", C.PR_TIMING_STATISTICAL),
    ("MDWE", C.PR_MDWE_REFUSE_EXEC_GAIN),
)
"""NAME of PR_SET_NAME and PR_GET_NAME, where the second returns what the first was given."""
_WRITTEN = (("PDEATHSIG", 10), ("CHILD_SUBREAPER", 1), ("TSC", C.PR_TSC_ENABLE))
"""The same, where PR_GET_NAME writes the number."""
_OF_OTHERS = (
    "GET_UNALIGN",
    "GET_FPEMU",
    "GET_FPEXC",
    "GET_ENDIAN",
    "GET_FP_MODE",
    "SVE_GET_VL",
    "SME_GET_VL",
    "PAC_RESET_KEYS",
    "GET_TAGGED_ADDR_CTRL",
    "RISCV_V_GET_CONTROL",
    "PPC_GET_DEXCR",
    "GET_SHADOW_STACK_STATUS",
    "GET_CFI",
    "MPX_ENABLE_MANAGEMENT",
)
"""Options that other processors have, or that are gone."""


def probes() -> Iterator[Probe]:
    """All questions."""
    yield from _settings()
    yield from _tasks()
    yield from _memory()
    yield from _dispatch()
    yield from _processor()
    yield from _without_gain()


SURFACE = ProbeSurface("prctl", probes)


def _settings() -> tuple[Probe, ...]:
    """Numbers that are set and got; what a process begins with is the value of ``#default``."""
    q = Questions()
    for name, value in _SETTINGS:
        get, put = (getattr(C, f"PR_{verb}_{name}") for verb in ("GET", "SET"))
        q.ask(f"PR_GET_{name}#default", "prctl", get, 0, 0, 0, 0, read=returned)
        done = q.ask(f"PR_SET_{name}", "prctl", put, value, 0, 0, 0)
        again = (get, 0, 0, 0, 0)
        q.ask(f"PR_GET_{name}", "prctl", *again, needs=(done,), read=_equals(value))
    for name, value in _WRITTEN:
        get, put = (getattr(C, f"PR_{verb}_{name}") for verb in ("GET", "SET"))
        room = q.buffer(4)
        got = (get, room, 0, 0, 0)
        q.ask(f"PR_GET_{name}#default", "prctl", *got, out=[room], read=_number(room))
        q.ask(f"PR_SET_{name}", "prctl", put, value, 0, 0, 0)
    advised = (1, C.PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0)
    q.ask("PR_THP_DISABLE_EXCEPT_ADVISED", "prctl", C.PR_SET_THP_DISABLE, *advised)
    for name in _OF_OTHERS:
        q.ask(f"PR_{name}", "prctl", getattr(C, f"PR_{name}"), q.buffer(16), 0, 0, 0)
    q.ask("unknown", "prctl", 999, 0, 0, 0, 0)
    return q.probes()


def _equals(value: int) -> Read:
    return lambda trace, ref: keys.OK if trace[ref] == value else str(trace[ref])


def _number(room: Slot) -> Read:
    return lambda trace, ref: str(trace.number(ref, room))


def _tasks() -> tuple[Probe, ...]:
    """Names, tracers, events, scheduling, timers, locks."""
    q = Questions()
    q.ask("PR_SET_NAME", "prctl", C.PR_SET_NAME, q.string("sixteen characters and more"))
    room = q.buffer(16)
    q.ask("PR_GET_NAME", "prctl", C.PR_GET_NAME, room, out=[room], read=_text(room))
    for name, who in (("", 1), (".ANY", C.PR_SET_PTRACER_ANY), (".none", 0)):
        q.ask(f"PR_SET_PTRACER{name}", "prctl", C.PR_SET_PTRACER, who, 0, 0, 0)
    for name in ("DISABLE", "ENABLE"):
        q.ask(f"PR_TASK_PERF_EVENTS_{name}", "prctl", getattr(C, f"PR_TASK_PERF_EVENTS_{name}"))
    q.ask("PR_MCE_KILL_GET", "prctl", C.PR_MCE_KILL_GET, 0, 0, 0, 0, read=returned)
    early = (C.PR_MCE_KILL_SET, C.PR_MCE_KILL_EARLY, 0, 0)
    q.ask("PR_MCE_KILL", "prctl", C.PR_MCE_KILL, *early)
    for name in ("GET", "CREATE", "SHARE_TO", "SHARE_FROM"):
        command = getattr(C, f"PR_SCHED_CORE_{name}")
        order = (command, 0, 0, q.buffer(8) if name == "GET" else 0)
        q.ask(f"PR_SCHED_CORE_{name}", "prctl", C.PR_SCHED_CORE, *order, kind=Kind.HARDWARE)
    for name in ("ON", "GET", "OFF"):
        what = getattr(C, f"PR_TIMER_CREATE_RESTORE_IDS_{name}")
        key = f"PR_TIMER_CREATE_RESTORE_IDS_{name}"
        q.ask(key, "prctl", C.PR_TIMER_CREATE_RESTORE_IDS, what, 0, 0, 0)
    get = (C.PR_FUTEX_HASH_GET_SLOTS, 0, 0, 0)
    q.ask("PR_FUTEX_HASH_GET_SLOTS", "prctl", C.PR_FUTEX_HASH, *get)
    put = (C.PR_FUTEX_HASH_SET_SLOTS, 16, 0, 0)
    q.ask("PR_FUTEX_HASH_SET_SLOTS", "prctl", C.PR_FUTEX_HASH, *put)
    enable = C.PR_RSEQ_SLICE_EXT_ENABLE
    for name, value in (("GET", 0), ("SET", enable)):
        what, key = getattr(C, f"PR_RSEQ_SLICE_EXTENSION_{name}"), f"PR_RSEQ_SLICE_EXTENSION_{name}"
        q.ask(key, "prctl", C.PR_RSEQ_SLICE_EXTENSION, what, value, 0, 0)
    return q.probes()


def _text(room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> str:
        return trace.bytes(ref, room).partition(b"\0")[0].decode("ascii", "replace")

    return read


def _memory() -> tuple[Probe, ...]:
    """The layout of a process, and names of anonymous memory."""
    q = Questions()
    flags = C.MAP_PRIVATE | C.MAP_ANONYMOUS
    memory = q.need("mmap", 0, _PAGE, C.PROT_READ, flags, -1, 0, opaque=True)
    vma = (C.PR_SET_VMA, C.PR_SET_VMA_ANON_NAME, memory, _PAGE)
    for suffix, text in (("", "name"), (".forbidden", "[$]"), (".79", "n" * 79), (".80", "n" * 80)):
        q.ask(f"PR_SET_VMA_ANON_NAME{suffix}", "prctl", *vma, q.string(text))
    q.ask("PR_GET_TID_ADDRESS", "prctl", C.PR_GET_TID_ADDRESS, q.buffer(8))
    q.ask("PR_GET_AUXV", "prctl", C.PR_GET_AUXV, q.buffer(1024), 1024, 0, 0)
    size = q.buffer(4)
    sized = (C.PR_SET_MM_MAP_SIZE, size, 0, 0)
    q.ask("PR_SET_MM_MAP_SIZE", "prctl", C.PR_SET_MM, *sized, out=[size], read=_number(size))
    q.ask("PR_SET_MM_EXE_FILE", "prctl", C.PR_SET_MM, C.PR_SET_MM_EXE_FILE, -1, fine=("EBADF",))
    for name in ("START_BRK", "ARG_START", "ENV_START"):
        # no process can have these at 0: who may set them gets EINVAL
        what = getattr(C, f"PR_SET_MM_{name}")
        q.ask(f"PR_SET_MM_{name}", "prctl", C.PR_SET_MM, what, 0, 0, 0, fine=("EINVAL",))
    return q.probes()


def _dispatch() -> Iterator[Probe]:
    """PR_SET_SYSCALL_USER_DISPATCH: the selector, a byte, says what becomes of calls."""
    q = Questions()
    option, allow = C.PR_SET_SYSCALL_USER_DISPATCH, q.content(b"\0")
    q.ask("PR_SYS_DISPATCH_EXCLUSIVE_ON", "prctl", option, 1, 0, 0, allow)
    q.ask("PR_SYS_DISPATCH_OFF", "prctl", option, C.PR_SYS_DISPATCH_OFF, 0, 0, 0)
    inclusive = (C.PR_SYS_DISPATCH_INCLUSIVE_ON, _PAGE, _PAGE, allow)
    q.ask("PR_SYS_DISPATCH_INCLUSIVE_ON", "prctl", option, *inclusive)
    yield from q.probes()
    q = Questions()
    block = q.content(b"\1")
    on = q.call("prctl", option, C.PR_SYS_DISPATCH_EXCLUSIVE_ON, 0, 0, block)
    q.ask("PR_SYS_DISPATCH.blocked", "getppid", needs=(on,), opaque=True)
    yield from q.probes()


def _processor() -> tuple[Probe, ...]:
    """What the processor has a part in: speculation, arch_prctl(2) of x86."""
    q = Questions()
    kind = Kind.HARDWARE
    for name in ("STORE_BYPASS", "INDIRECT_BRANCH", "L1D_FLUSH"):
        feature = getattr(C, f"PR_SPEC_{name}")
        get = (C.PR_GET_SPECULATION_CTRL, feature, 0, 0, 0)
        q.ask(f"PR_GET_SPECULATION_CTRL.{name}", "prctl", *get, kind=kind, read=returned)
        put = (C.PR_SET_SPECULATION_CTRL, feature, C.PR_SPEC_DISABLE, 0, 0)
        q.ask(f"PR_SET_SPECULATION_CTRL.{name}", "prctl", *put, kind=kind)
    for name in ("GET_FS", "GET_GS"):
        q.ask(f"ARCH_{name}", "arch_prctl", getattr(C, f"ARCH_{name}"), q.buffer(8))
    q.ask("ARCH_SET_GS", "arch_prctl", C.ARCH_SET_GS, 0)
    for name, argument in (("GET_CPUID", 0), ("SET_CPUID", 1)):
        q.ask(f"ARCH_{name}", "arch_prctl", getattr(C, f"ARCH_{name}"), argument, kind=kind)
    for name in ("GET_XCOMP_SUPP", "GET_XCOMP_PERM", "GET_UNTAG_MASK", "GET_MAX_TAG_BITS"):
        q.ask(f"ARCH_{name}", "arch_prctl", getattr(C, f"ARCH_{name}"), q.buffer(8), kind=kind)
    status = (C.ARCH_SHSTK_STATUS, q.buffer(8))
    q.ask("ARCH_SHSTK_STATUS", "arch_prctl", *status, kind=kind)
    for bits in ("32", "64", "X32"):
        # the vDSO is there already, where it can be mapped at all
        key, what = f"ARCH_MAP_VDSO_{bits}", getattr(C, f"ARCH_MAP_VDSO_{bits}")
        q.ask(key, "arch_prctl", what, 0, fine=("EEXIST",))
    return q.probes()


def _without_gain() -> tuple[Probe, ...]:
    """PR_SET_MDWE: memory that was written is never executed."""
    q = Questions()
    both, flags = C.PROT_WRITE | C.PROT_EXEC, C.MAP_PRIVATE | C.MAP_ANONYMOUS
    anywhere = (0, _PAGE, both, flags, -1, 0)
    q.ask("mmap.write-exec", "mmap", *anywhere, opaque=True)
    plain = q.call("mmap", 0, _PAGE, C.PROT_READ, flags, -1, 0, opaque=True)
    bits = C.PR_MDWE_REFUSE_EXEC_GAIN | C.PR_MDWE_NO_INHERIT
    on = q.ask("PR_MDWE_NO_INHERIT", "prctl", C.PR_SET_MDWE, bits, 0, 0, 0)
    q.ask("PR_MDWE.mmap.write-exec", "mmap", *anywhere, needs=(on,), opaque=True)
    gain = (plain, _PAGE, C.PROT_READ | C.PROT_EXEC)
    q.ask("PR_MDWE.mprotect.exec", "mprotect", *gain, needs=(on, plain))
    return q.probes()
