"""What is read from an image and its packages holds for the kernel that runs."""

from __future__ import annotations

from hostabi.diff import keys
from hostabi.diff.compare import by_key
from hostabi.kernels.static import Static
from hostabi.model import Certainty
from hostabi.pytest_plugin import unsupported
from hostabi.surfaces import modules, types, vdso
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
        unsupported("no modules of this build are at hand")
    facts = {fact.key: fact.value for fact in modules.SURFACE.capture(source)}
    loaded = [line.split()[0] for line in source.live.read("/proc/modules").decode().splitlines()]
    assert {name: facts.get(name) for name in loaded} == dict.fromkeys(loaded, "module")


def test_types_that_programs_are_compiled_with(source: Source) -> None:
    facts = by_key(types.SURFACE.capture(source))
    # x86-64 psABI and the manual pages of these calls
    assert facts["struct open_how"].value == ["0 u:8 flags", "8 u:8 mode", "16 u:8 resolve"]
    assert facts["struct open_how#size"].value == 24
    assert facts["struct iovec"].value == ["0 ptr:8 iov_base", "8 u:8 iov_len"]
    if keys.INCOMPLETE not in facts:
        assert facts["struct open_how"].how == "headers+btf"
        assert facts["MFD_CLOEXEC"].value == 1
        assert facts["struct epoll_event"].value == ["0 u:4 events", "4 u:8 data"]
        assert len(facts) > 15_000


def test_layouts_of_headers_and_image_agree(source: Source) -> None:
    """But for types that the kernel has for itself under the same name, and says so."""
    facts = types.SURFACE.capture(source)
    told = [fact for fact in facts if fact.certainty is Certainty.CONTRADICTED]
    assert len(told) <= 8, [f"{fact.key}: {fact.detail}" for fact in told]
    assert len([fact for fact in facts if fact.how == "headers+btf"]) > 1000 or any(
        fact.key == keys.INCOMPLETE for fact in facts
    )
