"""config-linux.md, "Seccomp": notifications to a listener, and the flags of a filter."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, SyscallRule
from hostabi.oci.visits import Visit
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import table

SET_MODE_FILTER, NEW_LISTENER, KILLABLE = 1, 1 << 3, 1 << 5
METADATA = "what the listener is to know"
NOTIFIED = "timer_getoverrun"
LOGGED = "timer_delete"
REFUSED, ANSWERED, CONTINUED = (actions.attempt(NOTIFIED, number) for number in (0, 1000, 2))
INTERRUPTED = actions.interrupted(NOTIFIED, 3)


def known(runtime: Runtime, kind: str, name: str) -> bool:
    """Whether ``features`` lists it, or says nothing of that kind."""
    linux = runtime.features().get("linux")
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    listed = seccomp.get(kind) if isinstance(seccomp, dict) else None
    return not isinstance(listed, list) or name in listed


def notified(path: str, *flags: str) -> Config:
    """A container one of whose calls is answered by the listener at ``path``."""
    rule = SyscallRule(names=(NOTIFIED,), action="SCMP_ACT_NOTIFY")
    return bundle.seccomp(
        bundle.base(), rule, listener_path=path, listener_metadata=METADATA, flags=flags
    )


def needs_notify(runtime: Runtime) -> None:
    """Unsupported where the runtime knows the action, perhaps, but no listener."""
    if runtime.specification() < (1, 1) or not known(runtime, "actions", "SCMP_ACT_NOTIFY"):
        unsupported(f"{runtime.name} does not claim the listener of version 1.1")


@pytest.mark.proves(
    "linux.seccomp.syscalls.action:SCMP_ACT_NOTIFY",
    "linux.seccomp.listenerPath",
    "linux.seccomp.listenerMetadata",
)
def test_notify(runtime: Runtime) -> None:
    """ "SCMP_ACT_NOTIFY", "listenerPath": the listener's answer is the call's, be it a value, an
    error, or that the kernel shall do it; and it was told which container that is."""
    needs_notify(runtime)
    with runtime.listener("notify") as listener:
        config = notified(listener.socket)
        answers = runtime.run(config, REFUSED, ANSWERED, CONTINUED).answers
        told = listener.received()
    assert answers.deed(REFUSED).error == "ENOANO"
    assert answers.deed(ANSWERED).value == 1001
    assert answers.deed(CONTINUED).error == "EINVAL"
    assert told.fds.count("seccompFd") == 1
    assert told.metadata == METADATA
    assert told.pid > 0
    assert told.state.bundle.startswith(runtime.work)
    assert told.state.status in {"creating", "created"}


def test_listener_that_is_not_there(runtime: Runtime) -> None:
    """ "The runtime MUST fail" the container whose listener cannot be reached."""
    needs_notify(runtime)
    assert not runtime.run(notified(f"{runtime.work}/nobody.socket"), actions.identity()).ok


@pytest.mark.proves("linux.seccomp.flags")
@pytest.mark.parametrize("flag", ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
def test_wait_killable(flag: str, runtime: Runtime) -> None:
    """The flag: once the listener has the call, only a deadly signal ends the wait."""
    needs_notify(runtime)
    if not known(runtime, "knownFlags", flag) or not known(runtime, "supportedFlags", flag):
        unsupported(f"{runtime.name} does not know {flag}, by its features")
    # Of linux/seccomp.h: known flags and no filter are EFAULT, an unknown flag EINVAL.
    number = str(table.number("seccomp"))
    said = runtime.probe("try", number, str(SET_MODE_FILTER), str(NEW_LISTENER | KILLABLE), "0")
    if b'"errno":22' in said.done.stdout:
        unsupported(f"this kernel has no {flag}")
    with runtime.listener("plain") as listener:
        plain = runtime.run(notified(listener.socket), INTERRUPTED).answers.deed(INTERRUPTED)
    assert plain.error == "EINTR"
    with runtime.listener("killable") as listener:
        visit = runtime.run(notified(listener.socket, flag), INTERRUPTED)
        needs_flags(runtime, visit)
        assert visit.answers.deed(INTERRUPTED).value == 4


def needs_flags(runtime: Runtime, visit: Visit) -> None:
    """Unsupported where the runtime says itself that it supports no flags, or not this one."""
    said = visit.error.lower()
    if "flag" in said and ("support" in said or "not known" in said or "unknown" in said):
        unsupported(f"{runtime.name} refuses the flag: {visit.error.strip().splitlines()[-1]}")


LOOKS = 10
"""At the kernel's log, a tenth of a second apart."""


def logged(runtime: Runtime, config: Config, call: actions.Action) -> tuple[str, bool]:
    """How the call ended, and whether the kernel's log has a new record of a filter."""
    # Records that nobody takes are printed, ten in five seconds at most: printk_ratelimit of
    # admin-guide/sysctl/kernel.rst, where 0 is no limit.
    runtime.agent.write("/proc/sys/kernel/printk_ratelimit", b"0")
    runtime.agent.command(["/bin/busybox", "dmesg", "-c"])
    visit = runtime.run(config, call)
    needs_flags(runtime, visit)
    error = visit.answers.deed(call).error
    # A thread of the kernel prints the record (type=1326: AUDIT_SECCOMP of linux/audit.h), and
    # may not have come to it yet. Nothing tells that there will be none.
    look = f"for i in $(seq {LOOKS}); do dmesg | grep -q type=1326 && exit; sleep 0.1; done; exit 1"
    return error, runtime.agent.command(["/bin/busybox", "sh", "-c", look]).status == 0


@pytest.mark.proves("linux.seccomp.syscalls.action:SCMP_ACT_LOG")
def test_log(runtime: Runtime) -> None:
    """ "SCMP_ACT_LOG": the call is made, and the kernel's log tells of it."""
    call = actions.attempt(LOGGED, 1 << 20)
    rule = SyscallRule(names=(LOGGED,), action="SCMP_ACT_LOG")
    assert logged(runtime, bundle.seccomp(bundle.base()), call) == ("EINVAL", False)
    assert logged(runtime, bundle.seccomp(bundle.base(), rule), call) == ("EINVAL", True)


@pytest.mark.proves("linux.seccomp.flags")
def test_flag_log(runtime: Runtime) -> None:
    """ "SECCOMP_FILTER_FLAG_LOG": all actions but ALLOW are told in the kernel's log."""
    call = actions.attempt(LOGGED, 1 << 20)
    rule = SyscallRule(names=(LOGGED,), action="SCMP_ACT_ERRNO", errno_ret=18)
    assert logged(runtime, bundle.seccomp(bundle.base(), rule), call) == ("EXDEV", False)
    flagged = bundle.seccomp(bundle.base(), rule, flags=("SECCOMP_FILTER_FLAG_LOG",))
    assert logged(runtime, flagged, call) == ("EXDEV", True)


@pytest.mark.proves("linux.seccomp.flags")
def test_flag_spec_allow(runtime: Runtime, look, visit) -> None:
    """ "SECCOMP_FILTER_FLAG_SPEC_ALLOW": the filter brings no mitigation of speculation."""
    field = "Speculation_Store_Bypass"
    # No flags at all leave the choice to the runtime.
    other = bundle.seccomp(bundle.base(), flags=("SECCOMP_FILTER_FLAG_LOG",))
    needs_flags(runtime, visit(other, actions.REPORT))
    plain = look(other, actions.REPORT).report.field(field)
    if "mitigated" not in plain:
        unsupported(f"nothing to allow here: without the flag it is {plain or 'not told'}")
    flagged = bundle.seccomp(bundle.base(), flags=("SECCOMP_FILTER_FLAG_SPEC_ALLOW",))
    assert "mitigated" not in look(flagged, actions.REPORT).report.field(field)


@pytest.mark.proves("linux.seccomp.flags")
def test_flag_unknown(runtime: Runtime) -> None:
    """A flag that is none of the specification's is an error, and not a filter without it."""
    flagged = bundle.seccomp(bundle.base(), flags=("SECCOMP_FILTER_FLAG_NO_SUCH",))
    assert not runtime.run(flagged, actions.identity()).ok
