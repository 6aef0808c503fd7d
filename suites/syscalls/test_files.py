"""Regular files: what several descriptors write, cut, punch and copy is what they read back."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import offsets, pattern, sizes
from hostabi.syscalls.table import C

LIMIT = 3 * 4096
ACCESS = (C.O_RDONLY, C.O_WRONLY, C.O_RDWR)

file = st.sampled_from(["f", "g"])
which = st.integers(0, 5)
size = sizes(LIMIT)
where = offsets(LIMIT)

operation = st.one_of(
    st.tuples(st.just("write"), which, size),
    st.tuples(st.just("pwrite"), which, size, where),
    st.tuples(st.just("writev"), which, size, size),
    st.tuples(st.just("read"), which, size),
    st.tuples(st.just("pread"), which, size, where),
    st.tuples(st.just("lseek"), which, where, st.sampled_from(["SET", "CUR", "END", "?"])),
    st.tuples(st.just("ftruncate"), which, where),
    st.tuples(
        st.just("fallocate"), which, st.sampled_from(["", "keep", "punch", "zero"]), where, size
    ),
    st.tuples(st.just("copy"), which, which, where, where, size),
    st.tuples(st.just("fstat"), which),
    st.tuples(
        st.just("open"),
        file,
        st.sampled_from(ACCESS),
        st.sampled_from([0, C.O_APPEND, C.O_TRUNC, C.O_APPEND | C.O_TRUNC]),
    ),
    st.tuples(st.just("dup"), which),
)


@dataclass
class Inode:
    content: bytearray = field(default_factory=bytearray)

    def write(self, at: int, data: bytes) -> None:
        if data:
            self.resize(max(len(self.content), at))
            self.content[at : at + len(data)] = data

    def resize(self, length: int) -> None:
        del self.content[length:]
        self.content += bytes(length - len(self.content))

    def clear(self, at: int, length: int) -> None:
        end = min(at + length, len(self.content))
        self.content[at:end] = bytes(max(end - at, 0))


@dataclass
class Description:
    """An open file description (open(2)): descriptors made by dup share it, offset and all."""

    inode: Inode
    access: int
    append: bool
    offset: int = 0

    @property
    def reads(self) -> bool:
        return self.access != C.O_WRONLY

    @property
    def writes(self) -> bool:
        return self.access != C.O_RDONLY


class Files(Script):
    """Writes the program and, beside it, does to a model what the kernel must do."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__(arena=1 << 19)
        self.inodes = {"f": Inode(), "g": Inode()}
        self.open_files: list[tuple[Ref, Description]] = []
        for name in ("f", "g"):
            self.do_open(name, C.O_RDWR, C.O_CREAT)
        self.do_open("f", C.O_RDWR, C.O_APPEND)
        # In an empty file most operations only find that nothing is there.
        for index, size in enumerate(sizes):
            self.do_pwrite(index, size, 0)

    def pick(self, index: int) -> tuple[Ref, Description]:
        return self.open_files[index % len(self.open_files)]

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def do_open(self, name: str, access: int, flags: int) -> None:
        inode = self.inodes[name]
        fd = self.works("openat", C.AT_FDCWD, self.string(name), access | flags, 0o600)
        if flags & C.O_TRUNC:
            inode.resize(0)
        self.open_files.append((fd, Description(inode, access, bool(flags & C.O_APPEND))))

    def do_dup(self, index: int) -> None:
        fd, description = self.pick(index)
        self.open_files.append((self.works("dup", fd), description))

    def do_write(self, index: int, size: int) -> None:
        fd, file = self.pick(index)
        data = pattern(len(self), size)
        if not file.writes:
            self.returns(-errno.EBADF, "write", fd, self.content(data), size)
            return
        self.returns(size, "write", fd, self.content(data), size)
        self.advance(file, data)

    def do_writev(self, index: int, first: int, second: int) -> None:
        fd, file = self.pick(index)
        parts = [pattern(len(self), first), pattern(len(self) + 1, second)]
        rows = [{"iov_base": self.content(part), "iov_len": len(part)} for part in parts]
        vector = self.array("struct iovec", rows)
        if not file.writes:
            self.returns(-errno.EBADF, "writev", fd, vector, 2)
            return
        self.returns(first + second, "writev", fd, vector, 2)
        self.advance(file, b"".join(parts))

    @staticmethod
    def advance(file: Description, data: bytes) -> None:
        if data:
            if file.append:
                file.offset = len(file.inode.content)
            file.inode.write(file.offset, data)
            file.offset += len(data)

    def do_pwrite(self, index: int, size: int, at: int) -> None:
        fd, file = self.pick(index)
        data = pattern(len(self), size)
        result = size
        if at < 0:
            result = -errno.EINVAL
        elif not file.writes:
            result = -errno.EBADF
        self.returns(result, "pwrite64", fd, self.content(data), size, at)
        if result > 0:
            # pwrite(2), BUGS: O_APPEND wins over the offset, and the file offset stays.
            file.inode.write(len(file.inode.content) if file.append else at, data)

    def do_read(self, index: int, size: int) -> None:
        fd, file = self.pick(index)
        if not file.reads:
            self.returns(-errno.EBADF, "read", fd, self.buffer(size), size)
            return
        data = bytes(file.inode.content[file.offset : file.offset + size])
        self.reads(data, size, "read", fd)
        file.offset += len(data)

    def do_pread(self, index: int, size: int, at: int) -> None:
        fd, file = self.pick(index)
        if at < 0 or not file.reads:
            result = -errno.EINVAL if at < 0 else -errno.EBADF
            self.returns(result, "pread64", fd, self.buffer(size), size, at)
            return
        self.reads(bytes(file.inode.content[at : at + size]), size, "pread64", fd, at)

    def reads(self, data: bytes, size: int, name: str, fd: Ref, *rest: int) -> None:
        into = self.buffer(size)
        ref = self.returns(len(data), name, fd, into, size, *rest, out=[into])
        self.holds(ref, into, data.ljust(size, b"\0"))

    def do_lseek(self, index: int, by: int, whence: str) -> None:
        fd, file = self.pick(index)
        start = {"SET": 0, "CUR": file.offset, "END": len(file.inode.content)}.get(whence)
        code = getattr(C, f"SEEK_{whence}") if start is not None else 77
        if start is None or start + by < 0:
            self.returns(-errno.EINVAL, "lseek", fd, by, code)
            return
        file.offset = start + by
        self.returns(file.offset, "lseek", fd, by, code)

    def do_ftruncate(self, index: int, length: int) -> None:
        fd, file = self.pick(index)
        if length < 0 or not file.writes:
            self.returns(-errno.EINVAL, "ftruncate", fd, length)
            return
        self.returns(0, "ftruncate", fd, length)
        file.inode.resize(length)

    def do_fallocate(self, index: int, how: str, at: int, length: int) -> None:
        fd, file = self.pick(index)
        self.needs.add(f"fallocate:{how}" if how else "fallocate")
        mode = {
            "": 0,
            "keep": C.FALLOC_FL_KEEP_SIZE,
            "punch": C.FALLOC_FL_KEEP_SIZE | C.FALLOC_FL_PUNCH_HOLE,
            "zero": C.FALLOC_FL_ZERO_RANGE,
        }[how]
        if at < 0 or length == 0:
            self.returns(-errno.EINVAL, "fallocate", fd, mode, at, length)
            return
        if not file.writes:
            self.returns(-errno.EBADF, "fallocate", fd, mode, at, length)
            return
        self.returns(0, "fallocate", fd, mode, at, length)
        if how in ("punch", "zero"):
            file.inode.clear(at, length)
        if how in ("", "zero"):
            file.inode.resize(max(len(file.inode.content), at + length))

    def do_copy(self, source: int, target: int, at: int, to: int, size: int) -> None:
        """copy_file_range(2) from a given offset to a given offset; file offsets stay."""
        (fd_in, reader), (fd_out, writer) = self.pick(source), self.pick(target)
        if at < 0 or to < 0:
            return
        data = bytes(reader.inode.content[at : at + size])
        result = len(data)
        if not reader.reads or not writer.writes or writer.append:
            result = -errno.EBADF
        elif reader.inode is writer.inode and to + result > at and to < at + result:
            result = -errno.EINVAL
        places = [self.content(value.to_bytes(8, "little")) for value in (at, to)]
        if result == 0:
            # With nothing to copy some of the checks above are not made.
            return
        ref = self.returns(
            result, "copy_file_range", fd_in, places[0], fd_out, places[1], size, 0, out=places
        )
        if result > 0:
            writer.inode.write(to, data)
            for place, start in zip(places, (at, to), strict=True):
                self.holds(ref, place, (start + result).to_bytes(8, "little"))

    def do_fstat(self, index: int) -> None:
        fd, file = self.pick(index)
        length = len(file.inode.content)
        stat = self.room("struct stat")
        ref = self.returns(0, "fstat", fd, stat, out=[stat])

        def check(trace) -> None:
            seen = trace.struct(ref, stat)
            assert seen.st_size == length
            assert seen.st_mode == C.S_IFREG | 0o600
            assert seen.st_nlink == 1

        self.ensure(check)

    def do_whole(self) -> None:
        """Both files in full, by descriptors of their own."""
        for name, inode in self.inodes.items():
            fd = self.works("openat", C.AT_FDCWD, self.string(name), C.O_RDONLY, 0)
            self.reads(bytes(inode.content), len(inode.content) + 1, "pread64", fd, 0)


def story(sizes: tuple[int, ...], operations: list[tuple]) -> Case:
    script = Files(sizes)
    for step in operations:
        script.add(step)
    script.do_whole()
    return script.case()


first_sizes = st.sampled_from([0, 100, 4097])
cases = st.builds(story, st.tuples(first_sizes, first_sizes), long_lists(operation, 10))


@given(batch=batches(cases))
def test_files_hold_what_was_written(agent, features, batch):
    """Bytes, sizes and offsets follow the model exactly.

    write(2), pwrite(2) with its O_APPEND bug, lseek(2), ftruncate(2), fallocate(2),
    copy_file_range(2); open(2) on shared open file descriptions.
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_files_agree(lockstep, batch):
    """Every kernel answers alike: values, errnos, bytes, stat fields."""
    lockstep.agree(batch)
