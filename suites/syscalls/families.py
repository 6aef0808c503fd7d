"""What contracts over several processes share: children that act, images that go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostabi.syscalls.builder import Ref, Role, Slot, Value
from hostabi.syscalls.cases import Script
from hostabi.syscalls.table import C

SELF = "/proc/self/exe"
THREAD = C.CLONE_VM | C.CLONE_FS | C.CLONE_FILES | C.CLONE_SIGHAND | C.CLONE_THREAD
EVERY_SIGNAL = (1 << 64) - 1
WALL = 0x40000000  # __WALL, wait(2); linux/wait.h
WNOHANG = 1  # linux/wait.h


def mask_of(signals: list[int]) -> int:
    """A sigset_t of 8 bytes as a number."""
    return sum(1 << (signal - 1) for signal in set(signals))


def exited(code: int) -> int:
    """The status that wait(2) stores for an exit."""
    return (code & 0xFF) << 8


class Family(Script):
    """A script whose children make calls of their own."""

    powerful = False
    """Whether it does what only root may."""

    def __init__(self) -> None:
        super().__init__()
        if self.powerful:
            self.needs.add("root")

    @contextmanager
    def child(self, flags: int = C.SIGCHLD) -> Iterator[Ref]:
        """A clone(2) with ``flags``; the calls added inside are the child's."""
        role = self.role()
        pid = self.works("clone", flags, 0, 0, 0, 0, opaque=True, starts=role)
        with self.by(role):
            yield pid

    def spawn(self, flags: int = C.SIGCHLD) -> tuple[Role, Ref]:
        """A clone(2) with ``flags``: the child's role, to be written in pieces, and its pid."""
        role = self.role()
        return role, self.works("clone", flags, 0, 0, 0, 0, opaque=True, starts=role)

    def reap(self, pid: Ref, status: int = 0) -> Ref:
        """Wait for the child, whose status must be ``status``."""
        room = self.buffer(4)
        ref = self.works("wait4", pid, room, WALL, 0, out=[room], opaque=True)
        self.same(ref, pid)
        self.holds(ref, room, status.to_bytes(4, "little"))
        return ref

    @contextmanager
    def execution(self, path: str = SELF, flags: int = 0) -> Iterator[Ref]:
        """Execute the agent, or a copy of it; the calls added inside are the new image's."""
        role = self.role()
        where = (C.AT_FDCWD, self.string(path), self.image(role), self.vector(), flags)
        ref = self.returns(0, "execveat", *where, starts=role)
        with self.by(role):
            yield ref

    def same(self, ref: Ref, other: Ref) -> None:
        """Both calls must return the same."""

        def check(trace) -> None:
            assert trace[ref] == trace[other], (
                f"r{ref.call} is {trace[ref]}, r{other.call} is {trace[other]}"
            )

        self.ensure(check)

    def number(self, value: int, size: int = 8) -> Slot:
        """A number in the arena."""
        return self.content((value % (1 << 8 * size)).to_bytes(size, "little"))

    def open(self, path: str, flags: int = C.O_RDONLY, mode: int = 0) -> Ref:
        """An open file, which must be one."""
        return self.works("openat", C.AT_FDCWD, self.string(path), flags, mode)

    def make_file(self, path: str, text: bytes = b"", mode: int = 0o644) -> None:
        """A new file."""
        fd = self.open(path, C.O_WRONLY | C.O_CREAT | C.O_EXCL, mode)
        if text:
            self.returns(len(text), "write", fd, self.content(text), len(text))
        self.returns(0, "close", fd)

    def copy_agent(self, path: str, mode: int = 0o755) -> None:
        """A copy of the agent's program, to be given owners and capabilities."""
        source = self.open(SELF)
        target = self.open(path, C.O_WRONLY | C.O_CREAT | C.O_EXCL, 0o700)
        self.works("sendfile", target, source, 0, 1 << 24, opaque=True)
        self.returns(0, "fchmod", target, mode)
        self.returns(0, "close", source)
        self.returns(0, "close", target)

    def put(self, result: int, path: str, text: str) -> None:
        """Write a setting; ``result`` is an errno or 0."""
        fd = self.open(path, C.O_WRONLY)
        raw = text.encode()
        self.returns(result or len(raw), "write", fd, self.content(raw), len(raw))
        self.returns(0, "close", fd)

    def reads(self, path: str, text: bytes) -> None:
        """A file must hold just this; words are told apart by any white space."""
        fd = self.open(path)
        room = self.buffer(max(256, len(text) + 64))
        ref = self.works("read", fd, room, room.size, out=[room])
        self.returns(0, "close", fd)

        def check(trace) -> None:
            found = trace.bytes(ref, room)[: trace[ref]]
            assert found.split() == text.split(), f"{path} holds {found!r}, must be {text!r}"

        self.ensure(check)

    def signal(self, pid: Value, number: int) -> None:
        """Send it."""
        self.returns(0, "kill", pid, number)

    def block(self, mask: int = EVERY_SIGNAL) -> None:
        """Set the mask of blocked signals."""
        self.returns(0, "rt_sigprocmask", C.SIG_SETMASK, self.number(mask), 0, 8)

    def pending(self, mask: int) -> None:
        """These signals, and no others, must wait."""
        room = self.buffer(8)
        ref = self.returns(0, "rt_sigpending", room, 8, out=[room])
        self.holds(ref, room, mask.to_bytes(8, "little"))
