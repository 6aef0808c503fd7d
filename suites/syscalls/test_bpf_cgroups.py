"""Programs of bpf at control groups: which of them decide for a group below."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from hostabi.agent.program import Argument, Pointer, Result, Store
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

TOP = "/sys/fs/cgroup"
GROUPS = (f"{TOP}/contract", f"{TOP}/contract/below")
ATTR = 120
INSTRUCTIONS = 2
NONE, OVERRIDE, MULTI = 0, C.BPF_F_ALLOW_OVERRIDE, C.BPF_F_ALLOW_MULTI

group = st.integers(0, 1)
program = st.integers(0, 3)
operation = st.one_of(
    st.tuples(st.just("attach"), group, program, st.sampled_from([NONE, OVERRIDE, MULTI, MULTI])),
    st.tuples(st.just("attach"), group, program, st.sampled_from([OVERRIDE, MULTI, MULTI])),
    st.tuples(st.just("detach"), group, program),
    st.tuples(st.just("try")),
)


@dataclass
class Group:
    programs: list[int] = field(default_factory=list)
    flags: int = NONE


class Attached(Script):
    """Two groups, one below the other, where the process is; programs 0 and 1 forbid sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.needs |= {"root", "bpf:cgroup"}
        limit = self.struct("struct rlimit64", rlim_cur=(1 << 64) - 1, rlim_max=(1 << 64) - 1)
        self.returns(0, "prlimit64", 0, C.RLIMIT_MEMLOCK, limit, 0)  # as in test_bpf
        self.groups = [Group(), Group()]
        for path in GROUPS:
            self.call("mkdirat", C.AT_FDCWD, self.string(path), 0o755)
        self.programs = [self.loaded(int(index > 1)) for index in range(4)]
        flags = C.O_RDONLY | C.O_DIRECTORY
        self.fds = [self.works("openat", C.AT_FDCWD, self.string(p), flags, 0) for p in GROUPS]
        self.join(GROUPS[1])

    def join(self, path: str) -> None:
        where = self.string(f"{path}/cgroup.procs")
        fd = self.works("openat", C.AT_FDCWD, where, C.O_WRONLY, 0)
        self.returns(1, "write", fd, self.content(b"0"), 1)
        self.returns(0, "close", fd)

    def leave(self) -> None:
        """Nothing is to be left for the next program."""
        self.join(TOP)
        for path in reversed(GROUPS):
            self.returns(0, "unlinkat", C.AT_FDCWD, self.string(path), C.AT_REMOVEDIR)

    def attributes(self, raw: bytes, stores: dict[int, tuple[Argument, int]]) -> Slot:
        slot = self.content(raw.ljust(ATTR, b"\0"))
        found = tuple(Store(slot.offset + at, *value) for at, value in stores.items())
        return replace(slot, text="attributes", stores=found)

    def loaded(self, answer: int) -> Ref:
        """r0 = answer, and the end: linux/bpf.h, struct bpf_insn."""
        code = bytes([0xB7, 0, 0, 0]) + answer.to_bytes(4, "little") + bytes([0x95]) + bytes(7)
        raw = C.BPF_PROG_TYPE_CGROUP_SOCK.to_bytes(4, "little")
        raw += INSTRUCTIONS.to_bytes(4, "little") + bytes(60)
        raw += C.BPF_CGROUP_INET_SOCK_CREATE.to_bytes(4, "little")
        places: dict[int, tuple[Argument, int]] = {
            8: (Pointer(self.content(code).offset), 8),
            16: (Pointer(self.string("GPL").offset), 8),
        }
        return self.works("bpf", C.BPF_PROG_LOAD, self.attributes(raw, places), ATTR)

    def at(self, index: int, program: int, flags: int = 0) -> Slot:
        raw = bytes(8) + C.BPF_CGROUP_INET_SOCK_CREATE.to_bytes(4, "little")
        raw += flags.to_bytes(4, "little")
        return self.attributes(
            raw,
            {
                0: (Result(self.fds[index].call), 4),
                4: (Result(self.programs[program].call), 4),
            },
        )

    def do_attach(self, index: int, program: int, flags: int) -> None:
        """linux/bpf.h on BPF_PROG_ATTACH: what the group above allows, and one kind in a group."""
        own, above = self.groups[index], self.groups[0]
        result = 0
        if (index and above.programs and above.flags == NONE) or (
            own.programs and own.flags != flags
        ):
            result = -errno.EPERM
        elif flags == MULTI and program in own.programs:
            result = -errno.EINVAL
        given = self.at(index, program, flags)
        self.returns(result, "bpf", C.BPF_PROG_ATTACH, given, ATTR)
        if result == 0:
            own.flags = flags
            own.programs = [*own.programs, program] if flags == MULTI else [program]
        self.do_try()

    def do_detach(self, index: int, program: int) -> None:
        """Only of many does it matter which is named."""
        own = self.groups[index]
        there = bool(own.programs) if own.flags != MULTI else program in own.programs
        result = 0 if there else -errno.ENOENT
        self.returns(result, "bpf", C.BPF_PROG_DETACH, self.at(index, program), ATTR)
        if there:
            own.programs = [e for e in own.programs if e != program] if own.flags == MULTI else []
        if not own.programs:
            own.flags = NONE
        self.do_try()

    def effective(self) -> list[int]:
        """Those of the lower group, and those above it unless they are overridden."""
        above, own = self.groups
        if not own.programs or above.flags == MULTI:
            return [*own.programs, *above.programs]
        return own.programs

    def do_try(self) -> None:
        denied = any(each < 2 for each in self.effective())
        if denied:
            self.returns(-errno.EPERM, "socket", C.AF_INET, C.SOCK_DGRAM, 0)
        else:
            fd = self.works("socket", C.AF_INET, C.SOCK_DGRAM, 0)
            self.returns(0, "close", fd)


def story(operations: list[tuple]) -> Case:
    script = Attached()
    script.play(operations)
    script.leave()
    return script.case()


@given(batch=batches(long_lists(operation, 6).map(story), 8))
def test_programs_of_groups_decide_together(agent, features, batch):
    """One is replaced, many all must agree, and the group above says whether it can be overridden.

    linux/bpf.h on BPF_PROG_ATTACH, BPF_F_ALLOW_OVERRIDE and BPF_F_ALLOW_MULTI.
    """
    if "bpf:cgroup" not in features:
        unsupported("no control groups to attach programs of bpf to")
    hold(agent, batch, features)
