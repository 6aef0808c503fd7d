"""config-linux.md, "Seccomp": what each action does to the caller, told apart from the others."""

from __future__ import annotations

import errno
import signal

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.actions import Action
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Argument, Config, SyscallRule
from hostabi.oci.seen import Deed
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import table

TRACE_DATA = 1234
GETPID_32 = 20
"""getpid(2) in the table of i386: arch/x86/entry/syscalls/syscall_32.tbl."""


def rule(name: str, action: str, *args: Argument, value: int | None = None) -> SyscallRule:
    """What happens to one system call."""
    return SyscallRule(names=(name,), action=f"SCMP_ACT_{action}", errno_ret=value, args=args)


# System calls that the probe makes for no report, and that
# can be made with no harm.
RULES = (
    rule("getsid", "ERRNO", value=errno.EXDEV),
    rule("getpgid", "ERRNO"),
    rule("sched_getparam", "KILL"),
    rule("sched_get_priority_max", "TRAP"),
    rule("sched_get_priority_min", "TRACE", value=TRACE_DATA),
    SyscallRule(names=("no_such_system_call", "getitimer"), action="SCMP_ACT_ERRNO", errno_ret=99),
)
# Later names: a runtime that does not know them refuses the whole bundle.
KILLING = bundle.seccomp(
    bundle.base(), rule("mincore", "KILL_THREAD"), rule("sched_rr_get_interval", "KILL_PROCESS")
)
FILTERED = bundle.seccomp(
    bundle.base(), *RULES, architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
)

SID = actions.attempt("getsid", 0)
PGID = actions.attempt("getpgid", 0)
RUSAGE = actions.attempt("getrusage", 12345)
TIMER = actions.attempt("getitimer", 12345)
CORE = actions.in_thread("mincore", 0, 0, 0)
THREAD = actions.in_thread("sched_rr_get_interval", 0, 0)
PROCESS = actions.attempt("sched_rr_get_interval", 0, 0)
KILLED = actions.attempt("sched_getparam", 0)
TRAPPED = actions.trapped("sched_get_priority_max", 0)
UNCAUGHT = actions.attempt("sched_get_priority_max", 0)
TRACED = actions.traced("sched_get_priority_min", 0)
UNTRACED = actions.attempt("sched_get_priority_min", 0)
COMPAT = actions.compat(GETPID_32)
QUESTIONS = (
    actions.REPORT,
    *(SID, PGID, RUSAGE, TIMER, CORE, THREAD, PROCESS, KILLED),
    *(TRAPPED, UNCAUGHT, TRACED, UNTRACED, COMPAT),
)


@pytest.fixture(autouse=True)
def needs_seccomp(runtime: Runtime) -> None:
    """Whether the kernel has filters: seccomp(2), SECCOMP_GET_ACTION_AVAIL with a bad address."""
    said = runtime.probe("try", str(table.number("seccomp")), "2", "0", "0").done.stdout
    if b'"errno":38' in said or b'"errno":22' in said:
        unsupported("this kernel has no seccomp filters")


@pytest.fixture
def killing(visit, runtime: Runtime) -> Config:
    """The rules that kill; unsupported where the runtime does not know these actions by name."""
    said = visit(KILLING, *QUESTIONS).error
    if "SCMP_ACT_KILL_" in said:
        unsupported(f"{runtime.name} does not know the action: {said.splitlines()[-1]}")
    return KILLING


@pytest.fixture
def ask(look):
    """One answer of a container under the filter, and the same without one."""

    def answer(action: Action, config: Config = FILTERED) -> tuple[Deed, Deed]:
        free = look(bundle.base(), *QUESTIONS).deed(action)
        return look(config, *QUESTIONS).deed(action), free

    return answer


@pytest.mark.proves("linux.seccomp")
def test_mode(look) -> None:
    """The process runs under a filter, and without the property under none: proc(5)."""
    assert look(FILTERED, *QUESTIONS).report.field("Seccomp") == "2"
    assert look(bundle.base(), *QUESTIONS).report.field("Seccomp") == "0"


@pytest.mark.proves("linux.seccomp.syscalls.errnoRet", "linux.seccomp.syscalls.names:getsid")
def test_errno(ask) -> None:
    """ "SCMP_ACT_ERRNO" with "errnoRet"."""
    filtered, free = ask(SID)
    assert filtered.error == "EXDEV"
    assert free.error == ""


@pytest.mark.proves("linux.seccomp.syscalls.names:getpgid")
def test_errno_default(ask) -> None:
    """ "errnoRet: If not specified its default value is EPERM." """
    filtered, free = ask(PGID)
    assert filtered.error == "EPERM"
    assert free.error == ""


@pytest.mark.proves("linux.seccomp.syscalls.action:SCMP_ACT_KILL_THREAD")
def test_kill_thread(ask, killing: Config) -> None:
    """ "SCMP_ACT_KILL_THREAD": the thread is gone, and the process goes on."""
    filtered, free = ask(CORE, killing)
    assert (filtered.value, filtered.signal) == (1, 0)
    assert (free.value, free.signal) == (2, 0)


@pytest.mark.proves("linux.seccomp.syscalls.action:SCMP_ACT_KILL_PROCESS")
def test_kill_process(ask, killing: Config) -> None:
    """ "SCMP_ACT_KILL_PROCESS": by SIGSYS, and the other threads as well."""
    assert ask(PROCESS, killing)[0].signal == signal.SIGSYS
    filtered, free = ask(THREAD, killing)
    assert filtered.signal == signal.SIGSYS
    assert (free.value, free.signal) == (2, 0)


@pytest.mark.proves("linux.seccomp.syscalls.action:SCMP_ACT_KILL")
def test_kill(ask) -> None:
    """ "SCMP_ACT_KILL" is the older name of KILL_THREAD; a process of one thread ends by it."""
    filtered, free = ask(KILLED)
    assert filtered.signal == signal.SIGSYS
    assert free.signal == 0


@pytest.mark.proves("linux.seccomp.syscalls.action:SCMP_ACT_TRAP")
def test_trap(ask) -> None:
    """ "SCMP_ACT_TRAP": a SIGSYS that can be caught and names the call."""
    filtered, free = ask(TRAPPED)
    assert filtered.value == table.number("sched_get_priority_max")
    assert free.value == -1
    assert ask(UNCAUGHT)[0].signal == signal.SIGSYS


@pytest.mark.proves(
    "linux.seccomp.syscalls.action:SCMP_ACT_TRACE", "linux.seccomp.syscalls.errnoRet"
)
def test_trace(ask) -> None:
    """ "SCMP_ACT_TRACE": the tracer is told errnoRet; without a tracer the call is ENOSYS."""
    filtered, free = ask(TRACED)
    assert filtered.value == TRACE_DATA
    assert free.value == -1
    assert ask(UNTRACED)[0].error == "ENOSYS"


def test_errno_of_an_action_that_has_none(runtime: Runtime, visit) -> None:
    """ "When the action doesn't support an errno, the runtime MUST print and error and fail." """
    if runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    config = bundle.seccomp(bundle.base(), rule("getsid", "KILL_PROCESS", value=errno.EXDEV))
    assert not visit(config, SID).ok


@pytest.mark.proves("linux.seccomp.syscalls.names:getitimer")
def test_unknown_names(ask) -> None:
    """Profiles name calls that a runtime does not know yet: the others of the rule still hold."""
    filtered, free = ask(TIMER)
    assert filtered.errno == 99
    assert free.error == "EINVAL"


@pytest.mark.proves("linux.seccomp.architectures:SCMP_ARCH_X86")
def test_architectures(ask) -> None:
    """ "architectures": only a listed one may be called; another ends the caller."""
    filtered, free = ask(COMPAT)
    if free.error:
        unsupported("this kernel runs no calls of i386")
    # Each is the number of a process, which threads of the runtime have had some of before.
    assert (filtered.signal, filtered.error) == (0, "")
    assert (filtered.value > 0, free.value > 0) == (True, True)
    narrow = bundle.seccomp(bundle.base(), *RULES)
    assert ask(COMPAT, narrow)[0].signal == signal.SIGSYS


DEFAULT_ALLOWED = (
    *("access", "arch_prctl", "brk", "capget", "capset", "chdir", "chmod", "clock_gettime"),
    *("clone", "close", "close_range", "dup2", "dup3", "epoll_create1", "epoll_ctl"),
    *("epoll_pwait", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat"),
    *("faccessat2", "fchdir", "fchown", "fcntl", "fork", "fstat", "fstatfs", "futex"),
    *(
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpid",
        "getppid",
        "getrandom",
        "getrusage",
    ),
    *("gettid", "getuid", "ioctl", "lseek", "lstat", "madvise", "mmap", "mprotect", "munmap"),
    *("nanosleep", "newfstatat", "open", "openat", "openat2", "pipe2", "poll", "prctl"),
    *("pread64", "prlimit64", "read", "readlink", "readlinkat", "rt_sigaction"),
    *("rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "seccomp"),
    *("set_robust_list", "set_tid_address", "setgid", "setgroups", "setresgid", "setresuid"),
    *("setsid", "setuid", "sigaltstack", "stat", "statfs", "statx", "tgkill", "umask", "uname"),
    *("wait4", "waitid", "write", "writev", "rseq", "fchmod", "fchmodat", "sendmsg", "recvmsg"),
)
"""What a runtime calls between its filter and the program, and what the program calls."""


@pytest.mark.proves("linux.seccomp")
@pytest.mark.parametrize(("given", "expected"), [(None, "EPERM"), (errno.ENOSYS, "ENOSYS")])
def test_default_action(given: int | None, expected: str, runtime: Runtime, look) -> None:
    """ "defaultAction" is for all that no rule names, with "defaultErrnoRet" since 1.1.0."""
    if given is not None and runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    allowed = SyscallRule(names=DEFAULT_ALLOWED, action="SCMP_ACT_ALLOW")
    config = bundle.seccomp(
        bundle.base(), allowed, default_action="SCMP_ACT_ERRNO", default_errno_ret=given
    )
    answers = look(config, SID, RUSAGE)
    assert answers.deed(SID).error == expected
    assert answers.deed(RUSAGE).error == "EINVAL"


@pytest.mark.proves("linux.seccomp.syscalls.names:getrusage")
def test_allow(look) -> None:
    """ "SCMP_ACT_ALLOW": the kernel's own answer, where all else is refused."""
    allowed = SyscallRule(names=DEFAULT_ALLOWED, action="SCMP_ACT_ALLOW")
    config = bundle.seccomp(bundle.base(), allowed, default_action="SCMP_ACT_ERRNO")
    answers = look(config, SID, RUSAGE)
    assert (answers.deed(SID).error, answers.deed(RUSAGE).error) == ("EPERM", "EINVAL")


OPERATORS = {
    "NE": ((4, 5, 6), {4, 6}),
    "LT": ((4, 5, 6), {4}),
    "LE": ((4, 5, 6), {4, 5}),
    "EQ": ((4, 5, 6), {5}),
    "GE": ((4, 5, 6), {5, 6}),
    "GT": ((4, 5, 6), {6}),
    "MASKED_EQ": ((1, 5, 13), {5, 13}),
}
CALLS = (
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "mq_notify",
    "mq_getsetattr",
    "inotify_rm_watch",
)
"""One for each operator."""
WIDE = 1 << 32


def compared(operator: str) -> tuple[SyscallRule, tuple[Action, ...]]:
    """A rule about the second argument of a call of its own, and calls with each value."""
    name = dict(zip(OPERATORS, CALLS, strict=True))[operator]
    masked = operator == "MASKED_EQ"
    condition = Argument(
        index=1,
        value=0x6 if masked else 5,
        value_two=4 if masked else None,
        op=f"SCMP_CMP_{operator}",
    )
    values, _matching = OPERATORS[operator]
    calls = tuple(actions.attempt(name, 1 << 20, value) for value in values)
    return rule(name, "ERRNO", condition, value=errno.EXDEV), calls


BOTH = rule(
    "flock",
    "ERRNO",
    Argument(index=0, value=WIDE | 7, op="SCMP_CMP_EQ"),
    Argument(index=1, value=9, op="SCMP_CMP_EQ"),
    value=errno.EXDEV,
)
BOTH_CALLS = tuple(
    actions.attempt("flock", first, second)
    for first, second in ((WIDE | 7, 9), (WIDE | 7, 8), (7, 9))
)
COMPARED = {operator: compared(operator) for operator in OPERATORS}
COMPARING = bundle.seccomp(bundle.base(), *(each for each, _ in COMPARED.values()), BOTH)
COMPARISONS = (*(call for _, calls in COMPARED.values() for call in calls), *BOTH_CALLS)


@pytest.mark.proves("linux.seccomp.syscalls.args")
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator(operator: str, look) -> None:
    """ "args: index, value, valueTwo, op": the rule is for these arguments and no others."""
    values, matching = OPERATORS[operator]
    answers = look(COMPARING, *COMPARISONS)
    _rule, calls = COMPARED[operator]
    stopped = {
        value
        for value, call in zip(values, calls, strict=True)
        if answers.deed(call).error == "EXDEV"
    }
    assert stopped == matching


@pytest.mark.proves("linux.seccomp.syscalls.args")
def test_all_conditions(look) -> None:
    """Conditions on several arguments must all be met, and compare all 64 bits."""
    answers = look(COMPARING, *COMPARISONS)
    assert [answers.deed(call).error == "EXDEV" for call in BOTH_CALLS] == [True, False, False]
