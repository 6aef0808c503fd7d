"""What the probe printed, decoded: a report on what a process sees, and deeds.

The probe writes every byte as one character U+0000 to U+00FF, so that any
path or environment survives JSON. Here those become str in the file system's
usual way (UTF-8 with surrogate escapes, PEP 383).
"""

from __future__ import annotations

import errno as errno_names
from dataclasses import dataclass

import msgspec

from hostabi.oci.actions import Action

LINES = 1024
"""Lines of one answer; no test asks for near as many."""

_DEPTH = 8


class ProbeOutputError(AssertionError):
    """What came out of the container is not what the probe prints.

    An assertion, because the container was not run as its bundle says.
    """


class Mount(msgspec.Struct, frozen=True):
    """One line of /proc/self/mountinfo, proc_pid_mountinfo(5); ``propagation`` is its tags."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: str
    propagation: tuple[str, ...]
    type: str
    source: str
    super: str = ""

    @property
    def flags(self) -> frozenset[str]:
        """The mount's own options."""
        return frozenset(self.options.split(","))


class Capabilities(msgspec.Struct, frozen=True):
    """The five sets of capabilities(7), as bit masks."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int


class Device(msgspec.Struct, frozen=True):
    """A device, pipe or link below /dev; ``type`` is c, b, p or l."""

    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    target: str = ""


class Descriptor(msgspec.Struct, frozen=True):
    """An open descriptor and where its link points."""

    number: int
    target: str = ""


class Report(msgspec.Struct, frozen=True):
    """Everything one process sees. What needs a missing /proc or file is empty."""

    hostname: str
    domainname: str
    release: str
    machine: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    umask: int
    pid: int
    ppid: int
    process_group: int
    session: int
    terminal: bool
    no_new_privs: bool
    personality: int
    nice: int
    scheduler: int
    io_priority: int
    boot_seconds: int
    uid: tuple[int, int, int]
    gid: tuple[int, int, int]
    groups: tuple[int, ...]
    capabilities: Capabilities
    rlimits: dict[str, tuple[int, int]]
    namespaces: dict[str, str]
    descriptors: tuple[Descriptor, ...]
    cgroup_files: dict[str, str]
    mounts: tuple[Mount, ...]
    devices: tuple[Device, ...]
    cwd: str = ""
    cpus: tuple[int, ...] = ()
    uid_map: str = ""
    gid_map: str = ""
    setgroups: str = ""
    oom_score_adj: str = ""
    status: str = ""
    label: str = ""
    timens_offsets: str = ""
    cgroup: str = ""

    def mount(self, target: str) -> Mount:
        """The topmost mount at ``target``. Raises AssertionError when there is none."""
        found = [mount for mount in self.mounts if mount.target == target]
        if not found:
            present = ", ".join(mount.target for mount in self.mounts)
            raise AssertionError(f"nothing is mounted at {target}; mounts: {present}")
        return found[-1]

    def device(self, path: str) -> Device:
        """The device at ``path``. Raises AssertionError when there is none."""
        for device in self.devices:
            if device.path == path:
                return device
        present = ", ".join(device.path for device in self.devices)
        raise AssertionError(f"no device at {path}; devices: {present}")

    def field(self, name: str) -> str:
        """A field of /proc/self/status, empty when it has none such."""
        for line in self.status.splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return ""


class Deed(msgspec.Struct, frozen=True):
    """One thing tried: its value, errno (0 when done) and the signal that ended the child."""

    action: str
    value: int = 0
    errno: int = 0
    signal: int = 0
    data: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        """The errno's name, empty when the deed was done."""
        return errno_names.errorcode.get(self.errno, str(self.errno)) if self.errno else ""


@dataclass(frozen=True, slots=True)
class Answers:
    """All lines of one probe run, in order."""

    reports: tuple[Report, ...]
    deeds: tuple[Deed, ...]

    @property
    def report(self) -> Report:
        """The first report. Raises ProbeOutputError when there is none."""
        if not self.reports:
            raise ProbeOutputError("the probe printed no report")
        return self.reports[0]

    def deed(self, action: Action) -> Deed:
        """The first answer to ``action``. Raises ProbeOutputError when there is none."""
        name, *arguments = action.words
        for deed in self.deeds:
            if deed.action == name and deed.arguments == tuple(arguments):
                return deed
        raise ProbeOutputError(f"the probe did not come to: {' '.join(action.words)}")


def _text(value: object, depth: int = _DEPTH) -> object:
    if isinstance(value, str):
        try:
            return value.encode("latin-1").decode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ValueError("a character that no byte stands for") from error
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_text(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_text(key): _text(item, depth - 1) for key, item in value.items()}
    return value


def decode(output: bytes) -> Answers:
    """Decode the probe's standard output. Raises ProbeOutputError, naming the line at fault."""
    lines = output.splitlines()
    if len(lines) > LINES:
        raise ProbeOutputError(f"{len(lines)} lines of answers; at most {LINES} are read")
    reports: list[Report] = []
    deeds: list[Deed] = []
    for number, line in enumerate(lines, 1):
        try:
            raw = _text(msgspec.json.decode(line))
            if isinstance(raw, dict) and raw.get("action") == "report":
                reports.append(msgspec.convert(raw, Report))
            else:
                deeds.append(msgspec.convert(raw, Deed))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            shown = line[:200].decode("utf-8", "replace")
            raise ProbeOutputError(
                f"line {number} of the probe's output: {error}: {shown}"
            ) from error
    return Answers(tuple(reports), tuple(deeds))
