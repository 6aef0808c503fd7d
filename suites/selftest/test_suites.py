"""The suites are run by one pytest, which tells their files apart by name."""

from __future__ import annotations

from collections import Counter

from hostabi import resources
from hostabi.runs.plan import SUITES


def test_no_two_files_of_the_suites_have_one_name() -> None:
    names = Counter(
        path.name
        for suite in SUITES
        for path in (resources.suites() / suite).glob("*.py")
        if path.name != "conftest.py"
    )
    assert [name for name, count in names.items() if count > 1] == []
