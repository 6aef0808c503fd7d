"""Processes: made, waited for, told and asked.

A child that a program makes ends at once (:class:`hostabi.agent.program.Children`), and its
number is good until it is waited for. Nothing is signalled but what the program made, and by
signals that are ignored unless it asks for more.
"""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import at, fd, flags, just, path, pick, takes
from hostabi.syscalls.descriptions.memory import After, Maybe, Null, Vector, out, raw, struct
from hostabi.syscalls.descriptions.model import Description, Kind, Makes, describe
from hostabi.syscalls.table import C

_CHILD = Kind.CHILD
_END = C.SIGCHLD
_WALL = 0x40000000
"""__WALL of linux/wait.h, whose name Python would mangle."""
_WAIT = (C.WNOHANG, C.WNOHANG | _WALL)
_WAITID = (C.WNOHANG | C.WEXITED, C.WNOHANG | C.WEXITED | C.WNOWAIT)
SIGNAL = pick("sig", 0, C.SIGCONT, C.SIGURG, C.SIGWINCH, C.SIGCHLD, odd=(65, -1))
"""Signals that nothing dies of, unless it was told to."""
_GONE = 4194305
"""More than any process can have: PID_MAX_LIMIT + 1 (include/linux/threads.h)."""
_SHARED = (0, C.CLONE_FILES, C.CLONE_FS, C.CLONE_NEWUTS, C.CLONE_NEWIPC)
_WHO = takes("pid", _CHILD, also=(0,), odd=(_GONE,))
_PROCESS = takes("pid", _CHILD, odd=(_GONE,))
_PROGRAMS = (Kind.PROGRAM_NAME, Kind.FILE_NAME, Kind.FOLDER_NAME)
_PERSONALITY = (0xFFFFFFFF, 0, C.ADDR_NO_RANDOMIZE, C.READ_IMPLIES_EXEC)

DESCRIPTIONS: tuple[Description, ...] = (
    describe("fork", makes=_CHILD, pid=True),
    describe("vfork", makes=_CHILD, pid=True),
    describe(
        "clone",
        flags("clone_flags", usual=tuple(each | _END for each in _SHARED), ignored=True),
        just("newsp", 0),
        Null("parent_tidptr"),
        Null("child_tidptr"),
        just("tls", 0),
        makes=_CHILD,
        pid=True,
    ),
    describe(
        "clone.pidfd",
        flags("clone_flags", usual=(C.CLONE_PIDFD | _END,)),
        just("newsp", 0),
        out("parent_tidptr", "int"),
        Null("child_tidptr"),
        just("tls", 0),
        makes=(Makes(_CHILD), Makes(Kind.PROCESS, out="parent_tidptr")),
        pid=True,
    ),
    describe(
        "clone3",
        struct(
            "uargs",
            "struct clone_args",
            sized="size",
            extensible=True,
            flags=flags(
                "flags", usual=(*_SHARED, C.CLONE_CLEAR_SIGHAND), width=64, known=("CLONE_",)
            ),
            exit_signal=pick("exit_signal", _END, 0, C.SIGURG, odd=(65, 256)),
        ),
        makes=_CHILD,
        pid=True,
    ),
    describe(
        "wait4",
        After(_CHILD, takes("upid", _CHILD, also=(-1, 0), odd=(_GONE,))),
        Maybe(out("stat_addr", "int")),
        flags("options", usual=_WAIT),
        Maybe(out("ru", "struct rusage", kept=False)),
        opaque=True,
    ),
    describe(
        "waitid",
        pick("which", C.P_PID, odd=(9,)),
        _PROCESS,
        Maybe(out("infop", "struct siginfo"), first=True),
        flags("options", usual=_WAITID),
        Maybe(out("ru", "struct rusage", kept=False)),
    ),
    describe(
        "waitid.pidfd",
        just("which", C.P_PIDFD),
        fd("upid", Kind.PROCESS),
        Maybe(out("infop", "struct siginfo"), first=True),
        flags("options", usual=_WAITID),
        Null("ru"),
    ),
    describe(
        "pidfd_open",
        _PROCESS,
        flags("flags", "PIDFD_", usual=(0, C.PIDFD_NONBLOCK)),
        makes=Kind.PROCESS,
    ),
    describe(
        "pidfd_send_signal",
        fd("pidfd", Kind.PROCESS, Kind.OWN),
        SIGNAL,
        Null("info"),
        flags("flags", "PIDFD_SIGNAL_", usual=(0,)),
    ),
    describe("kill", _PROCESS, SIGNAL),
    describe("kill.self", just("pid", 0), pick("sig", 0, C.SIGCONT, C.SIGURG, C.SIGWINCH)),
    describe("tkill", takes("pid", _CHILD, odd=(_GONE, -1)), SIGNAL),
    describe(
        "tgkill",
        takes("tgid", _CHILD, odd=(_GONE, -1)),
        takes("pid", _CHILD, odd=(_GONE, -1)),
        SIGNAL,
    ),
    describe("getpid", pid=True, makes=(Makes(_CHILD), Makes(Kind.SELF))),
    describe("pidfd_open.self", takes("pid", Kind.SELF), flags("flags"), makes=Kind.OWN),
    describe("getppid", pid=True),
    describe("gettid", pid=True),
    describe("getpgrp", pid=True),
    describe("getsid", _WHO, pid=True),
    describe("setsid", pid=True, unsuccessful="a program is its session's leader already"),
    describe("setpgid", takes("pid", _CHILD, odd=(_GONE, 0)), takes("pgid", _CHILD, also=(0,))),
    describe("set_tid_address", out("tidptr", "int", kept=False), pid=True),
    describe(
        "set_robust_list",
        raw("head", bytes(24)),
        pick("len", 24, odd=(0, 23, 25)),
    ),
    describe(
        "get_robust_list",
        takes("pid", _CHILD, also=(0,), odd=(_GONE,)),
        out("head_ptr", "uint64_t", kept=False),
        out("len_ptr", "uint64_t"),
    ),
    describe("personality", pick("personality", *_PERSONALITY, odd=(-1,))),
    describe(
        "process_vm_readv",
        takes("pid", _CHILD, odd=(_GONE,)),
        Vector("lvec", "liovcnt", into=True),
        Vector("rvec", "riovcnt"),
        flags("flags"),
    ),
    describe(
        "process_vm_writev",
        takes("pid", _CHILD, odd=(_GONE,)),
        Vector("lvec", "liovcnt"),
        Vector("rvec", "riovcnt", into=True),
        flags("flags"),
    ),
    describe(
        "ptrace",
        pick("request", C.PTRACE_GETEVENTMSG, C.PTRACE_DETACH, C.PTRACE_SEIZE, odd=(99999,)),
        _PROCESS,
        just("addr", 0),
        out("data", "uint64_t", kept=False),
        unsuccessful="children end at once, and nobody traces what has ended",
    ),
    describe(
        "execve",
        path("filename", *_PROGRAMS),
        raw("argv", bytes(16)),
        raw("envp", bytes(8)),
        unsuccessful="no file that a program makes can be executed: they are empty",
    ),
    describe(
        "execveat",
        at(*_PROGRAMS, folder="fd"),
        raw("argv", bytes(16)),
        raw("envp", bytes(8)),
        flags("flags", "AT_", usual=(0, C.AT_SYMLINK_NOFOLLOW, C.AT_EXECVE_CHECK)),
        unsuccessful="no file that a program makes can be executed: they are empty",
    ),
    describe("exit", pick("error_code", 0, 1), last=True),
    describe("exit_group", pick("error_code", 0, 1), last=True),
)
