"""Security modules: what the files of securityfs are read as."""

from __future__ import annotations

from hostabi.surfaces import lsm


def told(path: str, text: str) -> dict[str, object]:
    """Facts of one file."""
    return {fact.key: fact.value for fact in lsm.told(path, text.encode())}


def test_active_modules_one_by_one() -> None:
    assert told("/lsm", "capability,yama,bpf") == {
        "active.capability": "ok",
        "active.yama": "ok",
        "active.bpf": "ok",
    }


def test_a_single_word_is_a_value_unless_the_file_is_a_mask() -> None:
    path = "/apparmor/features/domain/stack"
    assert told(path, "yes\n") == {f"{path}#value": "yes"}
    path = "/apparmor/features/namespaces/mask"
    assert told(path, "userns_create\n") == {f"{path}#key.userns_create": "there"}


def test_a_version_is_a_measure_where_it_is_a_number() -> None:
    path = "/apparmor/features/policy/permstable32_version"
    assert told(path, "0x000003\n") == {f"{path}#version": 3}
    path = "/apparmor/features/domain/version"
    assert told(path, "1.2\n") == {f"{path}#value": "1.2"}


def test_words_of_a_list_are_facts_of_their_own() -> None:
    path = "/apparmor/features/query/label/perms"
    assert told(path, "allow deny\n") == {f"{path}#key.allow": "there", f"{path}#key.deny": "there"}


def test_the_chosen_lockdown() -> None:
    assert told("/lockdown", "none [integrity] confidentiality\n") == {
        "/lockdown#value": "integrity"
    }


def test_what_loaded_policy_fills_is_not_read() -> None:
    assert told("/apparmor/profiles", "docker-default (enforce)\n") == {}
