"""The rootless mode: who calls, what bundles become, and how its cells are told apart."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostabi import resources
from hostabi.agent.build import binary
from hostabi.agent.records import Completed
from hostabi.errors import MachineError
from hostabi.oci import actions, bundle, disk, driver, rootless, runtimes
from hostabi.oci.deviations import Deviation
from hostabi.oci.driver import Runtime
from hostabi.packages.cache import Cache
from hostabi.results import conformance, phrases

SINGLE, MANY = rootless.User(subordinate=False), rootless.User(subordinate=True)


class Guest:
    """A guest in which every command ends the same way."""

    def __init__(self, status: int = 0, said: bytes = b"") -> None:
        self.end = Completed(status, 0, said, b"", timed_out=False, truncated=False)
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str] | None] = []

    def command(
        self, argv: list[str], *, env: dict[str, str] | None = None, **_options: object
    ) -> Completed:
        """Note the command and its environment."""
        self.commands.append(argv)
        self.environments.append(env)
        return self.end

    def read(self, path: str, limit: int = 0) -> bytes:
        """There are no files."""
        del path, limit
        return b""

    def write(self, path: str, data: bytes, **_options: object) -> None:
        """Files are of no interest here."""
        del path, data


def test_name() -> None:
    """The mode is a part of the name, so that every table and every key tells it."""
    assert runtimes.split("crun (rootless)") == ("crun", True)
    assert runtimes.split("crun") == ("crun", False)
    assert driver.runtime("crun (rootless)", Guest()).name == "crun (rootless)"
    assert driver.runtime("crun", Guest()).name == "crun"
    assert runtimes.find("crun (rootless)") == runtimes.find("crun")


def test_neighbours_are_of_one_mode() -> None:
    """A table that compares runtimes compares each with the older one in the same mode."""
    names = ("crun-bookworm", "crun", "crun-bookworm (rootless)", "crun (rootless)", "mine")
    assert conformance.pairs(names) == [(names[0], names[1]), (names[2], names[3])]
    assert phrases.several(names[2:4], names) == "every crun (rootless)"


def test_a_bundle_gets_a_user_namespace() -> None:
    """The user's own id, and the others where they can be mapped; one that is there stays."""
    single, many = (user.config(bundle.base()).linux for user in (SINGLE, MANY))
    assert [(each.container, each.host, each.size) for each in single.uid_mappings] == [
        (0, rootless.UID, 1)
    ]
    assert [each.host for each in many.gid_mappings] == [rootless.UID, rootless.FIRST]
    assert [each.type for each in many.namespaces].count("user") == 1
    own = bundle.user_namespace(bundle.base())
    assert MANY.config(own).linux.uid_mappings == own.linux.uid_mappings


def test_groups_are_below_the_users() -> None:
    """Absolute paths are, once; relative ones are the runtime's to place."""
    config = bundle.linux(bundle.base(), cgroups_path="/hostabi/one")
    moved = MANY.config(config)
    assert moved.linux.cgroups_path == f"{rootless.SERVICE}/hostabi/one"
    assert MANY.config(moved).linux.cgroups_path == moved.linux.cgroups_path
    relative = bundle.linux(bundle.base(), cgroups_path="one")
    assert MANY.config(relative).linux.cgroups_path == "one"


def test_what_cannot_be_mounted_is_bound() -> None:
    """A sysfs without a network namespace, a proc without a pid namespace, and nothing else; a
    mqueue without an ipc namespace is left out."""
    before = {mount.destination: mount for mount in bundle.base().mounts}
    shared = MANY.config(bundle.without_namespace(bundle.base(), "network"))
    after = {mount.destination: mount for mount in shared.mounts}
    assert (after["/sys"].source, after["/sys"].options[0]) == ("/sys", "rbind")
    assert [name for name, mount in before.items() if after[name] != mount] == ["/sys"]
    assert MANY.config(bundle.base()).mounts == bundle.base().mounts
    without = MANY.config(bundle.without_namespace(bundle.base(), "ipc"))
    assert before.keys() - {mount.destination for mount in without.mounts} == {"/dev/mqueue"}


@pytest.mark.parametrize(("name", "option"), [("runc", "--rootless=true"), ("crun", "")])
def test_the_user_calls(name: str, option: str) -> None:
    """The whole command is the user's, also what takes its output; root's way is as it was."""
    guest = Guest()
    bound = Runtime(runtimes.find(name), guest, user=MANY)
    bound.invoke("state", "x", detached="/work/output")
    [argv] = guest.commands
    assert argv[:4] == ["/work/oci/probe", "become", str(rootless.UID), rootless.SESSION]
    assert argv.index("become") < argv.index("detach") < argv.index(bound.program)
    assert bound.program == f"/{bound.entry.binary}"
    assert f"--root={rootless.HOME}/{name}" in argv
    assert not option or option in argv
    assert guest.environments == [rootless.ENVIRONMENT]
    assert bound.group("/x") == f"/sys/fs/cgroup{rootless.SERVICE}/x"
    plain = Runtime(runtimes.find(name), guest)
    plain.invoke("state", "x")
    assert "become" not in guest.commands[-1]
    assert guest.environments[-1] is None
    assert plain.suited(bundle.base()) == bundle.base()
    assert plain.group("/x") == "/sys/fs/cgroup/x"


def test_a_bundle_belongs_to_the_user() -> None:
    """What the runtime is to change must be its own."""
    guest = Guest()
    made = Runtime(runtimes.find("crun"), guest, user=MANY).prepare(bundle.base(), "one")
    assert MANY.owns("/work/oci/one") in guest.commands
    assert made.linux.cgroups_path == f"{rootless.SERVICE}/hostabi/one"


def test_a_guest_is_made_ready() -> None:
    """Whether other ids can be mapped is what the guest says; what fails is the harness's."""
    assert not driver.runtime("crun (rootless)", Guest()).user.subordinate
    bound = driver.runtime("crun (rootless)", Guest(said=b"subordinate\n"))
    assert bound.user.subordinate
    with pytest.raises(MachineError, match="made ready for a user: 3"):
        driver.runtime("crun (rootless)", Guest(status=3))


def test_the_tree_has_what_newuidmap_needs(tmp_path: Path) -> None:
    """Its set-uid bit, and files that name the user's ids; those of a package stay."""
    for name in ("usr/bin/crun", "usr/bin/newuidmap", "etc/passwd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    entries = {entry.name: entry for entry in disk.tree_entries(runtimes.find("crun"), tmp_path)}
    assert entries["crun/usr/bin/newuidmap"].mode & stat.S_ISUID
    assert not entries["crun/usr/bin/crun"].mode & stat.S_ISUID
    assert b"hostabi:100000:65536" in bytes(entries["crun/etc/subuid"].source)
    assert entries["crun/etc/passwd"].source == tmp_path / "etc/passwd"


def test_deviations_are_of_both_modes_or_of_one() -> None:
    """What a runtime does not keep it keeps for nobody; the mode's own are of the mode."""
    both = Deviation(test="t", reason="r", reference="u", runtimes=("crun",))
    one = replace(both, runtimes=("crun (rootless)",))
    for name, found in (("crun", [True, False]), ("crun (rootless)", [True, True])):
        covers = [each.covers("t", runtime=name, build="") for each in (both, one)]
        assert covers == found


def test_the_probe_becomes_nothing_it_cannot(tmp_path: Path) -> None:
    """Without the group the program is not run, and the status is no program's success."""
    probe = binary("probe", Cache(resources.cache()))
    words = [probe, "become", "1000", str(tmp_path / "absent"), probe, *actions.REPORT.words]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 126
    assert not done.stdout
    assert b"cannot become" in done.stderr


SUITE = """
import pytest
from hostabi import pytest_plugin

@pytest.fixture
def runtime(runtime_name, request):
    pytest_plugin.refuse_rootless(runtime_name, request.node)
    return runtime_name

def test_plain(runtime, kernel_spec):
    assert runtime in {"crun", "crun (rootless)"}

@pytest.mark.privileged("only root may do that")
def test_of_root(runtime, kernel_spec):
    pass

@pytest.mark.parametrize("size", ["small"])
@pytest.mark.variant(cgroup="v1")
def test_old(runtime, kernel_spec, size):
    pass
"""


@pytest.mark.parametrize(
    ("mode", "passed", "skipped"), [("without", 3, 0), ("only", 1, 2), ("with", 4, 2)]
)
def test_option(mode: str, passed: int, skipped: int, pytester: pytest.Pytester) -> None:
    """Every test runs in each mode; what is root's alone is unsupported in the other, with its
    reason."""
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("--kernel=6.1", "--runtime=crun", f"--rootless={mode}", "-rs")
    result.assert_outcomes(passed=passed, skipped=skipped)
    if skipped:
        result.stdout.fnmatch_lines(["*unsupported: rootless: only root may do that*"])
