"""Programs of system calls, and the sandbox each runs in: plain data.

A program is built once on the host and runs unchanged on every kernel: its
memory (the arena) lies at one fixed address, its descriptors are numbered
from 3, and its folder is fresh.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """The value that call number ``call`` of the same program returned; 0 if it has not run yet."""

    call: int


@dataclass(frozen=True, slots=True)
class Word:
    """The signed number of ``size`` (1 to 8) bytes found in the arena when it is needed."""

    offset: int
    size: int = 4


@dataclass(frozen=True, slots=True)
class Pointer:
    """The address of the arena plus ``offset``."""

    offset: int


Argument = int | Result | Word | Pointer


@dataclass(frozen=True, slots=True)
class Store:
    """``size`` (up to 8) bytes of ``value`` are put into the arena just before a call."""

    offset: int
    value: Argument
    size: int = 8


class Abi(enum.StrEnum):
    """How a call enters the kernel, and by which table its number is read."""

    NATIVE = "native"
    """``syscall``; numbers of asm/unistd_64.h."""
    X32 = "x32"
    """``syscall`` with bit 30 of the number set, which the agent does; asm/unistd_x32.h."""
    IA32 = "ia32"
    """``int $0x80``; asm/unistd_32.h. Arguments are cut to 32 bits, so that the arena is out
    of reach, and of a result only an errno has a sign."""
    DEED = "deed"
    """Nothing of the kernel: a :class:`Deed` of the agent."""


class Deed(enum.IntEnum):
    """What the agent itself does in the place of a call."""

    AWAIT = 1
    """Wait until the call with the index of the first argument is as the second, an
    :class:`Until`, says; nothing is returned."""


class Until(enum.IntEnum):
    """When a role that waits for a call of another one goes on."""

    MADE = 0
    """The call has returned; of an execution: the new image has begun."""
    BEGUN = 1
    """It is about to be entered."""
    ASLEEP = 2
    """Who makes it sleeps in it, is stopped or has ended; or it has returned. Seen through
    /proc, which has to be there."""


UNMADE = -(1 << 63) + 1
"""The value of a call that was not begun before a later one in the list was made."""
BEGUN = UNMADE + 1
"""The value of a call that did not return, such as exit, in a program of several roles."""


@dataclass(frozen=True, slots=True)
class Call:
    """One system call by number, with up to six arguments; the others are 0.

    ``role`` says who makes it. ``starts`` is the role of what it forks, or of the
    agent's image that it executes; 0 is as the program's ``children`` say.
    """

    number: int
    arguments: tuple[Argument, ...] = ()
    stores: tuple[Store, ...] = ()
    abi: Abi = Abi.NATIVE
    role: int = 0
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes of the arena to return as they were right after call number ``call``."""

    call: int
    offset: int
    length: int


class Children(enum.StrEnum):
    """What a process does that a program's call makes (fork, vfork, clone, clone3)."""

    END = "end"
    """End at once with status 0."""
    PAUSE = "pause"
    """Wait to be killed, as a living target for other calls; it is when the program ends. A
    call that waits for the end of its child, such as vfork, does not return."""


class Report(enum.StrEnum):
    """What is told of what a program leaves behind, see ``Ran.state``."""

    NOTHING = "nothing"
    STATE = "state"
    """Its process after the last call, and its scratch folder once it is gone."""
    MOUNTS = "mounts"
    """Its mount table too."""


@dataclass(frozen=True, slots=True)
class Program:
    """Calls made one after another. ``data`` is what the arena of ``arena`` bytes starts with.

    Without ``roles`` only the first process makes them, so that what is recorded has
    one author; ``children`` says what becomes of a process that a call makes.

    With roles a program is several processes, threads or images, each of which makes
    those calls that are its own, in their order, and then ends; the first, role 0,
    ends the program. Each role is started by one call at most. Results and the
    arena are shared by all and outlive execve(2), whatever else is shared or copied; so
    one may use what another's call returned, once it has waited for it. A program that
    executes itself keeps descriptor 1000, by which the new image finds them, so it must
    not close it; the image is the agent's own, with ``--resume`` and the role's number.
    """

    calls: tuple[Call, ...]
    data: bytes = b""
    arena: int = 65536
    outputs: tuple[Output, ...] = ()
    children: Children = Children.END
    report: Report = Report.NOTHING

    @property
    def roles(self) -> int:
        """How many processes, threads and images make the calls."""
        return 1 + max((max(call.role, call.starts) for call in self.calls), default=0)


class Scratch(enum.StrEnum):
    """The kind of file system on which a program finds its fresh, empty folder."""

    TMPFS = "tmpfs"
    EXT4 = "ext4"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a program runs in.

    ``namespaces`` are CLONE_NEW* bits of clone(2); in a new PID namespace the
    program is process 1. With CLONE_NEWUSER one identity is mapped: ``uid``
    outside is 0 inside (``map_root``) or keeps its number. Where the agent has
    no privileges, 0 stands for the agent's own user and any other is refused.
    With CLONE_NEWNS, ``own_proc`` mounts a proc(5) of the program's own PID
    namespace at /proc, ``own_sys`` a sysfs(5) of its own network namespace at /sys.
    ``timeout`` is in seconds; ``seccomp`` is an array of struct sock_filter,
    seccomp(2), loaded last.
    """

    namespaces: int = 0
    uid: int = 0
    gid: int = 0
    map_root: bool = True
    no_new_privs: bool = False
    scratch: Scratch = Scratch.TMPFS
    timeout: float = 2.0
    seccomp: bytes = b""
    own_proc: bool = False
    own_sys: bool = False


class Altered(enum.StrEnum):
    """How a call is made to differ, in the agent's build for tests."""

    NOTHING = "nothing"
    ERROR = "errno"
    """The errno ``match`` is told as the errno ``value``."""
    RESULT = "value"
    """What works returns ``value`` more."""
    FLAG = "flag"
    """An argument with all bits of ``match`` is refused with the errno ``value``."""
    OUT = "out"
    """In the byte at ``offset`` of what an argument points to, bits of ``value`` are turned."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """One call, by number, of a kernel that is made to differ."""

    number: int = 0
    how: Altered = Altered.NOTHING
    argument: int = 0
    match: int = 0
    value: int = 0
    offset: int = 0


AS_IT_IS = Alteration()
"""Nothing differs."""


class End(enum.StrEnum):
    """How a program ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed out"
    REFUSED = "refused"
    """The sandbox could not be made: ``code`` is the errno, ``detail`` names the step."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program did.

    ``code`` is the exit status, the signal or the errno, as ``end`` says.
    ``values`` are what the calls returned, -errno for an error, up to the last that was made;
    where roles are several, :data:`UNMADE` or :data:`BEGUN` may stand among them.
    An output whose call was not done is empty. ``state`` are lines
    ``NAME: VALUE`` about what was left (harness/agent/state.c, tree.c), as far as
    the program asks for them: of the process only if all its calls were made.
    """

    end: End
    code: int
    values: tuple[int, ...] = ()
    outputs: tuple[bytes, ...] = ()
    detail: str = ""
    state: bytes = b""
