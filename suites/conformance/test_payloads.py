"""Payload generations: a container's own libc, shell and Python on this kernel.

Each is run as it is and under the default seccomp profile of each generation of
engines. What it does has to work; what its libc was refused and did
without is recorded with the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from hostabi.oci import actions, bundle, payloads
from hostabi.oci.actions import Action
from hostabi.oci.driver import Runtime
from hostabi.oci.payloads import Calls
from hostabi.oci.records import Config
from hostabi.oci.seen import Answers
from hostabi.packages.context import Packages
from hostabi.syscalls import profiles, seccomp, table
from hostabi.syscalls.seccomp import Policy
from hostabi.syscalls.table import C

pytestmark = pytest.mark.slow

FREE = "none"
"""Under no profile."""

SHELL = r"""
cd /tmp
step() {
    name=$1; shift
    if said=$("$@" 2>&1); then value=1; else value=0; fi
    [ -z "$said" ] || said=$(printf %s "$said" | tr -d '"\\\000-\037' | head -c 300)
    printf '{"action": "%s", "value": %s, "data": "%s"}\n' "$name" "$value" "$said"
}
pipeline() { [ "$(printf '3\n1\n2\n' | sort | head -n 1)" = 1 ]; }
background() { sleep 0.01 & wait $!; }
readable() { [ -r /etc/passwd ] && [ ! -x /etc/passwd ] && test -w file; }
copies() { cp file copy && cp -a copy kept && cmp_ file kept; }
cmp_() { [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]; }
modes() { chmod 640 file && [ "$(stat -c %a file)" = 640 ]; }
stamps() { touch -d @1000 file && [ "$(stat -c %Y file)" = 1000 ] && [ "$(date +%s)" -gt 1000 ]; }
moves() { mv copy moved && ln -s moved link && [ "$(readlink -f link)" = /tmp/moved ]; }
listing() { ls -la / /proc/self /dev >/dev/null && du -s /etc >/dev/null; }
removes() { mkdir -p a/b/c && rm -r a && [ ! -e a ]; }
bounded() { timeout 5 true && ! timeout -s KILL 0.1 sleep 5; }
step write sh -c 'echo text >file'
for each in pipeline background readable copies modes stamps moves listing removes bounded
do step $each $each; done
step space df /tmp
step who id -u
step counts nproc
step random dd if=/dev/urandom of=bytes bs=64 count=4
"""

PYTHON = r"""
import os, signal, socket, subprocess, sys, threading, time

def step(work):
    value, number, said = 0, 0, ""
    try:
        said = str(work() or "")
        value = 1
    except OSError as error:
        number, said = error.errno or 0, str(error)
    except Exception as error:
        said = type(error).__name__ + ": " + str(error)
    said = "".join(each for each in said if " " <= each <= "~" and each not in '"\\')
    line = '{"action": "%s", "value": %d, "errno": %d, "data": "%s"}\n'
    os.write(1, (line % (work.__name__, value, number, said[:300])).encode())

def same(found, wanted):
    assert found == wanted, "%r and not %r" % (found, wanted)

def start():
    return os.confstr("CS_GNU_LIBC_VERSION") + ", Python " + sys.version.split()[0]

def fork():
    child = os.fork()
    if not child:
        os._exit(7)
    same(os.WEXITSTATUS(os.waitpid(child, 0)[1]), 7)

def threads():
    done = threading.Semaphore(0)
    many = [threading.Thread(target=done.release) for _ in range(4)]
    for each in many:
        each.start()
    for each in many:
        each.join()
        assert done.acquire(timeout=5)
    assert not done.acquire(timeout=0.01)

def files():
    os.mkdir("/tmp/python")
    os.chdir("/tmp/python")
    with open("file", "w") as file:
        file.write("text")
    same(os.stat("file").st_size, 4)
    same(sorted(each.name for each in os.scandir(".")), ["file"])
    os.rename("file", "other")
    os.truncate("other", 2)
    os.utime("other", (5, 6))
    same(os.lstat("other").st_mtime, 6)

def access():
    assert os.access("/etc/passwd", os.R_OK, effective_ids=True)
    assert not os.access("/etc/passwd", os.X_OK)
    assert os.access("other", os.W_OK, follow_symlinks=False)

def chmod():
    folder = os.open(".", os.O_PATH)
    os.chmod("other", 0o640, dir_fd=folder)
    same(os.stat("other").st_mode & 0o777, 0o640)
    os.close(folder)

def chmod_of_links():
    os.symlink("other", "link")
    try:
        os.chmod("other", 0o600, follow_symlinks=False)
    except NotImplementedError:
        return "not with this libc"
    same(os.stat("other").st_mode & 0o777, 0o600)
    try:
        os.chmod("link", 0o600, follow_symlinks=False)
    except NotImplementedError:
        return "not for links"

def copies():
    with open("other", "rb") as source, open("copy", "wb") as target:
        same(os.copy_file_range(source.fileno(), target.fileno(), 2), 2)
        same(os.sendfile(target.fileno(), source.fileno(), 0, 2), 2)
    same(os.stat("copy").st_size, 4)

def clocks():
    before = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() - before >= 0.01
    assert time.time() > 1e9 and time.localtime().tm_year > 2000
    assert time.clock_gettime(time.CLOCK_BOOTTIME) > 0 and time.process_time() > 0

def random():
    assert len(os.getrandom(16)) == 16 and os.urandom(16) != os.urandom(16)

def sockets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), 5) as client:
            accepted, _ = server.accept()
            client.sendall(b"ping")
            same(accepted.recv(4), b"ping")
            accepted.close()
    near, far = socket.socketpair()
    near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\1\0\0\0")])
    same(len(far.recvmsg(1, 64)[1]), 1)
    near.close(), far.close()

def processes():
    said = subprocess.run(["echo", "hello"], stdout=subprocess.PIPE, check=True).stdout
    same(said, b"hello\n")
    same(subprocess.call("exit 3", shell=True, cwd="/tmp", close_fds=True), 3)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    same(os.waitpid(pid, 0)[1], 0)

def signals():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    same(seen, [signal.SIGUSR1])
    signal.setitimer(signal.ITIMER_REAL, 5)
    signal.setitimer(signal.ITIMER_REAL, 0)

def descriptors():
    pipe = os.pipe()
    os.set_blocking(pipe[0], False)
    try:
        os.read(pipe[0], 1)
        raise AssertionError("an empty pipe has something to read")
    except BlockingIOError:
        pass
    os.closerange(pipe[0], pipe[1] + 1)
    memory = os.memfd_create("memory")
    os.ftruncate(memory, 4096)
    os.close(memory)
    waiting = os.pidfd_open(os.getpid())
    os.close(waiting)

for work in (start, fork, threads, files, access, chmod, chmod_of_links, copies, clocks, random,
             sockets, processes, signals, descriptors):
    step(work)
"""
BY_SHELL, BY_PYTHON = payloads.shell(SHELL), payloads.python(PYTHON)
STEPS = {BY_SHELL: 15, BY_PYTHON: 14}
"""What each program has to tell of."""
HIDDEN = actions.attempt("vmsplice", -1, 0, 0, 0)
"""A call that every profile refuses, and no kernel with this errno."""
OURS = frozenset(action.words[0] for action in (*STEPS, HIDDEN))
REFUSALS = ("ENOSYS", "EPERM", "EOPNOTSUPP")
"""Ends by which a libc learns that it has to do without a call."""


@dataclass(frozen=True)
class Container:
    """A container with a payload, and the policy it is under, if any."""

    config: Config
    policy: Policy | None
    look: Callable[..., Answers]

    def answers(self, program: Action) -> Answers:
        """What was said when it ran ``program``, in a container of its own."""
        return self.look(self.config, program, HIDDEN)

    def calls(self, program: Action) -> Calls:
        """The calls of the program, which must have come to its end."""
        found = payloads.followed(self.answers(program).deed(program))
        assert (found.status, found.signal) == (0, 0), found
        return found.calls

    def failed(self, program: Action) -> list[str]:
        """Which of its steps did not work, and why."""
        steps = [deed for deed in self.answers(program).deeds if deed.action not in OURS]
        assert len(steps) == STEPS[program], f"only {[deed.action for deed in steps]}"
        return [f"{step.action}: {step.error} {step.data}" for step in steps if step.value != 1]


@pytest.fixture(params=payloads.names())
def payload(request: pytest.FixtureRequest) -> str:
    """The generation of the user space."""
    return request.param


@pytest.fixture(params=[FREE, *profiles.catalogue()])
def profile(request: pytest.FixtureRequest) -> str:
    """The generation of the profile, or none."""
    return request.param


@pytest.fixture
def container(payload: str, profile: str, look, packages: Packages) -> Container:
    """The two together."""
    config = payloads.config(payload)
    if profile == FREE:
        return Container(config, None, look)
    shipped = profiles.fetch(packages, profile)
    policy = shipped.policy(bundle.CAPABILITIES)
    return Container(bundle.profiled(config, shipped), policy, look)


@pytest.fixture
def record(
    payload: str, profile: str, record_property: Callable[[str, str], None]
) -> Callable[[Mapping[str, Sequence[str]]], None]:
    """Keep what was refused beside the outcome, whatever that will be."""

    def keep(refused: Mapping[str, Sequence[str]]) -> None:
        record_property("payload", payload)
        record_property("profile", profile)
        record_property("refused", payloads.text(refused))

    return keep


def test_shell(container: Container, record) -> None:
    """dash and coreutils do what scripts ask for."""
    record(payloads.ended(container.calls(BY_SHELL), *REFUSALS))
    assert container.failed(BY_SHELL) == []


def test_python(container: Container, record) -> None:
    """Python does what its library promises: start, fork, threads, files, time, sockets."""
    record(payloads.ended(container.calls(BY_PYTHON), *REFUSALS))
    assert container.failed(BY_PYTHON) == []


@pytest.mark.proves("linux.seccomp", unless=(FREE,))
def test_refusals(container: Container, runtime: Runtime) -> None:
    """A payload is refused what its profile hides, with that errno, and what the kernel lacks."""
    policy = container.policy or Policy("SCMP_ACT_ALLOW")
    wrong = [
        f"{name}: {dict(ends)}, not {expected}"
        for program in STEPS
        for name, ends in container.calls(program).items()
        if (expected := expectation(runtime, policy, name, ends)) != set(ends)
    ]
    assert wrong == []
    for program in STEPS:
        hidden = container.answers(program).deed(HIDDEN).error
        assert hidden == ("EPERM" if container.policy else "EBADF")


def expectation(runtime: Runtime, policy: Policy, name: str, ends: Mapping[str, int]) -> set[str]:
    """In which ways the call has to end, those that neither profile nor kernel decide as seen."""
    said = seccomp.verdict(policy, table.number(name))
    if any(rule.conditions and name in rule.names for rule in policy.rules):
        return set(ends)
    if said != C.SECCOMP_RET_ALLOW:
        return {table.errno_name(said & C.SECCOMP_RET_DATA)}
    if "ENOSYS" in ends and lacks(runtime, name):
        return {"ENOSYS"}
    return set(ends) - {"ENOSYS"}


def lacks(runtime: Runtime, name: str) -> bool:
    """Whether the kernel has no such call, asked with arguments that do no harm."""
    step = runtime.probe("try", str(table.number(name)), *["-1"] * 6)
    return b'"errno":38' in step.done.stdout
