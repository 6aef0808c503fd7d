"""A conformance test that fails leaves behind what it ran, and says how to run it again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hostabi import resources
from hostabi.errors import HostabiError
from hostabi.oci.log import Kept
from hostabi.pytest_journal import REPLAY, cell_name, variant

if TYPE_CHECKING:
    from hostabi.oci.replay import Replay

KEPT = pytest.StashKey[Kept]()
"""What was run for several tests of the session; see :meth:`hostabi.oci.log.Log.once`."""


def tell(item: pytest.Item, report: pytest.TestReport) -> None:
    """Write what the test ran in a guest, if it did, and add to the report how to see it again.

    With a journal it is kept beside that, else in the cache.
    """
    from hostabi.oci.replay import FOLDER, prune  # noqa: PLC0415

    replay = _replay(item)
    if replay is None:
        return
    journal: Path | None = item.config.getoption("--journal")
    folder = (journal.resolve().parent if journal else resources.cache()) / FOLDER
    try:
        path = replay.save(folder)
    except HostabiError as error:
        report.sections.append(("what was run", f"{replay}\n{error}"))
        return
    if journal:
        item.stash[REPLAY] = path
    else:
        prune(folder)
    again = shlex.join(["hostabi", "shell", replay.build, "--replay", str(path)])
    report.sections.append(("what was run", f"{replay}\n\nto run it again: {again}"))


def _replay(item: pytest.Item) -> Replay | None:
    from hostabi.oci.driver import Runtime  # noqa: PLC0415
    from hostabi.oci.engine import Engine  # noqa: PLC0415
    from hostabi.oci.replay import Replay  # noqa: PLC0415

    values = getattr(item, "funcargs", {})
    kernel = values.get("kernel")
    pair = values.get("runtime") or values.get("engine")
    if kernel is None or not isinstance(pair, Runtime | Engine) or not pair.agent.events:
        return None
    if isinstance(pair, Engine):
        runtime, engine = "", pair.name
    else:
        runtime, engine = str(pair.entry.local or pair.name), ""
    return Replay(
        build=kernel.name,
        runtime=runtime,
        engine=engine,
        test=cell_name(item),
        variant=variant(item),
        events=tuple(pair.agent.events),
    )
