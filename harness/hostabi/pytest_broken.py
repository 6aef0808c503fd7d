"""``--broken``: the sanity of the conformance tests themselves.

A test that says ``@pytest.mark.proves("linux.resources.pids.limit")`` must fail when
the runtime never sees that property. With ``--broken all``, or the name of a property
or the beginning of one, these tests run once for each, against a runtime that drops it
(:mod:`hostabi.oci.broken`), and pass if they fail. In a name ``{x}`` stands for the test's
parameter x.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostabi.errors import CallError, InputError
from hostabi.pytest_journal import parameters

FIXTURE = "broken_number"
"""The parameter that says which of its properties a test goes without."""
_ALL = "all"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("hostabi").addoption(
        "--broken",
        metavar="PROPERTY",
        help="drop this property of config.json (or all, one after the other) before the runtime "
        "sees it: the tests that prove it must then fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker."""
    config.addinivalue_line(
        "markers",
        "proves(*properties, unless=VALUES): fails when one of these is dropped from config.json, "
        "but for these values of a parameter",
    )
    if config.getoption("--broken") and config.getoption("--journal"):
        raise pytest.UsageError("--broken: its outcomes are not those of a runtime; no --journal")


def _templates(markers: Iterator[pytest.Mark]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for mark in markers for name in mark.args))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each property that it proves."""
    if metafunc.config.getoption("--broken") and FIXTURE in metafunc.fixturenames:
        names = _templates(metafunc.definition.iter_markers("proves"))
        if names:
            metafunc.parametrize(FIXTURE, range(len(names)), ids=names)


def dropped(item: pytest.Item) -> str:
    """The property that this test goes without; empty for an ordinary run."""
    values = parameters(item)
    if FIXTURE not in values:
        return ""
    names = _templates(item.iter_markers("proves"))
    exempt = {
        value for mark in item.iter_markers("proves") for value in mark.kwargs.get("unless", ())
    }
    if exempt.intersection(values.values()):
        return ""
    return names[int(str(values[FIXTURE]))].format(**values)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what proves nothing that was asked for."""
    asked = config.getoption("--broken")
    if not asked:
        return
    wanted = [
        item for item in items if (name := dropped(item)) and (asked == _ALL or _is(name, asked))
    ]
    if not wanted and items:
        raise pytest.UsageError(f"--broken {asked}: no test proves such a property")
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


def _is(name: str, asked: str) -> bool:
    return name == asked or name.startswith((f"{asked}.", f"{asked}:"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Turn the outcome round."""
    name = dropped(pyfuncitem)
    try:
        result = yield
    except (AssertionError, CallError):  # a file of the guest that is not there is one of its calls
        if not name:
            raise
        return None
    if name:
        runtime = pyfuncitem.funcargs.get("runtime")
        if not getattr(runtime, "drops", None):
            raise InputError(f"{pyfuncitem.name}: its runtime drops nothing")
        raise AssertionError(f"the test passes, although the runtime never saw {name}")
    return result
