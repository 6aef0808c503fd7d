"""UAPI structs, declared for cffi in ABI mode.

Names and field order are the kernel's own (``linux/*.h``, ``asm/*.h``); fields
that a union hides are declared flat under the name the header's macro has.
:data:`HEADERS` says where each type comes from, so that a compiler can hold
the declarations against the headers (see :mod:`hostabi.syscalls.generate`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from cffi import FFI

_PLAIN = """
struct open_how { uint64_t flags; uint64_t mode; uint64_t resolve; };
struct stat {
    unsigned long st_dev; unsigned long st_ino; unsigned long st_nlink;
    unsigned int st_mode; unsigned int st_uid; unsigned int st_gid; unsigned int __pad0;
    unsigned long st_rdev; long st_size; long st_blksize; long st_blocks;
    unsigned long st_atime; unsigned long st_atime_nsec;
    unsigned long st_mtime; unsigned long st_mtime_nsec;
    unsigned long st_ctime; unsigned long st_ctime_nsec;
    long __unused[3];
};
struct statx_timestamp { int64_t tv_sec; uint32_t tv_nsec; int32_t __reserved; };
struct statx {
    uint32_t stx_mask; uint32_t stx_blksize; uint64_t stx_attributes;
    uint32_t stx_nlink; uint32_t stx_uid; uint32_t stx_gid; uint16_t stx_mode;
    uint16_t __spare0[1];
    uint64_t stx_ino; uint64_t stx_size; uint64_t stx_blocks; uint64_t stx_attributes_mask;
    struct statx_timestamp stx_atime; struct statx_timestamp stx_btime;
    struct statx_timestamp stx_ctime; struct statx_timestamp stx_mtime;
    uint32_t stx_rdev_major; uint32_t stx_rdev_minor;
    uint32_t stx_dev_major; uint32_t stx_dev_minor;
    uint64_t stx_mnt_id;
    uint64_t tail[13];
};
struct __kernel_timespec { int64_t tv_sec; long long tv_nsec; };
struct iovec { void *iov_base; size_t iov_len; };
struct pollfd { int fd; short events; short revents; };
struct rlimit64 { uint64_t rlim_cur; uint64_t rlim_max; };
struct sigaction {
    void *sa_handler; unsigned long sa_flags; void *sa_restorer; unsigned long sa_mask;
};
struct siginfo {
    int si_signo; int si_errno; int si_code; int __pad0;
    int si_pid; unsigned int si_uid; long si_value; unsigned char tail[96];
};
struct msghdr {
    void *msg_name; int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
    void *msg_control; size_t msg_controllen; unsigned int msg_flags;
};
struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; };
struct signalfd_siginfo {
    uint32_t ssi_signo; int32_t ssi_errno; int32_t ssi_code; uint32_t ssi_pid;
    uint32_t ssi_uid; int32_t ssi_fd; uint32_t ssi_tid; uint32_t ssi_band;
    uint32_t ssi_overrun; uint32_t ssi_trapno; int32_t ssi_status; int32_t ssi_int;
    uint64_t ssi_ptr; uint64_t ssi_utime; uint64_t ssi_stime; uint64_t ssi_addr;
    uint16_t ssi_addr_lsb; uint16_t __pad2; int32_t ssi_syscall; uint64_t ssi_call_addr;
    uint32_t ssi_arch; uint8_t __pad[28];
};
"""

_PACKED = "struct epoll_event { uint32_t events; uint64_t data; };"

DATA = Path(__file__).parent / "data" / "types.json"


class Declaration(msgspec.Struct, frozen=True):
    """A type as cffi reads it. ``needs`` are other declared types it consists of."""

    text: str
    packed: bool
    needs: tuple[str, ...]


Declared: TypeAlias = dict[str, Declaration]


def declare_own(target: FFI) -> None:
    """Declare what is written down here by hand."""
    target.cdef(_PLAIN)
    target.cdef(_PACKED, packed=True)


ffi = FFI()
declare_own(ffi)

Struct: TypeAlias = FFI.CData
"""A cffi struct, filled by the host or decoded from what a kernel wrote."""

HEADERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "struct open_how": ("linux/openat2.h", "struct open_how"),
        "struct stat": ("asm/stat.h", "struct stat"),
        "struct statx_timestamp": ("linux/stat.h", "struct statx_timestamp"),
        "struct statx": ("linux/stat.h", "struct statx"),
        "struct __kernel_timespec": ("linux/time_types.h", "struct __kernel_timespec"),
        "struct iovec": ("linux/uio.h", "struct iovec"),
        "struct pollfd": ("asm/poll.h", "struct pollfd"),
        "struct rlimit64": ("linux/resource.h", "struct rlimit64"),
        "struct sigaction": ("asm/signal.h", "struct sigaction"),
        "struct siginfo": ("asm/siginfo.h", "siginfo_t"),
        "struct signalfd_siginfo": ("linux/signalfd.h", "struct signalfd_siginfo"),
        "struct epoll_event": ("linux/eventpoll.h", "struct epoll_event"),
    }
)
"""Our name -> the header that defines it and the name it has there."""

OWN_FIELDS = frozenset({"tail", "__pad0", "__pad", "__pad2", "__spare0", "__unused", "__reserved"})
"""Fields that only fill space; headers name them differently from version to version."""

VOLATILE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "struct stat": frozenset(
            {
                "st_dev", "st_ino", "st_blksize", "st_blocks",
                "st_atime", "st_atime_nsec", "st_mtime", "st_mtime_nsec",
                "st_ctime", "st_ctime_nsec",
            }
        ),
        "struct statx": frozenset(
            {
                "stx_ino", "stx_blksize", "stx_blocks", "stx_atime", "stx_btime", "stx_ctime",
                "stx_mtime", "stx_dev_major", "stx_dev_minor", "stx_mnt_id", "tail",
                "stx_mask", "stx_attributes_mask",
            }
        ),
        "struct siginfo": frozenset({"si_pid", "tail"}),
        "struct signalfd_siginfo": frozenset({"ssi_pid", "ssi_utime", "ssi_stime"}),
        "struct statfs": frozenset(
            {"f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_fsid"}
        ),
        "struct new_utsname": frozenset({"release", "version"}),
        "struct itimerspec": frozenset({"it_value"}),
        "struct itimerval": frozenset({"it_value"}),
        "struct msqid64_ds": frozenset(
            {"msg_perm", "msg_stime", "msg_rtime", "msg_ctime", "msg_lspid", "msg_lrpid"}
        ),
        "struct semid64_ds": frozenset({"sem_perm", "sem_otime", "sem_ctime"}),
        "struct shmid64_ds": frozenset(
            {"shm_perm", "shm_atime", "shm_dtime", "shm_ctime", "shm_cpid", "shm_lpid"}
        ),
        "struct sched_attr": frozenset({"sched_runtime"}),
    }
)  # fmt: skip
"""Fields whose value is the machine's, not the kernel's: never compared between kernels.

``stx_mask`` and ``stx_attributes_mask`` grow with every release by design
(statx(2): ignore what was not asked for).
"""


@cache
def declared() -> Declared:
    """Every declaration that was made from the headers, by the type's name."""
    return msgspec.json.decode(DATA.read_bytes(), type=Declared)


def closure(declarations: Declared, names: Iterable[str]) -> list[str]:
    """``names`` and what they consist of, each after what it needs; unknown ones are left out."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in declarations and name not in order:
            for other in declarations[name].needs:
                visit(other)
            order[name] = None

    for name in names:
        visit(name)
    return list(order)


_TAGGED = re.compile(r"(?:struct|union) \w+")
_LOCK = threading.Lock()
_READY: set[str] = set()


def need(name: str) -> str:
    """Have ``ffi`` know the type ``name``; returns it. A kernel has thousands: few are needed."""
    tagged = _TAGGED.match(name)
    if tagged and tagged[0] not in _READY and tagged[0] not in HEADERS:
        with _LOCK:
            for each in closure(declared(), [tagged[0]]):
                if each not in _READY:
                    ffi.cdef(declared()[each].text, packed=declared()[each].packed)
                    _READY.add(each)
    return name


def size(name: str) -> int:
    """Size in bytes of the type ``name`` ("struct stat", "unsigned int")."""
    return int(ffi.sizeof(need(name)))


def fields(name: str) -> list[tuple[str, int, int]]:
    """(field, offset, size in bytes) of each field of ``name``; none of what is no struct."""
    found = ffi.typeof(need(name))
    described = (found.fields or ()) if found.kind in {"struct", "union"} else ()
    return [(field, info.offset, ffi.sizeof(info.type)) for field, info in described]


def decode(name: str, raw: bytes) -> Struct:
    """The struct ``name`` as a kernel wrote it; a short ``raw`` is filled with zeros."""
    value = ffi.new(f"{need(name)} *")
    ffi.memmove(value, raw, min(len(raw), size(name)))
    return value


def normalised(name: str, raw: bytes) -> bytes:
    """``raw`` with the struct's volatile fields and padding set to zero."""
    mask = _mask(name)
    if not mask or len(raw) > len(mask):
        return raw
    return bytes(byte & keep for byte, keep in zip(raw, mask, strict=False))


_MASKS: dict[str, bytes] = {}


def _mask(name: str) -> bytes:
    if name not in VOLATILE:
        return b""
    if name not in _MASKS:
        mask = bytearray(size(name))
        for field, offset, length in fields(name):
            if field not in VOLATILE[name]:
                mask[offset : offset + length] = b"\xff" * length
        _MASKS[name] = bytes(mask)
    return _MASKS[name]
