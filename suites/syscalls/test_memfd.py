"""memfd seals: what is sealed stays sealed, and nothing else is."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import flags, pattern
from hostabi.syscalls.table import C

WRITES = C.F_SEAL_WRITE | C.F_SEAL_FUTURE_WRITE
ALL = C.F_SEAL_SEAL | C.F_SEAL_SHRINK | C.F_SEAL_GROW | WRITES | C.F_SEAL_EXEC
PAGE = 4096

# Within one page, so that a write is never done in part.
place = st.integers(0, 60)
which = st.integers(0, 3)
seals = flags(
    ["F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE", "F_SEAL_FUTURE_WRITE"], unknown=1 << 20
)
rare = st.sampled_from([0, 0, 0, C.F_SEAL_SEAL, C.F_SEAL_EXEC])

operation = st.one_of(
    st.tuples(st.just("pwrite"), place, place),
    st.tuples(st.just("ftruncate"), st.one_of(place, st.just(PAGE))),
    st.tuples(st.just("fallocate"), place, place, st.booleans()),
    st.tuples(st.just("add"), st.builds(lambda a, b: a | b, seals, rare)),
    st.tuples(st.just("get")),
    st.tuples(st.just("mmap"), st.booleans(), st.booleans()),
    st.tuples(st.just("mprotect"), which),
    st.tuples(st.just("munmap"), which),
    st.tuples(st.just("fchmod"), st.sampled_from([0o777, 0o666, 0o600])),
)
creation = st.sampled_from(
    [
        C.MFD_ALLOW_SEALING,
        C.MFD_ALLOW_SEALING,
        C.MFD_ALLOW_SEALING | C.MFD_CLOEXEC,
        C.MFD_CLOEXEC,
        C.MFD_NOEXEC_SEAL,
        C.MFD_EXEC | C.MFD_ALLOW_SEALING,
    ]
)


@dataclass
class Mapping:
    address: Ref
    shared: bool
    may_write: bool


class Sealed(Script):
    """The program, and what the seals make of it."""

    def __init__(self, creation: int) -> None:
        super().__init__()
        if creation & (C.MFD_EXEC | C.MFD_NOEXEC_SEAL):
            self.needs.add("memfd:noexec")
        self.held = bytearray()
        self.maps: list[Mapping] = []
        self.mode = 0o666 if creation & C.MFD_NOEXEC_SEAL else 0o777
        if creation & C.MFD_NOEXEC_SEAL:
            self.seals = C.F_SEAL_EXEC
        else:
            self.seals = 0 if creation & C.MFD_ALLOW_SEALING else C.F_SEAL_SEAL
        self.fd = self.works("memfd_create", self.string("sealed"), creation)
        self.do_get()

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def resize(self, length: int) -> None:
        del self.held[length:]
        self.held += bytes(length - len(self.held))

    def do_get(self) -> None:
        self.returns(self.seals, "fcntl", self.fd, C.F_GET_SEALS)

    def do_add(self, seals: int) -> None:
        if seals & C.F_SEAL_EXEC:
            self.needs.add("memfd:noexec")
        result, asked = 0, seals
        if seals & ~ALL:
            result = -errno.EINVAL
        elif self.seals & C.F_SEAL_SEAL:
            result = -errno.EPERM
        else:
            if seals & C.F_SEAL_EXEC and self.mode & 0o111:
                # Documentation/userspace-api/mfd_noexec.rst: an executable file is sealed whole.
                seals |= C.F_SEAL_SHRINK | C.F_SEAL_GROW | WRITES
            fresh = seals & C.F_SEAL_WRITE and not self.seals & C.F_SEAL_WRITE
            if fresh and any(entry.shared and entry.may_write for entry in self.maps):
                if not asked & C.F_SEAL_WRITE:
                    self.needs.add("memfd:exec-seal-refuses")
                result = -errno.EBUSY
            else:
                self.seals |= seals
        self.returns(result, "fcntl", self.fd, C.F_ADD_SEALS, asked)
        self.do_get()

    def do_pwrite(self, at: int, size: int) -> None:
        data = pattern(len(self), size)
        grows = at + size > len(self.held)
        result = size
        if size and (self.seals & WRITES or (grows and self.seals & C.F_SEAL_GROW)):
            result = -errno.EPERM
        self.returns(result, "pwrite64", self.fd, self.content(data), size, at)
        if result > 0:
            self.resize(max(len(self.held), at))
            self.held[at : at + size] = data

    def do_ftruncate(self, length: int) -> None:
        shrinks, grows = length < len(self.held), length > len(self.held)
        refused = (shrinks and self.seals & C.F_SEAL_SHRINK) or (
            grows and self.seals & C.F_SEAL_GROW
        )
        self.returns(-errno.EPERM if refused else 0, "ftruncate", self.fd, length)
        if not refused:
            self.resize(length)

    def do_fallocate(self, at: int, size: int, punch: bool) -> None:
        mode = C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE if punch else 0
        end = at + size
        if not size:
            result = -errno.EINVAL
        elif punch:
            result = -errno.EPERM if self.seals & WRITES else 0
        else:
            grows = end > len(self.held)
            result = -errno.EPERM if grows and self.seals & C.F_SEAL_GROW else 0
        self.returns(result, "fallocate", self.fd, mode, at, size)
        if result == 0 and punch:
            end = min(end, len(self.held))
            self.held[at:end] = bytes(max(end - at, 0))
        elif result == 0:
            self.resize(max(len(self.held), end))

    def do_mmap(self, shared: bool, write: bool) -> None:
        protection = C.PROT_READ | (C.PROT_WRITE if write else 0)
        kind = C.MAP_SHARED if shared else C.MAP_PRIVATE
        arguments = ("mmap", 0, PAGE, protection, kind, self.fd, 0)
        sealed = bool(self.seals & WRITES)
        if shared and write and sealed:
            self.returns(-errno.EPERM, *arguments)
            return
        if shared and sealed:
            # Read-only views of what is sealed were refused, or counted as writable, before
            # 158978945f31 ("mm: perform the mapping_map_writable() check after call_mmap()").
            self.needs.add("memfd:map-sealed")
        ref = self.works(*arguments, opaque=True)
        self.maps.append(Mapping(ref, shared, not (shared and sealed)))

    def do_mprotect(self, index: int) -> None:
        if self.maps:
            entry = self.maps[index % len(self.maps)]
            result = 0 if entry.may_write else -errno.EACCES
            self.returns(result, "mprotect", entry.address, PAGE, C.PROT_READ | C.PROT_WRITE)

    def do_munmap(self, index: int) -> None:
        if self.maps:
            entry = self.maps.pop(index % len(self.maps))
            self.returns(0, "munmap", entry.address, PAGE)

    def do_fchmod(self, mode: int) -> None:
        refused = self.seals & C.F_SEAL_EXEC and (self.mode ^ mode) & 0o111
        self.returns(-errno.EPERM if refused else 0, "fchmod", self.fd, mode)
        if not refused:
            self.mode = mode

    def do_read(self) -> None:
        into = self.buffer(PAGE + 1)
        ref = self.returns(len(self.held), "pread64", self.fd, into, into.size, 0, out=[into])
        self.holds(ref, into, bytes(self.held).ljust(into.size, b"\0"))


def story(creation: int, operations: list[tuple]) -> Case:
    script = Sealed(creation)
    for step in operations:
        script.add(step)
    script.do_read()
    return script.case()


cases = st.builds(story, creation, long_lists(operation, 10))


@given(batch=batches(cases))
def test_seals_hold(agent, features, batch):
    """Sizes, bytes, mappings, modes and the seals themselves follow the model exactly.

    memfd_create(2), fcntl(2) on file seals, Documentation/userspace-api/mfd_noexec.rst.
    """
    hold(agent, batch, features)


def writer(others: int, data: bytes) -> Case:
    """Somebody has the file mapped to write; F_SEAL_EXEC waits until they have not."""
    script = Script()
    seals = C.F_SEAL_EXEC | others
    fd = script.works("memfd_create", script.string("m"), C.MFD_EXEC | C.MFD_ALLOW_SEALING)
    script.returns(0, "ftruncate", fd, PAGE)
    address = script.works(
        "mmap", 0, PAGE, C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED, fd, 0, opaque=True
    )
    script.returns(-errno.EBUSY, "fcntl", fd, C.F_ADD_SEALS, seals)
    script.returns(0, "fcntl", fd, C.F_GET_SEALS)
    script.returns(len(data), "pwrite64", fd, script.content(data), len(data), 0)
    script.returns(0, "munmap", address, PAGE)
    script.returns(0, "fcntl", fd, C.F_ADD_SEALS, seals)
    whole = C.F_SEAL_EXEC | C.F_SEAL_SHRINK | C.F_SEAL_GROW | WRITES
    script.returns(whole | others, "fcntl", fd, C.F_GET_SEALS)
    script.returns(-errno.EPERM, "pwrite64", fd, script.content(data), len(data), 0)
    return script.case()


others = flags(["F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_FUTURE_WRITE"])


@given(batch=batches(st.builds(writer, others, st.binary(min_size=1, max_size=9)), 5))
def test_exec_seal_refuses_writers(agent, features, batch):
    """F_SEAL_EXEC on an executable file also seals it against writing, or is refused: EBUSY.

    fcntl(2) on F_SEAL_WRITE, Documentation/userspace-api/mfd_noexec.rst; "memfd: deny writeable
    mappings when implying SEAL_WRITE" (3b041514cb6e).
    """
    if "memfd:noexec" not in features:
        unsupported("this kernel has no F_SEAL_EXEC")
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_seals_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
