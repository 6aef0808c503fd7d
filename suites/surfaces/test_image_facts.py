"""What is read from an image and its packages holds for the kernel that runs."""

from __future__ import annotations

import pytest

from hostabi.kernels.static import Static
from hostabi.model import Certainty
from hostabi.surfaces import modules, vdso
from hostabi.surfaces.source import Source


def test_the_vdso_in_a_process_is_that_of_the_image(source: Source, static: Static) -> None:
    facts = vdso.SURFACE.capture(source)
    assert not [fact for fact in facts if fact.certainty is Certainty.CONTRADICTED]
    if static.build.image is not None:
        assert {fact.how for fact in facts if ":" not in fact.key} == {"image+memory"}
    # vdso(7), x86-64
    found = {fact.key: fact.value for fact in facts}
    for name in ("clock_gettime", "getcpu", "gettimeofday", "time"):
        assert found[f"__vdso_{name}"] == "LINUX_2.6"


def test_modules_that_are_loaded_are_known(source: Source) -> None:
    if not modules.SURFACE.possible(source):
        pytest.skip("no modules of this build are at hand")
    facts = {fact.key: fact.value for fact in modules.SURFACE.capture(source)}
    loaded = [line.split()[0] for line in source.live.read("/proc/modules").decode().splitlines()]
    assert {name: facts.get(name) for name in loaded} == dict.fromkeys(loaded, "module")
