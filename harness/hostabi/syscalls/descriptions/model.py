"""What a description of a syscall is made of: kinds of resources, and what one says of a call.

A description says what a call takes and what it makes. Resources (descriptors, names of
files, processes, memory, keys) flow from call to call: :mod:`.writer` picks one at hand, or
first adds a call that makes one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hostabi.syscalls import table
from hostabi.syscalls.builder import Value

if TYPE_CHECKING:
    from hostabi.syscalls.descriptions.writer import Writer


class Kind(enum.StrEnum):
    """What a call takes from others, or leaves to them."""

    # descriptors
    FILE = "regular file"
    FOLDER = "directory"
    PATH = "descriptor of a path alone"
    TAGGED = "file with an extended attribute"
    MEMFD = "memory file"
    READER = "end of a pipe to read from"
    WRITER = "end of a pipe to write to"
    OUTLET = "end of another pipe to write to"
    EVENT = "eventfd"
    TIMER = "timerfd"
    SIGNALS = "signalfd"
    EPOLL = "epoll"
    INOTIFY = "inotify"
    EVENTFUL = "inotify with an event"
    FANOTIFY = "fanotify"
    PROCESS = "pidfd"
    OWN = "pidfd of the process itself"
    NAMESPACE = "namespace"
    TREE = "detached mount"
    CONTEXT = "file system that is being configured"
    CONFIGURED = "file system that is configured"
    STREAM = "stream socket without a name"
    BOUND = "stream socket with a name"
    LISTENING = "stream socket that listens"
    AWAITED = "stream socket that another one waits for"
    PAIRED = "socket that is connected to another one"
    DATAGRAM = "datagram socket"
    INTERNET = "socket of the internet's protocols"
    NETLINK = "netlink socket"
    PACKET = "packet socket"
    VSOCK = "vsock socket"
    RING = "io_uring"
    LOADED = "io_uring that knows files"
    NOTIFYING = "io_uring that notifies"
    MAP = "BPF map"
    ELEMENT = "BPF map with an element"
    FILTER = "BPF program"
    RULESET = "landlock rules"
    MESSAGES = "POSIX message queue"
    SENT = "POSIX message queue with a message"
    FAULTS = "userfaultfd"
    SECRET = "secret memory"  # noqa: S105 - memfd_secret(2)
    LISTENER = "seccomp listener"
    COUNTER = "performance counter"
    # names, by what they name
    FILE_NAME = "name of a regular file"
    PROGRAM_NAME = "name of a file that may be executed"
    FOLDER_NAME = "name of a directory"
    LINK_NAME = "name of a symbolic link"
    NODE_NAME = "name of a special file"
    LABELLED = "name of a file with an extended attribute"
    MOUNTED = "name of a directory that is mounted on"
    # numbers
    CHILD = "process that this one made"
    SELF = "process itself"
    MEMORY = "mapped memory"
    FENCED = "memory that cannot be written"
    WATCH = "inotify watch"
    ALARM = "POSIX timer"
    SEMAPHORES = "System V semaphores"
    SEGMENT = "System V shared memory"
    ATTACHED = "System V shared memory that is attached"
    QUEUE = "System V message queue"
    FILLED = "System V message queue with a message"
    KEY = "key"
    KEYRING = "keyring"
    PROTECTION = "memory protection key"
    CONTEXT_AIO = "context of asynchronous I/O"
    # states of the program itself
    LOOPBACK = "network whose loopback is up"
    BLOCKED = "signals that are blocked"
    PENDING = "signal that is pending"
    INHERITABLE = "capability that is inheritable"


NAMES = frozenset(
    {
        Kind.FILE_NAME, Kind.PROGRAM_NAME, Kind.FOLDER_NAME, Kind.LINK_NAME, Kind.NODE_NAME,
        Kind.LABELLED, Kind.MOUNTED,
    }
)  # fmt: skip
"""Kinds that are names in the program's folder."""
NUMBERS = frozenset(
    {
        Kind.CHILD, Kind.SELF, Kind.MEMORY, Kind.FENCED, Kind.WATCH, Kind.ALARM,
        Kind.SEMAPHORES, Kind.SEGMENT, Kind.ATTACHED, Kind.QUEUE, Kind.FILLED, Kind.KEY,
        Kind.KEYRING, Kind.PROTECTION, Kind.CONTEXT_AIO, Kind.LOOPBACK, Kind.BLOCKED, Kind.PENDING,
        Kind.INHERITABLE,
    }
)  # fmt: skip
DESCRIPTORS = tuple(kind for kind in Kind if kind not in NAMES | NUMBERS)
"""Kinds that are descriptors; the first is the usual one."""
SOCKETS = (
    Kind.PAIRED, Kind.STREAM, Kind.BOUND, Kind.LISTENING, Kind.AWAITED, Kind.DATAGRAM,
    Kind.INTERNET, Kind.NETLINK, Kind.PACKET, Kind.VSOCK,
)  # fmt: skip
"""Kinds that are sockets."""


class Role(enum.StrEnum):
    """What a register of a call means, as far as rules that all calls share go."""

    DESCRIPTOR = "fd"
    FOLDER = "dirfd"
    """A descriptor beside a path, which AT_FDCWD may stand for."""
    POINTER = "pointer"
    OPTIONAL = "optional pointer"
    """A pointer that may be NULL."""
    FLAGS = "flags"
    SIZE = "size"
    """Bytes of an extensible struct, which the argument before points to."""
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Register:
    """One register of a call: the argument's name in its manual page, and what it means.

    ``unknown`` are bits of flags that no header names; ``leaves`` is what a name stands for
    after the call.
    """

    name: str
    role: Role
    unknown: int = 0
    leaves: Kind | None = None


class Argument(Protocol):
    """One argument, or several that belong together: a folder and a path, a buffer and its size."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """What the argument fills, in order."""

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Kinds of resources of which it takes one."""

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One value for each register, by the writer's choices; the first choice is the usual."""


@dataclass(frozen=True, slots=True)
class Makes:
    """What a call that works leaves to others.

    The number it returns, or with ``out`` the word ``index`` of that argument's memory;
    ``of`` names an argument whose resource becomes this kind.
    """

    kind: Kind
    out: str = ""
    index: int = 0
    of: str = ""
    width: int = 4
    besides: bool = False
    """The resource ``of`` which it speaks stays what it was, too."""


@dataclass(frozen=True, slots=True)
class Description:
    """One call, in one of its forms: what it takes, what it makes, and where it may be made."""

    call: str
    arguments: tuple[Argument, ...]
    form: str = ""
    """Which of the things that the call does; several descriptions may be of one call."""
    makes: tuple[Makes, ...] = ()
    opaque: bool = False
    """What is returned is the machine's: an address, a pid, a time, an identifier."""
    pid: bool = False
    """It is a pid, the same everywhere for a program whose PID namespace is fresh."""
    fresh: int = 0
    """CLONE_NEW* bits: namespaces that have to be the program's own."""
    privilege: str = ""
    """The capability without which it is refused."""
    unsuccessful: str = ""
    """Why it never works in a program, where that is so."""
    forgets: frozenset[Kind] = frozenset()
    """Kinds that no longer stand for what they did: names, after chdir(2)."""
    last: bool = False
    """Too little is left to a program after it: never chosen unless asked for."""

    @property
    def name(self) -> str:
        """``CALL`` or ``CALL.FORM``."""
        return f"{self.call}.{self.form}" if self.form else self.call

    @property
    def registers(self) -> tuple[Register, ...]:
        """What each register means, in order."""
        return tuple(each for argument in self.arguments for each in argument.registers)

    @property
    def takes(self) -> frozenset[Kind]:
        """All kinds of resources of which it takes one."""
        return frozenset(kind for argument in self.arguments for kind in argument.takes)

    @property
    def leaves(self) -> tuple[Kind, ...]:
        """All kinds of resources that are there after it."""
        named = (each.leaves for each in self.registers)
        return (*(made.kind for made in self.makes), *(kind for kind in named if kind))


def describe(
    name: str,
    *arguments: Argument,
    makes: Kind | tuple[Makes, ...] = (),
    opaque: bool = False,
    pid: bool = False,
    fresh: int = 0,
    privilege: str = "",
    unsuccessful: str = "",
    forgets: frozenset[Kind] = frozenset(),
    last: bool = False,
) -> Description:
    """The description of ``CALL`` or ``CALL.FORM``. Raises InputError for an unknown call."""
    call, _, form = name.partition(".")
    table.number(call)
    made = (Makes(makes),) if isinstance(makes, Kind) else makes
    return Description(
        call,
        arguments,
        form,
        made,
        opaque or pid,
        pid,
        fresh,
        privilege,
        unsuccessful,
        forgets,
        last,
    )
