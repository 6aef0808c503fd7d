"""config-linux.md, "Masked Paths" and "Readonly Paths"."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from hostabi.errors import CallError
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported

Asked = Callable[[], Answers]
FILE, FOLDER, ABSENT = "/etc/passwd", "/var", "/proc/no-such-path"

CONFIG = bundle.linux(
    bundle.base(),
    masked_paths=(*bundle.MASKED, FILE, FOLDER, ABSENT),
    readonly_paths=(*bundle.READONLY, "/etc", ABSENT),
)

QUESTIONS = (
    actions.REPORT,
    *(actions.read(path) for path in (*bundle.MASKED, FILE)),
    *(actions.listed(path) for path in (*bundle.MASKED, FOLDER)),
    *(actions.stat(path) for path in (*bundle.MASKED, *bundle.READONLY)),
    actions.write(f"{FOLDER}/file", "x", create=True),
    actions.read("/etc/group"),
    actions.write("/etc/group", "x"),
    actions.write("/etc/file", "x", create=True),
    actions.write("/proc/sys/kernel/hostname", "x"),
    actions.write("/tmp/file", "x", create=True),
)


@pytest.fixture
def masked(look) -> Asked:
    """The answers of a container with masked and read-only paths."""
    return lambda: look(CONFIG, *QUESTIONS)


def kind_outside(runtime: Runtime, path: str) -> int:
    """The type bits of ``path`` in the guest; unsupported when this kernel has no such path."""
    try:
        found = runtime.probe("stat", path)
    except CallError as error:
        raise AssertionError(f"cannot look at {path}: {error}") from error
    words = found.done.stdout.decode().partition('"data":"')[2].partition('"')[0].split()
    if not words:
        unsupported(f"this kernel has no {path}")
    return stat.S_IFMT(int(words[0], 8))


@pytest.mark.parametrize("path", bundle.MASKED)
def test_masked(path: str, masked: Asked, runtime: Runtime) -> None:
    """ "maskedPaths ... so they cannot be read": a file is empty, and so is a folder."""
    if kind_outside(runtime, path) == stat.S_IFDIR:
        assert masked().deed(actions.listed(path)).value == 0
    else:
        seen = masked().deed(actions.read(path))
        assert (seen.error, seen.value) == ("", 0)


@pytest.mark.proves("linux.maskedPaths:/etc/passwd")
def test_masked_file_of_the_root(masked: Asked) -> None:
    """A file of the container's own root is masked as well."""
    assert (masked().deed(actions.read(FILE)).error, masked().deed(actions.read(FILE)).value) == (
        "",
        0,
    )


@pytest.mark.proves("linux.maskedPaths:/var")
def test_masked_folder_of_the_root(masked: Asked) -> None:
    """A folder is empty, and nothing can be put into it."""
    assert masked().deed(actions.listed(FOLDER)).value == 0
    assert masked().deed(actions.write(f"{FOLDER}/file", "x", create=True)).error == "EROFS"


@pytest.mark.proves("linux.readonlyPaths:{path}")
@pytest.mark.parametrize("path", bundle.READONLY)
def test_readonly_flag(path: str, masked: Asked, runtime: Runtime) -> None:
    """ "readonlyPaths ... will be set as readonly": a mount of its own, read-only."""
    kind_outside(runtime, path)
    assert "ro" in masked().report.mount(path).flags


@pytest.mark.proves("linux.readonlyPaths:/proc/sys", "linux.readonlyPaths:/etc")
def test_readonly_is_enforced(masked: Asked, runtime: Runtime) -> None:
    """Below /proc/sys nothing can be written, nor in a folder of the root."""
    # Whoever is not root is refused before that is looked at.
    refusal = "EACCES" if runtime.user else "EROFS"
    assert masked().deed(actions.write("/proc/sys/kernel/hostname", "x")).error == refusal
    assert masked().deed(actions.write("/etc/group", "x")).error == "EROFS"
    assert masked().deed(actions.write("/etc/file", "x", create=True)).error == "EROFS"


def test_readonly_can_be_read(masked: Asked) -> None:
    """Read-only is not masked, and its neighbours can still be written."""
    assert masked().deed(actions.read("/etc/group")).data.startswith("root:")
    assert masked().deed(actions.write("/tmp/file", "x", create=True)).error == ""
