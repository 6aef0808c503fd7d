"""Rules that all calls share, held against the surface errnos; shared_rules.toml has exceptions."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hostabi.diff import keys
from hostabi.pytest_plugin import unsupported
from hostabi.surfaces import errnos
from hostabi.surfaces.source import Source

EXCEPTIONS = tomllib.loads(Path(__file__).with_name("shared_rules.toml").read_text())["exception"]
OTHER = {key: frozenset(each["says"]) for each in EXCEPTIONS for key in each["keys"]}
ABSENT = "ENOSYS"
_FACTS: dict[str, dict[str, str]] = {}


@pytest.fixture
def said(agent, kernel_spec) -> dict[str, str]:
    """What calls say to wrong arguments, of calls that are there; captured once a kernel."""
    if agent.hello.euid != 0:
        unsupported("what is asked as root cannot be asked by others")
    if kernel_spec not in _FACTS:
        facts = errnos.SURFACE.capture(Source(agent, None))
        _FACTS[kernel_spec] = {
            fact.key: str(fact.value) for fact in facts if fact.value not in (None, ABSENT)
        }
    return _FACTS[kernel_spec]


def otherwise(said: dict[str, str], part: str, rule: str) -> dict[str, str]:
    """The answers about ``part`` of a key that are neither by the rule nor an exception."""
    return {
        key: value
        for key, value in said.items()
        if part in key and value != rule and value not in OTHER.get(key, ())
    }


def asked(said: dict[str, str], part: str) -> int:
    return sum(part in key for key in said)


def test_a_descriptor_that_is_not_open_is_ebadf(said):
    """POSIX.1-2017, 2.3 Error Numbers: a bad file descriptor."""
    assert asked(said, "#fd:") > 150
    assert otherwise(said, "#fd:", "EBADF") == {}


def test_an_address_where_nothing_is_is_efault(said):
    """errno(3): bad address. No signal, no success, whatever else is wrong comes later."""
    assert asked(said, "#pointer:") > 300
    assert otherwise(said, "#pointer:", "EFAULT") == {}


def test_a_bit_that_nobody_knows_is_einval(said):
    """Documentation/process/adding-syscalls.rst: unknown flags have to be refused with EINVAL."""
    assert asked(said, "#flags:") > 60
    assert otherwise(said, "#flags:", "EINVAL") == {}


def test_too_small_a_struct_is_einval(said):
    """openat2(2): the size is smaller than that of any version."""
    found = {key: value for key, value in said.items() if key.endswith(":small")}
    assert len(found) >= 2
    assert otherwise(found, "#size:", "EINVAL") == {}


def test_a_larger_struct_that_ends_in_zeros_works(said):
    """Documentation/process/adding-syscalls.rst: newer programs run on older kernels."""
    found = {key: value for key, value in said.items() if key.endswith(":zeros")}
    assert len(found) >= 8
    assert otherwise(found, "#size:", keys.OK) == {}


def test_a_larger_struct_that_does_not_is_e2big(said):
    """openat2(2), Extensibility: what a kernel does not know it refuses, unless it is zero."""
    found = {key: value for key, value in said.items() if key.endswith(":tail")}
    assert len(found) >= 8
    assert otherwise(found, "#size:", "E2BIG") == {}


def test_what_takes_a_capability_is_eperm_without(said):
    """capabilities(7), errno(3): operation not permitted, for a user without any."""
    found = {key: value for key, value in said.items() if key.endswith(f"#privilege#{keys.USER}")}
    assert len(found) > 15
    assert otherwise(found, "#privilege", "EPERM") == {}


def test_exceptions_are_about_what_is_asked():
    """A key that no probe has is a spelling mistake, or an exception that is no longer needed."""
    known = {key for part in errnos.SURFACE.parts for key in part.probes}
    assert set(OTHER) - known == set()
    assert all(each["why"] for each in EXCEPTIONS)
