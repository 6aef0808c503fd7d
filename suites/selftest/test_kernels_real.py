"""Real kernels, read without booting. Needs a mirror, or a cache that holds them."""

from __future__ import annotations

import time

import msgspec
import pytest

from hostabi.kernels import image, uapi
from hostabi.kernels.build import line_of
from hostabi.kernels.catalogue import default_lines
from hostabi.kernels.listing import list_kernels
from hostabi.kernels.resolve import resolve
from hostabi.kernels.static import Static
from hostabi.model import Certainty
from hostabi.packages.cache import Cache
from hostabi.packages.context import Packages
from hostabi.surfaces import types

pytestmark = pytest.mark.kernels

LIMIT = 1.5
"""Seconds of processor time for BTF, syscall names and configuration of one build, with
nothing kept. Time on the wall would measure what else the machine does."""


@pytest.fixture(scope="module")
def packages():
    return Packages.open()


@pytest.mark.parametrize("spec", default_lines())
def test_line_is_read_without_booting(spec, packages, tmp_path):
    build = resolve(spec, packages)
    assert build.line == line_of(build.release) == spec
    assert image.release_of(build.image) == build.release
    static = Static(build, Cache(tmp_path))
    began = time.process_time()
    names, config = static.syscall_names, static.config
    assert time.process_time() - began < LIMIT
    assert {"openat", "openat2", "newuname", "clone3", "getpid", "fork"} <= names
    assert 400 < len(names) < 600
    assert config["CONFIG_DEBUG_INFO_BTF"] == "y"
    assert len(static.btf.functions()) > 20_000
    task = static.btf.struct("task_struct")
    assert "comm" in {member.name for member in task.members}
    assert static.modules["overlay"].path.startswith("kernel/fs/overlayfs/overlay.ko")


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["6.1", "7.3"])
def test_generic_flavour_is_read_too(spec, packages):
    build = resolve(spec, packages, flavour="amd64")
    assert build.name.endswith("-amd64")
    static = Static(build, packages.cache)
    assert {"openat", "clone3"} <= static.syscall_names
    assert len(static.modules) > 3000


@pytest.mark.parametrize("spec", ["5.10", "6.1", "6.12", "7.3"])
def test_a_kernel_s_own_headers_declare_what_installed_ones_do(spec, packages):
    build = resolve(spec, packages)
    declared = [
        uapi.uapi_of(build, packages, uapi.find_headers(build, packages, [way]))
        for way in (uapi.installed, uapi.own)
    ]
    assert declared[0].package != declared[1].package
    one, other = (msgspec.structs.replace(each, package="") for each in declared)
    assert one == other
    assert one.constants["__NR_openat2"] == 437


@pytest.mark.slow
def test_headers_of_a_build_whose_packages_are_no_longer_listed(packages):
    build = resolve("6.18", packages)
    origin = uapi.find_headers(build, packages, [uapi.source])
    declared = uapi.uapi_of(build, packages, origin)
    assert ".orig.tar." in declared.package
    assert line_of(build.release) == ".".join(
        str(declared.constants[f"LINUX_VERSION_{part}"]) for part in ("MAJOR", "PATCHLEVEL")
    )
    assert len(declared.constants) > 30_000
    btf = Static(build, packages.cache).btf
    facts = types.declared(declared, btf)
    # the kernel's own struct pt_regs has more in it than what programs see
    contradicted = {fact.key for fact in facts if fact.certainty is Certainty.CONTRADICTED}
    assert {key.partition("#")[0] for key in contradicted} <= {"struct pt_regs"}
    assert sum(fact.how == "headers+btf" for fact in facts) > 1000


def test_every_module_that_is_needed_exists(packages):
    modules = Static(resolve("6.12", packages), packages.cache).modules
    missing = {
        name for module in modules.values() for name in module.depends if name not in modules
    }
    assert missing == set()


def test_listing_of_what_is_served(packages):
    listed = {line.name: line for line in list_kernels(packages)}
    for name in default_lines(packages):
        assert listed[name].newest is not None
        assert listed[name].default
