"""File systems: what is asked in both ways, and what says nothing about an option."""

from __future__ import annotations

from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces import filesystems
from hostabi.surfaces.filesystems import determined, parameters
from hostabi.surfaces.mounting import Way, mounting

EVERYWHERE, ROOT = (part.probes for part in filesystems.SURFACE.parts)


def test_each_option_is_tried_by_both_ways() -> None:
    for kind, options in filesystems.OPTIONS.items():
        for option in options:
            assert {f"{kind}.{option}{way}" for way in Way} <= EVERYWHERE.keys()
    assert not EVERYWHERE.keys() & ROOT.keys()


def test_options_of_a_type_that_cannot_be_mounted_are_not_determined() -> None:
    facts = [
        Fact("overlay", keys.OK),
        Fact("overlay#userns", "EPERM"),
        Fact("overlay.fsmount#userns", "EPERM"),
        Fact("overlay.xino=on", "EINVAL"),
        Fact("overlay.xino=on#userns", "EPERM"),
        Fact("idmap.overlay#userns", "EPERM"),
        Fact("overlay.lowerdir+", keys.OK),
        Fact("overlay.lowerdir+.fsmount", "EINVAL"),
        Fact("overlay.lowerdir+.fd", "EBADF"),
        Fact("overlay.lowerdir+.fd.fsmount", "EBADF"),
    ]
    told = {fact.key: fact.value for fact in determined(facts)}
    assert told == {
        "overlay": keys.OK,
        "overlay#userns": "EPERM",
        "overlay.fsmount#userns": "EPERM",
        "overlay.xino=on": "EINVAL",
        "overlay.xino=on#userns": None,
        "idmap.overlay#userns": None,
        "overlay.lowerdir+": keys.OK,
        "overlay.lowerdir+.fsmount": "EINVAL",
        "overlay.lowerdir+.fd": "EBADF",
        "overlay.lowerdir+.fd.fsmount": None,
    }


def test_options_become_parameters() -> None:
    assert parameters("fd=3,allow_other,") == [("fd", "3"), ("allow_other", None)]


def test_a_mount_is_made_when_all_of_its_parameters_were_taken() -> None:
    m = mounting(Way.FSMOUNT)
    m.ask("tmpfs.size", "tmpfs", [("size", "1m"), ("inode64", None)])
    probe = m.q.probes()[0]
    names = [probe.built.steps[ref.call].name for ref in (*probe.needs, probe.ref)]
    assert names == ["fsopen", "fsconfig", "fsconfig", "fsconfig", "fsmount"]
    m = mounting(Way.MOUNT)
    m.ask("tmpfs.size", "tmpfs", [("size", "1m"), ("inode64", None)])
    step = m.q.probes()[0].built.steps[-1]
    assert step.name == "mount"
    assert "size=1m,inode64" in step.arguments[4]
