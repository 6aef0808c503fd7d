"""config.md, "Process": arguments, folder, environment and user."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.records import Mount, User

USERS = bundle.process(
    bundle.mounted(
        bundle.base(),
        *(
            Mount(
                destination=f"/mnt/{gid}",
                type="tmpfs",
                source="tmpfs",
                options=(f"gid={gid}", "mode=0070"),
            )
            for gid in (7, 8, 1001)
        ),
    ),
    user=User(uid=1000, gid=1001, additional_gids=(7, 9), umask=0o027),
)
CREATED = actions.write("/tmp/new", "x", create=True)
ASKED = (
    actions.REPORT,
    CREATED,
    actions.stat("/tmp/new"),
    actions.write("/etc/passwd", "x"),
    *(actions.write(f"/mnt/{gid}/file", "x", create=True) for gid in (7, 8, 1001)),
)


@pytest.mark.proves("process.user.uid")
def test_user_owns_what_it_creates(look) -> None:
    """User, "uid" and "gid": of new files too; and root's files are not the user's."""
    answers = look(USERS, *ASKED)
    _mode, uid, gid, *_ = answers.deed(actions.stat("/tmp/new")).data.split()
    assert (uid, gid) == ("1000", "1001")
    assert answers.deed(actions.write("/etc/passwd", "x")).error == "EACCES"


@pytest.mark.parametrize(("gid", "error"), [(1001, ""), (7, ""), (8, "EACCES")])
@pytest.mark.proves("process.user.additionalGids", unless=(1001, 8))
def test_groups_open_folders(gid: int, error: str, look) -> None:
    """User, "gid" and "additionalGids": folders for one group only open to its members."""
    asked = actions.write(f"/mnt/{gid}/file", "x", create=True)
    assert look(USERS, *ASKED).deed(asked).error == error


@pytest.mark.proves("process.user.umask")
def test_umask(look) -> None:
    """User, "umask": the process's, and new files lose those bits."""
    answers = look(USERS, *ASKED)
    assert answers.report.umask == 0o027
    assert answers.deed(actions.stat("/tmp/new")).data.split()[0] == "100640"


def test_arguments_are_kept_as_they_are(look) -> None:
    """ "args": spaces, quotes, empty and non-ASCII words arrive unchanged."""
    words = ("/probe", "report", ",", "stat", "a b", ",", "stat", "", ",", "stat", "\u00fc'\"$x\\")
    assert look(bundle.args(bundle.base(), *words)).report.arguments == words


def test_program_is_found_by_path(look) -> None:
    """ "args ... same semantics as execvp's argv": PATH of the process's own environment."""
    config = bundle.process(bundle.base(), env=("PATH=/nowhere:/",), args=("probe", "report"))
    assert look(config).report.arguments == ("probe", "report")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("/no/such/program",), id="absent"),
        pytest.param(("probe", "report"), id="not-in-path"),
        pytest.param(("/etc/passwd",), id="not-executable"),
        pytest.param(("/var",), id="folder"),
        pytest.param((), id="none"),
    ],
)
def test_program_that_cannot_run(words: tuple[str, ...], refused) -> None:
    """runtime.md, "Lifecycle": what cannot be run as specified is an error."""
    refused(bundle.process(bundle.base(), env=("PATH=/bin",), args=words))


@pytest.mark.proves("process.cwd")
def test_folder(look) -> None:
    """ "cwd": the folder relative paths start from."""
    asked = actions.write("relative", "x", create=True)
    answers = look(
        bundle.process(bundle.base(), cwd="/var/tmp"),
        actions.REPORT,
        asked,
        actions.stat("/var/tmp/relative"),
    )
    assert answers.report.cwd == "/var/tmp"
    assert answers.deed(asked).error == ""
    assert answers.deed(actions.stat("/var/tmp/relative")).error == ""


@pytest.mark.parametrize("path", ["var/tmp", "/etc/passwd", "/etc/passwd/below"])
def test_folder_that_is_none(path: str, refused) -> None:
    """ "cwd ... MUST be an absolute path", and a folder."""
    refused(bundle.process(bundle.base(), cwd=path), actions.REPORT)


@pytest.mark.parametrize("path", ["/absent/folder", "/mnt/closed"])
def test_folder_is_entered_or_an_error(path: str, visit) -> None:
    """A folder that is absent or closed to the user may be an error, or made and entered; the
    process is never elsewhere."""
    closed = Mount(destination="/mnt/closed", type="tmpfs", source="tmpfs", options=("mode=0700",))
    config = bundle.process(
        bundle.mounted(bundle.base(), closed), cwd=path, user=User(uid=1000, gid=1000)
    )
    seen = visit(config, actions.REPORT)
    if seen.ok:
        assert seen.answers.report.cwd == path
    else:
        assert seen.error
        assert b'"action"' not in seen.step.done.stdout


@pytest.mark.proves("process.env")
def test_environment(look) -> None:
    """ "env": each variable as given, also an empty one; what else there is, is known."""
    given = ("FIRST=1", "EMPTY=", "UTF8=\u00fc", "EQUALS=a=b", "PATH=/bin")
    seen = look(bundle.process(bundle.base(), env=given), actions.REPORT).report.environment
    assert set(given) <= set(seen)
    # Both runtimes look the user's home up in the container.
    assert {each for each in seen if not each.startswith("HOME=")} == set(given)


@pytest.mark.privileged("lowering oom_score_adj needs CAP_SYS_RESOURCE of the host")
@pytest.mark.proves("process.oomScoreAdj")
def test_oom_score(look, outside) -> None:
    """ "If oomScoreAdj is set, the runtime MUST set oom_score_adj to the given value", also a
    negative one; "if not set, the runtime MUST NOT change the value"."""
    lowered = bundle.process(bundle.base(), oom_score_adj=-321)
    assert look(lowered, actions.REPORT).report.oom_score_adj.strip() == "-321"
    assert look(bundle.base(), actions.REPORT).report.oom_score_adj == outside.oom_score_adj


PLAIN = Mount(
    destination="/mnt/plain", type="tmpfs", source="tmpfs", options=("mode=1777", "exec", "suid")
)
SET_UID = (
    actions.copy("/probe", "/mnt/plain/probe", 0o4755),
    actions.execute("/mnt/plain/probe", "identity", uid=1000),
)


@pytest.mark.parametrize(("privileges", "uid"), [(True, 1000), (False, 0)])
@pytest.mark.proves("process.noNewPrivileges", unless=(False,))
def test_no_new_privileges_is_enforced(privileges: bool, uid: int, look) -> None:
    """ "noNewPrivileges ... prevents the process from gaining additional privileges": a set-uid
    program runs as its caller, and without the property as its owner."""
    config = bundle.process(bundle.mounted(bundle.base(), PLAIN), no_new_privileges=privileges)
    answers = look(config, *SET_UID)
    assert [deed.value for deed in answers.deeds if deed.action == "identity"] == [uid]


def test_descriptors(look) -> None:
    """Nothing of the runtime is left open: only the three standard streams."""
    seen = look(bundle.base(), actions.REPORT).report.descriptors
    assert [each.number for each in seen] == [0, 1, 2]
