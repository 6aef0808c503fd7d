"""Bundles as data: what the base holds, what a change leaves alone, what the file looks like."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.records import (
    BlockIO,
    Capabilities,
    Config,
    Device,
    Memory,
    Mount,
    Network,
    NetworkPriority,
    WeightDevice,
)


def written(config: Config) -> dict:
    """The file as a reader of JSON sees it."""
    return json.loads(config.encode())


def test_required_properties_are_written() -> None:
    """config.md's REQUIRED properties, also where they have the value 0."""
    file = written(bundle.base())
    assert file["ociVersion"] == bundle.VERSION
    assert file["root"] == {"path": "rootfs"}
    assert file["process"]["user"] == {"uid": 0, "gid": 0}
    assert file["process"]["cwd"] == "/"
    assert [one["type"] for one in file["linux"]["namespaces"]] == list(bundle.NAMESPACES)


def test_what_is_not_set_is_absent() -> None:
    """An absent property is the runtime's choice; null would be an error."""
    file = written(bundle.base())
    assert "resources" not in file["linux"]
    assert "terminal" not in file["process"]
    assert "null" not in bundle.base().encode().decode()


def test_names_of_resources() -> None:
    """Those with capitals inside, most of them for cgroup v1 alone."""
    config = bundle.resources(
        bundle.base(),
        memory=Memory(kernel_tcp=1, swappiness=2, disable_oom_killer=True, use_hierarchy=True),
        block_io=BlockIO(weight=10, weight_device=(WeightDevice(major=1, minor=2, weight=3),)),
        network=Network(class_id=5, priorities=(NetworkPriority(name="lo", priority=6),)),
    )
    assert written(config)["linux"]["resources"] == {
        "memory": {
            "kernelTCP": 1,
            "swappiness": 2,
            "disableOOMKiller": True,
            "useHierarchy": True,
        },
        "blockIO": {"weight": 10, "weightDevice": [{"major": 1, "minor": 2, "weight": 3}]},
        "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 6}]},
    }


def test_names_are_those_of_the_specification() -> None:
    """camelCase, and the two names that end in ID."""
    config = bundle.user_namespace(bundle.memory(bundle.base(), 1 << 20))
    config = bundle.linux(config, devices=(Device(type="c", path="/dev/x", file_mode=0o600),))
    file = written(config)["linux"]
    assert file["uidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert file["resources"] == {"memory": {"limit": 1 << 20}}
    assert file["devices"] == [{"type": "c", "path": "/dev/x", "fileMode": 0o600}]
    assert written(bundle.base())["process"]["noNewPrivileges"] is True


def test_changes_do_not_reach_the_base() -> None:
    """Every helper gives a new config."""
    before = bundle.base()
    bundle.mounted(before, Mount(destination="/x"))
    bundle.pids(bundle.rlimit(before, "RLIMIT_NOFILE", 1, 2), 5)
    bundle.process(before, capabilities=Capabilities())
    assert before == bundle.base()


def test_a_change_replaces_its_own_kind_only() -> None:
    """Limits and namespaces of another kind stay."""
    config = bundle.rlimit(bundle.base(), "RLIMIT_NOFILE", 1, 2)
    config = bundle.rlimit(config, "RLIMIT_CORE", 3, 4)
    config = bundle.rlimit(config, "RLIMIT_NOFILE", 5, 6)
    assert [(one.type, one.soft) for one in config.process.rlimits] == [
        ("RLIMIT_CORE", 3),
        ("RLIMIT_NOFILE", 5),
    ]
    joined = bundle.namespace(config, "network", "/proc/7/ns/net").linux.namespaces
    assert [one.path for one in joined if one.type == "network"] == ["/proc/7/ns/net"]
    assert len(joined) == len(bundle.NAMESPACES)
    both = bundle.pids(bundle.memory(config, 9), 5).linux.resources
    assert both is not None
    assert both.memory is not None
    assert (both.memory.limit, both.pids.limit if both.pids else None) == (9, 5)


def test_an_unknown_property_is_refused() -> None:
    """A typing error in a test is not a bundle without the property."""
    with pytest.raises(TypeError):
        bundle.linux(bundle.base(), maskedPath=("/x",))


def test_the_same_config_has_the_same_bytes() -> None:
    """Containers are shared between tests by these bytes."""
    assert bundle.base().encode() == bundle.base().encode()
    assert bundle.base("other").encode() != bundle.base().encode()
    assert replace(bundle.base(), hostname="base").encode() == bundle.base().encode()


def test_actions_make_one_command_line() -> None:
    """Actions are separated, and a system call's strings are told from its numbers."""
    line = actions.command((actions.REPORT, actions.attempt("chown", "/x", 1, 2)))
    assert line == ("/probe", "report", ",", "try", "92", "=/x", "1", "2")
