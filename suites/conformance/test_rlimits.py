"""config.md, "POSIX process", rlimits: each limit as given, and enforced."""

from __future__ import annotations

import mmap
import signal
from collections.abc import Callable

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.seen import Answers

Asked = Callable[[], Answers]
MIB = 1 << 20
# A runtime may set them on a process of its own before that becomes the container's. One in Go
# has more than a GiB of addresses, and ends when it can have no more: so there are plenty.
LIMITS = {
    "RLIMIT_AS": (8 << 30, 16 << 30),
    "RLIMIT_CORE": (0, 4096),
    "RLIMIT_CPU": (30, 60),
    "RLIMIT_DATA": (256 * MIB, 512 * MIB),
    "RLIMIT_FSIZE": (64 << 10, 128 << 10),
    "RLIMIT_LOCKS": (10, 20),
    "RLIMIT_MEMLOCK": (32 << 10, 64 << 10),  # which is what 5.10 lets everybody have
    "RLIMIT_MSGQUEUE": (4096, 8192),
    "RLIMIT_NICE": (5, 10),
    "RLIMIT_NOFILE": (64, 128),
    "RLIMIT_NPROC": (12, 24),
    "RLIMIT_RSS": (64 * MIB, 128 * MIB),
    "RLIMIT_RTPRIO": (3, 6),
    "RLIMIT_RTTIME": (100_000, 200_000),
    "RLIMIT_SIGPENDING": (100, 200),
    "RLIMIT_STACK": (2 * MIB, 4 * MIB),
}
RAISED = {"RLIMIT_NICE", "RLIMIT_RTPRIO"}
"""Above what the guest's own processes have, which needs CAP_SYS_RESOURCE of the host."""


def mapping(mebibytes: int, protection: int) -> actions.Action:
    """Map private anonymous memory without touching it: mmap(2)."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return actions.attempt("mmap", 0, mebibytes * MIB, protection, flags, -1, 0)


# Only what can be written counts as data, and only that can be refused for want
# of memory: so the first is beyond RLIMIT_AS alone, the second beyond RLIMIT_DATA alone.
BEYOND_AS = mapping(9 << 10, mmap.PROT_READ)
BEYOND_DATA = mapping(300, mmap.PROT_READ | mmap.PROT_WRITE)
WITHIN = mapping(300, mmap.PROT_READ)

QUESTIONS = (
    actions.REPORT,
    actions.descriptors(100),
    actions.fill("/tmp/file", 1 * MIB),
    actions.lock(1),
    actions.fork(20, uid=4321),
    BEYOND_AS,
    BEYOND_DATA,
    WITHIN,
)


@pytest.fixture
def limited(look, runtime: Runtime) -> Asked:
    """The answers of a container under all limits at once."""
    config = bundle.base()
    for kind, (soft, hard) in LIMITS.items():
        if runtime.user and kind in RAISED:
            continue
        config = bundle.rlimit(config, kind, soft, hard)
    return lambda: look(config, *QUESTIONS)


@pytest.mark.proves("process.rlimits.type:{kind}")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.privileged("raising a hard limit needs CAP_SYS_RESOURCE")]
            if kind in RAISED
            else (),
        )
        for kind in LIMITS
    ],
)
def test_value(kind: str, limited: Asked) -> None:
    """ "The runtime MUST ... getrlimit(3) ... MUST succeed": soft and hard as in the file."""
    assert limited().report.rlimits[kind] == LIMITS[kind]


@pytest.mark.proves("process.rlimits.type:RLIMIT_NOFILE")
def test_nofile(limited: Asked) -> None:
    """Descriptors end at the soft limit, with EMFILE."""
    tried = limited().deed(actions.descriptors(100))
    assert tried.error == "EMFILE"
    assert tried.value <= LIMITS["RLIMIT_NOFILE"][0] - 3


@pytest.mark.proves("process.rlimits.type:RLIMIT_FSIZE")
def test_fsize(limited: Asked) -> None:
    """A file ends at the soft limit, with EFBIG where SIGXFSZ is ignored."""
    tried = limited().deed(actions.fill("/tmp/file", 1 * MIB))
    assert (tried.error, tried.value) == ("EFBIG", LIMITS["RLIMIT_FSIZE"][0])


def test_memlock(limited: Asked) -> None:
    """mlock(2) beyond the limit is ENOMEM without CAP_IPC_LOCK."""
    assert limited().deed(actions.lock(1)).error == "ENOMEM"


@pytest.mark.proves("process.rlimits.type:RLIMIT_NPROC")
def test_nproc(limited: Asked, runtime: Runtime) -> None:
    """A user's processes end at the soft limit, with EAGAIN."""
    tried = limited().deed(actions.fork(20, uid=4321))
    assert tried.error == "EAGAIN"
    # The one that forks counts as well.
    most = LIMITS["RLIMIT_NPROC"][0] - 1
    # Those of the user that made the user namespace may count too, for all of it.
    assert tried.value == most or (runtime.user and 0 < tried.value < most)


@pytest.mark.proves("process.rlimits.type:RLIMIT_CPU")
def test_cpu(look) -> None:
    """Processor time beyond the soft limit is SIGXCPU.

    In a container of its own, and no value is compared: the kernel raises the soft limit by a
    second each time it sends the signal, and what the runtime itself used counts before execve(2).
    """
    config = bundle.rlimit(bundle.base(), "RLIMIT_CPU", 1, 30)
    assert look(config, actions.spin(8000)).deed(actions.spin(8000)).signal == signal.SIGXCPU


@pytest.mark.proves("process.rlimits.type:RLIMIT_AS", "process.rlimits.type:RLIMIT_DATA")
def test_address_space(limited: Asked) -> None:
    """RLIMIT_AS bounds all mappings and RLIMIT_DATA the writable ones, with ENOMEM."""
    assert limited().deed(BEYOND_AS).error == "ENOMEM"
    assert limited().deed(BEYOND_DATA).error == "ENOMEM"
    assert limited().deed(WITHIN).error == ""
