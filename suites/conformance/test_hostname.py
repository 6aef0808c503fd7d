"""config.md, "Hostname" and "Domainname"."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.pytest_plugin import unsupported

LONGEST = "h" * 64
FILE = actions.read("/proc/sys/kernel/hostname")
DOMAIN = "example.test"


@pytest.mark.proves("hostname")
def test_inside(look) -> None:
    """ "hostname ... as seen by processes running inside the container." """
    answers = look(bundle.base("inside"), actions.REPORT, FILE)
    assert answers.report.hostname == "inside"
    assert answers.deed(FILE).data == "inside\n"


def test_not_outside(look, outside, runtime: Runtime) -> None:
    """The guest's own name is another one before, and the same one after."""
    assert look(bundle.base("inside"), actions.REPORT, FILE).report.hostname == "inside"
    assert outside.hostname != "inside"
    now = runtime.agent.read("/proc/sys/kernel/hostname", 256).decode().strip()
    assert now == outside.hostname


@pytest.mark.proves("hostname")
def test_longest(look) -> None:
    """The kernel takes 64 bytes (sethostname(2)), so a runtime has to."""
    assert look(bundle.base(LONGEST), actions.REPORT).report.hostname == LONGEST


@pytest.mark.proves("domainname")
def test_domainname(look, outside, runtime: Runtime) -> None:
    """ "domainname", since version 1.1.0 of the specification."""
    if runtime.specification() < (1, 1):
        unsupported(f"{runtime.name} does not claim version 1.1 of the specification")
    config = replace(bundle.base("named"), domainname=DOMAIN)
    assert look(config, actions.REPORT).report.domainname == DOMAIN
    assert outside.domainname != DOMAIN
